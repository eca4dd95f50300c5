"""Datagrams that their socket does not take at once: UNIX sockets, since UDP never blocks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from tests.reactor.transports.datagram_ends import UNIX, Recorder, ended, endpoint

pytestmark = UNIX


class Reader:
    """A bound UNIX socket that nobody reads until it is asked to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.setblocking(False)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(str(tmp_path / "slow"))
    with reader.sock:
        yield reader


def fill(one: Recorder, *address: Any) -> int:
    """Send until something is queued; return how many that were."""
    count = 0
    while not one.transport.get_write_buffer_size():
        one.transport.sendto(b"%d" % count, *address)
        count += 1
    return count


@pytest.mark.parametrize("connected", [True, False])
def test_queue_keeps_the_order_and_counts_bytes(
    real: EventLoop, slow: Reader, connected: bool
) -> None:
    async def main() -> None:
        where = {"remote_addr": slow.path} if connected else {}
        one = await endpoint(real, family=socket.AF_UNIX, **where)
        address = () if connected else (slow.path,)
        count = fill(one, *address)
        size = one.transport.get_write_buffer_size()
        data = bytearray(b"mine")
        one.transport.sendto(data, *address)
        data[:] = b"?"
        one.transport.sendto(b"", *address)
        assert one.transport.get_write_buffer_size() == size + (4 + 8) + 8
        got = [await real.sock_recv(slow.sock, 100) for _ in range(count + 2)]
        assert got == [b"%d" % number for number in range(count)] + [b"mine", b""]
        assert one.transport.get_write_buffer_size() == 0
        one.transport.sendto(b"last", *address)
        assert await real.sock_recv(slow.sock, 100) == b"last"
        await ended(one)

    real.run_until_complete(main())


def test_queued_for_nobody_is_an_error_for_each(real: EventLoop, slow: Reader) -> None:
    async def main() -> None:
        one = await endpoint(real, family=socket.AF_UNIX, remote_addr=slow.path)
        fill(one)
        for _ in range(2):
            one.transport.sendto(b"more")
        one.transport.close()
        slow.sock.close()
        calls = await one.after(4)
        assert [call[0] for call in calls] == ["error", "error", "error", "lost"]
        assert calls[0][1] is ConnectionRefusedError  # and then it is not connected

    real.run_until_complete(main())


def test_queued_for_what_is_no_address_is_reported(
    real: EventLoop, slow: Reader, reports: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        one = await endpoint(real, family=socket.AF_UNIX)
        count = fill(one, slow.path)
        one.transport.sendto(b"x", 5)
        one.transport.sendto(b"last", slow.path)
        got = [await real.sock_recv(slow.sock, 100) for _ in range(count + 1)]
        assert got[-1] == b"last"
        assert [type(report["exception"]) for report in reports] == [TypeError]
        await ended(one)

    real.run_until_complete(main())


def test_error_that_is_answered_with_a_datagram_leaves_the_others_their_turn(
    real: EventLoop, slow: Reader
) -> None:
    class Stubborn(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.sendto(b"again", slow.path)

    async def main() -> None:
        one = await endpoint(real, Stubborn, family=socket.AF_UNIX)
        fill(one, slow.path)
        one.transport.sendto(b"more", slow.path)
        slow.sock.close()
        await one.after(10)  # and not for ever within one pass
        one.transport.abort()
        await asyncio.sleep(0)
        assert one.calls[-1] == ("lost", None)

    real.run_until_complete(main())


@pytest.mark.parametrize("end", ["abort", "close"])
def test_end_from_an_error_of_what_was_queued(real: EventLoop, slow: Reader, end: str) -> None:
    class Ends(Recorder):
        def pause_writing(self) -> None:
            self.note("pause")

        def resume_writing(self) -> None:
            self.note("resume")

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            getattr(self.transport, end)()

    async def main() -> None:
        one = await endpoint(real, Ends, family=socket.AF_UNIX, remote_addr=slow.path)
        one.transport.set_write_buffer_limits(high=0)
        fill(one)
        one.transport.sendto(b"more")
        slow.sock.close()
        calls = [call[0] for call in await one.after(3 if end == "abort" else 5)]
        await asyncio.sleep(0)
        assert len(one.calls) == len(calls)
        # who aborts hears of nothing more, who closes of all that was queued
        wanted = {"abort": ["lost"], "close": ["error", "resume", "lost"]}[end]
        assert calls == ["pause", "error", *wanted]

    real.run_until_complete(main())


class Hostile(bytes):
    """Ends the endpoint while it is copied."""

    transport: Any

    def __bytes__(self) -> bytes:
        self.transport.abort()
        return b"copy"


def test_datagram_that_aborts_as_it_is_queued_is_not(real: EventLoop, slow: Reader) -> None:
    async def main() -> None:
        one = await endpoint(real, family=socket.AF_UNIX, remote_addr=slow.path)
        fill(one)
        data = Hostile(b"x")
        data.transport = one.transport
        one.transport.sendto(data)
        assert one.transport.get_write_buffer_size() == 0
        assert await one.after(1) == [("lost", None)]

    real.run_until_complete(main())


def test_abort_drops_the_queue(real: EventLoop, slow: Reader) -> None:
    async def main() -> None:
        one = await endpoint(real, family=socket.AF_UNIX, remote_addr=slow.path)
        fill(one)
        one.transport.close()
        assert one.calls == []
        one.transport.abort()
        assert one.transport.get_write_buffer_size() == 0
        assert await one.after(1) == [("lost", None)]

    real.run_until_complete(main())


def test_abort_by_who_is_told_of_a_failure_is_the_last_of_it(
    real: EventLoop, slow: Reader, reports: list[dict[str, Any]]
) -> None:
    one = Recorder()

    def aborts(_: object, context: dict[str, Any]) -> None:
        reports.append(context)
        one.transport.abort()

    async def main() -> None:
        await endpoint(real, lambda: one, family=socket.AF_UNIX)
        fill(one, slow.path)
        one.transport.sendto(b"x", 5)  # no address, which is found when it is sent
        one.transport.sendto(b"more", slow.path)
        real.set_exception_handler(aborts)
        while not one.calls:
            await real.sock_recv(slow.sock, 100)
            await asyncio.sleep(0)
        assert one.calls == [("lost", None)]
        assert [type(report["exception"]) for report in reports] == [TypeError]
        assert one.transport.get_write_buffer_size() == 0

    real.run_until_complete(main())

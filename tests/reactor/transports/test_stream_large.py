"""Large receives: what fills a block comes into a bytes object of its own from then on."""

from __future__ import annotations

import os
import platform
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.pollers import new_poller
from reactor.pollers.simulated import SimulatedPoller
from reactor.pool import POISONS
from reactor.testing import simulated_loop
from tests.reactor.conftest import POLLERS, SIMULATED, closing, loop_on
from tests.reactor.recorder import (
    KINDS,
    AsyncioRecorder,
    BufferRecorder,
    Recorder,
    connected,
    finish,
    turn,
    until,
)

WIDE = {"send_buffer_bytes": 1_048_576, "receive_buffer_bytes": 1_048_576}
TO_OBJECTS = (BufferRecorder, Recorder)
CONTENT = random.Random(1).randbytes(3_000_000)


class Keeper(Recorder):
    """Keeps the pieces as they came."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.pieces: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        super().data_received(data)


@pytest.fixture(params=POLLERS)
def loop(request: pytest.FixtureRequest) -> Iterator[EventLoop]:
    """Return a loop on each poller whose simulated sockets hold a megabyte."""
    if request.param in SIMULATED:
        yield from closing(simulated_loop(**{**WIDE, **SIMULATED[request.param]}))
    else:
        yield from closing(loop_on(request.param))


def roomy(loop: EventLoop, one: Any = None, two: Any = None) -> tuple[Any, Any]:
    """Return two connected recorders with a megabyte between them."""
    one, two = connected(loop, one, two)
    if not isinstance(loop.poller, SimulatedPoller):
        for end in (one, two):
            sock = end.link.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_048_576)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_048_576)
    return one, two


@pytest.mark.parametrize("kind", KINDS)
def test_all_comes_in_order(loop: EventLoop, kind: type[Any]) -> None:
    one, two = roomy(loop, None, kind())
    one.link.write(CONTENT)
    until(loop, lambda: len(two.data) >= len(CONTENT))
    assert two.data == CONTENT
    finish(loop, one, two)


def test_blocks_are_left_alone_while_much_comes(real: EventLoop) -> None:
    one, two = roomy(real, None, Keeper())
    one.link.write(CONTENT)
    until(real, lambda: len(two.data) == len(CONTENT))
    stats = real.pool.stats()
    assert len(two.pieces) > 8
    assert stats["hits"] + stats["misses"] - stats["aside"] < len(two.pieces) / 2
    finish(real, one, two)


def test_piece_is_as_large_as_what_came(loop: EventLoop) -> None:
    one, two = roomy(loop, None, Keeper())
    for size in (400_000, 70_000, 5, 300_000, 100_000, 1, 1):
        seen = len(two.data)
        one.link.write(CONTENT[:size])
        until(loop, lambda: len(two.data) == seen + size)  # noqa: B023
    assert [sys.getsizeof(piece) for piece in two.pieces] == [
        sys.getsizeof(b"") + len(piece) for piece in two.pieces
    ]
    finish(loop, one, two)


@pytest.mark.parametrize("size", [4_096, 100_000, 200_000])
def test_no_receive_takes_more_than_a_block(size: int) -> None:
    loop = EventLoop(new_poller(block_size=size))
    one, two = roomy(loop, None, Keeper())
    one.link.write(CONTENT)
    until(loop, lambda: len(two.data) == len(CONTENT))
    assert two.data == CONTENT
    assert max(map(len, two.pieces)) == size
    finish(loop, one, two)
    loop.close()


def test_pause_holds_and_resume_goes_on(loop: EventLoop) -> None:
    two = Recorder(data_received=lambda p: p.link.pause_reading())
    one, two = roomy(loop, None, two)
    one.link.write(CONTENT)
    while len(two.data) < len(CONTENT):
        seen = len(two.events)
        two.link.resume_reading()
        two.link.pause_reading()  # while it waits for what to receive
        turn(loop)
        assert len(two.events) <= seen + 1
        two.link.resume_reading()
        until(loop, lambda: len(two.events) > seen)  # noqa: B023
    assert two.data == CONTENT
    finish(loop, one, two)


def test_end_behind_much_is_told_last(loop: EventLoop) -> None:
    one, two = roomy(loop)
    one.link.write(CONTENT)
    one.link.close()
    until(loop, lambda: two.lost)
    assert two.data == CONTENT
    assert two.events[-2:] == ["eof_received", "connection_lost"]
    finish(loop, one, two)


@pytest.mark.parametrize(("kind", "heirs"), [*product([AsyncioRecorder], KINDS), TO_OBJECTS])
def test_protocol_may_hand_over_in_the_middle(
    loop: EventLoop, kind: type[Any], heirs: type[Any]
) -> None:
    heir = heirs()

    def hand_over(record: Any) -> None:
        if len(record.data) > 1_000_000:
            record.link.set_protocol(heir)
            heir.events.append("connection_made")
            heir.link = record.link

    one, two = roomy(loop, None, kind(data_received=hand_over))
    one.link.write(CONTENT)
    until(loop, lambda: len(two.data) + len(heir.data) == len(CONTENT))
    assert two.data + heir.data == CONTENT
    assert heir.data
    finish(loop, one, heir)


@pytest.mark.parametrize("ending", ["abort", "close"])
def test_connection_may_end_in_the_middle(loop: EventLoop, ending: str) -> None:
    def end(record: Any) -> None:
        if len(record.data) > 1_000_000:
            getattr(record.link, ending)()

    one, two = roomy(loop, None, Recorder(data_received=end))
    one.link.write(CONTENT)
    until(loop, lambda: two.lost and one.lost)
    assert len(two.data) < len(CONTENT)
    assert two.data == CONTENT[: len(two.data)]


def test_failure_in_the_middle_aborts(loop: EventLoop) -> None:
    def refuse(record: Any) -> None:
        if len(record.data) > 1_000_000:
            raise ZeroDivisionError

    one, two = roomy(loop, None, Recorder(data_received=refuse))
    one.link.write(CONTENT)
    until(loop, lambda: two.lost and one.lost)
    assert isinstance(two.lost[0], ZeroDivisionError)
    assert [type(context["exception"]) for context in loop.reported] == [  # type: ignore[attr-defined]
        ZeroDivisionError
    ]
    loop.reported.clear()  # type: ignore[attr-defined]


def test_exit_in_the_middle_leaves_the_connection_as_it_was(loop: EventLoop) -> None:
    exits = iter([SystemExit(3)])

    def leave(record: Any) -> None:
        if len(record.data) > 1_000_000:
            for error in exits:
                raise error

    one, two = roomy(loop, None, Recorder(data_received=leave))
    one.link.write(CONTENT)
    with pytest.raises(SystemExit):
        until(loop, lambda: len(two.data) == len(CONTENT))
    until(loop, lambda: len(two.data) == len(CONTENT))
    assert two.data == CONTENT
    finish(loop, one, two)


def test_reset_in_the_middle_is_told(simulated: Any) -> None:
    loop = simulated(**WIDE)
    one, two = connected(loop)
    one.link.write(CONTENT)
    until(loop, lambda: len(two.data) > 200_000)
    one.link.abort()
    until(loop, lambda: two.lost)
    assert len(two.data) < len(CONTENT)
    assert two.data == CONTENT[: len(two.data)]


MANY_LARGE_MESSAGES = """
import asyncio, resource, reactor

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    message = bytes(102_400)

    async def ask(rounds):
        for _ in range(rounds):
            for _, writer in ends:
                writer.write(message)
            for reader, _ in ends:
                await reader.readexactly(len(message))

    await ask(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    await ask(10)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 200)
    for reader, writer in ends:
        writer.write_eof()
        assert not await reader.read()
        writer.close()
    server.close()

reactor.run(main())
"""


@pytest.mark.skipif(POISONS, reason="the sanitizers have a malloc of their own")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
def test_large_messages_are_not_in_new_memory_each_time() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", MANY_LARGE_MESSAGES],
        env=environment,
        timeout=100,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    assert float(done.stdout) < 1  # page faults a message: 0.1, and without 4

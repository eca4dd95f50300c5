"""Datagrams: what comes, what is sent, what goes wrong, and the end."""

from __future__ import annotations

import array
import asyncio
import contextvars
import gc
import logging
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.limits import DATAGRAMS_PER_PASS
from reactor.transports.datagram import DatagramTransport
from reactor.transports.stock import StockDatagramTransport
from tests.reactor.transports.datagram_ends import HERE, UNIX, Recorder, ended, endpoint, name_of


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HERE, 0))
        sock.settimeout(10)
        yield sock


# -- the surface -----------------------------------------------------------------------------------


def test_transport_is_what_asyncio_calls_one(real: EventLoop, peer: socket.socket) -> None:
    async def main() -> None:
        one = await endpoint(real, remote_addr=peer.getsockname())
        link = one.transport
        assert type(link) is DatagramTransport
        assert isinstance(link, asyncio.DatagramTransport)
        assert isinstance(link, asyncio.Transport)  # as asyncio's own, of which its tests say so
        assert link.get_protocol() is one
        assert link.get_extra_info("peername") == peer.getsockname()
        assert link.get_extra_info("nothing", 5) == 5
        assert link.get_extra_info("socket").fileno() == link._sock.fileno() == link._sock_fd
        assert link.get_write_buffer_size() == 0
        assert repr(link) == f"<DatagramTransport open fd={link._sock_fd} 0 bytes queued>"
        with pytest.raises(RuntimeError, match="is used by transport"):
            real.add_reader(link._sock_fd, print)
        await ended(one)
        assert repr(link) == "<DatagramTransport lost 0 bytes queued>"
        assert link._sock is None
        assert link.get_protocol() is None
        assert link.get_extra_info("peername") == peer.getsockname()

    real.run_until_complete(main())


def test_callbacks_run_in_the_context_of_the_endpoint(real: EventLoop, peer: socket.socket) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    seen: list[str] = []

    class Asks(Recorder):
        def note(self, *call: Any) -> None:
            seen.append(who.get())
            super().note(*call)

    async def main() -> None:
        who.set("maker")
        one = await endpoint(real, Asks)
        who.set("another")
        peer.sendto(b"hello", name_of(one))
        await one.after(1)
        one.transport.abort()
        await one.after(2)

    real.run_until_complete(main())
    assert seen == ["maker", "maker"]


def test_another_protocol_gets_what_comes_from_now_on(real: EventLoop, peer: socket.socket) -> None:
    async def main() -> None:
        first, second = await endpoint(real), Recorder()
        first.transport.set_protocol(second)
        peer.sendto(b"hello", name_of(first))
        assert await second.after(1) == [(b"hello", peer.getsockname())]
        first.transport.close()
        assert (await second.after(2))[1] == ("lost", None)
        assert first.calls == []

    real.run_until_complete(main())


def test_family_that_is_not_known_has_asyncios_transport(real: EventLoop) -> None:
    if not hasattr(socket, "AF_NETLINK"):
        pytest.skip("Linux has netlink")

    async def main() -> None:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
        one = await endpoint(real, sock=sock)
        assert type(one.transport) is StockDatagramTransport
        await ended(one)

    real.run_until_complete(main())
    loop = EventLoop()
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)
    loop.run_until_complete(endpoint(loop, sock=sock))
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert sock.fileno() == -1


# -- addresses -------------------------------------------------------------------------------------


def test_each_sender_is_told_and_answered(real: EventLoop) -> None:
    async def main() -> None:
        server = await endpoint(real)
        clients = [await endpoint(real, remote_addr=name_of(server)) for _ in range(3)]
        for turn in range(3):
            for number, client in enumerate(clients):
                client.transport.sendto(b"%d %d" % (turn, number))
        calls = await server.after(9)
        assert calls == [
            (b"%d %d" % (turn, number), name_of(client))
            for turn in range(3)
            for number, client in enumerate(clients)
        ]
        for data, who in calls:
            server.transport.sendto(b"re: " + data, who)
        for number, client in enumerate(clients):
            wanted = [(b"re: %d %d" % (turn, number), name_of(server)) for turn in range(3)]
            assert await client.after(3) == wanted
        await ended(server, *clients)

    real.run_until_complete(main())


@pytest.mark.parametrize("host", ["::1", "::1%1"])
def test_ipv6_and_the_name_of_an_interface(real: EventLoop, host: str) -> None:
    async def main() -> None:
        try:
            server = await endpoint(real, local_addr=("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        client = await endpoint(real, family=socket.AF_INET6)
        port = name_of(server)[1]
        for address in ((host, port), (host, port, 0), (host, port, 0, 0)):
            client.transport.sendto(b"hello", address)
        for data, sender in await server.after(3):
            assert (data, sender[0]) == (b"hello", "::1")
            assert len(sender) == 4
        await ended(client, server)

    real.run_until_complete(main())


def test_names_are_resolved(real: EventLoop, peer: socket.socket) -> None:
    async def main() -> None:
        one = await endpoint(real)
        one.transport.sendto(b"by name", ("localhost", peer.getsockname()[1]))
        assert peer.recvfrom(100) == (b"by name", name_of(one))
        one.transport.sendto(b"nobody", ("no such host.invalid", 1))
        assert await one.after(1) == [("error", socket.gaierror)]
        await ended(one)

    real.run_until_complete(main())


@pytest.mark.parametrize(
    "address",
    [None, [HERE, 1], (), (HERE,), (HERE, 1, 2, 3, 4), (1, 2), (HERE, "1"), HERE, b"x", {}, 5],
    ids=repr,
)
def test_what_is_no_address_raises_and_the_endpoint_lives(
    real: EventLoop, peer: socket.socket, address: Any
) -> None:
    async def main() -> None:
        one = await endpoint(real)
        with pytest.raises(TypeError):
            one.transport.sendto(b"x", address)
        with pytest.raises(OverflowError):
            one.transport.sendto(b"x", (HERE, 65_536))
        one.transport.sendto(b"hello", peer.getsockname())
        assert peer.recv(10) == b"hello"
        await ended(one)

    real.run_until_complete(main())


class Sends(int):
    """A scope or a flow that sends something itself when it is looked at."""

    send: Callable[[], None]

    def __int__(self) -> int:
        self.send()
        return 0

    __index__ = __int__


def test_address_that_sends_is_sent_to_all_the_same(real: EventLoop) -> None:
    async def main() -> None:
        try:
            receivers = [await endpoint(real, local_addr=("::1", 0)) for _ in range(2)]
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        one = await endpoint(real, family=socket.AF_INET6)
        inner, outer = (name_of(receiver)[1] for receiver in receivers)
        scope = Sends(0)
        scope.send = lambda: one.transport.sendto(b"inner", ("::1", inner))
        address = ("::1", outer, 0, scope)
        for _ in range(2):
            one.transport.sendto(b"outer", address)
        assert {data for data, _ in await receivers[1].after(2)} == {b"outer"}
        assert {data for data, _ in receivers[0].calls} <= {b"inner"}
        for bad in ((0x100000, 0), (1.5, 0), (0, 2.0), (-1, 0)):
            with pytest.raises((OverflowError, TypeError)):
                one.transport.sendto(b"x", ("::1", outer, *bad))
        await ended(one, *receivers)

    real.run_until_complete(main())


@pytest.mark.parametrize("data", [None, "text", 5, [b"x"]], ids=repr)
def test_what_is_no_datagram_raises(real: EventLoop, peer: socket.socket, data: Any) -> None:
    async def main() -> None:
        one = await endpoint(real, remote_addr=peer.getsockname())
        with pytest.raises(TypeError, match="bytes-like"):
            one.transport.sendto(data)
        with pytest.raises(BufferError):
            one.transport.sendto(memoryview(b"abcd")[::2])
        with pytest.raises(ValueError, match="Invalid address"):
            one.transport.sendto(b"x", (HERE, 1))
        one.transport.sendto(memoryview(array.array("H", [513])), peer.getsockname())
        assert peer.recv(10) == array.array("H", [513]).tobytes()
        await ended(one)

    real.run_until_complete(main())


def test_broadcast_endpoint_is_not_connected(real: EventLoop, peer: socket.socket) -> None:
    async def main() -> None:
        one = await endpoint(real, remote_addr=peer.getsockname(), allow_broadcast=True)
        assert one.transport.get_extra_info("peername") is None
        one.transport.sendto(b"hello")
        data, who = peer.recvfrom(10)
        peer.sendto(data, (HERE, who[1]))
        assert await one.after(1) == [(b"hello", peer.getsockname())]
        with pytest.raises(ValueError, match="Invalid address"):
            one.transport.sendto(b"x", (HERE, 1))
        await ended(one)

    real.run_until_complete(main())


@UNIX
def test_unix_senders_have_a_path_a_name_or_none(real: EventLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    names: list[Any] = [None, str(tmp_path / "client")]
    if sys.platform == "linux":
        names.append(b"\0cyreactor-%d" % os.getpid())

    async def main() -> None:
        server = await endpoint(real, local_addr=path, family=socket.AF_UNIX)
        for name in names:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                if name is not None:
                    client.bind(name)
                    client.settimeout(10)
                client.sendto(b"hello", path)
                server.calls.clear()
                assert await server.after(1) == [(b"hello", name)]
                if name is not None:
                    server.transport.sendto(b"answer", name)
                    assert client.recv(10) == b"answer"
        for bad in (None, tmp_path / "client"):
            with pytest.raises(TypeError):
                server.transport.sendto(b"x", bad)
        await ended(server)

    real.run_until_complete(main())


# -- sizes -----------------------------------------------------------------------------------------


def test_empty_and_largest_datagrams(real: EventLoop, peer: socket.socket) -> None:
    async def main() -> None:
        one = await endpoint(real, remote_addr=peer.getsockname())
        for size in (0, 1, 65_507):
            one.transport.sendto(bytes(size))
            data, who = peer.recvfrom(100_000)
            assert data == bytes(size)
            peer.sendto(data, who)
        assert [len(call[0]) for call in await one.after(3)] == [0, 1, 65_507]
        one.calls.clear()
        one.transport.sendto(bytes(65_508))
        assert await one.after(1) == [("error", OSError)]  # EMSGSIZE
        await ended(one)

    real.run_until_complete(main())


@UNIX
def test_unix_datagram_may_be_larger(real: EventLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    text = os.urandom(150_000)

    async def main() -> None:
        server = await endpoint(real, local_addr=path, family=socket.AF_UNIX)
        client = await endpoint(real, remote_addr=path, family=socket.AF_UNIX)
        client.transport.sendto(text)
        assert await server.after(1) == [(text, None)]
        await ended(client, server)

    real.run_until_complete(main())


def test_flood_leaves_the_others_their_turn(real: EventLoop, peer: socket.socket) -> None:
    count = 3 * DATAGRAMS_PER_PASS
    passes: list[int] = []

    async def main() -> None:
        one = await endpoint(real)
        for number in range(count):
            peer.sendto(b"%d" % number, name_of(one))
        while len(one.calls) < count:
            await asyncio.sleep(0)
            passes.append(len(one.calls))
        assert [call[0] for call in one.calls] == [b"%d" % number for number in range(count)]
        await ended(one)

    real.run_until_complete(main())
    steps = [after - before for before, after in zip([0, *passes], passes, strict=False)]
    assert max(steps) == DATAGRAMS_PER_PASS


def test_task_that_is_woken_has_its_turn_before_the_next_datagram(
    real: EventLoop, peer: socket.socket
) -> None:
    class OneByOne(Recorder):
        """As many a library has it: a future for the next datagram."""

        waiter: asyncio.Future[bytes] | None = None
        dropped = 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            if self.waiter is None or self.waiter.done():
                self.dropped += 1
            else:
                self.waiter.set_result(data)

    async def main() -> None:
        one = await endpoint(real, OneByOne)
        for number in range(5):
            peer.sendto(b"%d" % number, name_of(one))
        for number in range(5):
            one.waiter = real.create_future()
            assert await one.waiter == b"%d" % number
        assert one.dropped == 0
        await ended(one)

    real.run_until_complete(main())


def test_stopped_loop_hands_up_no_more(real: EventLoop, peer: socket.socket) -> None:
    class Stops(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            real.stop()

    one = real.run_until_complete(endpoint(real, Stops))
    for number in range(3):
        peer.sendto(b"%d" % number, name_of(one))
    for number in range(1, 4):
        real.run_forever()
        assert len(one.calls) == number
    one.transport.close()
    real.run_until_complete(one.after(4))


def test_reading_may_pause(real: EventLoop, peer: socket.socket) -> None:
    class Pauses(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()

    async def main() -> None:
        one = await endpoint(real, Pauses)
        assert one.transport.is_reading()
        for number in range(3):
            peer.sendto(b"%d" % number, name_of(one))
        for number in range(1, 4):
            assert len(await one.after(number)) == number
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(one.calls) == number
            assert not one.transport.is_reading()
            one.transport.resume_reading()
            one.transport.resume_reading()
        one.transport.pause_reading()
        one.transport.close()
        one.transport.resume_reading()
        assert not one.transport.is_reading()
        assert (await one.after(4))[-1] == ("lost", None)

    real.run_until_complete(main())


# -- what goes wrong -------------------------------------------------------------------------------


def test_what_a_protocol_raises_is_reported_and_ends_nothing(
    real: EventLoop, peer: socket.socket, reports: list[dict[str, Any]]
) -> None:
    class Raises(Recorder):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            raise ValueError("made")

        def note(self, *call: Any) -> None:
            super().note(*call)
            raise ValueError(call[0])

    async def main() -> None:
        one = await endpoint(real, Raises)
        for text in (b"one", b"two"):
            peer.sendto(text, name_of(one))
        assert [call[0] for call in await one.after(2)] == [b"one", b"two"]
        one.transport.close()
        await one.after(3)

    real.run_until_complete(main())
    assert [str(report["exception"]) for report in reports] == ["made", "b'one'", "b'two'", "lost"]
    assert all("Exception in callback" in report["message"] for report in reports)
    assert all("protocol" in report and "transport" in report for report in reports)


@pytest.mark.skipif(sys.platform == "win32", reason="Wine tells nobody that nobody listens")
def test_errors_are_received_and_may_raise(real: EventLoop, reports: list[dict[str, Any]]) -> None:
    class Raises(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ValueError("mine")

    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind((HERE, 0))
            address = nobody.getsockname()
        one = await endpoint(real, Raises, remote_addr=address)
        one.transport.sendto(b"anybody?")
        assert await one.after(1) == [("error", ConnectionRefusedError)]
        assert [str(report["exception"]) for report in reports] == ["mine"]
        with pytest.raises(ValueError, match="mine"):  # of a send it is the sender's
            one.transport.sendto(bytes(70_000))
        one.transport.abort()
        await one.after(3)

    real.run_until_complete(main())


@pytest.mark.parametrize("leaves", [SystemExit, KeyboardInterrupt])
def test_exit_leaves_the_loop_and_not_the_endpoint(
    real: EventLoop, peer: socket.socket, leaves: type[BaseException]
) -> None:
    class Exits(Recorder):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            raise leaves

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"exit":
                raise leaves

    one = Exits()
    making = real.create_task(endpoint(real, lambda: one))
    with pytest.raises(leaves):
        real.run_until_complete(making)
    assert real.run_until_complete(making) is one
    for text in (b"exit", b"more"):
        peer.sendto(text, name_of(one))
    with pytest.raises(leaves):
        real.run_forever()
    calls = real.run_until_complete(one.after(2))
    assert [call[0] for call in calls] == [b"exit", b"more"]
    real.run_until_complete(ended(one))


@pytest.mark.parametrize("end", ["close", "abort"])
def test_end_from_a_callback_is_the_last_of_it(
    real: EventLoop, peer: socket.socket, end: str
) -> None:
    class Ends(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, end)()
            getattr(self.transport, end)()
            assert self.transport.is_closing()
            assert self.transport._sock is not None  # not from inside of a call

    async def main() -> None:
        one = await endpoint(real, Ends)
        link, sock = weakref.ref(one.transport), one.transport._sock
        for text in (b"one", b"two"):
            peer.sendto(text, name_of(one))
        assert await one.after(2) == [(b"one", peer.getsockname()), ("lost", None)]
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        assert len(one.calls) == 2
        del one
        await asyncio.sleep(0)
        gc.collect()
        assert link() is None

    real.run_until_complete(main())


def test_end_while_it_is_made(real: EventLoop) -> None:
    class Ends(Recorder):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.close()

    async def main() -> None:
        one = await endpoint(real, Ends)
        assert await one.after(1) == [("lost", None)]

    real.run_until_complete(main())


def test_cancelled_maker_leaves_nothing(real: EventLoop) -> None:
    made: list[Recorder] = []
    made_one = asyncio.Event()

    def factory() -> Recorder:
        made.append(Recorder())
        made_one.set()
        return made[-1]

    async def main() -> None:
        making = real.create_task(endpoint(real, factory))
        await made_one.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        if hasattr(made[0], "transport"):
            assert await made[0].after(1) == [("lost", None)]

    real.run_until_complete(main())
    gc.collect()  # a socket that is left warns


def test_closed_endpoint_takes_nothing_more(
    real: EventLoop, peer: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        one = await endpoint(real, remote_addr=peer.getsockname())
        await ended(one)
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(7):
                one.transport.sendto(b"late")
        assert len(caplog.records) == 2  # from the sixth on, as asyncio does
        one.transport.close()
        one.transport.abort()
        await asyncio.sleep(0)
        assert one.calls == [("lost", None)]

    real.run_until_complete(main())


@pytest.mark.parametrize("how", ["close", "detach"])
def test_number_that_was_given_to_another_socket_is_not_used(
    real: EventLoop, peer: socket.socket, how: str
) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HERE, 0))
        one = await endpoint(real, sock=sock)
        number = sock.fileno()
        left = getattr(sock, how)()
        if left is not None:
            socket.close(left)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
            assert another.fileno() == number
            another.bind((HERE, 0))
            another.settimeout(10)
            one.transport.sendto(b"secret", peer.getsockname())
            assert one.calls == [("error", OSError)]
            peer.sendto(b"not for it", another.getsockname())
            for _ in range(5):
                await asyncio.sleep(0)
            assert another.recv(100) == b"not for it"
            one.transport.close()
            assert (await one.after(2))[1:] == [("lost", None)]
            another.sendto(b"still there", peer.getsockname())
            assert peer.recv(100) == b"still there"

    real.run_until_complete(main())


def test_socket_with_ways_of_its_own_has_asyncios_transport(
    real: EventLoop, peer: socket.socket
) -> None:
    class Proxied(socket.socket):
        def sendto(self, data: Any, *rest: Any) -> int:
            return super().sendto(b"proxied " + data, *rest)

    async def main() -> None:
        sock = Proxied(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HERE, 0))
        one = await endpoint(real, sock=sock)
        one.transport.sendto(b"hello", peer.getsockname())
        assert peer.recv(100) == b"proxied hello"
        await ended(one)

    real.run_until_complete(main())


@pytest.mark.skipif(sys.platform == "win32", reason="AFD says at once that the socket is closed")
def test_number_that_somebody_left_behind_is_used_again(
    real: EventLoop, peer: socket.socket
) -> None:
    async def main() -> None:
        left = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        number = left.fileno()
        real.add_reader(number, pytest.fail, "the number is another's")
        left.close()
        one = await endpoint(real)
        assert one.transport._sock_fd == number
        peer.sendto(b"hello", name_of(one))
        assert await one.after(1) == [(b"hello", peer.getsockname())]
        await ended(one)

    real.run_until_complete(main())

"""Client connections of the event loop: every way that asyncio has to make one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

from reactor.eventloop import EventLoop
from reactor.transports.stream import StreamTransport
from tests.leaks import leaked, live_resources
from tests.reactor.conftest import closing
from tests.reactor.transports.tls_ends import HOST, client_default, server_default

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sockets of POSIX systems")

HERE = "127.0.0.1"


class Named(EventLoop):
    """A loop whose names are what the test says; it notes the addresses that it tries."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[tuple[str, int]] = []
        self.tried: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if host != "name.example":
            return await super().getaddrinfo(host, port, **options)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, number, 0, 0) if ":" in address else (address, number),
            )
            for address, number in self.addresses
        ]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.tried.append(address[0])
        await super().sock_connect(sock, address)


@pytest.fixture
def named() -> Iterator[Named]:
    for loop in closing(Named()):
        assert isinstance(loop, Named)
        yield loop


@pytest.fixture
def hole() -> Iterator[tuple[str, int]]:
    """Return an address that answers nobody: its queue is full and stays so."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        yield listener.getsockname()


@pytest.fixture
def refused() -> tuple[str, int]:
    """Return an address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.3", 0))
        return sock.getsockname()  # type: ignore[no-any-return]


class Listening:
    """A plain listening socket at which a test looks by hand."""

    def __init__(self, host: str = HERE) -> None:
        self.sock = socket.create_server((host, 0))
        self.sock.settimeout(10)
        self.address: tuple[str, int] = self.sock.getsockname()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


async def gone(transport: Any) -> None:
    """Abort a connection and let its loop see to it."""
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# -- create_connection ----------------------------------------------------------------------------


def test_connection_has_our_own_transport(real: EventLoop) -> None:
    async def main() -> None:
        with Listening() as there:
            link, protocol = await real.create_connection(asyncio.Protocol, *there.address)
            assert type(link) is StreamTransport
            assert link.get_protocol() is protocol
            assert link.get_extra_info("peername") == there.address
            sock = link.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await gone(link)

    real.run_until_complete(main())


@pytest.mark.parametrize("debug", [False, True])  # by our way and by asyncio's
def test_connection_to_an_address(real: EventLoop, refused: tuple[str, int], debug: bool) -> None:
    made: list[Any] = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    def broken() -> Noting:
        raise LookupError("no protocol")

    async def main() -> None:
        before = live_resources()
        for host in (HERE, "::1"):
            try:
                server = await real.create_server(asyncio.Protocol, host, 0)
            except OSError:
                continue  # no IPv6 here
            address = server.sockets[0].getsockname()[:2]
            transport, protocol = await real.create_connection(Noting, *address)
            assert type(transport) is StreamTransport
            assert transport.get_protocol() is protocol
            assert made.pop() is transport
            assert transport.get_extra_info("peername")[:2] == address
            if not debug:  # asyncio's leaves the socket open
                with pytest.raises(LookupError, match="no protocol"):
                    await real.create_connection(broken, *address)
            transport.abort()
            server.close()
            await gone(transport)
        with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
            await real.create_connection(Noting, *refused)
        for port in (-1, 65536):
            with pytest.raises(OverflowError):
                await real.create_connection(Noting, HERE, port)
        with pytest.raises(TypeError):
            await real.create_connection(Noting, HERE, refused[1], nonsense=1)
        await settled(real)
        assert leaked(before) == {}

    real.set_debug(debug)
    real.run_until_complete(main())


def test_loop_that_connects_sockets_in_its_own_way_is_asked(
    named: Named, refused: tuple[str, int]
) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await named.create_connection(asyncio.Protocol, *refused)
        assert named.tried == [refused[0]]

    named.run_until_complete(main())


def test_connection_comes_from_the_local_address(real: EventLoop) -> None:
    async def main() -> None:
        with Listening() as there:
            link, _ = await real.create_connection(
                asyncio.Protocol, *there.address, local_addr=("127.0.0.5", 0)
            )
            assert link.get_extra_info("sockname")[0] == "127.0.0.5"
            await gone(link)

    real.run_until_complete(main())


def test_connection_takes_a_connected_socket(real: EventLoop) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with two:
            one.setblocking(False)
            link, _ = await real.create_connection(asyncio.Protocol, sock=one)
            link.write(b"hello")
            assert two.recv(5) == b"hello"
            await gone(link)
        assert one.fileno() == -1

    real.run_until_complete(main())


def test_next_address_is_tried_when_one_refuses(named: Named, refused: tuple[str, int]) -> None:
    async def main() -> None:
        with Listening() as there:
            named.addresses = [refused, there.address]
            link, _ = await named.create_connection(asyncio.Protocol, "name.example", 1)
            assert named.tried == [refused[0], there.address[0]]
            await gone(link)

    named.run_until_complete(main())


def test_all_addresses_that_fail_are_told_of(named: Named, refused: tuple[str, int]) -> None:
    async def main() -> None:
        named.addresses = [refused, ("127.0.0.4", refused[1])]
        with pytest.raises(OSError, match="Multiple exceptions"):
            # one port for both, so that the texts differ
            await named.create_connection(asyncio.Protocol, "name.example", 1)
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup) as caught:
                await named.create_connection(asyncio.Protocol, "name.example", 1, all_errors=True)
            assert caught.group_contains(ConnectionRefusedError)

    named.run_until_complete(main())


def test_happy_eyeballs_does_not_wait_for_a_host_that_is_silent(
    named: Named, hole: tuple[str, int]
) -> None:
    async def main() -> None:
        with Listening() as there:
            named.addresses = [hole, there.address]
            link, _ = await named.create_connection(
                asyncio.Protocol, "name.example", 1, happy_eyeballs_delay=0.01
            )
            assert link.get_extra_info("peername") == there.address
            assert named.tried == [hole[0], there.address[0]]
            await gone(link)

    named.run_until_complete(main())


def test_happy_eyeballs_goes_on_at_once_from_a_host_that_refuses(
    named: Named, refused: tuple[str, int]
) -> None:
    async def main() -> None:
        with Listening() as there:
            named.addresses = [refused, there.address]
            link, _ = await named.create_connection(
                asyncio.Protocol, "name.example", 1, happy_eyeballs_delay=1000
            )
            assert link.get_extra_info("peername") == there.address
            await gone(link)

    named.run_until_complete(main())


@pytest.mark.parametrize(
    ("interleave", "order"),
    [(0, ["127.0.0.3", "127.0.0.4", "::2"]), (1, ["127.0.0.3", "::2", "127.0.0.4"])],
)
def test_interleave_mixes_the_families(named: Named, interleave: int, order: list[str]) -> None:
    async def main() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.3", 0))
            port = bound.getsockname()[1]
        named.addresses = [("127.0.0.3", port), ("127.0.0.4", port), ("::2", port)]
        with pytest.raises((OSError, ExceptionGroup)):
            await named.create_connection(
                asyncio.Protocol,
                "name.example",
                1,
                interleave=interleave,
                happy_eyeballs_delay=1000,
            )

    named.run_until_complete(main())
    assert named.tried == order


def test_connection_that_is_given_up_leaves_nothing(real: EventLoop, hole: Any) -> None:
    async def main() -> None:
        before = live_resources()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await real.create_connection(asyncio.Protocol, *hole)
        assert leaked(before) == {}

    real.run_until_complete(main())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("passes", range(12))
def test_connection_may_be_cancelled_at_every_await(
    real: EventLoop, passes: int, tls: bool
) -> None:
    made: list[Any] = []
    lost: list[Any] = []

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(self)

    async def main() -> None:
        options: dict[str, Any] = {"ssl": client_default(), "server_hostname": HOST} if tls else {}
        server = await real.create_server(
            asyncio.Protocol, HERE, 0, ssl=server_default() if tls else None
        )
        address = server.sockets[0].getsockname()
        task = asyncio.ensure_future(real.create_connection(Noting, *address, **options))
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        try:
            link, _ = await task
        except asyncio.CancelledError:
            pass
        else:
            assert len(made) == 1
            link.abort()
        server.close()
        server.abort_clients()
        await settled(real)

    real.run_until_complete(main())
    assert lost == made


async def settled(loop: EventLoop) -> None:
    """Wait until no connection is alive."""
    while loop.stats()["live_ops"]:  # noqa: ASYNC110 - the loop has no event for that
        await asyncio.sleep(0)
    await asyncio.sleep(0)


# -- accepted elsewhere ---------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_accepted_socket_is_served(real: EventLoop, tls: bool) -> None:
    class Shout(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

    async def main() -> None:
        with Listening() as there:
            there.sock.setblocking(False)
            options: dict[str, Any] = (
                {"ssl": client_default(), "server_hostname": HOST} if tls else {}
            )
            opening = asyncio.ensure_future(asyncio.open_connection(*there.address, **options))
            accepted, _ = await real.sock_accept(there.sock)
            link, protocol = await real.connect_accepted_socket(
                Shout, accepted, ssl=server_default() if tls else None
            )
            assert protocol.transport is link
            reader, writer = await opening
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            writer.close()
            await writer.wait_closed()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as sock,
            pytest.raises(ValueError, match="Stream Socket was expected"),
        ):
            await real.connect_accepted_socket(Shout, sock)

    real.run_until_complete(main())


# -- connections that are reset -------------------------------------------------------------------


RESET = struct.pack("ii", 1, 0)  # socket(7): SO_LINGER of no time


class Naming(asyncio.Protocol):
    """Notes who its peer is, each time that something happens."""

    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.lost = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.peers.append(transport.get_extra_info("peername"))

    def connection_lost(self, _error: Exception | None) -> None:
        self.peers.append(self.transport.get_extra_info("peername"))
        self.lost.set()


def test_peer_that_resets_before_it_is_accepted_has_its_name(real: EventLoop) -> None:
    async def main() -> None:
        protocol = Naming()
        server = await real.create_server(lambda: protocol, HERE, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            name = sock.getsockname()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await protocol.lost.wait()
        assert protocol.peers == [name, name]
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


def test_server_that_resets_has_its_name_until_the_end(real: EventLoop) -> None:
    async def main() -> None:
        with Listening() as there:
            name = there.sock.getsockname()
            _, protocol = await real.create_connection(Naming, *name)
            accepted, _ = there.sock.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            accepted.close()
            await protocol.lost.wait()
            protocol.peers.append(protocol.transport.get_extra_info("peername"))
            assert protocol.peers == [name] * 3

    real.run_until_complete(main())


# -- kinds of protocols ---------------------------------------------------------------------------


def test_buffered_protocol_of_asyncio_receives_into_its_own_memory(real: EventLoop) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.memory = bytearray(1000)
            self.received = bytearray()
            self.ended = asyncio.Event()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.memory

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.memory[:nbytes]

        def connection_lost(self, exc: Exception | None) -> None:
            self.ended.set()

    async def main() -> None:
        text = bytes(range(256)) * 1000
        made: asyncio.Queue[Buffered] = asyncio.Queue()

        def make() -> Buffered:
            protocol = Buffered()
            made.put_nowait(protocol)
            return protocol

        server = await real.create_server(make, HERE, 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(text)
        writer.close()
        await writer.wait_closed()
        protocol = await made.get()
        await protocol.ended.wait()
        assert protocol.received == text
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


@pytest.mark.parametrize("passes", range(8))
def test_start_tls_may_be_cancelled_at_every_await(real: EventLoop, passes: int) -> None:
    async def main() -> None:
        ends: list[Any] = []
        server = await real.create_server(asyncio.Protocol, HERE, 0, ssl=server_default())
        link, protocol = await real.create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        task = asyncio.ensure_future(
            real.start_tls(link, protocol, client_default(), server_hostname=HOST)
        )
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            ends.append(await task)
        for end in ends:
            end.abort()
        link.abort()
        server.close()
        server.abort_clients()
        await settled(real)

    real.run_until_complete(main())


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        ("127.0.0.1", 80, {}),
        ("127.0.0.1", None, {"type": socket.SOCK_DGRAM}),
        ("::1", 443, {"proto": socket.IPPROTO_TCP, "flags": socket.AI_CANONNAME}),
        ("127.0.0.1", 80, {"family": socket.AF_INET6, "flags": socket.AI_V4MAPPED}),
        ("127.0.0.1", 80, {"family": socket.AF_INET6}),
        ("::1", 80, {"family": socket.AF_INET}),
        ("::1", 2**70, {}),
        ("127.0.0.1", 80, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_UDP}),
        ("127.1", 80, {}),
        ("127.0.0.1", "80", {}),
        (b"127.0.0.1", 80, {}),
        (None, 80, {"type": socket.SOCK_STREAM}),
    ],
)
def test_address_is_looked_up_as_the_system_does(
    real: EventLoop, host: Any, port: Any, options: dict[str, Any], debug: bool
) -> None:
    """And in no thread where an address and a number are given."""
    real.set_debug(debug)
    try:
        expected: Any = socket.getaddrinfo(host, port, **options)
    except Exception as error:
        expected = error

    async def main() -> None:
        if isinstance(expected, Exception):
            with pytest.raises(type(expected)) as raised:
                await real.getaddrinfo(host, port, **options)
            assert raised.value.args == expected.args
        else:
            assert await real.getaddrinfo(host, port, **options) == expected
        is_known = isinstance(host, str) and host != "127.1" and not isinstance(port, str)
        executor = real._default_executor  # type: ignore[attr-defined]
        assert (executor is None) is is_known
        await real.shutdown_default_executor()

    real.run_until_complete(main())


def test_names_and_addresses_are_looked_up(real: EventLoop) -> None:
    async def main() -> None:
        infos = await real.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert {info[4] for info in infos} == {("127.0.0.1", 80)}
        infos = await real.getaddrinfo("localhost", "http", proto=socket.IPPROTO_TCP)
        assert {info[4][1] for info in infos} == {80}
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await real.getnameinfo(("127.0.0.1", 80), flags) == ("127.0.0.1", "80")
        with pytest.raises(socket.gaierror):
            await real.getaddrinfo("name.invalid", 80)
        await real.shutdown_default_executor()

    real.run_until_complete(main())


Calls = list[Callable[[], Any]]


def test_connection_refuses_what_cannot_work(real: EventLoop) -> None:
    async def main() -> None:
        create: Any = real.create_connection
        calls: Calls = [
            lambda: create(asyncio.Protocol),
            lambda: create(asyncio.Protocol, HERE, 1, server_hostname="x"),
            lambda: create(asyncio.Protocol, HERE, 1, ssl_handshake_timeout=1),
            lambda: create(asyncio.Protocol, sock=datagram),
            lambda: create(asyncio.Protocol, HERE, 1, sock=datagram),
        ]
        with socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for call in calls:
                with pytest.raises(ValueError, match=r"\w"):
                    await call()

    real.run_until_complete(main())


# -- whose the socket is -------------------------------------------------------------------------


def test_connection_keeps_no_socket_object_that_nobody_has(real: EventLoop) -> None:
    async def main() -> None:
        before = count_connected()
        server = await real.create_server(asyncio.Protocol, HERE, 0)
        host, port = server.sockets[0].getsockname()
        link, _ = await real.create_connection(asyncio.Protocol, host, port)
        await asyncio.sleep(0)  # one pass
        assert count_connected() == before
        number = link._sock_fd
        assert number not in {*real._readers, *real._writers, *real._transports}
        sock = link.get_extra_info("socket")
        assert sock.fileno() == number
        assert sock.getpeername() == (host, port) == link.get_extra_info("peername")
        assert sock.getsockname() == link.get_extra_info("sockname")
        with pytest.raises(RuntimeError, match="is used by transport"):
            real.add_reader(number, print)
        link.close()
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        server.close()

    real.run_until_complete(main())


def test_nor_does_a_connection_with_tls(real: EventLoop) -> None:
    async def main() -> None:
        before = count_connected()
        server = await real.create_server(asyncio.Protocol, HERE, 0, ssl=server_default())
        link, _ = await real.create_connection(
            asyncio.Protocol,
            *server.sockets[0].getsockname(),
            ssl=client_default(),
            server_hostname=HOST,
        )
        await asyncio.sleep(0)  # one pass
        assert count_connected() == before
        assert not {*real._readers, *real._writers, *real._transports}
        sock = link.get_extra_info("socket")
        assert sock.getpeername() == link.get_extra_info("peername")
        link.abort()
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        server.close()
        server.close_clients()

    real.run_until_complete(main())


class Collector(asyncio.Protocol):
    """Keeps what comes."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.heard = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.heard.set()


def count_connected() -> int:
    """Return how many connected sockets are Python objects."""
    count = 0
    for each in gc.get_objects():
        if type(each) is socket.socket and each.fileno() >= 0:
            with contextlib.suppress(OSError):
                each.getpeername()
                count += 1
    return count


@pytest.mark.parametrize("function", ["_forget", "detach"])
def test_interrupt_while_the_socket_is_let_go_costs_no_connection(
    real: EventLoop, function: str
) -> None:
    """A handler of Python's runs when a function written in Python begins."""
    protocol = Collector()
    near, far = socket.socketpair()
    near.setblocking(False)
    number = near.fileno()
    box = [near]
    del near

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name == function:
            sys.setprofile(None)
            raise KeyboardInterrupt

    async def main() -> None:
        await real.create_connection(lambda: protocol, sock=box.pop())
        sys.setprofile(interrupt)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sys.setprofile(None)

    with contextlib.suppress(KeyboardInterrupt):
        real.run_until_complete(main())
    sys.setprofile(None)
    os.fstat(number)
    far.send(b"hello")
    real.run_until_complete(protocol.heard.wait())
    assert protocol.data == b"hello"
    protocol.transport.abort()
    real.run_until_complete(asyncio.sleep(0))
    far.close()


def test_socket_that_its_maker_keeps_stays_his_until_the_end(real: EventLoop) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        one.setblocking(False)
        link, _ = await real.create_connection(asyncio.Protocol, sock=one)
        await asyncio.sleep(0)
        assert one.fileno() == link.get_extra_info("socket").fileno() >= 0
        link.close()
        await asyncio.sleep(0)
        assert one.fileno() == -1
        two.close()

    real.run_until_complete(main())


def test_socket_that_is_watched_over_weakly_is_not_taken_away(real: EventLoop) -> None:
    async def main() -> None:
        pair = [*socket.socketpair()]
        pair[0].setblocking(False)
        watched = weakref.ref(pair[0])
        link, _ = await real.create_connection(asyncio.Protocol, sock=pair.pop(0))
        await asyncio.sleep(0)
        sock = watched()
        assert sock is not None
        assert sock.fileno() >= 0
        link.close()
        await asyncio.sleep(0)
        pair[0].close()

    real.run_until_complete(main())


@pytest.mark.parametrize("debug", [False, True])
def test_file_is_sent_over_a_connection_without_a_socket_object(
    real: EventLoop, tmp_path: Path, debug: bool
) -> None:
    content = bytes(range(256)) * 400
    path = tmp_path / "file"
    path.write_bytes(content)
    real.set_debug(debug)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with path.open("rb") as file:
            assert await real.sendfile(writer.transport, file, fallback=False) == len(content)
        assert await reader.readexactly(len(content)) == content
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HERE, 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with path.open("rb") as file:
            assert await reader.readexactly(len(content)) == content
            assert await real.sendfile(writer.transport, file, fallback=False) == len(content)
        assert not await reader.read()
        writer.close()
        server.close()

    real.run_until_complete(main())

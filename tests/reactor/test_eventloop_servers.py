"""Servers of the event loop, over TCP and UNIX sockets: what asyncio's own promise."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import resource
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.transports.stream import StreamTransport
from tests.reactor.recorder import Recorder
from tests.reactor.transports.tls_ends import HOST, client_default, server_default

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="UNIX sockets and resources")

HERE = "127.0.0.1"
KINDS = ("tcp", "unix")


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Site:
    """A server of either kind, and how to connect to it."""

    def __init__(self, loop: EventLoop, kind: str, path: Path) -> None:
        self.loop = loop
        self.kind = kind
        self.path = path
        self.server: Any = None

    async def up(self, factory: Any = Echo, **options: Any) -> asyncio.Server:
        if self.kind == "unix":
            self.server = await self.loop.create_unix_server(factory, self.path, **options)
        else:
            self.server = await self.loop.create_server(factory, HERE, 0, **options)
            self.address = self.server.sockets[0].getsockname()
        return self.server  # type: ignore[no-any-return]

    async def open(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.kind == "unix":
            return await asyncio.open_unix_connection(str(self.path), **options)
        return await asyncio.open_connection(*self.address, **options)

    async def down(self) -> None:
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, real: EventLoop, tmp_path: Path) -> Site:
    return Site(real, request.param, tmp_path / "socket")


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Send *data*, end, and return all that comes back."""
    writer.write(data)
    if writer.can_write_eof():
        writer.write_eof()
        answer = await reader.read()
    else:
        answer = await reader.readexactly(len(data))
    writer.close()
    await writer.wait_closed()
    return answer


# -- serving ------------------------------------------------------------------------------------


def test_server_serves_on_our_own_transports(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        made: asyncio.Queue[Any] = asyncio.Queue()

        class Noting(Echo):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                made.put_nowait(transport)

        await site.up(Noting)
        reader, writer = await site.open()
        assert type(writer.transport) is StreamTransport
        assert type(await made.get()) is StreamTransport
        assert await say(reader, writer, b"x" * 300_000) == b"x" * 300_000
        await site.down()

    real.run_until_complete(main())


def test_server_serves_over_tls(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        await site.up(ssl=server_default(), ssl_handshake_timeout=10, ssl_shutdown_timeout=10)
        reader, writer = await site.open(ssl=client_default(), server_hostname=HOST)
        assert await say(reader, writer, b"sealed") == b"sealed"
        await site.down()

    real.run_until_complete(main())


def test_server_that_was_not_started_refuses_until_it_is(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        server = await site.up(start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await site.open()
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        assert await say(*await site.open(), b"now") == b"now"
        await site.down()
        assert not server.is_serving()
        assert server.sockets == ()

    real.run_until_complete(main())


def test_serve_forever_ends_with_its_task_and_closes_the_server(
    real: EventLoop, site: Site
) -> None:
    async def main() -> None:
        server = await site.up(start_serving=False)
        task = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        assert await say(*await site.open(), b"x") == b"x"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()
        with pytest.raises(RuntimeError, match="closed"):
            await server.serve_forever()

    real.run_until_complete(main())


def test_server_is_closed_at_the_end_of_its_block(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        async with await site.up() as server:
            assert await say(*await site.open(), b"x") == b"x"
        assert not server.is_serving()
        assert server.get_loop() is real

    real.run_until_complete(main())


def test_backlog_is_handed_to_the_system(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        await site.up(backlog=1, start_serving=False)
        sock = site.server.sockets[0]._sock
        sock.listen(1)
        address = sock.getsockname()
        waiting = []
        with contextlib.ExitStack() as stack:
            for _ in range(2):  # one more than the backlog; then the kernel has no room
                waiting.append(stack.enter_context(socket.socket(sock.family)))
                waiting[-1].connect(address)
            late = stack.enter_context(socket.socket(sock.family))
            late.setblocking(False)
            with pytest.raises(BlockingIOError):
                late.connect(address)
            await site.server.start_serving()  # listens again with the backlog that was given
            with contextlib.suppress(BlockingIOError):
                late.connect(address)
        await site.down()

    real.run_until_complete(main())


def test_closed_server_waits_for_its_connections(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        await site.up()
        reader, writer = await site.open()
        writer.write(b"x")
        await reader.readexactly(1)
        site.server.close()
        closed = asyncio.ensure_future(site.server.wait_closed())
        writer.write(b"still served")
        assert await reader.readexactly(12) == b"still served"
        if sys.version_info >= (3, 12, 1):
            assert not closed.done()
        writer.close()
        await writer.wait_closed()
        await closed

    real.run_until_complete(main())


# -- its clients --------------------------------------------------------------------------------


def test_close_clients_sends_what_was_written_and_closes(real: EventLoop, site: Site) -> None:
    big = b"x" * 5_000_000

    class Pouring(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(big)

    async def main() -> None:
        await site.up(Pouring)
        links = [await site.open() for _ in range(3)]
        for reader, _ in links:
            assert await reader.readexactly(1) == b"x"
        site.server.close()
        site.server.close_clients()
        for reader, writer in links:
            assert await reader.read() == big[1:]
            writer.close()
            await writer.wait_closed()
        await site.server.wait_closed()

    real.run_until_complete(main())


def test_abort_clients_discards_what_was_written(real: EventLoop, site: Site) -> None:
    big = b"x" * 50_000_000

    class Pouring(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(big)

    async def main() -> None:
        await site.up(Pouring)
        reader, writer = await site.open()
        assert await reader.readexactly(1) == b"x"
        site.server.close()
        site.server.abort_clients()
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = await reader.read()
        assert len(rest) < len(big) - 1
        writer.transport.abort()
        await site.server.wait_closed()

    real.run_until_complete(main())


def test_clients_that_have_gone_are_closed_no_more(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        await site.up()
        assert await say(*await site.open(), b"x") == b"x"
        site.server.close_clients()
        site.server.abort_clients()
        assert await say(*await site.open(), b"y") == b"y"
        await site.down()
        site.server.close_clients()

    real.run_until_complete(main())


def test_close_clients_ends_tls_in_good_order(real: EventLoop, site: Site) -> None:
    async def main() -> None:
        await site.up(ssl=server_default())
        reader, writer = await site.open(ssl=client_default(), server_hostname=HOST)
        writer.write(b"x")
        await reader.readexactly(1)
        site.server.close()
        site.server.close_clients()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await site.server.wait_closed()

    real.run_until_complete(main())


# -- addresses ----------------------------------------------------------------------------------


def test_server_listens_on_every_host_it_is_given(real: EventLoop) -> None:
    async def main() -> None:
        server = await real.create_server(Echo, [HERE, "127.0.0.2", HERE], 0)
        addresses = [sock.getsockname() for sock in server.sockets]
        assert {host for host, _ in addresses} == {HERE, "127.0.0.2"}
        assert len(addresses) == 2
        for address in addresses:
            assert await say(*await asyncio.open_connection(*address), b"x") == b"x"
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


def test_server_on_no_host_listens_on_both_families(real: EventLoop) -> None:
    async def main() -> None:
        server = await real.create_server(Echo, None, 0)
        families = {sock.family for sock in server.sockets}
        assert socket.AF_INET in families
        for sock in server.sockets:
            host = HERE if sock.family == socket.AF_INET else "::1"
            port = sock.getsockname()[1]
            assert await say(*await asyncio.open_connection(host, port), b"x") == b"x"
        server.close()
        await server.wait_closed()
        await real.shutdown_default_executor()

    real.run_until_complete(main())


def test_port_is_shared_only_by_servers_that_say_so(real: EventLoop) -> None:
    async def main() -> None:
        one = await real.create_server(Echo, HERE, 0, reuse_port=True)
        port = one.sockets[0].getsockname()[1]
        two = await real.create_server(Echo, HERE, port, reuse_port=True)
        for server in (one, two):
            sock = server.sockets[0]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        with pytest.raises(OSError, match="address already in use") as caught:
            await real.create_server(Echo, HERE, port)
        assert caught.value.errno == errno.EADDRINUSE
        assert await say(*await asyncio.open_connection(HERE, port), b"x") == b"x"
        for server in (one, two):
            server.close()
            await server.wait_closed()

    real.run_until_complete(main())


def test_port_is_free_again_right_after_its_connections(real: EventLoop) -> None:
    async def main() -> None:
        port = 0
        for _ in range(2):  # the first one's connection is in TIME_WAIT then: reuse_address
            server = await real.create_server(Echo, HERE, port)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(HERE, port)
            writer.write(b"x")
            await reader.readexactly(1)
            server.close()
            server.close_clients()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            await server.wait_closed()

    real.run_until_complete(main())


def test_server_takes_a_socket_that_is_bound_already(real: EventLoop, tmp_path: Path) -> None:
    async def main() -> None:
        tcp = socket.create_server((HERE, 0))
        server = await real.create_server(Echo, sock=tcp)
        assert await say(*await asyncio.open_connection(*tcp.getsockname()), b"x") == b"x"
        server.close()
        await server.wait_closed()
        assert tcp.fileno() == -1
        path = str(tmp_path / "socket")
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        server = await real.create_unix_server(Echo, sock=unix)
        assert await say(*await asyncio.open_unix_connection(path), b"x") == b"x"
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


def test_server_whose_socket_somebody_closed_takes_nothing_from_its_successor(
    real: EventLoop,
) -> None:
    async def main() -> None:
        sock = socket.create_server((HERE, 0))
        server = await real.create_server(Echo, sock=sock)
        number = sock.fileno()
        sock.close()
        one, two = socket.socketpair()
        assert one.fileno() == number
        with two:
            reader, writer = await asyncio.open_connection(sock=one)
            server.close()
            await server.wait_closed()
            two.send(b"heard")
            assert await reader.readexactly(5) == b"heard"
            writer.close()
            await writer.wait_closed()

    real.run_until_complete(main())


def test_server_on_a_closed_socket_is_refused(real: EventLoop) -> None:
    async def main() -> None:
        sock = socket.create_server((HERE, 0))
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await real.create_server(Echo, sock=sock)

    real.run_until_complete(main())


def test_server_refuses_what_cannot_work(real: EventLoop) -> None:
    async def main() -> None:
        calls: list[tuple[type[Exception], Any]] = [
            (ValueError, lambda: real.create_server(Echo)),
            (TypeError, lambda: real.create_server(Echo, HERE, 0, ssl=True)),
            (ValueError, lambda: real.create_server(Echo, HERE, 0, ssl_handshake_timeout=1)),
            (ValueError, lambda: real.create_unix_server(Echo)),
            (TypeError, lambda: real.create_unix_server(Echo, "x", ssl=True)),
        ]
        for kind, call in calls:
            with pytest.raises(kind):
                await call()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as sock,
            pytest.raises(ValueError, match="Stream Socket was expected"),
        ):
            await real.create_server(Echo, sock=sock)

    real.run_until_complete(main())


# -- UNIX paths -----------------------------------------------------------------------------------


def test_path_of_a_server_that_died_is_taken_over(real: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
        server = await real.create_unix_server(Echo, path)
        assert await say(*await asyncio.open_unix_connection(str(path)), b"x") == b"x"
        server.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)
        path.write_text("a file")
        with pytest.raises(OSError, match="already in use"):
            await real.create_unix_server(Echo, path)

    real.run_until_complete(main())
    assert path.read_text() == "a file"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio leaves it there before 3.13")
def test_path_is_removed_when_its_server_closes(real: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        for keeps, left in ((False, False), (True, True)):
            server = await real.create_unix_server(
                Echo,
                path,
                cleanup_socket=not keeps,  # type: ignore[call-arg,unused-ignore]
            )
            server.close()
            await server.wait_closed()
            assert path.exists() is left

    real.run_until_complete(main())


def test_abstract_unix_address_is_served(real: EventLoop) -> None:
    name = f"\0cyreactor-test-{id(real)}"

    async def main() -> None:
        server = await real.create_unix_server(Echo, name)
        assert await say(*await asyncio.open_unix_connection(name), b"x") == b"x"
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


def test_half_closed_unix_connection_carries_the_other_direction(
    real: EventLoop, tmp_path: Path
) -> None:
    async def main() -> None:
        ended, lost = asyncio.Event(), asyncio.Event()
        made = Recorder(
            keeps_open=True,
            eof_received=lambda _: ended.set(),
            connection_lost=lambda _: lost.set(),
        )
        server = await real.create_unix_server(lambda: made, tmp_path / "socket")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "socket"))
        writer.write(b"question")
        writer.write_eof()
        await ended.wait()
        assert made.data == b"question"
        made.link.write(b"answer")
        made.link.write_eof()
        assert await reader.read() == b"answer"
        made.link.close()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await lost.wait()

    real.run_until_complete(main())


# -- descriptors run out ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the lowest free number is known on Linux")
def test_server_out_of_descriptors_rests_and_goes_on(
    real: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    real.set_exception_handler(lambda _, context: reports.put_nowait(context))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        server = await real.create_server(Echo, HERE, 0)
        with socket.socket() as client:
            client.setblocking(False)
            lowest = client.fileno() + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                await real.sock_connect(client, server.sockets[0].getsockname())
                report = await reports.get()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert report["exception"].errno == errno.EMFILE
            assert report["message"] == "socket.accept() out of system resource"
            await real.sock_sendall(client, b"x")
            assert await real.sock_recv(client, 1) == b"x"  # after the second it rests
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())


@pytest.mark.parametrize("secure", [False, True])
def test_connections_have_a_copy_each_of_the_context_of_who_began_to_serve(
    real: EventLoop, secure: bool
) -> None:
    owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="nobody")
    seen: list[tuple[str, str]] = []
    lost = 0

    class Server(asyncio.Protocol):
        def __init__(self) -> None:
            seen.append(("factory", owner.get()))
            owner.set("factory")

        def connection_made(self, transport: Any) -> None:
            seen.append(("made", owner.get()))
            owner.set("connection")
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            seen.append(("received", owner.get()))
            self.transport.close()

        def connection_lost(self, exc: Any) -> None:
            nonlocal lost
            seen.append(("lost", owner.get()))
            lost += 1
            if lost == 2:
                done.set_result(None)

    async def serve() -> Any:
        owner.set("whoever serves")
        tls = server_default() if secure else None
        return await real.create_server(Server, "127.0.0.1", 0, ssl=tls)

    async def main() -> None:
        server = await asyncio.create_task(serve())
        tls = client_default() if secure else None
        for _ in range(2):
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=tls, server_hostname=HOST if secure else None
            )
            writer.write(b"x")
            await writer.drain()
            writer.close()
        await done
        server.close()
        assert owner.get() == "nobody"

    done = real.create_future()
    real.run_until_complete(main())
    assert sorted(seen) == sorted(
        [("factory", "whoever serves"), ("made", "factory"), ("received", "connection"),
         ("lost", "connection")] * 2
    )  # fmt: skip

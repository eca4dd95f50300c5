"""Sockets that others own, and datagrams: the sock_* methods, sendfile, UDP endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sockets of POSIX systems")

HERE = "127.0.0.1"
TEXT = bytes(range(256)) * 4096  # 1 MiB


def unblocked(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield unblocked(one), unblocked(two)


def bound(kind: int = socket.SOCK_DGRAM) -> socket.socket:
    sock = unblocked(socket.socket(type=kind))
    sock.bind((HERE, 0))
    return sock


# -- streams -------------------------------------------------------------------------------------


def test_socket_connects_accepts_sends_and_receives(real: EventLoop) -> None:
    async def main() -> None:
        with bound(socket.SOCK_STREAM) as listener, socket.socket() as client:
            listener.listen()
            accepting = asyncio.ensure_future(real.sock_accept(listener))
            await real.sock_connect(unblocked(client), listener.getsockname())
            server, address = await accepting
            with server:
                assert address == client.getsockname()
                assert server.gettimeout() == 0
                sending = asyncio.ensure_future(real.sock_sendall(client, TEXT))
                received = bytearray()
                while len(received) < len(TEXT):
                    received += await real.sock_recv(server, 100_000)
                await sending
                assert received == TEXT
                buffer = bytearray(10)
                waiting = asyncio.ensure_future(real.sock_recv_into(server, buffer))
                await asyncio.sleep(0)
                await real.sock_sendall(client, b"end")
                assert await waiting == 3
                assert buffer[:3] == b"end"
                client.shutdown(socket.SHUT_WR)
                assert await real.sock_recv(server, 10) == b""

    real.run_until_complete(main())


def test_socket_that_is_refused_says_so(real: EventLoop) -> None:
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        address = sock.getsockname()

    async def main() -> None:
        with unblocked(socket.socket()) as client, pytest.raises(ConnectionRefusedError):
            await real.sock_connect(client, address)

    real.run_until_complete(main())


def test_socket_connects_by_name(real: EventLoop) -> None:
    async def main() -> None:
        with bound(socket.SOCK_STREAM) as listener, unblocked(socket.socket()) as client:
            listener.listen()
            await real.sock_connect(client, ("localhost", listener.getsockname()[1]))
            assert client.getpeername() == listener.getsockname()
        await real.shutdown_default_executor()

    real.run_until_complete(main())


def test_file_is_sent_through_a_socket(real: EventLoop, sockets: Any, tmp_path: Path) -> None:
    one, two = sockets
    path = tmp_path / "file"
    path.write_bytes(TEXT)

    async def receive(size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            received += await real.sock_recv(two, 100_000)
        return bytes(received)

    async def main() -> None:
        with path.open("rb") as file:
            sending = asyncio.ensure_future(real.sock_sendfile(one, file, fallback=False))
            assert await receive(len(TEXT)) == TEXT
            assert await sending == len(TEXT)
            assert await real.sock_sendfile(one, file, 100, 50) == 50
            assert file.tell() == 150
            assert await receive(50) == TEXT[100:150]

    real.run_until_complete(main())


def test_what_is_no_file_is_sent_in_pieces(real: EventLoop, sockets: Any) -> None:
    one, two = sockets

    async def main() -> None:
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await real.sock_sendfile(one, io.BytesIO(b"x"), fallback=False)
        assert await real.sock_sendfile(one, io.BytesIO(b"memory")) == 6
        assert await real.sock_recv(two, 10) == b"memory"
        await real.shutdown_default_executor()

    real.run_until_complete(main())


def test_transport_sends_a_file(real: EventLoop, sockets: Any, tmp_path: Path) -> None:
    one, two = sockets
    path = tmp_path / "file"
    path.write_bytes(TEXT)

    async def main() -> None:
        reader, writer = await asyncio.open_connection(sock=two)
        link, _ = await real.create_connection(asyncio.Protocol, sock=one)
        reading = asyncio.ensure_future(reader.read())
        with path.open("rb") as file:
            assert await real.sendfile(link, file, 10) == len(TEXT) - 10
        link.close()
        assert await reading == TEXT[10:]
        writer.close()
        await writer.wait_closed()

    real.run_until_complete(main())


@pytest.mark.parametrize("what", ["recv", "recv_into", "sendall", "accept", "connect", "sendfile"])
def test_cancelled_call_watches_the_socket_no_more(
    real: EventLoop, sockets: Any, tmp_path: Path, what: str
) -> None:
    one, _ = sockets
    path = tmp_path / "file"
    path.write_bytes(TEXT)

    async def main() -> None:
        call: Any
        with contextlib.ExitStack() as stack:
            if what == "recv":
                call = real.sock_recv(one, 10)
            elif what == "recv_into":
                call = real.sock_recv_into(one, bytearray(10))
            elif what == "sendall":
                call = real.sock_sendall(one, TEXT * 10)
            elif what == "accept":
                listener = stack.enter_context(bound(socket.SOCK_STREAM))
                listener.listen()
                call = real.sock_accept(listener)
            elif what == "sendfile":
                file = stack.enter_context(path.open("rb"))
                call = real.sock_sendfile(one, file, fallback=False)
            else:
                full = stack.enter_context(bound(socket.SOCK_STREAM))
                full.listen(0)
                stack.enter_context(socket.create_connection(full.getsockname()))
                client = stack.enter_context(unblocked(socket.socket()))
                call = real.sock_connect(client, full.getsockname())
            task = asyncio.ensure_future(call)
            for _ in range(3):
                await asyncio.sleep(0)
            assert real.stats()["live_ops"] == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert real.stats()["live_ops"] == 0

    real.run_until_complete(main())


def test_blocking_socket_is_refused_in_debug_mode(real: EventLoop) -> None:
    real.set_debug(True)

    async def main() -> None:
        with socket.socket() as sock:
            calls: list[Any] = [
                lambda: real.sock_recv(sock, 1),
                lambda: real.sock_recv_into(sock, bytearray(1)),
                lambda: real.sock_recvfrom(sock, 1),
                lambda: real.sock_recvfrom_into(sock, bytearray(1)),
                lambda: real.sock_sendall(sock, b"x"),
                lambda: real.sock_sendto(sock, b"x", (HERE, 1)),
                lambda: real.sock_accept(sock),
                lambda: real.sock_connect(sock, (HERE, 1)),
            ]
            for call in calls:
                with pytest.raises(ValueError, match="must be non-blocking"):
                    await call()

    real.run_until_complete(main())


# -- datagram sockets ------------------------------------------------------------------------------


def test_datagrams_are_sent_and_received_with_addresses(real: EventLoop) -> None:
    async def main() -> None:
        with bound() as one, bound() as two:
            waiting = asyncio.ensure_future(real.sock_recvfrom(two, 100))
            await asyncio.sleep(0)
            assert await real.sock_sendto(one, b"hello", two.getsockname()) == 5
            assert await waiting == (b"hello", one.getsockname())
            buffer = bytearray(10)
            filling = asyncio.ensure_future(real.sock_recvfrom_into(two, buffer))
            await asyncio.sleep(0)
            await real.sock_sendto(one, b"again", two.getsockname())
            assert await filling == (5, one.getsockname())
            assert buffer[:5] == b"again"
            await real.sock_sendto(one, b"short", two.getsockname())
            assert await real.sock_recvfrom_into(two, buffer, 2) == (2, one.getsockname())

    real.run_until_complete(main())


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.calls: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set()


async def ended(*protocols: Datagrams) -> None:
    for protocol in protocols:
        protocol.transport.close()
        await protocol.lost.wait()
        assert protocol.calls == ["made", "lost"]


def test_udp_endpoints_talk(real: EventLoop) -> None:
    async def main() -> None:
        _, server = await real.create_datagram_endpoint(Datagrams, (HERE, 0))
        address = server.transport.get_extra_info("sockname")
        _, client = await real.create_datagram_endpoint(Datagrams, remote_addr=address)
        client.transport.sendto(b"question")
        data, where = await server.received.get()
        assert (data, where) == (b"question", client.transport.get_extra_info("sockname"))
        server.transport.sendto(b"answer", where)
        assert await client.received.get() == (b"answer", address)
        if sys.version_info >= (3, 13):  # before, asyncio sends no empty one
            server.transport.sendto(b"", where)
            assert await client.received.get() == (b"", address)
        with pytest.raises(ValueError, match="Invalid address"):
            client.transport.sendto(b"x", (HERE, 1))
        assert client.transport.get_extra_info("peername") == address
        await ended(client, server)

    real.run_until_complete(main())


def test_every_one_of_many_datagrams_is_handed_up(real: EventLoop) -> None:
    async def main() -> None:
        _, server = await real.create_datagram_endpoint(Datagrams, (HERE, 0))
        _, client = await real.create_datagram_endpoint(
            Datagrams, remote_addr=server.transport.get_extra_info("sockname")
        )
        for batch in range(20):
            for number in range(20):
                client.transport.sendto(b"%d %d" % (batch, number))
            for number in range(20):
                assert (await server.received.get())[0] == b"%d %d" % (batch, number)
        await ended(client, server)

    real.run_until_complete(main())


def test_refused_datagram_is_an_error_received(real: EventLoop) -> None:
    async def main() -> None:
        with bound() as nobody:
            address = nobody.getsockname()
        _, client = await real.create_datagram_endpoint(Datagrams, remote_addr=address)
        for _ in range(3):
            client.transport.sendto(b"anybody?")
            error = await client.errors.get()
            assert isinstance(error, ConnectionRefusedError)
        assert not client.transport.is_closing()
        with bound() as somebody:  # the endpoint is as good as before
            client.transport._sock.connect(somebody.getsockname())
            client.transport.sendto(b"hello")
            assert await real.sock_recv(somebody, 10) == b"hello"
        await ended(client)

    real.run_until_complete(main())


def test_datagrams_that_do_not_fit_wait_and_the_protocol_is_paused(
    real: EventLoop, tmp_path: Path
) -> None:
    """A UNIX datagram socket blocks when its reader is slow, which UDP never does."""

    class Paused(Datagrams):
        def pause_writing(self) -> None:
            self.calls.append("pause")

        def resume_writing(self) -> None:
            self.calls.append("resume")
            resumed.set()

    resumed = asyncio.Event()
    path = str(tmp_path / "socket")

    async def main() -> None:
        with unblocked(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as reader:
            reader.bind(path)
            _, writer = await real.create_datagram_endpoint(
                Paused, remote_addr=path, family=socket.AF_UNIX
            )
            count = 0
            while "pause" not in writer.calls:
                writer.transport.sendto(b"%06d" % count + bytes(1000))
                count += 1
            for number in range(count):
                assert (await real.sock_recv(reader, 2000))[:6] == b"%06d" % number
            if sys.version_info < (3, 13):  # 3.13.0 counts a header that it does not take back
                await resumed.wait()
            writer.transport.abort()
            await writer.lost.wait()

    real.run_until_complete(main())


def test_closed_endpoint_sends_what_waits_first(real: EventLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        with unblocked(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as reader:
            reader.bind(path)
            _, writer = await real.create_datagram_endpoint(
                Datagrams, remote_addr=path, family=socket.AF_UNIX
            )
            count = 0
            while not writer.transport.get_write_buffer_size():
                writer.transport.sendto(b"%06d" % count)
                count += 1
            writer.transport.close()
            for number in range(count):
                assert await real.sock_recv(reader, 10) == b"%06d" % number
            await writer.lost.wait()

    real.run_until_complete(main())


def test_endpoint_takes_a_socket_and_options(real: EventLoop) -> None:
    async def main() -> None:
        sock = bound()
        _, given = await real.create_datagram_endpoint(Datagrams, sock=sock)
        assert given.transport.get_extra_info("sockname") == sock.getsockname()
        _, shared = await real.create_datagram_endpoint(
            Datagrams, (HERE, 0), reuse_port=True, allow_broadcast=True
        )
        options = shared.transport.get_extra_info("socket")
        assert options.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert options.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        _, second = await real.create_datagram_endpoint(
            Datagrams, shared.transport.get_extra_info("sockname"), reuse_port=True
        )
        await ended(given, shared, second)
        with pytest.raises(ValueError, match="unexpected address family"):
            await real.create_datagram_endpoint(Datagrams)

    real.run_until_complete(main())


# -- threads ---------------------------------------------------------------------------------------


def test_loop_of_another_thread_serves_as_well() -> None:
    answers: list[bytes] = []

    def run() -> None:
        async def main() -> None:
            server = await asyncio.start_server(echo, HERE, 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            answers.append(await reader.readexactly(5))
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(5))
            writer.close()
            await writer.wait_closed()

        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(main())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"hello"] * 3

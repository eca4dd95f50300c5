"""TLS as an event loop offers it: start_tls, asyncio's streams, peers that are not ours."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from reactor.eventloop import EventLoop
from reactor.pollers import new_poller
from reactor.testing import pair
from tests.reactor.transports.tls_ends import (
    HOST,
    LARGE,
    Recorder,
    Wire,
    client_default,
    opened,
    server_default,
)

# -- TLS begun later, and TLS inside of TLS --------------------------------------------


def test_tls_begins_on_an_open_connection(loop: EventLoop) -> None:
    async def main() -> None:
        one, two = Recorder(loop), Recorder(loop)
        raw_one, raw_two = pair(loop, one, two)
        raw_one.write(b"STARTTLS")
        await two.receive(8)
        upgraded = await asyncio.gather(
            loop.start_tls(raw_one, one, client_default(), server_hostname=HOST),
            loop.start_tls(raw_two, two, server_default(), server_side=True),
        )
        assert one.transport is upgraded[0]
        upgraded[0].write(b"secret")
        assert await two.receive(6) == b"secret"
        upgraded[1].close()
        assert await one.lost is None
        assert await two.lost is None
        assert one.calls == ["made", "eof", "lost"]

    loop.run_until_complete(main())


def test_tls_inside_of_tls(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        outer = client.transport, server.transport
        inner = await asyncio.gather(
            loop.start_tls(outer[0], client.protocol, client_default(), server_hostname=HOST),
            loop.start_tls(outer[1], server.protocol, server_default(), server_side=True),
        )
        inner[0].write(LARGE)
        assert await server.protocol.receive(len(LARGE)) == LARGE
        inner[1].write(b"short")
        assert await client.protocol.receive(5) == b"short"
        assert inner[0].get_extra_info("ssl_object") is not outer[0].get_extra_info("ssl_object")
        inner[0].close()
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None

    loop.run_until_complete(main())


def test_start_tls_that_fails_tells_the_protocol(loop: EventLoop) -> None:
    async def main() -> None:
        one, two = Recorder(loop), Recorder(loop)
        raw_one, raw_two = pair(loop, one, two)
        await asyncio.sleep(0)
        results = await asyncio.gather(
            loop.start_tls(raw_one, one, client_default(), server_hostname="other.example"),
            loop.start_tls(raw_two, two, server_default(), server_side=True),
            return_exceptions=True,
        )
        assert isinstance(results[0], ssl.SSLCertVerificationError)
        assert isinstance(results[1], ssl.SSLError)
        assert await one.lost is results[0]
        assert await two.lost is results[1]

    loop.run_until_complete(main())


def test_start_tls_that_is_cancelled_closes_the_connection(loop: EventLoop) -> None:
    async def main() -> None:
        one, two = Recorder(loop), Recorder(loop)
        raw_one, _ = pair(loop, one, two)
        await asyncio.sleep(0)
        task = loop.create_task(
            loop.start_tls(raw_one, one, client_default(), server_hostname=HOST)
        )
        await two.receive(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await one.lost
        await two.lost

    loop.run_until_complete(main())


def test_start_tls_refuses_what_cannot_work(loop: EventLoop) -> None:
    async def main() -> None:
        one, two = Recorder(loop), Recorder(loop)
        raw_one, _ = pair(loop, one, two)
        await asyncio.sleep(0)
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(raw_one, one, None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not supported"):
            await loop.start_tls(Wire(), one, client_default())
        raw_one.close()
        with pytest.raises(ConnectionAbortedError, match="closing"):
            await loop.start_tls(raw_one, one, client_default(), server_hostname=HOST)
        await one.lost
        await two.lost

    loop.run_until_complete(main())


def test_protocol_that_was_paused_before_start_tls_is_resumed(loop: EventLoop) -> None:
    async def main() -> None:
        one, two = Recorder(loop), Recorder(loop)
        raw_one, raw_two = pair(loop, one, two)
        await asyncio.sleep(0)
        raw_two.pause_reading()
        while "pause" not in one.calls:
            raw_one.write(LARGE[:100_000])
        upgrade = loop.create_task(
            loop.start_tls(raw_one, one, client_default(), server_hostname=HOST)
        )
        await asyncio.sleep(0)
        raw_two.resume_reading()
        await one.resumed.wait()
        upgrade.cancel()
        await one.lost
        await two.lost
        assert one.calls[:3] == ["made", "pause", "resume"]

    loop.run_until_complete(main())


# -- asyncio's surface on real sockets ---------------------------------------------------


@pytest.fixture
def real_loop() -> Iterator[EventLoop]:
    """Return a loop on the machine's best poller."""
    loop = EventLoop(new_poller())
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    assert not any(loop.stats().values())
    loop.close()
    assert reported == []


@pytest.mark.parametrize("tls", [False, True])
def test_same_protocol_serves_tcp_and_tls(real_loop: EventLoop, tls: bool) -> None:
    loop = real_loop

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        serving: list[Echo] = []

        def factory() -> Any:
            serving.append(Echo(loop))
            return serving[-1]

        server = await loop.create_server(
            factory, "127.0.0.1", 0, ssl=server_default() if tls else None
        )
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(
            lambda: cast("Any", Recorder(loop)),
            "127.0.0.1",
            port,
            ssl=client_default() if tls else None,
            server_hostname=HOST if tls else None,
        )
        transport.write(b"hello")
        assert await protocol.receive(5) == b"hello"
        transport.close()
        assert await protocol.lost is None
        assert await serving[0].lost is None
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_create_connection_reports_a_bad_certificate_and_leaves_nothing(
    real_loop: EventLoop,
) -> None:
    loop = real_loop

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_default())
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                asyncio.Protocol, "127.0.0.1", port, ssl=True, server_hostname=HOST
            )
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_peer_that_ends_without_close_notify_gets_all_that_was_written(
    real_loop: EventLoop,
) -> None:
    ended = asyncio.Event()
    received = real_loop.create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await ended.wait()  # until the other end has seen it, with most of its bytes unsent
        received.set_result(await reader.read())
        writer.close()
        with contextlib.suppress(ConnectionError):  # there is no way for our close_notify
            await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_default())
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_default(), server_hostname=HOST
        )
        for _ in range(16):
            writer.write(LARGE)
        assert await reader.read() == b""
        ended.set()
        assert await received == LARGE * 16
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    real_loop.run_until_complete(main())


def test_asyncio_stream_ends_without_close_notify_as_with_it(real_loop: EventLoop) -> None:
    """Code written for asyncio has never been told of the difference."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ragged")
        lower = writer.get_extra_info("socket")
        await reader.readexactly(4)
        lower.shutdown(socket.SHUT_WR)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_default())
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_default(), server_hostname=HOST
        )
        assert await reader.readexactly(6) == b"ragged"
        writer.write(b"now!")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    real_loop.run_until_complete(main())


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port: int, *, upgrade: bool = False) -> None:
    """Send a megabyte to an echo server and compare what comes back."""
    if upgrade:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"TLS\n")
        assert await reader.readline() == b"OK\n"
        await writer.start_tls(client_default(), server_hostname=HOST)
    else:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_default(), server_hostname=HOST
        )

    async def send() -> None:
        for at in range(0, len(LARGE), 50_000):
            writer.write(LARGE[at : at + 50_000])
            await writer.drain()

    sending = asyncio.ensure_future(send())
    assert await reader.readexactly(len(LARGE)) == LARGE
    await sending
    writer.close()
    await writer.wait_closed()


async def serve(asked: Callable[[int], Any], *, upgrade: bool = False) -> None:
    """Serve an echo while *asked*, a coroutine function, runs with the port."""
    handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if upgrade:
                assert await reader.readline() == b"TLS\n"
                writer.write(b"OK\n")
                await writer.start_tls(server_default())
            await echo_stream(reader, writer)
        finally:
            handled.set_result(None)

    server = await asyncio.start_server(
        handle, "127.0.0.1", 0, ssl=None if upgrade else server_default()
    )
    await asked(server.sockets[0].getsockname()[1])
    await handled
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("upgrade", [False, True])
def test_streams_of_asyncio_work_over_tls(real_loop: EventLoop, upgrade: bool) -> None:
    real_loop.run_until_complete(serve(lambda port: ask(port, upgrade=upgrade), upgrade=upgrade))


def ask_without_waiting(port: int) -> bytes:
    """Ask for TLS and begin it in the same segment; return what is echoed over it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_default().wrap_bio(incoming, outgoing, server_hostname=HOST)
    with socket.create_connection(("127.0.0.1", port), 20) as raw:
        unsealed = b"TLS\n"
        for step in (tls.do_handshake, lambda: tls.write(b"ping"), lambda: tls.read(10)):
            while True:
                try:
                    result = step()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(unsealed + outgoing.read())
                    unsealed = b""
                    incoming.write(raw.recv(65_536))
            raw.sendall(outgoing.read())
        assert isinstance(result, bytes)
        return result


def test_hello_that_a_reader_has_received_already_begins_the_handshake(
    real_loop: EventLoop,
) -> None:
    echoed: asyncio.Future[None] = real_loop.create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"TLS\n"
        assert reader._buffer  # type: ignore[attr-defined] # or it shows nothing
        await writer.start_tls(server_default())
        writer.write(await reader.read(10))
        with contextlib.suppress(ssl.SSLError):  # the client leaves without close_notify
            await reader.read()
        writer.close()
        echoed.set_result(None)

    async def main() -> bytes:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pong = await real_loop.run_in_executor(None, ask_without_waiting, port)
            await echoed
            return pong

    assert real_loop.run_until_complete(main()) == b"ping"


@pytest.mark.parametrize("early", [b"", b"\x16\x03\x01"])
def test_start_tls_after_the_clients_end_fails_at_once(real_loop: EventLoop, early: bytes) -> None:
    failed: asyncio.Future[BaseException] = real_loop.create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"TLS\n"
        while not reader._eof:  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(0)
        try:
            await writer.start_tls(server_default(), ssl_handshake_timeout=20)
        except OSError as error:
            failed.set_result(error)
        writer.close()

    async def main() -> BaseException:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            with socket.create_connection(server.sockets[0].getsockname(), 20) as raw:
                raw.sendall(b"TLS\n" + early)
                raw.shutdown(socket.SHUT_WR)
                return await failed

    error = real_loop.run_until_complete(main())
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, TimeoutError)


def test_reader_that_was_full_before_start_tls_is_not_flooded_after(real_loop: EventLoop) -> None:
    limit = 200  # a hello is more than twice that
    most: asyncio.Future[int] = real_loop.create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader._paused:  # type: ignore[attr-defined] # noqa: ASYNC110 # it has the hello
            await asyncio.sleep(0)
        await writer.start_tls(server_default())
        buffered = 0
        for _ in range(20_000):  # in which a flood would come
            await asyncio.sleep(0)
            buffered = max(buffered, len(reader._buffer))  # type: ignore[attr-defined]
        most.set_result(buffered)
        writer.transport.abort()

    def flood(port: int) -> None:
        raw = socket.create_connection(("127.0.0.1", port), 20)
        with (
            contextlib.suppress(OSError),
            client_default().wrap_socket(raw, server_hostname=HOST) as tls,
        ):
            for _ in range(8):
                tls.sendall(LARGE)

    async def main() -> int:
        async with await asyncio.start_server(handle, "127.0.0.1", 0, limit=limit) as server:
            port = server.sockets[0].getsockname()[1]
            flooding = real_loop.run_in_executor(None, flood, port)
            buffered = await most
            await flooding
            return buffered

    assert real_loop.run_until_complete(main()) < len(LARGE) // 2


@pytest.mark.parametrize("upgrade", [False, True])
def test_stock_asyncio_is_a_client_of_ours(real_loop: EventLoop, upgrade: bool) -> None:
    def in_thread(port: int) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(ask(port, upgrade=upgrade))

    real_loop.run_until_complete(
        serve(lambda port: real_loop.run_in_executor(None, in_thread, port), upgrade=upgrade)
    )


@pytest.mark.parametrize("upgrade", [False, True])
def test_stock_asyncio_is_a_server_of_ours(real_loop: EventLoop, upgrade: bool) -> None:
    async def ask_from_here(port: int) -> None:
        asked = asyncio.run_coroutine_threadsafe(ask(port, upgrade=upgrade), real_loop)
        await asyncio.wrap_future(asked)

    def in_thread() -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve(ask_from_here, upgrade=upgrade))

    async def main() -> None:
        await real_loop.run_in_executor(None, in_thread)

    real_loop.run_until_complete(main())


def test_blocking_client_sees_our_close_notify(real_loop: EventLoop) -> None:
    """A socket that does not suppress ragged ends tells the two apart."""

    def in_thread(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            client_default().wrap_socket(
                raw, server_hostname=HOST, suppress_ragged_eofs=False
            ) as sock,
        ):
            sock.sendall(b"x" * 100)
            got = b""
            while len(got) < 100:
                got += sock.recv(1000)
            sock.unwrap().close()
            return got

    async def asked(port: int) -> None:
        assert await real_loop.run_in_executor(None, in_thread, port) == b"x" * 100

    real_loop.run_until_complete(serve(asked))


# -- what OpenSSL's own client can do and Python cannot ------------------------------------


def s_client(port: int, version: str, command: bytes) -> bytes:
    """Talk to an echo server with ``openssl s_client``; *command* is one of its letters."""
    program = shutil.which("openssl")
    assert program is not None
    client = subprocess.Popen(
        [program, "s_client", "-connect", f"127.0.0.1:{port}", version],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    got = b""

    def until(text: bytes) -> None:
        nonlocal got
        while text not in got:
            chunk = client.stdout.read1()  # type: ignore[union-attr]
            if not chunk:
                raise EOFError(got)
            got += chunk

    try:
        client.stdin.write(b"before\n")
        client.stdin.flush()
        until(b"\nbefore\n")
        client.stdin.write(command + b"\n")
        client.stdin.flush()
        until({b"K": b"KEYUPDATE\n", b"k": b"KEYUPDATE\n", b"R": b"RENEGOTIATING\n"}[command])
        with contextlib.suppress(BrokenPipeError):  # it has ended, as its output tells
            client.stdin.write(b"after\n")
            client.stdin.flush()
        until(b"after\n")
        client.stdin.write(b"Q\n")
        client.stdin.flush()
        client.wait(10)
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            client.stdin.close()
    return got


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program")


@needs_openssl
@pytest.mark.parametrize("command", [b"K", b"k"])
def test_key_update_is_answered_and_data_goes_on(real_loop: EventLoop, command: bytes) -> None:
    """RFC 8446 section 4.6.3, with and without update_requested."""

    async def asked(port: int) -> None:
        got = await real_loop.run_in_executor(None, s_client, port, "-tls1_3", command)
        assert b"after\n" in got

    real_loop.run_until_complete(serve(asked))


@needs_openssl
def test_renegotiation_is_refused(real_loop: EventLoop) -> None:
    """RFC 5246 section 7.2.2: no_renegotiation is a warning, which this client does not take."""
    loop = real_loop
    server = Recorder(loop)
    server.echoes = True

    async def main() -> None:
        listening = await loop.create_server(
            lambda: cast("Any", server), "127.0.0.1", 0, ssl=server_default()
        )
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(EOFError, match="no renegotiation"):
            await loop.run_in_executor(None, s_client, port, "-tls1_2", b"R")
        assert isinstance(await server.lost, ssl.SSLError)
        listening.close()
        await listening.wait_closed()

    loop.run_until_complete(main())

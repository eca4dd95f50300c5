"""Scripted servers: the test says, byte by byte, what each connection is told.

Owns: the servers, on the test's own loop or on a thread with a loop of the standard library's,
and certificates for them.  May not touch: the client under test.
Invariant: when a ``serving`` block is left, every connection is closed, every handler has
ended, and what a handler raised is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import trustme

from reactor import new_event_loop
from reactor.eventloop import EventLoop
from reactor.testing import simulated_loop

T = TypeVar("T")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return a whole response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Conversation:
    """The server's side of one connection.

    Attributes:
        number: 0 for the server's first connection, and so on.
    """

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes | None:
        """Return the next request's head, ``None`` when the client has closed instead."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def send(self, *pieces: bytes) -> None:
        """Send each piece; the next one when the system has taken the last."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def send_slowly(self, data: bytes) -> None:
        """Send *data* byte by byte, each in a segment and a pass of the loop of its own."""
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close in good order."""
        self.writer.close()

    def cut(self) -> None:
        """End the TCP stream in good order; over TLS that is without close_notify."""
        self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection (RST), so that the client loses what it has not read."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_closed(self) -> bytes:
        """Wait for the client to close, or for the server's end; return what it sent."""
        got = bytearray()
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65_536):
                got += data
        return bytes(got)


Script = Callable[[Conversation], Awaitable[None]]


class Server:
    """A running scripted server.

    Attributes:
        port: where it listens, on 127.0.0.1.
        connections: how many were accepted.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[Exception] = []
        self.port = 0
        self.connections = 0
        self.scheme = "http"

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        """Return a URL of this server's."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(self.connections, reader, writer)
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._script(conversation)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the server ends, or the client has
        except Exception as error:
            self._failures.append(error)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _finish(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._failures:
            raise self._failures[0]


@contextlib.asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on the running loop for an ``async with`` block; *script* runs per connection."""
    server = Server(script)
    listener = await asyncio.start_server(server._converse, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.scheme = "http" if tls is None else "https"
    try:
        yield server
    finally:
        listener.close()
        await server._finish()
        await listener.wait_closed()


@contextlib.contextmanager
def serving_in_thread(script: Script, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve on a thread, on the standard library's own loop, for a ``with`` block."""
    ready = threading.Event()
    failures: list[BaseException] = []
    server: Server
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    async def main() -> None:
        nonlocal server, loop, stop
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(script, tls=tls) as server:
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="scripted server")
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield server
    finally:
        if not failures:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


def run(main: Coroutine[Any, Any, T], loop: EventLoop | None = None) -> T:
    """Run *main* on a reactor loop, by default a new one, which must be at rest after it.

    At rest: no op is live, no block lent, no timer armed, no call-back ready; and nothing
    was reported to the loop's exception handler.
    """
    loop = new_event_loop() if loop is None else loop
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        result = loop.run_until_complete(main)
        settle(loop)
        assert not any(loop.stats().values()), loop.stats()
    finally:
        loop.close()
    assert reported == [], reported
    return result


def settle(loop: EventLoop) -> None:
    """Make the few passes that closing connections takes."""
    for _ in range(6):
        loop.call_soon(loop.stop)
        loop.run_forever()


def on_reactor(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function; see ``run``."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return wrapper


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function, on the simulated poller; see ``run``."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs), simulated_loop())

    return wrapper


class Authority:
    """A certificate authority with the server contexts that tests need."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> bytes:
        """The authority's certificate, for ``client_context(ca_pem=...)``."""
        return self._ca.cert_pem.bytes()

    def certificate(self, name: str) -> bytes:
        """Return a certificate for *name*, and its key, as PEM."""
        return self._ca.issue_cert(name).private_key_and_cert_chain_pem.bytes()

    def server(self, *names: str, **options: Any) -> ssl.SSLContext:
        """Return a server's context with a certificate for *names*, by default 127.0.0.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("127.0.0.1", "localhost")), **options).configure_cert(
            context
        )
        return context


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that is bound, so that nobody takes it, and refuses."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port of 127.0.0.1 on which a connect is never answered: its backlog is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]

"""A server in the test's own loop whose every answer is the test's, for clients in any process.

Owns its listener and the connections to it.  It reads heads of requests without a body, one
after the other; whatever is sent back is a route's business, so that it can be wrong, late or
cut short.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from reactor import Protocol

Route = Callable[["Connection", str], None]


class Connection(Protocol):
    """One connection; ``reply`` and ``send`` are for routes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._received = b""
        self.head = b""
        self.drained: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._site.connections.add(self)
        self._site.accepted += 1
        transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            self.head, _, self._received = self._received.partition(b"\r\n\r\n")
            target = self.head.split(b" ")[1].decode()
            self._site.requests[target] += 1
            self._site.arrived.set()
            route = self._site.routes.get(target.partition("?")[0], not_found)
            route(self, target)

    def pause_writing(self) -> None:
        self.drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.connections.discard(self)
        if self.drained is not None:
            self.drained.cancel()
        if not self._site.connections:
            self._site.deserted.set()

    def reply(self, body: bytes = b"", status: str = "200 OK", fields: str = "") -> None:
        """Send a whole response."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
        self.transport.write(head.encode() + body)

    def send(self, data: bytes, *, close: bool = False) -> None:
        """Send *data* as it is, and close after it if *close*."""
        self.transport.write(data)
        if close:
            self.transport.close()


def not_found(connection: Connection, target: str) -> None:
    connection.reply(b"not here\n", "404 Not Found")


def page(body: bytes, status: str = "200 OK", fields: str = "") -> Route:
    """Return a route that replies with a whole response."""
    return lambda connection, _: connection.reply(body, status, fields)


def raw(data: bytes, *, close: bool = True) -> Route:
    """Return a route that sends *data* as it is."""
    return lambda connection, _: connection.send(data, close=close)


def silence(connection: Connection, target: str) -> None:
    """Answer nothing."""


class Stalled:
    """A route that sends more than two sockets hold of a body, but never the end of it.

    When ``taken`` is set, the client has read a good part of the body.
    """

    SENT_BYTES = 64 << 20

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, connection: Connection, target: str) -> None:
        self._tasks.add(asyncio.ensure_future(self._send(connection)))

    async def _send(self, connection: Connection) -> None:
        size = self.SENT_BYTES
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size + 1}\r\n\r\n".encode())
        connection.send(bytes(size))
        if connection.drained is not None:
            await connection.drained
        self.taken.set()


class Site:
    """The server; an async context manager.

    Attributes:
        routes: path to what answers it; others are not found.
        requests: how often each target was asked for.
        accepted: connections so far.
        arrived: set with each request; a test clears it.
        deserted: set when the last connection is lost.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.arrived = asyncio.Event()
        self.deserted = asyncio.Event()
        self._tls = tls
        self._root = ""

    def url(self, target: str) -> str:
        return self._root + target

    async def __aenter__(self) -> Self:
        loop: Any = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", 0, ssl=self._tls
        )
        scheme = "http" if self._tls is None else "https"
        self._root = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        while self.connections:
            self.deserted.clear()
            await self.deserted.wait()

"""A transport that answers with what a function returns: no socket, no name, no clock.

Owns: the server's side of connections that exist in memory alone.  May not touch: the client.
Invariant: each request that came whole is handed to the function once; what the function
raises, the client's caller gets as it is.

::

    client --bytes--> [head | content] --whole--> handler(request) --Reply--> bytes --> client
"""

from __future__ import annotations

import asyncio
import inspect
import json as json_module
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from protocols.http.errors import InvalidHeader
from protocols.http.headers import Headers
from protocols.http.request import HeaderSource, Request
from protocols.http.testing.memory import MemoryTransport
from protocols.http.url import URL

__all__ = ["Answer", "Handler", "MockTransport", "ReceivedRequest", "Reply"]

# What follows from the content, and is written by whoever sends it.
_FRAMING = (b"content-length", b"transfer-encoding")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class ReceivedRequest(Request):
    """A request as a server gets it: what a handler is called with.

    Attributes:
        content: the whole content as bytes, empty where there is none.
    """

    __slots__ = ("content",)

    def __init__(self, method: str, url: URL, headers: Headers, content: bytes) -> None:
        fields = Headers([pair for pair in headers.raw if pair[0].lower() not in _FRAMING])
        super().__init__(method, url, headers=fields, content=content or None)
        self.content = content

    def json(self) -> Any:
        """Return the content parsed as JSON."""
        return json_module.loads(self.content)

    def form(self) -> list[tuple[str, str]]:
        """Return the names and values of a form that was sent as ``data``."""
        return parse_qsl(self.content.decode(), keep_blank_values=True)


class Reply:
    """An answer to a request.

    Args:
        status: 200 to 999.
        content: bytes, a str (sent as UTF-8), or an iterable or asynchronous iterable of bytes,
            which is sent in chunks, as fast as the client reads.
        json: sent as JSON.  At most one of the two.
        headers: in addition to those that follow from the content.
        reason: the reason phrase; by default the usual one.

    Raises ``ValueError`` for a status that is no final one, ``TypeError`` for what cannot be
    content, ``InvalidHeader``.
    """

    def __init__(
        self,
        status: int = 200,
        content: str | bytes | Iterable[bytes] | AsyncIterable[bytes] = b"",
        *,
        json: Any = None,
        headers: HeaderSource | Headers = (),
        reason: str | None = None,
    ) -> None:
        if not 200 <= status <= 999:
            raise ValueError(f"a status is from 200 to 999, not {status}")
        fields = Headers(headers)
        if json is not None:
            if content:
                raise TypeError("content and json exclude each other")
            content = json_module.dumps(json).encode()
            if "Content-Type" not in fields:
                fields = Headers([(b"Content-Type", b"application/json"), *fields.raw])
        elif isinstance(content, str):
            content = content.encode()
            if "Content-Type" not in fields:
                fields = Headers([(b"Content-Type", b"text/plain; charset=utf-8"), *fields.raw])
        elif not isinstance(content, bytes | Iterable | AsyncIterable):
            raise TypeError(f"not what content may be: {type(content).__name__}")
        for name, _ in fields.raw:
            if name.lower() in _FRAMING:
                raise InvalidHeader(
                    name.decode("latin-1"), "it follows from the content; answer bytes for another"
                )
        if reason is None:
            reason = _REASONS.get(status, "")
        elif not (reason.isascii() and reason.isprintable()):
            raise ValueError("a reason phrase is one line of printable ASCII characters")
        self.status = status
        # a str was encoded above
        self.content: bytes | Iterable[bytes] | AsyncIterable[bytes] = content  # type: ignore[assignment]
        self.headers = fields
        self.reason = reason

    def head(self) -> bytes:
        """Return the head of the answer, as it goes over the wire."""
        line = f"HTTP/1.1 {self.status} {self.reason}\r\n".encode("ascii")
        pairs = list(self.headers.raw)
        if self.has_content:
            if isinstance(self.content, bytes):
                pairs.append((b"Content-Length", b"%d" % len(self.content)))
            else:
                pairs.append((b"Transfer-Encoding", b"chunked"))
        return line + b"".join([b"%b: %b\r\n" % pair for pair in pairs]) + b"\r\n"

    @property
    def has_content(self) -> bool:
        """Whether the status allows content (RFC 9110 section 6.4.1)."""
        return self.status not in (204, 304)

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.reason}>"


# Bytes are sent as they are, and then the connection ends: for what is no good answer.
Answer: TypeAlias = Reply | bytes
Handler: TypeAlias = Callable[[ReceivedRequest], Answer | Awaitable[Answer]]


class MockTransport:
    """Answers every request of a client: ``Client(transport=MockTransport(handler))``.

    Args:
        handler: called with each ``ReceivedRequest``; returns, or as a coroutine function
            awaits and returns, a ``Reply``, or bytes that are sent as they are before the
            connection ends.  What it raises, the caller of the client gets: an
            ``EndpointError``, say, to see what becomes of a failure.

    It runs on the client's loop; for a blocking client that is in the thread that waits.

    Attributes:
        requests: what came, in order.
        opened: connections so far.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[ReceivedRequest] = []
        self.opened = 0

    async def __call__(
        self, factory: Callable[[], Any], endpoint: Any, deadline: float | None, resolver: Any
    ) -> tuple[Any, Any]:
        """Open a connection; the client's connection manager calls it."""
        self.opened += 1
        peer = _Peer(self, endpoint.scheme)
        protocol = factory()
        transport = MemoryTransport(asyncio.get_running_loop(), protocol, peer)  # type: ignore[arg-type]
        peer.transport = transport
        transport.begin()
        return transport, protocol

    async def answer(self, request: ReceivedRequest) -> Answer:
        """Return the answer to a request."""
        self.requests.append(request)
        answer = self._handler(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if not isinstance(answer, Reply | bytes):
            raise TypeError(f"a handler returns a Reply or bytes, not {answer!r}")
        return answer

    async def aclose(self) -> None:
        """The client was closed."""

    def __str__(self) -> str:
        return type(self).__name__


class _Peer:
    """The server's side of one connection."""

    def __init__(self, mock: MockTransport, scheme: str) -> None:
        self.transport: MemoryTransport
        self._mock = mock
        self._scheme = scheme
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take what the client wrote, and answer once a request is whole."""
        self._received += data
        if self._task is not None:
            return
        loop = asyncio.get_running_loop()
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = bytes(self._received[:end]).split(b"\r\n")
        fields = Headers([tuple(line.split(b": ", 1)) for line in lines[1:]])  # type: ignore[misc]
        if fields.get("Expect", "").lower() == "100-continue" and len(self._received) == end + 4:
            # not in the middle of the client's own write
            loop.call_soon(self.transport.send, b"HTTP/1.1 100 Continue\r\n\r\n")
        if "Transfer-Encoding" in fields:
            found = _chunked(self._received, end + 4)
        else:
            size = int(fields.get("Content-Length", "0"))
            rest = self._received[end + 4 : end + 4 + size]
            found = (bytes(rest), end + 4 + size) if len(rest) == size else None
        if found is None:
            return
        content, used = found
        del self._received[:used]
        method, target, _ = lines[0].decode("ascii").split(" ")
        url = URL(f"{self._scheme}://{fields['Host']}{target}")
        request = ReceivedRequest(method, url, fields, content)
        self._task = loop.create_task(self._respond(request))

    def connection_lost(self) -> None:
        """The client has closed: whoever is at an answer need not go on."""
        if self._task is not None:
            self._task.cancel()

    async def _respond(self, request: ReceivedRequest) -> None:
        try:
            answer = await self._mock.answer(request)
            if isinstance(answer, bytes):
                self.transport.send(answer)
                self.transport.end()
                return
            head = answer.head()
            if request.method == "HEAD" or not answer.has_content:
                self._task = None
                self.transport.send(head)
            elif isinstance(answer.content, bytes):
                self._task = None
                self.transport.send(head + answer.content)
            else:
                self.transport.send(head)
                await self._stream(answer.content)
        except Exception as error:  # noqa: BLE001 - the client's caller gets it
            self._task = None
            self.transport.fail_exchange(error)

    async def _stream(self, content: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        if isinstance(content, AsyncIterable):
            async for data in content:
                await self._send_chunk(data)
        else:
            for data in content:
                await self._send_chunk(data)
        self._task = None
        self.transport.send(b"0\r\n\r\n")

    async def _send_chunk(self, data: bytes) -> None:
        if data:
            self.transport.send(b"%x\r\n%b\r\n" % (len(data), data))
        await self.transport.drain()


def _chunked(received: bytearray, at: int) -> tuple[bytes, int] | None:
    """Return the content of chunks from *at* on, and where they end; ``None`` if not whole.

    The client wrote them, so they are as it writes them: no extensions, no trailers.
    """
    pieces: list[bytes] = []
    while (end := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:end], 16)
        if len(received) < end + 2 + size + 2:
            break
        if not size:
            return b"".join(pieces), end + 4
        pieces.append(bytes(received[end + 2 : end + 2 + size]))
        at = end + 2 + size + 2
    return None

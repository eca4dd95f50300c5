"""The asyncio face of the HTTP client.

Owns: what a request is made of before it is sent, and which connection carries it.  May not
touch: bytes on the wire (``protocols.http.connection``), sockets.
Invariant: a connection that was acquired is released, or discarded, on every way out:
success, error, cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import unquote_to_bytes

from protocols.http.connection import ClientConnection
from protocols.http.errors import HTTPError, InvalidHeader
from protocols.http.headers import Headers, render_request_head
from protocols.http.limits import (
    DEFAULT_TIMEOUT_SECONDS,
    LONGEST_TIMEOUT_SECONDS,
    MAX_BODY_BYTES,
    MAX_STALE_RETRIES,
    PREPARED_REQUESTS,
    ResponseLimits,
)
from protocols.http.response import Response
from protocols.http.url import URL
from reactor import (
    ConnectionManager,
    Endpoint,
    EndpointError,
    EventLoop,
    TLSTruncatedError,
    shared_client_context,
)

__all__ = ["AsyncClient", "ClientClosedError", "Default"]

HeaderSource = Mapping[str, str] | Iterable[tuple[str, str]]

_DEFAULT_HEADERS = (("Accept", "*/*"), ("Accept-Encoding", "identity"))


class Default(enum.Enum):
    """Stands for "as the client has it", where ``None`` means something of its own."""

    TIMEOUT = "the client's timeout"


class ClientClosedError(HTTPError, RuntimeError):
    """A request was made after the client was closed."""


class _Prepared(NamedTuple):
    """A request as it will be sent: rendered once, used for every request like it."""

    endpoint: Endpoint
    head: bytes
    url: URL


class AsyncClient:
    """An HTTP/1.1 client for asyncio code on a ``reactor`` event loop.

    Args:
        headers: sent with every request.
        timeout: seconds from the call to the last byte of the response, name resolution,
            waiting for a connection, TLS and all; ``None`` for no limit.
        tls: the ``ssl.SSLContext`` of https; by default one that verifies against the
            system's or certifi's roots and is shared by all clients.
        max_connections, max_per_host, idle_seconds: see ``reactor.ConnectionManager``.
        limits: what a response may cost before its body.
        max_body_bytes: what a body that is not streamed may not exceed.

    Use it as ``async with AsyncClient() as client`` or call ``aclose``.  One client belongs
    to one loop, the one on which it is first used.
    """

    def __init__(
        self,
        *,
        headers: HeaderSource | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 1_000,
        max_per_host: int = 100,
        idle_seconds: float = 30.0,
        limits: ResponseLimits | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        _check_timeout(timeout)
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls is an ssl.SSLContext, not {type(tls).__name__}")
        if max_body_bytes < 0:
            raise ValueError(f"max_body_bytes must not be negative, not {max_body_bytes}")
        self._headers = Headers(_DEFAULT_HEADERS).merged_with(headers or ())
        self._timeout = timeout
        self._tls = tls
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._manager = ConnectionManager(
            max_connections=max_connections,
            max_per_endpoint=max_per_host,
            idle_seconds=idle_seconds,
        )
        self._prepared: dict[tuple[str, str | URL], _Prepared] = {}
        self._loop: Any = None
        self._closed = False

    # -- requests ----------------------------------------------------------------------

    async def get(
        self,
        url: str | URL,
        *,
        headers: HeaderSource | None = None,
        timeout: float | Default | None = Default.TIMEOUT,
    ) -> Response:
        """GET *url* and return the response with its whole body.

        Args:
            url: absolute, http or https; user information becomes Basic credentials.
            headers: sent in place of, or in addition to, the client's.
            timeout: as the client's, which is the default.

        Raises ``InvalidURL`` and ``InvalidHeader`` (``ValueError``) before any I/O, and the
        ``EndpointError`` of whatever went wrong after that.  A status is never an error;
        see ``Response.raise_for_status``.
        """
        connection, response = await self._exchange("GET", url, headers, timeout, False)
        self._manager.release(connection)
        return response

    async def head(
        self,
        url: str | URL,
        *,
        headers: HeaderSource | None = None,
        timeout: float | Default | None = Default.TIMEOUT,
    ) -> Response:
        """HEAD *url*; like ``get`` without a body (RFC 9110 section 9.3.2)."""
        connection, response = await self._exchange("HEAD", url, headers, timeout, False)
        self._manager.release(connection)
        return response

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeaderSource | None = None,
        timeout: float | Default | None = Default.TIMEOUT,
    ) -> AsyncIterator[Response]:
        """Send a request for an ``async with`` block; the response's body is streamed.

        Read it with ``response.aiter_bytes()`` or ``aread()``.  A body that was not read to
        its end when the block is left costs the connection.  Only methods that have no
        request body and may be repeated: GET, HEAD, OPTIONS, TRACE.
        """
        if method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
            raise ValueError(f"stream cannot send {method!r}")
        connection, response = await self._exchange(method, url, headers, timeout, True)
        try:
            yield response
        finally:
            if connection.is_idle:
                self._manager.release(connection)
            else:
                connection.abandon()
                self._manager.discard(connection)

    async def _exchange(
        self,
        method: str,
        url: str | URL,
        headers: HeaderSource | None,
        timeout: float | Default | None,
        stream: bool,
    ) -> tuple[ClientConnection, Response]:
        """Send a request and wait for its response, or (streamed) for the head of it.

        The connection is the caller's to release.  A connection from the pool that was
        closed before a byte of the response came did not see the request processed, or its
        server may as well do it again: these methods are safe (RFC 9110 section 9.2.2).
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        prepared = self._prepared.get((method, url)) if headers is None else None
        if prepared is None:
            prepared = self._prepare(method, url, headers)
        if timeout is Default.TIMEOUT:
            timeout = self._timeout
        else:
            _check_timeout(timeout)
        if timeout is None or timeout > LONGEST_TIMEOUT_SECONDS:
            deadline, deadline_ns = None, 0
        else:
            deadline = loop.time() + timeout
            deadline_ns = int(deadline * 1e9)
        manager = self._manager
        retries = 0
        while True:
            connection = None if retries else manager.take(prepared.endpoint)
            if connection is None:
                connection = await manager.acquire(
                    prepared.endpoint, self._factory(prepared), deadline, fresh=retries > 0
                )
            was_used = connection.exchanges > 0
            try:
                return connection, await connection.exchange(
                    prepared.head, method, prepared.url, deadline_ns, stream
                )
            except BaseException as error:
                connection.abandon()
                manager.discard(connection)
                if not (
                    was_used
                    and connection.unanswered
                    and retries < MAX_STALE_RETRIES
                    and _is_stale(error)
                ):
                    raise
                retries += 1

    def _factory(self, prepared: _Prepared) -> Callable[[], ClientConnection]:
        url = prepared.url
        return lambda: ClientConnection(url.host, url.port, self._limits, self._max_body_bytes)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tie the client to the loop on which it is used first."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        if self._loop is not None:
            raise RuntimeError("the client belongs to another event loop")
        if not isinstance(loop, EventLoop):
            raise RuntimeError(
                "AsyncClient needs a reactor event loop: "
                "asyncio.Runner(loop_factory=reactor.new_event_loop) or reactor.run(main())"
            )
        self._loop = loop

    def _prepare(self, method: str, url: str | URL, headers: HeaderSource | None) -> _Prepared:
        """Check and render a request; without headers of its own it is kept for the next."""
        parsed = url if isinstance(url, URL) else URL(url)
        tls = None
        if parsed.scheme == "https":
            tls = self._tls if self._tls is not None else shared_client_context(("http/1.1",))
        endpoint = Endpoint(parsed.scheme, parsed.host, parsed.port, tls)
        fields = self._headers if headers is None else self._headers.merged_with(headers)
        for name in ("Content-Length", "Transfer-Encoding"):
            if name in fields:
                raise InvalidHeader(name, "the request has no body to frame")
        if parsed.userinfo and "Authorization" not in fields:
            fields = fields.merged_with((("Authorization", _basic(parsed.userinfo)),))
        head = render_request_head(method, parsed.target, parsed.host_header, fields)
        prepared = _Prepared(endpoint, head, parsed)
        if headers is None:
            if len(self._prepared) >= PREPARED_REQUESTS:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[method, url] = prepared
        return prepared

    # -- the client --------------------------------------------------------------------

    @property
    def manager(self) -> ConnectionManager:
        """The connection manager, for its ``stats()`` and ``repr``."""
        return self._manager

    async def aclose(self) -> None:
        """Close every connection.  Requests from now on raise ``ClientClosedError``.

        Raises ``RuntimeError`` on another loop than the client's, unless that is closed.
        """
        loop = self._loop
        if loop is not None and loop is not asyncio.get_running_loop() and not loop.is_closed():
            raise RuntimeError("the client belongs to another event loop")
        self._closed = True
        self._loop = None
        await self._manager.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient {'closed' if self._closed else 'open'}, {self._manager!r}>"


def _basic(userinfo: str) -> str:
    """Return a URL's user information as Basic credentials (RFC 7617 section 2)."""
    user, _, password = userinfo.partition(":")
    return "Basic " + b64encode(unquote_to_bytes(f"{user}:{password}")).decode("ascii")


def _is_stale(error: BaseException) -> bool:
    """Return whether the error is what a connection closed while idle gives."""
    return isinstance(error, EndpointError) and isinstance(
        error, ConnectionError | TLSTruncatedError
    )


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"a timeout must be more than 0 seconds, not {timeout}")

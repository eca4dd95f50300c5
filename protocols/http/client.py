"""The asyncio face of the HTTP client.

Owns: the way of a request: which connection carries it, and where a redirect sends it.  May not
touch: bytes on the wire (``protocols.http.connection``), sockets; what a redirect may take along
is decided in ``protocols.http.redirects``.
Invariant: a connection that was acquired is released, or discarded, on every way out:
success, error, cancellation.

::

    Request --> [hooks] --> connection --> Response --> decoded --> [hooks] --> caller
                   ^                          |
                   +------- redirected -------+
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import unquote_to_bytes

from protocols.http.bodies import Body, Content, FileSource, FormSource, encode_body
from protocols.http.codings import accept_encoding
from protocols.http.connection import ClientConnection
from protocols.http.cookies import CookieJar, CookieSource
from protocols.http.errors import HTTPError, InvalidHeader, RedirectError, TooManyRedirects
from protocols.http.headers import Headers
from protocols.http.limits import (
    CONTINUE_SECONDS,
    DEFAULT_LIMITS,
    DEFAULT_TIMEOUT_SECONDS,
    LONGEST_TIMEOUT_SECONDS,
    MAX_BODY_BYTES,
    MAX_DRAINED_BYTES,
    MAX_REDIRECTS,
    MAX_STALE_RETRIES,
    PREPARED_REQUESTS,
    ResponseLimits,
)
from protocols.http.query import Params, extend_query, merge_params
from protocols.http.redirects import is_redirect, redirected
from protocols.http.request import HeaderSource, Request
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

Hook = Callable[[Any], Awaitable[None] | None]
Hooks = Mapping[str, Iterable[Hook]]


class Default(enum.Enum):
    """Stands for "as the client has it", where ``None`` and ``False`` mean something."""

    CLIENT = "as the client has it"


class ClientClosedError(HTTPError, RuntimeError):
    """A request was made after the client was closed."""


class _Prepared(NamedTuple):
    """A request that was made with nothing but its URL: built and rendered once."""

    request: Request
    endpoint: Endpoint


class AsyncClient:
    """An HTTP/1.1 client for asyncio code on a ``reactor`` event loop.

    Args:
        base_url: what the URLs of requests are relative to.
        params: query parameters of every request.
        headers: sent with every request.
        cookies: what the jar begins with (see ``CookieJar``), or a jar, which is then shared.
        timeout: seconds from the call to the last byte of the response, name resolution,
            waiting for a connection, TLS, redirects and all; ``None`` for no limit.
        follow_redirects: whether redirects are followed (RFC 9110 section 15.4).
        max_redirects: for one request; the next one raises ``TooManyRedirects``.
        event_hooks: ``{"request": [...], "response": [...]}``: called with each ``Request``
            before it is sent and each ``Response`` when its head is there (for a response
            that is not streamed: its body too), redirects included.  A coroutine function is
            awaited.  What they raise goes to the caller.
        tls: the ``ssl.SSLContext`` of https; by default one that verifies against the
            system's or certifi's roots and is shared by all clients.
        transport: what opens connections in place of the network, for tests: see
            ``protocols.http.testing``.
        max_connections, max_per_host, idle_seconds: see ``reactor.ConnectionManager``.
        limits: what a response may cost beside the content itself.
        max_body_bytes: what a body that is not streamed may not exceed, decoded.

    Use it as ``async with AsyncClient() as client`` or call ``aclose``.  One client belongs
    to one loop, the one on which it is first used.
    """

    def __init__(
        self,
        *,
        base_url: str | URL | None = None,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieJar | CookieSource | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        follow_redirects: bool = False,
        max_redirects: int = MAX_REDIRECTS,
        event_hooks: Hooks | None = None,
        tls: ssl.SSLContext | None = None,
        transport: Any = None,
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
        if max_redirects < 0:
            raise ValueError(f"max_redirects must not be negative, not {max_redirects}")
        self._base_url = (
            base_url if base_url is None or isinstance(base_url, URL) else URL(base_url)
        )
        self._params = params
        own = (("Accept", "*/*"), ("Accept-Encoding", accept_encoding()))
        self._headers = Headers(own).merged_with(headers or ())
        self._cookies = cookies if isinstance(cookies, CookieJar) else CookieJar(cookies)
        self._timeout = timeout
        self._follow = follow_redirects
        self._max_redirects = max_redirects
        self._request_hooks, self._response_hooks = _hooks(event_hooks)
        self._tls = tls
        self._transport = transport
        self._limits = DEFAULT_LIMITS if limits is None else limits
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
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> Response:
        """GET *url*; see ``request``."""
        prepared = self._prepare("GET", url, params, headers, None)
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, False)
        self._manager.release(connection)
        return response

    async def head(
        self,
        url: str | URL,
        *,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> Response:
        """HEAD *url*: the response is without a body (RFC 9110 section 9.3.2)."""
        prepared = self._prepare("HEAD", url, params, headers, None)
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, False)
        self._manager.release(connection)
        return response

    async def options(self, url: str | URL, **options: Any) -> Response:
        """OPTIONS *url*; see ``request``."""
        return await self.request("OPTIONS", url, **options)

    async def delete(self, url: str | URL, **options: Any) -> Response:
        """DELETE *url*; see ``request``."""
        return await self.request("DELETE", url, **options)

    async def post(self, url: str | URL, **options: Any) -> Response:
        """POST to *url*; see ``request``."""
        return await self.request("POST", url, **options)

    async def put(self, url: str | URL, **options: Any) -> Response:
        """PUT *url*; see ``request``."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str | URL, **options: Any) -> Response:
        """PATCH *url*; see ``request``."""
        return await self.request("PATCH", url, **options)

    async def request(
        self,
        method: str,
        url: str | URL,
        *,
        content: Content | None = None,
        data: FormSource | None = None,
        files: FileSource | None = None,
        json: Any = None,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> Response:
        """Send a request and return the response with its whole body, decoded.

        Args:
            method: a token, sent as it is written (RFC 9110 section 9.1).
            url: absolute, http or https, or relative to the client's *base_url*; user
                information becomes Basic credentials.
            content: what is sent: bytes, str, a binary file, an iterable or asynchronous
                iterable of bytes.
            data: the names and values of a form.
            files: the files of a form, for names or pairs: a content, or (file name, content
                [, content type [, headers]]); *data* are its other fields.
            json: sent as JSON.  One of *content*, *json* and the form is given; see
                ``protocols.http.bodies``.
            params: added to the URL's query, after the client's own.
            headers: sent in place of, or in addition to, the client's.
            cookies: of this request alone; they go to its origin and to no other.  A Cookie
                among the *headers* is sent in place of all cookies.
            follow_redirects: as the client's, which is the default.
            timeout: as the client's, which is the default.

        Raises ``InvalidURL`` and ``InvalidHeader`` (``ValueError``) before any I/O, and the
        ``EndpointError`` of whatever went wrong after that; ``RedirectError`` where a redirect
        leads nowhere.  A status is never an error; see ``Response.raise_for_status``.
        """
        body = self._body(content, data, files, json, headers)
        prepared = self._prepare(method, url, params, headers, body)
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, False)
        self._manager.release(connection)
        return response

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | URL,
        *,
        content: Content | None = None,
        data: FormSource | None = None,
        files: FileSource | None = None,
        json: Any = None,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> AsyncIterator[Response]:
        """Send a request for an ``async with`` block; the response's body is streamed.

        Read it with ``response.aiter_bytes()`` or ``aread()``.  A body that was not read to
        its end when the block is left costs the connection.  Arguments as for ``request``.
        """
        body = self._body(content, data, files, json, headers)
        prepared = self._prepare(method, url, params, headers, body)
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, True)
        try:
            yield response
        finally:
            self._let_go(connection)

    @contextlib.asynccontextmanager
    async def stream_request(
        self,
        request: Request,
        *,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> AsyncIterator[Response]:
        """Send what ``build_request`` or ``Request`` made, as ``stream`` does."""
        prepared = _Prepared(request, self._endpoint(request.url))
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, True)
        try:
            yield response
        finally:
            self._let_go(connection)

    def build_request(
        self,
        method: str,
        url: str | URL,
        *,
        content: Content | None = None,
        data: FormSource | None = None,
        files: FileSource | None = None,
        json: Any = None,
        params: Params | None = None,
        headers: HeaderSource | None = None,
    ) -> Request:
        """Return the request that ``request`` would send.  Arguments and errors are its own."""
        body = self._body(content, data, files, json, headers)
        return self._build(method, url, params, headers, body)

    def _build(
        self,
        method: str,
        url: str | URL,
        params: Params | None,
        headers: HeaderSource | None,
        body: Body | None,
    ) -> Request:
        if self._base_url is not None and not isinstance(url, URL):
            target = self._base_url.join(url)
        else:
            target = url if isinstance(url, URL) else URL(url)
        query = extend_query(target.query, merge_params(self._params, params))
        if query != target.query:
            target = target.with_query(query)
        fields = self._headers if headers is None else self._headers.merged_with(headers)
        if target.userinfo and "Authorization" not in fields:
            fields = fields.merged_with((("Authorization", _basic(target.userinfo)),))
        if body is not None and "Content-Length" in fields:  # _body has seen to it
            pairs = [pair for pair in fields.raw if pair[0].lower() != b"content-length"]
            fields = Headers(pairs)
        return Request(method, target, headers=fields, content=body)

    async def send(
        self,
        request: Request,
        *,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Default | None = Default.CLIENT,
    ) -> Response:
        """Send what ``build_request`` or ``Request`` made; see ``request``."""
        prepared = _Prepared(request, self._endpoint(request.url))
        connection, response = await self._send(prepared, cookies, follow_redirects, timeout, False)
        self._manager.release(connection)
        return response

    # -- the way of a request ------------------------------------------------------------

    def _prepare(
        self,
        method: str,
        url: str | URL,
        params: Params | None,
        headers: HeaderSource | None,
        body: Body | None,
    ) -> _Prepared:
        """Check and render a request; one with nothing of its own is kept for the next."""
        plain = params is None and headers is None and body is None
        if plain:
            prepared = self._prepared.get((method, url))
            if prepared is not None:
                return prepared
        request = self._build(method, url, params, headers, body)
        prepared = _Prepared(request, self._endpoint(request.url))
        if plain:
            if len(self._prepared) >= PREPARED_REQUESTS:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[method, url] = prepared
        return prepared

    def _body(
        self,
        content: Content | None,
        data: FormSource | None,
        files: FileSource | None,
        json: Any,
        headers: HeaderSource | None,
    ) -> Body | None:
        """Return what a request's arguments say that its content is."""
        if content is None and data is None and files is None and json is None:
            return None
        own = self._headers if headers is None else self._headers.merged_with(headers)
        size = own.get("Content-Length")
        if size is not None and not (size.isascii() and size.isdigit() and len(size) < 19):
            raise InvalidHeader("Content-Length", "it is not one number (RFC 9110 section 8.6)")
        return encode_body(
            content=content,
            data=data,
            files=files,
            json=json,
            content_type=own.get("Content-Type"),
            size=None if size is None else int(size),
        )

    def _endpoint(self, url: URL) -> Endpoint:
        if self._transport is not None:
            return Endpoint(url.scheme, url.host, url.port, opener=self._transport)
        tls = None
        if url.scheme == "https":
            tls = self._tls if self._tls is not None else shared_client_context(("http/1.1",))
        return Endpoint(url.scheme, url.host, url.port, tls)

    async def _send(
        self,
        prepared: _Prepared,
        cookies: CookieSource | None,
        follow: bool | Default,
        timeout: float | Default | None,
        stream: bool,
    ) -> tuple[ClientConnection, Response]:
        """Send a request, and those to which it is redirected.

        Returns the last response, streamed or whole, and its connection, which is the caller's
        to release.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        if timeout is Default.CLIENT:
            timeout = self._timeout
        else:
            _check_timeout(timeout)
        if timeout is None or timeout > LONGEST_TIMEOUT_SECONDS:
            deadline, deadline_ns = None, 0
        else:
            deadline = loop.time() + timeout
            deadline_ns = int(deadline * 1e9)
        if follow is Default.CLIENT:
            follow = self._follow
        also = None if cookies is None else CookieJar(cookies)
        history: list[Response] = []
        while True:
            request = prepared.request
            if self._request_hooks:
                await _call(self._request_hooks, request)
            cookie = self._cookies.header_for(request.url, also)
            head = request.head()
            if cookie is not None and "Cookie" not in request.headers:
                head = request.head((("Cookie", cookie),))
            connection, response = await self._exchange(
                prepared, head, deadline, deadline_ns, stream
            )
            try:
                response.request = request
                if response.sets_cookies:
                    self._cookies.store(request.url, response.headers)
                if history:
                    response.history = history
                follows = follow and is_redirect(response.status_code, response.headers)
                if response.is_encoded and not follows:  # nobody reads what is followed
                    response.decode(self._limits, self._max_body_bytes)
                if self._response_hooks:
                    await _call(self._response_hooks, response)
                if not follows:
                    return connection, response
                prepared = self._redirected(request, response, len(history))
                if stream:
                    await _drain(response)
            except BaseException:
                self._let_go(connection)
                raise
            self._let_go(connection)
            history = [*history, response]

    def _redirected(self, request: Request, response: Response, followed: int) -> _Prepared:
        try:
            if followed == self._max_redirects:
                raise TooManyRedirects(
                    f"{request.method} {request.url}: {followed} redirects were followed already"
                )
            following = redirected(request, response.status_code, response.headers)
        except RedirectError as error:
            error.response = response
            raise
        return _Prepared(following, self._endpoint(following.url))

    async def _exchange(
        self,
        prepared: _Prepared,
        head: bytes,
        deadline: float | None,
        deadline_ns: int,
        stream: bool,
    ) -> tuple[ClientConnection, Response]:
        """Send one request and wait for its response, or (streamed) for the head of it.

        A connection from the pool that was closed before a byte of the response came did not
        see the request processed, or its server may as well do it again: where the method is
        safe (RFC 9110 section 9.2.2).
        """
        request, endpoint = prepared
        manager = self._manager
        retries = 0
        while True:
            connection = None if retries else manager.take(endpoint)
            if connection is None:
                connection = await manager.acquire(
                    self._factory(request.url), endpoint, deadline=deadline, fresh=retries > 0
                )
            was_used = connection.exchanges > 0
            try:
                body = request.body
                content = None
                if body is not None:
                    content = body.whole
                    if content is None:
                        return connection, await _upload(
                            connection, request, head, deadline_ns, stream
                        )
                return connection, await connection.exchange(
                    head, request.method, request.url, deadline_ns, stream, content
                )
            except BaseException as error:
                connection.abandon()
                manager.discard(connection)
                if not (
                    was_used
                    and connection.unanswered
                    and retries < MAX_STALE_RETRIES
                    and request.is_safe
                    and (body is None or body.replayable)
                    and _is_stale(error)
                ):
                    raise
                retries += 1

    def _let_go(self, connection: ClientConnection) -> None:
        """Give a connection back if its response was read to the end."""
        if connection.is_idle:
            self._manager.release(connection)
        else:
            connection.abandon()
            self._manager.discard(connection)

    def _factory(self, url: URL) -> Callable[[], ClientConnection]:
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

    # -- the client --------------------------------------------------------------------

    @property
    def cookies(self) -> CookieJar:
        """The jar: what servers have set, and what is sent to them."""
        return self._cookies

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
        if self._transport is not None:
            await self._transport.aclose()

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


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"a timeout must be more than 0 seconds, not {timeout}")


def _hooks(hooks: Hooks | None) -> tuple[tuple[Hook, ...], tuple[Hook, ...]]:
    """Return the hooks of requests and those of responses, checked."""
    given = dict(hooks or {})
    sorts = tuple(given.pop("request", ())), tuple(given.pop("response", ()))
    if given:
        raise ValueError(f'event_hooks has "request" and "response", not {", ".join(given)}')
    for hook in (*sorts[0], *sorts[1]):
        if not callable(hook):
            raise TypeError(f"an event hook is callable, not {hook!r}")
    return sorts


async def _call(hooks: tuple[Hook, ...], argument: Request | Response) -> None:
    for hook in hooks:
        result = hook(argument)
        if inspect.isawaitable(result):
            await result

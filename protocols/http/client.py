"""The asyncio face of the HTTP client.

Owns: the making of requests, and the short way of those that need nothing but a connection.
May not touch: bytes on the wire (``protocols.http.connection``), sockets.  Whatever else a
request may meet on its way is ``protocols.http.journey``'s.
Invariant: a connection that was acquired is released, or discarded, on every way out:
success, error, cancellation.

::

    Request --> [hooks] --> connection --> Response --> decoded --> [hooks] --> caller
                                |              |
                                +-- Journey <--+ redirected, or a client or request with more
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Coroutine
from types import NoneType
from typing import Any, Self, Unpack
from urllib.parse import unquote_to_bytes

from protocols.http.auth import Auth, AuthSource, basic_credentials, coerce_auth, is_constant
from protocols.http.bodies import Body, Content, FileSource, FormSource, encode_body
from protocols.http.calls import Calls, Prepared, let_go
from protocols.http.codings import accept_encoding
from protocols.http.connection import ClientConnection
from protocols.http.cookies import CookieJar, CookieSource
from protocols.http.errors import ClientClosedError, InvalidHeader
from protocols.http.headers import Headers
from protocols.http.journey import Begun, Journey
from protocols.http.limits import (
    DEFAULT_LIMITS,
    DEFAULT_TIMEOUT_SECONDS,
    KEPT_URL_LENGTH,
    LONGEST_TIMEOUT_SECONDS,
    MAX_BODY_BYTES,
    MAX_REDIRECTS,
    MAX_STALE_RETRIES,
    PARSED_URLS,
    ResponseLimits,
)
from protocols.http.options import (
    Default,
    Hooks,
    OnPassword,
    OnRedirect,
    Sending,
    Settings,
    as_timeout,
    call_hooks,
    check_sending,
    read_hooks,
)
from protocols.http.proxies import Proxies, ProxySource
from protocols.http.query import Params, encode_params, extend_query, merge_params
from protocols.http.redirects import is_redirect
from protocols.http.request import HeaderSource, Request, token_of
from protocols.http.response import Response
from protocols.http.retries import Retry
from protocols.http.retry_budget import RetryBudget
from protocols.http.routes import Opener, Routes
from protocols.http.sending import is_stale, upload
from protocols.http.streams import StreamBlock, held
from protocols.http.timeouts import Timeout, check_seconds
from protocols.http.url import URL
from protocols.http.watching import OnInformational, OnProgress, Watcher
from reactor import ConnectionManager, Endpoint, EndpointError, EventLoop, PoolClosedError

__all__ = ["AsyncClient", "Default"]


Answer = tuple[ClientConnection, Response]
# A request, whether redirects are followed, and the seconds that it may take; or who does it all.
Plan = tuple[Prepared, bool, float | None] | Coroutine[Any, Any, Response]


class AsyncClient(Calls):
    """An HTTP/1.1 client for asyncio code on a ``reactor`` event loop.

    Args:
        base_url: what the URLs of requests are below: "items" and "/items" are both
            ``/v1/items`` with ``http://host/v1`` (see ``URL.below``).
        params: query parameters of every request.
        headers: sent with every request.
        cookies: what the jar begins with (see ``CookieJar``), or a jar, which is then shared.
        timeout: seconds from the call to the last byte of the response, name resolution,
            waiting for a connection, TLS, redirects and all; ``None`` for no limit.  A
            ``Timeout`` limits phases, too.
        follow_redirects: whether redirects are followed (RFC 9110 section 15.4).
        max_redirects: for one request; the next one raises ``TooManyRedirects``.
        event_hooks: ``{"request": [...], "response": [...]}``: called with each ``Request``
            before it is sent and each ``Response`` when its head is there (for a response
            that is not streamed: its body too), redirects included.  A coroutine function is
            awaited.  What they raise goes to the caller.  A response's hook has its connection
            still: one that asks the same host again needs another.
        tls: the ``ssl.SSLContext`` of https; by default one that verifies against the
            system's or certifi's roots and is shared by all clients.
        max_connections, max_per_host, idle_seconds, resume_tls: see
            ``reactor.ConnectionManager``.
        limits: what a response may cost beside the content itself.
        max_body_bytes: what a body that is not streamed may not exceed, decoded.
        proxy: the URL of a proxy or a ``Proxy``, for all requests, or a mapping from "http",
            "https" and "all" to such; see ``protocols.http.proxies``.
        trust_env: whether the environment names the proxies where *proxy* does not.
        uds: the path of a UNIX socket that answers for all hosts.
        transport: what opens connections in place of the network (``reactor.Endpoint.opener``);
            for tests see ``protocols.http.testing``.  Its ``aclose``, if any, is awaited.
        auth, on_password, retry, on_redirect, on_send, on_receive, on_informational: what
            requests have that have none of their own; see ``protocols.http.options.Sending``.
            The credentials of *auth* go to one origin, that of the first request.

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
        timeout: float | Timeout | None = DEFAULT_TIMEOUT_SECONDS,
        follow_redirects: bool = False,
        max_redirects: int = MAX_REDIRECTS,
        event_hooks: Hooks | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 1_000,
        max_per_host: int = 100,
        idle_seconds: float = 30.0,
        resume_tls: bool = True,
        limits: ResponseLimits | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        proxy: ProxySource | None = None,
        trust_env: bool = True,
        uds: str | os.PathLike[str] | None = None,
        transport: Opener | None = None,
        auth: AuthSource | None = None,
        on_password: OnPassword | None = None,
        retry: Retry | None = None,
        on_redirect: OnRedirect | None = None,
        on_send: OnProgress | None = None,
        on_receive: OnProgress | None = None,
        on_informational: OnInformational | None = None,
    ) -> None:
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls is an ssl.SSLContext, not {type(tls).__name__}")
        if max_body_bytes < 0:
            raise ValueError(f"max_body_bytes must not be negative, not {max_body_bytes}")
        if max_redirects < 0:
            raise ValueError(f"max_redirects must not be negative, not {max_redirects}")
        self._base_url = (
            base_url if base_url is None or isinstance(base_url, URL) else URL(base_url)
        )
        self._parse = functools.lru_cache(PARSED_URLS)(
            URL if self._base_url is None else self._base_url.below
        )
        self._params = None if params is None else encode_params(params)
        own = (("Accept", "*/*"), ("Accept-Encoding", accept_encoding()))
        self._headers = Headers(own).merged_with(headers or ())
        phases = as_timeout(timeout)
        self._request_hooks, self._response_hooks = read_hooks(event_hooks)
        self._limits = DEFAULT_LIMITS if limits is None else limits
        self._max_body_bytes = max_body_bytes
        given = {
            "on_password": on_password,
            "retry": retry,
            "on_redirect": on_redirect,
            "on_send": on_send,
            "on_receive": on_receive,
            "on_informational": on_informational,
        }
        check_sending(given)
        sending: Any = {name: value for name, value in given.items() if value is not None}
        budget = None if retry is None else RetryBudget(retry)
        super().__init__(
            ConnectionManager(
                max_connections=max_connections,
                max_per_endpoint=max_per_host,
                idle_seconds=idle_seconds,
                resume_tls=resume_tls,
            ),
            cookies if isinstance(cookies, CookieJar) else CookieJar(cookies),
            phases=phases,
            follow=follow_redirects,
            retry=retry,
            budget=budget,
        )
        if (proxy is not None) + (uds is not None) + (transport is not None) > 1:
            raise TypeError("proxy, uds and transport exclude each other")
        self._transport = transport
        takes_proxies = trust_env and uds is None and transport is None
        proxies = Proxies(proxy, os.environ if takes_proxies else None)
        path = None if uds is None else os.fspath(uds)
        self._routes = Routes(proxies, path, tls, transport)
        self._settings = Settings(
            manager=self._manager,
            routes=self._routes,
            cookies=self._cookies,
            limits=self._limits,
            max_body_bytes=max_body_bytes,
            max_redirects=max_redirects,
            request_hooks=self._request_hooks,
            response_hooks=self._response_hooks,
            auth=coerce_auth(auth),
            sending=sending,
            budget=budget,
        )
        credentials = self._settings.auth
        # whether a request has more to it than a connection, once it does not go the short way
        self._general = bool(proxies or sending or credentials is not None or phases.has_phases)
        is_special = bool(
            proxies
            or sending.keys() - {"retry"}
            or self._request_hooks
            or self._response_hooks
            or type(retry) not in (Retry, NoneType)
            or not (credentials is None or is_constant(credentials))
        )
        self._is_direct = not is_special
        # what goes with each request that goes the short way
        self._auth = None if is_special else credentials
        self._closed = False

    # -- requests ----------------------------------------------------------------------

    async def _fetch(
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
        timeout: float | Timeout | Default | None = Default.CLIENT,
        **more: Unpack[Sending],
    ) -> Response:
        """Do what ``request`` says, where ``Calls`` does not."""
        prepared = self._prepare(method, url, content, data, files, json, params, headers)
        return await self._finish(prepared, cookies, follow_redirects, timeout, more)

    def _plan(
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
        timeout: float | Timeout | Default | None = Default.CLIENT,
        **more: Unpack[Sending],
    ) -> Plan:
        """Check and render a request whose options are given.

        Returns it, and whether redirects are followed and the seconds that it may take, where it
        needs no more than a connection; else a coroutine that does all of it.
        """
        prepared = self._prepare(method, url, content, data, files, json, params, headers)
        body = prepared.request.body
        if (
            more
            or cookies is not None
            or isinstance(timeout, Timeout)
            or (self._has_phases and timeout is not Default.CLIENT)
            or (body is not None and (body.whole is None or "Expect" in prepared.request.headers))
        ):
            return self._finish(prepared, cookies, follow_redirects, timeout, more)
        if follow_redirects is Default.CLIENT:
            follow_redirects = self._follow
        if timeout is Default.CLIENT:
            timeout = self._timeout
        else:
            check_seconds(timeout)
        if self._auth is not None and not prepared.is_kept:
            is_plain = params is None and headers is None and body is None
            prepared = self._authorize(prepared, self._auth, method if is_plain else None, url)
        return prepared, follow_redirects, timeout

    def _authorize(
        self, prepared: Prepared, auth: Auth, method: str | None, url: str | URL
    ) -> Prepared:
        """Add the client's credentials to a request, which binds them to its origin.

        With a *method* it is kept for the next of its kind.
        """
        request = prepared.request
        if "Authorization" not in request.headers:
            credentials = auth.headers_for(request.method, request.url)
            prepared = Prepared(request, prepared.endpoint, credentials)
        if method is not None and len(str(request.url)) <= KEPT_URL_LENGTH:
            self._keep(prepared, method, url)
        return prepared

    async def _finish(
        self,
        prepared: Prepared,
        cookies: CookieSource | None,
        follow: bool | Default,
        timeout: float | Timeout | Default | None,
        more: Sending,
    ) -> Response:
        connection, response = await self._send(prepared, cookies, follow, timeout, False, more)
        self._manager.release(connection)
        return response

    def stream(
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
        timeout: float | Timeout | Default | None = Default.CLIENT,
        **more: Unpack[Sending],
    ) -> StreamBlock:
        """Send a request for an ``async with`` block; the response's body is streamed.

        Read it with ``response.aiter_bytes()`` or ``aread()``.  A body that was not read to
        its end when the block is left costs the connection.  The block begins when the head
        is there and all content was sent, unless the request has failed before that: from a
        server that sends back what it reads, no more comes than the sockets hold.  Arguments as
        for ``request``; what is wrong with them raises where the block begins.
        """

        def start() -> Coroutine[Any, Any, Answer]:
            prepared = self._prepare(method, url, content, data, files, json, params, headers)
            return self._send(prepared, cookies, follow_redirects, timeout, True, more)

        return StreamBlock(self._manager, start)

    def stream_request(
        self,
        request: Request,
        *,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Timeout | Default | None = Default.CLIENT,
        **more: Unpack[Sending],
    ) -> StreamBlock:
        """Send what ``build_request`` or ``Request`` made, as ``stream`` does."""

        def start() -> Coroutine[Any, Any, Answer]:
            prepared = Prepared(request, self._endpoint(request.url))
            return self._send(prepared, cookies, follow_redirects, timeout, True, more)

        return StreamBlock(self._manager, start)

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
        fields = self._fields(headers)
        body = self._body(content, data, files, json, fields)
        return self._build(method, url, params, fields, body)

    def _build(
        self,
        method: str,
        url: str | URL,
        params: Params | None,
        fields: Headers,
        body: Body | None,
    ) -> Request:
        if isinstance(url, URL):
            target = url
        else:
            is_kept = type(url) is str and len(url) <= KEPT_URL_LENGTH
            target = (self._parse if is_kept else self._parse.__wrapped__)(url)
        if params is not None or self._params is not None:
            query = extend_query(target.query, merge_params(self._params, params))
            if query != target.query:
                target = target.with_query(query)
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
        stream: bool = False,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = Default.CLIENT,
        timeout: float | Timeout | Default | None = Default.CLIENT,
        **more: Unpack[Sending],
    ) -> Response:
        """Send what ``build_request`` or ``Request`` made; see ``request``.

        With *stream* the response is there when its head is.  It has the connection until its
        body was read, or it is closed (``Response.aclose``); ``stream_request`` sees to that.
        """
        prepared = Prepared(request, self._endpoint(request.url))
        answer = await self._send(prepared, cookies, follow_redirects, timeout, stream, more)
        if stream:
            return held(self._manager, answer)
        self._manager.release(answer[0])
        return answer[1]

    # -- the way of a request ------------------------------------------------------------

    def _prepare(
        self,
        method: str,
        url: str | URL,
        content: Content | None,
        data: FormSource | None,
        files: FileSource | None,
        json: Any,
        params: Params | None,
        headers: HeaderSource | None,
    ) -> Prepared:
        """Check and render a request; one with nothing of its own is kept for the next.

        Where it needs the client's credentials, ``_plan`` does that.
        """
        method = token_of(method)
        fields = self._fields(headers)
        body = self._body(content, data, files, json, fields)
        plain = params is None and headers is None and body is None
        if plain:
            prepared = self._recall(method, url)
            if prepared is not None:
                return prepared
        request = self._build(method, url, params, fields, body)
        prepared = Prepared(request, self._endpoint(request.url))
        if plain and self._auth is None and len(str(request.url)) <= KEPT_URL_LENGTH:
            self._keep(prepared, method, url)
        return prepared

    def _fields(self, headers: HeaderSource | None) -> Headers:
        return self._headers if headers is None else self._headers.merged_with(headers)

    def _body(
        self,
        content: Content | None,
        data: FormSource | None,
        files: FileSource | None,
        json: Any,
        fields: Headers,
    ) -> Body | None:
        """Return what a request's arguments say that its content is."""
        if content is None and data is None and files is None and json is None:
            return None
        size = fields.get("Content-Length")
        if size is not None and not (size.isascii() and size.isdigit() and len(size) < 19):
            raise InvalidHeader("Content-Length", "it is not one number (RFC 9110 section 8.6)")
        return encode_body(
            content=content,
            data=data,
            files=files,
            json=json,
            content_type=fields.get("Content-Type"),
            size=None if size is None else int(size),
        )

    def _endpoint(self, url: URL) -> Endpoint:
        return self._routes.endpoint(url)

    async def _send(
        self,
        prepared: Prepared,
        cookies: CookieSource | None,
        follow: bool | Default,
        timeout: float | Timeout | Default | None,
        stream: bool,
        more: Sending,
    ) -> Answer:
        """Send a request, and those to which it leads.

        Returns the last response, streamed or whole, and its connection, which is the caller's
        to release.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        if follow is Default.CLIENT:
            follow = self._follow
        also = None if cookies is None else CookieJar(cookies)
        if more or self._general or isinstance(timeout, Timeout):
            return await self._travel(prepared.request, more, also, follow, timeout, stream)
        if timeout is Default.CLIENT:
            timeout = self._timeout
        else:
            check_seconds(timeout)
        seconds = _limited(timeout)
        deadline_ns = 0 if seconds is None else int((loop.time() + seconds) * 1e9)
        if self._request_hooks:
            await call_hooks(self._request_hooks, prepared.request)
        return await self._carry(prepared, also, follow, timeout, deadline_ns, stream, 0)

    async def _go_on(
        self,
        prepared: Prepared,
        deadline_ns: int,
        answer: list[Answer],
        follow: bool,
        timeout: float | None,
        waiter: Any,
        retries: int,
        failures: list[EndpointError],
    ) -> Response:
        """Do the rest of a request that ``Calls`` began.

        Args:
            prepared: what is sent, or was.
            deadline_ns: on the loop's clock, 0 for none.
            answer: holds a connection and the response that came over it, which is the
                caller's until this is emptied; empty when there is none.
            follow: whether redirects are followed.
            timeout: of this request, in seconds, or ``None``.
            waiter: holds what it was served where it waited for a connection, or is ``None``.
            retries: how often a stale connection was met.
            failures: hold what it failed with, if it may be sent again in spite of that.
        """
        if answer or self._general:
            phases = self._phases if self._has_phases else Timeout(timeout)
            begun = Begun(answer, failures, waiter, retries)
            connection, response = await self._journey(
                prepared.request, begun, None, follow, phases, deadline_ns, False
            )
        else:
            connection, response = await self._carry(
                prepared, None, follow, timeout, deadline_ns, False, retries, waiter
            )
        self._manager.release(connection)
        return response

    async def _carry(
        self,
        prepared: Prepared,
        also: CookieJar | None,
        follow: bool,
        timeout: float | None,
        deadline_ns: int,
        stream: bool,
        retries: int,
        waiter: Any = None,
    ) -> Answer:
        """Send a plain request; see ``_go_on``."""
        request = prepared.request
        cookie = self._cookies.header_for(request.url, also)
        head = request.head()
        if cookie is not None and "Cookie" not in request.headers:
            head = request.head((("Cookie", cookie),))
        connection, response = await self._exchange(
            prepared, head, deadline_ns, stream, retries, waiter
        )
        answers = [(connection, response)]
        try:  # nothing is called before, where a signal's handler would lose the connection
            if follow and is_redirect(response.status_code, response.headers):
                return await self._journey(
                    request, Begun(answers), also, True, Timeout(timeout), deadline_ns, stream
                )
            response.request = request
            self._take_note(request, response)
            if self._response_hooks:
                await call_hooks(self._response_hooks, response)
        except BaseException:
            if answers:
                let_go(self._manager, connection)
            raise
        return connection, response

    def _watcher(self, connection: ClientConnection) -> Watcher:
        return Watcher(connection, self._phases, None, None)

    def _take_note(self, request: Request, response: Response) -> None:
        """Do what a response's fields ask of the client."""
        if response.sets_cookies:
            self._cookies.store(request.url, response.headers)
        if response.is_encoded:
            response.decode(self._limits, self._max_body_bytes)

    async def _journey(
        self,
        request: Request,
        begun: Begun,
        also: CookieJar | None,
        follow: bool,
        timeout: Timeout,
        deadline_ns: int,
        stream: bool,
    ) -> Answer:
        """Go on with a request, and go where responses lead."""
        deadline = deadline_ns / 1e9 if deadline_ns else None
        journey = Journey(self._settings, {}, also, follow, timeout, stream, deadline)
        return await journey.run(request, begun)

    async def _travel(
        self,
        request: Request,
        more: Sending,
        cookies: CookieJar | None,
        follow: bool,
        timeout: float | Timeout | Default | None,
        stream: bool,
    ) -> Answer:
        """Send a request that needs more than a connection."""
        check_sending(more)
        phases = self._phases if timeout is Default.CLIENT else as_timeout(timeout)
        journey = Journey(self._settings, more, cookies, follow, phases, stream)
        try:
            return await journey.run(request)
        finally:
            if self._settings.passwords:  # which only a journey knows
                self._general = True
                self._is_direct = False

    async def _exchange(
        self,
        prepared: Prepared,
        head: bytes,
        deadline_ns: int,
        stream: bool,
        retries: int,
        waiter: Any,
    ) -> Answer:
        """Send one request and wait for its response, or (streamed) for the head of it.

        A connection from the pool that was closed before a byte of the response came did not
        see the request processed, or its server may as well do it again: where the method is
        safe (RFC 9110 section 9.2.2).
        """
        request, endpoint = prepared.request, prepared.endpoint
        manager = self._manager
        deadline = deadline_ns / 1e9 if deadline_ns else None
        while True:
            try:
                factory = self._factory(request.url)
                if waiter is None:
                    connection = await manager.acquire(
                        factory, endpoint, deadline=deadline, fresh=retries > 0
                    )
                else:
                    connection = await manager._acquire(factory, endpoint, deadline, False, waiter)
                    waiter = None
            except PoolClosedError:
                raise ClientClosedError("the client was closed") from None
            was_used = connection.exchanges > 0
            try:
                body = request.body
                content = None
                if body is not None:
                    content = None if "Expect" in request.headers else body.whole
                    if content is None:
                        return connection, await upload(
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
                    and is_stale(error)
                ):
                    raise
                retries += 1

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
    def headers(self) -> Headers:
        """What every request has that has no others of these names; not to be changed."""
        return self._headers

    @property
    def base_url(self) -> URL | None:
        """What the URLs of requests are below, or ``None``."""
        return self._base_url

    @property
    def timeout(self) -> Timeout:
        """The limits of requests that have none of their own."""
        return self._phases

    @property
    def is_closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    @property
    def manager(self) -> ConnectionManager:
        """The connection manager, for its ``stats()`` and ``repr``."""
        return self._manager

    async def aclose(self) -> None:
        """Close every connection.  Requests without one get ``ClientClosedError`` from now on.

        Raises ``RuntimeError`` on another loop than the client's, unless that is closed.
        """
        loop = self._loop
        if loop is not None and loop is not asyncio.get_running_loop() and not loop.is_closed():
            raise RuntimeError("the client belongs to another event loop")
        self._closed = True
        self._loop = None
        self._parse.cache_clear()
        self._forget()
        await self._manager.close()
        close = getattr(self._transport, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient {'closed' if self._closed else 'open'}, {self._manager!r}>"


def _limited(timeout: float | None) -> float | None:
    """Return a timeout for which there is a deadline on the clock, or ``None``."""
    return None if timeout is None or timeout > LONGEST_TIMEOUT_SECONDS else timeout


def _basic(userinfo: str) -> str:
    """Return a URL's user information as Basic credentials (RFC 7617 section 2)."""
    user, _, password = userinfo.partition(":")
    return basic_credentials(unquote_to_bytes(user), unquote_to_bytes(password))

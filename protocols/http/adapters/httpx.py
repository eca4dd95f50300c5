"""httpx on this client: ``httpx.AsyncClient(transport=AsyncTransport())``, and the blocking one.

Owns: the translation of requests, responses and errors.  May not touch: cookies, redirects,
authentication and content codings, which httpx deals with.
Invariant: a response that httpx closes gives its connection back, or ends it if the body was
not read to its end; every error is an ``httpx.TransportError`` with ours as its cause.

On our event loop httpx's own needs are ``anyio`` and ``sniffio``, nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx

from protocols.http.adapters.settings import Certificate, Verify, context_of
from protocols.http.bodies import Body, encode_body
from protocols.http.client import AsyncClient
from protocols.http.cookies import NoCookies
from protocols.http.errors import HTTPError, InvalidURL, ProxyError, ResponseError
from protocols.http.headers import Headers
from protocols.http.proxies import Proxy
from protocols.http.request import Request
from protocols.http.response import Response
from protocols.http.retries import Retry
from protocols.http.sync_client import Client
from protocols.http.timeouts import Timeout
from protocols.http.url import URL
from reactor import EndpointError, EndpointTimeoutError, PoolFullError

__all__ = ["AsyncTransport", "Transport"]

# What follows from the content, and is written by whoever sends it.
_FRAMING = (b"content-length", b"transfer-encoding")
# Extensions that change what is sent, or what is verified.
_NOT_FOLLOWED = ("sni_hostname", "target")
_TIMEOUTS = {
    "pool": httpx.PoolTimeout,
    "resolve": httpx.ConnectTimeout,
    "connect": httpx.ConnectTimeout,
    "tls": httpx.ConnectTimeout,
    "write": httpx.WriteTimeout,
    "read": httpx.ReadTimeout,
}


class AsyncTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` on a ``reactor`` event loop.

    Args:
        verify: ``True``, ``False``, an ``ssl.SSLContext``, or a file or directory of roots.
        cert: the client's certificate: a PEM file, or (certificate, key[, password]).
        limits: how many connections there may be, and how long one may be idle.
        proxy: the URL of a proxy, or an ``httpx.Proxy``.
        uds: the path of a UNIX socket, instead.
        retries: how often a connection that cannot be made is tried again.
        options: of our ``AsyncClient``, in place of what follows from the others.

    The timeouts are httpx's, which go with each request.  Content codings are taken off by
    httpx, which knows no limit of what a small body may decode to: stream what a stranger
    sends.  A *cert* is shown to every host that is asked, redirected or not, as httpx has it.
    The extensions ``sni_hostname`` and ``target`` are refused; ``trace`` is never called.
    """

    def __init__(
        self,
        *,
        verify: Verify = True,
        cert: Certificate | None = None,
        limits: httpx.Limits | None = None,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        uds: str | None = None,
        retries: int = 0,
        **options: Any,
    ) -> None:
        self._client = AsyncClient(
            **_client_options(verify, cert, limits, proxy, uds, retries, options)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return its response with a body that is to be read, and closed."""
        with _translated(request):
            exchange = self._client.stream_request(
                _request(request), timeout=_timeout(request), follow_redirects=False
            )
            response = await exchange.__aenter__()
        return _response(response, _AsyncBody(exchange, response, request))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<AsyncTransport over {self._client!r}>"


class Transport(httpx.BaseTransport):
    """A transport for ``httpx.Client``; arguments as for ``AsyncTransport``."""

    def __init__(
        self,
        *,
        verify: Verify = True,
        cert: Certificate | None = None,
        limits: httpx.Limits | None = None,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        uds: str | None = None,
        retries: int = 0,
        **options: Any,
    ) -> None:
        self._client = Client(**_client_options(verify, cert, limits, proxy, uds, retries, options))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return its response with a body that is to be read, and closed."""
        with _translated(request):
            exchange = self._client.stream_request(
                _request(request), timeout=_timeout(request), follow_redirects=False
            )
            response = exchange.__enter__()
        return _response(response, _Body(exchange, response, request))

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def __repr__(self) -> str:
        return f"<Transport over {self._client!r}>"


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, exchange: Any, response: Response, request: httpx.Request) -> None:
        self._exchange = exchange
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._request):
            async for data in self._response.aiter_raw():
                yield data

    async def aclose(self) -> None:
        await self._exchange.__aexit__(None, None, None)


class _Body(httpx.SyncByteStream):
    def __init__(self, exchange: Any, response: Response, request: httpx.Request) -> None:
        self._exchange = exchange
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._request):
            yield from self._response.iter_raw()

    def close(self) -> None:
        self._exchange.__exit__(None, None, None)


def _client_options(
    verify: Verify,
    cert: Certificate | None,
    limits: httpx.Limits | None,
    proxy: str | httpx.URL | httpx.Proxy | None,
    uds: str | None,
    retries: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "tls": context_of(verify, cert),
        "cookies": NoCookies(),
        "timeout": None,
        "trust_env": False,
        "uds": uds,
    }
    if proxy is not None:
        chosen["proxy"] = _proxy(proxy)
    if retries:
        chosen["retry"] = Retry(
            attempts=retries, phases=("resolve", "connect", "tls"), statuses=(), budget=None
        )
    if limits is not None:
        if limits.max_connections is not None:
            chosen["max_connections"] = chosen["max_per_host"] = limits.max_connections
        if limits.keepalive_expiry is not None:
            chosen["idle_seconds"] = limits.keepalive_expiry
    return {**chosen, **options}


def _proxy(proxy: str | httpx.URL | httpx.Proxy) -> Proxy:
    if not isinstance(proxy, httpx.Proxy):
        return Proxy(str(proxy))
    return Proxy(
        str(proxy.url), auth=proxy.auth, headers=proxy.headers.multi_items(), tls=proxy.ssl_context
    )


def _request(request: httpx.Request) -> Request:
    """Return httpx's request as ours, with the same fields in the same order."""
    for name in _NOT_FOLLOWED:
        if name in request.extensions:
            raise httpx.LocalProtocolError(
                f"the extension {name!r} is not supported", request=request
            )
    fields = Headers([pair for pair in request.headers.raw if pair[0].lower() not in _FRAMING])
    try:
        # User information became an Authorization field in httpx.
        url = URL(str(request.url.copy_with(username=None, password=None, fragment=None)))
        return Request(request.method, url, headers=fields, content=_content(request))
    except HTTPError:
        raise
    except ValueError as error:  # CONNECT, say
        raise httpx.LocalProtocolError(str(error), request=request) from error


def _content(request: httpx.Request) -> Body | None:
    size = request.headers.get("Content-Length")
    if size is None and "Transfer-Encoding" not in request.headers:
        return None
    try:
        content: Any = request.content
    except httpx.RequestNotRead:
        content = request.stream
    return encode_body(
        content=content,
        size=None if size is None else int(size),
    )


def _timeout(request: httpx.Request) -> Timeout:
    """Return the timeouts that httpx wants; its connect is our TLS, too, each with that time."""
    given = request.extensions.get("timeout") or {}
    connect = given.get("connect")
    return Timeout(
        pool=given.get("pool"),
        connect=connect,
        tls=connect,
        write=given.get("write"),
        read=given.get("read"),
    )


def _response(response: Response, body: Any) -> httpx.Response:
    return httpx.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=body,
        extensions={
            "http_version": response.http_version.encode("ascii"),
            "reason_phrase": response.reason_phrase.encode("latin-1"),
        },
    )


@contextlib.contextmanager
def _translated(request: httpx.Request) -> Iterator[None]:
    """Raise what goes wrong as httpx's own."""
    try:
        yield
    except (HTTPError, EndpointError, PoolFullError) as error:
        raise _kind(error)(str(error), request=request) from error


def _kind(error: Exception) -> type[httpx.TransportError]:
    """Return httpx's class of an error of ours."""
    if isinstance(error, EndpointTimeoutError):
        return _TIMEOUTS.get(error.phase, httpx.ReadTimeout)
    if isinstance(error, PoolFullError):
        return httpx.PoolTimeout
    if isinstance(error, ProxyError):
        return httpx.ProxyError
    if isinstance(error, ResponseError):
        return httpx.RemoteProtocolError
    if isinstance(error, EndpointError):
        if error.phase in ("resolve", "connect", "tls"):
            return httpx.ConnectError
        return httpx.WriteError if error.phase == "write" else httpx.ReadError
    if isinstance(error, InvalidURL) and error.part == "scheme":
        return httpx.UnsupportedProtocol
    return httpx.LocalProtocolError

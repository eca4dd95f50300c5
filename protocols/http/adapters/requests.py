"""requests on this client: ``session.mount("https://", Adapter())``.

Owns: the translation of requests, responses and errors, and a client for each way of
connecting that is asked for.  May not touch: cookies, redirects, authentication and content
codings, which requests (and urllib3's response class below it) deal with.
Invariant: a response that requests closes, or reads to its end, gives its connection back;
every error is a ``requests.RequestException`` with ours as its cause.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from http.client import HTTPMessage
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPHeaderDict, HTTPResponse

from protocols.http.adapters.settings import context_of
from protocols.http.bodies import Body, encode_body
from protocols.http.cookies import NoCookies
from protocols.http.errors import HTTPError, InvalidHeader, InvalidURL, ProxyError, ResponseError
from protocols.http.request import Request
from protocols.http.response import Response
from protocols.http.sync_client import Client
from protocols.http.timeouts import Timeout
from protocols.http.url import URL
from reactor import (
    EndpointError,
    EndpointTimeoutError,
    PoolFullError,
    TLSError,
)
from reactor.locks import Mutex, synchronized

__all__ = ["Adapter"]

# Ways of connecting (verify, cert, proxy) that are kept apart; a program has one or two.
MAX_CLIENTS = 64

_FRAMING = ("content-length", "transfer-encoding")


class Adapter(HTTPAdapter):
    """An adapter for ``requests.Session``; may be used from any thread, as our ``Client``.

    Args:
        options: of our ``Client``, for example ``max_connections``.

    *verify*, *cert*, *proxies* and *timeout* are those of requests, which go with each request.
    Content codings are taken off by requests, which knows no limit of what a small body may
    decode to: stream what a stranger sends.  A *cert* of the session's is shown to every https
    host that is asked, redirected or not, as requests has it.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._clients: dict[Any, Client] = {}
        self._mutex = Mutex()
        super().__init__()

    def init_poolmanager(self, *_: Any, **__: Any) -> None:
        """Make no pool of urllib3's."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request; return its response with a body that is yet to be read."""
        try:
            ours = _request(request)
            client = self._client(request, verify, cert, proxies)
            exchange = client.stream_request(
                ours, timeout=_timeout(timeout), follow_redirects=False
            )
            response = exchange.__enter__()
        except (HTTPError, EndpointError, PoolFullError) as error:
            raise _kind(error)(error, request=request) from error
        body = HTTPResponse(
            _Body(exchange, response),
            headers=HTTPHeaderDict(response.headers.multi_items()),
            status=response.status_code,
            reason=response.reason_phrase,
            version=11 if response.http_version == "HTTP/1.1" else 10,
            preload_content=False,
            decode_content=False,
            original_response=_Original(response),  # type: ignore[arg-type]
            request_method=request.method,
            request_url=request.url,
        )
        return self.build_response(request, body)

    def close(self) -> None:
        """Close every connection."""
        for client in self._take_clients():
            client.close()

    @synchronized("_mutex")
    def _take_clients(self) -> Iterable[Client]:
        clients, self._clients = self._clients, {}
        return clients.values()

    @synchronized("_mutex")
    def _client(
        self,
        request: requests.PreparedRequest,
        verify: Any,
        cert: Any,
        proxies: Mapping[str, str] | None,
    ) -> Client:
        """Return the client that connects as this request wants it."""
        proxy = select_proxy(request.url or "", dict(proxies) if proxies else None)
        if not (request.url or "").lower().startswith("https:"):
            verify, cert = True, None  # there is nothing to verify and nobody to show it to
        key = (verify, tuple(cert) if isinstance(cert, list) else cert, proxy)
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= MAX_CLIENTS:
                raise requests.exceptions.ConnectionError(
                    f"{MAX_CLIENTS} ways of connecting (verify, cert, proxy) are in use",
                    request=request,
                )
            client = self._clients[key] = self._new_client(verify, cert, proxy, request)
        return client

    def _new_client(
        self, verify: Any, cert: Any, proxy: str | None, request: requests.PreparedRequest
    ) -> Client:
        try:
            tls = context_of(verify, cert)
        except ValueError as error:
            raise requests.exceptions.SSLError(error, request=request) from error
        options: dict[str, Any] = {
            "tls": tls,
            "cookies": NoCookies(),
            "timeout": None,
            "trust_env": False,
        }
        if proxy is not None:
            options["proxy"] = proxy
        return Client(**{**options, **self._options})

    def __getstate__(self) -> dict[str, Any]:
        return {"_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["_options"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"<Adapter with {len(self._clients)} clients>"


class _Body(io.RawIOBase):
    """A streamed body as the file that urllib3 reads; it ends the exchange when it is closed."""

    def __init__(self, exchange: Any, response: Response) -> None:
        self._exchange = exchange
        self._pieces = response.iter_raw()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return at most *size* bytes, none at the end; without a size, all."""
        if self.closed:
            return b""
        try:
            if size is None or size < 0:
                whole = b"".join([bytes(self._rest), *self._pieces])
                self.close()
                return whole
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
        except BaseException:  # requests keeps a body that broke, and the exchange with it
            self.close()
            raise
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else end it."""
        if not self.closed:
            super().close()
            self._rest = memoryview(b"")
            self._exchange.__exit__(None, None, None)


class _Original:
    """What requests takes a response's cookies from."""

    def __init__(self, response: Response) -> None:
        self.msg = HTTPMessage()
        for name, value in response.headers.multi_items():
            self.msg[name] = value

    def isclosed(self) -> bool:
        """Whether http.client would have closed it; urllib3 asks."""
        return True

    def close(self) -> None:
        """There is nothing to close."""


def _request(request: requests.PreparedRequest) -> Request:
    """Return a prepared request as ours."""
    fields = [
        (_text(name), _text(value))
        for name, value in request.headers.items()
        if _text(name).lower() not in _FRAMING
    ]
    url = URL(request.url or "")
    if url.userinfo:  # requests made an Authorization field of it, or was told not to
        url = URL(str(url).replace(f"{url.userinfo}@", "", 1))
    try:
        return Request(request.method or "", url, headers=fields, content=_content(request))
    except HTTPError:
        raise
    except ValueError as error:  # CONNECT, say
        raise requests.exceptions.InvalidURL(error, request=request) from error


def _content(request: requests.PreparedRequest) -> Body | None:
    if request.body is None:
        return None
    size = request.headers.get("Content-Length")
    return encode_body(
        content=request.body,  # type: ignore[arg-type]  # what else there may be, it refuses
        size=None if size is None else int(size),
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _timeout(timeout: Any) -> Timeout:
    """Return requests' one number, or two (connect, read), as ours."""
    if timeout is not None and not isinstance(timeout, int | float | tuple):
        timeout = (timeout.connect_timeout, timeout.read_timeout)  # urllib3's class
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    return Timeout(connect=connect, tls=connect, write=read, read=read)


def _kind(error: Exception) -> type[requests.RequestException]:
    """Return the class that requests has for an error of ours."""
    if isinstance(error, EndpointTimeoutError):
        if error.phase in ("read", "write"):
            return requests.exceptions.ReadTimeout
        return requests.exceptions.ConnectTimeout
    if isinstance(error, ProxyError):
        return requests.exceptions.ProxyError
    if isinstance(error, TLSError):
        return requests.exceptions.SSLError
    if isinstance(error, InvalidURL):
        if error.part == "scheme":
            return requests.exceptions.InvalidSchema
        return requests.exceptions.InvalidURL
    if isinstance(error, InvalidHeader):
        return requests.exceptions.InvalidHeader
    if isinstance(error, ResponseError | EndpointError | PoolFullError):
        return requests.exceptions.ConnectionError
    return requests.exceptions.RequestException

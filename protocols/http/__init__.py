"""HTTP/1.1 for clients: blocking, asyncio and call-back faces over one core.

The rooms, from the door down:

    client, sync_client   what users call: AsyncClient and Client
    fetch                 the fetcher, ``cyfetch``
    streams               the block of a streamed response, and what it holds
    connection            one exchange is one future; bodies collected or streamed
    protocol              HTTPProtocol: one connection with call-backs
    request, response     what is asked and what comes back
    journey               a request through challenges, retries and redirects
    options               what may be said of a request, for one or for all
    redirects             where a redirect leads, and what may go there
    auth, retries, timeouts, watching      the parts of a journey
    routes, proxies       how a connection gets to an origin
    reading, codings      bodies as they are read: decoded, as text, as lines
    query                 params as a query string
    parser, headers       sans-I/O: responses in, request heads out
    url, errors, limits   the leaves
"""

from protocols.http.auth import (
    Auth,
    BasicAuth,
    BearerAuth,
    DigestAuth,
    NetrcAuth,
    NetrcError,
    PasswordAuth,
)
from protocols.http.client import AsyncClient
from protocols.http.cookies import CookieConflictError, CookieJar
from protocols.http.errors import (
    BodyConsumedError,
    ClientClosedError,
    DecodingError,
    HTTPError,
    IncompleteResponseError,
    InvalidHeader,
    InvalidURL,
    ProxyAuthenticationError,
    ProxyError,
    RedirectError,
    RedirectLoop,
    RemoteProtocolError,
    RequestInterruptedError,
    ResponseError,
    ResponseLimitError,
    StatusError,
    TooManyRedirects,
)
from protocols.http.headers import Headers
from protocols.http.limits import ResponseLimits
from protocols.http.options import PasswordQuestion
from protocols.http.protocol import HTTPProtocol
from protocols.http.proxies import Proxy
from protocols.http.request import Request
from protocols.http.response import BodyNotReadError, Response, StreamConsumed
from protocols.http.retries import Retry
from protocols.http.sync_client import Client
from protocols.http.timeouts import (
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    Timeout,
    TLSTimeout,
    WriteTimeout,
)
from protocols.http.url import URL
from protocols.http.watching import Progress

__all__ = [
    "URL",
    "AsyncClient",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "BodyConsumedError",
    "BodyNotReadError",
    "Client",
    "ClientClosedError",
    "ConnectTimeout",
    "CookieConflictError",
    "CookieJar",
    "DecodingError",
    "DigestAuth",
    "HTTPError",
    "HTTPProtocol",
    "Headers",
    "IncompleteResponseError",
    "InvalidHeader",
    "InvalidURL",
    "NetrcAuth",
    "NetrcError",
    "PasswordAuth",
    "PasswordQuestion",
    "PoolTimeout",
    "Progress",
    "Proxy",
    "ProxyAuthenticationError",
    "ProxyError",
    "ReadTimeout",
    "RedirectError",
    "RedirectLoop",
    "RemoteProtocolError",
    "Request",
    "RequestInterruptedError",
    "Response",
    "ResponseError",
    "ResponseLimitError",
    "ResponseLimits",
    "Retry",
    "StatusError",
    "StreamConsumed",
    "TLSTimeout",
    "Timeout",
    "TooManyRedirects",
    "WriteTimeout",
]

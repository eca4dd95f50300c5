"""HTTP/1.1 for clients: blocking, asyncio and call-back faces over one core.

The rooms, from the door down:

    client, sync_client   what users call: AsyncClient and Client
    fetch                 the fetcher, ``cyfetch``
    connection            one exchange is one future; bodies collected or streamed
    protocol              HTTPProtocol: one connection with call-backs
    request, response     what is asked and what comes back
    redirects             where a redirect leads, and what may go there
    reading, codings      bodies as they are read: decoded, as text, as lines
    query                 params as a query string
    parser, headers       sans-I/O: responses in, request heads out
    url, errors, limits   the leaves
"""

from protocols.http.client import AsyncClient, ClientClosedError
from protocols.http.cookies import CookieJar
from protocols.http.errors import (
    HTTPError,
    IncompleteResponseError,
    InvalidHeader,
    InvalidURL,
    RedirectError,
    RemoteProtocolError,
    ResponseError,
    ResponseLimitError,
    StatusError,
    TooManyRedirects,
)
from protocols.http.headers import Headers
from protocols.http.limits import ResponseLimits
from protocols.http.protocol import HTTPProtocol
from protocols.http.request import Request
from protocols.http.response import BodyNotReadError, Response
from protocols.http.sync_client import Client
from protocols.http.url import URL

__all__ = [
    "URL",
    "AsyncClient",
    "BodyNotReadError",
    "Client",
    "ClientClosedError",
    "CookieJar",
    "HTTPError",
    "HTTPProtocol",
    "Headers",
    "IncompleteResponseError",
    "InvalidHeader",
    "InvalidURL",
    "RedirectError",
    "RemoteProtocolError",
    "Request",
    "Response",
    "ResponseError",
    "ResponseLimitError",
    "ResponseLimits",
    "StatusError",
    "TooManyRedirects",
]

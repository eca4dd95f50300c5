"""Where a redirect leads, and what may go there (RFC 9110 section 15.4).

Owns: the request that follows a redirect.  Touches: nothing; it decides, the client sends.
Invariant: what belongs to one origin (credentials, cookies, a Host of the caller's own) never
enters a request for another.

    status          the method becomes GET
    301, 302        if it was POST, as browsers do (Fetch standard, HTTP-redirect fetch, 12)
    303             unless it was GET or HEAD
    307, 308        never

With the method the content goes, and every field that describes content.  304, 300 and 305 are
no redirects that anybody follows.
"""

from __future__ import annotations

from protocols.http.errors import InvalidURL, RedirectError
from protocols.http.headers import Headers
from protocols.http.request import Request
from protocols.http.url import URL

__all__ = ["REDIRECTS", "is_redirect", "redirected"]

REDIRECTS = frozenset([301, 302, 303, 307, 308])

# What only the origin that it was meant for may see.
_OF_ONE_ORIGIN = frozenset(["authorization", "cookie", "cookie2", "host", "proxy-authorization"])
# Representation metadata and framing (RFC 9110 section 15.4, at its end).
_OF_CONTENT = (
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "digest",
    "content-digest",
    "repr-digest",
    "expect",
    "last-modified",
    "trailer",
)


def is_redirect(status_code: int, headers: Headers) -> bool:
    """Return whether a response says where to go instead."""
    return status_code in REDIRECTS and "location" in headers


def redirected(request: Request, status_code: int, headers: Headers) -> Request:
    """Return the request that follows *request* when it was answered with a redirect.

    Raises ``RedirectError`` for a Location that cannot be followed (``InvalidURL`` is its
    cause), two of them, or content that has to go along and cannot be read again.
    """
    url = _location(request, headers)
    method, body = request.method, request.body
    dropped: set[str] = set()
    if (status_code in (301, 302) and method == "POST") or (
        status_code == 303 and method not in ("GET", "HEAD")
    ):
        method, body = "GET", None
        dropped.update(_OF_CONTENT)
    elif body is not None and not body.replayable:
        raise RedirectError(
            f"{request.method} {request.url} was redirected with {status_code}, "
            "and its content can be sent only once"
        )
    if url.origin != request.url.origin:
        dropped.update(_OF_ONE_ORIGIN)
    fields = request.headers
    if dropped:
        fields = Headers([pair for pair in fields.raw if pair[0].decode().lower() not in dropped])
    return Request(method, url, headers=fields, content=body)


def _location(request: Request, headers: Headers) -> URL:
    found = headers.get_list("location")
    if len(set(found)) != 1:
        raise RedirectError(f"{request.method} {request.url} was answered with two Locations")
    try:
        url = request.url.join(found[0].encode("latin-1"))
    except InvalidURL as error:
        raise RedirectError(
            f"{request.method} {request.url} was redirected to where nobody can go: {error}"
        ) from error
    if url.fragment is None and request.url.fragment is not None:
        # RFC 9110 section 10.2.2: the fragment is inherited
        url = URL(f"{url}#{request.url.fragment}")
    return url

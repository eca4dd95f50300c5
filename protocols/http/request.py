"""The request: what is asked for, before it is known which connection carries it.

Owns: a method, a URL, header fields and content that fit together.  May not touch: connections,
pools, what other requests were (``protocols.http.redirects`` and the client know that).
Invariant: the fields that frame the content follow from it; nobody else writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protocols.http.bodies import Body, Content, body_of
from protocols.http.errors import InvalidHeader
from protocols.http.headers import Headers, render_request_head
from protocols.http.url import URL

__all__ = ["SAFE_METHODS", "HeaderSource", "Request", "token_of"]

HeaderSource = Mapping[str, str] | Iterable[tuple[str, str]]

# Methods with which a server expects content, so that its absence is told (RFC 9110 section 8.6).
_WITH_CONTENT = frozenset(["POST", "PUT", "PATCH"])
SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS", "TRACE"])


def token_of(method: str) -> str:
    """Return a method as a plain str, which ``http.HTTPMethod`` is not.

    Raises ``TypeError`` for what is no str.
    """
    if not isinstance(method, str):
        raise TypeError(f"a method is str, not {type(method).__name__}")
    return method if type(method) is str else str.__str__(method)


class Request:
    """A request as it is sent; not to be changed once it was.

    Args:
        method: a token, sent as it is written (RFC 9110 section 9.1).
        url: absolute, http or https.
        headers: without Content-Length and Transfer-Encoding, which follow from the content.
        content: a ``Body``, or what ``protocols.http.bodies`` makes one of: bytes, str, a binary
            file, an iterable of bytes; ``None`` for a request without content.

    Raises ``InvalidURL`` and ``InvalidHeader`` (``ValueError``), ``TypeError`` for what cannot be
    content, ``ValueError`` for CONNECT.

    Attributes:
        method, url, headers: as given; *url* a ``URL``, *headers* a ``Headers``.
        body: the content as a ``Body``, or ``None``.
    """

    __slots__ = ("_head", "body", "headers", "method", "url")

    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeaderSource | Headers | None = None,
        content: Body | Content | None = None,
    ) -> None:
        fields = headers if isinstance(headers, Headers) else Headers(headers)
        if "Content-Length" in fields or "Transfer-Encoding" in fields:
            name = "Content-Length" if "Content-Length" in fields else "Transfer-Encoding"
            raise InvalidHeader(name, "it follows from the request's content")
        if method == "CONNECT":
            raise ValueError("CONNECT makes a tunnel and no response (RFC 9110 section 9.3.6)")
        self.method = token_of(method)
        self.url = url if isinstance(url, URL) else URL(url)
        self.headers = fields
        self.body = content if content is None or isinstance(content, Body) else body_of(content)
        self._head = self._render(fields, None)

    @property
    def is_safe(self) -> bool:
        """Whether the method changes nothing on the server (RFC 9110 section 9.2.1)."""
        return self.method in SAFE_METHODS

    def head(
        self,
        more: HeaderSource | None = None,
        *,
        target: str | None = None,
        without: str | None = None,
    ) -> bytes:
        """Return the head as it goes over the wire.

        Args:
            more: fields in place of the request's own of these names.
            target: the request target, if not that of the URL (RFC 9112 section 3.2.2).
            without: the name of a field that is left out, in lower case.

        Raises ``InvalidHeader``.
        """
        if more is None and target is None and without is None:
            return self._head
        fields = self.headers
        if without is not None:
            name = without.encode("ascii")
            fields = Headers([pair for pair in fields.raw if pair[0].lower() != name])
        return self._render(fields if not more else fields.merged_with(more), target)

    def _render(self, fields: Headers, target: str | None) -> bytes:
        body = self.body
        if body is None:
            if self.method in _WITH_CONTENT:
                fields = fields.appended((("Content-Length", "0"),))
        else:
            framing = ("Transfer-Encoding", "chunked")
            if body.size is not None:
                framing = ("Content-Length", str(body.size))
            if body.content_type is None or "Content-Type" in fields:
                fields = fields.appended((framing,))
            else:
                fields = fields.appended((framing, ("Content-Type", body.content_type)))
        url = self.url
        return render_request_head(
            self.method, url.target if target is None else target, url.host_header, fields
        )

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url!r}>"

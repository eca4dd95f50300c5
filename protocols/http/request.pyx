"""The request: what is asked for, before it is known which connection carries it.

Owns: a method, a URL, header fields and content that fit together.  May not touch: connections,
pools, what other requests were (``protocols.http.redirects`` and the client know that).
Invariant: the fields that frame the content follow from it; nobody else writes them.
"""

from protocols.http.headers cimport Headers, headers_over, render_field, render_request_head
from protocols.http.url cimport URL

from collections.abc import Iterable, Mapping

from protocols.http.bodies import Body, body_of
from protocols.http.errors import InvalidHeader

__all__ = ["SAFE_METHODS", "HeaderSource", "Request", "token_of"]

HeaderSource = Mapping[str, str] | Iterable[tuple[str, str]]

# Methods that change nothing on the server (RFC 9110 section 9.2.1).
SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS", "TRACE"])
# Those with which it expects content, so that its absence is told (section 8.6).
cdef frozenset WITH_CONTENT = frozenset(["POST", "PUT", "PATCH"])
cdef tuple FRAMING = (b"content-length", b"transfer-encoding")
cdef bytes NO_CONTENT = b"Content-Length: 0\r\n"
cdef bytes CHUNKED = b"Transfer-Encoding: chunked\r\n"


def token_of(method):
    """Return a method as a plain str, which ``http.HTTPMethod`` is not.

    Raises ``TypeError`` for what is no str.
    """
    if not isinstance(method, str):
        raise TypeError(f"a method is str, not {type(method).__name__}")
    return method if type(method) is str else str.__str__(method)


cdef class Request:
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

    def __init__(self, method, url, *, headers=None, content=None):
        cdef Headers fields = headers if isinstance(headers, Headers) else Headers(headers)
        cdef const char* value
        cdef Py_ssize_t size
        if (fields.find("content-length", 14, &value, &size)
                or fields.find("transfer-encoding", 17, &value, &size)):
            name = "Content-Length" if "Content-Length" in fields else "Transfer-Encoding"
            raise InvalidHeader(name, "it follows from the request's content")
        if method == "CONNECT":
            raise ValueError("CONNECT makes a tunnel and no response (RFC 9110 section 9.3.6)")
        self.method = token_of(method)
        self.url = url if isinstance(url, URL) else URL(url)
        self.headers = fields
        self.body = content if content is None or isinstance(content, Body) else body_of(content)
        self.plain_head = self.render(fields, None)

    @property
    def is_safe(self):
        """Whether the method changes nothing on the server (RFC 9110 section 9.2.1)."""
        return self.method in SAFE_METHODS

    def head(self, more=None, *, target=None, without=None):
        """Return the head as it goes over the wire.

        Args:
            more: fields in place of the request's own of these names.
            target: the request target, if not that of the URL (RFC 9112 section 3.2.2).
            without: the name of a field that is left out, in lower case.

        Raises ``InvalidHeader``.
        """
        if more is None and target is None and without is None:
            return self.plain_head
        fields = self.headers
        if without is not None:
            name = without.encode("ascii")
            fields = Headers([pair for pair in fields.raw if pair[0].lower() != name])
        return self.render(fields if not more else fields.merged_with(more), target)

    cdef bytes render(self, Headers fields, object target):
        """Return the head with *fields*, and what frames the content behind them."""
        if fields is None:
            raise TypeError("the request was not made")
        cdef object body = self.body
        cdef URL url = self.url
        cdef bytes framing = None
        cdef const char* value
        cdef Py_ssize_t size
        if body is not None:
            framing = CHUNKED
            if body.size is not None:
                framing = render_field("Content-Length", str(body.size))
            if body.content_type is not None and "Content-Type" not in fields:
                framing += render_field("Content-Type", body.content_type)
        elif self.method in WITH_CONTENT:
            framing = NO_CONTENT
        if framing is not None:
            if not fields.is_plain:
                fields = fields.merged_with(())
            if (fields.find("content-length", 14, &value, &size)
                    or fields.find("transfer-encoding", 17, &value, &size)):
                fields = Headers([pair for pair in fields.raw if pair[0].lower() not in FRAMING])
            fields = headers_over(fields.lines() + framing, 0)
        return render_request_head(
            self.method, url.target if target is None else target, url.host_header, fields)

    def __repr__(self):
        return f"<Request {self.method} {self.url!r}>"

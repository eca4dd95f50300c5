"""Typed errors of HTTP, each a subclass of what Python users already catch.

Owns: the exceptions of ``protocols.http``.  Touches: nothing; a leaf over ``reactor.errors``.
Invariant: what a user of the client sees about a peer carries host, port and phase; what
the sans-I/O codecs raise knows no endpoint and is wrapped in one place, `response_error`.

    HTTPError
      ClientClosedError        RuntimeError       the client was closed before or meanwhile
      InvalidURL               ValueError         a URL that cannot be requested
      InvalidHeader            ValueError         a string that may not enter a request head
      RedirectError                               a redirect that cannot be followed
        TooManyRedirects                          max_redirects were followed already
        RedirectLoop                              the same request was redirected already
      StatusError                                 raise_for_status() on a 4xx or 5xx
      MessageError             ValueError         sans-I/O: what a codec says of its input
        MalformedMessage                          the bytes are not HTTP, or not safely so
        LimitExceeded                             well formed so far, but too much of it
        TruncatedMessage                          the end came in the middle
        MalformedContent                          not what Content-Encoding says
          TruncatedContent                        it ends in the middle
      BodySizeError            ValueError         the caller's body is not as long as announced
      BodyConsumedError        RuntimeError       it was sent, and can be read only once
      RequestInterruptedError  RuntimeError       by a signal, in the thread that was serving it
      ResponseError            EndpointError, ConnectionError    a MessageError, at an endpoint
        RemoteProtocolError
          ResponseLimitError
          DecodingError
        IncompleteResponseError
      ProxyError               ConnectError       the proxy makes no connection
        ProxyAuthenticationError                  it wants credentials, or others
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reactor.errors import ConnectError, EndpointError, endpoint_error

__all__ = [
    "BodyConsumedError",
    "BodySizeError",
    "ClientClosedError",
    "DecodingError",
    "HTTPError",
    "IncompleteResponseError",
    "InvalidHeader",
    "InvalidURL",
    "LimitExceeded",
    "MalformedContent",
    "MalformedMessage",
    "MessageError",
    "ProxyAuthenticationError",
    "ProxyError",
    "RedirectError",
    "RedirectLoop",
    "RemoteProtocolError",
    "RequestInterruptedError",
    "ResponseError",
    "ResponseLimitError",
    "StatusError",
    "TooManyRedirects",
    "TruncatedContent",
    "TruncatedMessage",
    "response_error",
]


class HTTPError(Exception):
    """The base of every error that ``protocols.http`` raises on its own account."""


class ClientClosedError(HTTPError, RuntimeError):
    """The client was closed: before the request, or while it had no connection yet."""


class RequestInterruptedError(HTTPError, RuntimeError):
    """A signal handler of the main thread raised while that was serving another thread's request.

    The request may have been sent, so it is not made again; a GET without content is.
    """

    def __init__(self, message: str = "a signal interrupted the thread that sent it") -> None:
        super().__init__(message)


class InvalidURL(HTTPError, ValueError):
    """A URL that cannot be requested; raised before any I/O.

    Attributes:
        part: the part at fault: ``"url"``, ``"scheme"``, ``"userinfo"``, ``"host"``,
            ``"port"``, ``"path"``, ``"query"`` or ``"fragment"``.
        reason: what is wrong with it, in words; never the user information.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part = part
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid URL: {self.part}: {self.reason}"


class InvalidHeader(HTTPError, ValueError):
    """A string that may not enter a request head; raised before a byte is sent.

    Attributes:
        name: the header at fault, or ``"method"``, ``"target"`` for the request line.
        reason: what is wrong with it, in words; never the value, which may be a secret.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid request head: {self.name!r}: {self.reason}"


class RedirectError(HTTPError):
    """The response is a redirect that cannot, or may not, be followed.

    Attributes:
        response: the response with the redirect, when the client raised it; else ``None``.
    """

    response: object = None


class TooManyRedirects(RedirectError):
    """One redirect more than the client follows."""


class RedirectLoop(RedirectError):
    """The redirect leads to a request that was redirected before, cookies and all."""


class StatusError(HTTPError):
    """The response arrived whole, and its status says failure (4xx or 5xx).

    Attributes:
        response: the response, as the client returned it.
        request: what it answers.
    """

    def __init__(self, message: str, response: Any) -> None:
        super().__init__(message, response)
        self.response = response

    @property
    def request(self) -> Any:
        """The request that was answered."""
        return self.response.request

    def __str__(self) -> str:
        return str(self.args[0])


class MessageError(HTTPError, ValueError):
    """What a sans-I/O codec says of its input; it knows no endpoint.

    Attributes:
        reason: what is wrong, in words.
        section: the rule that was broken, such as ``"RFC 9112 section 6.3"``, or ``""``.
    """

    def __init__(self, reason: str, section: str = "") -> None:
        super().__init__(reason, section)
        self.reason = reason
        self.section = section

    def __str__(self) -> str:
        return f"{self.reason} ({self.section})" if self.section else self.reason


class MalformedMessage(MessageError):
    """The bytes are not HTTP/1.1, or only by a reading that is not safe."""


class LimitExceeded(MessageError):
    """The message exceeds a limit.

    Attributes:
        limit: the field of `protocols.http.limits.ResponseLimits` that was exceeded, or
            the client's ``max_body_bytes``.
        value: the value of that limit.
    """

    def __init__(self, limit: str, value: int) -> None:
        words = limit.removeprefix("max_").replace("_", " ")
        super().__init__(f"the response exceeds the limit of {value} for {words}")
        self.args = (limit, value)
        self.limit = limit
        self.value = value


class TruncatedMessage(MessageError):
    """The peer closed in the middle of a message (RFC 9112 section 8).

    Attributes:
        received: bytes of the body that came; 0 when the head was not whole.
        expected: bytes of the body that were announced, or None when it is not known.
    """

    def __init__(self, reason: str, received: int = 0, expected: int | None = None) -> None:
        super().__init__(reason, "RFC 9112 section 8")
        self.args = (reason, received, expected)
        self.received = received
        self.expected = expected


class MalformedContent(MessageError):
    """The content does not decode as its Content-Encoding says (RFC 9110 section 8.4).

    Attributes:
        coding: the content coding at fault, such as ``"gzip"``.
    """

    def __init__(self, coding: str, reason: str) -> None:
        super().__init__(f"{coding}: {reason}", "RFC 9110 section 8.4")
        self.args = (coding, reason)
        self.coding = coding


class TruncatedContent(MalformedContent):
    """The message is whole, but what its content was encoded to is not."""


class BodySizeError(HTTPError, ValueError):
    """A request's body is shorter or longer than its Content-Length, which is sent already.

    What was announced cannot be taken back, so the connection cannot be used any more.  Not
    a byte above what was announced is sent.

    Attributes:
        announced: how many bytes the body was to have.
        actual: how many it had; when it was too long, how many there were at least.
    """

    def __init__(self, announced: int, actual: int) -> None:
        super().__init__(announced, actual)
        self.announced = announced
        self.actual = actual

    def __str__(self) -> str:
        have = f"at least {self.actual}" if self.actual > self.announced else f"{self.actual}"
        return f"the body has {have} bytes, {self.announced} were announced"


class BodyConsumedError(HTTPError, RuntimeError):
    """A request's body can be read only once, and was: it cannot be sent again."""


class ResponseError(HTTPError, EndpointError, ConnectionError):
    """The endpoint answered, and what it answered cannot be used."""


class RemoteProtocolError(ResponseError):
    """The endpoint sent something that is not an acceptable HTTP response."""


class ResponseLimitError(RemoteProtocolError):
    """The endpoint sent more than a limit allows; the cause tells which."""


class DecodingError(RemoteProtocolError):
    """The endpoint sent content that does not decode as its Content-Encoding says."""


class IncompleteResponseError(ResponseError):
    """The connection ended in the middle of a response.

    Attributes:
        received: bytes of the body that came.
        expected: bytes of the body that were announced, or None when it is not known.
    """

    received: int = 0
    expected: int | None = None


class ProxyError(HTTPError, ConnectError):
    """The proxy, whose host and port these are, does not lead to the origin.

    Attributes:
        status_code: of its answer to CONNECT; None where there was none.
    """

    status_code: int | None = None


class ProxyAuthenticationError(ProxyError):
    """The proxy wants credentials, or others than it got.

    Attributes:
        challenges: what it asks for, as ``Challenge``s.
    """

    challenges: Sequence[Any] = ()


def response_error(
    error: BaseException, *, host: str, port: int | None, phase: str = "read"
) -> EndpointError:
    """Return *error* as the endpoint-bearing error of its kind, with *error* as its cause.

    What is not a `MessageError` goes to `reactor.errors.endpoint_error`; an
    ``EndpointError`` is returned as it is.
    """
    if not isinstance(error, MessageError):
        return endpoint_error(error, host=host, port=port, phase=phase)
    kind: type[ResponseError] = RemoteProtocolError
    if isinstance(error, LimitExceeded):
        kind = ResponseLimitError
    elif isinstance(error, MalformedContent):
        kind = DecodingError
    elif isinstance(error, TruncatedMessage):
        kind = IncompleteResponseError
    typed = kind(str(error), host=host, port=port, phase=phase)
    if isinstance(typed, IncompleteResponseError) and isinstance(error, TruncatedMessage):
        typed.received = error.received
        typed.expected = error.expected
    typed.__cause__ = error
    return typed

"""Typed errors of the network, each a subclass of what Python users already catch.

Owns: the exceptions that name an endpoint, or a poller.  Touches: nothing; a leaf.
Invariant: every ``EndpointError`` knows host, port and phase, and its message says them.

    EndpointError           OSError
      ResolveError          socket.gaierror           the name has no address
      ConnectError          ConnectionError           no connection could be made
        ConnectRefusedError ConnectionRefusedError    the port is closed
      EndpointTimeoutError  TimeoutError              a deadline passed, in any phase
      TLSError              ssl.SSLError              handshake or record failure
        TLSCertificateError ssl.SSLCertVerificationError
        TLSTruncatedError   ssl.SSLEOFError           the end came without close_notify
      ConnectionLostError   ConnectionResetError      an open connection broke
    PollerUnavailableError  RuntimeError              the poller that was asked for is refused
"""

from __future__ import annotations

import errno as _errno
import os
import socket
import ssl

__all__ = [
    "ConnectError",
    "ConnectRefusedError",
    "ConnectionLostError",
    "EndpointError",
    "EndpointTimeoutError",
    "PollerUnavailableError",
    "ResolveError",
    "TLSCertificateError",
    "TLSError",
    "TLSHandshakeTimeoutError",
    "TLSTruncatedError",
    "endpoint_error",
    "format_endpoint",
    "system_error",
]


def format_endpoint(host: str, port: int | None) -> str:
    """Return ``host:port``, with an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def system_error(number: int) -> OSError:
    """Return the exception for a number of errno's, or of Winsock's on Windows."""
    text: str | None = getattr(socket, "errorTab", {}).get(number)
    return OSError(number, text or os.strerror(number))


_REFUSED = system_error(_errno.ECONNREFUSED)


class EndpointError(OSError):
    """Something that was tried with an endpoint failed.

    Attributes:
        host: the name or address as the caller gave it.
        port: the port, or None where there is none (a UNIX path).
        phase: ``"resolve"``, ``"pool"``, ``"connect"``, ``"tls"``, ``"write"`` or ``"read"``.
        reason: what went wrong, in words.
    """

    host: str
    port: int | None
    phase: str
    reason: str

    def __init__(
        self,
        reason: str,
        *,
        host: str,
        port: int | None,
        phase: str,
        errno: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.host = host
        self.port = port
        self.phase = phase
        self.reason = reason
        self.errno = errno
        self.strerror = reason

    def __str__(self) -> str:
        return f"{self.phase} {format_endpoint(self.host, self.port)}: {self.reason}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.errno, self.__dict__.copy()))


def _rebuild(
    kind: type[EndpointError], args: tuple[str, ...], number: int | None, state: dict[str, object]
) -> EndpointError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    error.errno = number
    error.strerror = error.reason
    return error


class ResolveError(EndpointError, socket.gaierror):
    """The name could not be turned into an address (getaddrinfo(3))."""


class ConnectError(EndpointError, ConnectionError):
    """No address of the endpoint accepted a connection (connect(2))."""


class ConnectRefusedError(ConnectError, ConnectionRefusedError):
    """The endpoint refused the connection: nothing listens on the port."""


class EndpointTimeoutError(EndpointError, TimeoutError):
    """A deadline passed; ``phase`` tells in which phase."""


class TLSError(EndpointError, ssl.SSLError):
    """The TLS handshake or the record layer failed (RFC 8446 section 6.2)."""


class TLSCertificateError(TLSError, ssl.SSLCertVerificationError):
    """The peer's certificate did not verify."""


class TLSTruncatedError(TLSError, ssl.SSLEOFError):
    """The connection ended without close_notify (RFC 8446 section 6.1)."""


class TLSHandshakeTimeoutError(TimeoutError, ConnectionAbortedError):
    """A TLS handshake did not end in time, for a transport that knows no endpoint.

    ``reactor.connect`` makes an ``EndpointTimeoutError`` of it; asyncio's users know the
    second base.
    """


class ConnectionLostError(EndpointError, ConnectionResetError):
    """An established connection broke."""


class PollerUnavailableError(RuntimeError):
    """A poller was asked for by name and does not work here.

    Attributes:
        name: the poller's.
        reason: why, in words: not built, another platform, refused by the kernel or a filter.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"poller {self.name!r} does not work here: {self.reason}"


def endpoint_error(
    error: BaseException, *, host: str, port: int | None, phase: str
) -> EndpointError:
    """Return *error* as the typed error of its kind, with *error* as its cause.

    An ``EndpointError`` is returned as it is.
    """
    if isinstance(error, EndpointError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    kind: type[EndpointError]
    if isinstance(error, ssl.SSLCertVerificationError):
        kind, reason = TLSCertificateError, getattr(error, "verify_message", "") or _words(error)
    elif isinstance(error, ssl.SSLEOFError):
        kind, reason = TLSTruncatedError, "the peer closed the connection without close_notify"
    elif isinstance(error, ssl.SSLError):
        # one that was not made by ssl itself lacks the attribute, as above
        kind, reason = TLSError, getattr(error, "reason", "") or _words(error)
    elif isinstance(error, socket.gaierror):
        kind, reason = ResolveError, error.strerror or str(error)
    elif isinstance(error, TimeoutError):
        kind, reason = EndpointTimeoutError, error.strerror or str(error) or "timed out"
    elif isinstance(error, ConnectionRefusedError):
        kind, reason = ConnectRefusedError, str((error if error.strerror else _REFUSED).strerror)
    elif phase in ("resolve", "connect"):
        kind, reason = ConnectError, _words(error)
    elif phase == "tls":
        kind, reason = TLSError, _words(error)
    else:
        kind, reason = ConnectionLostError, _words(error)
    typed = kind(reason, host=host, port=port, phase=phase, errno=number)
    typed.__cause__ = error
    return typed


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

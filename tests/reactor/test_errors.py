"""Typed errors: what they are, what they say, what becomes which."""

import errno
import pickle
import socket
import ssl

import pytest

from reactor.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectRefusedError,
    EndpointError,
    EndpointTimeoutError,
    ResolveError,
    TLSCertificateError,
    TLSError,
    TLSTruncatedError,
    endpoint_error,
    format_endpoint,
)


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [("a.example", 80, "a.example:80"), ("::1", 443, "[::1]:443"), ("/run/x", None, "/run/x")],
)
def test_endpoint_is_shown_as_in_a_url(host: str, port: int | None, text: str) -> None:
    assert format_endpoint(host, port) == text


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (ResolveError, socket.gaierror),
        (ConnectError, ConnectionError),
        (ConnectRefusedError, ConnectionRefusedError),
        (EndpointTimeoutError, TimeoutError),
        (TLSError, ssl.SSLError),
        (TLSCertificateError, ssl.SSLCertVerificationError),
        (TLSTruncatedError, ssl.SSLEOFError),
        (ConnectionLostError, ConnectionResetError),
    ],
)
def test_error_is_what_python_users_catch(kind: type[EndpointError], base: type[Exception]) -> None:
    error = kind("went wrong", host="h.example", port=1, phase="connect", errno=5)
    assert isinstance(error, (base, OSError))
    assert isinstance(error, base)
    assert str(error) == "connect h.example:1: went wrong"
    assert (error.host, error.port, error.phase, error.reason) == (
        "h.example", 1, "connect", "went wrong",
    )  # fmt: skip
    assert isinstance(error, OSError)
    assert error.errno == 5
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.errno == 5


@pytest.mark.parametrize(
    ("error", "phase", "kind"),
    [
        (socket.gaierror(-2, "Name or service not known"), "resolve", ResolveError),
        (ConnectionRefusedError(111, "Connection refused"), "connect", ConnectRefusedError),
        (TimeoutError(), "connect", EndpointTimeoutError),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "connect", EndpointTimeoutError),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "connect", ConnectError),
        (ssl.SSLCertVerificationError(1, "x"), "tls", TLSCertificateError),
        (ssl.SSLEOFError(8, "x"), "read", TLSTruncatedError),
        (ssl.SSLError(1, "x"), "tls", TLSError),
        (ConnectionResetError(104, "Connection reset by peer"), "tls", TLSError),
        (ConnectionResetError(104, "Connection reset by peer"), "read", ConnectionLostError),
        (BrokenPipeError(32, "Broken pipe"), "write", ConnectionLostError),
        (RuntimeError("odd"), "read", ConnectionLostError),
    ],
)
def test_failure_becomes_the_typed_error_of_its_kind(
    error: Exception, phase: str, kind: type[EndpointError]
) -> None:
    typed = endpoint_error(error, host="h", port=2, phase=phase)
    assert type(typed) is kind
    assert typed.__cause__ is error
    assert f"{phase} h:2: " in str(typed)
    assert typed.reason
    if isinstance(error, OSError):
        assert typed.errno == error.errno


def test_typed_error_stays_itself() -> None:
    error = ConnectError("x", host="h", port=1, phase="connect")
    assert endpoint_error(error, host="other", port=2, phase="read") is error

"""The errors of HTTP: what they say, what they are, and that they travel."""

import pickle

import pytest

from protocols.http.errors import (
    BodyConsumedError,
    BodySizeError,
    DecodingError,
    HTTPError,
    IncompleteResponseError,
    InvalidHeader,
    InvalidURL,
    LimitExceeded,
    MalformedContent,
    MalformedMessage,
    MessageError,
    RemoteProtocolError,
    RequestInterruptedError,
    ResponseError,
    ResponseLimitError,
    StatusError,
    TruncatedContent,
    TruncatedMessage,
    response_error,
)
from reactor.errors import ConnectionLostError, EndpointError

EVERY_ERROR = [
    InvalidURL("port", "'x' is not a number"),
    InvalidHeader("X-Bad", "the name is empty"),
    StatusError("404 Not Found for http://h/", "the response"),
    MalformedMessage("a line ends with LF alone", "RFC 9112 section 2.2"),
    LimitExceeded("max_head_bytes", 100),
    TruncatedMessage("the connection was closed", 3, 5),
    MalformedContent("gzip", "incorrect header check"),
    TruncatedContent("gzip", "the content ends in the middle"),
    BodySizeError(5, 3),
    BodyConsumedError("the body was sent"),
    RequestInterruptedError(),
    RemoteProtocolError("garbage", host="example.com", port=443, phase="read"),
    ResponseLimitError("too much", host="example.com", port=443, phase="read"),
    DecodingError("no gzip", host="example.com", port=443, phase="read"),
    IncompleteResponseError("cut", host="example.com", port=443, phase="read"),
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: HTTPError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_every_error_is_an_http_error(error: HTTPError) -> None:
    assert isinstance(error, HTTPError)


def test_errors_of_the_caller_are_value_errors() -> None:
    assert issubclass(InvalidURL, ValueError)
    assert issubclass(InvalidHeader, ValueError)
    assert str(EVERY_ERROR[0]) == "invalid URL: port: 'x' is not a number"
    assert str(EVERY_ERROR[1]) == "invalid request head: 'X-Bad': the name is empty"


def test_a_status_error_carries_the_response() -> None:
    response = object()
    error = StatusError("500 for http://h/", response)
    assert (error.response, str(error)) == (response, "500 for http://h/")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MalformedMessage("garbage", "RFC 9112 section 4"), RemoteProtocolError),
        (LimitExceeded("max_headers", 3), ResponseLimitError),
        (MalformedContent("gzip", "incorrect header check"), DecodingError),
        (TruncatedContent("gzip", "the content ends in the middle"), DecodingError),
        (TruncatedMessage("cut", 3, 5), IncompleteResponseError),
    ],
)
def test_what_the_parser_says_gains_an_endpoint(
    error: MessageError, kind: type[ResponseError]
) -> None:
    typed = response_error(error, host="::1", port=8443)
    assert type(typed) is kind
    assert isinstance(typed, (EndpointError, ConnectionError, OSError))
    assert (typed.host, typed.port, typed.phase) == ("::1", 8443, "read")
    assert str(typed) == f"read [::1]:8443: {error}"
    assert typed.__cause__ is error


def test_a_coding_at_fault_is_named() -> None:
    error = TruncatedContent("br", "the content ends in the middle")
    assert isinstance(error, MalformedContent)
    assert error.coding == "br"
    assert str(error) == "br: the content ends in the middle (RFC 9110 section 8.4)"


def test_a_body_of_the_wrong_size_says_how_much_there_was() -> None:
    short, long = BodySizeError(5, 3), BodySizeError(5, 6)
    assert (short.announced, short.actual) == (5, 3)
    assert str(short) == "the body has 3 bytes, 5 were announced"
    assert str(long) == "the body has at least 6 bytes, 5 were announced"
    assert isinstance(short, ValueError)


def test_an_incomplete_response_says_how_much_of_it_came() -> None:
    typed = response_error(TruncatedMessage("cut", 3, 5), host="h", port=80)
    assert isinstance(typed, IncompleteResponseError)
    assert (typed.received, typed.expected) == (3, 5)
    again = pickle.loads(pickle.dumps(typed))
    assert (again.received, again.expected, again.port) == (3, 5, 80)


def test_other_errors_go_to_the_reactor() -> None:
    typed = response_error(ConnectionResetError(104, "reset"), host="h", port=80)
    assert type(typed) is ConnectionLostError
    assert response_error(typed, host="x", port=1) is typed

"""The response parser: each rule, every segmentation, and a hostile peer."""

import pickle
import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.http.errors import LimitExceeded, MalformedMessage, MessageError, TruncatedMessage
from protocols.http.limits import ResponseLimits
from protocols.http.parser import Body, Head, MessageComplete, ResponseParser
from tests.effort import effort
from tests.protocols.http.corpus import (
    ACCEPTED,
    AT_THE_LIMIT,
    BEYOND_A_LIMIT,
    CHUNKED,
    EVERY_CASE,
    OK,
    REFUSED,
    TIGHT,
    Case,
    Outcome,
    drive,
    new_parser,
    splits,
)


@pytest.mark.parametrize("case", ACCEPTED + AT_THE_LIMIT, ids=str)
def test_accepted(case: Case) -> None:
    outcome = drive([case.data], case)
    assert outcome.error is None
    assert outcome.complete
    kind, status, *_ = outcome.heads[-1]
    assert (kind, status, outcome.body) == ("Head", case.status, case.body)
    assert outcome.keep_alive is case.keep_alive
    assert outcome.surplus == b""


@pytest.mark.parametrize("case", REFUSED + BEYOND_A_LIMIT, ids=str)
def test_refused(case: Case) -> None:
    outcome = drive([case.data], case)
    assert outcome.error is not None
    assert case.error in outcome.error[1]
    assert not outcome.complete
    assert not outcome.keep_alive


# One test for all cases: there is no rule to name but this one.


def test_the_segmentation_never_changes_the_outcome() -> None:
    for case in EVERY_CASE:
        whole = drive([case.data], case)
        for pieces in splits(case.data):
            assert drive(pieces, case) == whole, (case.name, pieces)


def test_every_prefix_of_an_accepted_message_waits_for_more() -> None:
    for case in ACCEPTED:
        for size in range(len(case.data)):
            outcome = drive([case.data[:size]], replace(case, eof=False))
            assert outcome.error is None, case.name
            assert not outcome.complete, case.name


def test_bytes_after_a_message_are_left_for_the_caller_to_see() -> None:
    for case in ACCEPTED:
        if case.eof:
            continue  # the message has no end but the close
        data = case.data + b"HTTP/1.1 200 surplus"
        whole = drive([data], case)
        assert (whole.error, whole.complete) == (None, True), case.name
        assert whole.surplus == b"HTTP/1.1 200 surplus", case.name
        assert drive([data[i : i + 1] for i in range(len(data))], case) == whole, case.name


# Heads and events.


def test_a_head_gives_status_version_reason_and_headers() -> None:
    parser = new_parser("GET")
    events = list(parser.receive_data(OK + b"A: 1\r\nContent-Length: 2\r\na:2\r\n\r\nhi"))
    head, body, end = events
    assert isinstance(head, Head)
    assert head[:3] == (200, 1, "OK")
    assert head.headers.raw == [(b"A", b"1"), (b"Content-Length", b"2"), (b"a", b"2")]
    assert (body, end) == (Body(b"hi"), MessageComplete(None))
    assert parser.head == OK + b"A: 1\r\nContent-Length: 2\r\na:2\r\n"
    assert (parser.content_length, parser.chunked, parser.body_received) == (2, False, 2)


def test_trailers_are_apart_from_the_headers() -> None:
    parser = new_parser("GET")
    *_, end = parser.receive_data(CHUNKED + b"0\r\nDigest: x\r\n\r\n")
    assert isinstance(end, MessageComplete)
    assert end.trailers is not None
    assert end.trailers.raw == [(b"Digest", b"x")]
    assert "digest" not in parser.headers


def test_the_announced_length_is_known_where_no_body_follows() -> None:
    parser = new_parser("HEAD")
    list(parser.receive_data(OK + b"Content-Length: 9223372036854775807\r\n\r\n"))
    assert parser.content_length == 2**63 - 1
    assert parser.keep_alive


def test_a_huge_content_length_allocates_nothing() -> None:
    parser = new_parser("GET")
    events = list(parser.receive_data(OK + b"Content-Length: 9223372036854775807\r\n\r\nx"))
    assert events[1:] == [Body(b"x")]
    with pytest.raises(TruncatedMessage, match="after 1 of 9223372036854775807 bytes"):
        list(parser.receive_eof())


def test_a_truncated_body_says_how_much_of_it_came() -> None:
    parser = new_parser("GET")
    list(parser.receive_data(OK + b"Content-Length: 5\r\n\r\nhel"))
    with pytest.raises(TruncatedMessage) as caught:
        list(parser.receive_eof())
    assert (caught.value.received, caught.value.expected) == (3, 5)


def test_one_parser_serves_the_responses_of_a_connection() -> None:
    parser = ResponseParser()
    for number in range(3):
        parser.expect_response()
        body = str(number).encode()
        events = list(parser.receive_data(OK + b"Content-Length: 1\r\n\r\n" + body))
        assert events[1:] == [Body(body), MessageComplete(None)]


def test_nothing_of_a_response_shows_in_the_next() -> None:
    parser = new_parser("GET")
    list(parser.receive_data(CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n"))
    parser.expect_response(head_request=True)
    assert parser.trailers is None
    list(parser.receive_data(b"HTTP/1.0 404 No\r\nConnection: keep-alive\r\n\r\n"))
    assert (parser.chunked, parser.content_length, parser.body_received) == (False, -1, 0)
    assert (parser.status_code, parser.minor_version, parser.keep_alive) == (404, 0, True)


def test_an_empty_input_gives_no_event() -> None:
    assert list(new_parser("GET").receive_data(b"")) == []


def test_repr_tells_the_state() -> None:
    parser = new_parser("GET")
    list(parser.receive_data(CHUNKED + b"5\r\nhel"))
    assert "chunk-data" in repr(parser)
    assert "body_received=3" in repr(parser)


# Illegal local calls raise at once.


def test_expecting_a_response_before_the_last_is_complete_raises() -> None:
    parser = new_parser("GET")
    with pytest.raises(RuntimeError, match="another response"):
        parser.expect_response()


def test_expecting_a_response_on_a_connection_that_ends_raises() -> None:
    parser = new_parser("GET")
    list(parser.receive_data(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(RuntimeError, match="another response"):
        parser.expect_response()


def test_a_failed_parser_stays_failed() -> None:
    parser = new_parser("GET")
    with pytest.raises(MalformedMessage):
        list(parser.receive_data(b"garbage"))
    with pytest.raises(RuntimeError, match="refused already"):
        list(parser.receive_data(OK))
    with pytest.raises(RuntimeError, match="refused already"):
        list(parser.receive_eof())


def test_data_after_eof_raises() -> None:
    parser = new_parser("GET")
    parser.receive_eof()
    with pytest.raises(RuntimeError, match="ended already"):
        parser.receive_data(b"x")


def test_bytes_before_any_request_are_not_consumed() -> None:
    parser = ResponseParser()
    assert list(parser.receive_data(OK)) == []
    assert parser.surplus == OK


def test_a_parser_that_expects_nothing_accepts_the_end() -> None:
    assert list(ResponseParser().receive_eof()) == []


def test_a_limit_outside_its_range_raises() -> None:
    with pytest.raises(ValueError, match="max_headers"):
        ResponseLimits(max_headers=0)
    with pytest.raises(ValueError, match="max_head_bytes"):
        ResponseLimits(max_head_bytes=2**31)


def test_an_exceeded_limit_names_the_field_and_its_value() -> None:
    parser = new_parser("GET", TIGHT)
    with pytest.raises(LimitExceeded) as caught:
        list(parser.receive_data(OK + b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n"))
    assert (caught.value.limit, caught.value.value) == ("max_headers", 3)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.limit, again.value, str(again)) == ("max_headers", 3, str(caught.value))


def test_a_head_that_drips_in_is_scanned_in_linear_time() -> None:
    # A quadratic rescan of this one line would look at two thousand million bytes.
    limits = ResponseLimits(max_line_bytes=70_000, max_head_bytes=80_000)
    parser = new_parser("GET", limits)
    assert list(parser.receive_data(OK + b"A: ")) == []
    for _ in range(65_000):
        assert list(parser.receive_data(b"x")) == []
    assert len(list(parser.receive_data(b"\r\nContent-Length: 0\r\n\r\n"))) == 2
    assert len(parser.headers["a"]) == 65_000


# Random messages.

tokens = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=24).map(str.encode)
values = st.binary(max_size=40).map(
    lambda raw: bytes(byte for byte in raw if byte == 9 or (byte >= 32 and byte != 127)).strip(
        b" \t"
    )
)
FRAMING = {b"content-length", b"transfer-encoding", b"connection"}
fields = st.lists(
    st.tuples(tokens.filter(lambda name: name.lower() not in FRAMING), values), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    status=st.integers(200, 999).filter(lambda status: status not in (204, 304)),
    headers=fields,
    trailers=fields,
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    framing=st.sampled_from(["length", "chunked", "close"]),
    extension=st.sampled_from([b"", b";a", b' ; a="b c"']),
    cuts=st.lists(st.integers(0, 1200), max_size=6),
)
def test_a_generated_message_comes_out_as_it_went_in(
    status: int,
    headers: list[tuple[bytes, bytes]],
    trailers: list[tuple[bytes, bytes]],
    chunks: list[bytes],
    framing: str,
    extension: bytes,
    cuts: list[int],
) -> None:
    body = b"".join(chunks)
    head = b"HTTP/1.1 %d \xe9\r\n" % status + b"".join(b"%b:%b\r\n" % pair for pair in headers)
    if framing == "length":
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif framing == "close":
        data = head + b"\r\n" + body
    else:
        data = head + b"Transfer-Encoding: chunked\r\n\r\n"
        data += b"".join(b"%x%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
        data += b"0\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in trailers) + b"\r\n"
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(places)]
    outcome = drive(pieces, Case("generated", data, eof=framing == "close"))
    assert outcome.error is None
    assert outcome.complete
    assert outcome.body == body
    ((kind, seen_status, _, reason, seen_headers),) = outcome.heads
    assert (kind, seen_status, reason) == ("Head", status, "\xe9")
    assert [pair for pair in seen_headers if pair[0].lower() not in FRAMING] == headers
    assert (outcome.trailers or []) == (trailers if framing == "chunked" else [])
    assert outcome.keep_alive is (framing != "close")


# A hostile peer.

FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\x7f", b"\xff", b"0\r\n\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.0", b"ffffffffffffffff\r\n", b"5\r\nhello\r\n", b"x" * 45,
]  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(result))
        match rng.randrange(5):
            case 0:
                result[start:start] = rng.choice(FRAGMENTS)
            case 1:
                del result[start : start + rng.randint(1, 8)]
            case 2:
                result[start : start + 1] = bytes([rng.randrange(256)])
            case 3:
                other = rng.choice(EVERY_CASE).data
                result[start:] = other[rng.randint(0, len(other)) :]
            case _:
                result[start:start] = result[start : start + rng.randint(1, 30)]
    return bytes(result)


def test_mutated_messages_never_do_worse_than_a_typed_error() -> None:
    rng = random.Random(9112)
    deadline = time.monotonic() + effort(3, 30)
    outcomes = {"refused": 0, "complete": 0, "incomplete": 0}
    for _ in range(100_000):
        case = rng.choice(EVERY_CASE)
        data = mutated(rng, case.data)
        limits = rng.choice([case.limits, TIGHT])
        case = replace(case, data=data, eof=rng.random() < 0.5, limits=limits)
        whole = drive([data], case)
        outcomes[end_of(whole)] += 1
        cut = rng.randint(0, len(data))
        places = sorted([0, cut, rng.randint(0, len(data)), len(data)])
        pieces = [data[a:b] for a, b in pairwise(places)]
        assert drive(pieces, case) == whole, (case, pieces)
        assert drive([data[i : i + 1] for i in range(len(data))], case) == whole, case
        assert_limits_held(whole, limits)
        if time.monotonic() > deadline:
            break
    # The mutations reach every kind of end.
    assert min(outcomes.values()) > 0


def end_of(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "refused"
    return "complete" if outcome.complete else "incomplete"


def assert_limits_held(outcome: Outcome, limits: ResponseLimits) -> None:
    assert len(outcome.heads) <= limits.max_informational + 1
    for *_, headers in outcome.heads:
        assert len(headers) <= limits.max_headers
        assert sum(len(name) + len(value) for name, value in headers) <= limits.max_head_bytes
    if outcome.trailers:
        assert len(outcome.trailers) <= limits.max_trailers


def test_random_bytes_are_refused_with_a_typed_error() -> None:
    rng = random.Random(9110)
    for _ in range(500):
        parser = new_parser("GET")
        with pytest.raises(MessageError):
            list(parser.receive_data(b"\0" + rng.randbytes(64)))

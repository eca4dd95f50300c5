"""Header fields as a mapping, and the head of a request."""

import copy
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.errors import InvalidHeader
from protocols.http.headers import Headers, render_request_head
from tests.protocols.http.corpus import OK, new_parser

PAIRS = [("Accept", "a"), ("X-Two", "1"), ("x-two", "2"), ("Set-Cookie", "k=v")]


def parsed(lines: bytes) -> Headers:
    parser = new_parser("HEAD")
    list(parser.receive_data(OK + lines + b"\r\n"))
    return parser.headers


@pytest.fixture(params=["parsed", "made"])
def headers(request: pytest.FixtureRequest) -> Headers:
    """Return the same fields, once off the wire and once from a caller."""
    if request.param == "made":
        return Headers(PAIRS)
    return parsed(b"Accept: a\r\nX-Two:1\r\nx-two: \t2 \r\nSet-Cookie: k=v\r\n")


def test_rfc9110_5_1_look_up_ignores_case(headers: Headers) -> None:
    assert headers["accept"] == headers["ACCEPT"] == headers[b"Accept"] == "a"
    assert "aCCept" in headers
    assert "accep" not in headers
    assert "accept-" not in headers


def test_rfc9110_5_3_repeated_fields_are_joined(headers: Headers) -> None:
    assert headers["x-two"] == "1, 2"
    assert headers.get_list("X-Two") == ["1", "2"]


def test_a_missing_header_raises_key_error(headers: Headers) -> None:
    with pytest.raises(KeyError, match="nope"):
        headers["nope"]
    assert headers.get("nope") is None
    assert headers.get("nope", "default") == "default"
    assert headers.get_list("nope") == []


def test_a_key_that_cannot_be_a_name_is_missing(headers: Headers) -> None:
    assert "é" not in headers
    assert 5 not in headers  # type: ignore[comparison-overlap]
    assert "" not in headers
    assert "accept: a\r\nx-two" not in headers


def test_get_list_splits_lists_of_tokens_when_asked() -> None:
    headers = Headers([("Vary", "a, b"), ("Vary", ",c ,")])
    assert headers.get_list("vary") == ["a, b", ",c ,"]
    assert headers.get_list("vary", split_commas=True) == ["a", "b", "c"]


def test_iteration_gives_each_name_once_in_lower_case(headers: Headers) -> None:
    assert list(headers) == headers.keys() == ["accept", "x-two", "set-cookie"]
    assert len(headers) == 3
    assert headers.values() == ["a", "1, 2", "k=v"]
    assert headers.items() == [("accept", "a"), ("x-two", "1, 2"), ("set-cookie", "k=v")]
    assert dict(headers) == dict(headers.items())
    assert isinstance(headers, Mapping)


def test_multi_items_gives_every_field() -> None:
    assert Headers(PAIRS).multi_items() == [(name.lower(), value) for name, value in PAIRS]


def test_raw_gives_the_bytes_as_they_were_written(headers: Headers) -> None:
    assert headers.raw == [(name.encode(), value.encode()) for name, value in PAIRS]


def test_an_empty_mapping_is_false() -> None:
    assert not Headers()
    assert not parsed(b"")
    assert Headers({"a": "b"})
    assert Headers().raw == []
    assert len(Headers()) == 0


def test_a_block_that_was_never_initialised_is_empty() -> None:
    assert Headers.__new__(Headers).raw == []


def test_rfc9110_5_5_values_decode_as_latin_1() -> None:
    headers = parsed(b"X: caf\xc3\xa9 \xff\r\n")
    assert headers["x"].encode("latin-1") == b"caf\xc3\xa9 \xff"


def test_equality_ignores_order_and_case_of_names(headers: Headers) -> None:
    assert headers == Headers(PAIRS[::-1])
    assert headers == PAIRS  # type: ignore[comparison-overlap]
    assert Headers({"A": "b"}) == {"a": "b"}
    assert headers != Headers(PAIRS[:3])
    assert headers != {"a": "b\n"}
    assert headers != 5  # type: ignore[comparison-overlap]
    assert Headers({"A": "b"}) != {"A": "B"}


def test_headers_pickle_and_copy(headers: Headers) -> None:
    assert pickle.loads(pickle.dumps(headers)).raw == headers.raw
    assert copy.copy(headers).raw == headers.raw
    assert Headers(headers).raw == headers.raw


def test_repr_hides_credentials() -> None:
    shown = repr(Headers([("Authorization", "Basic x"), ("Cookie", "k=v"), ("A", "b")]))
    assert shown == ("Headers([('authorization', '[secure]'), ('cookie', '[secure]'), ('a', 'b')])")


def test_merged_fields_replace_those_of_the_same_name() -> None:
    merged = parsed(b"Accept: a\r\nX: 1\r\nx: 2\r\n").merged_with({"X": "3", "New": "4"})
    assert merged.raw == [(b"Accept", b"a"), (b"X", b"3"), (b"New", b"4")]


def test_merged_fields_are_written_as_one_writes_them() -> None:
    spaced = parsed(b"A:1\r\nB:  2\r\nC: 3 \r\nD:\r\nE: \r\nF:\t6\r\nG: 7 7\r\n")
    merged = spaced.merged_with([("g", "8"), ("g", "9")])
    assert render_request_head("GET", "/", "h", merged) == (
        b"GET / HTTP/1.1\r\nHost: h\r\n"
        b"A: 1\r\nB: 2\r\nC: 3\r\nD: \r\nE: \r\nF: 6\r\ng: 8\r\ng: 9\r\n\r\n"
    )
    assert merged == Headers(merged.raw)


@pytest.mark.parametrize("bad", ["", " A", "A ", "A:", "A B", "A\r\n", "A\0", "é", b"\xe9", "A\n"])
def test_rfc9110_5_1_a_name_that_is_no_token_raises(bad: str | bytes) -> None:
    with pytest.raises(InvalidHeader, match="name") as caught:
        Headers([(bad, "x")])
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "bad", ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "a\x7f", "a\x0b", " a", "a\t", "Ω", 5, None]
)
def test_rfc9110_5_5_a_value_that_is_not_legal_raises(bad: object) -> None:
    with pytest.raises(InvalidHeader) as caught:
        Headers([("X-Bad", bad)])  # type: ignore[list-item]
    assert caught.value.name == "X-Bad"
    assert "X-Bad" in str(caught.value)


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(InvalidHeader) as caught:
        Headers({"Authorization": "secret\n"})
    assert "secret" not in str(caught.value)


def test_values_may_hold_tabs_and_latin_1() -> None:
    assert Headers([("X", "a\tb é"), (b"Y", b"\xff")]).raw == [
        (b"X", b"a\tb \xe9"),
        (b"Y", b"\xff"),
    ]


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3))
def test_what_is_accepted_from_a_caller_reads_back_from_the_wire(
    pairs: list[tuple[str, str]],
) -> None:
    try:
        headers = Headers(pairs)
    except InvalidHeader:
        return
    head = render_request_head("GET", "/", "h", headers) if "host" not in headers else None
    if head is not None and not {"connection", "content-length"} & set(headers):
        lines = head.partition(b"\r\n")[2].removesuffix(b"\r\n")
        assert parsed(lines).raw == [(b"Host", b"h"), *headers.raw]


# The head of a request.


def test_rfc9112_3_a_head_is_the_request_line_host_and_fields() -> None:
    assert render_request_head("GET", "/a?b", "example.com", Headers({"Accept": "*/*"})) == (
        b"GET /a?b HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n"
    )
    assert render_request_head("OPTIONS", "*", "h", Headers()) == (
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"
    )


def test_a_host_among_the_headers_takes_the_place_of_the_host() -> None:
    head = render_request_head("GET", "/", "example.com", Headers({"hOST": "other:81"}))
    assert head == b"GET / HTTP/1.1\r\nhOST: other:81\r\n\r\n"
    assert render_request_head("GET", "/", None, Headers({"Host": "h"})).count(b"Host") == 1


@pytest.mark.parametrize("method", ["", "GET ", "G\r\nX", "G\0", "GÉT", "G:T", "GET / HTTP/1.1"])
def test_rfc9110_9_1_a_method_that_is_no_token_raises(method: str) -> None:
    with pytest.raises(InvalidHeader, match="method"):
        render_request_head(method, "/", "h", Headers())


@pytest.mark.parametrize(
    "target", ["", "/ ", "/a b", "/\r\nX: y", "/\n", "/\0", "/\t", "/é", "/\x7f"]
)
def test_rfc9112_3_2_a_target_with_white_space_or_controls_raises(target: str) -> None:
    with pytest.raises(InvalidHeader, match="target"):
        render_request_head("GET", target, "h", Headers())


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a\0", "é", "\ta", None])
def test_rfc9112_3_2_a_host_that_is_missing_or_illegal_raises(host: str | None) -> None:
    with pytest.raises(InvalidHeader, match="Host"):
        render_request_head("GET", "/", host, Headers())


def test_rfc9112_3_2_two_hosts_raise() -> None:
    with pytest.raises(InvalidHeader, match="two"):
        render_request_head("GET", "/", "h", Headers([("Host", "a"), ("host", "a")]))


def test_rfc9110_7_2_a_host_header_with_white_space_raises() -> None:
    with pytest.raises(InvalidHeader, match="Host"):
        render_request_head("GET", "/", "h", Headers({"Host": "a b"}))


@pytest.mark.parametrize(
    "pairs",
    [
        [("Content-Length", "+5")],
        [("Content-Length", "5, 5")],
        [("Content-Length", "")],
        [("Content-Length", "5"), ("content-length", "5")],
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
    ],
)
def test_rfc9112_6_framing_fields_that_contradict_raise(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidHeader, match="Content-Length"):
        render_request_head("POST", "/", "h", Headers(pairs))

"""Query strings and form bodies: how names and values are written, and what is refused."""

import datetime as dt
import decimal
import re
import uuid
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.errors import InvalidURL
from protocols.http.query import (
    Params,
    encode_form,
    encode_params,
    extend_query,
    form_pairs,
    merge_params,
)
from protocols.http.url import URL

# Written by httpx 0.28.1 and by requests 2.34.2 alike, but for the three last, which are
# httpx's: requests writes "True" and leaves None out.
AS_OTHERS_DO = [
    ({"a": "b"}, "a=b"),
    ({"a b": "c d"}, "a+b=c+d"),
    ({"ä": "ö&=+%/?#~*'()!"}, "%C3%A4=%C3%B6%26%3D%2B%25%2F%3F%23~%2A%27%28%29%21"),
    ({"l": ["1", "2"], "e": []}, "l=1&l=2"),
    ({"t": ("x", "y")}, "t=x&t=y"),
    ({"n": 1, "f": 1.5}, "n=1&f=1.5"),
    ({"x": ""}, "x="),
    ({"a": "\r\n\0"}, "a=%0D%0A%00"),
    ({"a": "😀"}, "a=%F0%9F%98%80"),
    ({"yes": True, "no": False}, "yes=true&no=false"),
    ({"none": None}, "none="),
    ({"all": [None, True, 1]}, "all=&all=true&all=1"),
]


@pytest.mark.parametrize(("source", "expected"), AS_OTHERS_DO)
def test_pairs_are_written_as_httpx_and_requests_do(
    source: dict[str, object], expected: str
) -> None:
    assert encode_form(source) == expected
    assert encode_params(source) == expected
    assert encode_params(list(source.items())) == expected
    assert encode_params(iter(source.items())) == expected


def test_pairs_keep_their_order_and_may_repeat() -> None:
    assert encode_form([("a", 1), ("b", 2), ("a", 3)]) == "a=1&b=2&a=3"


def test_bytes_are_written_octet_by_octet() -> None:
    assert encode_form([(b"\xff", b"\x00\xfe")]) == "%FF=%00%FE"  # type: ignore[list-item]
    assert form_pairs({"a": b"\xff"}) == [("a", b"\xff")]


def test_what_is_no_text_is_written_as_str_says() -> None:
    identifier = uuid.UUID(int=5)
    source = {
        "id": identifier,
        "day": dt.date(2024, 2, 29),
        "price": decimal.Decimal("1.10"),
    }
    assert encode_form(source) == f"id={identifier}&day=2024-02-29&price=1.10"


@pytest.mark.parametrize(
    "source",
    [
        "a=b",
        b"a=b",
        bytearray(b"a"),
        5,
        ["ab"],
        [("a",)],
        [("a", "b", "c")],
        [None],
        {None: "a"},
        {("a",): "a"},
        {"a": {"b": "c"}},
        {"a": {"b"}},
        {"a": (letter for letter in "ab")},
        {"a": [["b"]]},
        {"a": bytearray(b"b")},
        {"a": memoryview(b"b")},
    ],
    ids=repr,
)
def test_what_has_no_one_meaning_is_refused(source: object) -> None:
    with pytest.raises(
        TypeError, match=r"are a mapping or pairs|each pair is|a name is|a value is"
    ):
        encode_form(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a=b&a=c", "a=b&a=c"),
        ("a=%20+b%zz%4", "a=%20+b%25zz%254"),
        ("a=b c&d=ä", "a=b%20c&d=%C3%A4"),
        ("?a=/:@!$'()*,;", "?a=/:@!$'()*,;"),
        ("a#b", "a%23b"),
        ("a=\r\nHost: evil\0\x7f", "a=%0D%0AHost:%20evil%00%7F"),
        ('a="<>[]\\^`{|}', "a=%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D"),
        (b"a=\xff\xc3\xa4", "a=%FF%C3%A4"),
    ],
)
def test_a_query_string_stays_but_for_what_may_not_stand_in_one(
    text: str | bytes, expected: str
) -> None:
    assert encode_params(text) == expected


@pytest.mark.parametrize("params", ["a=\ud800", {"a": "\ud800"}, {"\ud800": "a"}])
def test_a_lone_surrogate_cannot_be_written(params: Params) -> None:
    with pytest.raises(InvalidURL) as raised:
        encode_params(params)
    assert (raised.value.part, raised.value.reason) == ("query", "it holds a lone surrogate")


scalars = st.characters(exclude_categories=["Cs"])
texts = st.text(scalars)


@given(st.lists(st.tuples(texts, texts)))
def test_what_was_encoded_can_be_read(pairs: list[tuple[str, str]]) -> None:
    assert parse_qsl(encode_params(pairs), keep_blank_values=True) == pairs


@given(st.one_of(texts, st.binary(), st.dictionaries(texts, texts)))
def test_rfc3986_3_4_a_query_can_go_into_a_target_as_it_is(params: Params) -> None:
    query = encode_params(params)
    assert re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", query)
    assert encode_params(query) == query
    assert URL(f"http://h/?{query}").query == query


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        (None, None, None),
        (None, {}, None),
        (None, "", None),
        ("", None, ""),
        ("", {"a": 1}, "a=1"),
        (None, {"a": 1}, "a=1"),
        ("a=%7e+b", None, "a=%7e+b"),
        ("a=%7e+b", {}, "a=%7e+b"),
        ("a=%7e+b", {"a": []}, "a=%7e+b"),
        ("a=%7e+b", {"a": 1}, "a=%7e+b&a=1"),
        ("a=1", "b=2&c", "a=1&b=2&c"),
    ],
)
def test_params_go_behind_what_the_url_has(
    query: str | None, params: Params | None, expected: str | None
) -> None:
    assert extend_query(query, merge_params(None, params)) == expected


@pytest.mark.parametrize(
    ("defaults", "params", "expected"),
    [
        (None, None, ""),
        ({"a": 1}, None, "a=1"),
        (None, {"a": 1}, "a=1"),
        ({"a": 1, "b": 2}, {"b": 3}, "a=1&b=3"),
        ([("a", 1), ("b", 2), ("a", 3)], {"a": 4}, "b=2&a=4"),
        ({"a b": 1, "c": 2}, "a%20b", "c=2&a%20b"),
        ("a&b=1", {"b": [2, 3]}, "a&b=2&b=3"),
        ({"": 1, "a": 2}, {}, "=1&a=2"),
        ({"": 1, "a": 2}, {"": 3}, "a=2&=3"),
        ("a=1&&b=2", {}, "a=1&b=2"),
    ],
)
def test_a_requests_params_replace_the_clients(
    defaults: Params | None, params: Params | None, expected: str
) -> None:
    assert merge_params(defaults, params) == expected

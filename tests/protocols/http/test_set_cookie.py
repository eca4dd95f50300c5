"""What a Set-Cookie field says: grammar, dates, and the matching of hosts and paths."""

import datetime as dt
import random
import sys
from collections.abc import Iterator

import pytest

from protocols.http.limits import MAX_COOKIE_ATTRIBUTE_BYTES, MAX_COOKIE_BYTES
from protocols.http.set_cookie import (
    SetCookie,
    default_path,
    domain_matches,
    has_prefix,
    installed_public_suffixes,
    is_address,
    parse_cookie_date,
    parse_set_cookie,
    path_matches,
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("SID=31d4d96e407aad42", SetCookie("SID", "31d4d96e407aad42")),
        (" \ta \t=\t b c ; x", SetCookie("a", "b c")),
        ('a="b, c"', SetCookie("a", '"b, c"')),
        ("a=b=c", SetCookie("a", "b=c")),
        ("a=", SetCookie("a", "")),
        ("a=;", SetCookie("a", "")),
        ("a", SetCookie("", "a")),
        ("=a", SetCookie("", "a")),
        ("a\tb=c\td", SetCookie("a\tb", "c\td")),
        ("a=\x80\xff", SetCookie("a", "\x80\xff")),
        ("a=b;;; ;=;", SetCookie("a", "b")),
        ("a=b; Secure; HttpOnly", SetCookie("a", "b", secure=True, http_only=True)),
        ("a=b;SECURE=no;httponly=0", SetCookie("a", "b", secure=True, http_only=True)),
        ("a=b; Path=/x", SetCookie("a", "b", path="/x")),
        ("a=b; Path=/x; Path=", SetCookie("a", "b")),
        ("a=b; Path=x", SetCookie("a", "b")),
        ("a=b; Domain=.Example.COM", SetCookie("a", "b", domain="example.com")),
        ("a=b; Domain=..a", SetCookie("a", "b", domain=".a")),
        ("a=b; Domain=x; Domain=", SetCookie("a", "b")),
        ("a=b; Max-Age=60", SetCookie("a", "b", max_age=60)),
        ("a=b; Max-Age=-1", SetCookie("a", "b", max_age=-1)),
        ("a=b; Max-Age=60; Max-Age=x", SetCookie("a", "b", max_age=60)),
        ("a=b; Max-Age=+1; Max-Age=1.5; Max-Age=; Max-Age=-; Max-Age=\xb2", SetCookie("a", "b")),
        ("a=b; SameSite=LAX", SetCookie("a", "b", same_site="Lax")),
        ("a=b; SameSite=Strict; SameSite=maybe", SetCookie("a", "b")),
        ("a=b; Expires=Thu, 01 Jan 1970 00:00:09 GMT", SetCookie("a", "b", expires=9.0)),
        (
            "a=b; Expires=Thu, 01 Jan 1970 00:00:09 GMT; Expires=no",
            SetCookie("a", "b", expires=9.0),
        ),
    ],
)
def test_rfc6265bis_5_6_a_field_is_taken_apart(field: str, expected: SetCookie) -> None:
    assert parse_set_cookie(field) == expected


@pytest.mark.parametrize("field", ["", " ", "=", ";", "; Path=/", " = ; Secure"])
def test_rfc6265bis_5_7_a_cookie_without_name_and_value_is_ignored(field: str) -> None:
    assert parse_set_cookie(field) is None


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_rfc6265bis_5_6_a_control_character_anywhere_has_the_cookie_ignored(code: int) -> None:
    for field in ("a{}=b", "a=b{}", "a=b; Path=/{}", "a=b; x{}"):
        assert parse_set_cookie(field.format(chr(code))) is None


@pytest.mark.parametrize("field", ["=a=b", "=__Host-a", "__Secure-a", "=__HOST-a=b", "= __host-x"])
def test_a_nameless_cookie_cannot_pass_for_one_with_a_name(field: str) -> None:
    assert parse_set_cookie(field) is None


def test_rfc6265bis_5_6_name_and_value_have_a_limit_together() -> None:
    name = "n" * 96
    assert parse_set_cookie(f"{name}={'v' * (MAX_COOKIE_BYTES - 96)}") is not None
    assert parse_set_cookie(f"{name}={'v' * (MAX_COOKIE_BYTES - 95)}") is None
    assert parse_set_cookie(f"{name}={' ' * MAX_COOKIE_BYTES}v") is not None


def test_rfc6265bis_5_6_an_attribute_that_is_too_long_is_ignored() -> None:
    path = "/" + "p" * (MAX_COOKIE_ATTRIBUTE_BYTES - 1)
    assert parse_set_cookie(f"a=b; Path={path}") == SetCookie("a", "b", path=path)
    assert parse_set_cookie(f"a=b; Path=/ok; Path={path}x") == SetCookie("a", "b", path="/ok")


def test_a_max_age_of_a_thousand_digits_is_a_number() -> None:
    parsed = parse_set_cookie(f"a=b; Max-Age={'9' * MAX_COOKIE_ATTRIBUTE_BYTES}")
    assert parsed is not None
    assert parsed.max_age is not None
    assert parsed.max_age > 10**1000


def test_whatever_bytes_come_are_read_or_ignored() -> None:
    numbers = random.Random(6265)
    pieces = (
        'a = ; \t " , : / . - 0 9 1970 Jan Path Domain Max-Age Expires Secure __Host- \xe9 \x7f'
    )
    alphabet = [" ", *pieces.split(" ")]
    for _ in range(20_000):
        field = "".join(numbers.choices(alphabet, k=numbers.randrange(24)))
        parsed = parse_set_cookie(field)
        if parsed is not None:
            assert ";" not in parsed.name + parsed.value
            assert parsed.name or "=" not in parsed.value
            assert "\x7f" not in field


@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        ("", "__Host-a", True),
        ("", "__sEcUrE-", True),
        ("", "__Host", False),
        ("", "_Host-a", False),
        ("", "", False),
        ("__Host-", "__HOST-a", True),
        ("__Host-", "__Secure-a", False),
    ],
)
def test_rfc6265bis_4_1_3_prefixes_are_of_any_case(prefix: str, name: str, expected: bool) -> None:
    assert has_prefix(name, prefix) is expected


# Dates.

EXAMPLE = dt.datetime(1994, 11, 6, 8, 49, 37, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "6 nOVEMBER 1994 8:49:37",
        "1994 8:49:37 6 Nov",
        "06\tNov/94;08:49:37",
        "06th Nov 1994AD 08:49:37.123",
        "Sun, 06 Nov 1994 08:49:37 PST",
    ],
)
def test_rfc6265bis_5_1_1_dates_are_read_however_they_are_written(text: str) -> None:
    assert parse_cookie_date(text) == EXAMPLE


@pytest.mark.parametrize(
    ("year", "meant"),
    [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000), ("1601", 1601), ("9999", 9999)],
)
def test_rfc6265bis_5_1_1_two_digits_of_a_year(year: str, meant: int) -> None:
    expected = dt.datetime(meant, 1, 2, tzinfo=dt.UTC).timestamp()
    assert parse_cookie_date(f"02 Jan {year} 00:00:00") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "Sun, 06 Nov 1994",
        "08:49:37 06 Nov",
        "08:49:37 Nov 1994",
        "08:49:37 06 1994",
        "08:49 06 Nov 1994",
        "008:49:37 06 Nov 1994",
        "24:00:00 06 Nov 1994",
        "08:60:00 06 Nov 1994",
        "08:49:60 06 Nov 1994",
        "08:49:37 00 Nov 1994",
        "08:49:37 31 Nov 1994",
        "08:49:37 29 Feb 1900",
        "08:49:37 06 Nov 1600",
        "08:49:37 06 Nov 19941",
        "08:49:37 06 No 1994",
        "08:49:\xb37 06 Nov 1994",
    ],
)
def test_rfc6265bis_5_1_1_what_is_no_date_is_none(text: str) -> None:
    assert parse_cookie_date(text) is None


# Hosts and paths.


@pytest.mark.parametrize(
    ("host", "domain", "expected"),
    [
        ("example.com", "example.com", True),
        ("www.example.com", "example.com", True),
        ("a.b.example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("badexample.com", "example.com", False),
        ("example.com.", "example.com", False),
        ("www.example.com.", "example.com", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "0.0.1", False),
        ("10.0.0.1", "1", False),
        ("::ffff:a.b", "b", False),
    ],
)
def test_rfc6265bis_5_1_3_domains_match_at_a_dot(host: str, domain: str, expected: bool) -> None:
    assert domain_matches(host, domain) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/", "/a/b"), ("//", "/")],
)
def test_rfc6265bis_5_1_4_the_default_path_is_the_directory(path: str, expected: str) -> None:
    assert default_path(path) == expected


@pytest.mark.parametrize(
    ("path", "cookie_path", "expected"),
    [
        ("/", "/", True),
        ("/a", "/", True),
        ("/a", "/a", True),
        ("/a/", "/a", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/a", "/a/", False),
        ("/ab", "/a", False),
        ("/a%2Fb", "/a", False),
        ("/A", "/a", False),
        ("/", "/a", False),
    ],
)
def test_rfc6265bis_5_1_4_paths_match_at_a_slash(
    path: str, cookie_path: str, expected: bool
) -> None:
    assert path_matches(path, cookie_path) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("1.2.3.4", True), ("::1", True), ("localhost", False), ("1.a", False), ("a.1a", False)],
)
def test_addresses_are_told_from_names(host: str, expected: bool) -> None:
    assert is_address(host) is expected


# Public suffixes.


@pytest.fixture
def _fresh() -> Iterator[None]:
    installed_public_suffixes.cache_clear()
    yield
    installed_public_suffixes.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_without_the_package_there_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    assert installed_public_suffixes() is None


@pytest.mark.usefixtures("_fresh")
def test_with_the_package_the_list_is_read_once() -> None:
    pytest.importorskip("publicsuffixlist")
    is_public = installed_public_suffixes()
    assert is_public is not None
    assert installed_public_suffixes() is is_public
    for domain in ("com", "co.uk", "github.io", "anything.ck", "localhost", "xn--p1ai"):
        assert is_public(domain), domain
    for domain in ("example.com", "example.co.uk", "me.github.io", "www.ck"):
        assert not is_public(domain), domain

"""A cookie is legal or does not exist."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from protocols.http.cookie import Cookie, canonical_host
from protocols.http.errors import InvalidHeader, InvalidURL
from protocols.http.limits import MAX_COOKIE_ATTRIBUTE_BYTES, MAX_COOKIE_BYTES

CONTROLS = [chr(code) for code in (*range(9), *range(10, 32), 127)]


@pytest.mark.parametrize("character", [*CONTROLS, ";", "\u20ac", "\ud800"])
@pytest.mark.parametrize("field", ["name", "value", "path"])
def test_what_may_not_enter_a_header_is_refused(field: str, character: str) -> None:
    for text in ("/a{}b", "/{}", "{}/"):
        arguments = {"name": "n", "value": "v", field: text.format(character)}
        with pytest.raises(InvalidHeader, match=field):
            Cookie(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [" a", "a ", "\ta", "a\t", " "])
def test_white_space_around_name_or_value_is_refused(text: str) -> None:
    for arguments in ({"name": text, "value": "v"}, {"name": "n", "value": text}):
        with pytest.raises(InvalidHeader, match="white space"):
            Cookie(**arguments)  # type: ignore[arg-type]


def test_an_equals_sign_is_for_values_only() -> None:
    assert Cookie(name="n", value="a=b").value == "a=b"
    with pytest.raises(InvalidHeader, match="name"):
        Cookie(name="n=", value="v")


def test_octets_above_ascii_and_tabs_inside_are_legal() -> None:
    cookie = Cookie(name="n\tm", value="\x80\xe9\xff a\tb", path="/\xe9")
    assert cookie.value.encode("latin-1") == b"\x80\xe9\xff a\tb"


@pytest.mark.parametrize("value", ["", "a=b", "__Host-a", "__secure-a"])
def test_a_cookie_without_a_name_may_not_look_like_one_with_a_name(value: str) -> None:
    assert Cookie(name="", value="v").name == ""
    with pytest.raises(InvalidHeader, match="without a name"):
        Cookie(name="", value=value)


def test_limits_hold_for_callers_too() -> None:
    Cookie(name="n", value="v" * (MAX_COOKIE_BYTES - 1))
    with pytest.raises(InvalidHeader, match=str(MAX_COOKIE_BYTES)):
        Cookie(name="n", value="v" * MAX_COOKIE_BYTES)
    with pytest.raises(InvalidHeader, match=str(MAX_COOKIE_ATTRIBUTE_BYTES)):
        Cookie(name="n", value="v", path="/" * (MAX_COOKIE_ATTRIBUTE_BYTES + 1))


@pytest.mark.parametrize(
    "scope",
    [
        {"domain": "example.com"},
        {"domain": "example.com", "host_only": False, "secure": True},
        {"domain": "example.com", "secure": True, "path": "/a"},
        {"path": "/a"},
    ],
)
@pytest.mark.parametrize("name", ["__Host-a", "__HOST-a"])
def test_rfc6265bis_4_1_3_2_a_host_cookie_is_secure_for_one_host_and_the_root(
    name: str, scope: dict[str, Any]
) -> None:
    Cookie(name=name, value="v", domain="example.com", secure=True)
    with pytest.raises(InvalidHeader):
        Cookie(name=name, value="v", **scope)


def test_rfc6265bis_4_1_3_1_a_secure_cookie_is_secure() -> None:
    Cookie(name="__Secure-a", value="v", domain="example.com", secure=True, path="/a")
    with pytest.raises(InvalidHeader, match="secure"):
        Cookie(name="__secure-a", value="v", domain="example.com")


def test_same_site_none_needs_secure() -> None:
    Cookie(name="a", value="v", domain="example.com", same_site="None", secure=True)
    with pytest.raises(InvalidHeader, match="SameSite"):
        Cookie(name="a", value="v", domain="example.com", same_site="None")
    with pytest.raises(InvalidHeader, match="SameSite"):
        Cookie(name="a", value="v", same_site="lax")


@pytest.mark.parametrize(
    "domain", ["Example.com", ".example.com", "b\xfccher.example", "[::1]", "0:0::1", "a/b", "a:1"]
)
def test_a_domain_is_written_as_hosts_are_compared(domain: str) -> None:
    with pytest.raises(InvalidURL, match="host"):
        Cookie(name="a", value="v", domain=domain)


@pytest.mark.parametrize("domain", ["", "10.0.0.1", "::1", "com", "example.com."])
def test_what_has_no_hosts_below_it_is_for_one_host(domain: str) -> None:
    Cookie(name="a", value="v", domain=domain)
    with pytest.raises(InvalidURL, match="host"):
        Cookie(name="a", value="v", domain=domain, host_only=False)


def test_an_origin_is_of_the_cookies_host() -> None:
    origin = ("https", "example.com", 443)
    Cookie(name="a", value="v", domain="example.com", origin=origin)
    with pytest.raises(InvalidHeader, match="origin"):
        Cookie(name="a", value="v", domain="example.org", origin=origin)


@pytest.mark.parametrize("value", [1, None, b"v", 1.5])
def test_a_value_that_is_no_str_is_refused(value: Any) -> None:
    with pytest.raises(InvalidHeader, match=f"value is not str but {type(value).__name__}"):
        Cookie(name="n", value=value)


def test_no_message_and_no_repr_tells_the_value() -> None:
    assert "hunter2" not in repr(Cookie(name="n", value="hunter2"))
    for value in ("hunter2\n", "hunter2;", "hunter2 ", "hunter2\u20ac", "hunter2" * 1000):
        with pytest.raises(InvalidHeader) as caught:
            Cookie(name="n", value=value)
        assert "hunter2" not in str(caught.value)


def test_a_cookie_is_immutable_and_can_be_copied() -> None:
    cookie = Cookie(name="n", value="v")
    with pytest.raises(dataclasses.FrozenInstanceError):
        cookie.value = "a\r\nb"  # type: ignore[misc]
    assert copy.copy(cookie) == pickle.loads(pickle.dumps(cookie)) == cookie


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("EXAMPLE.com", "example.com"),
        ("B\xfccher.example", "xn--bcher-kva.example"),
        ("[0:0::1]", "::1"),
        ("0:0::1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_hosts_are_brought_into_one_form(host: str, expected: str) -> None:
    assert canonical_host(host) == expected


@pytest.mark.parametrize("host", ["a b", "a/b", "u@h", "a:80", "a?", "a#", "a..b", "", "[a", "1.2"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidURL):
        canonical_host(host)

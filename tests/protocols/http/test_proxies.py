"""Which proxy a request goes through, and what may be said of one."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.http import URL, BasicAuth, InvalidHeader, InvalidURL, Proxy
from protocols.http.proxies import NoProxy, Proxies


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a.example", "http://a.example:80"),
        ("a.example:3128", "http://a.example:3128"),
        ("https://a.example/", "https://a.example:443"),
        ("socks5://a.example", "socks5://a.example:1080"),
        ("SOCKS5H://me:x@[::1]:9", "socks5h://[::1]:9"),
        ("socks5h://me:x@[::1]", "socks5h://[::1]:1080"),
        ("http://me:x@a.example:80/", "http://a.example:80"),
    ],
)
def test_url_of_a_proxy(text: str, shown: str) -> None:
    assert str(Proxy(text)) == shown
    assert repr(Proxy(text)) == f"<Proxy {shown}>"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ftp://a.example", "scheme"), ("http://", "host"), ("http://a:b", "port"),
        ("http://a.example/path", "path"), ("http://a.example\r\nX: y", "host"),
        ("socks5://a.example:99999", "port"), ("http://a b", "host"),
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_proxy_raises(text: str, part: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        Proxy(text)
    assert caught.value.part == part


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b", "a%0Db", "a%0ab", "a%00b"])
def test_control_character_for_a_proxy_raises(bad: str) -> None:
    for scheme in ("http", "socks5"):
        with pytest.raises((InvalidHeader, InvalidURL)):
            Proxy(f"{scheme}://{bad}:x@a.example")
        with pytest.raises((InvalidHeader, InvalidURL)):
            Proxy(f"{scheme}://x:{bad}@a.example")
    if "%" not in bad:
        with pytest.raises(InvalidHeader):
            Proxy("http://a.example", headers={"X": bad})
        with pytest.raises(InvalidHeader):
            Proxy("http://a.example", auth=("x", bad))


def test_socks_takes_255_bytes_and_no_auth_object() -> None:
    with pytest.raises(InvalidHeader, match="255"):
        Proxy("socks5://a.example", auth=("x" * 256, "y"))
    with pytest.raises(InvalidHeader, match="255"):
        Proxy("socks5://me@a.example")
    with pytest.raises(TypeError, match="SOCKS"):
        Proxy("socks5://a.example", auth=BasicAuth("a", "b"))
    with pytest.raises(InvalidHeader, match="auth"):
        Proxy("http://a.example", headers={"Proxy-Authorization": "x"})


def test_proxies_are_equal_when_they_get_the_same() -> None:
    assert Proxy("http://a:b@c.example") == Proxy("http://a:b@c.example:80")
    assert hash(Proxy("http://a:b@c.example")) == hash(Proxy("http://a:b@c.example:80"))
    assert Proxy("http://a:b@c.example") != Proxy("http://a:x@c.example")
    assert Proxy("http://c.example") != Proxy("https://c.example:80")
    assert Proxy("http://c.example") != Proxy("http://c.example", headers={"X": "y"})
    assert "b" not in repr(Proxy("http://a:bbb@c.example")).replace("<", "")


@pytest.mark.parametrize(
    ("text", "url", "covered"),
    [
        ("*", "http://a.example", True),
        ("", "http://a.example", False),
        ("a.example", "http://a.example", True),
        ("a.example", "http://b.a.example", True),
        ("a.example", "http://ba.example", False),
        (".a.example", "http://a.example", True),
        (".a.example", "http://x.a.example.", True),
        ("*.a.example", "http://x.a.example", True),
        ("A.Example", "http://a.example", True),
        ("b.example,a.example", "http://a.example", True),
        ("b.example  a.example", "https://a.example", True),
        ("a.example:81", "http://a.example", False),
        ("a.example:81", "http://a.example:81", True),
        ("127.0.0.1", "http://127.0.0.1", True),
        ("127.0.0.1", "http://127.0.0.2", False),
        ("27.0.0.1", "http://127.0.0.1", False),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.0.0.0/8", "http://a.example", False),
        ("::1", "http://[::1]", True),
        ("[::1]", "http://[::1]", True),
        ("[::1]:81", "http://[::1]", False),
        ("fe80::/10", "http://[fe80::1]", True),
        ("10.0.0.0/8", "http://[fe80::1]", False),
    ],
)
def test_no_proxy(text: str, url: str, covered: bool) -> None:
    assert NoProxy(text).covers(URL(url)) is covered


def chosen(environment: dict[str, str], url: str) -> str:
    return str(Proxies(None, environment).proxy_for(URL(url)))


def test_environment_by_scheme_lower_case_first() -> None:
    environment = {
        "http_proxy": "http://low.example",
        "HTTP_PROXY": "http://up.example",
        "HTTPS_PROXY": "http://secure.example",
        "all_proxy": "socks5://all.example",
    }
    assert chosen(environment, "http://a.example") == "http://low.example:80"
    assert chosen(environment, "https://a.example") == "http://secure.example:80"
    del environment["http_proxy"], environment["HTTPS_PROXY"]
    assert chosen(environment, "http://a.example") == "http://up.example:80"
    assert chosen(environment, "https://a.example") == "socks5://all.example:1080"
    assert chosen({**environment, "no_proxy": "a.example"}, "http://a.example") == "None"
    assert chosen({**environment, "NO_PROXY": "*"}, "http://a.example") == "None"
    assert chosen({"http_proxy": " "}, "http://a.example") == "None"


def test_cve_2016_5385_upper_case_is_not_read_in_a_cgi_program() -> None:
    environment = {"HTTP_PROXY": "http://evil.example", "REQUEST_METHOD": "GET"}
    assert chosen(environment, "http://a.example") == "None"
    assert chosen({**environment, "http_proxy": "http://mine.example"}, "http://a.example") == (
        "http://mine.example:80"
    )


def test_mapping_by_scheme() -> None:
    source: Any = {"http://": "http://one.example", "https": None, "all": "http://two.example"}
    proxies = Proxies(source, {"http_proxy": "http://environment.example"})
    assert str(proxies.proxy_for(URL("http://a.example"))) == "http://one.example:80"
    assert proxies.proxy_for(URL("https://a.example")) is None
    with pytest.raises(ValueError, match="ftp"):
        Proxies({"ftp": "http://a.example"}, None)

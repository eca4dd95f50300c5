"""The URL of a request: what it means, what is refused, how references resolve."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http import url
from protocols.http.errors import InvalidURL
from protocols.http.limits import MAX_KEPT_HOSTS, MAX_URL_LENGTH
from protocols.http.url import URL


def test_a_url_is_taken_apart() -> None:
    url = URL("https://user:pw@Example.COM:8443/a/b?c=d#e")
    assert (url.scheme, url.userinfo, url.host, url.port) == (
        "https",
        "user:pw",
        "example.com",
        8443,
    )
    assert (url.path, url.query, url.fragment, url.target) == ("/a/b", "c=d", "e", "/a/b?c=d")
    assert url.host_header == url.authority == "example.com:8443"
    assert url.origin == ("https", "example.com", 8443)
    assert str(url) == "https://user:pw@example.com:8443/a/b?c=d#e"


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_rfc9110_4_2_the_port_has_a_default(scheme: str, port: int) -> None:
    for text in (f"{scheme}://h", f"{scheme.upper()}://h:", f"{scheme}://h:{port}"):
        url = URL(text)
        assert (url.port, url.host_header, url.authority) == (port, "h", f"h:{port}")


def test_rfc9112_3_2_1_an_empty_path_is_a_slash() -> None:
    assert URL("http://h").target == "/"
    assert URL("http://h?q").target == "/?q"
    assert URL("http://h#f").target == "/"


def test_an_empty_query_is_not_a_missing_one() -> None:
    assert URL("http://h/?").target == "/?"
    assert URL("http://h/?") != URL("http://h/")


def test_rfc3986_3_2_2_ipv6_stands_in_brackets() -> None:
    url = URL("http://[2001:DB8:0:0::1]:81/")
    assert (url.host, url.port, url.host_header) == ("2001:db8::1", 81, "[2001:db8::1]:81")
    assert URL("http://[::1]").authority == "[::1]:80"


def test_ipv4_stays_as_it_is() -> None:
    assert URL("http://127.0.0.1:1/").host == "127.0.0.1"


def test_rfc5891_a_non_ascii_host_becomes_a_labels() -> None:
    assert URL("http://Bücher.example/").host == "xn--bcher-kva.example"
    assert URL("http://例え。テスト/").host == "xn--r8jz45g.xn--zckzah"


def test_hosts_that_are_known_have_a_limit() -> None:
    name: Any = vars(url)["_name"]
    for number in range(MAX_KEPT_HOSTS + 1):
        assert URL(f"http://127.1.{number // 256}.{number % 256}/").host.startswith("127.1.")
    known = name.cache_info()
    assert known.currsize == MAX_KEPT_HOSTS
    assert URL("http://127.1.4.0/").host == "127.1.4.0"
    assert name.cache_info().hits == known.hits + 1


def test_a_name_may_end_in_a_dot_and_hold_underscores() -> None:
    assert URL("http://my_host.local./").host == "my_host.local."


def test_rfc3986_2_1_what_is_not_allowed_is_percent_encoded() -> None:
    url = URL('http://h/ä"<>^`{|}[]?ä=[1]&b="x"#ä')
    assert url.path == "/%C3%A4%22%3C%3E%5E%60%7B%7C%7D%5B%5D"
    assert url.query == "%C3%A4=%5B1%5D&b=%22x%22"
    assert url.fragment == "%C3%A4"
    assert url.target.isascii()


def test_what_is_encoded_already_is_left_as_it_is() -> None:
    assert URL("http://h/%7e%2F%c3?%20+").target == "/%7e%2F%c3?%20+"


def test_a_percent_sign_that_encodes_nothing_is_encoded() -> None:
    assert URL("http://h/100%?%zz%4").target == "/100%25?%25zz%254"


def test_dot_segments_stay_in_an_absolute_url() -> None:
    assert URL("http://h/a/../b/./c").path == "/a/../b/./c"


def test_a_bytes_url_keeps_octets_that_are_not_utf_8() -> None:
    assert URL(b"http://h/\xff\xc3\xa4").path == "/%FF%C3%A4"


def test_user_information_is_percent_encoded() -> None:
    assert URL("http://ü:p w@h/".replace(" ", "%20")).userinfo == "%C3%BC:p%20w"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "scheme"),
        ("example.com", "scheme"),
        ("//example.com/", "scheme"),
        ("/path", "scheme"),
        ("ftp://h/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("localhost:8080/", "scheme"),
        ("1http://h/", "scheme"),
        (" http://h/", "scheme"),
        ("ht\ntp://h/", "scheme"),
        ("http:", "host"),
        ("http:/h/", "host"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://?q", "host"),
        ("http://:80/", "host"),
        ("http://user@/", "host"),
        ("http://a b/", "host"),
        ("http://a\tb/", "host"),
        ("http://a\r\nHost: b/", "host"),
        ("http://a\0/", "host"),
        ("http://a\x85/", "host"),
        ("http://a\\b/", "host"),
        ("http://a\\@b/", "host"),
        ("http://a..b/", "host"),
        ("http://.a/", "host"),
        ("http://./", "host"),
        ("http://-a/", "host"),
        ("http://a-/", "host"),
        ("http://a%41/", "host"),
        ("http://a%00/", "host"),
        ("http://a,b/", "host"),
        ("http://a*b/", "host"),
        (f"http://{'a' * 64}/", "host"),
        (f"http://{'a.' * 127}com/", "host"),
        ("http://127.1/", "host"),
        ("http://2130706433/", "host"),
        ("http://0x7f000001/", "host"),
        ("http://0177.0.0.1/", "host"),
        ("http://1.2.3.4.5/", "host"),
        ("http://256.1.1.1/", "host"),
        ("http://127.0.0.1./", "host"),
        ("http://[::1", "host"),
        ("http://::1]/", "host"),
        ("http://[::1]x/", "host"),
        ("http://[::1]80/", "host"),
        ("http://[::g]/", "host"),
        ("http://[127.0.0.1]/", "host"),
        ("http://[v1.x]/", "host"),
        ("http://[fe80::1%25eth0]/", "host"),
        ("http://[fe80::1%eth0]/", "host"),
        ("http://[]/", "host"),
        ("http://a\u2100b/", "host"),  # UTS 46 maps it to a/c
        ("http://xn--\u0661/", "host"),
        ("http://\ud800/", "host"),
        ("http://h:0/", "port"),
        ("http://h:65536/", "port"),
        (f"http://h:{'9' * 5000}/", "port"),
        ("http://h:x/", "port"),
        ("http://h:-1/", "port"),
        ("http://h:+80/", "port"),
        ("http://h:8_0/", "port"),
        ("http://h:80:80/", "port"),
        ("http://h:\u0661/", "port"),
        ("http://a@b@c/", "userinfo"),
        ("http://h/a b", "path"),
        ("http://h/\r\nX: y", "path"),
        ("http://h/\x7f", "path"),
        ("http://h/\\", "path"),
        ("http://h/\n", "path"),
        ("http://h/\ud800", "path"),
        ("http://h/?a b", "query"),
        ("http://h/?\0", "query"),
        ("http://h/#a b", "fragment"),
        ("http://h/" + "a" * MAX_URL_LENGTH, "url"),
    ],
)
def test_a_url_that_cannot_be_requested_names_the_part(text: str, part: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        URL(text)
    assert caught.value.part == part
    assert isinstance(caught.value, ValueError)


def test_an_error_never_shows_user_information() -> None:
    for text in ("http://user:secret@a b/", "http://user:secret@h:x/", "http://secret@x@h/"):
        with pytest.raises(InvalidURL) as caught:
            URL(text)
        assert "secret" not in str(caught.value)


def test_repr_hides_the_password() -> None:
    assert repr(URL("http://user:pw@h/")) == "URL('http://user:[secure]@h/')"
    assert repr(URL("http://user@h/")) == "URL('http://user@h/')"


def test_something_else_than_text_raises() -> None:
    with pytest.raises(TypeError, match="int"):
        URL(5)  # type: ignore[arg-type]


def test_urls_are_immutable_values() -> None:
    url = URL("HTTP://H:80/a")
    assert url == URL("http://h/a")
    assert hash(url) == hash(URL("http://h/a"))
    assert url != URL("http://h/b")
    assert url != "http://h/a"
    assert pickle.loads(pickle.dumps(url)) == url
    with pytest.raises(AttributeError, match="immutable"):
        url.host = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del url.host
    assert not hasattr(url, "__dict__")


RFC3986_5_4 = {
    "g": "/b/c/g", "./g": "/b/c/g", "g/": "/b/c/g/", "/g": "/g", "?y": "/b/c/d;p?y",
    "g?y": "/b/c/g?y", "#s": "/b/c/d;p?q#s", "g#s": "/b/c/g#s", "g?y#s": "/b/c/g?y#s",
    ";x": "/b/c/;x", "g;x": "/b/c/g;x", "g;x?y#s": "/b/c/g;x?y#s", "": "/b/c/d;p?q",
    ".": "/b/c/", "./": "/b/c/", "..": "/b/", "../": "/b/", "../g": "/b/g", "../..": "/",
    "../../": "/", "../../g": "/g", "../../../g": "/g", "../../../../g": "/g", "/./g": "/g",
    "/../g": "/g", "g.": "/b/c/g.", ".g": "/b/c/.g", "g..": "/b/c/g..", "..g": "/b/c/..g",
    "./../g": "/b/g", "./g/.": "/b/c/g/", "g/./h": "/b/c/g/h", "g/../h": "/b/c/h",
    "g;x=1/./y": "/b/c/g;x=1/y", "g;x=1/../y": "/b/c/y", "g?y/./x": "/b/c/g?y/./x",
    "g?y/../x": "/b/c/g?y/../x", "g#s/./x": "/b/c/g#s/./x", "g#s/../x": "/b/c/g#s/../x",
}  # fmt: skip


def test_rfc3986_5_4_references_resolve() -> None:
    base = URL("http://a/b/c/d;p?q")
    for reference, expected in RFC3986_5_4.items():
        assert str(base.join(reference)) == "http://a" + expected, reference


def test_a_reference_may_name_another_authority_or_scheme() -> None:
    base = URL("https://user:pw@a:8443/b")
    assert str(base.join("//g/../x")) == "https://g/x"
    assert str(base.join("http://h:1/y")) == "http://h:1/y"


def test_a_relative_reference_keeps_the_authority() -> None:
    assert str(URL("https://user@a:8443/b").join("c")) == "https://user@a:8443/c"


def test_spaces_in_a_reference_are_encoded() -> None:
    assert URL("http://h/").join("/a b?c d").target == "/a%20b?c%20d"


def test_spaces_around_a_reference_are_no_part_of_it() -> None:
    # As a path it would stay on this host, while browsers go to the other.
    assert URL("http://h/").join("  //other/a ").origin == ("http", "other", 80)
    assert URL("http://h/a").join(" ").target == "/a"


def test_the_octets_of_a_location_are_kept() -> None:
    assert URL("http://h/").join(b"/\xc3\xa4\xff").target == "/%C3%A4%FF"


@pytest.mark.parametrize(
    "bad", ["ftp://h/", "http:g", "mailto:x", "//h:0/", "/\n", "//a b/", "\\x"]
)
def test_a_reference_that_cannot_be_requested_raises(bad: str) -> None:
    with pytest.raises(InvalidURL):
        URL("http://h/").join(bad)


BASE = URL("http://base/a/b")


@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_gives_a_sendable_url_or_a_typed_error(text: str) -> None:
    for made, argument in ((URL, text), (URL, "http://h/" + text), (BASE.join, text)):
        try:
            url = made(argument)
        except InvalidURL:
            continue
        assert url.target.startswith("/")
        assert all(0x21 <= ord(char) <= 0x7E for char in url.target + url.host_header)
        assert URL(str(url)) == url


READ = ("scheme", "userinfo", "host", "port", "path", "query", "fragment", "target", "host_header",
        "origin")  # fmt: skip


@given(
    st.sampled_from(
        ["http://", "https://", "HTTP://h", "http://h", "https://a.b:8", "http://h/a?"]
    ),
    st.text("abzAZ019._-~:/?#%@[]!$&'()*+,;= \\\x7fé€\"<>^`{|}2Ff", max_size=14),
)
def test_url_of_plain_characters_is_read_as_by_the_expressions(begin: str, rest: str) -> None:
    """The same as octets is never read in the short way."""

    def read(url: str | bytes) -> object:
        try:
            return [getattr(URL(url), name) for name in READ]
        except InvalidURL as error:
            return error.part, str(error)

    assert read(begin + rest) == read((begin + rest).encode())


def test_query_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="a query is str, not int"):
        URL("http://h/").with_query(1)  # type: ignore[arg-type]

"""The cookie jar as a caller has it: cookies set by hand, looked up, and kept in files."""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from protocols.http.cookies import Cookie, CookieConflictError, CookieFileError, CookieJar
from protocols.http.errors import HTTPError, InvalidHeader, InvalidURL
from protocols.http.headers import Headers
from protocols.http.limits import MAX_COOKIE_AGE_SECONDS, MAX_COOKIE_FILE_BYTES
from protocols.http.url import URL

NOW = 1_700_000_000.0
HERE = "https://www.example.com/"


def new_jar(cookies: Any = None, *, suffixes: tuple[str, ...] = ("com",)) -> CookieJar:
    return CookieJar(cookies, public_suffix=suffixes.__contains__, clock=lambda: NOW)


def sent(jar: CookieJar, url: str, also: CookieJar | None = None) -> str | None:
    return jar.header_for(URL(url), also)


def receive(jar: CookieJar, url: str, field: str) -> None:
    jar.store(URL(url), Headers([("Set-Cookie", field)]))


# A caller's cookies have one origin.


@pytest.mark.parametrize("cookies", [{"a": "1", "b": "2"}, [("a", "1"), ("b", "2")]])
def test_cookies_without_a_domain_go_to_the_first_origin_and_to_no_other(cookies: Any) -> None:
    jar = new_jar(cookies)
    assert len(jar) == 2
    assert sent(jar, "https://example.com/x") == "a=1; b=2"
    for url in (
        "http://example.com/",
        "https://example.com:8443/",
        "https://www.example.com/",
        "https://example.org/",
    ):
        assert sent(jar, url) is None
    assert sent(jar, "https://example.com/") == "a=1; b=2"
    assert {cookie.origin for cookie in jar} == {("https", "example.com", 443)}


def test_a_cookie_bound_to_https_is_safe_from_plain_http() -> None:
    jar = new_jar({"sid": "good"})
    sent(jar, HERE)
    receive(jar, "http://www.example.com/", "sid=evil")
    assert sent(jar, HERE) == "sid=good"


def test_a_server_may_renew_and_remove_a_callers_cookie() -> None:
    jar = new_jar({"sid": "old", "gone": "x"})
    sent(jar, HERE)
    receive(jar, HERE, "sid=new; Path=/")
    receive(jar, HERE, "gone=; Max-Age=0; Path=/")
    assert sent(jar, HERE) == "sid=new"


def test_a_prefixed_cookie_cannot_be_bound_to_plain_http() -> None:
    jar = new_jar({"a": "1", "__Host-b": "2"})
    for _ in range(2):
        with pytest.raises(InvalidHeader, match="https"):
            sent(jar, "http://example.com/")
    assert len(jar) == 2
    assert sent(jar, HERE) == "a=1; __Host-b=2"


def test_a_cookie_that_is_set_later_is_bound_when_the_next_url_is_asked_for() -> None:
    jar = new_jar()
    assert sent(jar, HERE) is None
    jar["a"] = "1"
    assert sent(jar, HERE) == "a=1"
    jar["b"] = "2"
    assert sent(jar, "https://example.org/") == "b=2"
    assert sent(jar, HERE) == "a=1"


def test_cookies_of_one_request_take_the_place_of_those_of_the_same_name() -> None:
    jar = new_jar()
    receive(jar, HERE, "a=1")
    receive(jar, HERE, "b=2")
    own = new_jar({"a": "mine", "c": "3"})
    assert sent(jar, HERE, own) == "b=2; a=mine; c=3"
    assert sent(jar, "https://example.org/", own) is None
    assert sent(jar, HERE) == "a=1; b=2"


def test_a_domain_names_one_host_and_with_a_dot_those_below_it() -> None:
    jar = new_jar()
    jar.set("a", "1", "Example.com")
    jar.set("b", "2", ".b\xfccher.example")
    jar.set("c", "3", "[::1]", "/x")
    assert sent(jar, "http://example.com/") == "a=1"
    assert sent(jar, HERE) is None
    assert sent(jar, "http://www.b\xfccher.example/") == "b=2"
    assert sent(jar, "http://[0::1]:81/x") == "c=3"


@pytest.mark.parametrize("domain", [".com", ".10.0.0.1", "..example.com", "a/b", ".localhost", "."])
def test_a_domain_that_cannot_be_is_refused(domain: str) -> None:
    with pytest.raises(InvalidURL, match="host"):
        new_jar().set("a", "1", domain)


@pytest.mark.parametrize(
    ("name", "value"), [("a\r\nX: y", "1"), ("a", "1\r\nX: y"), ("a", "1; b=2"), ("", ""), ("a", 1)]
)
def test_what_may_not_enter_a_header_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(InvalidHeader):
        new_jar({name: value})
    with pytest.raises(InvalidHeader):
        new_jar().set(name, value, "example.com")


def test_all_that_a_cookie_may_have_can_be_set() -> None:
    jar = new_jar()
    jar.set(
        "a", "1", "example.com", "/x", secure=True, http_only=True, same_site="Lax", expires=NOW + 1
    )
    assert list(jar) == [
        Cookie(
            name="a",
            value="1",
            domain="example.com",
            path="/x",
            secure=True,
            http_only=True,
            same_site="Lax",
            expires=NOW + 1,
        )
    ]
    jar.set("a", "", "example.com", "/x", expires=NOW)
    assert list(jar) == []


def test_a_str_is_no_collection_of_cookies() -> None:
    with pytest.raises(TypeError, match="not str"):
        new_jar("a=b")


# Looking them up.


def test_a_jar_is_made_from_another_and_apart_from_it() -> None:
    first = new_jar()
    receive(first, HERE, "a=1; Domain=example.com")
    first["b"] = "2"
    second = new_jar(first)
    assert list(second) == list(first)
    first.clear()
    assert sent(second, HERE) == "a=1; b=2"


def test_names_and_values_are_looked_up() -> None:
    jar = new_jar({"a": "1"})
    jar.set("b", "2", "example.com")
    assert jar["a"] == jar.get("a") == "1"
    assert "b" in jar
    assert "c" not in jar
    assert jar.keys() == ["a", "b"]
    assert dict(jar) == {"a": "1", "b": "2"}
    assert [cookie.domain for cookie in jar] == ["", "example.com"]
    assert jar.get("c") is None
    assert jar.get("c", "default") == "default"
    with pytest.raises(KeyError, match="c"):
        jar["c"]
    assert jar
    assert not new_jar()


def test_a_name_of_several_cookies_needs_a_domain_or_a_path() -> None:
    jar = new_jar()
    jar.set("a", "1", "example.com")
    jar.set("a", "2", "example.com", "/x")
    jar.set("a", "3", "example.org")
    with pytest.raises(CookieConflictError, match=r"3 cookies are called 'a'.*example\.com/x"):
        jar["a"]
    assert issubclass(CookieConflictError, HTTPError)
    assert jar.get("a", domain="Example.org") == "3"
    assert jar.get("a", domain="example.com", path="/x") == "2"


def test_cookies_are_removed_by_name_domain_and_path() -> None:
    def filled() -> CookieJar:
        jar = new_jar({"a": "0"})
        for domain in ("example.com", ".example.com", "example.org"):
            for path in ("/", "/x"):
                jar.set("a", "1", domain, path)
        assert len(jar) == 7
        return jar

    for count, arguments in (
        (0, {}),
        (3, {"domain": "example.com"}),
        (5, {"domain": "example.com", "path": "/x"}),
        (4, {"path": "/x"}),
    ):
        jar = filled()
        jar.clear(**arguments)
        assert len(jar) == count, arguments
        jar = filled()
        jar.delete("a", **arguments)
        assert len(jar) == count, arguments
        jar.delete("b", **arguments)
    jar = filled()
    del jar["a"]
    assert len(jar) == 0
    with pytest.raises(KeyError):
        del jar["a"]


def test_neither_a_jar_nor_its_errors_show_a_value() -> None:
    jar = new_jar()
    jar.set("a", "hunter2", "example.com")
    jar.set("a", "hunter2", "example.org")
    assert repr(jar) == "<CookieJar, 2 cookies of 2 domains>"
    with pytest.raises(CookieConflictError) as caught:
        jar["a"]
    assert "hunter2" not in str(caught.value) + repr(list(jar))


# Files.


def filled_jar() -> CookieJar:
    jar = new_jar()
    receive(jar, HERE, "keep=1; Max-Age=60; Domain=example.com; Secure; HttpOnly; SameSite=Lax")
    receive(jar, HERE, 'odd="\xe9\\\t\x80"; Max-Age=60; Path=/x')
    receive(jar, HERE, "session=1")
    jar.set("mine", "2", expires=NOW + 60)
    return jar


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    jar = filled_jar()
    sent(jar, HERE)
    jar.save(tmp_path / "jar")
    again = new_jar()
    again.load(str(tmp_path / "jar"))
    assert [cookie.name for cookie in again] == ["keep", "odd", "mine"]
    assert list(again) == [cookie for cookie in jar if cookie.name != "session"]
    assert sent(again, HERE + "x") == 'odd="\xe9\\\t\x80"; keep=1; mine=2'


def test_session_cookies_are_saved_when_asked_for(tmp_path: Path) -> None:
    jar = filled_jar()
    jar.save(tmp_path / "jar", session_cookies=True)
    again = new_jar()
    again.load(tmp_path / "jar")
    assert again["session"] == "1"
    assert "mine" not in again, "it has no origin yet"


def test_the_age_and_the_last_use_of_cookies_are_kept(tmp_path: Path) -> None:
    jar = filled_jar()
    jar.save(tmp_path / "jar")
    later = CookieJar(public_suffix=("com",).__contains__, clock=lambda: NOW + 5)
    later.set("keep", "0", "www.example.com")
    later.load(tmp_path / "jar")
    assert [cookie.value for cookie in later][-1] == "0"
    assert sent(later, HERE) == "keep=1; keep=0"


def test_loading_adds_and_the_file_takes_precedence(tmp_path: Path) -> None:
    filled_jar().save(tmp_path / "jar")
    jar = new_jar()
    receive(jar, HERE, "keep=0; Domain=example.com")
    receive(jar, HERE, "other=3")
    jar.load(tmp_path / "jar")
    assert {cookie.name: cookie.value for cookie in jar if cookie.name != "odd"} == {
        "keep": "1",
        "other": "3",
    }


def test_what_has_expired_or_lost_its_domain_is_left_out(tmp_path: Path) -> None:
    filled_jar().save(tmp_path / "jar")
    late = CookieJar(public_suffix=("com",).__contains__, clock=lambda: NOW + 60)
    late.load(tmp_path / "jar")
    assert list(late) == []
    jar = new_jar(suffixes=("com", "example.com"))
    jar.load(tmp_path / "jar")
    assert [cookie.name for cookie in jar] == ["odd"]


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "jar"
    path.write_text("old")
    path.chmod(0o666)
    old_mask = os.umask(0)
    try:
        filled_jar().save(path)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["jar"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    # A directory that is not empty is what no file can take the place of.
    path = tmp_path / "jar"
    (path / "inside").mkdir(parents=True)
    with pytest.raises((IsADirectoryError, PermissionError)):
        filled_jar().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["jar"]
    with pytest.raises(FileNotFoundError):
        filled_jar().save(tmp_path / "missing" / "jar")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        new_jar().load(tmp_path / "jar")


def saved(tmp_path: Path) -> dict[str, Any]:
    filled_jar().save(tmp_path / "jar")
    document: dict[str, Any] = json.loads((tmp_path / "jar").read_text("utf-8"))
    return document


WRONG = [
    ("name", "a\r\nb"),
    ("name", 5),
    ("name", "__Host-a"),
    ("value", "a;b"),
    ("value", "\ud800"),
    ("value", "x" * 5000),
    ("domain", ""),
    ("domain", "EXAMPLE.com"),
    ("domain", "10.0.0.1"),
    ("domain", "com"),
    ("domain", "a b"),
    ("domain", None),
    ("host_only", 1),
    ("path", "x"),
    ("secure", None),
    ("same_site", "lax"),
    ("expires", "1"),
    ("expires", True),
    ("expires", 10**400),
    ("created", None),
    ("created", -1e300),
    ("origin", []),
    ("origin", ["ftp", "www.example.com", 21]),
    ("origin", ["https", "www.example.com", 443]),
    ("origin", ["https", "example.com", "443"]),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_file_with_a_cookie_that_cannot_be_is_refused_whole(
    tmp_path: Path, field: str, value: Any
) -> None:
    document = saved(tmp_path)
    document["cookies"][0][field] = value
    document["cookies"].reverse()
    (tmp_path / "jar").write_text(json.dumps(document))
    jar = new_jar()
    with pytest.raises(CookieFileError, match="cookie 2"):
        jar.load(tmp_path / "jar")
    assert len(jar) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"format": "cyreactor cookies", "version": 2, "cookies": []}',
        b'{"format": "cyreactor cookies", "version": 1, "cookies": {}}',
        b'{"format": "cyreactor cookies", "version": 1, "cookies": [1]}',
        b'{"format": "cyreactor cookies", "version": 1, "cookies": [{}]}',
        b'{"format": "cyreactor cookies", "version": 1, "cookies": [NaN]}',
        b"[" * 100_000,
        b"9" * 10_000,
    ],
    ids=lambda text: text[:60],
)
def test_what_is_no_file_of_cookies_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "jar").write_bytes(text)
    with pytest.raises(CookieFileError) as caught:
        new_jar().load(tmp_path / "jar")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, HTTPError)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "jar").open("wb") as file:
        file.truncate(MAX_COOKIE_FILE_BYTES + 1)
    with pytest.raises(CookieFileError, match="larger"):
        new_jar().load(tmp_path / "jar")


def test_no_error_about_a_file_shows_a_value(tmp_path: Path) -> None:
    document = saved(tmp_path)
    document["cookies"][0]["value"] = "hunter2\n"
    (tmp_path / "jar").write_text(json.dumps(document))
    with pytest.raises(CookieFileError) as caught:
        new_jar().load(tmp_path / "jar")
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_times_of_a_file_are_brought_within_their_limits(tmp_path: Path) -> None:
    document = saved(tmp_path)
    for record in document["cookies"]:
        record["expires"] = record["created"] = record["accessed"] = 9e11
    (tmp_path / "jar").write_text(json.dumps(document))
    jar = new_jar()
    jar.load(tmp_path / "jar")
    assert {cookie.expires for cookie in jar} == {NOW + MAX_COOKIE_AGE_SECONDS}
    assert all(entry.created == entry.accessed == NOW for entry in jar._snapshot())


@pytest.mark.timeout(240)  # files are slow in some places
def test_a_damaged_file_loads_or_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "jar"
    whole = path.read_bytes()
    numbers = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(numbers.randrange(1, 4)):
            damaged[numbers.randrange(len(damaged))] = numbers.choice(b'\x00\x7f"{}[]:,;= 09aeE-.')
        path.write_bytes(damaged)
        jar = new_jar()
        try:
            jar.load(path)
        except CookieFileError:
            assert len(jar) == 0

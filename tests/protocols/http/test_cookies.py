"""The cookie jar: what a server may set, and who gets it back."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from protocols.http.cookies import Cookie, CookieJar
from protocols.http.headers import Headers
from protocols.http.limits import (
    COOKIE_HOSTS_INDEXED,
    COOKIES_KEPT,
    COOKIES_KEPT_PER_DOMAIN,
    MAX_COOKIE_AGE_SECONDS,
    MAX_COOKIE_ATTRIBUTE_BYTES,
    MAX_COOKIE_HEADER_BYTES,
    MAX_COOKIES,
    MAX_COOKIES_PER_DOMAIN,
)
from protocols.http.set_cookie import (
    domain_matches,
    installed_public_suffixes,
    path_matches,
)
from protocols.http.url import URL

START = 1_700_000_000.0
SUFFIXES = {"com", "example", "uk", "co.uk", "io", "github.io", "localhost"}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jar(clock: Clock) -> CookieJar:
    """Return a jar with a small list of public suffixes."""
    return CookieJar(public_suffix=SUFFIXES.__contains__, clock=clock)


def receive(jar: CookieJar, url: str, *fields: str) -> None:
    jar.store(URL(url), Headers([("Set-Cookie", field) for field in fields]))


def sent(jar: CookieJar, url: str) -> str | None:
    return jar.header_for(URL(url))


# The examples of RFC 6265bis section 3.1, on the host that they leave unnamed.

HERE = "https://www.example.com/"


def test_rfc6265bis_3_1_a_cookie_comes_back(jar: CookieJar) -> None:
    receive(jar, HERE, "SID=31d4d96e407aad42")
    assert sent(jar, HERE) == "SID=31d4d96e407aad42"
    assert sent(jar, "https://example.com/") is None
    assert sent(jar, "https://a.www.example.com/") is None


def test_rfc6265bis_3_1_path_and_domain_widen_it(jar: CookieJar) -> None:
    receive(jar, HERE + "deep/er", "SID=31d4d96e407aad42; Path=/; Domain=example.com")
    for url in ("https://example.com/", "http://a.b.example.com/x", HERE):
        assert sent(jar, url) == "SID=31d4d96e407aad42"
    assert sent(jar, "https://badexample.com/") is None


def test_rfc6265bis_3_1_two_cookies_and_the_end_of_one(jar: CookieJar, clock: Clock) -> None:
    receive(
        jar,
        HERE,
        "SID=31d4d96e407aad42; Path=/; Secure; HttpOnly",
        "lang=en-US; Path=/; Domain=example.com",
    )
    assert sent(jar, HERE) == "SID=31d4d96e407aad42; lang=en-US"
    assert sent(jar, "http://www.example.com/") == "lang=en-US"
    receive(jar, HERE, "lang=; Domain=example.com; Path=/; Expires=Sun, 06 Nov 1994 08:49:37 GMT")
    assert sent(jar, HERE) == "SID=31d4d96e407aad42"
    assert len(jar) == 1


# Who may set what.


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.com", "other.com"),
        ("www.example.com", "example.org"),
        ("www.example.com", "a.www.example.com"),
        ("www.example.com", "xample.com"),
        ("www.example.com", "www.example.com."),
        ("www.example.com", "example.com."),
        ("www.example.com", "b\xfccher.example"),
        ("www.example.com", "..example.com"),
        ("www.example.com.", "example.com"),
        ("www.example.com.", "www.example.com."),
        ("www.example.com.", "com."),
        ("10.0.0.1", "0.0.1"),
        ("10.0.0.1", "1"),
        ("[::1]", "1"),
    ],
)
def test_a_domain_that_is_not_the_hosts_own_is_refused(
    jar: CookieJar, host: str, domain: str
) -> None:
    receive(jar, f"http://{host}/", f"a=b; Domain={domain}")
    assert len(jar) == 0


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.com", "com"),
        ("example.com", ".COM"),
        ("www.example.co.uk", "co.uk"),
        ("www.example.co.uk", "cO.uK"),
        ("evil.github.io", "github.io"),
    ],
)
def test_no_cookie_is_for_a_public_suffix(jar: CookieJar, host: str, domain: str) -> None:
    receive(jar, f"https://{host}/", f"a=b; Domain={domain}")
    assert len(jar) == 0


@pytest.mark.parametrize("host", ["github.io", "localhost"])
def test_rfc6265bis_5_7_a_public_suffix_may_set_cookies_for_itself(
    jar: CookieJar, host: str
) -> None:
    receive(jar, f"https://{host}/", f"a=b; Domain={host}")
    assert sent(jar, f"https://{host}/") == "a=b"
    assert sent(jar, f"https://a.{host}/") is None


def test_an_address_may_name_itself(jar: CookieJar) -> None:
    receive(jar, "http://10.0.0.1/", "a=b; Domain=10.0.0.1")
    assert sent(jar, "http://10.0.0.1/") == "a=b"
    assert [cookie.host_only for cookie in jar] == [True]


def test_the_case_of_a_domain_and_of_a_host_does_not_count(jar: CookieJar) -> None:
    receive(jar, "https://WWW.Example.COM/", "a=b; Domain=eXample.com")
    assert sent(jar, "https://EXAMPLE.com/") == "a=b"
    receive(jar, "https://www.example.com/", "a=c; Domain=EXAMPLE.COM")
    assert sent(jar, "https://example.com/") == "a=c"
    assert len(jar) == 1


def test_a_host_with_a_dot_at_its_end_is_another_host(jar: CookieJar) -> None:
    receive(jar, "https://example.com./", "a=b")
    assert sent(jar, "https://example.com./") == "a=b"
    assert sent(jar, "https://example.com/") is None
    receive(jar, "https://example.com/", "c=d; Domain=example.com")
    assert sent(jar, "https://www.example.com./") is None


@pytest.fixture
def _no_list(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    installed_public_suffixes.cache_clear()
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    yield
    installed_public_suffixes.cache_clear()


@pytest.mark.usefixtures("_no_list")
def test_without_a_list_of_suffixes_no_cookie_leaves_its_host() -> None:
    jar = CookieJar()
    receive(jar, HERE, "a=b; Domain=example.com", "c=d; Domain=com", "e=f; Domain=other.com")
    assert sent(jar, HERE) == "a=b; c=d"
    for host in ("example.com", "a.example.com", "a.www.example.com", "com", "other.com"):
        assert sent(jar, f"https://{host}/") is None
    assert all(cookie.host_only for cookie in jar)


def test_with_the_package_its_list_is_used() -> None:
    pytest.importorskip("publicsuffixlist")
    jar = CookieJar()
    receive(jar, "https://www.example.co.uk/", "a=b; Domain=co.uk", "c=d; Domain=example.co.uk")
    receive(jar, "https://evil.github.io/", "e=f; Domain=github.io")
    receive(jar, "https://intranet.corp/", "g=h; Domain=corp")
    assert [cookie.name for cookie in jar] == ["c"]
    assert sent(jar, "https://example.co.uk/") == "c=d"


# Secure.


def test_a_secure_cookie_goes_over_https_only(jar: CookieJar) -> None:
    receive(jar, HERE, "a=b; Secure")
    assert sent(jar, "http://www.example.com/") is None
    assert sent(jar, "https://www.example.com:8443/") == "a=b"


def test_plain_http_cannot_set_a_secure_cookie(jar: CookieJar) -> None:
    receive(jar, "http://localhost/", "a=b; Secure", "__Secure-a=b; Secure", "__Secure-c=d")
    assert len(jar) == 0


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("http://example.com/", "sid=evil"),
        ("http://example.com/login/", "sid=evil"),
        ("http://example.com/", "sid=evil; Path=/login/en"),
        ("http://www.example.com/login/", "sid=evil; Domain=example.com"),
        ("http://www.example.com/login/", "sid=evil"),
        ("http://example.com/", "sid=; Max-Age=0; Path=/login"),
    ],
)
def test_rfc6265bis_5_7_plain_http_cannot_lay_a_cookie_over_a_secure_one(
    jar: CookieJar, url: str, field: str
) -> None:
    receive(jar, "https://example.com/", "sid=good; Secure; Domain=example.com; Path=/login")
    before = list(jar)
    receive(jar, url, field)
    covered = "Path" in field or "/login" in url
    assert list(jar)[:1] == before
    assert len(jar) == (1 if covered else 2)
    assert sent(jar, "https://example.com/login") in {"sid=good", "sid=good; sid=evil"}


def test_a_secure_cookie_that_has_expired_protects_nothing(jar: CookieJar, clock: Clock) -> None:
    receive(jar, HERE, "sid=good; Secure; Max-Age=5")
    clock.now += 5
    receive(jar, "http://www.example.com/", "sid=new")
    assert sent(jar, HERE) == "sid=new"


def test_https_may_replace_a_secure_cookie_by_one_that_is_not(jar: CookieJar) -> None:
    receive(jar, HERE, "sid=a; Secure")
    receive(jar, HERE, "sid=b")
    assert sent(jar, "http://www.example.com/") == "sid=b"
    receive(jar, "http://www.example.com/", "sid=c")
    assert sent(jar, HERE) == "sid=c"


@pytest.mark.parametrize(
    "field",
    [
        "__Host-a=b",
        "__Host-a=b; Secure",
        "__Host-a=b; Path=/",
        "__Host-a=b; Secure; Path=/x",
        "__Host-a=b; Secure; Path=/; Domain=www.example.com",
        "__Host-a=b; Secure; Path=/; Domain=example.com",
        "__HOST-a=b; Path=/",
        "__Secure-a=b",
        "__SECURE-a=b; Path=/",
        "a=b; SameSite=None",
    ],
)
def test_rfc6265bis_5_7_what_a_name_or_same_site_demands_is_enforced(
    jar: CookieJar, field: str
) -> None:
    receive(jar, HERE, field)
    assert len(jar) == 0


def test_rfc6265bis_5_7_prefixed_cookies_that_keep_to_it_are_kept(jar: CookieJar) -> None:
    receive(
        jar,
        HERE,
        "__Host-a=b; Secure; Path=/",
        "__secure-c=d; Secure; Domain=example.com",
        "e=f; SameSite=None; Secure",
    )
    assert sent(jar, HERE) == "__Host-a=b; __secure-c=d; e=f"
    assert [cookie.same_site for cookie in jar] == ["", "", "None"]


# Paths and order.


def test_rfc6265bis_5_1_4_the_default_path_is_the_directory_of_the_request(jar: CookieJar) -> None:
    receive(jar, HERE + "a/b?c=/d", "x=y")
    assert [cookie.path for cookie in jar] == ["/a"]
    assert sent(jar, HERE + "a") == sent(jar, HERE + "a/z") == "x=y"
    assert sent(jar, HERE + "ab") is None
    assert sent(jar, HERE) is None


def test_a_default_path_beyond_the_limit_has_the_cookie_ignored(jar: CookieJar) -> None:
    receive(jar, HERE + "p" * MAX_COOKIE_ATTRIBUTE_BYTES + "/", "x=y")
    assert len(jar) == 0


def test_rfc6265bis_5_8_3_longest_path_first_then_earliest(jar: CookieJar, clock: Clock) -> None:
    for field in ("a=1; Path=/", "b=2; Path=/x/y", "c=3; Path=/x", "d=4; Path=/"):
        receive(jar, HERE, field)
        clock.now += 1
    assert sent(jar, HERE + "x/y") == "b=2; c=3; a=1; d=4"
    receive(jar, HERE, "a=5; Path=/")
    assert sent(jar, HERE + "x") == "c=3; a=5; d=4"


def test_rfc6265bis_5_7_a_cookie_is_what_name_domain_path_and_host_only_say(jar: CookieJar) -> None:
    receive(jar, HERE, "a=1", "a=2; Path=/x", "a=3; Domain=www.example.com", "A=4")
    assert sent(jar, HERE + "x") == "a=2; a=1; a=3; A=4"
    receive(jar, HERE, "a=5")
    assert sent(jar, HERE + "x") == "a=2; a=5; a=3; A=4"


def test_a_cookie_without_a_name_is_its_value(jar: CookieJar) -> None:
    receive(jar, HERE, "=x", "y", "z=")
    assert sent(jar, HERE) == "y; z="


# Time.


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ("Max-Age=10", 10),
        ("Max-Age=10; Expires=Wed, 15 Nov 2023 22:13:20 GMT", 10),
        ("Expires=Tue, 14 Nov 2023 22:14:20 GMT", 60),
        (f"Max-Age={'9' * 40}", MAX_COOKIE_AGE_SECONDS),
        ("Expires=Fri, 31 Dec 9999 23:59:59 GMT", MAX_COOKIE_AGE_SECONDS),
    ],
)
def test_rfc6265bis_5_5_a_cookie_lives_as_long_as_it_says_and_400_days_at_most(
    jar: CookieJar, clock: Clock, attributes: str, seconds: int
) -> None:
    receive(jar, HERE, f"a=b; {attributes}")
    clock.now = START + seconds - 0.001
    assert sent(jar, HERE) == "a=b"
    assert len(jar) == 1
    clock.now = START + seconds
    assert len(jar) == 0
    assert "a" not in jar
    assert sent(jar, HERE) is None


@pytest.mark.parametrize(
    "attributes",
    ["Max-Age=0", "Max-Age=-5", "Max-Age=0; Expires=Fri, 31 Dec 9999 23:59:59 GMT",
     "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Expires=Sat, 01 Jan 1601 00:00:00 GMT"],
)  # fmt: skip
def test_a_cookie_that_has_expired_already_removes_its_like(
    jar: CookieJar, attributes: str
) -> None:
    receive(jar, HERE, "a=b", "c=d")
    receive(jar, HERE, f"a=; {attributes}", f"new=x; {attributes}")
    assert sent(jar, HERE) == "c=d"


def test_a_cookie_that_expired_does_not_pass_its_age_on(jar: CookieJar, clock: Clock) -> None:
    receive(jar, HERE, "a=1; Max-Age=5", "b=2")
    clock.now += 5
    receive(jar, HERE, "a=3")
    assert sent(jar, HERE) == "b=2; a=3"


# Limits.


def test_a_domain_has_a_limit_and_what_is_not_secure_goes_first(
    jar: CookieJar, clock: Clock
) -> None:
    receive(jar, HERE, "s0=x; Secure; Path=/", "s1=x; Secure; Path=/")
    for number in range(MAX_COOKIES_PER_DOMAIN - 2):
        clock.now += 1
        receive(jar, HERE, f"n{number}=x; Path=/n{number}")
    assert len(jar) == MAX_COOKIES_PER_DOMAIN
    clock.now += 1
    assert sent(jar, HERE + "n0") == "n0=x; s0=x; s1=x"
    clock.now += 1
    receive(jar, HERE, "last=x")
    names = {cookie.name for cookie in jar}
    assert len(names) == COOKIES_KEPT_PER_DOMAIN
    assert {"s0", "s1", "n0", "last"} <= names
    assert "n1" not in names


def test_what_has_expired_is_evicted_before_anything_else(jar: CookieJar, clock: Clock) -> None:
    receive(jar, HERE, *[f"e{number}=x; Max-Age=5; Secure" for number in range(40)])
    receive(jar, HERE, *[f"n{number}=x" for number in range(MAX_COOKIES_PER_DOMAIN - 40)])
    clock.now += 5
    receive(jar, HERE, "last=x")
    assert len(jar) == MAX_COOKIES_PER_DOMAIN - 40 + 1


def test_the_jar_has_a_limit_and_the_longest_unused_go_first(jar: CookieJar, clock: Clock) -> None:
    for number in range(MAX_COOKIES):
        clock.now += 1
        receive(jar, f"https://h{number}.example.com/", "a=b")
    assert len(jar) == MAX_COOKIES
    clock.now += 1
    assert sent(jar, "https://h0.example.com/") == "a=b"
    receive(jar, "https://one.more.com/", "a=b")
    assert len(jar) == COOKIES_KEPT
    assert sent(jar, "https://h0.example.com/") == "a=b"
    assert sent(jar, "https://h1.example.com/") is None
    assert sent(jar, "https://one.more.com/") == "a=b"


def test_a_header_has_a_limit_so_that_no_server_makes_others_unreachable(jar: CookieJar) -> None:
    room = MAX_COOKIE_HEADER_BYTES - len("Cookie: ")
    rest = room - 4_002 - 2 - len("b=")
    receive(jar, HERE, f"a={'x' * 4_000}; Path=/p", f"b={'y' * 2_000}; Path=/")
    receive(jar, HERE, f"c={'z' * (rest - 2_000 - 2 - 2)}; Path=/")
    header = sent(jar, HERE + "p")
    assert header is not None
    assert len(header) == room
    receive(jar, HERE, "d=; Path=/")
    assert sent(jar, HERE + "p") == header
    receive(jar, HERE, f"c={'z' * (rest - 2_000 - 2 - 1)}; Path=/")
    assert sent(jar, HERE + "p") == f"a={'x' * 4_000}; b={'y' * 2_000}"
    assert len(jar) == 4


def test_hosts_that_were_asked_for_are_remembered_within_a_limit(jar: CookieJar) -> None:
    receive(jar, HERE, "a=b")
    for number in range(COOKIE_HOSTS_INDEXED + 10):
        assert sent(jar, f"https://h{number}.example/") is None
    assert len(jar._index) + len(jar._barren) <= COOKIE_HOSTS_INDEXED
    assert sent(jar, HERE) == "a=b"


# What is true of whatever servers send.

HOSTS = [
    "example.com", "www.example.com", "a.www.example.com", "example.com.", "other.com", "co.uk",
    "x.co.uk", "y.co.uk", "10.0.0.1", "localhost",
]  # fmt: skip
PATHS = ["/", "/a", "/a/", "/a/b", "/ab"]
ATTRIBUTES = [
    "Secure", "HttpOnly", "Path=/", "Path=/a", "Path=/a/", "Path=b", "Domain=", "Max-Age=0",
    "Max-Age=3", "Max-Age=9", "SameSite=None", "SameSite=Lax", "Expires=x", "\x01", "junk",
    *[f"Domain={host}" for host in HOSTS],
]  # fmt: skip
NAMES = ["a", "b", "__Host-a", "__secure-b", ""]


def allowed(cookie: Cookie, url: URL) -> bool:
    """Whether a cookie may go to *url*, as naively as the draft puts it."""
    return (
        (url.host == cookie.domain if cookie.host_only else domain_matches(url.host, cookie.domain))
        and path_matches(url.path, cookie.path)
        and (url.scheme == "https" or not cookie.secure)
    )


@pytest.mark.parametrize("seed", range(4))
def test_what_is_sent_is_legal_and_what_a_slow_and_simple_reading_gives(seed: int) -> None:
    numbers = random.Random(seed)
    clock = Clock()
    jar = CookieJar(public_suffix=SUFFIXES.__contains__, clock=clock)
    for _ in range(3_000):
        clock.now += numbers.randrange(2)
        scheme = numbers.choice(["http", "https"])
        url = URL(f"{scheme}://{numbers.choice(HOSTS)}{numbers.choice(PATHS)}")
        if numbers.random() < 0.4:
            attributes = numbers.sample(ATTRIBUTES, numbers.randrange(5))
            pair = f"{numbers.choice(NAMES)}={numbers.randrange(100)}"
            fields = "; ".join([pair, *attributes])
            before = list(jar)
            try:
                headers = Headers([("Set-Cookie", fields)])
            except ValueError:
                assert "\x01" in fields
                continue
            jar.store(url, headers)
            if url.scheme == "http":
                assert [c for c in before if c.secure] == [c for c in jar if c.secure]
            continue
        cookies = sorted(jar, key=lambda cookie: -len(cookie.path))
        expected = "; ".join(
            f"{cookie.name}={cookie.value}" if cookie.name else cookie.value
            for cookie in cookies
            if allowed(cookie, url)
        )
        header = jar.header_for(url)
        assert header == (expected or None)
        if header is not None:
            Headers([("Cookie", header)])
        for cookie in cookies:
            assert cookie.domain not in SUFFIXES or cookie.host_only


def test_threads_may_share_a_jar(jar: CookieJar) -> None:
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def guarded(work: Callable[[int], None], number: int) -> threading.Thread:
        def run() -> None:
            try:
                start.wait()
                work(number)
            except BaseException as error:
                errors.append(error)

        return threading.Thread(target=run)

    def work(number: int) -> None:
        url = f"https://h{number}.example.com/"
        for turn in range(300):
            receive(jar, url, f"a={turn}; Secure", f"t{turn % 200}=x; Domain=example.com")
            header = sent(jar, url)
            assert header is not None
            assert f"a={turn}" in header.split("; ")
            assert len(jar) > 0
            if turn % 50 == 0:
                jar.delete("t1")

    threads = [guarded(work, number) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(jar) == jar._count


def test_clock_that_asks_its_own_jar_is_told_so() -> None:
    """As a signal handler that interrupts the jar and asks it: it would wait for itself."""
    asked = CookieJar(clock=lambda: float(len(asked)))
    with pytest.raises(RuntimeError, match="was called by what it has interrupted"):
        asked.set("a", "b")

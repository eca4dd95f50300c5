"""Cookies through the client: kept, sent back, and to nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from protocols.http import URL, AsyncClient, Client, CookieJar, Headers
from protocols.http.cookies import NoCookies
from protocols.http.limits import COOKIES_STEADY_SECONDS
from tests.peers.scripted import OK, Conversation, on_reactor, serving, serving_in_thread

Script = Callable[[Conversation], Coroutine[Any, Any, None]]


def setting(seen: list[str], *fields: str) -> Script:
    """Answer the first request with Set-Cookie fields; note the Cookie field of each."""
    lines = "".join(f"Set-Cookie: {field}\r\n" for field in fields).encode()
    first = OK.replace(b"\r\n", b"\r\n" + lines, 1)

    async def script(peer: Conversation) -> None:
        answer = first
        while (head := await peer.request()) is not None:
            found = [line for line in head.decode().split("\r\n") if line.startswith("Cookie: ")]
            seen.append("; ".join(found))
            await peer.send(answer)
            answer = OK

    return script


def moving(seen: list[str], location: str) -> Script:
    """Answer with a redirect that sets a cookie; note the Cookie field."""
    line = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nSet-Cookie: moved=1\r\n"

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            found = [line for line in head.decode().split("\r\n") if line.startswith("Cookie: ")]
            seen.append("; ".join(found))
            await peer.send(line.encode() + b"Content-Length: 0\r\n\r\n")

    return script


@on_reactor
async def test_what_a_server_sets_comes_back_to_it() -> None:
    seen: list[str] = []
    script = setting(seen, "a=1", "b=2; Path=/other")
    async with serving(script) as server, AsyncClient() as client:
        for path in ("/", "/", "/other"):
            await client.get(server.url(path))
        assert client.cookies["a"] == "1"
    assert seen == ["", "Cookie: a=1", "Cookie: b=2; a=1"]


@on_reactor
async def test_cookies_of_a_request_are_not_kept() -> None:
    seen: list[str] = []
    async with serving(setting(seen, "a=1")) as server, AsyncClient(cookies={"c": "3"}) as client:
        await client.get(server.url())
        await client.get(server.url(), cookies={"a": "other"})
        await client.get(server.url(), headers={"Cookie": "mine=1"})
        await client.get(server.url())
    assert seen[0] == "Cookie: c=3"
    assert sorted(seen[1].removeprefix("Cookie: ").split("; ")) == ["a=other", "c=3"]
    assert seen[2] == "Cookie: mine=1"
    assert sorted(seen[3].removeprefix("Cookie: ").split("; ")) == ["a=1", "c=3"]


@on_reactor
async def test_cookies_do_not_follow_a_redirect_to_another_origin() -> None:
    here: list[str] = []
    there: list[str] = []
    async with (
        serving(setting(there)) as other,
        serving(moving(here, other.url(host="localhost"))) as server,
        AsyncClient(cookies={"c": "3"}, follow_redirects=True) as client,
    ):
        await client.get(server.url(), cookies={"mine": "1"})
        await client.get(server.url(), cookies={"mine": "1"})
    assert sorted(here[0].removeprefix("Cookie: ").split("; ")) == ["c=3", "mine=1"]
    assert "moved=1" in here[1]  # the redirect's own cookie is kept
    assert there == ["", ""]


def test_blocking_clients_may_share_a_jar() -> None:
    seen: list[str] = []
    jar = CookieJar()
    with serving_in_thread(setting(seen, "a=1")) as server:
        for _ in range(2):
            with Client(cookies=jar) as client:
                client.get(server.url())
                assert client.cookies is jar
    assert seen == ["", "Cookie: a=1"]


# -- a request that is made again has its cookies already ---------------------------------------


@on_reactor
async def test_each_change_of_the_jar_shows_in_the_next_request() -> None:
    seen: list[str] = []
    async with serving(setting(seen)) as server, AsyncClient() as client:
        jar, url, host = client.cookies, server.url("/again"), "127.0.0.1"
        changes: list[Callable[[], object]] = [
            lambda: None,
            lambda: jar.set("a", "1", domain=host),
            lambda: jar.set("a", "1", domain=host),
            lambda: jar.set("a", "2", domain=host),
            lambda: jar.set("a", "2", domain=host, http_only=True),
            lambda: jar.set("b", "3", domain=host, path="/again"),
            lambda: jar.set("c", "4", domain=host, path="/other"),
            lambda: jar.set("d", "5", domain="other.example"),
            lambda: jar.set("a", "2", domain=host, secure=True),
            lambda: jar.set("a", "2", domain=host),
            lambda: jar.set("b", "", domain=host, path="/again", expires=1.0),
            jar.clear,
            lambda: jar.set("e", "6"),
        ]
        for change in changes:
            change()
            await client.get(url)
            await client.get(url)
    assert seen[::2] == seen[1::2]
    assert [each.removeprefix("Cookie: ") for each in seen[::2]] == [
        *("", "a=1", "a=1", "a=2", "a=2", "b=3; a=2", "b=3; a=2", "b=3; a=2"),
        *("b=3", "b=3; a=2", "a=2", "", "e=6"),
    ]


@on_reactor
async def test_a_cookie_of_a_request_that_is_made_again_expires() -> None:
    seen: list[str] = []
    now = [1_000.0]
    jar = CookieJar(clock=lambda: now[0])
    jar.set("a", "1", domain="127.0.0.1", expires=1_010.0)
    async with serving(setting(seen)) as server, AsyncClient(cookies=jar) as client:
        for moment in (1_000.0, 1_009.0, 1_010.0):
            now[0] = moment
            await client.get(server.url())
    assert seen == ["Cookie: a=1", "Cookie: a=1", ""]


@on_reactor
async def test_a_jar_that_chooses_in_its_own_way_is_asked_each_time() -> None:
    class Counting(CookieJar):
        count = 0

        def header_for(self, url: URL, also: CookieJar | None = None) -> str | None:
            self.count += 1
            return f"count={self.count}"

    seen: list[str] = []
    async with serving(setting(seen)) as server, AsyncClient(cookies=Counting()) as client:
        for _ in range(4):
            await client.get(server.url())
    assert seen == [f"Cookie: count={number}" for number in range(1, 5)]


def test_what_a_jar_says_holds_until_the_first_of_its_cookies_expires() -> None:
    jar = CookieJar()
    url = URL("http://127.0.0.1/")
    jar.set("a", "1", domain="127.0.0.1")
    assert jar.header_for(url) == "a=1"
    assert jar._steady_seconds(url) == pytest.approx(COOKIES_STEADY_SECONDS)
    jar.set("b", "2", domain="127.0.0.1", expires=time.time() + COOKIES_STEADY_SECONDS / 2)
    assert jar.header_for(url) == "a=1; b=2"
    assert jar._steady_seconds(url) <= COOKIES_STEADY_SECONDS / 2
    assert NoCookies()._steady_seconds(url) == COOKIES_STEADY_SECONDS


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        (("a=1", "a=1"), False),
        (("a=1", "a=1; HttpOnly"), False),
        (("a=1; Max-Age=60", "a=1; Max-Age=90"), False),
        (("a=1; Max-Age=60", "a=1; Max-Age=30"), True),
        (("a=1", "a=1; Max-Age=30"), True),
        (("a=1", "a=2"), True),
        (("a=1", "a=1; Secure"), True),
        (("a=1", "a=1; Max-Age=0"), True),
        (("a=1", "a=1; Path=/deep"), True),
    ],
)
def test_a_cookie_that_is_set_again_as_it_was_changes_nothing(
    fields: tuple[str, str], changes: bool
) -> None:
    jar = CookieJar(clock=lambda: 1_000.0)
    url = URL("https://peer.example/")
    jar.store(url, Headers([("Set-Cookie", fields[0])]))
    state = jar._state[0]
    jar.store(url, Headers([("Set-Cookie", fields[1])]))
    assert (jar._state[0] is not state) == changes

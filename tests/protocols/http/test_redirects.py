"""Redirects: where they lead, and what never goes along."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Headers,
    RedirectError,
    RedirectLoop,
    Request,
    Response,
    TooManyRedirects,
)
from protocols.http.redirects import REDIRECTS, is_redirect, redirected
from tests.peers.scripted import Conversation, answer, on_reactor, serving
from tests.protocols.http.client_checks import NOTHING, counts

SECRETS = {
    "Authorization": "Bearer t",
    "Cookie": "a=b",
    "Proxy-Authorization": "Basic eDp5",
    "Host": "named.example",
}
ABOUT_CONTENT = {
    "Content-Type": "text/plain",
    "Content-Encoding": "gzip",
    "Content-Language": "de",
    "Content-Location": "/x",
    "Content-Range": "bytes 0-3/4",
    "Content-Digest": "sha-256=:AA==:",
    "Digest": "sha-256=AA==",
    "Expect": "100-continue",
    "Last-Modified": "Thu, 26 Nov 2026 12:00:00 GMT",
    "Repr-Digest": "sha-256=:AA==:",
    "Trailer": "Digest",
}


def follow(status_code: int, location: str, request: Request) -> Request:
    return redirected(request, status_code, Headers({"Location": location}))


@pytest.mark.parametrize(
    ("status_code", "method", "becomes"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"),
        (307, "POST", "POST"), (308, "POST", "POST"),
        (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (303, "PUT", "GET"), (303, "PATCH", "GET"),
        (303, "HEAD", "HEAD"), (303, "GET", "GET"), (301, "HEAD", "HEAD"), (302, "GET", "GET"),
    ],
)  # fmt: skip
def test_rfc9110_15_4_method_and_content_after_a_redirect(
    status_code: int, method: str, becomes: str
) -> None:
    request = Request(method, "http://a.example/x", headers=ABOUT_CONTENT, content=b"body")
    following = follow(status_code, "/y", request)
    assert (following.method, str(following.url)) == (becomes, "http://a.example/y")
    if becomes == method:
        assert following.body is not None
        assert following.body.whole == b"body"
        assert following.headers == ABOUT_CONTENT
    else:
        assert (following.body, len(following.headers)) == (None, 0)


@pytest.mark.parametrize(
    "location",
    ["https://a.example/", "http://a.example:81/", "http://b.a.example/", "//b.example/x",
     "http://a.example./"],
)  # fmt: skip
@pytest.mark.parametrize("status_code", sorted(REDIRECTS))
def test_secrets_do_not_follow_to_another_origin(status_code: int, location: str) -> None:
    request = Request("GET", "http://a.example/", headers={**SECRETS, "X-Mine": "1"})
    assert follow(status_code, location, request).headers == {"X-Mine": "1"}


@pytest.mark.parametrize("location", ["/y", "y", "?q", "http://a.example/y", "//A.example:80/"])
def test_secrets_follow_within_the_origin(location: str) -> None:
    request = Request("GET", "http://a.example/", headers=SECRETS)
    assert follow(302, location, request).headers == SECRETS


def test_secrets_do_not_come_back_after_a_detour() -> None:
    request = Request("GET", "http://a.example/", headers=SECRETS)
    away = follow(302, "http://b.example/", request)
    assert len(follow(302, "http://a.example/", away).headers) == 0


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b?c", "http://u:p@a.example/b?c#top"),
        ("/b#new", "http://u:p@a.example/b#new"),
        ("../b c", "http://u:p@a.example/b%20c#top"),
        ("http://a.example/b", "http://a.example/b#top"),
        ("/\u00e9", "http://u:p@a.example/%E9#top"),
    ],
)
def test_location_is_relative_to_the_request(location: str, url: str) -> None:
    request = Request("GET", "http://u:p@a.example/x/y#top")
    assert str(follow(302, location, request).url) == url


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://a.example/", "javascript:alert(1)", "http://", "http:///x",
     "http://a.example:99999/", "http://a b/", "gopher://a.example:6379/_x"],
)  # fmt: skip
def test_location_that_leads_nowhere_raises(location: str) -> None:
    with pytest.raises(RedirectError, match="nobody can go"):
        follow(302, location, Request("GET", "http://a.example/"))


def test_two_locations_raise_and_twice_the_same_do_not() -> None:
    request = Request("GET", "http://a.example/")
    with pytest.raises(RedirectError, match="two Locations"):
        redirected(request, 302, Headers([("Location", "/a"), ("Location", "/b")]))
    twice = Headers([("Location", "/a"), ("Location", "/a")])
    assert redirected(request, 302, twice).url.path == "/a"


def test_content_that_can_be_read_only_once_is_not_redirected_once_it_was() -> None:
    request = Request("POST", "http://a.example/", content=iter([b"once"]))
    assert request.body is not None
    assert follow(307, "/b", request).body is request.body
    assert list(request.body) == [b"once"]
    with pytest.raises(RedirectError, match="only once"):
        follow(307, "/b", request)
    assert follow(303, "/b", request).body is None


@pytest.mark.parametrize("status_code", [200, 300, 304, 305, 306, 309, 400])
def test_other_statuses_are_no_redirects(status_code: int) -> None:
    assert not is_redirect(status_code, Headers({"Location": "/"}))
    assert not is_redirect(302, Headers({}))


# -- through the client ---------------------------------------------------------------------------


def site(pages: dict[bytes, bytes], seen: list[bytes]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Answer each path with its page; note the heads."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            if b"Content-Length: " in head:
                size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                seen.append(await peer.reader.readexactly(size))
            await peer.send(pages[head.split()[1]])

    return script


def to(location: str, status: str = "302 Found", body: bytes = b"moved") -> bytes:
    """Return a redirect."""
    line = f"HTTP/1.1 {status}\r\nLocation: {location}\r\n"
    return line.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("streamed", [False, True])
@on_reactor
async def test_client_follows_when_told_and_keeps_the_connection(streamed: bool) -> None:
    seen: list[bytes] = []
    pages = {b"/a": to("/b", body=bytes(1000)), b"/b": to("/c"), b"/c": answer(b"here")}
    async with serving(site(pages, seen)) as server, AsyncClient() as client:
        if streamed:
            async with client.stream("GET", server.url("/a"), follow_redirects=True) as response:
                assert await response.aread() == b"here"
        else:
            response = await client.get(server.url("/a"), follow_redirects=True)
        assert (response.status_code, response.content) == (200, b"here")
        assert [each.status_code for each in response.history] == [302, 302]
        assert [str(each.url) for each in response.history] == [
            server.url("/a"),
            server.url("/b"),
        ]
        assert (response.request.url.path, response.url.path) == ("/c", "/c")
        assert server.connections == 1
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_client_does_not_follow_unless_told() -> None:
    async with serving(site({b"/": to("/b")}, [])) as server, AsyncClient() as client:
        response = await client.get(server.url())
        assert (response.status_code, response.content, response.history) == (302, b"moved", [])


@on_reactor
async def test_content_is_sent_again_where_the_method_stays() -> None:
    seen: list[bytes] = []
    pages = {b"/a": to("/b", "307 Temporary Redirect"), b"/b": answer(b"done")}
    async with (
        serving(site(pages, seen)) as server,
        AsyncClient(follow_redirects=True) as client,
    ):
        response = await client.post(server.url("/a"), content=b"data")
        assert response.content == b"done"
        assert [seen[1], seen[3]] == [b"data", b"data"]
        assert seen[2].startswith(b"POST /b ")


@on_reactor
async def test_chain_ends_with_the_limit_and_leaves_nothing() -> None:
    seen: list[bytes] = []
    pages = {f"/{at}".encode(): to(f"/{at + 1}") for at in range(9)}
    async with (
        serving(site(pages, seen)) as server,
        AsyncClient(follow_redirects=True, max_redirects=3) as client,
    ):
        with pytest.raises(TooManyRedirects, match="3 redirects were followed") as caught:
            await client.get(server.url("/0"))
        assert len(seen) == 4
        assert caught.value.response.status_code == 302  # type: ignore[attr-defined]
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_loop_is_told_from_a_chain_and_leaves_nothing() -> None:
    seen: list[bytes] = []
    pages = {b"/a": to("/b"), b"/b": to("/c"), b"/c": to("/a")}
    async with (
        serving(site(pages, seen)) as server,
        AsyncClient(follow_redirects=True) as client,
    ):
        with pytest.raises(RedirectLoop, match="redirected already") as caught:
            await client.get(server.url("/a"))
        assert len(seen) == 3
        assert isinstance(caught.value.response, Response)
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_redirect_to_itself_with_another_cookie_is_no_loop() -> None:
    seen: list[bytes] = []
    asked = to("/").replace(b"Location", b"Set-Cookie: seen=1\r\nLocation")

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            await peer.send(answer(b"welcome") if b"seen=1" in head else asked)

    async with serving(script) as server, AsyncClient(follow_redirects=True) as client:
        assert (await client.get(server.url())).content == b"welcome"
        assert len(seen) == 2


@pytest.mark.parametrize("is_coroutine", [False, True])
@on_reactor
async def test_on_redirect_may_refuse(is_coroutine: bool) -> None:
    asked: list[tuple[int, str]] = []

    def decide(response: Response, request: Request) -> bool:
        asked.append((response.status_code, str(request.url)))
        return request.url.path != "/c"

    async def decide_later(response: Response, request: Request) -> bool:
        return decide(response, request)

    pages = {b"/a": to("/b"), b"/b": to("/c"), b"/c": answer(b"here")}
    async with serving(site(pages, [])) as server:
        options: dict[str, Any] = {"on_redirect": decide_later if is_coroutine else decide}
        async with AsyncClient(follow_redirects=True, **options) as client:
            response = await client.get(server.url("/a"))
            assert (response.status_code, response.url.path) == (302, "/b")
            assert asked == [(302, server.url("/b")), (302, server.url("/c"))]
            allowed = await client.get(server.url("/a"), on_redirect=None)
            assert allowed.content == b"here"
            with pytest.raises(ZeroDivisionError):
                await client.get(server.url("/a"), on_redirect=lambda *_: 1 / 0)
            assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_client_sends_no_secret_to_another_origin() -> None:
    here: list[bytes] = []
    there: list[bytes] = []
    async with (
        serving(site({b"/": answer(b"there")}, there)) as other,
        serving(site({b"/": to(other.url())}, here)) as server,
        AsyncClient(headers={"Authorization": "Bearer t"}, follow_redirects=True) as client,
    ):
        url = server.url().replace("//", "//me:secret@")
        assert (await client.get(url, headers={"Cookie": "a=b"})).content == b"there"
    assert b"Authorization: Bearer t" in here[0]
    assert b"Cookie: a=b" in here[0]
    assert b"uthorization" not in there[0]
    assert b"ookie" not in there[0]


@on_reactor
async def test_long_body_of_a_redirect_costs_the_connection_and_no_memory() -> None:
    pages = {b"/a": to("/b", body=bytes(1 << 20)), b"/b": answer(b"here")}
    async with serving(site(pages, [])) as server, AsyncClient(follow_redirects=True) as client:
        async with client.stream("GET", server.url("/a")) as response:
            assert await response.aread() == b"here"
        assert client.manager.stats()["opened"] == 2


@on_reactor
async def test_body_of_a_redirect_that_is_followed_is_not_decoded() -> None:
    odd = to("/b").replace(b"Location", b"Content-Encoding: gzip\r\nLocation")
    pages = {b"/a": odd, b"/b": answer(b"here")}
    async with serving(site(pages, [])) as server, AsyncClient(follow_redirects=True) as client:
        assert (await client.get(server.url("/a"))).content == b"here"

"""Cookies through the client: kept, sent back, and to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from protocols.http import AsyncClient, Client, CookieJar
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

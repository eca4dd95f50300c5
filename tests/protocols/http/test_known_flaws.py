"""Flaws that other clients had and that no other test here is about; see docs/security.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.http import (
    URL,
    AsyncClient,
    CookieJar,
    Headers,
    PasswordQuestion,
    ProxyError,
    ResponseLimitError,
)
from protocols.http.limits import DEFAULT_LIMITS
from protocols.http.testing import MockTransport, ReceivedRequest, Reply
from reactor import TLSCertificateError, client_context
from tests.peers.scripted import Authority, Conversation, answer, on_reactor, serving
from tests.peers.scripts import always_ok
from tests.protocols.http.client_checks import NOTHING, counts

pytestmark = pytest.mark.usefixtures("nothing_is_told")


@on_reactor
async def test_user_information_leaves_as_credentials_alone() -> None:
    """curl CVE-2021-22876."""

    def answer(request: ReceivedRequest) -> Reply:
        if request.url.path == "/":
            return Reply(302, headers={"Location": "http://other.example/end"})
        return Reply()

    mock = MockTransport(answer)
    async with AsyncClient(transport=mock, follow_redirects=True) as client:
        await client.get("http://ann:secret@a.example/")
    first, second = mock.requests
    assert first.headers["Authorization"] == "Basic YW5uOnNlY3JldA=="
    assert first.headers["Host"] == "a.example"
    assert set(second.headers) == {"host", "accept", "accept-encoding"}
    for request in mock.requests:
        assert "referer" not in request.headers
        assert "secret" not in str(request.headers.multi_items())


@on_reactor
async def test_cookies_are_chosen_by_the_url_and_not_by_the_host_field() -> None:
    """curl CVE-2026-6276."""
    mock = MockTransport(lambda request: Reply(headers={"Set-Cookie": "mine=1"}))
    async with AsyncClient(transport=mock) as client:
        await client.get("http://a.example/", headers={"Host": "b.example"})
        await client.get("http://b.example/")
        await client.get("http://a.example/")
        await client.get("http://b.example/", headers={"Host": "a.example"})
    assert [request.headers.get("Cookie") for request in mock.requests] == [
        None, None, "mine=1", "mine=1",
    ]  # fmt: skip


@on_reactor
async def test_two_users_share_a_connection_and_no_credentials() -> None:
    """curl CVE-2026-1965, CVE-2026-5545."""
    mock = MockTransport(lambda request: Reply())
    async with AsyncClient(transport=mock) as client:
        await client.get("http://a:1@a.example/")
        await client.get("http://b:2@a.example/")
        await client.get("http://a.example/")
    assert [request.headers.get("Authorization") for request in mock.requests] == [
        "Basic YTox", "Basic Yjoy", None,
    ]  # fmt: skip
    assert mock.opened == 1


@on_reactor
async def test_nothing_of_a_request_is_in_the_next() -> None:
    """curl CVE-2022-32221, CVE-2023-28322."""
    mock = MockTransport(lambda request: Reply())
    async with AsyncClient(transport=mock) as client:
        await client.put("http://a.example/", content=b"put", headers={"X-Put": "1"})
        await client.post("http://a.example/", data={"a": "b"})
        await client.post("http://a.example/")
        await client.get("http://a.example/")
    assert [request.content for request in mock.requests] == [b"put", b"a=b", b"", b""]
    assert [request.headers.get("X-Put") for request in mock.requests] == ["1", None, None, None]
    assert [request.headers.get("Content-Type") for request in mock.requests[2:]] == [None, None]


@on_reactor
async def test_informational_responses_without_end_are_an_error() -> None:
    """CPython CVE-2021-3737."""

    async def script(peer: Conversation) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 8)

    async with serving(script) as server, AsyncClient() as client:
        with pytest.raises(ResponseLimitError, match=str(DEFAULT_LIMITS.max_informational)):
            await client.get(server.url())
        assert counts(client) == NOTHING


@on_reactor
async def test_the_password_of_one_proxy_goes_to_no_other() -> None:
    """curl CVE-2026-6253."""
    heads: list[bytes] = []

    async def first(peer: Conversation) -> None:
        heads.append(await peer.request() or b"")
        await peer.send(answer(b"", "Location: https://b.example/", status="302 Found"))
        await peer.until_closed()

    async def second(peer: Conversation) -> None:
        heads.append(await peer.request() or b"")
        await peer.send(answer(b"", status="403 No"))

    async with serving(first) as one, serving(second) as two:
        proxies = {"http": one.url().replace("//", "//ann:secret@"), "https": two.url()}
        async with AsyncClient(proxy=proxies, follow_redirects=True) as client:
            with pytest.raises(ProxyError, match="403"):
                await client.get("http://a.example/")
    assert b"\r\nProxy-Authorization: Basic " in heads[0]
    assert heads[1].startswith(b"CONNECT b.example:443 ")
    assert b"uthorization" not in heads[1]


@on_reactor
async def test_proxy_that_plays_the_origin_gets_no_password() -> None:
    """curl CVE-2026-86414: CONNECT is answered with 401."""
    heads: list[bytes] = []
    asked: list[PasswordQuestion] = []

    async def proxy(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            refusal = answer(b"", 'WWW-Authenticate: Basic realm="x"', status="401 No")
            await peer.send(refusal)

    async with serving(proxy) as server:
        options = {"auth": ("ann", "secret"), "on_password": asked.append}
        async with AsyncClient(proxy=server.url(), **options) as client:  # type: ignore[arg-type]
            with pytest.raises(ProxyError, match="401"):
                await client.get("https://a.example/")
    assert [b"uthorization" in head for head in heads] == [False]
    assert asked == []


@on_reactor
async def test_proxy_is_verified_though_the_origin_is_not(authority: Authority) -> None:
    """urllib3 CVE-2026-97687: the TLS settings of the origin were those of its proxy."""
    async with serving(always_ok, tls=authority.server()) as server:
        unverified = client_context(verify=False)
        async with AsyncClient(tls=unverified, trust_env=False) as client:
            assert (await client.get(server.url())).status_code == 200
        async with AsyncClient(tls=unverified, proxy=server.url()) as client:
            for url in ("http://a.example/", "https://a.example/"):
                with pytest.raises(TLSCertificateError):
                    await client.get(url)


def test_cookie_for_one_host_is_for_one_host_when_it_was_saved(tmp_path: Path) -> None:
    """aiohttp CVE-2026-54279."""
    jar, loaded = CookieJar(), CookieJar()
    fields = Headers(
        [("Set-Cookie", "a=1; Max-Age=60"), ("Set-Cookie", "b=1; Max-Age=60; Path=/c")]
    )
    jar.store(URL("https://a.example/"), fields)
    jar.save(tmp_path / "cookies")
    loaded.load(tmp_path / "cookies")
    assert loaded.header_for(URL("https://a.example/")) == "a=1"
    assert loaded.header_for(URL("https://b.a.example/")) is None

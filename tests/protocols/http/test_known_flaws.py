"""Flaws that other clients had and that no other test here is about; see docs/security.md."""

from __future__ import annotations

import pytest

from protocols.http import AsyncClient, ResponseLimitError
from protocols.http.limits import DEFAULT_LIMITS
from protocols.http.testing import MockTransport, ReceivedRequest, Reply
from tests.peers.scripted import Conversation, on_reactor, serving
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

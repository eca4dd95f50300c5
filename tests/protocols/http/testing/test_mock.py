"""MockTransport: what a handler sees, what the client's caller gets."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Client,
    InvalidHeader,
    RedirectError,
    RemoteProtocolError,
    ResponseLimitError,
)
from protocols.http.limits import STREAM_HIGH_WATER_BYTES
from protocols.http.testing import Answer, MockTransport, ReceivedRequest, Reply
from reactor import ConnectRefusedError, EndpointTimeoutError
from reactor.testing import simulated_loop
from tests.peers.scripted import on_reactor
from tests.protocols.http.client_checks import NOTHING, counts, passes

pytestmark = pytest.mark.usefixtures("nothing_is_told")

URL = "https://example.org"


def told(request: ReceivedRequest) -> Reply:
    return Reply(
        json={
            "method": request.method,
            "url": str(request.url),
            "fields": request.headers.multi_items(),
            "content": request.content.decode(),
        }
    )


# -- what the handler sees ------------------------------------------------------------------


@on_reactor
async def test_handler_sees_the_request_as_it_was_sent() -> None:
    mock = MockTransport(told)
    async with AsyncClient(transport=mock, base_url=URL) as client:
        response = await client.post("/a", params={"q": "1"}, json={"x": 1}, headers={"X-A": "b"})
        got = response.json()
        assert (got["method"], got["url"]) == ("POST", f"{URL}/a?q=1")
        assert got["content"] == '{"x":1}'
        assert ["x-a", "b"] in got["fields"]
        assert ["host", "example.org"] in got["fields"]
        assert mock.requests[0].json() == {"x": 1}
        await client.post("/b", data={"a": "1", "b": ""})
        assert mock.requests[1].form() == [("a", "1"), ("b", "")]
        await client.get("/c")
        assert mock.requests[2].content == b""
        assert mock.opened == 1
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_content_that_is_streamed_arrives_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(0)
            yield b"%d" % number

    async with AsyncClient(transport=MockTransport(told)) as client:
        got = (await client.put(URL, content=pieces())).json()
        assert got["content"] == "012"
        got = (await client.put(URL, content=b"abc", headers={"Expect": "100-continue"})).json()
        assert got["content"] == "abc"
        response = await client.put(URL, content=pieces(), headers={"Expect": "100-continue"})
        assert response.json()["content"] == "012"
        assert [status for status, _ in response.informational_responses] == [100]


def test_blocking_client_is_answered_in_its_own_thread() -> None:
    async def later(request: ReceivedRequest) -> Reply:
        await asyncio.sleep(0)
        return told(request)

    with Client(transport=MockTransport(later)) as client:
        assert client.get("http://example.org:81/x").json()["url"] == "http://example.org:81/x"
        with client.stream("GET", URL) as response:
            assert b"".join(response.iter_bytes())


# -- what comes back ------------------------------------------------------------------------


@on_reactor
async def test_replies_of_all_kinds_come_back() -> None:
    replies: dict[str, Answer] = {
        "/bytes": Reply(201, b"it"),
        "/text": Reply(content="é"),
        "/none": Reply(204),
        "/odd": Reply(299, reason="Odd"),
        "/list": Reply(content=[b"a", b"", b"b"]),
        "/gzip": Reply(content=gzip.compress(b"it"), headers={"Content-Encoding": "gzip"}),
        "/raw": b"HTTP/1.0 200 Old\r\n\r\nto the end",
    }
    async with AsyncClient(
        transport=MockTransport(lambda request: replies[request.url.path]), base_url=URL
    ) as client:
        got = {path: await client.get(path) for path in replies}
        assert {path: response.content for path, response in got.items()} == {
            "/bytes": b"it",
            "/text": "é".encode(),
            "/none": b"",
            "/odd": b"",
            "/list": b"ab",
            "/gzip": b"it",
            "/raw": b"to the end",
        }
        assert got["/bytes"].reason_phrase == "Created"
        assert got["/text"].text == "é"
        assert (got["/odd"].status_code, got["/odd"].reason_phrase) == (299, "Odd")
        head = await client.head("/bytes")
        assert (head.headers["content-length"], head.content) == ("2", b"")


def test_reply_that_cannot_be_sent_is_refused() -> None:
    for status in (100, 199, 1000):
        with pytest.raises(ValueError, match="status"):
            Reply(status)
    with pytest.raises(TypeError, match="exclude"):
        Reply(content=b"a", json=1)
    with pytest.raises(TypeError, match="int"):
        Reply(content=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidHeader, match="Content-Length"):
        Reply(headers={"Content-Length": "3"})
    with pytest.raises(InvalidHeader):
        Reply(headers={"X": "a\r\nb"})
    with pytest.raises(ValueError, match="phrase"):
        Reply(reason="a\r\n")


@on_reactor
async def test_client_above_is_the_real_one() -> None:
    """Redirects, cookies, codings and limits are not mocked."""

    def site(request: ReceivedRequest) -> Answer:
        if request.url.path == "/loop":
            return Reply(302, headers={"Location": "/loop"})
        if request.url.path == "/login":
            return Reply(303, headers={"Location": "/", "Set-Cookie": "a=1"})
        if request.url.path == "/wrong":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
        return Reply(content=request.headers.get("Cookie", "none"))

    async with AsyncClient(
        transport=MockTransport(site), base_url=URL, follow_redirects=True, max_body_bytes=10
    ) as client:
        response = await client.post("/login")
        assert response.text == "a=1"
        assert [each.status_code for each in response.history] == [303]
        with pytest.raises(RedirectError):
            await client.get("/loop")
        with pytest.raises(RemoteProtocolError):
            await client.get("/wrong")
        with pytest.raises(ResponseLimitError):
            await client.get("/", headers={"Cookie": "x" * 11})


@on_reactor
async def test_stream_waits_for_its_reader() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1 << 24:
            sent += 1 << 16
            yield bytes(1 << 16)

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(content=pieces() if request.url.path == "/long" else b"")

    async with AsyncClient(transport=MockTransport(answer), base_url=URL) as client:
        async with client.stream("GET", "/long") as response:
            await passes(50)
            assert sent <= STREAM_HIGH_WATER_BYTES + (2 << 16)
            got = sum([len(piece) async for piece in response.aiter_bytes()])
        assert got == sent == 1 << 24
        sent = 0
        async with client.stream("GET", "/long") as response:
            await passes(2)
        assert counts(client) == NOTHING
        await client.get("/")


# -- failures -------------------------------------------------------------------------------


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        Mine("x"),
        AssertionError("x"),
        ConnectRefusedError("x", host="h", port=1, phase="connect"),
    ],
    ids=lambda error: type(error).__name__,
)
@on_reactor
async def test_what_the_handler_raises_the_caller_gets(error: Exception) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"some"
        raise error

    def answer(request: ReceivedRequest) -> Reply:
        if request.url.path == "/stream":
            return Reply(content=stream())
        raise error

    async with AsyncClient(transport=MockTransport(answer), base_url=URL) as client:
        with pytest.raises(type(error)) as caught:
            await client.get("/")
        assert caught.value is error
        with pytest.raises(type(error)):
            await client.get("/stream")
        assert counts(client) == NOTHING


@on_reactor
async def test_handler_that_returns_something_else_is_told() -> None:
    wrong: Any = MockTransport(lambda request: 200)  # type: ignore[arg-type, return-value]
    async with AsyncClient(transport=wrong) as client:
        with pytest.raises(TypeError, match="Reply or bytes"):
            await client.get(URL)


def test_deadline_ends_the_handler_too() -> None:
    ended = asyncio.Event()

    async def never(request: ReceivedRequest) -> Reply:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return Reply()

    async def main() -> None:
        async with AsyncClient(transport=MockTransport(never)) as client:
            with pytest.raises(EndpointTimeoutError):
                await client.get(URL, timeout=5)
            await ended.wait()

    loop = simulated_loop()  # time passes when nothing else can happen: the handler is at work
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


# -- the example of the package's documentation ----------------------------------------------


@pytest.fixture
def fetched() -> Iterator[Any]:
    def answer(request: ReceivedRequest) -> Reply:
        assert request.method == "GET"
        return Reply(200, json={"path": request.url.path})

    with Client(transport=MockTransport(answer)) as client:
        yield client.get("https://example.org/a").json()


def test_example_of_the_documentation(fetched: Any) -> None:
    assert fetched == {"path": "/a"}

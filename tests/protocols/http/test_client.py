"""AsyncClient against scripted servers: what it sends, what it returns, what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from protocols.http import (
    URL,
    AsyncClient,
    InvalidHeader,
    InvalidURL,
    Response,
    ResponseLimitError,
    ResponseLimits,
)
from tests.peers.scripted import OK, Conversation, answer, on_reactor, refusing_port, serving
from tests.peers.scripts import says, says_and_closes
from tests.protocols.http.client_checks import NOTHING, counts, passes

pytestmark = pytest.mark.usefixtures("nothing_is_told")


# -- responses ----------------------------------------------------------------------------

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 5\r\n\r\n"
)
# answer, status, body, whether the connection is kept
RESPONSES = {
    "content-length": (answer(b"hello"), 200, b"hello", True),
    "empty": (answer(b""), 200, b"", True),
    "chunked": (CHUNKED, 200, b"okabc", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, b"", True),
    "1xx first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        200, b"ok", True,
    ),
    "connection close": (answer(b"bye", "Connection: close"), 200, b"bye", False),
    "http/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", 200, b"old", False),
    "http/1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nold",
        200, b"old", True,
    ),
    "error status": (answer(b"gone", status="404 Not Found"), 404, b"gone", True),
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
@on_reactor
async def test_get_returns_the_response_and_keeps_what_may_be_kept(name: str) -> None:
    data, status, body, kept = RESPONSES[name]
    async with serving(says(data)) as server, AsyncClient() as client:
        response = await client.get(server.url("/x"))
        assert (response.status_code, response.content) == (status, body)
        assert counts(client) == {**NOTHING, "idle": int(kept)}


@pytest.mark.parametrize("name", RESPONSES)
@on_reactor
async def test_response_split_at_every_byte_is_the_same(name: str) -> None:
    data, status, body, kept = RESPONSES[name]

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send_slowly(data)
        await peer.until_closed()

    async with serving(script) as server, AsyncClient() as client:
        response = await client.get(server.url())
        assert (response.status_code, response.content) == (status, body)
        assert counts(client) == {**NOTHING, "idle": int(kept)}


@on_reactor
async def test_every_split_in_two_is_the_same() -> None:
    splits = iter(range(1, len(CHUNKED)))

    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            at = next(splits)
            await peer.send(CHUNKED[:at])
            await passes(3)
            await peer.send(CHUNKED[at:])

    async with serving(script) as server, AsyncClient() as client:
        for _ in range(1, len(CHUNKED)):
            response = await client.get(server.url())
            assert response.content == b"okabc"
            assert response.trailers is not None
            assert response.trailers["x-sum"] == "5"
        assert client.manager.stats()["opened"] == 1


@on_reactor
async def test_body_without_length_is_read_to_the_close() -> None:
    async with (
        serving(says_and_closes(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as server,
        AsyncClient() as client,
    ):
        assert (await client.get(server.url())).content == b"all of it"
        assert counts(client) == NOTHING


@on_reactor
async def test_head_has_no_body_whatever_its_length_says() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with serving(says(head, OK)) as server, AsyncClient() as client:
        response = await client.head(server.url())
        assert (response.content, response.headers["content-length"]) == (b"", "1000")
        assert (await client.get(server.url())).content == b"ok"
        assert client.manager.stats()["opened"] == 1


@on_reactor
async def test_many_requests_at_once_get_each_its_own_body() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            await peer.send(answer(head.split(b" ")[1]))

    async with serving(script) as server, AsyncClient(max_per_host=7) as client:
        urls = [server.url(f"/{number}") for number in range(200)]
        responses = await asyncio.gather(*map(client.get, urls))
        assert [r.content for r in responses] == [b"/%d" % n for n in range(200)]
        assert server.connections <= 7


# -- requests -----------------------------------------------------------------------------


@on_reactor
async def test_request_says_what_it_was_told_to_say() -> None:
    heads: list[bytes | None] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            await peer.send(OK)

    async with serving(script) as server, AsyncClient(headers={"X-All": "1"}) as client:
        await client.get(server.url("/a?b=c"))
        await client.get(server.url("/a?b=c"), headers={"X-Mine": "2", "x-all": "3"})
        await client.get(URL(server.url("/a?b=c")))
    host = b"127.0.0.1:%d" % server.port
    for head in heads:
        assert head is not None
        assert head.startswith(b"GET /a?b=c HTTP/1.1\r\n")
        assert b"\r\nHost: " + host + b"\r\n" in head
    assert heads[0] == heads[2]
    assert b"X-All: 1" in (heads[0] or b"")
    assert b"X-Mine: 2" in (heads[1] or b"")
    assert b"X-All: 1" not in (heads[1] or b"")


@on_reactor
async def test_prepared_requests_are_bounded() -> None:
    from protocols.http.limits import KEPT_URL_LENGTH, PREPARED_REQUESTS

    async with AsyncClient() as client:
        for number in range(PREPARED_REQUESTS + 10):
            client._plan("GET", f"http://127.0.0.1/{number}")
        numbers = (0, 9, 10, PREPARED_REQUESTS + 9)
        kept = [client._recall("GET", f"http://127.0.0.1/{number}") for number in numbers]
        assert [each is not None for each in kept] == [False, False, True, True]
        for part in ("{}@127.0.0.1/", "127.0.0.1/{}", "127.0.0.1/?{}", "127.0.0.1/#{}"):
            long = f"http://{part.format('a' * KEPT_URL_LENGTH)}"
            client._plan("GET", long)
            assert client._recall("GET", long) is None
    assert client._recall("GET", f"http://127.0.0.1/{numbers[-1]}") is None  # closed


@pytest.mark.parametrize(
    ("userinfo", "field"),
    [
        ("me:secret", b"Authorization: Basic bWU6c2VjcmV0"),
        ("me", b"Authorization: Basic bWU6"),
        ("u%40d:p%3Aw", b"Authorization: Basic dUBkOnA6dw=="),
    ],
)
@on_reactor
async def test_rfc7617_2_userinfo_of_a_url_becomes_basic_credentials_and_goes_nowhere_else(
    userinfo: str, field: bytes
) -> None:
    heads: list[bytes | None] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            await peer.send(OK)

    async with serving(script) as server, AsyncClient() as client:
        response: Response = await client.get(f"http://{userinfo}@127.0.0.1:{server.port}/")
        assert response.status_code == 200
        mine = {"authorization": "Bearer token"}
        await client.get(f"http://{userinfo}@127.0.0.1:{server.port}/", headers=mine)
    first, second = heads
    assert first is not None
    assert second is not None
    assert field in first.split(b"\r\n")
    assert userinfo.encode() not in first
    assert b"Bearer token" in second
    assert b"Basic" not in second


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
@on_reactor
async def test_request_without_a_body_may_not_announce_one(name: str) -> None:
    value = "3" if name == "Content-Length" else "chunked"
    async with AsyncClient() as client:
        with pytest.raises(InvalidHeader, match="follows from"):
            await client.get("http://127.0.0.1:1/", headers={name: value})


# -- limits -------------------------------------------------------------------------------


@on_reactor
async def test_head_above_the_limit_is_refused() -> None:
    huge = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 70_000 + b"\r\n\r\n"
    async with serving(says(huge)) as server, AsyncClient() as client:
        with pytest.raises(ResponseLimitError) as caught:
            await client.get(server.url())
        assert caught.value.__cause__ is not None
        assert counts(client) == NOTHING


@on_reactor
async def test_clients_own_limits_hold() -> None:
    async with (
        serving(says(answer(b"", "A: 1", "B: 2"))) as server,
        AsyncClient(limits=ResponseLimits(max_headers=2)) as client,
    ):
        with pytest.raises(ResponseLimitError):
            await client.get(server.url())


@pytest.mark.parametrize("size", [9, 10, 11])
@on_reactor
async def test_collected_body_may_have_the_limit_and_no_byte_more(size: int) -> None:
    async with serving(says(answer(b"x" * size))) as server, AsyncClient(max_body_bytes=10) as c:
        if size <= 10:
            assert len((await c.get(server.url())).content) == size
        else:
            with pytest.raises(ResponseLimitError, match="10 bytes"):
                await c.get(server.url())
            assert counts(c) == NOTHING


# -- bad arguments ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/", "http://", "http:///x", "http://a b/", "http://a:0/", "http://a:99999/",
     "http://a/\r\nX: y", "http://a\0b/", "//a/", "http://[::1/"],
)  # fmt: skip
@on_reactor
async def test_bad_url_raises_at_once(url: str) -> None:
    async with AsyncClient() as client:
        with pytest.raises(InvalidURL):
            await client.get(url)
        assert client.manager.stats()["opened"] == 0


@pytest.mark.parametrize("url", [None, 5, [], object()])
@on_reactor
async def test_url_of_a_wrong_type_raises_at_once(url: Any) -> None:
    async with AsyncClient() as client:
        with pytest.raises(TypeError, match=r"a URL is str or bytes, not|unhashable type"):
            await client.get(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\rb"), ("X", "a\0b"), ("X\r\nY", "a"),
     ("", "a"), ("X Y", "a"), ("X:", "a"), ("X\0", "a"), ("é", "a"), ("X", "\u20ac")],
)  # fmt: skip
@on_reactor
async def test_header_that_may_not_be_sent_raises_at_once(name: str, value: str) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}/"
        async with AsyncClient() as client:
            with pytest.raises(InvalidHeader):
                await client.get(url, headers={name: value})
        with pytest.raises(InvalidHeader):
            async with AsyncClient(headers=[(name, value)]) as client:
                await client.get(url)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, float("nan"), float("-inf")])
@on_reactor
async def test_timeout_that_is_none_raises_at_once(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        AsyncClient(timeout=timeout)
    async with AsyncClient() as client:
        with pytest.raises(ValueError, match="timeout"):
            await client.get("http://127.0.0.1:1/", timeout=timeout)


@pytest.mark.parametrize(
    "options",
    [{"max_connections": 0}, {"max_per_host": 0}, {"idle_seconds": -1}, {"max_body_bytes": -1},
     {"idle_seconds": float("nan")}],
)  # fmt: skip
def test_bad_option_raises_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|at least"):
        AsyncClient(**options)


def test_tls_that_is_no_context_raises_at_once() -> None:
    with pytest.raises(TypeError, match="SSLContext"):
        AsyncClient(tls=True)  # type: ignore[arg-type]


def test_stock_event_loop_is_refused() -> None:
    async def main() -> None:
        async with AsyncClient() as client:
            with pytest.raises(RuntimeError, match="reactor event loop"):
                await client.get("http://127.0.0.1:1/")

    asyncio.run(main())

"""Progress: what call-backs are told while content goes out and comes in."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocols.http import AsyncClient, Client, Headers, Progress
from tests.peers.scripted import OK, Conversation, answer, on_reactor, serving, serving_in_thread
from tests.peers.scripts import always_ok, says
from tests.protocols.http.client_checks import NOTHING, counts

pytestmark = pytest.mark.usefixtures("nothing_is_told")

BODY = bytes(range(256)) * 1024


async def takes_all(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        if b"chunked" in head:
            while (size := int(await peer.reader.readline(), 16)) > 0:
                await peer.reader.readexactly(size + 2)
            await peer.reader.readline()
        else:
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            await peer.reader.readexactly(length)
        await peer.send(OK)


@pytest.mark.parametrize("stream", [False, True])
@on_reactor
async def test_on_receive_is_told_of_each_piece(stream: bool) -> None:
    told: list[Progress] = []
    async with serving(says(answer(BODY))) as server, AsyncClient() as client:
        if stream:
            request = client.stream("GET", server.url(), on_receive=told.append)
            async with request as response:
                assert await response.aread() == BODY
        else:
            assert (await client.get(server.url(), on_receive=told.append)).content == BODY
        assert counts(client) == {**NOTHING, "idle": 1}
    assert b"".join(each.data for each in told) == BODY
    sums = [each.done_bytes for each in told]
    assert sums == sorted(sums)
    assert sums[-1] == len(BODY)
    assert {each.total_bytes for each in told} == {len(BODY)}


@on_reactor
async def test_on_receive_counts_what_is_on_the_wire() -> None:
    told: list[Progress] = []
    packed = gzip.compress(BODY)
    said = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    )
    async with serving(says(said)) as server, AsyncClient(on_receive=told.append) as client:
        assert (await client.get(server.url())).content == BODY
    assert b"".join(each.data for each in told) == packed
    assert {each.total_bytes for each in told} == {None}


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@on_reactor
async def test_on_send_is_told_of_each_piece(kind: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(BODY), 10_000):
            yield BODY[at : at + 10_000]

    told: list[Progress] = []
    async with serving(takes_all) as server, AsyncClient() as client:
        content: Any = BODY if kind == "bytes" else pieces()
        await client.post(server.url(), content=content, on_send=told.append)
        assert counts(client) == {**NOTHING, "idle": 1}
    assert b"".join(each.data for each in told) == BODY
    assert len(told) > 1
    assert told[-1].done_bytes == len(BODY)
    assert {each.total_bytes for each in told} == {len(BODY) if kind == "bytes" else None}


@pytest.mark.parametrize("name", ["on_send", "on_receive", "on_informational"])
@on_reactor
async def test_what_a_call_back_raises_goes_to_the_caller(name: str) -> None:
    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", answer(BODY))

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    async with serving(script) as server, AsyncClient() as client:
        options: Any = {name: fails}
        with pytest.raises(ZeroDivisionError):
            await client.post(server.url(), content=b"x", **options)
        assert counts(client) == NOTHING
        if name != "on_receive":
            return
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", server.url(), **options) as response:
                await response.aread()
        assert counts(client) == NOTHING


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("name", ["on_receive", "on_informational"])
@on_reactor
async def test_call_back_that_stops_an_iteration_has_failed(name: str, kind: type) -> None:
    """As within a generator (PEP 479): a future cannot carry it, and a body would end by it."""

    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n", answer(BODY))

    def stops(*_: object) -> None:
        raise kind

    options: Any = {name: stops}
    async with serving(script) as server, AsyncClient(timeout=10, **options) as client:
        with pytest.raises(RuntimeError, match=f"raised {kind.__name__}") as told:
            await client.get(server.url())
        assert isinstance(told.value.__cause__, kind)
        with pytest.raises(RuntimeError, match=f"raised {kind.__name__}"):
            async with client.stream("GET", server.url()) as response:
                await response.aread()
        assert counts(client) == NOTHING


@on_reactor
async def test_on_informational_is_told_before_the_response() -> None:
    told: list[tuple[int, str | None]] = []

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await peer.reader.readexactly(1)  # content that waits for the hint
        await peer.send(OK)
        await peer.until_closed()

    hinted: list[int] = []

    def hear(status: int, headers: Headers) -> None:
        hinted.append(status)
        told.append((status, headers.get("link")))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    async with serving(script) as server, AsyncClient(on_informational=hear) as client:
        response = await client.post(server.url(), content=pieces())
        assert told == [(103, "</a>")]
        assert [status for status, _ in response.informational_responses] == [103]


@on_reactor
async def test_connection_is_not_watched_any_more_when_the_exchange_is_over() -> None:
    told: list[Progress] = []
    async with serving(always_ok) as server, AsyncClient() as client:
        await client.get(server.url(), on_receive=told.append)
        await client.get(server.url())
        assert (len(told), server.connections) == (1, 1)


def test_blocking_client_tells_too() -> None:
    told: list[Progress] = []
    with serving_in_thread(takes_all) as server, Client(on_send=told.append) as client:
        client.post(server.url(), content=BODY, on_receive=told.append)
    assert told[-1].data == b"ok"
    assert told[-2].done_bytes == len(BODY)

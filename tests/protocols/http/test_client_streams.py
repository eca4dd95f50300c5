"""Bodies that AsyncClient streams: back-pressure, early ends, readers that give up."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from typing import Any

import pytest

from protocols.http import AsyncClient, BodyNotReadError, Client, Response
from protocols.http.limits import STREAM_HIGH_WATER_BYTES
from reactor import EndpointError
from tests.peers.scripted import (
    OK,
    Authority,
    Conversation,
    answer,
    on_reactor,
    run,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import ends, says
from tests.protocols.http.client_checks import NOTHING, counts, passes, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")


@on_reactor
async def test_streamed_body_comes_whole_and_its_connection_is_kept() -> None:
    body = bytes(range(256)) * 4096
    async with serving(says(answer(body), OK)) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            with pytest.raises(BodyNotReadError):
                _ = response.content
            got = b"".join([piece async for piece in response.aiter_bytes()])
        assert got == body
        assert (await client.get(server.url())).content == b"ok"
        assert client.manager.stats()["opened"] == 1


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_slow_reader_stops_the_server(
    secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    size = 64 << 20
    sent = 0

    async def script(peer: Conversation) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(bytes(1 << 16))
            sent += 1 << 16
        await peer.until_closed()

    async def main() -> None:
        tls = authority.server() if secure else None
        async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
            async with client.stream("GET", server.url()) as response:
                before = -1
                while before != sent:  # until the server no longer gets on
                    before = sent
                    await passes(200)
                # its socket's buffer and ours, and what the stream holds
                assert sent < STREAM_HIGH_WATER_BYTES + (16 << 20)
                got = 0
                async for piece in response.aiter_bytes():
                    got += len(piece)
            assert got == size
            assert counts(client)["idle"] == 1

    run(main())


def is_complete(response: Response) -> bool:
    pieces: Any = response.aiter_raw()
    complete: bool = pieces.is_complete
    return complete


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_body_that_ends_while_reading_is_paused_leaves_a_connection_that_reads(
    secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    # a little above the high-water mark: the last piece both pauses and ends
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            size = int(head.split(b" ")[1][1:])
            await peer.send(answer(bytes(size)))

    async def main() -> None:
        tls = authority.server() if secure else None
        async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
            for extra in (1, 100, 1000, 20_000, 60_000, 65_000):
                size = STREAM_HIGH_WATER_BYTES + extra
                async with client.stream("GET", server.url(f"/{size}")) as response:
                    pieces: Any = response.aiter_raw()
                    while not pieces.is_complete:
                        await passes(20)
                        if not pieces.is_complete:
                            await anext(pieces)
                assert (await client.get(server.url("/5"), timeout=5)).content == bytes(5)
            assert client.manager.stats()["opened"] == 1

    run(main())


@on_reactor
async def test_small_pieces_that_have_come_are_read_as_one() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    small = b"1\r\na\r\n" * 20_000
    large = b"c350\r\n" + bytes(50_000) + b"\r\n"
    async with (
        serving(says(head + small + large * 3 + b"0\r\n\r\n")) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        pieces: Any = response.aiter_raw()
        await until(lambda: pieces.is_complete)
        got = [piece async for piece in pieces]
    assert b"".join(got) == b"a" * 20_000 + bytes(150_000)
    assert len(got) <= 5


@on_reactor
async def test_stream_left_early_costs_the_connection() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        await peer.until_closed()

    async with serving(script) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            assert await anext(response.aiter_bytes()) == b"some"
        assert counts(client) == NOTHING
        with pytest.raises(RuntimeError, match="closed before its end"):
            await response.aread()


@on_reactor
async def test_stream_left_by_an_exception_costs_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    async with serving(says(data)) as server, AsyncClient() as client:
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", server.url()):
                raise ZeroDivisionError
        assert counts(client) == NOTHING


@pytest.mark.parametrize("coding", [None, "gzip"])
@on_reactor
async def test_rest_of_a_body_is_never_taken_for_all_of_it(coding: str | None) -> None:
    body = bytes(200_000)
    fields = [] if coding is None else [f"Content-Encoding: {coding}"]
    said = answer(body if coding is None else gzip.compress(body), *fields)
    async with serving(says(said, said)) as server, AsyncClient() as client:
        for everything in (False, True):
            async with client.stream("GET", server.url()) as response:
                async for _ in response.aiter_bytes():
                    if not everything:
                        break
                with pytest.raises(BodyNotReadError, match="taken before"):
                    await response.aread()
                with pytest.raises(BodyNotReadError):
                    _ = response.content


def test_rest_of_a_body_is_never_taken_for_all_of_it_by_a_blocking_client() -> None:
    with (
        serving_in_thread(says(answer(bytes(200_000)))) as server,
        Client() as client,
        client.stream("GET", server.url()) as response,
    ):
        next(response.iter_bytes())
        with pytest.raises(BodyNotReadError, match="taken before"):
            response.read()


@on_reactor
async def test_stream_that_is_whole_but_unread_keeps_its_connection_and_its_body() -> None:
    async with serving(says(OK)) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            await until(lambda: is_complete(response))
        assert counts(client) == {**NOTHING, "idle": 1}
        assert await response.aread() == b"ok"
        assert response.content == b"ok"


@on_reactor
async def test_stream_is_read_by_one_task_at_a_time() -> None:
    go = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK[:-2])
        await go.wait()
        await peer.send(OK[-2:])
        await peer.until_closed()

    async with (
        serving(script) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        pieces = response.aiter_bytes()
        first = asyncio.ensure_future(anext(pieces))
        await passes(2)
        with pytest.raises(RuntimeError, match="somebody else"):
            await anext(response.aiter_bytes())
        go.set()
        assert await first == b"ok"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


@on_reactor
async def test_cancelled_reader_leaves_the_stream_to_the_next() -> None:
    go = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK[:-2])
        await go.wait()
        await peer.send(OK[-2:])
        await peer.until_closed()

    async with serving(script) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            first = asyncio.ensure_future(anext(response.aiter_bytes()))
            await passes(2)
            first.cancel()
            await asyncio.wait([first])
            go.set()
            assert await response.aread() == b"ok"
        assert counts(client) == {**NOTHING, "idle": 1}


@pytest.mark.parametrize("how", ["close", "reset"])
@on_reactor
async def test_stream_that_is_cut_gives_what_came_and_then_the_error(how: str) -> None:
    go = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        await go.wait()
        ends(peer, how)

    async with serving(script) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"some"
            go.set()
            for again in (pieces, pieces, response):
                with pytest.raises(ConnectionError) as caught:
                    await anext(again.aiter_bytes() if isinstance(again, Response) else again)
                assert isinstance(caught.value, EndpointError)
        assert counts(client) == NOTHING


@pytest.mark.parametrize("method", ["", "CONNECT", "GE T", "GET\r\n"])
@on_reactor
async def test_method_that_is_no_token_or_makes_no_response_raises(method: str) -> None:
    async with AsyncClient() as client:
        with pytest.raises(ValueError, match=r"method|tunnel"):
            await client.request(method, "http://127.0.0.1:1/")


@on_reactor
async def test_request_that_was_built_is_streamed_too() -> None:
    async with serving(says(OK)) as server, AsyncClient() as client:
        request = client.build_request("GET", server.url(), headers={"X-Mine": "yes"})
        async with client.stream_request(request) as response:
            assert response.request is request
            assert await response.aread() == b"ok"
        assert counts(client) == {**NOTHING, "idle": 1}

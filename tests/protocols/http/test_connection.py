"""ClientConnection on its own: one exchange is one future."""

from __future__ import annotations

import asyncio
import pickle
import tracemalloc
from typing import Any

import pytest

import reactor
from protocols.http import BodyNotReadError, IncompleteResponseError, Response
from protocols.http.body_stream import BodyStream
from protocols.http.connection import ClientConnection
from protocols.http.errors import ResponseLimitError
from reactor import ConnectionLostError, EndpointTimeoutError
from tests.peers.scripted import OK, Conversation, answer, on_reactor, serving

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def connected(port: int, **options: Any) -> ClientConnection:
    _, connection = await reactor.connect(
        lambda: ClientConnection("127.0.0.1", port, **options), "127.0.0.1", port
    )
    return connection


async def always_ok(peer: Conversation) -> None:
    while await peer.request() is not None:
        await peer.send(OK)


async def says_nothing(peer: Conversation) -> None:
    await peer.until_closed()


def exchange(connection: ClientConnection, **options: Any) -> asyncio.Future[Any]:
    arguments = {"method": "GET", "url": "u", "deadline_ns": 0, "stream": False, **options}
    return connection.exchange(HEAD, *arguments.values())


@on_reactor
async def test_exchanges_follow_each_other_and_are_counted() -> None:
    async with serving(always_ok) as server:
        connection = await connected(server.port)
        for number in range(1, 4):
            response = await exchange(connection)
            assert (response.content, response.url, response.method) == (b"ok", "u", "GET")
            assert (connection.exchanges, connection.is_idle) == (number, True)
        connection.abandon()


@on_reactor
async def test_second_exchange_at_a_time_raises_and_the_first_goes_on() -> None:
    async with serving(always_ok) as server:
        connection = await connected(server.port)
        first = exchange(connection)
        with pytest.raises(RuntimeError, match="under way"):
            exchange(connection)
        assert (await first).content == b"ok"
        connection.abandon()


@on_reactor
async def test_exchange_on_a_spent_connection_raises() -> None:
    with pytest.raises(RuntimeError, match="cannot carry"):
        exchange(ClientConnection("h", 80))
    async with serving(always_ok) as server:
        connection = await connected(server.port)
        connection.abandon()
        connection.abandon()
        with pytest.raises(RuntimeError, match="cannot carry"):
            exchange(connection)


@on_reactor
async def test_abandoned_exchange_disturbs_nobody() -> None:
    async with serving(says_nothing) as server:
        connection = await connected(server.port)
        loop: Any = asyncio.get_running_loop()
        future = exchange(connection, deadline_ns=int(loop.time() * 1e9) + 10**10)
        assert loop.stats()["timers"] == 1
        connection.abandon()
        assert loop.stats()["timers"] == 0
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not future.done()


@on_reactor
async def test_cancelled_future_is_left_alone() -> None:
    async with serving(always_ok) as server:
        connection = await connected(server.port)
        exchange(connection).cancel()
        while not connection.is_idle:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        assert (await exchange(connection)).content == b"ok"
        connection.abandon()


@on_reactor
async def test_unanswered_tells_whether_a_byte_had_come() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        if peer.number:
            await peer.send(b"H")

    async with serving(script) as server:
        for expected in (True, False):
            connection = await connected(server.port)
            with pytest.raises(IncompleteResponseError, match=r"read 127\.0\.0\.1:"):
                await exchange(connection)
            assert connection.unanswered is expected


@on_reactor
async def test_local_close_fails_the_exchange() -> None:
    async with serving(says_nothing) as server:
        connection = await connected(server.port)
        future = exchange(connection)
        connection.transport.close()
        with pytest.raises(ConnectionLostError, match="was closed"):
            await future


@on_reactor
async def test_deadline_that_has_passed_already_fails_the_exchange() -> None:
    async with serving(says_nothing) as server:
        connection = await connected(server.port)
        with pytest.raises(EndpointTimeoutError):
            await exchange(connection, deadline_ns=1)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@on_reactor
async def test_body_is_collected_from_any_number_of_pieces(pieces: int) -> None:
    body = bytes(range(251)) * 1000

    async def script(peer: Conversation) -> None:
        await peer.request()
        data = answer(body)
        for piece in range(pieces):
            await peer.send(data[len(data) * piece // pieces : len(data) * (piece + 1) // pieces])
            await asyncio.sleep(0)
        await peer.until_closed()

    async with serving(script) as server:
        connection = await connected(server.port)
        assert (await exchange(connection)).content == body
        connection.abandon()


@on_reactor
async def test_body_limit_counts_all_pieces() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send_slowly(answer(b"123456"))
        await peer.until_closed()

    async with serving(script) as server:
        connection = await connected(server.port, max_body_bytes=5)
        with pytest.raises(ResponseLimitError, match="5 bytes"):
            await exchange(connection)
        assert not connection.is_idle


@on_reactor
async def test_body_in_tiny_chunks_takes_no_more_memory_than_any_other() -> None:
    count, chunk = 100_000, b"2\r\nxy\r\n"
    body = b"".join(
        [b"5\r\nabcde\r\n", chunk * count, b"1400\r\n%s\r\n" % bytes(0x1400), chunk * 3]
    )

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(body + b"0\r\n\r\n")
        await peer.until_closed()

    async with serving(script) as server:
        connection = await connected(server.port)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            response = await exchange(connection)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert response.content == b"abcde" + b"xy" * count + bytes(0x1400) + b"xyxyxy"
        # twice while it is joined, a block, and what the server, in this process, has to send
        assert peak - before < 4 * len(response.content) + 1_000_000 < 10 * len(response.content)
        connection.abandon()


def test_body_stream_is_not_made_by_its_users() -> None:
    with pytest.raises(TypeError, match="comes with a streamed response"):
        BodyStream()
    empty: Any = BodyStream.__new__(BodyStream)
    with pytest.raises(RuntimeError, match="comes with a streamed response"):
        asyncio.run(anext(empty))
    assert not empty.is_complete


def test_response_that_is_empty_or_restored_does_not_crash() -> None:
    empty = Response()
    assert (empty.status_code, empty.reason_phrase, len(empty.headers)) == (0, "", 0)
    with pytest.raises(BodyNotReadError):
        asyncio.run(empty.aread())
    assert repr(empty) == "<Response [0 ]>"
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(empty)

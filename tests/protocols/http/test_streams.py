"""What a streamed response has of its connection, and what is handed out of its body once."""

from __future__ import annotations

import asyncio
import gc
import gzip
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from protocols.http import AsyncClient, BodyNotReadError, Client, Response, StreamConsumed
from protocols.http.reading import Chunks
from reactor import ConnectionManager, EndpointError
from tests.peers.scripted import (
    OK,
    Conversation,
    answer,
    on_reactor,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import says
from tests.protocols.http.client_checks import NOTHING, counts, passes, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")

LONG = answer(bytes(1 << 22))
TEXT = b"one\ntwo\r\nthree"
GZIPPED = answer(gzip.compress(TEXT), "Content-Encoding: gzip")


async def gathered(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


@pytest.mark.parametrize("said", [answer(TEXT), GZIPPED], ids=["plain", "gzip"])
@on_reactor
async def test_body_that_was_read_is_iterated_as_often_as_wanted(said: bytes) -> None:
    async with (
        serving(says(said)) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        await response.aread()
        for _ in range(2):
            assert await gathered(response.aiter_bytes()) == [TEXT]
            assert await gathered(response.aiter_bytes(9)) == [TEXT[:9], TEXT[9:]]
            assert await gathered(response.aiter_text()) == [TEXT.decode()]
            assert await gathered(response.aiter_lines()) == ["one", "two", "three"]
            assert list(response.iter_bytes()) == [TEXT]
        with pytest.raises(StreamConsumed):
            response.aiter_raw()


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("said", [answer(TEXT), GZIPPED], ids=["plain", "gzip"])
@on_reactor
async def test_body_that_was_streamed_is_not_streamed_again(said: bytes, everything: bool) -> None:
    async with (
        serving(says(said)) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        async for _ in response.aiter_lines():
            if not everything:
                break
        for again in (
            response.aiter_bytes,
            response.aiter_raw,
            response.aiter_text,
            response.aiter_lines,
        ):
            with pytest.raises(StreamConsumed, match="taken before"):
                again()
        with pytest.raises(StreamConsumed, match="taken before"):
            await response.aread()
        assert issubclass(StreamConsumed, BodyNotReadError)


def test_body_of_a_blocking_stream_is_not_streamed_again() -> None:
    with serving_in_thread(says(GZIPPED, GZIPPED)) as server, Client() as client:
        with client.stream("GET", server.url()) as response:
            assert list(response.iter_bytes(4)) == [TEXT[:4], TEXT[4:8], TEXT[8:12], TEXT[12:]]
            with pytest.raises(StreamConsumed):
                response.iter_bytes()
        with client.stream("GET", server.url()) as response:
            assert response.read() == TEXT
            assert list(response.iter_lines()) == ["one", "two", "three"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("pieces", [[], [b"a"], [b"abcdefg", b"h", b"ijk"], [b"x"] * 20])
@on_reactor
async def test_chunks_are_of_one_size_but_for_the_last(pieces: list[bytes], size: int) -> None:
    async def given() -> Any:
        for piece in pieces:
            yield piece

    whole = b"".join(pieces)
    expected = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert await gathered(Chunks(given(), size, b"")) == expected


@on_reactor
async def test_response_that_was_sent_for_gives_its_connection_back_when_it_was_read() -> None:
    async with serving(says(*[GZIPPED] * 3)) as server, AsyncClient() as client:
        request = client.build_request("GET", server.url())
        for read in (Response.aread, lambda each: gathered(each.aiter_bytes()), Response.aclose):
            response = await client.send(request, stream=True)
            assert counts(client) == {**NOTHING, "leased": 1}
            await read(response)
            assert counts(client)["leased"] == 0
            await response.aclose()
        assert client.manager.stats()["opened"] == 1


@on_reactor
async def test_response_that_is_closed_early_costs_its_connection() -> None:
    async with serving(says(LONG)) as server, AsyncClient() as client:
        response = await client.send(client.build_request("GET", server.url()), stream=True)
        await anext(response.aiter_bytes())
        await response.aclose()
        assert counts(client) == NOTHING
        with pytest.raises(BodyNotReadError):
            _ = response.content


@on_reactor
async def test_response_that_nobody_has_gives_its_connection_back() -> None:
    async with serving(says(LONG)) as server, AsyncClient() as client:
        response = await client.send(client.build_request("GET", server.url()), stream=True)
        pieces = response.aiter_bytes()
        await anext(pieces)
        del response
        await passes(2)
        assert counts(client) == {**NOTHING, "leased": 1}  # the pieces have it
        del pieces
        await until(lambda: counts(client) == NOTHING)


def test_blocking_response_that_was_sent_for_is_closed_or_dropped() -> None:
    with serving_in_thread(says(OK, OK)) as server, Client() as client:
        request = client.build_request("GET", server.url())
        assert client.send(request, stream=True).read() == b"ok"
        assert client._async.manager.stats()["leased"] == 0
        client.send(request, stream=True).close()
        assert client._async.manager.stats()["leased"] == 0
        assert server.connections == 1
    with serving_in_thread(says(LONG, LONG)) as server, Client(max_connections=1) as client:
        request = client.build_request("GET", server.url())
        response = client.send(request, stream=True)
        assert next(response.iter_bytes())
        del response
        assert client.send(request, stream=True, timeout=20).status_code == 200


@on_reactor
async def test_block_begins_once_and_one_that_did_not_begin_holds_nothing() -> None:
    async with serving(says(OK)) as server, AsyncClient() as client:
        block = client.stream("GET", server.url())
        assert await block.__aexit__(None, None, None) is None
        async with block as response:
            await response.aread()
        with pytest.raises(RuntimeError, match="once"):
            async with block:
                pass
        bad = client.stream("GET", "nowhere")
        with pytest.raises(ValueError, match="scheme"):
            await bad.__aenter__()
    with pytest.raises(EndpointError):
        async with AsyncClient() as client, client.stream("GET", "http://127.0.0.1:1/"):
            pass
    manager = ConnectionManager()
    hold: Any = pytest.importorskip("protocols.http.streams").Hold
    with pytest.raises(TypeError):
        hold(manager, None)


@on_reactor
async def test_read_that_is_refused_takes_nothing_from_who_reads() -> None:
    async with (
        serving(says(LONG)) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        pieces = response.aiter_bytes()
        size = len(await anext(pieces))
        with pytest.raises(StreamConsumed):
            await response.aread()
        with pytest.raises(RuntimeError):
            response.read()
        size += sum([len(piece) async for piece in pieces])
        assert size == 1 << 22


def test_blocking_block_that_is_begun_again_goes_on() -> None:
    with serving_in_thread(says(LONG)) as server, Client() as client:
        block = client.stream("GET", server.url())
        with block as response:
            with pytest.raises(RuntimeError, match="begins once"):
                block.__enter__()
            assert len(response.read()) == 1 << 22


# In a process of its own, where the collector comes upon the ring before what hangs on it.
GARBAGE = """
import asyncio, gc, sys
import reactor
from protocols.http import AsyncClient

gc.disable()
told = []


async def serve(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 50000000\\r\\n\\r\\n")
        for _ in range(500):
            writer.write(bytes(100_000))
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def make(url):
    class Ring:
        pass

    ring = Ring()
    ring.me = ring
    client = AsyncClient()
    response = await client.send(client.build_request("GET", url), stream=True)
    for _ in range(200):
        await asyncio.sleep(0)
    if sys.argv[1] == "response":
        ring.a, ring.b = response, client
    else:
        ring.b, ring.a = client, response


async def main():
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    print(gc.collect() > 0)
    for _ in range(200):
        await asyncio.sleep(0)
    server.close()


reactor.run(main())
print(told)
"""


@pytest.mark.parametrize("first", ["response", "client"])
def test_client_and_its_response_may_be_garbage_together(first: str) -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", GARBAGE, first],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "True\n[]\n"


def test_handler_of_a_signal_may_close_the_response_that_is_being_read() -> None:
    reading = threading.Event()
    closed: list[BaseException | None] = []

    async def half(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(LONG[: 1 << 21])
        await asyncio.get_running_loop().run_in_executor(None, reading.wait)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        await conversation.until_closed()

    def close(*_: Any) -> None:
        try:
            response.close()
            closed.append(None)
        except BaseException as error:
            closed.append(error)

    with serving_in_thread(half) as server, Client() as client:
        before = signal.signal(signal.SIGUSR1, close)
        try:
            response = client.send(client.build_request("GET", server.url()), stream=True)
            pieces = response.iter_bytes()
            next(pieces)
            reading.set()
            with pytest.raises(RuntimeError):
                list(pieces)
            assert closed == [None]
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_stream_that_outlives_its_client_ends_quietly() -> None:
    with serving_in_thread(says(LONG)) as server:
        client = Client()
        block = client.stream("GET", server.url())
        response = block.__enter__()
        client.close()
        block.__exit__(None, None, None)
        response.close()
        del block, response
        gc.collect()


def test_hook_of_a_blocking_client_reads_a_stream_as_a_coroutine_function() -> None:
    got: list[bytes] = []

    async def hook(response: Response) -> None:
        with pytest.raises(RuntimeError, match="in hooks, await aread"):
            response.read()
        got.append(await response.aread())

    with (
        serving_in_thread(says(OK, OK)) as server,
        Client(event_hooks={"response": [hook]}) as client,
        client.stream("GET", server.url()) as response,
    ):
        assert [response.read(), *got, *response.iter_bytes()] == [b"ok"] * 3

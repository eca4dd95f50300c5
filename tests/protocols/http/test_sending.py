"""A request's content on its way, where two things happen in one pass of the loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocols.http import AsyncClient, Request
from protocols.http.sending import upload
from reactor import EndpointError, EndpointTimeoutError
from tests.peers.scripted import Conversation, on_reactor, serving
from tests.protocols.http.client_checks import NOTHING, check_no_cycle, counts


class Lost:
    """A connection that is lost in the pass in which the content fails."""

    def exchange(self, *arguments: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_exception(ConnectionResetError("the peer's"))
        return answer

    async def upload(self, *arguments: Any) -> None:
        raise ValueError("the content's")


@on_reactor
async def test_content_that_fails_as_the_connection_is_lost_is_all_that_is_told() -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    connection: Any = Lost()
    request = Request("POST", "http://127.0.0.1/", content=iter([b"never asked for"]))
    with pytest.raises(ValueError, match="the content's"):
        await upload(connection, request, b"", 0, False)
    gc.collect()
    assert told == []


@pytest.mark.parametrize("end", ["whole", "lost", "late"])
@on_reactor
async def test_end_of_a_streamed_response_ends_content_that_would_go_on(end: str) -> None:
    """The head says no failure, so content goes on; nothing else may outlast the deadline."""
    ended = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.reader.readexactly(len(b"1\r\nx\r\n"))  # or its close resets the connection
        size = 2 if end == "whole" else 3
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nok" % size)
        if end != "lost":
            await peer.until_closed()

    async def content() -> AsyncIterator[bytes]:
        yield b"x"
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    timeout = 0.2 if end == "late" else 30
    async with serving(script) as server, AsyncClient(timeout=timeout) as client:
        async with client.stream("POST", server.url(), content=content()) as response:
            assert response.status_code == 200
            if end == "whole":
                assert await response.aread() == b"ok"
            else:
                error = EndpointTimeoutError if end == "late" else EndpointError
                with pytest.raises(error):
                    await response.aread()
        async with asyncio.timeout(10):
            await ended.wait()
        assert counts(client) == NOTHING


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("flaw", ["lost", "content"])
@on_reactor
async def test_failed_upload_is_no_cycle(stream: bool, flaw: str) -> None:
    class Content:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            if flaw == "content":
                raise ZeroDivisionError
            await asyncio.get_running_loop().create_future()

    async def script(peer: Conversation) -> None:
        await peer.request()

    async def fail(client: AsyncClient, url: str) -> weakref.ref[Content]:
        content = Content()
        if stream:
            with pytest.raises((EndpointError, ZeroDivisionError)):
                await client.stream("POST", url, content=content).__aenter__()
        else:
            with pytest.raises((EndpointError, ZeroDivisionError)):
                await client.post(url, content=content)
        return weakref.ref(content)

    async with serving(script) as server, AsyncClient() as client:
        await check_no_cycle(fail(client, server.url()))

"""Bodies that come faster than a block holds: nothing is copied, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient, HTTPProtocol
from tests.peers.scripted import OK, Conversation, run, serving

BODY = random.Random(5).randbytes(4_000_000)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
PARTS = (1, 300_000, 7, 900_000, 65_536, 65_537, 1_000_000)


def chunks(body: bytes) -> bytes:
    """Return *body* in chunks of odd sizes."""
    message = b""
    start = turn = 0
    while start < len(body):
        part = body[start : start + PARTS[turn % len(PARTS)]]
        message += b"%x\r\n%b\r\n" % (len(part), part)
        start += len(part)
        turn += 1
    return message + b"0\r\nX-End: here\r\n\r\n"


MESSAGES = {
    "length": HEAD + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(BODY),
    "until close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
}


class Weigher(HTTPProtocol):
    """Weighs what is alive when a large piece comes: the piece, and what else?"""

    def __init__(self) -> None:
        super().__init__("peer.example", 80)
        self.surplus: list[float] = []
        self.over = asyncio.get_running_loop().create_future()
        self.size = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.before = tracemalloc.get_traced_memory()[0]
        self.request("GET", "/")

    def body_received(self, data: bytes) -> None:
        alive = tracemalloc.get_traced_memory()[0] - self.before
        if len(data) > 100_000:
            self.surplus.append(alive / len(data))
        self.size += len(data)

    def response_complete(self) -> None:
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.over.set_result(None)


def test_piece_of_a_body_is_what_was_received() -> None:
    async def peer(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(MESSAGES["length"])

    async def main() -> Weigher:
        async with serving(peer) as server:
            tracemalloc.start()
            try:
                _, protocol = await reactor.connect(Weigher, "127.0.0.1", server.port)
                await protocol.over
            finally:
                tracemalloc.stop()
        return protocol

    protocol = run(main())
    assert protocol.size == len(BODY)
    assert min(protocol.surplus) < 2.5  # it, and the pool's one block; a copy would be the third


def asked_twice(message: bytes) -> Any:
    """Return a peer that says *message* and then, on the same connection, something short."""

    async def peer(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(message)
        if b"Connection: close" not in message[:100] and await conversation.request():
            await conversation.send(OK)

    return peer


@pytest.mark.parametrize("framing", MESSAGES)
@pytest.mark.parametrize("way", ["collected", "streamed"])
def test_large_body_is_what_was_sent_and_the_next_response_too(framing: str, way: str) -> None:
    async def main() -> None:
        async with serving(asked_twice(MESSAGES[framing])) as server, AsyncClient() as client:
            if way == "collected":
                response = await client.get(server.url())
                body = response.content
            else:
                async with client.stream("GET", server.url()) as response:
                    body = b"".join([piece async for piece in response.aiter_bytes()])
            assert body == BODY
            if framing == "chunked":
                assert response.trailers is not None
                assert response.trailers["x-end"] == "here"
            if framing != "until close":
                assert (await client.get(server.url())).content == b"ok"
                assert server.connections == 1

    run(main())


def test_surplus_behind_a_large_body_is_refused() -> None:
    async def peer(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(MESSAGES["length"] + OK)
        await conversation.until_closed()

    async def main() -> None:
        async with serving(peer) as server, AsyncClient() as client:
            assert (await client.get(server.url())).content == BODY
            assert (await client.get(server.url())).content == BODY
            assert server.connections == 2

    run(main())

"""Content on its way out: framing, back-pressure, and peers that answer before it is all there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import reactor
from protocols.http import HTTPProtocol, InvalidHeader, Response
from protocols.http.connection import ClientConnection
from reactor import ConnectionLostError
from tests.peers.scripted import OK, Conversation, Server, answer, run, serving

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: peer.example\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = HEAD[:-2] + b"Expect: 100-continue\r\n\r\n"


async def requests_of(peer: Conversation, seen: list[bytes]) -> None:
    """Answer every request with an empty body; note head and content as they came."""
    while (head := await peer.request()) is not None:
        seen.append(head)
        if b"chunked" in head:
            seen.append(await peer.reader.readuntil(b"0\r\n\r\n"))
        elif b"Content-Length: " in head:
            size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            seen.append(await peer.reader.readexactly(size))
        await peer.send(OK)


class Poster(HTTPProtocol):
    """Sends one request and notes how it ends."""

    def __init__(self, post: Callable[[Any], None]) -> None:
        super().__init__("peer.example", 80)
        self.post = post
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.paused = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.post(self)

    def pause_writing(self) -> None:
        self.paused += 1

    def response_complete(self) -> None:
        self.ended.set_result(self.reusable)

    def request_failed(self, error: Any) -> None:
        self.ended.set_exception(error)


def posted(post: Callable[[Any], None]) -> list[bytes]:
    """Return what a server receives of a request, its head without the first two lines."""
    seen: list[bytes] = []

    async def main() -> None:
        async with serving(lambda peer: requests_of(peer, seen)) as server:
            _, protocol = await reactor.connect(lambda: Poster(post), "127.0.0.1", server.port)
            assert await protocol.ended is True
            protocol.transport.close()

    run(main())
    seen[0] = seen[0].split(b"\r\n", 2)[2]
    return seen


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1_000_000])
def test_content_goes_with_its_length(size: int) -> None:
    content = bytes(size)
    head = b"Content-Length: %d\r\n\r\n" % size
    assert posted(lambda p: p.request("POST", "/", content=content)) == [head, content]


def test_content_of_a_declared_size_is_sent_in_pieces() -> None:
    def post(protocol: HTTPProtocol) -> None:
        protocol.request("PUT", "/", content_size=6)
        protocol.send_content(b"ab")
        protocol.send_content(bytearray(b""))
        protocol.send_content(memoryview(b"cdef"))
        protocol.end_content()

    assert posted(post) == [b"Content-Length: 6\r\n\r\n", b"abcdef"]


def test_rfc9112_7_1_content_of_unknown_size_is_sent_in_chunks() -> None:
    def post(protocol: HTTPProtocol) -> None:
        protocol.request("PUT", "/", chunked=True)
        protocol.send_content(b"0123456789")
        protocol.send_content(b"")  # which would end it
        protocol.send_content(b"x")
        protocol.end_content()

    assert posted(post) == [
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("pieces", "words"), [([b"abc", b"d"], "1 bytes longer"), ([b"ab"], "1 bytes shorter")]
)
def test_content_that_is_not_of_the_declared_size_raises(pieces: list[bytes], words: str) -> None:
    def send(protocol: HTTPProtocol) -> None:
        for each in pieces:
            protocol.send_content(each)
        protocol.end_content()

    def post(protocol: HTTPProtocol) -> None:
        protocol.request("PUT", "/", content_size=3)
        with pytest.raises(ValueError, match=words):
            send(protocol)
        protocol.transport.abort()

    with pytest.raises(ConnectionLostError):
        posted(post)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_framing_field_of_the_callers_own_raises(name: str) -> None:
    with pytest.raises(InvalidHeader, match=f"(?i){name}"):
        HTTPProtocol("peer.example", 80).request("PUT", "/", {name: "1"}, content=b"1")


@pytest.mark.parametrize(
    "options", [{"content": b"", "content_size": 0}, {"content_size": 1, "chunked": True}]
)
def test_two_kinds_of_content_raise(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="exclude each other"):
        HTTPProtocol("peer.example", 80).request("PUT", "/", **options)


def test_content_that_is_not_bytes_raises() -> None:
    with pytest.raises(TypeError, match="content is bytes, not str"):
        HTTPProtocol("peer.example", 80).request("PUT", "/", content="text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="content_size must not be negative"):
        HTTPProtocol("peer.example", 80).request("PUT", "/", content_size=-1)


def test_content_without_a_request_raises() -> None:
    def post(protocol: HTTPProtocol) -> None:
        with pytest.raises(RuntimeError, match="no request wants content"):
            protocol.send_content(b"x")
        protocol.request("GET", "/")

    assert posted(post) == [b"\r\n"]


def test_answer_before_the_content_ends_it_and_the_connection() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        assert await peer.until_closed() == b"2\r\nab\r\n"

    async def main() -> None:
        def post(protocol: HTTPProtocol) -> None:
            protocol.request("PUT", "/", chunked=True)
            protocol.send_content(b"ab")

        async with serving(script) as server:
            _, protocol = await reactor.connect(lambda: Poster(post), "127.0.0.1", server.port)
            assert await protocol.ended is False
            protocol.send_content(b"late")  # nobody wants it, nobody is told
            protocol.end_content()
            assert protocol.transport is None or protocol.transport.is_closing()

    run(main())


def answered_while_it_is_queued(
    begin: Callable[[Any], None], then: Callable[[Any], None], *, high: int | None = None
) -> bool:
    """Begin an upload that nobody reads, have it answered, and do *then* in the call-back.

    Returns whether the connection is kept.
    """

    class Early(Poster):
        def response_complete(self) -> None:
            try:
                then(self)
            except Exception as error:
                self.ended.set_exception(error)
            else:
                super().response_complete()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await queued.wait()
        await peer.send(answer(b"", status="413 Content Too Large"))
        await over.wait()

    async def main() -> bool:
        def post(protocol: HTTPProtocol) -> None:
            transport: Any = protocol.transport
            if high is not None:
                transport.set_write_buffer_limits(high)
            begin(protocol)
            assert transport.get_write_buffer_size()
            queued.set()

        async with serving(script) as server:
            _, protocol = await reactor.connect(lambda: Early(post), "127.0.0.1", server.port)
            kept: bool = await protocol.ended
            over.set()
            if protocol.transport is not None:
                protocol.transport.abort()
            return kept

    queued, over = asyncio.Event(), asyncio.Event()
    return run(main())


def fill_chunks(protocol: Any) -> None:
    protocol.request("POST", "/", chunked=True)
    while not protocol.paused:
        protocol.send_content(bytes(1 << 20))


def test_answer_to_content_that_is_queued_costs_the_connection() -> None:
    def begin(protocol: Any) -> None:
        protocol.request("POST", "/", content=bytes(20_000_000))

    assert answered_while_it_is_queued(begin, lambda _: None) is False


def test_answer_to_content_that_is_queued_below_the_mark_costs_the_connection() -> None:
    def begin(protocol: Any) -> None:
        protocol.request("POST", "/", content=bytes(20_000_000))

    assert answered_while_it_is_queued(begin, lambda _: None, high=1 << 30) is False


@pytest.mark.parametrize(
    "then",
    [lambda protocol: protocol.send_content(b"more"), lambda protocol: protocol.end_content()],
    ids=["send_content", "end_content"],
)
def test_chunks_that_come_after_the_answer_say_nothing(then: Callable[[Any], None]) -> None:
    assert answered_while_it_is_queued(fill_chunks, then) is False


# -- ClientConnection.upload ----------------------------------------------------------------------


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


async def exchange(
    server: Server, head: bytes, content: AsyncIterator[bytes], *, seconds: float = 20
) -> Response:
    """Send one request with content; return the response once both are done."""
    _, connection = await reactor.connect(
        lambda: ClientConnection("peer.example", 80), "127.0.0.1", server.port
    )
    expects = b"Expect" in head
    future = connection.exchange(head, "POST", None, 0, False, None, -1)
    try:
        await connection.upload(content, expects, seconds)
        return await future
    finally:
        future.cancel()
        connection.abandon()


def test_upload_waits_while_the_peer_does_not_read() -> None:
    taken: list[int] = []
    gate = asyncio.Event()
    size, count = 65_536, 200

    async def script(peer: Conversation) -> None:
        await peer.request()
        await gate.wait()
        left = len(b"10000\r\n\r\n" * count) + size * count + len(b"0\r\n\r\n")
        while left:
            left -= len(await peer.reader.read(left))
        await peer.send(OK)

    async def content() -> AsyncIterator[bytes]:
        for number in range(count):
            taken.append(number)
            yield b"x" * size

    async def main() -> None:
        async with serving(script) as server:
            future = asyncio.ensure_future(exchange(server, HEAD, content()))
            before = -1
            while before != len(taken) or not taken:  # until it no longer moves
                before = len(taken)
                for _ in range(100):
                    await asyncio.sleep(0)
            assert 0 < len(taken) < count
            gate.set()
            assert (await future).status_code == 200
            assert len(taken) == count

    run(main())


def test_rfc9110_10_1_1_upload_waits_for_the_continue_that_it_asked_for() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        assert not peer.reader._buffer  # type: ignore[attr-defined]
        await peer.send(CONTINUE)
        assert await peer.reader.readuntil(b"0\r\n\r\n") == b"2\r\nab\r\n0\r\n\r\n"
        await peer.send(OK)

    async def main() -> None:
        async with serving(script) as server:
            response = await exchange(server, EXPECTING, pieces(b"ab"))
            assert response.status_code == 200

    run(main())


def test_continue_that_does_not_come_is_not_waited_for_longer_than_told() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(OK)

    async def main() -> None:
        async with serving(script) as server:
            response = await exchange(server, EXPECTING, pieces(b"ab"), seconds=0.01)
            assert response.status_code == 200

    run(main())


def test_refusal_in_place_of_a_continue_leaves_the_content_unread() -> None:
    asked: list[bytes] = []

    async def content() -> AsyncIterator[bytes]:
        asked.append(b"x")
        yield b"x"

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK.replace(b"200 OK", b"417 Expectation Failed"))
        assert await peer.until_closed() == b""

    async def main() -> None:
        async with serving(script) as server:
            response = await exchange(server, EXPECTING, content())
            assert response.status_code == 417
            assert asked == []

    run(main())


def test_answer_while_the_upload_waits_leaves_the_rest_of_the_content_unread() -> None:
    taken: list[int] = []
    gate = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(answer(b"", "Connection: close", status="413 Content Too Large"))
        await peer.until_closed()

    async def content() -> AsyncIterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 65_536

    async def main() -> None:
        async with serving(script) as server:
            future = asyncio.ensure_future(exchange(server, HEAD, content()))
            before = -1
            while before != len(taken) or not taken:  # until it no longer moves
                before = len(taken)
                for _ in range(50):
                    await asyncio.sleep(0)
            gate.set()
            assert (await future).status_code == 413
            assert len(taken) == before

    run(main())


def test_connection_that_is_lost_ends_the_upload() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        peer.reset()

    async def content() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    async def main() -> None:
        async with serving(script) as server:
            with pytest.raises(ConnectionLostError):
                await exchange(server, HEAD, content())

    run(main())

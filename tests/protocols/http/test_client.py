"""AsyncClient against scripted servers: what it returns, what it reuses, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import pickle
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import reactor
from protocols.http import (
    URL,
    AsyncClient,
    BodyNotReadError,
    ClientClosedError,
    IncompleteResponseError,
    InvalidHeader,
    InvalidURL,
    RemoteProtocolError,
    Response,
    ResponseLimitError,
    ResponseLimits,
)
from protocols.http.limits import MAX_STALE_RETRIES, STREAM_HIGH_WATER_BYTES
from reactor import (
    ConnectionLostError,
    ConnectRefusedError,
    EndpointError,
    EndpointTimeoutError,
    ResolveError,
    TLSCertificateError,
    TLSError,
    TLSTruncatedError,
    client_context,
)
from tests.peers.scripted import (
    OK,
    Authority,
    Conversation,
    Server,
    answer,
    black_hole,
    on_reactor,
    refusing_port,
    run,
    serving,
    serving_in_thread,
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return client_context(ca_pem=authority.pem, alpn=("http/1.1",))


def says(*answers: bytes) -> Callable[[Conversation], Awaitable[None]]:
    """Return a script that gives one answer per request, then waits for the client to close."""

    async def script(peer: Conversation) -> None:
        for each in answers:
            if await peer.request() is None:
                return
            await peer.send(each)
        await peer.until_closed()

    return script


def says_and_closes(*answers: bytes) -> Callable[[Conversation], Awaitable[None]]:
    async def script(peer: Conversation) -> None:
        for each in answers:
            if await peer.request() is None:
                return
            await peer.send(each)

    return script


async def always_ok(peer: Conversation) -> None:
    while await peer.request() is not None:
        await peer.send(OK)


def counts(client: AsyncClient) -> dict[str, int]:
    stats = client.manager.stats()
    return {name: stats[name] for name in ("leased", "idle", "opening", "waiting")}


NOTHING = {"leased": 0, "idle": 0, "opening": 0, "waiting": 0}


async def passes(count: int) -> None:
    """Let the loop make passes, so that what is under way in the kernel arrives."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Make passes until *condition* holds; the test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - it is the client's state and has no event
        await asyncio.sleep(0)


# -- responses ---------------------------------------------------------------------------

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
async def test_connections_are_reused_and_counted() -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        for _ in range(10):
            assert (await client.get(server.url())).content == b"ok"
        stats = client.manager.stats()
        assert (stats["opened"], stats["reused"], server.connections) == (1, 9, 1)


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
async def test_many_requests_at_once_get_each_its_own_body() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            await peer.send(answer(head.split(b" ")[1]))

    async with serving(script) as server, AsyncClient(max_per_host=7) as client:
        urls = [server.url(f"/{number}") for number in range(200)]
        responses = await asyncio.gather(*map(client.get, urls))
        assert [r.content for r in responses] == [b"/%d" % n for n in range(200)]
        assert server.connections <= 7


# -- bytes that belong to nobody ------------------------------------------------------------

POISON = answer(b"poison")


@pytest.mark.parametrize(
    "surplus",
    [b"\r\n", b"x", OK[:10], OK, POISON, b"HTTP/1.1 100 Continue\r\n\r\n", b"0" * 100_000],
    ids=["crlf", "byte", "half", "same", "whole", "informational", "flood"],
)
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_surplus_behind_a_response_costs_the_connection_and_is_never_an_answer(
    surplus: bytes, secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK + (surplus if peer.number == 0 else b""))
        await peer.until_closed()

    async def main() -> None:
        tls = authority.server() if secure else None
        async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
            for _ in range(2):
                assert (await client.get(server.url())).content == b"ok"
            assert server.connections == 2

    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_bytes_on_an_idle_connection_cost_it(
    secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    go = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 0:
            await go.wait()
            await peer.send(POISON)
        await peer.until_closed()

    async def main() -> None:
        tls = authority.server() if secure else None
        async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
            await client.get(server.url())
            assert counts(client)["idle"] == 1
            go.set()
            await until(lambda: counts(client)["idle"] == 0)
            assert (await client.get(server.url())).content == b"ok"

    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_bytes_that_come_while_the_loop_is_busy_are_no_answer_to_the_next_request(
    secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    go, sent = threading.Event(), threading.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            while not go.is_set():  # noqa: ASYNC110 - another thread's
                await asyncio.sleep(0)
            await peer.send(POISON)
            sent.set()
        await peer.until_closed()

    async def main() -> None:
        async with AsyncClient(tls=trusting) as client:
            async with client.stream("GET", server.url()) as _:
                await client.get(server.url())  # on the second connection, the newest idle
                go.set()
                sent.wait()  # the loop is busy
                assert (await client.get(server.url())).content == b"ok"
            assert server.connections == 3

    with serving_in_thread(script, tls=authority.server() if secure else None) as server:
        run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_connections_are_reused_over_either_transport(
    secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with AsyncClient(tls=trusting) as client:
            for _ in range(20):
                assert (await client.get(server.url())).content == b"ok"
            assert client.manager.stats()["opened"] == 1
            assert client.manager.stats()["reused"] == 19

    with serving_in_thread(always_ok, tls=authority.server() if secure else None) as server:
        run(main())


@on_reactor
async def test_bytes_before_any_request_cost_the_connection() -> None:
    async def script(peer: Conversation) -> None:
        if peer.number == 0:
            await peer.send(POISON)
        await peer.request()
        await peer.send(OK)
        await peer.until_closed()

    async with serving(script) as server, AsyncClient() as client:
        # the request may be out before the bytes are read: then they pass for its answer,
        # and what follows costs the connection
        await client.get(server.url())
        assert (await client.get(server.url())).content == b"ok"


# -- stale connections ----------------------------------------------------------------------


def ends(peer: Conversation, how: str) -> None:
    {"close": peer.close, "cut": peer.cut, "reset": peer.reset}[how]()


@pytest.mark.parametrize("how", ["close", "cut", "reset"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_connection_closed_at_the_moment_of_reuse_is_replaced_unnoticed(
    how: str, secure: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        # the second request is read and not answered, as by a server whose timer went off
        if await peer.request() is not None:
            ends(peer, how)
        await peer.until_closed()

    async def main() -> None:
        tls = authority.server() if secure else None
        async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
            for expected in (1, 2, 3):
                assert (await client.get(server.url())).content == b"ok"
                assert server.connections == expected
            assert counts(client) == {**NOTHING, "idle": 1}

    run(main())


@on_reactor
async def test_stale_connection_is_replaced_by_a_fresh_one_not_by_another_idle_one() -> None:
    requests = 0

    async def script(peer: Conversation) -> None:
        nonlocal requests
        while await peer.request() is not None:
            requests += 1
            if requests == 5:  # the first on a connection that was used
                return
            await peer.send(OK)

    for limit in (4, 100):
        requests = 0
        async with serving(script) as server, AsyncClient(max_per_host=limit) as client:
            await asyncio.gather(*(client.get(server.url()) for _ in range(4)))
            assert server.connections == 4
            assert (await client.get(server.url())).content == b"ok"
            assert (requests, server.connections) == (6, 5)


@on_reactor
async def test_fresh_connection_that_is_closed_without_an_answer_is_not_retried() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()

    async with serving(script) as server, AsyncClient() as client:
        with pytest.raises(IncompleteResponseError, match="before a response came"):
            await client.get(server.url())
        assert server.connections == 1


class EndsUnasked:
    """A pool whose connections were all used before and all end unanswered."""

    exchanges = 1
    unanswered = True
    sent = 0

    def take(self, endpoint: Any) -> EndsUnasked:
        return self

    async def acquire(self, *_: Any, **__: Any) -> EndsUnasked:
        return self

    async def exchange(self, *_: Any) -> Response:
        self.sent += 1
        raise ConnectionLostError("gone", host="x", port=80, phase="read")

    def abandon(self) -> None: ...
    def discard(self, connection: Any) -> None: ...
    async def close(self) -> None: ...


@on_reactor
async def test_retries_over_used_connections_are_bounded() -> None:
    async with AsyncClient() as client:
        pool: Any = EndsUnasked()
        client._manager = pool
        with pytest.raises(ConnectionLostError):
            await client.get("http://x/", timeout=10)
        assert pool.sent == 1 + MAX_STALE_RETRIES


@on_reactor
async def test_used_connection_is_not_retried_once_a_byte_has_come() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"H")

    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(IncompleteResponseError):
            await client.get(server.url())
        assert server.connections == 1


@on_reactor
async def test_used_connection_is_not_retried_after_a_timeout() -> None:
    async with serving(says(OK)) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(EndpointTimeoutError):
            await client.get(server.url(), timeout=0.02)
        assert server.connections == 1


# -- limits ---------------------------------------------------------------------------------


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


# -- streaming ------------------------------------------------------------------------------


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
    stream: Any = response.aiter_bytes()
    complete: bool = stream.is_complete
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
                    while not is_complete(response):
                        await passes(20)
                        if not is_complete(response):
                            await anext(response.aiter_bytes())
                assert (await client.get(server.url("/5"), timeout=5)).content == bytes(5)
            assert client.manager.stats()["opened"] == 1

    run(main())


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
        first = asyncio.ensure_future(anext(response.aiter_bytes()))
        await passes(2)
        with pytest.raises(RuntimeError, match="somebody else"):
            await anext(response.aiter_bytes())
        go.set()
        assert await first == b"ok"
        with pytest.raises(StopAsyncIteration):
            await anext(response.aiter_bytes())


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
            assert await anext(response.aiter_bytes()) == b"some"
            go.set()
            for _ in range(2):
                with pytest.raises(ConnectionError) as caught:
                    await anext(response.aiter_bytes())
                assert isinstance(caught.value, EndpointError)
        assert counts(client) == NOTHING


@pytest.mark.parametrize("method", ["POST", "get", "", "CONNECT"])
@on_reactor
async def test_stream_refuses_methods_that_may_not_be_repeated(method: str) -> None:
    async with AsyncClient() as client:
        with pytest.raises(ValueError, match="cannot send"):
            async with client.stream(method, "http://127.0.0.1/"):
                pass


# -- cancellation at every await point --------------------------------------------------------


async def cancelled_after(steps: int, work: Awaitable[Any]) -> bool:
    """Run *work* as a task, cancel it after *steps* passes; return whether it was done before."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        if task.done():
            break
        await asyncio.sleep(0)
    finished = task.done()
    task.cancel()
    await asyncio.wait([task])
    if finished:
        task.result()
    elif not task.cancelled():
        assert task.exception() is None  # the end came in the same pass
    return finished


async def get_one(client: AsyncClient, url: str) -> None:
    assert (await client.get(url)).content == b"ok"


async def stream_one(client: AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as response:
        assert await response.aread() == b"ok"


async def wait_for_one(client: AsyncClient, url: str) -> None:
    """Take a turn behind others: the wait for a slot is an await point as well."""
    await asyncio.gather(*(client.get(url) for _ in range(3)))


class SlowResolver(reactor.Resolver):
    """Takes some passes, and no thread, which would take any number of them."""

    async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
        await passes(3)
        return await super().resolve("127.0.0.1", port, family)


@pytest.mark.parametrize("work", [get_one, stream_one, wait_for_one])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_cancelled_anywhere_nothing_is_left_and_the_client_goes_on(
    work: Callable[[AsyncClient, str], Awaitable[None]],
    host: str,
    secure: bool,
    warm: bool,
    authority: Authority,
    trusting: ssl.SSLContext,
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.resolver = SlowResolver()
        tls = authority.server() if secure else None
        async with serving(always_ok, tls=tls) as server:
            url = server.url(host=host)
            steps, finished = 0, False
            while not finished:
                async with AsyncClient(tls=trusting, max_per_host=1) as client:
                    if warm:
                        await client.get(url)
                    finished = await cancelled_after(steps, work(client, url))
                    after = counts(client)
                    assert after in (NOTHING, {**NOTHING, "idle": 1})
                    await client.get(url)
                    assert counts(client) == {**NOTHING, "idle": 1}
                    assert loop.stats()["blocks_in_use"] == 0
                steps += 1
                assert steps < 2_000

    run(main())


# -- bad input ---------------------------------------------------------------------------------


def check_failure(error: BaseException, port: int, phase: str, *kinds: type[BaseException]) -> None:
    assert isinstance(error, EndpointError)
    for kind in kinds:
        assert isinstance(error, kind)
    text = str(error)
    assert f":{port}" in text
    assert text.startswith(f"{phase} ")
    assert (error.port, error.phase) == (port, phase)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.host, copy.port) == (
        type(error), text, error.host, error.port,
    )  # fmt: skip
    assert vars(copy) == vars(error)


async def failure_of(url: str, timeout: float | None = 10, **options: Any) -> BaseException:
    """Return what a get raises, after asserting that it left nothing behind."""
    async with AsyncClient(timeout=timeout, **options) as client:
        try:
            await client.get(url)
        except Exception as error:
            assert counts(client) == NOTHING
            failure: BaseException = error
        else:
            raise AssertionError("it did not fail")
    return failure


@pytest.fixture(autouse=True)
def _nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    gc.collect()  # what was never retrieved would be told now
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


@on_reactor
async def test_unknown_host() -> None:
    error = await failure_of("http://does-not-exist.invalid:81/")
    check_failure(error, 81, "resolve", ResolveError, socket.gaierror, OSError)
    assert "does-not-exist.invalid" in str(error)
    assert isinstance(error.__cause__, socket.gaierror)


@on_reactor
async def test_refused_port() -> None:
    with refusing_port() as port:
        error = await failure_of(f"http://127.0.0.1:{port}/")
        check_failure(error, port, "connect", ConnectRefusedError, ConnectionRefusedError)
        assert isinstance(error.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("fault", ["untrusted", "wrong name", "expired"])
def test_certificate_that_does_not_verify(
    fault: str, authority: Authority, trusting: ssl.SSLContext
) -> None:
    names = ("elsewhere.example",) if fault == "wrong name" else ()
    options: dict[str, Any] = {}
    if fault == "expired":
        options["not_after"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        options["not_before"] = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    context = authority.server(*names, **options)
    tls: dict[str, Any] = {} if fault == "untrusted" else {"tls": trusting}

    async def main() -> None:
        async with serving(always_ok, tls=context) as server:
            error = await failure_of(server.url(), **tls)
            check_failure(
                error, server.port, "tls", TLSCertificateError, ssl.SSLCertVerificationError
            )
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)

    run(main())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("garbage", b"\0\1\2garbage, and more of it than a record's head"),
        ("http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ("alert", b"\x15\x03\x03\x00\x02\x02\x28"),
    ],
)
def test_tls_port_that_does_not_speak_tls(name: str, data: bytes, trusting: ssl.SSLContext) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(data)
        await peer.until_closed()

    async def main() -> None:
        async with serving(script) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, tls=trusting)
            check_failure(error, server.port, "tls", TLSError, ssl.SSLError)
            assert isinstance(error.__cause__, ssl.SSLError)

    run(main())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_tls_port_that_closes_in_the_handshake(how: str, trusting: ssl.SSLContext) -> None:
    async def script(peer: Conversation) -> None:
        await peer.reader.read(10)
        ends(peer, how)

    async def main() -> None:
        async with serving(script) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, tls=trusting)
            check_failure(error, server.port, "tls", TLSError, ssl.SSLError)
            assert isinstance(error.__cause__, ConnectionError)

    run(main())


GARBAGE = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "version": b"HTTP/2.0 200 OK\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
@on_reactor
async def test_answer_that_is_not_http(name: str) -> None:
    async with serving(says(GARBAGE[name])) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", RemoteProtocolError, ConnectionError)
        assert error.__cause__ is not None


CUT = {
    "head": b"HTTP/1.1 200 OK\r\nConte",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nsome",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
}


@pytest.mark.parametrize("where", CUT)
@on_reactor
async def test_end_in_the_middle_of_a_response(where: str) -> None:
    async with serving(says_and_closes(CUT[where])) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", IncompleteResponseError, ConnectionError)
        assert isinstance(error, IncompleteResponseError)
        if where == "body":
            assert (error.received, error.expected) == (4, 9)


@pytest.mark.parametrize("where", [*CUT, "until close"])
@on_reactor
async def test_reset_in_the_middle_of_a_response(where: str) -> None:
    data = CUT.get(where, b"HTTP/1.1 200 OK\r\n\r\nsome")

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(data)
        await passes(5)
        peer.reset()

    async with serving(script) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", ConnectionLostError, ConnectionResetError)
        assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize("where", [*CUT, "until close"])
def test_tls_that_ends_without_close_notify_in_a_response(
    where: str, authority: Authority, trusting: ssl.SSLContext
) -> None:
    data = CUT.get(where, b"HTTP/1.1 200 OK\r\n\r\nsome")

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(data)
        await passes(5)
        peer.cut()
        await peer.until_closed()

    async def main() -> None:
        async with serving(script, tls=authority.server()) as server:
            error = await failure_of(server.url(), tls=trusting)
            check_failure(error, server.port, "read", TLSTruncatedError, ssl.SSLEOFError)
            assert isinstance(error.__cause__, ssl.SSLEOFError)

    run(main())


# -- timeouts, phase by phase ---------------------------------------------------------------------


async def says_nothing(peer: Conversation) -> None:
    await peer.until_closed()


@on_reactor
async def test_timeout_while_resolving() -> None:
    asked = asyncio.Event()

    class Stuck(reactor.Resolver):
        async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
            asked.set()
            await asyncio.Event().wait()
            return []

    loop: Any = asyncio.get_running_loop()
    loop.resolver = Stuck()
    error = await failure_of("http://slow.example/", timeout=0.02)
    check_failure(error, 80, "resolve", EndpointTimeoutError, TimeoutError)
    assert asked.is_set()


@on_reactor
async def test_timeout_while_connecting() -> None:
    with black_hole() as port:
        error = await failure_of(f"http://127.0.0.1:{port}/", timeout=0.05)
        check_failure(error, port, "connect", EndpointTimeoutError, TimeoutError)


def test_timeout_in_the_tls_handshake(trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(says_nothing) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, timeout=0.05, tls=trusting)
            check_failure(error, server.port, "tls", EndpointTimeoutError, TimeoutError)

    run(main())


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"]
)
@on_reactor
async def test_timeout_while_reading(said: bytes) -> None:
    async with serving(says(said)) as server:
        error = await failure_of(server.url(), timeout=0.05)
        check_failure(error, server.port, "read", EndpointTimeoutError, TimeoutError)


@on_reactor
async def test_timeout_while_waiting_for_a_connection() -> None:
    async with serving(says_nothing) as server, AsyncClient(max_per_host=1) as client:
        first = asyncio.ensure_future(client.get(server.url()))
        await until(lambda: counts(client)["leased"] == 1)
        with pytest.raises(EndpointTimeoutError) as caught:
            await client.get(server.url(), timeout=0.02)
        check_failure(caught.value, server.port, "pool", EndpointTimeoutError, TimeoutError)
        assert counts(client) == {**NOTHING, "leased": 1}
        first.cancel()
        await asyncio.wait([first])
        assert counts(client) == NOTHING


@on_reactor
async def test_timeout_covers_the_body_of_a_stream() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"
    async with serving(says(data)) as server, AsyncClient() as client:
        async with client.stream("GET", server.url(), timeout=0.05) as response:
            assert await anext(response.aiter_bytes()) == b"some"
            with pytest.raises(EndpointTimeoutError):
                await anext(response.aiter_bytes())
        assert counts(client) == NOTHING


@pytest.mark.parametrize("timeout", [None, 1e9, 1e10, 1e300, float("inf")])
@on_reactor
async def test_long_timeout_is_no_limit(timeout: float | None) -> None:
    async with serving(always_ok) as server, AsyncClient(timeout=timeout) as client:
        assert (await client.get(server.url())).content == b"ok"
        assert (await client.get(server.url(), timeout=timeout)).content == b"ok"


# -- bad arguments ---------------------------------------------------------------------------------


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
        with pytest.raises(TypeError):
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


@on_reactor
async def test_use_after_close_raises() -> None:
    async with serving(always_ok) as server:
        client = AsyncClient()
        await client.get(server.url())
        await client.aclose()
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await client.get(server.url())
        with pytest.raises(ClientClosedError):
            async with client.stream("GET", server.url()):
                pass
    assert "closed" in repr(client)


def test_client_belongs_to_one_loop() -> None:
    client = AsyncClient()

    async def use(server: Server) -> None:
        await client.get(server.url())

    with contextlib.closing(reactor.new_event_loop()) as first:

        async def begin() -> None:
            async with serving(always_ok) as server:
                await use(server)

        first.run_until_complete(begin())

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                await client.get("http://127.0.0.1:1/")
            with pytest.raises(RuntimeError, match="another event loop"):
                await client.aclose()

        reactor.run(elsewhere())
        first.run_until_complete(client.aclose())


def test_client_whose_loop_was_closed_can_still_be_closed() -> None:
    client = AsyncClient()
    first = reactor.new_event_loop()
    with serving_in_thread(always_ok) as server:
        first.run_until_complete(client.get(server.url()))
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            first.close()
        reactor.run(client.aclose())
    assert "closed" in repr(client)


@on_reactor
async def test_close_ends_what_is_under_way() -> None:
    async with serving(says_nothing) as server:
        client = AsyncClient(max_per_host=1)
        under_way = asyncio.ensure_future(client.get(server.url()))
        waiting = asyncio.ensure_future(client.get(server.url()))
        await until(lambda: counts(client) == {**NOTHING, "leased": 1, "waiting": 1})
        await client.manager.close(timeout=0.01)
        await client.aclose()
        with pytest.raises(ConnectionLostError):
            await under_way
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        assert counts(client) == NOTHING


@on_reactor
async def test_repr_tells_the_state() -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        await client.get(server.url())
        assert f"http://127.0.0.1:{server.port}: 0 leased, 1 idle" in repr(client)


@on_reactor
async def test_prepared_requests_are_bounded() -> None:
    from protocols.http.limits import PREPARED_REQUESTS

    async with AsyncClient() as client:
        for number in range(PREPARED_REQUESTS + 10):
            client._prepare("GET", f"http://127.0.0.1/{number}", None)
        assert len(client._prepared) == PREPARED_REQUESTS


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
        with pytest.raises(InvalidHeader, match="no body"):
            await client.get("http://127.0.0.1:1/", headers={name: value})

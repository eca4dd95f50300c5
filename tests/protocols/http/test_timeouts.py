"""Timeouts by phase: each has an error of its own, and the total is over all of them."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Client,
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    Timeout,
    TLSTimeout,
    WriteTimeout,
)
from protocols.http.testing import MockTransport, ReceivedRequest, Reply
from reactor import EndpointTimeoutError
from tests.peers.scripted import (
    OK,
    Conversation,
    black_hole,
    in_virtual_time,
    on_reactor,
    run,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import always_ok, says, says_nothing
from tests.protocols.http.client_checks import (
    NOTHING,
    check_failure,
    counts,
    failure_of,
    passes,
    until,
)
from tests.virtual_time import pass_time

pytestmark = pytest.mark.usefixtures("nothing_is_told")

SHORT = 0.05
URL = "http://peer.example/"


def timeout(**phases: float) -> Any:
    return Timeout(30, **phases)


@on_reactor
async def test_connect_has_its_own_time_and_error() -> None:
    with black_hole() as port:
        url = f"http://127.0.0.1:{port}/"
        error = await failure_of(url, timeout=timeout(connect=SHORT))
        check_failure(error, port, "connect", ConnectTimeout, EndpointTimeoutError, TimeoutError)


def test_tls_has_its_own_time_and_error(trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(says_nothing) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, timeout=timeout(tls=SHORT, connect=20), tls=trusting)
            check_failure(error, server.port, "tls", TLSTimeout, EndpointTimeoutError)

    run(main())


@on_reactor
async def test_pool_has_its_own_time_and_error_and_does_not_end_the_connecting() -> None:
    phases = timeout(pool=SHORT)
    async with (
        serving(says_nothing) as server,
        AsyncClient(max_per_host=1, timeout=phases) as client,
    ):
        first = asyncio.ensure_future(client.get(server.url()))
        await until(lambda: counts(client)["leased"] == 1)
        with pytest.raises(PoolTimeout) as caught:
            await client.get(server.url())
        check_failure(caught.value, server.port, "pool", PoolTimeout, EndpointTimeoutError)
        first.cancel()
        await asyncio.wait([first])
        assert counts(client) == NOTHING
    with black_hole() as port:
        error = await failure_of(f"http://127.0.0.1:{port}/", timeout=Timeout(SHORT, pool=0.001))
        check_failure(error, port, "connect", EndpointTimeoutError)
        assert type(error) is EndpointTimeoutError


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"]
)
@on_reactor
async def test_read_has_its_own_time_and_error(said: bytes) -> None:
    async with serving(says(said)) as server:
        error = await failure_of(server.url(), timeout=timeout(read=SHORT, write=20))
        check_failure(error, server.port, "read", ReadTimeout, EndpointTimeoutError)


@in_virtual_time
async def test_read_is_the_time_between_pieces_not_that_of_all() -> None:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(5):
            await pass_time(0.4 * SHORT)
            yield b"x"

    mock = MockTransport(lambda _: Reply(content=content()))
    async with AsyncClient(transport=mock, timeout=timeout(read=SHORT)) as client:
        response = await client.get(URL)
        assert response.elapsed.total_seconds() > SHORT
        assert response.content == b"xxxxx"


class OnceGood:
    """A script that answers once, and then says so much and no more."""

    def __init__(self, said: bytes, *, reads: bool = True) -> None:
        self.said, self.reads = said, reads

    async def __call__(self, peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        if not self.reads:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        elif await peer.request() is not None:
            await peer.send(self.said)
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
    ],
)
@on_reactor
async def test_read_of_a_used_connection_has_its_own_time_and_error(said: bytes) -> None:
    async with (
        serving(OnceGood(said)) as server,
        AsyncClient(timeout=timeout(read=SHORT, write=20)) as client,
    ):
        await client.get(server.url())
        with pytest.raises(ReadTimeout) as caught:
            await client.post(server.url(), json={"a": 1}, headers={"X-A": "b"})
        assert client.manager.stats()["reused"] == 1
        check_failure(caught.value, server.port, "read", ReadTimeout, EndpointTimeoutError)
        assert counts(client) == NOTHING


@on_reactor
async def test_total_of_a_used_connection_goes_before_its_read() -> None:
    async with (
        serving(OnceGood(b"")) as server,
        AsyncClient(timeout=Timeout(4 * SHORT, read=20)) as client,
    ):
        await client.get(server.url())
        error = await failure_of_call(client.get(server.url()))
        check_failure(error, server.port, "read", EndpointTimeoutError)
        assert type(error) is EndpointTimeoutError


async def failure_of_call(call: Any) -> BaseException:
    with pytest.raises(EndpointTimeoutError) as caught:
        await call
    return caught.value


@in_virtual_time
async def test_read_of_a_used_connection_is_the_time_between_pieces() -> None:
    async def content(pieces: int) -> AsyncIterator[bytes]:
        for _ in range(pieces):
            await pass_time(0.4 * SHORT)
            yield b"x"
        if pieces > 9:
            await pass_time(2 * SHORT)
            yield b"y"

    given = [1, 5, 5, 10]
    mock = MockTransport(lambda _: Reply(content=content(given.pop(0))))
    async with AsyncClient(transport=mock, timeout=timeout(read=SHORT)) as client:
        for size in (1, 5, 5):
            response = await client.get(URL)
            assert response.content == b"x" * size
        assert response.elapsed.total_seconds() > SHORT
        with pytest.raises(ReadTimeout):
            await client.get(URL)
        assert client.manager.stats()["reused"] == 3


@on_reactor
async def test_write_over_a_used_connection_has_its_own_time_and_error() -> None:
    phases = timeout(write=0.2, read=25)
    script = OnceGood(b"", reads=False)
    async with serving(script) as server, AsyncClient(timeout=phases) as client:
        await client.get(server.url())
        with pytest.raises(WriteTimeout) as caught:
            await client.post(server.url(), content=bytes(32 << 20))
        assert client.manager.stats()["reused"] == 1
        check_failure(caught.value, server.port, "write", WriteTimeout)
        assert counts(client) == NOTHING


@pytest.mark.parametrize("phases", [{"read": SHORT}, {"read": SHORT, "connect": 5.0, "write": 5.0}])
def test_blocking_read_of_a_used_connection_has_its_own_error(phases: dict[str, float]) -> None:
    with (
        serving_in_thread(OnceGood(b"")) as server,
        Client(timeout=timeout(**phases)) as client,
    ):
        client.get(server.url())
        with pytest.raises(ReadTimeout):
            client.get(server.url(), headers={"X-A": "b"})


@in_virtual_time
async def test_read_does_not_run_while_the_reader_is_slow() -> None:
    async def content() -> AsyncIterator[bytes]:
        for _ in range(128):
            yield bytes(1 << 16)

    mock = MockTransport(lambda _: Reply(content=content()))
    async with (
        AsyncClient(transport=mock, timeout=timeout(read=SHORT)) as client,
        client.stream("GET", URL) as response,
    ):
        pieces = aiter(response.aiter_raw())
        got = len(await anext(pieces))
        await pass_time(4 * SHORT)  # while nothing is asked of the server, which has more to send
        async for piece in pieces:
            got += len(piece)
        assert got == 128 << 16


@on_reactor
async def test_read_ends_a_streamed_body() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"
    async with serving(says(said)) as server, AsyncClient() as client:
        async with client.stream("GET", server.url(), timeout=timeout(read=SHORT)) as response:
            with pytest.raises(ReadTimeout):
                await response.aread()
        assert counts(client) == NOTHING


@pytest.mark.parametrize("in_pieces", [False, True])
@on_reactor
async def test_write_has_its_own_time_and_error(in_pieces: bool) -> None:
    async def reads_nothing(peer: Conversation) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async def pieces() -> Any:
        for _ in range(512):
            yield bytes(1 << 16)

    phases = timeout(write=0.2, read=25)
    async with serving(reads_nothing) as server, AsyncClient(timeout=phases) as client:
        with pytest.raises(WriteTimeout) as caught:
            await client.post(server.url(), content=pieces() if in_pieces else bytes(32 << 20))
        check_failure(caught.value, server.port, "write", WriteTimeout)
        assert counts(client) == NOTHING


@in_virtual_time
async def test_read_and_write_do_not_count_what_the_caller_takes() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await pass_time(4 * SHORT)
        yield b"b"

    mock = MockTransport(lambda request: Reply(content=request.content))
    async with AsyncClient(transport=mock) as client:
        phases = timeout(read=SHORT, write=SHORT)
        response = await client.post(URL, content=pieces(), timeout=phases)
        assert response.content == b"ab"


@in_virtual_time
async def test_total_is_over_redirects() -> None:
    async def redirect(request: ReceivedRequest) -> Reply:
        await pass_time(SHORT)
        return Reply(302, headers={"Location": f"{request.url}/x"})

    mock = MockTransport(redirect)
    options = {"follow_redirects": True, "max_redirects": 1000}
    error = await failure_of(URL, timeout=4 * SHORT, transport=mock, **options)
    check_failure(error, 80, "read", EndpointTimeoutError)
    assert len(mock.requests) == 4


@on_reactor
async def test_connection_is_the_same_with_phases_and_without() -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        await client.get(server.url())
        await client.get(server.url(), timeout=timeout(connect=10, read=10, write=10, pool=10))
        await client.get(server.url(), timeout=None)
        assert server.connections == 1
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_idle_connection_holds_no_task_of_who_made_it() -> None:
    async with serving(always_ok) as server, AsyncClient(timeout=timeout(connect=10)) as client:
        task = asyncio.ensure_future(client.get(server.url()))
        await task
        made = weakref.ref(task)
        del task
        await passes(3)
        gc.collect()
        assert made() is None
        assert counts(client) == {**NOTHING, "idle": 1}


def test_blocking_client_has_phases_too() -> None:
    with (
        serving_in_thread(says_nothing) as server,
        Client(timeout=timeout(read=SHORT)) as client,
        pytest.raises(ReadTimeout),
    ):
        client.get(server.url())


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_what_is_not_more_than_0_raises(bad: float) -> None:
    for name in ("total", "pool", "connect", "tls", "write", "read"):
        with pytest.raises(ValueError, match=f"{name} must be more than 0"):
            Timeout(**{name: bad})


@pytest.mark.parametrize("bad", ["5", (3, 10), True, object()])
@on_reactor
async def test_what_is_no_number_is_no_timeout(bad: Any) -> None:
    async with AsyncClient() as client:
        for make in (Timeout, lambda bad: AsyncClient(timeout=bad)):
            with pytest.raises(TypeError, match="is a number of seconds"):
                make(bad)
        with pytest.raises(TypeError, match="is a number of seconds, or a Timeout"):
            await client.get("http://127.0.0.1:1/", timeout=bad)

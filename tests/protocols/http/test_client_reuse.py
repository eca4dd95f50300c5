"""Which connections AsyncClient uses again, and which it must not."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import pytest

from protocols.http import AsyncClient, IncompleteResponseError, Response
from protocols.http.limits import MAX_STALE_RETRIES
from reactor import ConnectionLostError, EndpointTimeoutError
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
from tests.peers.scripts import always_ok, ends, says
from tests.protocols.http.client_checks import NOTHING, counts, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")


# -- reuse --------------------------------------------------------------------------------


@on_reactor
async def test_connections_are_reused_and_counted() -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        for _ in range(10):
            assert (await client.get(server.url())).content == b"ok"
        stats = client.manager.stats()
        assert (stats["opened"], stats["reused"], server.connections) == (1, 9, 1)


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


# -- bytes that belong to nobody ----------------------------------------------------------

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


# -- stale connections --------------------------------------------------------------------


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
    pool: Any = EndsUnasked()

    class Fooled(AsyncClient):
        _manager = pool

    async with Fooled() as client:
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

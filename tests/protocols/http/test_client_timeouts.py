"""AsyncClient's timeout, phase by phase: each is named in its error and leaves nothing."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient
from reactor import EndpointTimeoutError
from tests.peers.scripted import black_hole, on_reactor, run, serving
from tests.peers.scripts import always_ok, says, says_nothing
from tests.protocols.http.client_checks import NOTHING, check_failure, counts, failure_of, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")


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
            error = await failure_of(url, timeout=0.5, tls=trusting)
            check_failure(error, server.port, "tls", EndpointTimeoutError, TimeoutError)

    run(main())


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"]
)
@on_reactor
async def test_timeout_while_reading(said: bytes) -> None:
    async with serving(says(said)) as server:
        error = await failure_of(server.url(), timeout=0.5)
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
        async with client.stream("GET", server.url(), timeout=0.5) as response:
            pieces = response.aiter_bytes()
            assert await anext(pieces) == b"some"
            with pytest.raises(EndpointTimeoutError):
                await anext(pieces)
        assert counts(client) == NOTHING


@pytest.mark.parametrize("timeout", [None, 1e9, 1e10, 1e300, float("inf")])
@on_reactor
async def test_long_timeout_is_no_limit(timeout: float | None) -> None:
    async with serving(always_ok) as server, AsyncClient(timeout=timeout) as client:
        assert (await client.get(server.url())).content == b"ok"
        assert (await client.get(server.url(), timeout=timeout)).content == b"ok"

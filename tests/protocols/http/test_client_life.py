"""How AsyncClient and its requests end: closed, cancelled, on another loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient, ClientClosedError, Timeout
from reactor import ConnectionLostError
from tests.peers.scripted import Authority, Server, on_reactor, run, serving, serving_in_thread
from tests.peers.scripts import always_ok, says_nothing
from tests.protocols.http.client_checks import NOTHING, counts, passes, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")


# -- closing, and the loop ----------------------------------------------------------------


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


@pytest.mark.parametrize("timeout", [20.0, Timeout(total=20.0, pool=20.0)], ids=["total", "phases"])
@on_reactor
async def test_close_ends_what_is_under_way(timeout: float | Timeout) -> None:
    async with serving(says_nothing) as server:
        client = AsyncClient(max_per_host=1, timeout=timeout)
        under_way = asyncio.ensure_future(client.get(server.url()))
        waiting = asyncio.ensure_future(client.get(server.url()))
        await until(lambda: counts(client) == {**NOTHING, "leased": 1, "waiting": 1})
        await client.manager.close(timeout=0.01)
        await client.aclose()
        with pytest.raises(ConnectionLostError):
            await under_way
        with pytest.raises(ClientClosedError):
            await waiting
        assert counts(client) == NOTHING


@pytest.mark.parametrize("timeout", [20.0, Timeout(total=20.0, pool=20.0)], ids=["total", "phases"])
@on_reactor
async def test_close_ends_a_request_whose_connection_is_being_opened(
    timeout: float | Timeout,
) -> None:
    async with serving(says_nothing) as server:
        client = AsyncClient(timeout=timeout)
        opening = asyncio.ensure_future(client.get(f"https://127.0.0.1:{server.port}/"))
        await until(lambda: counts(client) == {**NOTHING, "opening": 1})
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await opening
        assert counts(client) == NOTHING


@on_reactor
async def test_repr_tells_the_state() -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        await client.get(server.url())
        assert f"http://127.0.0.1:{server.port}: 0 leased, 1 idle" in repr(client)


# -- cancellation at every await point ----------------------------------------------------


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

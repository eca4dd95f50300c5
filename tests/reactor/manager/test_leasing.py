"""Leasing connections of any protocol and giving them back, on every poller."""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import sys
from typing import Any

import pytest

from reactor import (
    ConnectionLostError,
    ConnectionManager,
    Endpoint,
    Protocol,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    QUIET,
    Asker,
    Peer,
    check,
    counts,
    numbers,
    play,
    settle,
    until,
)


def test_any_protocol_is_pooled_and_reused(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        protocols = set()
        for number in range(5):
            async with manager.lease(Asker, peer.endpoint) as asker:
                assert await asker.ask(b"%d" % number) == b"%d" % number
                protocols.add(asker)
                assert counts(manager) == {**NOTHING, "leased": 1}
        assert len(protocols) == 1
        assert numbers(manager) == {**QUIET, "idle": 1, "opened": 1, "reused": 4}
        await manager.close()
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_protocol_of_the_standard_library_is_pooled_as_well(loop: EventLoop) -> None:
    @dataclasses.dataclass  # which makes it equal to its like, and not hashable
    class Stock(asyncio.Protocol):
        name: str = "stock"

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(Stock, peer.endpoint)
        two = await manager.acquire(Stock, peer.endpoint)
        assert one == two
        assert one is not two
        manager.release(one)
        manager.release(two)
        assert await manager.acquire(Stock, peer.endpoint) is two
        await until(lambda: len(peer.transports) == 2)
        peer.transports[1].abort()
        await until(lambda: counts(manager)["leased"] == 0)
        manager.release(two)  # lost meanwhile
        with pytest.raises(ValueError, match="not leased"):
            manager.release(two)
        await manager.close()

    play(loop, scenario)


def test_factory_that_returns_the_same_protocol_twice_is_refused(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        shared = asyncio.Protocol()
        await manager.acquire(lambda: shared, peer.endpoint)
        with pytest.raises(ValueError, match="second connection"):
            await manager.acquire(lambda: shared, peer.endpoint)
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(shared)
        await manager.close()
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_lease_that_raises_discards(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(ZeroDivisionError):
            async with manager.lease(Asker, peer.endpoint):
                raise ZeroDivisionError
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_create_and_destroy_uses_each_connection_once(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(behavior="create_and_destroy", max_connections=1)
        for _ in range(3):
            async with manager.lease(Asker, peer.endpoint) as asker:
                await asker.ask(b"x")
            with pytest.raises(ValueError, match="not leased"):
                manager.release(asker)
        assert numbers(manager) == {**QUIET, "closing": 1, "opened": 3, "reused": 0}
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("give", ["release", "discard"])
def test_giving_back_twice_or_what_is_not_leased_raises_and_changes_nothing(
    loop: EventLoop, give: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager, other = ConnectionManager(), ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        for foreign in (Asker(), asyncio.Protocol(), None, object()):
            with pytest.raises(ValueError, match="not leased"):
                getattr(manager, give)(foreign)
        with pytest.raises(ValueError, match="not leased"):
            getattr(other, give)(asker)
        assert counts(manager) == {**NOTHING, "leased": 1}
        getattr(manager, give)(asker)
        before = counts(manager)
        for again in ("release", "discard"):
            with pytest.raises(ValueError, match="not leased"):
                getattr(manager, again)(asker)
        assert counts(manager) == before
        await settle()
        with pytest.raises(ValueError, match="not leased"):
            getattr(manager, give)(asker)
        await manager.close()
        check(manager)

    play(loop, scenario)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_connections": 0}, ValueError),
        ({"max_per_endpoint": -1}, ValueError),
        ({"max_waiting": -1}, ValueError),
        ({"idle_seconds": -0.1}, ValueError),
        ({"idle_seconds": float("nan")}, ValueError),
        ({"behavior": "reuse"}, ValueError),
        ({"max_connections": "many"}, TypeError),
    ],
)
def test_bad_option_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ConnectionManager(**options)


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        (Endpoint("s", "", 80), ValueError),
        (Endpoint("s", "a\0b", 80), ValueError),
        (Endpoint("s", "127.0.0.1", 0), ValueError),
        (Endpoint("s", "127.0.0.1", 65536), ValueError),
        (Endpoint("s", 7, 80), TypeError),  # type: ignore[arg-type]
        (Endpoint("s", "127.0.0.1", "80"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_bad_endpoint_is_refused_and_costs_nothing(
    loop: EventLoop, endpoint: Endpoint, error: type[Exception]
) -> None:
    async def main() -> None:
        manager = ConnectionManager(max_connections=1)
        with pytest.raises(error):
            await manager.acquire(Asker, endpoint)
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        await manager.close()

    loop.run_until_complete(main())


def test_manager_belongs_to_one_loop(loop: EventLoop) -> None:
    manager = ConnectionManager()

    async def scenario(peer: Peer) -> None:
        asker = await manager.acquire(Asker, peer.endpoint)

        def elsewhere() -> None:
            other = EventLoop()
            with contextlib.closing(other):
                with pytest.raises(RuntimeError, match="another event loop"):
                    other.run_until_complete(manager.acquire(Asker, peer.endpoint))
                with pytest.raises(RuntimeError, match="another event loop"):
                    other.run_until_complete(manager.close())

        with concurrent.futures.ThreadPoolExecutor() as threads:
            threads.submit(elsewhere).result()
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_factory_that_raises_frees_the_slot(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        for error in (ZeroDivisionError, OSError, TimeoutError):

            def factory(error: type[Exception] = error) -> Any:
                raise error("mine")

            with pytest.raises(error, match=r"^mine$"):
                await manager.acquire(factory, peer.endpoint)
        assert counts(manager) == NOTHING
        await settle()
        assert peer.open == 0
        await manager.close()

    play(loop, scenario)


def test_connection_closed_in_connection_made_is_an_error_of_the_endpoint(
    loop: EventLoop,
) -> None:
    class Shy(Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.close()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(ConnectionLostError, match="before it could be used"):
            await manager.acquire(Shy, peer.endpoint)
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_acquire_is_a_coroutine_like_any_other(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()

        def again() -> Any:
            return manager.acquire(Asker, peer.endpoint)

        assert isinstance(again(), collections.abc.Coroutine)
        assert counts(manager) == NOTHING  # nothing happens before it is awaited
        asker = await asyncio.create_task(again())
        manager.release(asker)
        for start in (again, lambda: manager.acquire(Asker, peer.endpoint, fresh=True)):
            for step in range(2):
                before = numbers(manager)
                caller = start()
                if step and start is not again:
                    caller.send(None)
                with pytest.raises(ZeroDivisionError):
                    caller.throw(ZeroDivisionError("mine"))
                with pytest.raises(RuntimeError, match="reuse"):
                    await caller
                caller.close()
                await settle()
                assert numbers(manager) == before
        with pytest.raises(StopIteration) as caught:
            again().send(None)  # as a Python caller does
        assert caught.value.value is asker
        manager.release(asker)
        with pytest.raises(StopIteration) as stopped:
            next(again())  # as await does since Python 3.12
        assert stopped.value.value is asker
        manager.release(asker)
        done = again()
        assert await done is asker
        with pytest.raises(RuntimeError, match="reuse"):
            await done
        manager.release(asker)
        closed = again()
        closed.close()
        with pytest.raises(RuntimeError, match="reuse"):
            await closed
        opening = manager.acquire(Asker, peer.endpoint, fresh=True)
        opening.send(None)
        opening.close()
        await settle()
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_leases_leave_no_reference_behind(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        async with manager.lease(Asker, peer.endpoint) as asker:
            pass
        counted = (asker, peer.endpoint, manager, Asker)

        async def use() -> None:
            for _ in range(1000):
                manager.release(await manager.acquire(Asker, peer.endpoint))
                manager.acquire(Asker, peer.endpoint).close()
            held = await manager.acquire(Asker, peer.endpoint)
            waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
            await settle()
            manager.release(held)
            manager.release(await waiting)

        await use()
        before = [sys.getrefcount(each) for each in counted]
        await use()
        assert [sys.getrefcount(each) for each in counted] == before
        await manager.close()

    play(loop, scenario)

"""How connections end: idle, old, used up, drained, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from reactor import (
    ConnectionManager,
    ConnectRefusedError,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Events,
    Peer,
    check,
    counts,
    play,
    settle,
    until,
)
from tests.virtual_time import pass_time


def test_idle_connections_expire_by_the_loops_own_timer(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        events = Events()
        manager = ConnectionManager(idle_seconds=0.02, on_event=events)
        askers = [await manager.acquire(Asker, peer.endpoint) for _ in range(3)]
        began = loop.time()
        for asker in askers[:2]:
            manager.release(asker)
        closed = await events.wait("closed", 2)
        assert loop.time() - began > 0.0199
        assert [each.reason for each in closed] == ["idle", "idle"]
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(askers[2])
        await events.wait("closed", 3)
        await settle()
        assert loop.stats()["timers"] == 0
        await manager.close()

    play(loop, scenario)


def test_connection_that_is_used_again_in_time_does_not_expire(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=10)
        asker = await manager.acquire(Asker, peer.endpoint)
        for _ in range(5):
            manager.release(asker)
            await pass_time(9)
            assert manager.take(peer.endpoint) is asker
        manager.release(asker)
        await pass_time(11)
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_connection_that_is_too_old_goes_when_it_is_idle_or_given_back(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=1000, max_age_seconds=10)
        kept = await manager.acquire(Asker, peer.endpoint)
        idle = await manager.acquire(Asker, peer.endpoint)
        manager.release(idle)
        await pass_time(6)
        young = await manager.acquire(Asker, peer.endpoints[1])
        manager.release(young)
        await pass_time(6)
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 1}
        assert await kept.ask(b"x") == b"x"
        manager.release(kept)
        await settle()
        assert manager.stats()["closed"] == {"age": 2}
        assert manager.take(peer.endpoints[1]) is young
        manager.release(young)
        await pass_time(6)
        assert manager.stats()["closed"] == {"age": 3}
        assert not manager._by_age
        await manager.close()

    play(loop, scenario)


def test_connection_is_leased_no_more_often_than_it_may(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_uses=3)
        askers = []
        for _ in range(7):
            async with manager.lease(Asker, peer.endpoint) as asker:
                await asker.ask(b"x")
                askers.append(asker)
        assert [askers.index(each) for each in askers] == [0, 0, 0, 3, 3, 3, 6]
        await settle()
        assert manager.stats()["closed"] == {"uses": 2}
        await manager.close()

    play(loop, scenario)


def test_use_by_a_waiter_counts_as_well(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_uses=2, max_connections=1)
        one = await manager.acquire(Asker, peer.endpoint)
        tasks = [asyncio.ensure_future(manager.acquire(Asker, peer.endpoint)) for _ in range(2)]
        await settle()
        manager.release(one)
        assert await tasks[0] is one
        manager.release(one)
        other = await tasks[1]
        assert other is not one
        manager.release(other)
        await manager.close()

    play(loop, scenario)


# -- warm and drained ---------------------------------------------------------------------------


def test_prewarm_opens_what_is_missing_and_leaves_it_idle(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_uses=1)
        leased = await manager.acquire(Asker, peer.endpoint)
        assert await manager.prewarm(Asker, peer.endpoint, count=4) == 3
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 3}
        assert await manager.prewarm(Asker, peer.endpoint, count=4) == 0
        assert manager.take(peer.endpoint) is not None  # a first use: opening was none
        manager.release(leased)
        check(manager)
        await manager.close(timeout=0)

    play(loop, scenario)


def test_prewarm_takes_free_slots_and_nothing_else(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=3)
        async with manager.lease(Asker, peer.endpoints[0]):
            pass
        assert await manager.prewarm(Asker, peer.endpoints[1], count=3) == 2
        assert counts(manager) == {**NOTHING, "idle": 3}
        assert await manager.prewarm(Asker, peer.endpoints[2], count=3) == 0
        assert len(manager._policy.pools) == 2
        await manager.close()

    play(loop, scenario)


def test_prewarm_that_fails_leaves_nothing(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=5)
        with pytest.raises(ConnectRefusedError):
            await manager.prewarm(Asker, peer.endpoint._replace(port=1), count=3)
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        for count in (0, 6):
            with pytest.raises(ValueError, match="count is 1 to 5"):
                await manager.prewarm(Asker, peer.endpoint, count=count)
        with pytest.raises(ValueError, match="nothing to keep"):
            await ConnectionManager(behavior="create_and_destroy").prewarm(
                Asker, peer.endpoint, count=1
            )
        await manager.close()

    play(loop, scenario)


def test_drain_ends_what_there_is_and_lets_new_ones_open(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        old = [await manager.acquire(Asker, peer.endpoint) for _ in range(3)]
        other = await manager.acquire(Asker, peer.endpoints[1])
        manager.release(old[0])
        draining = asyncio.ensure_future(manager.drain(peer.endpoint))
        await settle()
        assert not draining.done()
        assert counts(manager) == {**NOTHING, "leased": 3}
        new = await manager.acquire(Asker, peer.endpoint)
        assert new not in old
        manager.release(new)
        assert await old[1].ask(b"still") == b"still"
        manager.release(old[1])
        manager.discard(old[2])
        await draining
        assert manager.stats()["closed"] == {"drained": 3}
        assert manager.take(peer.endpoint) is new
        manager.release(new)
        manager.release(other)
        await manager.drain()
        assert manager.stats()["closed"] == {"drained": 5}
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_drain_is_bounded(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        await manager.drain(timeout=0)
        assert asker.transport is None
        manager.release(asker)
        assert counts(manager) == NOTHING
        assert not manager._all()
        await manager.close()

    play(loop, scenario)


# -- closing ------------------------------------------------------------------------------------


def test_expiry_of_zero_seconds_closes_in_the_next_pass(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=0)
        async with manager.lease(Asker, peer.endpoint):
            pass
        await until(lambda: counts(manager) == NOTHING)
        await manager.close()

    play(loop, scenario)


def test_close_ends_idle_waiting_and_leased(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        leased = await manager.acquire(Asker, peer.endpoints[0])
        idle = await manager.acquire(Asker, peer.endpoints[1])
        waiting = [
            asyncio.ensure_future(manager.acquire(Asker, endpoint)) for endpoint in peer.endpoints
        ]
        await settle()
        closing = asyncio.ensure_future(manager.close(timeout=0.01))
        again = asyncio.ensure_future(manager.close(timeout=0.01))
        await settle()
        manager.release(idle)
        for task in waiting:
            with pytest.raises(RuntimeError, match="closed"):
                await task
        with pytest.raises(RuntimeError, match="closed"):
            manager.take(peer.endpoints[1])
        with pytest.raises(RuntimeError, match="closed"):
            await manager.acquire(Asker, peer.endpoint)
        await closing
        await again
        assert counts(manager) == NOTHING
        assert leased.transport is None
        manager.discard(leased)
        await manager.close()
        check(manager)

    play(loop, scenario)


def test_close_waits_for_those_that_give_back_in_time(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        closing = asyncio.ensure_future(manager.close())
        await settle()
        assert await asker.ask(b"still") == b"still"
        assert not closing.done()
        manager.release(asker)
        await closing
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_close_ends_what_is_being_opened_and_waits_for_it(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        class Hanging:
            async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
                await asyncio.Event().wait()
                return []

        manager = ConnectionManager(resolver=Hanging())  # type: ignore[arg-type]
        openings = [asyncio.ensure_future(manager.acquire(Asker, peer.endpoint)) for _ in range(3)]
        await settle()
        assert counts(manager) == {**NOTHING, "opening": 3}
        await manager.close()
        assert counts(manager) == NOTHING
        for opening in openings:
            with pytest.raises(RuntimeError, match="closed"):
                await opening
        check(manager)

    play(loop, scenario)


def test_close_ends_although_the_end_of_a_connection_was_swallowed(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        asker.transport.lost_callback = None  # as when it was never reached
        await manager.close(timeout=0.01)

    play(loop, scenario)

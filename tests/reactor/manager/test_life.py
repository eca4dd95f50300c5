"""How connections end: idle, old, used up, drained, closed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reactor import (
    ConnectionManager,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Peer,
    check,
    counts,
    play,
    settle,
    until,
)


def test_idle_connections_expire_by_the_loops_own_timer(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=0.05)
        askers = [await manager.acquire(Asker, peer.endpoint) for _ in range(3)]
        began = loop.time()
        for asker in askers:
            manager.release(asker)
            await asyncio.sleep(0.005)
        await until_idle_is(manager, 2)
        assert loop.time() - began >= 0.05
        assert manager.take(peer.endpoint) is askers[2]
        await until_idle_is(manager, 0)
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(askers[2])
        await until_idle_is(manager, 0)
        await settle()
        assert loop.stats()["timers"] == 0
        await manager.close()

    play(loop, scenario)


async def until_idle_is(manager: ConnectionManager, count: int) -> None:
    while counts(manager)["idle"] != count:  # noqa: ASYNC110 - the clock may be a virtual one
        await asyncio.sleep(0.001)


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
        assert manager.take(peer.endpoints[1]) is None
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

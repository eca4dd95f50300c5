"""One connection leased to several callers at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reactor import ConnectionManager
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import NOTHING, Asker, Peer, check, counts, play, settle


class Shared(Asker):
    """A protocol that serves three callers at a time."""

    max_leases = 3


def test_connection_is_leased_up_to_its_own_limit_before_another_is_opened(
    loop: EventLoop,
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        leases = [await manager.acquire(Shared, peer.endpoint) for _ in range(7)]
        assert [leases.index(each) for each in leases] == [0, 0, 0, 3, 3, 3, 6]
        assert counts(manager) == {**NOTHING, "leased": 3}
        check(manager)
        for each in leases:
            manager.release(each)
        assert counts(manager) == {**NOTHING, "idle": 3}
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_callers_that_wait_share_what_was_opened(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        tasks = [asyncio.ensure_future(manager.acquire(Shared, peer.endpoint)) for _ in range(5)]
        one = await tasks[0]
        assert await tasks[1] is one
        assert await tasks[2] is one
        await settle()
        assert counts(manager) == {**NOTHING, "leased": 1, "waiting": 2}
        check(manager)
        manager.release(one)
        assert await tasks[3] is one
        manager.set_max_leases(one, 4)
        assert await tasks[4] is one
        for _ in range(4):
            manager.release(one)
        with pytest.raises(ValueError, match="not leased"):
            manager.release(one)
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_connection_with_a_limit_of_none_is_closed_when_its_last_lease_ends(
    loop: EventLoop,
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(Shared, peer.endpoint)
        assert manager.take(peer.endpoint) is one
        manager.set_max_leases(one, 0)  # as after a GOAWAY
        assert manager.take(peer.endpoint) is None
        assert await one.ask(b"x") == b"x"
        manager.release(one)
        assert await one.ask(b"y") == b"y"
        manager.release(one)
        await settle()
        assert counts(manager) == NOTHING
        manager.set_max_leases(one, 5)  # gone: nothing happens
        with pytest.raises(ValueError, match="not leased"):
            manager.release(one)
        await manager.close()

    play(loop, scenario)


def test_idle_connection_with_a_limit_of_none_is_closed_at_once(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        async with manager.lease(Shared, peer.endpoint) as one:
            pass
        manager.set_max_leases(one, 0)
        assert counts(manager)["idle"] == 0
        with pytest.raises(ValueError, match="negative"):
            manager.set_max_leases(one, -1)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("give", ["release", "discard"])
def test_connection_lost_under_several_callers_is_given_back_by_each(
    loop: EventLoop, give: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(Shared, peer.endpoint)
        for _ in range(2):
            assert manager.take(peer.endpoint) is one
        await one.ask(b"x")
        peer.transports[0].abort()
        while one.transport is not None:  # noqa: ASYNC110 - it is the peer's
            await asyncio.sleep(0)
        assert manager.take(peer.endpoint) is None
        for _ in range(3):
            assert len(manager._all()) == 1
            getattr(manager, give)(one)
        assert not manager._all()
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_discard_ends_it_for_all(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(Shared, peer.endpoint)
        assert manager.take(peer.endpoint) is one
        manager.discard(one)
        assert manager.take(peer.endpoint) is None
        await settle()
        assert one.transport is None
        manager.release(one)
        assert not manager._all()
        await manager.close()

    play(loop, scenario)


def test_connection_that_closes_under_its_callers_is_lent_to_nobody_else(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(Shared, peer.endpoint)
        assert manager.take(peer.endpoint) is one
        one.transport.close()
        other = await manager.acquire(Shared, peer.endpoint)
        assert other is not one
        for each in (one, one, other):
            manager.release(each)
        check(manager)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), ("many", TypeError)])
def test_bad_limit_of_a_protocol_is_refused_and_its_connection_ended(
    loop: EventLoop, limit: Any, error: type[Exception]
) -> None:
    class Bad(Asker):
        max_leases = limit

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(error, match="max_leases"):
            await manager.acquire(Bad, peer.endpoint)
        await settle()
        assert counts(manager) == NOTHING
        assert peer.open == 0
        await manager.close()

    play(loop, scenario)

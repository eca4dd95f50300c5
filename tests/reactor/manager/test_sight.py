"""What can be seen of a manager: counters, histograms, events, its repr."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from typing import Any

import pytest

import reactor.manager.manager as manager_module
from reactor import ConnectionManager, ConnectRefusedError, PoolClosedError, PoolEvent
from reactor.eventloop import EventLoop
from reactor.manager import leases
from tests.reactor.manager.peer import NOTHING, Asker, Events, Peer, counts, play, settle


def test_repr_tells_the_whole_state(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        asker = await manager.acquire(Asker, peer.endpoint)
        assert f"1 of 2 connections: <{peer.endpoint}: 1 leased, 0 idle" in repr(manager)
        assert "0 opening, 0 closing, 0 waiting>" in repr(manager)
        manager.release(asker)
        await manager.close()
        assert "closed" in repr(manager)

    play(loop, scenario)


def test_snapshot_tells_what_happened_and_cannot_change_it(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        opening = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()  # in which simulated time passes, too
        manager.release(await opening)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        late = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        late.cancel()
        await asyncio.wait([late])
        manager.release(asker)
        manager.discard(await waiting)
        with pytest.raises(ConnectRefusedError):
            await manager.acquire(Asker, peer.endpoint._replace(port=1))
        stats = manager.stats()
        assert (stats["opened"], stats["reused"], stats["failed"], stats["gave_up"]) == (1, 2, 1, 1)
        assert stats["closed"] == {"discarded": 1}
        for name, count in (("wait_seconds", 2), ("connect_seconds", 1)):
            histogram: Any = stats[name]  # type: ignore[literal-required]
            assert histogram["count"] == count
            assert histogram["sum"] > 0
            *lower, (end, highest) = histogram["buckets"].items()
            assert (end, highest) == (math.inf, count)
            assert [each for _, each in lower] == sorted(each for _, each in lower)
        stats["closed"]["discarded"] = 7
        stats["wait_seconds"]["buckets"].clear()
        assert manager.stats()["closed"] == {"discarded": 1}
        assert manager.stats()["wait_seconds"]["buckets"]
        await manager.close()

    play(loop, scenario)


def test_hook_is_told_of_each_thing_that_happens(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        events = Events()
        manager = ConnectionManager(max_connections=1, on_event=events)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        late = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        late.cancel()
        await settle()
        manager.release(asker)
        manager.release(await waiting)
        await manager.close()
        with contextlib.suppress(PoolClosedError):
            await manager.acquire(Asker, peer.endpoint)
        kinds = [each.kind for each in events.seen]
        assert kinds == ["opened", "gave_up", "waited", "reused", "released", "closed"]
        assert {each.endpoint for each in events.seen} == {peer.endpoint}
        assert [each.reason for each in events.seen] == [None] * 5 + ["closed"]
        assert all(each.seconds >= 0 for each in events.seen)

    play(loop, scenario)


def test_hook_that_raises_costs_no_connection(loop: EventLoop) -> None:
    def hook(event: PoolEvent) -> None:
        raise ZeroDivisionError

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(on_event=hook)
        async with manager.lease(Asker, peer.endpoint) as asker:
            assert await asker.ask(b"x") == b"x"
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)
    reported = loop.reported  # type: ignore[attr-defined]
    assert [type(each["exception"]) for each in reported] == [ZeroDivisionError] * 3
    assert "on_event failed for" in reported[0]["message"]
    reported.clear()


def test_without_a_hook_no_event_is_made(loop: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any) -> None:
        raise AssertionError("an event for nobody")

    for module in (leases, manager_module):
        monkeypatch.setattr(module, "PoolEvent", made)

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = [asyncio.ensure_future(manager.acquire(Asker, peer.endpoint)) for _ in range(2)]
        await settle()
        waiting[0].cancel()
        manager.release(asker)
        manager.release(await waiting[1])
        manager.release(await manager.acquire(Asker, peer.endpoint))
        with pytest.raises(ConnectRefusedError):
            await manager.acquire(Asker, peer.endpoint._replace(port=1))
        await manager.close()

    play(loop, scenario)


def test_idle_manager_costs_no_timer_and_no_thread(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        before = threading.active_count()
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        assert loop.stats()["timers"] == 0
        manager.release(asker)
        assert loop.stats()["timers"] == 1
        assert threading.active_count() == before
        await manager.close()

    play(loop, scenario)

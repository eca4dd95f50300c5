"""Callers that give up at any moment, and slots that survive it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections import Counter
from typing import Any

import pytest

from reactor import (
    ConnectionManager,
    EndpointTimeoutError,
)
from reactor.eventloop import EventLoop
from reactor.pollers import default_poller, new_poller
from reactor.testing import simulated_loop
from tests.effort import effort
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Peer,
    check,
    counts,
    play,
    settle,
)


def test_waiter_that_is_cancelled_is_passed_over(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks = [asyncio.ensure_future(manager.acquire(Asker, peer.endpoint)) for _ in range(3)]
        await settle()
        tasks[0].cancel()
        manager.release(asker)  # before the first has left the queue
        assert await tasks[1] is asker
        manager.release(asker)
        assert await tasks[2] is asker
        manager.release(asker)
        assert tasks[0].cancelled()
        check(manager)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_endpoint_whose_only_waiter_is_cancelled_when_its_turn_comes_is_forgotten(
    loop: EventLoop, serve: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoints[0])
        task = asyncio.ensure_future(manager.acquire(Asker, peer.endpoints[1]))
        await settle()
        task.cancel()
        getattr(manager, serve)(asker)
        await asyncio.wait([task])
        await settle()
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_waiter_that_is_cancelled_when_it_was_just_served_passes_it_on(
    loop: EventLoop, serve: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks = [asyncio.ensure_future(manager.acquire(Asker, peer.endpoint)) for _ in range(2)]
        await settle()
        getattr(manager, serve)(asker)
        tasks[0].cancel()
        manager.release(await tasks[1])
        assert tasks[0].cancelled()
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()

    play(loop, scenario)


# -- at random ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(3, 2), (10, 3)])
def test_random_operations_lose_nothing(loop: EventLoop, limits: tuple[int, int]) -> None:
    """Callers at four endpoints that wait, time out, are cancelled, lose and give back."""
    dice = random.Random(4711)
    operations = 5_000

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(
            max_connections=limits[0], max_per_endpoint=limits[1], idle_seconds=0.001
        )
        held: list[Any] = []
        outcomes = {"kept": 0, "cancelled": 0, "timed out": 0}

        async def use() -> None:
            endpoint = dice.choice(peer.endpoints)
            deadline = loop.time() if dice.random() < 0.1 else None
            try:
                asker = await manager.acquire(
                    Asker, endpoint, deadline=deadline, fresh=dice.random() < 0.05
                )
            except EndpointTimeoutError:
                outcomes["timed out"] += 1
                return
            held.append(asker)
            asks = False
            try:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                if dice.random() < 0.2 and asker.transport and not asker.transport.is_closing():
                    asks = True
                    assert await asker.ask(b"x") == b"x"
                    asks = False
            finally:
                held.remove(asker)
                if asks or dice.random() < 0.2:
                    manager.discard(asker)
                else:
                    manager.release(asker)
                outcomes["kept"] += 1

        tasks: dict[asyncio.Task[None], None] = {}  # in order, so that the dice decide all
        for _ in range(operations):
            task = asyncio.ensure_future(use())
            tasks[task] = None
            task.add_done_callback(tasks.pop)
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            if tasks and dice.random() < 0.3:
                victim = dice.choice(list(tasks))
                if victim.cancel():
                    outcomes["cancelled"] += 1
            if peer.transports and dice.random() < 0.02 and not held:
                dice.choice(peer.transports).abort()
            check(manager)
            while len(tasks) > 30:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks:
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                assert result is None or isinstance(result, asyncio.CancelledError)
        check(manager)
        assert min(outcomes.values()) > operations // 200, outcomes
        stats = counts(manager)
        assert (stats["leased"], stats["opening"], stats["waiting"]) == (0, 0, 0)
        await manager.close()
        assert counts(manager) == NOTHING
        assert not manager._all()
        await settle()
        assert not manager._policy.pools
        assert peer.open == 0
        gc.collect()

    play(loop, scenario)


class Counted(Asker):
    """Counts itself while it is connected; sometimes two are leased at a time."""

    open = 0
    highest = 0

    def connection_made(self, transport: Any) -> None:
        Counted.open += 1
        Counted.highest = max(Counted.highest, Counted.open)

    def connection_lost(self, exc: BaseException | None) -> None:
        Counted.open -= 1


@pytest.mark.parametrize(
    ("poller", "acquires"),
    [(default_poller(), effort(20_000, 100_000)), ("simulated", effort(5_000, 20_000))],
)
def test_acquires_with_cancellation_anywhere_lose_no_slot(poller: str, acquires: int) -> None:
    """A victim is cancelled a random number of passes after it began: at every await there is."""
    dice = random.Random(20_261_124)
    limit, tasks_at_a_time = 10, 60
    loop = simulated_loop() if poller == "simulated" else EventLoop(new_poller(poller))
    Counted.open = Counted.highest = 0
    outcomes: Counter[str] = Counter()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=limit, max_per_endpoint=4, max_waiting=acquires)

        async def use() -> None:
            asker = await manager.acquire(
                Counted, dice.choice(peer.endpoints), fresh=dice.random() < 0.02
            )
            is_good = False
            try:
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
                is_good = dice.random() < 0.97
            finally:
                if is_good:
                    manager.release(asker)
                else:
                    manager.discard(asker)
            outcomes["done"] += 1

        async def caller(share: int) -> None:
            for _ in range(share):
                task = asyncio.ensure_future(use())
                if dice.random() < 0.4:
                    for _ in range(dice.randrange(8)):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                if task.cancelled():
                    outcomes["cancelled"] += 1
                else:
                    task.result()
                if dice.random() < 0.01:
                    check(manager)

        await asyncio.gather(
            *(caller(acquires // tasks_at_a_time + 1) for _ in range(tasks_at_a_time))
        )
        check(manager)
        await settle()
        assert outcomes["done"] + outcomes["cancelled"] >= acquires  # no waiter was lost
        assert outcomes["cancelled"] > acquires // 20
        stats = manager.stats()
        assert (stats["leased"], stats["opening"], stats["waiting"]) == (0, 0, 0)
        assert stats["idle"] + stats["closing"] == manager._policy.total == Counted.open
        assert Counted.highest == limit
        await manager.close()
        assert Counted.open == manager._policy.total == 0
        assert not manager._all()
        assert not manager._policy.pools

    with contextlib.closing(loop):
        play(loop, scenario)
        assert not any(loop.stats().values())

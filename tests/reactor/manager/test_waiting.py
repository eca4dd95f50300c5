"""Who waits in a pool's queue: woken once, in turn, and out of it however it ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from reactor import (
    ConnectionManager,
    EndpointTimeoutError,
    PoolClosedError,
    PoolEvent,
    PoolFullError,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Peer,
    Strict,
    check,
    counts,
    play,
    settle,
    until,
)


def lined_up(manager: ConnectionManager, peer: Peer, count: int, **options: Any) -> list[Any]:
    """Return tasks that acquire a connection, which will have joined the queue in a pass."""
    return [
        asyncio.ensure_future(manager.acquire(Asker, peer.endpoint, **options))
        for _ in range(count)
    ]


def test_callers_are_served_in_the_order_in_which_they_came(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        served: list[int] = []

        async def use(number: int) -> None:
            got = await manager.acquire(Asker, peer.endpoint)
            served.append(number)
            manager.release(got)

        tasks = [asyncio.ensure_future(use(number)) for number in range(20)]
        await settle()
        manager.release(asker)
        latecomer = asyncio.ensure_future(use(20))
        await asyncio.gather(*tasks, latecomer)
        assert served == list(range(21))
        assert manager.stats()["opened"] == 1
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard", "late discard"])
@pytest.mark.parametrize("count", [1, 30, 600])
def test_slot_survives_that_all_who_wait_are_cancelled_when_it_comes_free(
    loop: EventLoop, count: int, serve: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks = lined_up(manager, peer, count)
        await settle()
        if serve == "discard":
            manager.discard(asker)  # its slot comes free in the next pass, before they leave
        for task in tasks:
            task.cancel()
        if serve == "release":
            manager.release(asker)
        elif serve == "late discard":
            manager.discard(asker)
        await asyncio.wait(tasks)
        await settle()
        assert counts(manager) == {**NOTHING, "idle": int(serve == "release")}
        assert manager.stats()["gave_up"] == count
        check(manager)
        manager.release(await manager.acquire(Asker, peer.endpoint))
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_every_caller_but_the_last_is_cancelled_once_served(loop: EventLoop, serve: str) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks = lined_up(manager, peer, 10)
        await settle()
        getattr(manager, serve)(asker)
        for task in tasks[:-1]:
            await until(lambda: manager.stats()["waiting"] < 10)
            task.cancel()
        manager.release(await tasks[-1])
        assert all(task.cancelled() for task in tasks[:-1])
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("deadline", [0, 0.0, -1.0, float("-inf")])
@pytest.mark.parametrize("knows", [True, False])
def test_deadline_that_is_no_time_of_the_clock_is_past(
    loop: EventLoop, deadline: float, knows: bool
) -> None:
    """With *knows* the endpoint has a pool, else the total is the limit."""

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        endpoint = peer.endpoint if knows else peer.endpoints[1]
        with pytest.raises(EndpointTimeoutError) as caught:
            await manager.acquire(Asker, endpoint, deadline=deadline)
        assert (caught.value.phase, caught.value.port) == ("pool", endpoint.port)
        assert counts(manager)["waiting"] == 0
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_caller_served_in_time_is_not_too_late(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        timers = loop.stats()["timers"]
        (task,) = lined_up(manager, peer, 1, deadline=loop.time() + 1_000)
        await settle()
        assert loop.stats()["timers"] == timers + 1
        manager.release(asker)
        assert loop.stats()["timers"] <= timers + 1  # its own is gone, the idle one's may be new
        assert await task is asker
        manager.release(asker)
        await manager.close()
        assert loop.stats()["timers"] == timers

    play(loop, scenario)


@pytest.mark.parametrize("how", ["close", "throw", "drop"])
def test_acquisition_driven_by_hand_leaves_the_queue(loop: EventLoop, how: str) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        acquisition: Any = manager.acquire(Asker, peer.endpoint, deadline=loop.time() + 1_000)
        assert not acquisition.send(None).done()
        assert counts(manager) == {**NOTHING, "leased": 1, "waiting": 1}
        if how == "close":
            acquisition.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                acquisition.throw(KeyError("no more"))
        else:
            del acquisition
        assert counts(manager) == {**NOTHING, "leased": 1}
        assert manager.stats()["gave_up"] == 1
        if how != "drop":
            with pytest.raises(RuntimeError, match="already awaited"):
                acquisition.send(None)
        manager.release(asker)
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_acquisition_that_is_sent_on_too_early_waits_on(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        acquisition: Any = manager.acquire(Asker, peer.endpoint)
        future = acquisition.send(None)
        assert acquisition.send(None) is future
        manager.release(asker)
        assert future.done()
        with pytest.raises(StopIteration) as stop:
            acquisition.send(None)
        assert stop.value.value is asker
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_acquisition_closed_when_it_was_served_passes_that_on(loop: EventLoop, serve: str) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        acquisition: Any = manager.acquire(Asker, peer.endpoint)
        future = acquisition.send(None)
        (task,) = lined_up(manager, peer, 1)
        await settle()
        getattr(manager, serve)(asker)
        await until(future.done)
        acquisition.close()
        manager.release(await task)
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_close_ends_hundreds_that_wait(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=2)
        held = [await manager.acquire(Asker, peer.endpoint) for _ in range(2)]
        tasks = lined_up(manager, peer, 300)
        tasks += lined_up(manager, peer, 300, deadline=loop.time() + 1_000)
        await settle()
        closing = asyncio.ensure_future(manager.close())
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {PoolClosedError}
        assert manager.stats()["gave_up"] == 600
        for asker in held:
            manager.release(asker)
        await closing
        assert counts(manager) == NOTHING
        assert not manager._policy.pools

    play(loop, scenario)


def test_the_caller_too_many_is_refused_and_the_others_wait_on(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1, max_waiting=2)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks = lined_up(manager, peer, 2)
        await settle()
        with pytest.raises(PoolFullError, match="2 callers"):
            await manager.acquire(Asker, peer.endpoint)
        tasks[0].cancel()
        await settle()
        tasks += lined_up(manager, peer, 1)
        await settle()
        manager.release(asker)
        manager.release(await tasks[1])
        manager.release(await tasks[2])
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("what", ["eof", "surplus"])
def test_connection_that_spoils_on_its_way_to_a_caller_is_not_lent(
    loop: EventLoop, what: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Strict, peer.endpoint)
        await asker.ask(b"x")
        acquisition: Any = manager.acquire(Strict, peer.endpoint)
        future = acquisition.send(None)
        manager.release(asker)
        assert future.done()
        if what == "eof":
            peer.transports[0].write_eof()
        else:
            peer.transports[0].write(b"unasked")
        await settle()  # the loop may have read that, and the connection be gone
        assert manager.stats()["closed"] == {"lost": 1}
        got = await acquisition
        assert got is not asker
        assert await got.ask(b"y") == b"y"
        manager.release(got)
        check(manager)
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_fresh_caller_gets_no_used_connection_however_long_it_waits(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        first, second = lined_up(manager, peer, 1, fresh=True), lined_up(manager, peer, 1)
        await settle()
        manager.release(asker)
        fresh = await first[0]
        assert fresh is not asker
        manager.release(fresh)
        assert await second[0] is fresh
        manager.release(fresh)
        check(manager)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("kind", ["waited", "gave_up"])
def test_hook_that_raises_or_acquires_costs_no_lease(loop: EventLoop, kind: str) -> None:
    async def scenario(peer: Peer) -> None:
        tasks: list[Any] = []
        told: list[str] = []

        def hook(event: PoolEvent) -> None:
            if event.kind != kind or len(told) > 3:
                return
            told.append(event.kind)
            tasks.extend(lined_up(manager, peer, 1))
            acquisition: Any = manager.acquire(Asker, peer.endpoint)
            acquisition.send(None)
            acquisition.close()  # which tells the hook of a caller that gave up
            raise ValueError("hook")

        reported: list[Any] = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        manager = ConnectionManager(max_per_endpoint=1, on_event=hook)
        asker = await manager.acquire(Asker, peer.endpoint)
        tasks += lined_up(manager, peer, 3)
        await settle()
        tasks[0].cancel()
        await settle()
        manager.release(asker)
        for task in tasks:  # and what the hook adds
            if task is not tasks[0]:
                manager.release(await task)
        assert told
        assert [str(error) for error in reported] == ["hook"] * len(told)
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()
        loop.set_exception_handler(None)

    play(loop, scenario)


def test_two_tasks_that_await_one_acquisition_get_one_lease(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        acquisition = manager.acquire(Asker, peer.endpoint)

        async def get() -> Any:
            return await acquisition

        tasks = [asyncio.ensure_future(get()) for _ in range(2)]
        await settle()
        manager.release(asker)
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        assert first is asker
        assert isinstance(second, RuntimeError)
        manager.release(asker)
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_starved_endpoint_gets_its_turn_before_callers_who_came_later(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        busy, starved = peer.endpoints[:2]
        asker = await manager.acquire(Asker, busy)
        order: list[str] = []

        async def use(endpoint: Any) -> None:
            got = await manager.acquire(Asker, endpoint)
            order.append(endpoint.scheme)
            await got.ask(b"x")
            manager.release(got)

        tasks = []
        for endpoint in (busy, starved, busy, busy):
            tasks.append(asyncio.ensure_future(use(endpoint)))
            await settle()
        manager.release(asker)
        await asyncio.gather(*tasks)
        assert order == [busy.scheme, starved.scheme, busy.scheme, busy.scheme]
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_caller_in_the_queue_of_a_closed_loop_is_garbage_like_any_other(loop: EventLoop) -> None:
    kept: list[Any] = []

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        await manager.acquire(Asker, peer.endpoint)
        for _ in range(3):
            acquisition: Any = manager.acquire(Asker, peer.endpoint, deadline=loop.time() + 9)
            acquisition.send(None)
            kept.append(acquisition)
        kept.append(weakref.ref(manager))

    play(loop, scenario)
    gone = kept.pop()
    loop.close()
    kept.clear()
    gc.collect()
    assert gone() is None


def test_close_leaves_no_timer_of_a_caller_whom_nobody_drives(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        before = loop.stats()["timers"]
        late: Any = manager.acquire(Asker, peer.endpoint, deadline=loop.time() + 1_000)
        late.send(None)
        assert loop.stats()["timers"] == before + 1
        await manager.close(timeout=0)
        assert loop.stats()["timers"] == 0
        with pytest.raises(PoolClosedError):
            late.send(None)
        manager.release(asker)

    play(loop, scenario)

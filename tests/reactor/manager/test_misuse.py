"""What nobody should do to a manager: typed errors at once, and the books stay in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from reactor import (
    ConnectionManager,
    Endpoint,
    PoolClosedError,
    PoolEvent,
    new_event_loop,
    run,
)
from reactor.eventloop import EventLoop
from reactor.testing import listen
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Echo,
    Peer,
    check,
    counts,
    play,
    settle,
    until,
)


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """Do *work* in a thread of its own; return what it raised."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


# -- hooks and call-backs that enter the manager again --------------------------------------------


@pytest.mark.parametrize("kind", ["opened", "reused", "released", "waited", "gave_up", "closed"])
def test_hook_that_leases_and_gives_back_leaves_the_books_in_order(
    loop: EventLoop, kind: str
) -> None:
    async def scenario(peer: Peer) -> None:
        entered = 0

        def hook(event: PoolEvent) -> None:
            nonlocal entered
            if event.kind != kind or entered > 50:
                return
            entered += 1
            with contextlib.suppress(PoolClosedError):
                for endpoint in peer.endpoints[:2]:
                    asker = manager.take(endpoint)
                    if asker is not None:
                        (manager.release if entered % 2 else manager.discard)(asker)
            repr(manager)
            check_counts()

        def check_counts() -> None:
            stats = manager.stats()
            assert manager._policy.total == stats["leased"] + stats["idle"] + (
                stats["opening"] + stats["closing"]
            )

        manager = ConnectionManager(max_connections=2, max_per_endpoint=2, on_event=hook)

        async def use(number: int) -> None:
            asker = await manager.acquire(Asker, peer.endpoints[number % 2])
            await asyncio.sleep(0)
            (manager.discard if number % 5 == 0 else manager.release)(asker)

        tasks = [asyncio.ensure_future(use(number)) for number in range(40)]
        await asyncio.sleep(0)  # most of them wait now
        for task in tasks[::7]:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        check(manager)
        assert entered
        await manager.close()
        assert counts(manager) == NOTHING
        assert not manager._all()

    play(loop, scenario)


@pytest.mark.parametrize("give", ["release", "discard"])
def test_protocol_may_give_itself_back_when_it_is_lost_and_the_next_caller_is_served(
    loop: EventLoop, give: str
) -> None:
    async def scenario(peer: Peer) -> None:
        class Quitter(Asker):
            def connection_lost(self, exc: BaseException | None) -> None:
                assert manager.take(peer.endpoint) is None
                getattr(manager, give)(self)
                check(manager)

        manager = ConnectionManager(max_connections=1)
        quitter = await manager.acquire(Quitter, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await until(lambda: len(peer.transports) == 1)
        await settle()
        peer.transports[0].abort()
        manager.release(await waiting)
        with pytest.raises(ValueError, match="not leased"):
            manager.release(quitter)
        check(manager)
        await manager.close()
        assert not manager._all()

    play(loop, scenario)


def test_factory_that_leases_gives_back_and_closes_the_manager_loses_no_slot(
    loop: EventLoop,
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        first = await manager.acquire(Asker, peer.endpoints[0])
        closing: list[asyncio.Task[None]] = []

        def factory() -> Asker:
            manager.release(first)
            assert manager.take(peer.endpoints[0]) is first
            manager.release(first)
            check(manager)
            closing.append(asyncio.ensure_future(manager.close()))
            return Asker()

        asker = await manager.acquire(factory, peer.endpoints[1])
        manager.release(asker)
        await closing[0]
        assert counts(manager) == NOTHING
        check(manager)

    play(loop, scenario)


def test_hook_that_raises_what_no_hook_may_raise_costs_no_slot(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        def hook(event: PoolEvent) -> None:
            raise asyncio.CancelledError

        manager = ConnectionManager(max_connections=1, on_event=hook)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        manager.discard(asker)  # a slot is reserved for who waits
        manager.release(await waiting)
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()

    play(loop, scenario)
    reported = loop.reported  # type: ignore[attr-defined]
    assert {type(each["exception"]) for each in reported} == {asyncio.CancelledError}
    reported.clear()


def test_interrupt_in_a_hook_ends_the_loop_and_costs_no_slot() -> None:
    loop = new_event_loop()
    managers: list[ConnectionManager] = []

    def hook(event: PoolEvent) -> None:
        if event.kind == "waited":
            raise KeyboardInterrupt

    async def main() -> None:
        server = await listen(loop, lambda: Echo([]))
        endpoint = Endpoint("s", "127.0.0.1", server.sockets[0].getsockname()[1])
        manager = ConnectionManager(max_connections=1, on_event=hook)
        managers.append(manager)
        asker = await manager.acquire(Asker, endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, endpoint))
        await settle()
        manager.discard(asker)
        held.append(await waiting)
        server.close()

    held: list[Any] = []
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    manager = managers[0]
    assert counts(manager) == {**NOTHING, "leased": 1}
    manager.release(held[0])
    loop.run_until_complete(manager.close())
    loop.run_until_complete(settle())
    loop.close()


# -- closing, twice and in between ----------------------------------------------------------------


def test_second_close_waits_for_an_opener_that_takes_its_time_to_give_up(loop: EventLoop) -> None:
    go_on = asyncio.Event()

    async def opener(*_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        endpoint = peer.endpoint._replace(opener=opener)
        opening = asyncio.ensure_future(manager.acquire(Asker, endpoint))
        await settle()
        closes = [asyncio.ensure_future(manager.close())]
        await settle()
        closes.append(asyncio.ensure_future(manager.close()))
        await settle()
        assert not opening.done()
        go_on.set()
        await asyncio.gather(*closes)
        with pytest.raises(PoolClosedError):
            await opening
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_warming_that_is_cancelled_before_it_began_gives_its_slots_back(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=3)
        for passes in range(6):
            warming = asyncio.ensure_future(manager.prewarm(Asker, peer.endpoint, count=3))
            for _ in range(passes):
                await asyncio.sleep(0)
            warming.cancel()
            await asyncio.wait([warming])
            await settle()
            assert manager.stats()["opening"] == 0
            check(manager)
            await manager.drain()
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


def test_drain_beside_callers_that_come_and_wait_ends_what_there_was(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        stop = False

        async def use(number: int) -> None:
            while not stop:
                async with manager.lease(Asker, peer.endpoints[number % 2]) as asker:
                    assert await asker.ask(b"x") == b"x"

        users = [asyncio.ensure_future(use(number)) for number in range(6)]
        for _ in range(20):
            await until(lambda: counts(manager)["leased"] == 2)
            before = manager._all()
            await manager.drain()
            assert {each.place for each in before} <= {"lost"}
            check(manager)
        stop = True
        await asyncio.gather(*users)
        assert manager.stats()["closed"]["drained"] >= 20
        await manager.close()

    play(loop, scenario)


def test_use_after_close_is_a_typed_error(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        async with manager.lease(Asker, peer.endpoint):
            pass
        await manager.close()
        before = manager.stats()
        with pytest.raises(PoolClosedError):
            await manager.acquire(Asker, peer.endpoint)
        with pytest.raises(PoolClosedError):
            async with manager.lease(Asker, peer.endpoint):
                raise AssertionError
        with pytest.raises(PoolClosedError):
            await manager.prewarm(Asker, peer.endpoint, count=1)
        with pytest.raises(PoolClosedError):
            await manager.drain()
        with pytest.raises(PoolClosedError):
            manager.take(peer.endpoint)
        assert manager.stats() == before
        await manager.close()

    play(loop, scenario)


def test_lease_whose_manager_was_closed_meanwhile_ends_in_peace(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        async with manager.lease(Asker, peer.endpoint):
            await manager.close(timeout=0)
        assert not manager._all()

    play(loop, scenario)


# -- limits that are no numbers of this world -----------------------------------------------------


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_time_without_an_end_needs_no_timer_to_run_out(loop: EventLoop, seconds: float) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=seconds, max_age_seconds=seconds)
        async with manager.lease(Asker, peer.endpoint):
            pass
        await settle()
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_endpoint_that_cannot_be_a_key_is_refused_and_costs_nothing(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        endpoint = peer.endpoint._replace(local_address=["127.0.0.1", 0])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unhashable"):
            await manager.acquire(Asker, endpoint)
        with pytest.raises(TypeError, match="unhashable"):
            manager.take(endpoint)
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


# -- threads, loops and processes -----------------------------------------------------------------


def test_lease_is_given_back_on_the_loops_thread_and_nowhere_else(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        idle = await manager.acquire(Asker, peer.endpoint)
        manager.release(idle)
        for call in (
            lambda: manager.release(asker),
            lambda: manager.discard(asker),
            lambda: manager.take(peer.endpoint),
            lambda: manager.set_max_leases(asker, 2),
        ):
            error = in_thread(call)
            assert isinstance(error, RuntimeError)
            assert "thread" in str(error)
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 1}
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_two_managers_of_a_loop_know_only_their_own(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        managers = [ConnectionManager(max_connections=1) for _ in range(2)]
        askers = [await manager.acquire(Asker, peer.endpoint) for manager in managers]
        for manager, other in zip(managers, askers[::-1], strict=True):
            with pytest.raises(ValueError, match="not leased"):
                manager.release(other)
            with pytest.raises(ValueError, match="not leased"):
                manager.discard(other)
        await managers[0].close(timeout=0)
        assert await askers[1].ask(b"x") == b"x"
        managers[0].release(askers[0])
        managers[1].release(askers[1])
        assert counts(managers[1]) == {**NOTHING, "idle": 1}
        await managers[1].close()

    play(loop, scenario)


def test_manager_whose_loop_was_closed_under_it_can_be_given_back_to_and_closed() -> None:
    manager = ConnectionManager(max_age_seconds=60)
    held: list[Any] = []

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server = await listen(loop, lambda: Echo([]))
        endpoint = Endpoint("s", "127.0.0.1", server.sockets[0].getsockname()[1])
        held.extend([await manager.acquire(Asker, endpoint) for _ in range(3)])
        manager.release(held.pop())
        server.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())
        gc.collect()
    manager.release(held[0])
    manager.discard(held[1])
    for _ in range(2):
        with pytest.raises(ValueError, match="not leased"):
            manager.release(held[0])
    assert counts(manager)["leased"] == 0
    repr(manager)

    async def later() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await manager.acquire(Asker, "127.0.0.1", 1)
        await manager.close()

    run(later())

"""Leasing from blocking code, in any thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reactor import (
    BlockingConnectionManager,
    ConnectionManager,
    EndpointTimeoutError,
    EventLoop,
    PoolClosedError,
    new_event_loop,
    run,
)
from reactor.manager.blocking import _Call
from tests.reactor.manager.peer import Asker, Echo

THREADS = 8


@contextlib.contextmanager
def echo_port() -> Iterator[int]:
    """Run an echo server on a loop of another thread; yield its port."""
    loop = new_event_loop()
    transports: list[Any] = []
    server = loop.run_until_complete(loop.create_server(lambda: Echo(transports), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        def stop() -> None:
            server.close()
            for transport in transports:
                transport.abort()
            loop.call_soon(loop.call_soon, loop.stop)

        loop.call_soon_threadsafe(stop)
        thread.join()
        loop.close()


@pytest.fixture
def port() -> Iterator[int]:
    with echo_port() as number:
        yield number


def together(work: Callable[[int], Any]) -> list[Any]:
    """Do *work* in some threads at the same time."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, range(THREADS)))


def test_threads_share_one_pool_and_its_limit(port: int) -> None:
    with BlockingConnectionManager(max_connections=2) as manager:

        def work(number: int) -> None:
            for turn in range(20):
                with manager.lease(Asker, "127.0.0.1", port, timeout=20) as asker:
                    data = b"%d.%d" % (number, turn)
                    assert manager.run(asker.ask(data)) == data

        together(work)
        stats = manager.stats()
        assert stats["opened"] <= 2
        assert stats["opened"] + stats["reused"] == THREADS * 20
        assert (stats["leased"], stats["idle"]) == (0, stats["opened"])


def test_block_that_raises_discards(port: int) -> None:
    with BlockingConnectionManager() as manager:
        with pytest.raises(ZeroDivisionError), manager.lease(Asker, "127.0.0.1", port) as asker:
            raise ZeroDivisionError
        for give in (manager.release, manager.discard):
            with pytest.raises(ValueError, match="not leased"):
                give(asker)
        assert manager.stats()["closed"] in ({}, {"discarded": 1})


def test_wait_has_a_time_out_and_leaves_nothing_leased(port: int) -> None:
    with BlockingConnectionManager(max_connections=1) as manager:
        with (
            manager.lease(Asker, "127.0.0.1", port),
            pytest.raises(EndpointTimeoutError, match="pool"),
        ):
            manager.acquire(Asker, "127.0.0.1", port, timeout=0.01)
        stats = manager.stats()
        assert (stats["leased"], stats["idle"], stats["waiting"]) == (0, 1, 0)
        with pytest.raises(TimeoutError):
            manager.run(asyncio.Event().wait(), timeout=0.01)


class Interrupted(Exception):
    """Stands for a KeyboardInterrupt."""


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
# A handler may raise within a finalizer, too, where it is told and goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals come at random times here")
def test_interrupted_at_any_time_the_manager_goes_on() -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    async def one() -> int:
        return 1

    interrupted = 0
    until = time.monotonic() + 20
    with BlockingConnectionManager() as manager:
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            while interrupted < 500 and time.monotonic() < until:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 7 * 0.00001)
                    for _ in range(100):
                        manager.run(one())
                except Interrupted:
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert manager.run(one(), timeout=20) == 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert interrupted == 500


@pytest.mark.parametrize("has_it", [True, False])
@pytest.mark.parametrize("is_warm", [True, False])
def test_thread_that_is_interrupted_leaves_nothing_leased(
    port: int, monkeypatch: pytest.MonkeyPatch, has_it: bool, is_warm: bool
) -> None:
    """Whether its connection was there already, or it was still waiting."""
    with BlockingConnectionManager(max_connections=1) as manager:
        if is_warm:
            manager.release(manager.acquire(Asker, "127.0.0.1", port))
        real = _Call.wait

        def interrupted(call: _Call, loop: EventLoop, timeout: float | None) -> None:
            if call.coroutine.cr_code.co_name != "work":  # type: ignore[attr-defined]
                real(call, loop, timeout)
                return
            if has_it:
                real(call, loop, timeout)
            raise Interrupted

        monkeypatch.setattr(_Call, "wait", interrupted)
        with pytest.raises(Interrupted):
            manager.acquire(Asker, "127.0.0.1", port)
        while (stats := manager.stats())["leased"] or stats["opening"] or stats["waiting"]:
            pass
        assert stats["idle"] == 1 or not (has_it or is_warm)
        monkeypatch.undo()


def test_error_of_what_was_run_is_no_cycle() -> None:
    class Failure(Exception):
        pass

    async def fail() -> None:
        raise Failure

    with BlockingConnectionManager() as manager:
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(Failure) as caught:
                manager.run(fail())
            error = weakref.ref(caught.value)
            del caught
            manager.stats()  # the loop has let go of it, too
            assert error() is None
        finally:
            gc.enable()


def test_what_cannot_be_run_is_refused_and_a_task_factorys_error_is_the_callers() -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise LookupError("no task")

    async def one() -> int:
        return 1

    with BlockingConnectionManager() as manager:
        for wrong in (42, asyncio.sleep, one):
            with pytest.raises(TypeError, match="a coroutine is needed"):
                manager.run(wrong)  # type: ignore[arg-type]
        manager._loop.call_soon_threadsafe(manager._loop.set_task_factory, refuse)
        with pytest.raises(LookupError, match="no task"):
            manager.run(one())
        manager._loop.call_soon_threadsafe(manager._loop.set_task_factory, None)
        assert manager.run(one()) == 1


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_program_is_raised_by_who_ran_it(kind: type[BaseException]) -> None:
    async def leaves() -> None:
        await asyncio.sleep(0)
        raise kind("on purpose")

    async def stays() -> str:
        return "here"

    with BlockingConnectionManager() as manager:
        with pytest.raises(kind, match="on purpose"):
            manager.run(leaves())
        assert manager.run(stays()) == "here"


def test_interrupt_of_the_main_threads_loop_leaves_that_loop() -> None:
    loop = new_event_loop()
    blocking = BlockingConnectionManager(ConnectionManager(), loop)

    async def interrupted() -> None:
        raise KeyboardInterrupt

    async def works() -> str:
        return "works"

    def work() -> str:
        with pytest.raises(KeyboardInterrupt):
            blocking.run(interrupted())
        answer = blocking.run(works())
        loop.call_soon_threadsafe(loop.stop)
        return answer

    with ThreadPoolExecutor(1) as threads:
        loop.call_soon(lambda: futures.append(threads.submit(work)))
        futures: list[Any] = []
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.run_forever()
        assert futures[0].result(20) == "works"
    loop.close()


@pytest.mark.parametrize("has_begun", [True, False])
def test_loop_of_somebody_elses_that_is_closed_leaves_no_thread_asleep(
    has_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = new_event_loop()
    manager = ConnectionManager()
    blocking = BlockingConnectionManager(manager, loop)
    begun, last_pass, stalled = threading.Event(), threading.Event(), threading.Event()
    handed_over, real = threading.Event(), blocking._hand_over

    async def lasts() -> None:
        begun.set()
        await loop.create_future()

    def stall() -> None:
        loop.stop()  # after this pass, in which nothing else is done
        last_pass.set()
        assert stalled.wait(20)

    def hand_over(call: _Call) -> None:
        real(call)
        handed_over.set()

    def waits() -> None:
        with pytest.raises(PoolClosedError):
            blocking.run(lasts())

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ThreadPoolExecutor(1) as threads:
        if has_begun:
            waiting = threads.submit(waits)
            assert begun.wait(20)
            loop.call_soon_threadsafe(loop.stop)
        else:
            loop.call_soon_threadsafe(stall)
            assert last_pass.wait(20)
            monkeypatch.setattr(blocking, "_hand_over", hand_over)
            waiting = threads.submit(waits)
            assert handed_over.wait(20)
            stalled.set()
        thread.join(20)
        loop.close()
        waiting.result(20)
    assert begun.is_set() is has_begun


def test_manager_of_a_running_loop_serves_threads_as_well(port: int) -> None:
    async def main() -> None:
        manager = ConnectionManager()
        loop: Any = asyncio.get_running_loop()
        blocking = BlockingConnectionManager(manager, loop)

        def work(number: int) -> Any:
            with blocking.lease(Asker, "127.0.0.1", port) as asker:
                return blocking.run(asker.ask(b"%d" % number)), asker

        answer, asker = await asyncio.to_thread(work, 7)
        assert answer == b"7"
        assert await manager.acquire(Asker, "127.0.0.1", port) is asker  # it is one pool
        manager.release(asker)
        with pytest.raises(RuntimeError, match="would wait for itself"):
            blocking.acquire(Asker, "127.0.0.1", port)
        blocking.close()
        with pytest.raises(PoolClosedError):
            await asyncio.to_thread(blocking.stats)
        assert manager.stats()["idle"] == 1
        await manager.close()

    run(main())


def test_manager_whose_loop_does_not_run_is_refused_to_threads() -> None:
    with contextlib.closing(new_event_loop()) as loop:
        blocking = BlockingConnectionManager(ConnectionManager(), loop)
        with pytest.raises(RuntimeError, match="not running"):
            blocking.stats()
        with pytest.raises(TypeError, match="come together"):
            BlockingConnectionManager(loop=loop)
        with pytest.raises(TypeError, match="options already: max_uses"):
            BlockingConnectionManager(ConnectionManager(), loop, max_uses=1)


def test_close_ends_the_calls_of_other_threads_and_the_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        before = threading.active_count()
        manager = BlockingConnectionManager(max_connections=1)
        asker = manager.acquire(Asker, "127.0.0.1", port)
        ended: list[type[BaseException]] = []

        def call(work: Callable[[], object]) -> None:
            try:
                work()
            except BaseException as error:
                ended.append(type(error))

        works: list[Callable[[], object]] = [
            lambda: manager.acquire(Asker, "127.0.0.1", port),
            lambda: manager.run(asker.ask(b"never answered")),
        ]
        threads = [threading.Thread(target=call, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        while manager.stats()["waiting"] < 1:
            pass
        manager.close(timeout=0)
        for thread in threads:
            thread.join()
        assert ended == [PoolClosedError] * 2
        manager.close()
        assert threading.active_count() == before
        with pytest.raises(PoolClosedError):
            manager.acquire(Asker, "127.0.0.1", port)
        assert "closed" in repr(manager)


def test_bad_option_is_refused_before_a_thread_is_started() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="behavior"):
        BlockingConnectionManager(behavior="none")
    assert threading.active_count() == before


def test_manager_that_was_not_closed_says_so() -> None:
    manager: Any = BlockingConnectionManager()
    thread = manager._thread
    holder = [manager]
    del manager
    with pytest.warns(ResourceWarning, match="unclosed <BlockingConnectionManager open"):
        holder.clear()
    thread.join(20)
    assert not thread.is_alive()


def test_thread_that_dies_in_its_block_costs_the_others_nothing(port: int) -> None:
    with BlockingConnectionManager(max_connections=1) as manager:

        def work(number: int) -> None:
            for _ in range(5):
                with manager.lease(Asker, "127.0.0.1", port, timeout=60) as asker:
                    if number % 2:
                        raise SystemExit
                    assert manager.run(asker.ask(b"x")) == b"x"

        def dies(number: int) -> None:
            with contextlib.suppress(SystemExit):  # which pytest would report
                work(number)

        async def until_all_wait() -> None:
            while manager._manager.stats()["waiting"] < THREADS:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)

        threads = [threading.Thread(target=dies, args=(number,)) for number in range(THREADS)]
        with manager.lease(Asker, "127.0.0.1", port):  # until all of them wait
            for each in threads:
                each.start()
            manager.run(until_all_wait())
        for each in threads:
            each.join()
        stats = manager.stats()
        assert (stats["leased"], stats["waiting"], stats["opening"]) == (0, 0, 0)
        assert stats["opened"] >= stats["closed"]["discarded"] == THREADS // 2
        assert stats["wait_seconds"]["count"] >= THREADS


def test_call_that_comes_when_the_loop_has_just_stopped_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It passed the check before; what the loop was told then it never looks at."""
    manager = BlockingConnectionManager()
    loop: Any = manager._loop
    real, real_close = manager._hand_over, loop.close
    closer = threading.Thread(target=manager.close)
    told = threading.Event()

    def close() -> None:
        told.wait(30)
        real_close()

    def tell_late(call: _Call) -> None:
        if threading.current_thread() is closer:
            real(call)
            return
        closer.start()
        while loop.is_running():
            pass
        try:
            real(call)
        finally:
            told.set()

    loop.close = close
    monkeypatch.setattr(manager, "_hand_over", tell_late)
    with ThreadPoolExecutor(1) as threads, pytest.raises(PoolClosedError):
        threads.submit(manager.stats).result()
    closer.join()
    with pytest.raises(PoolClosedError):
        manager.stats()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_process_is_refused_its_parents_manager_and_disturbs_it_not() -> None:
    with BlockingConnectionManager() as manager:
        manager.stats()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for call in (manager.stats, lambda: manager.acquire(Asker, "127.0.0.1", 1)):
                    try:
                        call()
                    except RuntimeError as error:
                        status = 0 if "process" in str(error) else 2
                manager.close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert manager.stats()["opened"] == 0

"""Tasks and futures of our own: that they do what asyncio's do, and are as easily freed.

CPython's own tests of tasks and futures run on them, too (``tests/cpython/own_tasks.py``), and
random programs (``test_task_programs``).
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.futures import Future
from reactor.tasks import Task

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop, EventLoop]


@contextmanager
def running(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[tuple[asyncio.AbstractEventLoop, list[str]]]:
    """Yield a loop and what its exception handler is told."""
    loop = make()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    try:
        yield loop, told
    finally:
        loop.close()


def kind_of(value: object) -> Any:
    """Return the type of what says that it is of another one."""
    return type(value)


def counted(collect: Callable[[], object]) -> int:
    """Return how many objects only the cyclic collector could free of what *collect* left."""
    gc.collect()
    gc.disable()
    try:
        collect()
        return gc.collect()
    finally:
        gc.enable()


# -- what they say that they are --------------------------------------------------------------


def test_they_are_asyncios_to_whoever_asks() -> None:
    with running(EventLoop) as (loop, told):

        async def main() -> None:
            task, future = asyncio.current_task(), loop.create_future()
            assert kind_of(task) is Task
            assert kind_of(future) is Future
            assert isinstance(task, asyncio.Task)
            assert isinstance(task, asyncio.Future)
            assert isinstance(future, asyncio.Future)
            assert not isinstance(future, asyncio.Task)
            assert asyncio.isfuture(task)
            assert asyncio.isfuture(future)
            assert not asyncio.iscoroutine(future)
            assert asyncio.ensure_future(future) is future
            assert asyncio.all_tasks() == {task}
            task.mark = 1  # type: ignore[attr-defined]
            assert vars(task) == {"mark": 1}
            assert weakref.ref(future)() is future
            assert repr(future) == "<Future pending>"
            assert repr(task).startswith("<Task pending name='Task-")

        loop.run_until_complete(main())
    assert told == []


def test_in_debug_mode_they_are_asyncios_own() -> None:
    with running(EventLoop) as (loop, _):
        loop.set_debug(True)
        task = loop.create_task(asyncio.sleep(0))
        assert kind_of(task) is asyncio.Task
        assert kind_of(loop.create_future()) is asyncio.Future
        loop.run_until_complete(task)


def test_our_own_go_on_when_debug_mode_begins_meanwhile() -> None:
    with running(EventLoop) as (loop, told):
        future = loop.create_future()

        async def main() -> int:
            loop.set_debug(True)
            loop.call_soon(future.set_result, 5)
            await asyncio.sleep(0)
            return await future  # type: ignore[no-any-return]

        task = loop.create_task(main())
        assert kind_of(task) is Task
        assert loop.run_until_complete(task) == 5
    assert told == []


def test_they_cannot_be_copied() -> None:
    with running(EventLoop) as (loop, told):
        task = loop.create_task(asyncio.sleep(0))
        for each in (task, loop.create_future()):
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot pickle"):
                    copied(each)
        loop.run_until_complete(task)
    assert told == []


def test_a_class_that_derives_from_them_is_asked_by_its_methods() -> None:
    with running(EventLoop) as (loop, told):
        calls: list[str] = []

        class Named(Future):
            def add_done_callback(self, fn: Any, /, *, context: Any = None) -> None:
                calls.append("add_done_callback")
                super().add_done_callback(fn, context=context)

            def result(self) -> Any:
                calls.append("result")
                return super().result()

        async def main() -> None:
            future = Named(loop=loop)
            assert future.__class__ is Named
            assert repr(future) == "<Named pending>"
            loop.call_soon(future.set_result, 5)
            assert await future == 5
            assert calls == ["add_done_callback", "result"]

        loop.run_until_complete(main())
    assert told == []


@pytest.mark.parametrize("make", LOOPS)
def test_what_is_no_callback_is_told_when_it_is_called(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with running(make) as (loop, told):
        future = loop.create_future()
        seen: list[Any] = []
        future.add_done_callback(None)  # type: ignore[arg-type]
        future.add_done_callback(seen.append)
        future.set_result(None)
        loop.run_until_complete(asyncio.sleep(0))
        assert seen == [future]
    assert len(told) == 1


# -- who runs ---------------------------------------------------------------------------------


def test_current_task_is_told_in_steps_and_nowhere_else() -> None:
    with running(EventLoop) as (loop, told):
        seen: list[Any] = []

        def look() -> None:
            seen.append(asyncio.current_task())

        async def step() -> None:
            for _ in range(2):
                assert asyncio.current_task() is not None
                seen.append(asyncio.current_task())
                loop.call_soon(look)
                await asyncio.sleep(0)

        class Reader(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                look()
                done.set_result(self.transport)

        async def main() -> None:
            tasks = [asyncio.create_task(step()), asyncio.Task(step()), asyncio.create_task(step())]
            await asyncio.gather(*tasks)
            between = [each for task in tasks for each in (None, task)]
            assert seen == [*tasks, *between, None, None, None]
            seen.clear()
            loop.call_later(0, look)
            server = await loop.create_server(Reader, "127.0.0.1", 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            (await done).close()
            assert seen == [None, None]
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        done = loop.create_future()
        loop.run_until_complete(main())
    assert told == []


@pytest.mark.parametrize("make", LOOPS)
def test_what_is_freed_with_a_task_is_no_part_of_the_next_one(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with running(make) as (loop, told):
        said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")
        seen: list[Any] = []

        class Result:
            def __del__(self) -> None:
                seen.append(asyncio.current_task())
                said.set("by a finalizer")

        async def gives() -> Result:
            return Result()

        async def fails() -> None:
            raise ValueError(Result())

        async def looks() -> str:
            return said.get()

        async def main() -> None:
            for each in (gives, fails):
                loop.create_task(each())
                weakref.finalize(
                    loop.create_task(each()), lambda: seen.append(asyncio.current_task())
                )
                assert await loop.create_task(looks()) == "nothing"

        loop.run_until_complete(main())
        assert seen == [None] * 6
    assert told == ["Task exception was never retrieved"] * 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_within_a_step_leaves_it_current() -> None:
    with running(EventLoop) as (loop, told):

        async def within() -> Any:
            return asyncio.current_task()

        async def main() -> None:
            outer = asyncio.current_task()
            eager = asyncio.Task(within(), loop=loop, eager_start=True)  # type: ignore[call-arg]
            assert eager.done()
            assert eager.result() is eager
            assert asyncio.current_task() is outer
            await asyncio.sleep(0)
            assert asyncio.current_task() is outer

        loop.run_until_complete(main())
    assert told == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_task_leaves_the_loop_whole(kind: type[BaseException]) -> None:
    with running(EventLoop) as (loop, told):
        seen = []

        async def leave() -> None:
            raise kind

        async def note() -> None:
            seen.append(asyncio.current_task())

        tasks = [loop.create_task(leave()), loop.create_task(note())]
        with pytest.raises(kind):
            loop.run_forever()
        assert seen == []
        assert asyncio.current_task(loop) is None
        loop.run_until_complete(tasks[1])
        assert seen == [tasks[1]]
        assert isinstance(tasks[0].exception(), kind)
    assert told == []


def test_a_step_that_cannot_begin_is_told_and_the_others_go_on() -> None:
    with running(EventLoop) as (loop, told):
        context = contextvars.copy_context()

        async def main() -> None:
            pass

        def run() -> asyncio.Task[None]:
            tasks = [loop.create_task(main(), context=context), loop.create_task(main())]
            loop.run_until_complete(tasks[1])
            assert not tasks[0].done()
            tasks[0].get_coro().close()
            return tasks[0]

        left = context.run(run)
        assert not left.done()
        del left  # outside of the context, in which the handler is called from Python 3.12 on
        gc.collect()
    assert told == ["Exception in a step of a task", "Task was destroyed but it is pending!"]


# -- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LOOPS)
def test_a_closed_loop_wakes_nobody_and_says_so(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with running(make) as (loop, told):
        futures = [loop.create_future()]

        async def wait() -> None:
            await futures[0]

        task = loop.create_task(wait())
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            futures[0].set_result(None)
        assert futures.pop().done()
        del task
        gc.collect()
    assert told == ["Task was destroyed but it is pending!"]


@pytest.mark.parametrize("make", LOOPS)
def test_tasks_and_futures_are_freed_without_the_collector(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with running(make) as (loop, told):
        futures: list[asyncio.Future[Any]] = []

        async def ends(how: str) -> None:
            if how == "fails":
                raise ValueError
            if how == "waits":
                await futures[-1]
            await asyncio.sleep(0)

        async def main() -> None:
            futures.append(loop.create_future())
            tasks = {how: loop.create_task(ends(how)) for how in ("ends", "fails", "waits")}
            await asyncio.sleep(0)
            tasks["waits"].cancel()
            await asyncio.wait(tasks.values())
            assert isinstance(tasks["fails"].exception(), ValueError)
            futures.append(loop.create_future())
            waiting = [loop.create_task(ends("waits"))]
            await asyncio.sleep(0)
            futures.pop().set_exception(ValueError("why"))
            with suppress(ValueError):
                await waiting.pop()  # else its failure's frame has it

        loop.run_until_complete(main())
        assert counted(lambda: loop.run_until_complete(main())) == 0
    assert told == []


def test_a_dropped_task_that_waits_is_garbage_and_told() -> None:
    with running(EventLoop) as (loop, told):

        async def main() -> weakref.ref[Any]:
            async def wait() -> None:
                await loop.create_future()

            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            return weakref.ref(task)

        dropped = loop.run_until_complete(main())
        gc.collect()
        assert dropped() is None
    assert told == ["Task was destroyed but it is pending!"]


def test_failures_that_nobody_heard_of_are_told_each_time() -> None:
    with running(EventLoop) as (loop, told):

        async def fail() -> None:
            raise ValueError

        async def main() -> None:
            for _ in range(3):
                task = asyncio.create_task(fail())
                await asyncio.wait([task])
                future = loop.create_future()
                future.set_exception(ValueError)
                del task, future

        loop.run_until_complete(main())
    assert (
        sorted(told)
        == ["Future exception was never retrieved"] * 3 + ["Task exception was never retrieved"] * 3
    )


def test_an_exit_out_of_what_is_told_of_a_dropped_future_is_nobodys() -> None:
    program = """if True:
        import reactor
        loop = reactor.new_event_loop()
        def leave(loop, context):
            raise SystemExit(3)
        async def nothing():
            pass
        loop.set_exception_handler(leave)
        future = loop.create_future()
        future.set_exception(ValueError())
        future = None
        coroutine = nothing()
        task = loop.create_task(coroutine)
        loop.close()
        task = None
        coroutine.close()
        print("after")
        """
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "after\n"
    assert done.stderr.count("SystemExit: 3") == 2


# -- what a coroutine may wait for ------------------------------------------------------------


class Duck:
    """A future of another library's."""

    _asyncio_future_blocking = False

    def __init__(self, loop: asyncio.AbstractEventLoop, fault: str = "") -> None:
        self.loop = loop
        self.fault = fault
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, Any]:
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        if self.fault == "get_loop":
            raise ValueError(self.fault)
        return self.loop

    def add_done_callback(self, callback: Any, context: contextvars.Context) -> None:
        if self.fault == "add_done_callback":
            raise ValueError(self.fault)
        self.loop.call_soon(callback, self, context=context)

    def cancel(self, msg: Any = None) -> bool:
        self.cancelled = True
        return True

    def result(self) -> None:
        if self.cancelled:
            raise asyncio.CancelledError
        if self.fault == "result":
            raise ValueError(self.fault)


@pytest.mark.parametrize("fault", ["", "get_loop", "add_done_callback", "result"])
@pytest.mark.parametrize("make", LOOPS)
def test_a_future_of_another_librarys_is_waited_for(
    make: Callable[[], asyncio.AbstractEventLoop], fault: str
) -> None:
    with running(make) as (loop, told):

        async def main() -> str:
            try:
                await Duck(loop, fault)
            except ValueError as error:
                return f"failed: {error}"
            return "went on"

        if fault in ("get_loop", "add_done_callback") and make is asyncio.SelectorEventLoop:
            pytest.skip("asyncio's own task stays pending for ever")
        assert loop.run_until_complete(main()) == (f"failed: {fault}" if fault else "went on")

        async def waits() -> None:
            await Duck(loop)

        task = loop.create_task(waits())
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    assert told == []


class Yields:
    """Awaited, it yields what it has."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        yield self.value


class Horn(Duck):
    """It calls its call-backs itself, one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.callbacks: list[Callable[[Any], object]] = []

    def add_done_callback(self, callback: Any, context: contextvars.Context) -> None:
        self.callbacks.append(callback)

    def blow(self) -> None:
        for callback in self.callbacks:
            callback(self)


@pytest.mark.parametrize("make", LOOPS)
def test_a_task_that_is_woken_by_a_call_is_current_in_its_step_alone(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with running(make) as (loop, told):
        horn = Horn(loop)
        current: list[Any] = []

        async def wait() -> None:
            await horn
            current.append(asyncio.current_task())

        async def main() -> None:
            tasks = [loop.create_task(wait()), asyncio.Task(wait()), loop.create_task(wait())]
            await asyncio.sleep(0)
            horn.callbacks.insert(1, lambda _: current.append(asyncio.current_task()))
            with pytest.raises(RuntimeError, match="while another task"):
                horn.blow()
            assert asyncio.current_task() not in tasks
            assert current == []
            loop.call_soon(horn.blow)
            await asyncio.gather(*tasks)
            assert current == [tasks[0], None, *tasks[1:]]

        loop.run_until_complete(main())
    assert told == []


@pytest.mark.parametrize("kind", [asyncio.Task, Task])
def test_a_step_that_a_loop_of_another_kind_cannot_queue_leaves_the_loop_whole(kind: Any) -> None:
    class Full(asyncio.SelectorEventLoop):
        is_full = False

        def call_soon(  # type: ignore[override]
            self, callback: Any, *args: Any, context: Any = None
        ) -> Any:
            if self.is_full:
                self.is_full = False
                raise RuntimeError("full")
            return super().call_soon(callback, *args, context=context)

    with running(Full) as (loop, told):

        async def fills() -> None:
            loop.is_full = True  # type: ignore[attr-defined]
            await asyncio.sleep(0)

        async def noted() -> None:
            seen.append(asyncio.current_task())

        seen: list[Any] = []
        tasks = [kind(fills(), loop=loop), kind(noted(), loop=loop)]
        loop.run_until_complete(tasks[1])
        assert seen == [tasks[1]]
        assert asyncio.current_task(loop) is None
        assert len(told) == 1
        tasks[0].get_coro().close()
        tasks[0]._log_destroy_pending = False


def test_what_cannot_be_waited_for_is_an_error_where_it_is_awaited() -> None:
    other = EventLoop()
    with running(EventLoop) as (loop, told):

        async def met(value: Any) -> str:
            try:
                await Yields(value)
            except RuntimeError as error:
                return str(error)
            return ""

        async def main() -> None:
            elsewhere = other.create_future()
            elsewhere._asyncio_future_blocking = True
            assert "attached to a different loop" in await met(elsewhere)
            assert "yield was used instead of yield from" in await met(loop.create_future())
            assert "yield was used instead of yield from" in await met(asyncio.Future())
            assert "bad yield: 5" in await met(5)
            assert "for generator" in await met(iter_nothing())
            itself = asyncio.current_task()
            assert itself is not None
            with pytest.raises(RuntimeError, match="cannot await on itself"):
                await itself
            iterator = loop.create_future().__await__()
            next(iterator)
            with pytest.raises(RuntimeError, match="wasn't used with future"):
                next(iterator)

        def iter_nothing() -> Iterator[None]:
            yield

        loop.run_until_complete(main())
    other.close()
    assert told == []


def test_who_else_waits_is_told_when_one_is_removed() -> None:
    with running(EventLoop) as (loop, told):
        seen: list[str] = []

        def first(_: Any) -> None:
            seen.append("first")

        def last(_: Any) -> None:
            seen.append("last")

        async def wait(future: asyncio.Future[None], name: str) -> None:
            await future
            seen.append(name)

        async def main() -> None:
            future = loop.create_future()
            future.add_done_callback(first)
            tasks = [asyncio.create_task(wait(future, "one"))]
            await asyncio.sleep(0)
            future.add_done_callback(first)
            tasks.append(asyncio.create_task(wait(future, "two")))
            await asyncio.sleep(0)
            future.add_done_callback(last)
            assert future.remove_done_callback(first) == 2
            assert future.remove_done_callback(first) == 0
            assert len(future._callbacks) == 3
            future.set_result(None)
            await asyncio.gather(*tasks)

        loop.run_until_complete(main())
        assert seen == ["one", "two", "last"]
    assert told == []


def test_a_task_waits_for_itself_to_be_cancelled_in_each_state() -> None:
    with running(EventLoop) as (loop, told):

        async def forever() -> None:
            for _ in range(1_000):
                await asyncio.sleep(0)

        async def stubborn() -> str:
            try:
                await loop.create_future()
            except asyncio.CancelledError as error:
                return str(error)
            return ""

        async def at_the_end() -> None:
            current = asyncio.current_task()
            assert current is not None
            current.cancel("late")

        async def cancelled(main: Coroutine[Any, Any, Any], passes: int) -> Any:
            task = asyncio.create_task(main)
            for _ in range(passes):
                await asyncio.sleep(0)
            assert task.cancel("now") == (passes < 3)
            try:
                return await task
            except asyncio.CancelledError as error:
                return error.args

        async def main() -> None:
            assert await cancelled(forever(), 0) == ("now",)  # before it began
            assert await cancelled(forever(), 2) == ("now",)
            assert await cancelled(stubborn(), 0) == ("now",)
            assert await cancelled(stubborn(), 2) == "now"
            assert await cancelled(at_the_end(), 3) == ("late",)
            assert await cancelled(asyncio.sleep(0, "done"), 3) == "done"

        loop.run_until_complete(main())
    assert told == []

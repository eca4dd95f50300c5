"""Random programs of tasks and futures: on our loop they do what they do on asyncio's."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from tests.reactor.test_tasks import running

PROGRAMS = 300


class Program:
    """A random program of tasks and futures, the same one for each seed, and what it did."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.random = random.Random(seed)
        self.loop = loop
        self.trace: list[tuple[Any, ...]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(6)]

    def note(self, *what: Any) -> None:
        self.trace.append(what)

    def number(self, task: Any) -> int | None:
        return next((at for at, each in enumerate(self.tasks) if each is task), None)

    def spawn(self, depth: int) -> None:
        number = len(self.tasks)
        self.tasks.append(self.loop.create_task(self.body(number, depth)))

    async def body(self, number: int, depth: int) -> int:
        for at in range(self.random.randrange(1, 9)):
            try:
                self.note(number, at, repr(await self.one_of(number, depth)))
            except asyncio.CancelledError as error:
                self.note(number, at, "cancelled", error.args)
                if self.random.random() < 0.5:
                    raise
            except (ValueError, RuntimeError, asyncio.InvalidStateError) as error:
                self.note(number, at, type(error).__name__)
            self.note(number, at, "current", self.number(asyncio.current_task()))
        if self.random.random() < 0.1:
            raise ValueError(number)
        return number

    async def one_of(self, number: int, depth: int) -> Any:
        what = self.random.randrange(16)
        future = self.random.choice(self.futures)
        task = self.random.choice(self.tasks)
        older = self.random.choice(self.tasks[: number + 1])  # itself, maybe; no other circle
        if what < 4:
            return await asyncio.sleep(0)
        if what == 4:
            future.set_result(what)
        elif what == 5:
            future.set_exception(ValueError(what))
        elif what == 6:
            return ("cancel", future.cancel("enough"))
        elif what == 7:
            return ("cancel", task.cancel("stop"), task.cancelling(), task.done())
        elif what == 8:
            current = asyncio.current_task()
            assert current is not None
            return ("uncancel", current.uncancel())
        elif what == 9:
            return await asyncio.shield(future)
        elif what == 10:
            several = [future, *self.tasks[: number // 2]]
            return await asyncio.gather(*several, return_exceptions=number % 2 == 0)
        elif what == 11 and depth < 3:
            self.spawn(depth + 1)
        elif what == 12:
            return await older
        elif what == 13:
            self.loop.call_soon(self.note, "soon", self.number(asyncio.current_task()))
            self.loop.call_soon(lambda: self.note("outside", asyncio.current_task()))
        elif what == 14:
            future.add_done_callback(lambda done: self.note("done", done.cancelled()))
            task.add_done_callback(lambda done: self.note("ended", self.number(done)))
        else:
            return await future
        return what

    async def run(self) -> None:
        for _ in range(5):
            self.spawn(0)
        for turn in range(60):
            await asyncio.sleep(0)
            if turn % 10 == 9:
                at = self.random.randrange(len(self.futures))
                self.futures[at].cancel()
                self.futures[at] = self.loop.create_future()
        while left := [task for task in self.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        for task in self.tasks:
            self.note(task.cancelled() or repr(task.exception() or task.result()))


@pytest.mark.parametrize("kind", ["our own", "stock tasks", "stock futures"])
def test_random_programs_do_what_they_do_on_asyncios_loop(kind: str) -> None:
    def make() -> asyncio.AbstractEventLoop:
        loop: Any = EventLoop()
        if kind == "stock tasks":
            loop.set_task_factory(
                lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options)
            )
        return loop  # type: ignore[no-any-return]

    for seed in range(PROGRAMS):
        traces = []
        for each in (asyncio.SelectorEventLoop, make):
            with running(each) as (loop, told):
                program = Program(seed, loop)
                if kind == "stock futures":
                    program.futures = [asyncio.Future(loop=loop) for _ in range(6)]
                loop.run_until_complete(program.run())
                assert len(program.trace) > 10
                traces.append(program.trace)
                del program
                gc.collect()
                traces.append([(each,) for each in sorted(told)])
        assert traces[:2] == traces[2:], seed

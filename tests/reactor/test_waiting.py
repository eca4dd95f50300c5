"""Waiting for several futures: ``reactor.waiting``."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from reactor import new_event_loop
from reactor.waiting import cancel_others, wait


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def futures(count: int) -> list[asyncio.Future[int]]:
    loop = asyncio.get_running_loop()
    return [loop.create_future() for _ in range(count)]


def callbacks(future: asyncio.Future[Any]) -> list[Any]:
    return list(future._callbacks or ())


ENDS: tuple[Callable[[asyncio.Future[int]], object], ...] = (
    lambda future: future.set_result(1),
    lambda future: future.set_exception(LookupError),
    lambda future: future.cancel(),
)


def test_ends_when_the_last_is_done() -> None:
    async def main() -> None:
        some = futures(3)
        waiting = asyncio.ensure_future(wait(some))
        for number, future in enumerate(some):
            await asyncio.sleep(0)
            assert not waiting.done()
            future.set_result(number)
        assert await waiting is True

    run(main())


def test_ends_with_the_first_and_whatever_that_has_come_to() -> None:
    async def main() -> None:
        for end in ENDS:
            some = futures(3)
            waiting = asyncio.ensure_future(wait(some, first=True))
            await asyncio.sleep(0)
            end(some[1])
            assert await waiting is True
            assert [each.done() for each in some] == [False, True, False]
            assert callbacks(some[0]) == callbacks(some[2]) == []
            assert some[1].cancelled() or some[1].exception() or some[1].result() == 1

    run(main())


@pytest.mark.parametrize("first", [False, True])
def test_what_is_done_already_costs_a_pass_in_which_others_have_their_turn(first: bool) -> None:
    async def main() -> None:
        some = futures(2)
        some[0].set_result(0)
        turns: list[int] = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        assert await wait(iter(some[: 1 + first]), first=first, timeout=20) is True
        assert turns == [1]

    run(main())


def test_nothing_at_all_is_refused() -> None:
    async def main() -> None:
        for first in (False, True):
            with pytest.raises(ValueError, match="nothing to wait for"):
                await wait([], first=first)

    run(main())


@pytest.mark.parametrize("first", [False, True])
def test_after_the_timeout_nothing_is_left_with_those_that_go_on(first: bool) -> None:
    async def main() -> None:
        some = futures(2)
        if not first:
            some[0].set_result(0)
        assert await wait(some, timeout=0.001, first=first) is False
        assert callbacks(some[1]) == []
        assert not some[1].done()

    run(main())


def test_cancelled_it_leaves_the_futures_alone() -> None:
    async def main() -> None:
        some = futures(2)
        waiting = asyncio.ensure_future(wait(some, timeout=20))
        await asyncio.sleep(0)
        assert all(map(callbacks, some))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [callbacks(each) for each in some] == [[], []]
        assert not any(each.done() for each in some)

    run(main())


def test_all_done_in_one_pass_and_cancelled_in_that_pass() -> None:
    async def main() -> None:
        some = futures(2)
        waiting = asyncio.ensure_future(wait(some))
        await asyncio.sleep(0)
        for each in some:
            each.set_result(0)
        await asyncio.sleep(0)  # its call-backs have run, and it has not
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())


def test_leaves_no_cycle() -> None:
    async def main() -> None:
        some = futures(2)
        task = asyncio.ensure_future(wait(some, timeout=20))
        await asyncio.sleep(0)
        for each in some:
            each.set_result(0)
        await task
        found: list[weakref.ref[Any]] = [weakref.ref(each) for each in (task, *some)]
        del task, some, each
        await asyncio.sleep(0)
        assert [each() for each in found] == [None] * 3

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_on_asyncios_own_loop() -> None:
    async def main() -> None:
        some = futures(1)
        assert not await wait(some, timeout=0.001)
        asyncio.get_running_loop().call_soon(some[0].set_result, 0)
        assert await wait(some)

    asyncio.run(main())


def test_others_are_cancelled_and_so_are_those_that_they_make_at_their_end() -> None:
    ended: list[str] = []

    async def other(depth: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(f"other {depth}")
            if depth:
                made.add(asyncio.ensure_future(other(depth - 1)))

    made: set[asyncio.Future[None]] = set()

    async def main() -> None:
        await cancel_others()  # nobody is there
        made.add(asyncio.ensure_future(other(2)))
        await asyncio.sleep(0)
        await cancel_others()
        assert all(task.done() for task in made)
        ended.append("main")

    run(main())
    assert ended == ["other 2", "other 1", "other 0", "main"]

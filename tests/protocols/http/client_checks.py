"""What tests of AsyncClient look at: its connections, its failures, and how to wait for it.

Owns: nothing that outlives a test.
Invariant: a check compares the whole of what it looks at, so that nothing more may be there.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from protocols.http import AsyncClient, Timeout
from reactor import EndpointError

NOTHING = {"leased": 0, "idle": 0, "opening": 0, "waiting": 0}


def counts(client: AsyncClient) -> dict[str, int]:
    stats: dict[str, Any] = {**client.manager.stats()}
    return {name: stats[name] for name in NOTHING}


async def passes(count: int) -> None:
    """Let the loop make passes, so that what is under way in the kernel arrives."""
    for _ in range(count):
        await asyncio.sleep(0)


async def check_no_cycle(fails: Awaitable[weakref.ref[Any]]) -> None:
    """Assert that what *fails* refers to is gone, without the collector, after some passes."""
    gc.collect()
    gc.disable()
    try:
        held = await fails
        await passes(3)  # the connection is told of its end
        assert held() is None
    finally:
        gc.enable()


async def until(condition: Callable[[], bool]) -> None:
    """Make passes until *condition* holds; the test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - it is the client's state and has no event
        await asyncio.sleep(0)


def check_failure(error: BaseException, port: int, phase: str, *kinds: type[BaseException]) -> None:
    """Assert that *error* names its endpoint and phase, is of all *kinds*, and pickles."""
    assert isinstance(error, EndpointError)
    for kind in kinds:
        assert isinstance(error, kind)
    text = str(error)
    assert f":{port}" in text
    assert text.startswith(f"{phase} ")
    assert (error.port, error.phase) == (port, phase)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.host, copy.port) == (
        type(error), text, error.host, error.port,
    )  # fmt: skip
    assert vars(copy) == vars(error)


async def failure_of(
    url: str, timeout: float | Timeout | None = 10, **options: Any
) -> BaseException:
    """Return what a get raises, after asserting that it left nothing behind."""
    async with AsyncClient(timeout=timeout, **options) as client:
        try:
            await client.get(url)
        except Exception as error:
            assert counts(client) == NOTHING
            failure: BaseException = error
        else:
            raise AssertionError("it did not fail")
    return failure

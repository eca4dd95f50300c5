"""Fixtures for the reactor's tests: a loop on every poller, and what it must leave behind.

Owns the fixtures ``loop`` and ``simulated``.  Invariant: after a test no op is live, no block
lent, no timer armed, no call-back ready, and the contract was not broken.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite(
    "reactor.testing.poller_harness",
    "reactor.testing.descriptor_suite",
    "reactor.testing.poller_suite",
)

from reactor.eventloop import EventLoop  # noqa: E402 - after the line above
from reactor.pollers import default_poller, new_poller  # noqa: E402
from reactor.pollers.simulated import SimulatedPoller  # noqa: E402
from reactor.testing import simulated_loop  # noqa: E402
from tests.reactor.recorder import settle  # noqa: E402

SIMULATED: dict[str, dict[str, Any]] = {
    "simulated": {},
    "deferred": {"deferred": True},
    "posted": {"deferred": True, "posted": True, "delay_seconds": 0.001},
}
POLLERS = [default_poller(), *SIMULATED]
if default_poller() == "iocp":
    POLLERS.append("speed")  # the same one, in its other mode


def check_quiet(loop: EventLoop) -> None:
    """Assert that nothing of a loop that is at rest is alive."""
    settle(loop)  # what the last call-back set off
    stats = loop.stats()
    assert not any(stats.values()), stats
    assert getattr(loop.poller, "violations", []) == []


def closing(loop: EventLoop) -> Iterator[EventLoop]:
    """Yield *loop*, check it and close it."""
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    loop.reported = reported  # type: ignore[attr-defined]
    try:
        yield loop
        if not loop.is_closed():
            check_quiet(loop)
            if not isinstance(loop.poller, SimulatedPoller):
                loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    assert reported == []


def loop_on(poller: str) -> EventLoop:
    """Return a loop on a poller of the system's, by its name in ``POLLERS``."""
    if poller == "speed":
        return EventLoop(new_poller(optimization="speed"))
    return EventLoop(new_poller(poller))


@pytest.fixture(params=POLLERS)
def loop(request: pytest.FixtureRequest) -> Iterator[EventLoop]:
    """Return a loop on each poller, in line and deferred."""
    if request.param in SIMULATED:
        yield from closing(simulated_loop(**SIMULATED[request.param]))
    else:
        yield from closing(loop_on(request.param))


@pytest.fixture
def real() -> Iterator[EventLoop]:
    """Return a loop on the platform's own poller, for what only real descriptors can show."""
    yield from closing(EventLoop())


@pytest.fixture(params=list(SIMULATED))
def simulated(request: pytest.FixtureRequest) -> Iterator[Callable[..., EventLoop]]:
    """Return a function that makes a simulated loop with faults, in line and deferred."""
    made: list[Iterator[EventLoop]] = []

    def make(**faults: Any) -> EventLoop:
        made.append(closing(simulated_loop(**{**SIMULATED[request.param], **faults})))
        return next(made[-1])

    yield make
    for loop in made:
        next(loop, None)


@pytest.fixture
def reports(real: EventLoop) -> Iterator[list[dict[str, Any]]]:
    """What the loop's exception handler was told."""
    told: list[dict[str, Any]] = []
    real.set_exception_handler(lambda _, context: told.append(context))
    yield told
    real.set_exception_handler(None)

"""A pytest plugin for aiohttp's tests: whoever asks asyncio for a loop gets the reactor's.

Invariant: every test says in the report, as its property ``loops``, how many it made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import reactor


class Loop(reactor.EventLoop):
    """The reactor's loop, counted."""

    made = 0

    def __init__(self) -> None:
        Loop.made += 1
        super().__init__()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return Loop()


def pytest_configure() -> None:
    """Put the loop in the place of asyncio's."""
    asyncio.set_event_loop_policy(_Policy())
    places: Any = asyncio
    places.SelectorEventLoop = Loop


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Count from here."""
    Loop.made = 0
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Note the count."""
    item.user_properties.append(("loops", Loop.made))
    yield

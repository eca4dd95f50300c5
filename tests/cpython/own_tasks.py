"""CPython's tests of tasks and futures, of ``reactor.tasks`` and ``reactor.futures``.

The loops of CPython's tests are in debug mode, in which our loop makes asyncio's own futures and
tasks, and many tests make them of a class that they are told.  So ``run_asyncio`` runs these here
as one module more: on a loop that makes its own always, and with our classes.  With ``--stock``
they are asyncio's.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import unittest
from typing import Any

from reactor.futures import Future
from reactor.tasks import Task

# Of these every class, on a loop that makes its own tasks.
MODULES = ("locks", "queues", "runners", "taskgroups", "tasks", "timeouts", "waitfor")


class OwnTask(Task):
    """A task of our own, or asyncio's where our loop makes one: for one that begins at once."""

    def __new__(cls, *args: Any, eager_start: bool | None = None, **options: Any) -> Any:
        """Make one; CPython's tests always say whether it is to begin at once."""
        if eager_start:
            return asyncio.Task(*args, eager_start=eager_start, **options)  # type: ignore[call-arg]
        return super().__new__(cls)

    def __init__(self, *args: Any, eager_start: bool | None = None, **options: Any) -> None:
        """Begin in the next pass."""
        super().__init__(*args, **options)


OwnTask.__name__ = "Task"  # which is looked for in reprs


def imported(name: str) -> Any:
    return importlib.import_module(f"test.test_asyncio.test_{name}")


def classes(module: str) -> list[type[unittest.TestCase]]:
    """Return the test cases of one of CPython's modules, as classes of this one."""
    found = []
    for name, value in vars(imported(module)).items():
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            found.append(type(name, (value,), {"__module__": __name__}))
    return found


def load_tests(
    loader: unittest.TestLoader, standard: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """Make the classes, of what is in place by now."""
    tasks, futures = imported("tasks"), imported("futures")
    base = importlib.import_module("test.test_asyncio.utils").TestCase
    is_ours = hasattr(asyncio.SelectorEventLoop, "stats")
    our_task: Any = Task if sys.version_info < (3, 14) else OwnTask
    our_task = our_task if is_ours else asyncio.Task
    our_future: Any = Future if is_ours else asyncio.Future
    names = ("all_tasks", "current_task")  # with which the tests of newer versions ask
    asks = {name: vars(tasks.CTask_CFuture_Tests).get(name) for name in names}
    made: dict[str, tuple[tuple[type, ...], dict[str, Any]]] = {
        "OwnTaskTests": (
            (tasks.CTask_CFuture_Tests,),
            {"Task": our_task, "Future": our_future},
        ),
        "OwnTaskOfStockFutureTests": (
            (tasks.BaseTaskTests, base),
            {"Task": our_task, "Future": asyncio.Future, **asks},
        ),
        "StockTaskOfOwnFutureTests": (
            (tasks.BaseTaskTests, base),
            {"Task": asyncio.Task, "Future": our_future, **asks},
        ),
        "OwnFutureTests": ((futures.BaseFutureTests, base), {"cls": our_future}),
        "OwnFutureDoneCallbackTests": (
            (futures.BaseFutureDoneCallbackTests, base),
            {"_new_future": lambda self: our_future(loop=self.loop)},
        ),
    }
    suite = unittest.TestSuite()
    for name, (bases, attributes) in made.items():
        case: Any = type(name, bases, {**attributes, "__module__": __name__})
        suite.addTests(loader.loadTestsFromTestCase(case))
    for module in MODULES:
        try:
            cases = classes(module)
        except ImportError:  # of a newer Python
            continue
        for case in cases:
            suite.addTests(loader.loadTestsFromTestCase(case))
    return suite

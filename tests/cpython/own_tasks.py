"""CPython's tests of tasks and futures, of ``reactor.tasks`` and ``reactor.futures``.

The loops of CPython's tests are in debug mode, in which our loop makes asyncio's own futures and
tasks, and many tests make them of a class that they are told.  So ``run_asyncio`` runs these here
as one module more: on a loop that makes its own always, and with our classes.  With ``--stock``
they are asyncio's.
"""

from __future__ import annotations

import asyncio
import importlib
import unittest
from typing import Any

from reactor.futures import Future
from reactor.tasks import Task

# Of these every class, on a loop that makes its own tasks.
MODULES = ("locks", "queues", "runners", "taskgroups", "tasks", "timeouts", "waitfor")


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
    our_task: Any = Task if is_ours else asyncio.Task
    our_future: Any = Future if is_ours else asyncio.Future
    made: dict[str, tuple[tuple[type, ...], dict[str, Any]]] = {
        "OwnTaskTests": (
            (tasks.BaseTaskTests, tasks.SetMethodsTest, base),
            {"Task": our_task, "Future": our_future},
        ),
        "OwnTaskOfStockFutureTests": (
            (tasks.BaseTaskTests, base),
            {"Task": our_task, "Future": asyncio.Future},
        ),
        "StockTaskOfOwnFutureTests": (
            (tasks.BaseTaskTests, base),
            {"Task": asyncio.Task, "Future": our_future},
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

"""Runs CPython's own ``test.test_asyncio`` on the reactor's event loop.

usage: python tests/cpython/run_asyncio.py [MODULE ...]      (such as test_events; default: all)

The tests come with the interpreter.  Wherever they make a ``SelectorEventLoop``, they get the
reactor's.  A test that is left out is named in ``EXCLUDED`` with the reason; one that is named
there and passes is a failure too, so that the list cannot outlive its reasons.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
import sys
import unittest
from typing import Any, Self

from reactor.eventloop import EventLoop

STOCK = "is about the stock loop's own selector, transports or protocols, built around mocks"
MOCKED = "hands the loop a mock in place of a socket; our transports need a descriptor"
INNARDS = "looks at private attributes of the stock loop or its transports"
FREED = "wants the pipes of a closed loop to be open; ours frees them, and warns"

# module.Class.test, or module.Class, or module: reason
EXCLUDED: dict[str, str] = {
    "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_ip_addr": MOCKED,
    "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_ipv6_scope": MOCKED,
    "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_no_inet_pton": MOCKED,
    "test_base_events.BaseEventLoopWithSelectorTests.test_create_connection_service_name": MOCKED,
    "test_base_events.BaseEventLoopWithSelectorTests.test_create_server_soreuseport_only_defined": (
        MOCKED
    ),
    "test_base_events.BaseEventLoopWithSelectorTests.test_log_slow_callbacks": (
        "patches base_events' logger; ours logs to the same logger from its own module"
    ),
    **{
        f"test_events.{kind}EventLoopTests.{test}": "asks for 'ssl' in the name of the class"
        for kind in ("EPoll", "Poll", "Select")
        for test in ("test_create_ssl_connection", "test_create_ssl_unix_connection")
    },
    **{
        f"test_events.{kind}EventLoopTests.test_unclosed_pipe_transport": FREED
        for kind in ("EPoll", "Poll", "Select")
    },
    "test_events.EPollEventLoopTests.test_internal_fds": INNARDS,
    "test_events.PollEventLoopTests.test_internal_fds": INNARDS,
    "test_events.SelectEventLoopTests.test_internal_fds": INNARDS,
    "test_ssl.TestSSL.test_flush_before_shutdown": INNARDS,
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data": INNARDS,
}


class Loop(EventLoop):
    """The reactor's loop with the stock one's argument, which is ignored."""

    def __new__(cls, selector: Any = None) -> Self:
        """Make a loop on the platform's poller."""
        return super().__new__(cls)

    def __init__(self, selector: Any = None) -> None:
        super().__init__()


def put_in_place() -> None:
    """Let everything in asyncio that makes a selector loop make ours."""
    unix_events: Any = asyncio.unix_events
    asyncio.SelectorEventLoop = unix_events.SelectorEventLoop = Loop
    if hasattr(asyncio, "EventLoop"):  # from 3.13 on
        asyncio.EventLoop = Loop
    if hasattr(unix_events, "_UnixDefaultEventLoopPolicy"):
        unix_events._UnixDefaultEventLoopPolicy._loop_factory = Loop


def reason_to_leave_out(name: str) -> str | None:
    """Return why the test is excluded, or ``None``."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        reason = EXCLUDED.get(".".join(parts[:end]))
        if reason is not None:
            return reason
    return None


def flatten(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Return the cases of a suite of suites."""
    cases = []
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            cases += flatten(each)
        else:
            cases.append(each)
    return cases


def main(modules: list[str]) -> int:
    """Run the modules and return the exit status."""
    package = importlib.import_module("test.test_asyncio")
    found = [each.name for each in pkgutil.iter_modules(package.__path__)]
    put_in_place()
    loader = unittest.TestLoader()
    chosen = unittest.TestSuite()
    left_out = []
    for module in modules or sorted(each for each in found if each.startswith("test_")):
        try:
            cases = flatten(loader.loadTestsFromName(f"test.test_asyncio.{module}"))
        except unittest.SkipTest as skip:
            left_out.append(f"left out: {module}: {skip}")
            continue
        for case in cases:
            name = case.id().removeprefix("test.test_asyncio.")
            reason = reason_to_leave_out(name)
            if reason is None:
                chosen.addTest(case)
            else:
                left_out.append(f"left out: {name}: {reason}")
    result = unittest.TextTestRunner(verbosity=1).run(chosen)
    sys.stdout.write("".join(f"{line}\n" for line in left_out))
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = result.testsRun - failed - len(result.skipped)
    skipped = len(result.skipped)
    sys.stdout.write(f"{passed} passed, {failed} failed, {skipped} skipped\n")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

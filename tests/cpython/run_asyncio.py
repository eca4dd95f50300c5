"""Runs CPython's own ``test.test_asyncio`` on the reactor's event loop.

usage: python tests/cpython/run_asyncio.py [-j PROCESSES] [--stock] [MODULE ...]
                                                         (such as test_events; default: all)

The tests come with the interpreter.  Wherever they make a ``SelectorEventLoop``, on Windows also
a ``ProactorEventLoop``, they get the reactor's (with ``--stock``, for comparison, their own).
Each module has a process and a directory of its own, as in CPython's own runs.

One module more, ``own_tasks``, has the tests of tasks and futures again, for those of our own.

A test that is left out is named in ``EXCLUDED`` with the reason.  It is run all the same, on
both loops: one that passes on ours, or that fails on the stock one, is a failure, so that the
list cannot outlive its reasons.

On Windows, which may be Wine, what fails on our loop is run on the stock one as well: what fails
there too is no failure of ours, and named.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from reactor.eventloop import EventLoop
from reactor.futures import Future
from reactor.tasks import Task

OWN = "own_tasks"  # beside this file
PART_TIMEOUT_SECONDS = 900  # test_tasks alone takes 230 beside a load of 10
EXCLUDED_TIMEOUT_SECONDS = 60

MOCKED = "hands the loop a mock in place of a socket; our transports need a descriptor"
INNARDS = "looks at private attributes of the stock loop or its transports"
NAMED = "asks for 'ssl' in the name of the transport's class"
PRIVATE = "asks for the private class of a handle, asyncio.events._ThreadSafeHandle"
FREED = "wants the pipes of a closed loop to be open; ours frees them, and warns"
LOGGED = "patches base_events' logger; ours logs to the same logger from its own module"
BLOCKS = "hands sock_recv a socket that blocks, as only a proactor takes it: it does not end"
ACCEPTS = "connects before another pass of the loop: a listener closes when its AcceptEx is back"
UNTOLD = "Wine: a datagram socket is not told that nobody listens where it has sent to"
UNHEARD = "Wine: the stock loop's server hears nothing either; ours has no such innards"
TRANSMITS = "wants the words of TransmitFile's failure; here the file is read and sent"
DEBUG = "wants the stack from which it was made; in debug mode the loop makes asyncio's own"
UNDELETED = "wants an AttributeError for what cannot be deleted, where Cython's is another"

_SELECTORS = ("EPoll", "Poll", "Select")

_OWN: dict[str, str] = {
    f"{OWN}.Own{test}": DEBUG
    for test in (
        "FutureTests.test_future_repr",
        "FutureTests.test_future_source_traceback",
        "TaskTests.test_log_destroyed_pending_task",
        "TaskTests.test_task_source_traceback",
        "TaskOfStockFutureTests.test_log_destroyed_pending_task",
        "TaskOfStockFutureTests.test_task_source_traceback",
    )
}
_OWN[f"{OWN}.OwnTaskTests.test_del__log_destroy_pending_segfault"] = UNDELETED
if sys.version_info >= (3, 14):
    _OWN[f"{OWN}.OwnFutureTests.test_future_cancel_message_setter"] = UNDELETED

_POSIX: dict[str, str] = {
    **_OWN,
    **{
        f"test_base_events.BaseEventLoopWithSelectorTests.{test}": MOCKED
        for test in (
            "test_create_connection_ip_addr",
            "test_create_connection_ipv6_scope",
            "test_create_connection_no_inet_pton",
            "test_create_connection_service_name",
            "test_create_server_soreuseport_only_defined",
        )
    },
    "test_base_events.BaseEventLoopWithSelectorTests.test_log_slow_callbacks": LOGGED,
    **{
        f"test_events.{kind}EventLoopTests.{test}": NAMED
        for kind in _SELECTORS
        for test in ("test_create_ssl_connection", "test_create_ssl_unix_connection")
    },
    **{
        f"test_events.{kind}EventLoopTests.{test}": reason
        for kind in _SELECTORS
        for test, reason in (
            ("test_internal_fds", INNARDS),
            ("test_unclosed_pipe_transport", FREED),
        )
    },
    "test_ssl.TestSSL.test_flush_before_shutdown": INNARDS,
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data": INNARDS,
}
if sys.version_info >= (3, 14):
    _POSIX |= {
        f"test_{name}": INNARDS
        for name in (
            "ssl.TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket",
            "subprocess.SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published",
        )
    }

# Of Windows, where the stock loop is asyncio.ProactorEventLoop.
_WINDOWS: dict[str, str] = {
    **_OWN,
    **{
        name: reason
        for name, reason in _POSIX.items()
        if name.startswith(("test_base_events.", "test_ssl.")) and "service_name" not in name
    },
    **{
        f"test_events.{kind}EventLoopTests.{test}": reason
        for kind in ("Proactor", "Select")
        for test, reason in (
            ("test_create_ssl_connection", NAMED),
            ("test_internal_fds", INNARDS),
            ("test_server_close", ACCEPTS),
        )
    },
    "test_windows_events.ProactorTests.test_close": BLOCKS,
    **{
        f"test_proactor_events.ProactorEventLoopUnixSockSendfileTests.{test}": TRANSMITS
        for test in (
            "test_sock_sendfile_iobuffer",
            "test_sock_sendfile_not_a_file",
            "test_sock_sendfile_not_regular_file",
        )
    },
}

EXCLUDED = _WINDOWS if sys.platform == "win32" else _POSIX

# These end on no loop but the stock one, or fail on both: they are not tried.
ENDLESS: dict[str, str] = {}
if sys.platform != "win32" and sys.version_info >= (3, 14):
    ENDLESS = {
        f"test_events.{kind}EventLoopTests.test_call_soon_threadsafe_handle_{test}": PRIVATE
        for kind in _SELECTORS
        for test in (
            "block_cancellation",
            "block_check_cancelled",
            "cancel_other_thread",
            "cancel_same_thread",
        )
    }
if sys.platform == "win32":
    import ctypes

    if hasattr(ctypes.windll.ntdll, "wine_get_version"):
        ENDLESS = {
            f"test_sock_lowlevel.ProactorEventLoopTests.{test}": UNTOLD
            for test in (
                "test_datagram_send_to_non_listening_address_recvfrom",
                "test_datagram_send_to_non_listening_address_recvfrom_into",
            )
        }
        ENDLESS["test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data"] = UNHEARD
        EXCLUDED = {name: why for name, why in _WINDOWS.items() if name not in ENDLESS}


class Loop(EventLoop):
    """The reactor's loop with the stock ones' argument, which is ignored."""

    made = 0

    def __new__(cls, selector: Any = None, *, proactor: Any = None) -> Self:
        """Make a loop on the platform's poller."""
        return super().__new__(cls)

    def __init__(self, selector: Any = None, *, proactor: Any = None) -> None:
        Loop.made += 1
        super().__init__()


class OwnTasksLoop(Loop):
    """Makes its own futures and tasks in debug mode, too."""

    def create_future(self) -> Any:
        """Return a future of our own."""
        return Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> Any:
        """Return a task of our own, unless somebody else is to make it."""
        self._check_closed()
        if self._task_factory is not None or not {"name", "context"}.issuperset(options):
            return super().create_task(coro, **options)
        return Task(coro, loop=self, **options)


def put_in_place(ours: type[Loop]) -> None:
    """Let everything in asyncio that makes a stock loop make ours."""
    if sys.platform == "win32":
        windows_events: Any = asyncio.windows_events
        for module in (asyncio, windows_events):
            for name in ("SelectorEventLoop", "ProactorEventLoop", "EventLoop"):
                if hasattr(module, name):
                    setattr(module, name, ours)
        for policy in ("WindowsSelectorEventLoopPolicy", "WindowsProactorEventLoopPolicy"):
            getattr(windows_events, policy)._loop_factory = ours
        return
    unix_events: Any = asyncio.unix_events
    asyncio.SelectorEventLoop = unix_events.SelectorEventLoop = ours
    if hasattr(asyncio, "EventLoop"):  # from 3.13 on
        asyncio.EventLoop = ours
    if hasattr(unix_events, "_UnixDefaultEventLoopPolicy"):
        unix_events._UnixDefaultEventLoopPolicy._loop_factory = ours


# -- one module, in a process of its own -------------------------------------------------


class Result(unittest.TextTestResult):
    """Counts the tests that made at least one loop of ours."""

    on_ours = 0
    _made_before = 0

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Remember how many loops there were."""
        self._made_before = Loop.made
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        """Look whether there are more."""
        self.on_ours += Loop.made > self._made_before
        super().stopTest(test)

    def unsuccessful(self) -> list[str]:
        """Return the names of the tests that did not do what they should."""
        cases = [case for case, _ in self.failures + self.errors] + self.unexpectedSuccesses
        return sorted({short_name(getattr(case, "test_case", case)) for case in cases})


def flatten(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Return the cases of a suite of suites."""
    cases = []
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            cases += flatten(each)
        else:
            cases.append(each)
    return cases


def short_name(case: unittest.TestCase) -> str:
    """Return a case's name as ``EXCLUDED`` has it."""
    return case.id().removeprefix("test.test_asyncio.")


def run_cases(
    module: str, *, stock: bool, excluded: list[str], suspects: bool = False
) -> dict[str, Any]:
    """Run the named excluded tests of one module, or, without names, all the others.

    With *suspects* the names are of tests that failed on our loop: those that pass are wrong.
    """
    figures: dict[str, Any] = {"notes": [], "wrong": []}
    source = module if module == OWN else f"test.test_asyncio.{module}"
    try:
        importlib.import_module(source)
    except unittest.SkipTest as skip:
        figures["notes"].append(f"skipped: {module}: {skip}")
        return figures
    if not stock:
        put_in_place(OwnTasksLoop if module == OWN else Loop)
    loader = unittest.TestLoader()
    cases = flatten(loader.loadTestsFromName(source))
    by_name = {short_name(case): case for case in cases}
    for name in excluded:
        if name not in by_name:
            figures["wrong"].append(f"excluded, but not there: {name}")
            continue
        outcome = unittest.TextTestRunner().run(unittest.TestSuite([by_name[name]]))
        if suspects:
            if outcome.wasSuccessful():
                figures["wrong"].append(f"fails, and passes on the stock loop: {name}")
            else:
                figures["notes"].append(f"fails on the stock loop, too: {name}")
            continue
        if stock and not outcome.wasSuccessful():
            figures["wrong"].append(f"excluded, and the stock loop fails it too: {name}")
        if not stock and outcome.wasSuccessful():
            figures["wrong"].append(f"excluded, and passes: {name}")
    if not excluded:
        kind: Any = Result
        runner = unittest.TextTestRunner(resultclass=kind)
        left_out = ENDLESS if stock else {**EXCLUDED, **ENDLESS}
        rest = [case for case in cases if short_name(case) not in left_out]
        result: Any = runner.run(unittest.TestSuite(rest))
        figures["run"] = result.testsRun
        figures["unsuccessful"] = result.unsuccessful()
        figures["failed"] = len(figures["unsuccessful"])
        figures["skipped"] = len(result.skipped)
        figures["on_ours"] = result.on_ours
    return figures


# -- all of them -------------------------------------------------------------------------


class Part(NamedTuple):
    """What one process runs; the arguments of ``run_cases``."""

    module: str
    stock: bool
    excluded: list[str]
    suspects: bool = False

    def __str__(self) -> str:
        if not self.excluded:
            return self.module
        if self.suspects:
            return f"{self.module}: what failed, on the stock loop"
        what = "what is left out" if len(self.excluded) > 1 else self.excluded[0]
        return f"{self.module}: {what}, on {'the stock loop' if self.stock else 'ours'}"


def parts(modules: list[str], stock: bool) -> list[Part]:
    """Return what is to be run, what waits long for its failure first."""
    found = []
    for module in () if stock else modules:
        excluded = [name for name in EXCLUDED if name.startswith(f"{module}.")]
        found += [Part(module, False, [name]) for name in excluded]
        if excluded:
            found.append(Part(module, True, excluded))
    found.sort(key=lambda part: part.module == "test_ssl", reverse=True)
    return found + [Part(module, stock, []) for module in modules]


def run_apart(part: Part) -> tuple[dict[str, Any], str]:
    """Run a part in a process and a directory of its own; return figures and output."""
    with tempfile.TemporaryDirectory() as directory:
        figures = Path(directory, "figures.json")
        cwd = Path(directory, "cwd")
        cwd.mkdir()
        command = [sys.executable, str(Path(__file__).resolve()), "--figures", str(figures)]
        command += ["--stock"] * part.stock + ["--suspects"] * part.suspects
        command += [part.module, *part.excluded]
        begin = time.monotonic()
        on_ours = bool(part.excluded) and not part.stock
        limit = EXCLUDED_TIMEOUT_SECONDS if on_ours else PART_TIMEOUT_SECONDS
        try:
            child = subprocess.run(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
            output, status = child.stdout, f"status {child.returncode}"
        except subprocess.TimeoutExpired as late:
            output, status = late.stdout or b"", f"no end after {limit} s"
            if on_ours:  # which is a failure like another
                figures.write_text(json.dumps({"notes": [f"{part}: {status}"], "wrong": []}))
        if figures.exists():
            found: dict[str, Any] = json.loads(figures.read_text())
        else:
            found = {"notes": [], "wrong": [f"{part}: {status}"]}
        found["seconds"] = time.monotonic() - begin
    return found, output.decode(errors="replace")


def heed_signals() -> None:
    """Undo what a shell does to its background: tests would inherit signals that are ignored."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has two of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def completed(waiting: dict[Any, Part]) -> Iterator[Any]:
    """Yield each future of *waiting*, which may grow meanwhile, when it is done."""
    seen: set[Any] = set()
    while left := set(waiting) - seen:
        done, _ = concurrent.futures.wait(left, return_when=concurrent.futures.FIRST_COMPLETED)
        seen |= done
        yield from done


def run_all(modules: list[str], processes: int, stock: bool) -> int:
    """Run the modules, sum up and return the exit status."""
    begin = time.monotonic()
    totals = dict.fromkeys(("run", "failed", "skipped", "on_ours"), 0)
    wrong: list[str] = []
    compares = sys.platform == "win32" and not stock
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        waiting = {pool.submit(run_apart, part): part for part in parts(modules, stock)}
        for each in completed(waiting):
            figures, output = each.result()
            failed = figures.get("unsuccessful", [])
            if compares and failed:
                part = Part(waiting[each].module, True, failed, suspects=True)
                waiting[pool.submit(run_apart, part)] = part
                totals["failed"] -= len(failed)
                totals["skipped"] += len(failed)
            for name in totals:
                totals[name] += figures.get(name, 0)
            wrong += figures["wrong"]
            sys.stdout.write(f"{figures['seconds']:6.1f} s  {waiting[each]}\n")
            if figures.get("failed") or figures["wrong"]:
                sys.stdout.write(output)
            sys.stdout.write("".join(f"{note}\n" for note in figures["notes"]))
            sys.stdout.flush()
    if not stock:
        known = {**EXCLUDED, **ENDLESS}
        names = [name for name in known if name.partition(".")[0] in modules]
        sys.stdout.write("".join(f"left out: {name}: {known[name]}\n" for name in names))
    sys.stdout.write("".join(f"wrong: {each}\n" for each in wrong))
    passed = totals["run"] - totals["failed"] - totals["skipped"]
    sys.stdout.write(
        f"{passed} passed ({totals['on_ours']} made a loop of ours), {totals['failed']} failed, "
        f"{totals['skipped']} skipped, {time.monotonic() - begin:.0f} s\n"
    )
    return 1 if totals["failed"] or wrong or not passed else 0


def main() -> int:
    """Read the command line; see the top."""
    parser = argparse.ArgumentParser()
    # More than there are processors, since most of the time is spent waiting.
    parser.add_argument("-j", type=int, default=2 + 2 * (os.cpu_count() or 1), metavar="PROCESSES")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--suspects", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    chosen = parser.parse_args()
    if chosen.figures is not None:
        module, *excluded = chosen.modules
        figures = run_cases(module, stock=chosen.stock, excluded=excluded, suspects=chosen.suspects)
        chosen.figures.write_text(json.dumps(figures))
        return 0
    try:
        package = importlib.import_module("test.test_asyncio")
    except ImportError:
        sys.stderr.write("this Python came without its tests (Debian: libpython3-testsuite)\n")
        return 1
    found = [each.name for each in pkgutil.iter_modules(package.__path__)]
    modules = chosen.modules or [OWN, *sorted(each for each in found if each.startswith("test_"))]
    heed_signals()
    return run_all(modules, chosen.j, chosen.stock)


if __name__ == "__main__":
    sys.exit(main())

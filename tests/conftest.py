"""Fixtures for all tests, and what each test must leave as it found it.

Owns the check for leaks after each test and the session's peers (servers that are not
ours).  A warning is an error (pyproject.toml), and so is an exception that nobody could
receive: pytest collects those at the end of each phase of a test.
"""

import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import leaked, live_resources
from tests.peers.absent import absent
from tests.peers.nginx import Nginx
from tests.peers.nginx import executable as nginx_executable
from tests.windows import FILES, reason_for


def pytest_configure() -> None:
    # Tests talk to peers of their own; a proxy of this machine's has no part in it.
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    # A shell without job control starts what runs in its background with SIGINT ignored,
    # nohup with SIGHUP ignored, and all children would inherit that.
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGCHLD"):
        number = getattr(signal, name, None)  # Windows has two of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            interrupts = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupts else signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if reason_for(collection_path) else None


def pytest_report_header() -> list[str]:
    if sys.platform != "win32":
        return []
    return [f"left out: {path}: {reason}" for path, reason in FILES.items()]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        function = item.name.partition("[")[0]
        reason = reason_for(item.path, item.name) or reason_for(item.path, function)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    _keep_what_there_is()


_finished = itertools.count(1)


def pytest_runtest_logfinish() -> None:
    # pytest's reports pile up: looked at after each of some thousands of tests, they took half of
    # the suite's time.
    if next(_finished) % 50 == 0:
        _keep_what_there_is()


def _keep_what_there_is() -> None:
    """What is there now stays: the collection after each test need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    before = live_resources()
    yield
    # What waits in a cycle would close its descriptor some time later, with a warning.
    gc.collect()
    assert leaked(before) == {}


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Return a running nginx, the same for the whole session."""
    if nginx_executable() is None:
        absent("nginx", "nginx-light")
    with Nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server

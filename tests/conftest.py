"""Fixtures for all tests, and what each test must leave as it found it.

Owns the check for leaks after each test and the session's peers (servers that are not
ours).  A warning is an error (pyproject.toml), and so is an exception that nobody could
receive: pytest collects those at the end of each phase of a test.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.peers.nginx import Nginx
from tests.peers.nginx import executable as nginx_executable

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def live_resources() -> dict[str, str]:
    """Return what is open or running in this process: a name to what it is.

    Anything that must not outlive the test which made it belongs here.
    """
    found = {}
    if sys.platform == "linux":
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the descriptor that read the directory
                found[f"fd {path.name}"] = str(path.readlink())
    for thread in threading.enumerate():
        found[f"thread {thread.ident}"] = repr(thread)
    return found


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    before = live_resources()
    yield
    gc.collect()
    leaked = {name: what for name, what in live_resources().items() if before.get(name) != what}
    assert not leaked


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Return a running nginx, the same for the whole session."""
    if nginx_executable() is None:
        message = "nginx is not installed (Debian: apt-get install nginx-light)"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    with Nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server

"""What a test must not leave behind: the things that are open or running in this process.

Owns the list of kinds; ``conftest.py`` compares it before and after each test.
"""

import sys
import threading
from contextlib import suppress
from pathlib import Path


def live_resources() -> dict[str, str]:
    """Return the name of each thing that is open or running, and what it is."""
    found = {}
    if sys.platform == "linux":
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the descriptor that read the directory
                found[f"fd {path.name}"] = str(path.readlink())
    for thread in threading.enumerate():
        found[f"thread {thread.ident}"] = repr(thread)
    return found


def leaked(before: dict[str, str]) -> dict[str, str]:
    """Return what is live now and was not, or was something else, *before*.

    From 3.4 on libffi (of ctypes, for the first call-back) keeps its own file open for good.
    """
    return {
        name: what
        for name, what in live_resources().items()
        if before.get(name) != what and "/libffi.so" not in what
    }

"""Child processes in tests: started on the running loop, ended whatever happens.

Owns each child until its test's block is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a child ended."""

    status: int
    out: str
    err: str


class Child:
    """A running child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def end(self, data: bytes | None = None) -> Ended:
        """Write *data* to its input, end that, read its outputs and wait until it has ended."""
        if data is None and self.process.stdin is not None:
            self.process.stdin.close()  # communicate() leaves it open before Python 3.12
        out, err = await self.process.communicate(data)
        status = self.process.returncode
        assert status is not None
        return Ended(status, _text(out), _text(err))


def _text(output: bytes | None) -> str:
    return (output or b"").decode().replace(os.linesep, "\n")


@contextlib.contextmanager
def _signals_at_default() -> Iterator[None]:
    """Keep a child from inheriting that a signal is ignored, as under nohup(1) or in CI."""
    there = [getattr(signal, name, None) for name in ("SIGHUP", "SIGINT", "SIGTERM")]
    ignored = [
        number
        for number in there  # Windows has two of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextlib.asynccontextmanager
async def running(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Child]:
    """Run this Python with *arguments*; kill it at the end of the block if it still runs."""
    options = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": {**os.environ, **(environment or {})},
        **options,
    }
    with _signals_at_default():
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, **options)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

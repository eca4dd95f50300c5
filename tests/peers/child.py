"""Child processes in tests: started on the running loop, ended whatever happens.

Owns each child until its test's block is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
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
        return Ended(status, (out or b"").decode(), (err or b"").decode())


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
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, **options)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

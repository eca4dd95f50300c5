"""asyncio's transports of pipes and child processes, as our loop has them on POSIX.

Owns: what must happen to them when their loop closes, and how the exit of a child is noticed
(pidfd_open(2), or a thread where that is not to be had).  May not touch: how they read and
write, which is asyncio's.
Invariant: after ``orphan`` nothing of the system's is left of a transport: neither a descriptor
nor a child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import warnings
from asyncio import unix_events
from typing import Any

from reactor.limits import KILLED_SECONDS

__all__ = [
    "ProcessTransport",
    "ReadPipeTransport",
    "WritePipeTransport",
]

logger = logging.getLogger("asyncio")


def _warning(transport: Any) -> str:
    return f"unclosed transport {transport!r}"


class _Pipe:
    _pipe: Any

    def orphan(self) -> None:
        """The loop is closed: close the pipe, call nobody, warn."""
        if self._pipe is not None:
            message = _warning(self)
            pipe, self._pipe = self._pipe, None
            self._closing = True
            self._protocol = None
            pipe.close()
            warnings.warn(message, ResourceWarning, 2, source=self)


class ReadPipeTransport(_Pipe, unix_events._UnixReadPipeTransport):  # type: ignore[misc,name-defined]
    """The reading end of a pipe."""


class WritePipeTransport(_Pipe, unix_events._UnixWritePipeTransport):  # type: ignore[misc,name-defined]
    """The writing end of a pipe."""


class ProcessTransport(unix_events._UnixSubprocessTransport):  # type: ignore[misc,name-defined]
    """A child process; it needs no child watcher, and a loop on any thread may have one."""

    _closed: bool
    _pidfd = -1

    def watch(self) -> None:
        """Begin to wait for the exit of the child."""
        try:
            self._pidfd = os.pidfd_open(self._pid)
            self._loop._add_reader(self._pidfd, self._exited)
        except OSError:  # an old kernel, a sandbox, no descriptor left
            self._drop_pidfd()
            threading.Thread(
                target=self._wait_in_thread,
                args=(self._loop, self._proc),
                name=f"cyreactor-child-{self._pid}",
                daemon=True,
            ).start()

    def _exited(self) -> None:
        self._drop_pidfd()
        self._process_exited(_reap(self._proc))

    def _drop_pidfd(self) -> None:
        if self._pidfd >= 0:
            pidfd, self._pidfd = self._pidfd, -1
            self._loop._remove_reader(pidfd)
            os.close(pidfd)

    def _wait_in_thread(self, loop: Any, process: subprocess.Popen[bytes]) -> None:
        returncode = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._process_exited, returncode)

    def orphan(self) -> None:
        """The loop is closed: kill the child, wait for its end, call nobody, warn."""
        process: subprocess.Popen[bytes] | None = self._proc
        if process is None:
            return  # it had ended, and so had its pipes
        message = None if self._closed else _warning(self)
        self._closed = True
        self._drop_pidfd()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)
        if message is not None:
            warnings.warn(message, ResourceWarning, 2, source=self)


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Return the status of a child that has ended; ``poll`` may have read it already."""
    if process.returncode is not None:
        return process.returncode
    try:
        return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
    except ChildProcessError:
        logger.warning(
            "child process pid %d exit status already read: will report returncode 255",
            process.pid,
        )
        return 255

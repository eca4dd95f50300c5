"""A server in a process of its own: started, waited for, ended whatever happens.

Owns the process and its log.  Invariant: after ``end`` the process is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

START_SECONDS = 60.0
END_SECONDS = 10.0
STEP_SECONDS = 0.005


class PortTakenError(Exception):
    """Another process bound the chosen port before the server did."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A running server.

    Args:
        command: the program and its arguments.
        log: where its output goes.
        ready: what it writes there once it serves.
        options: of ``subprocess.Popen``.

    Raises ``PortTakenError`` or ``RuntimeError`` with the log when it ends before it is ready.
    """

    def __init__(self, command: list[str], log: Path, ready: str, **options: Any) -> None:
        # Sanitizers preloaded into the tests' Python are not for others.
        environment = {key: os.environ[key] for key in os.environ if key != "LD_PRELOAD"}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, "LC_ALL": "C"},
                **options,
            )
        try:
            self._await(ready)
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    def _await(self, ready: str) -> None:
        """Return once the log says that the server is ready.

        A wait for its end, in steps of a few milliseconds, is what spaces the looks.
        """
        for _ in range(int(START_SECONDS / STEP_SECONDS)):
            try:
                status = self._process.wait(STEP_SECONDS)
            except subprocess.TimeoutExpired:
                if ready in self._log.read_text(errors="replace"):
                    return
                continue
            log = self._log.read_text(errors="replace")
            if "Address already in use" in log:
                raise PortTakenError(log)
            raise RuntimeError(f"{self._process.args!r} ended with status {status}:\n{log}")
        raise RuntimeError(f"{self._process.args!r} does not start:\n{self._log.read_text()}")

    def end(self, number: int) -> None:
        """Send the signal, and SIGKILL if that does not end the process in time."""
        self._process.send_signal(number)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

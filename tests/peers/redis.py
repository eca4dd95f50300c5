"""A real redis-server on a port of its own, which tests restart.

Owns the server's process.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

READY = b"Ready to accept connections"


def executable() -> str | None:
    """Return the path of redis-server, or None where it is not installed."""
    return shutil.which("redis-server")


class Redis:
    """A redis-server that keeps nothing on disk, running between ``start`` and ``stop``.

    Attributes:
        port: the same after each start.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        path = executable()
        assert path is not None
        self._process = subprocess.Popen(
            [path, "--port", str(self.port), "--save", "", "--appendonly", "no"],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said.append(line.decode())
            if READY in line:
                return
        self.stop()
        raise RuntimeError("redis-server did not start:\n" + "".join(said))

    def stop(self) -> None:
        """Kill the server, which ends its connections without a word."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

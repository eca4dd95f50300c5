"""A real microsocks, a SOCKS5 server that lets in who knows the password, for tests.

Owns the server's process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

from tests.peers.server_process import START_SECONDS, STEP_SECONDS, free_port

START_TRIES = 5


def executable() -> str | None:
    """Return the path of microsocks, or None where it is not installed."""
    return shutil.which("microsocks")


@contextlib.contextmanager
def microsocks(user: str, password: str) -> Iterator[int]:
    """Run a server on 127.0.0.1 for a ``with`` block; yield its port."""
    program = executable()
    if program is None:
        raise FileNotFoundError("microsocks")
    # Sanitizers preloaded into the tests' Python are not for others.
    environment = {key: os.environ[key] for key in os.environ if key != "LD_PRELOAD"}
    for _ in range(START_TRIES):
        port = free_port()
        process = subprocess.Popen(
            [program, "-i", "127.0.0.1", "-p", str(port), "-u", user, "-P", password],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            if _serves(process, port):
                yield port
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"microsocks ended {START_TRIES} times before it served")


def _serves(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server accepts; return False if it ends first, as where the port is taken.

    It says nothing when it is ready.  A wait for its end spaces the looks.
    """
    for _ in range(int(START_SECONDS / STEP_SECONDS)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STEP_SECONDS)
            return False
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
    raise RuntimeError("microsocks does not start")

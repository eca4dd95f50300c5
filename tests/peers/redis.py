"""A real Redis that keeps nothing, on TCP, TLS and a UNIX socket, which tests may restart.

Owns the server's process, its certificate and its directory.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.server_process import PortTakenError, ServerProcess, free_port

START_TRIES = 5


def executable() -> str | None:
    """Return the path of redis-server, or None where it is not installed."""
    return shutil.which("redis-server")


class Redis:
    """A redis-server, running between ``start`` and ``stop``; a context manager of both.

    Attributes:
        port: where it serves TCP, on 127.0.0.1; the same after each start.
        tls_port: where it serves TLS, on 127.0.0.1; it asks for no certificate.
        path: of its UNIX socket.
        ca_pem: the certificate authority that signed its certificate, which is for localhost
            and 127.0.0.1.
    """

    def __init__(self, directory: Path) -> None:
        program = executable()
        if program is None:
            raise FileNotFoundError("redis-server")
        self._program = program
        self._directory = directory
        self._process: ServerProcess | None = None
        self.port = free_port()
        self.tls_port = free_port()
        self.path = directory / "redis.sock"
        authority = trustme.CA()
        self.ca_pem = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_pem))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(directory / "certificate.pem"), append=True)

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "tls-port": str(self.tls_port),
            "tls-cert-file": "certificate.pem",
            "tls-key-file": "key.pem",
            "tls-auth-clients": "no",
            "unixsocket": str(self.path),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
        }
        command = [self._program]
        for name, value in options.items():
            command += [f"--{name}", value]
        # Some versions begin the sentence with it.  All sockets are bound before.
        ready = "eady to accept connections"
        log = self._directory / "redis.log"
        self._process = ServerProcess(command, log, ready, cwd=self._directory)

    def stop(self) -> None:
        """Kill the server, which ends its connections without a word."""
        process, self._process = self._process, None
        if process is not None:
            process.end(signal.SIGKILL)

    def __enter__(self) -> Self:
        for tries_left in reversed(range(START_TRIES)):
            try:
                self.start()
            except PortTakenError:
                if not tries_left:
                    raise
                self.port, self.tls_port = free_port(), free_port()
            else:
                return self
        raise AssertionError("unreachable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

"""A real PostgreSQL with an empty database, on TCP, TLS and a UNIX socket, for tests.

Owns the server's processes, its certificate and its directory, which is not pytest's: the
server refuses to run as root, and an ordinary user cannot get at what is below root's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from tests.peers.server_process import PortTakenError, ServerProcess, free_port

START_TRIES = 5
USER = "tester"
PASSWORD = "only for the tests"
DATABASE = "postgres"

# What makes it fast: nothing has to outlive the machine.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "50",
    "ssl": "on",
    "ssl_cert_file": "certificate.pem",
    "ssl_key_file": "key.pem",
    "listen_addresses": "127.0.0.1",
}


def executable(name: str) -> str | None:
    """Return the path of a program of the newest server, or None where none is installed.

    Debian puts those where no user's path reaches.
    """
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join([*map(str, newest_first), path]))


def _unprivileged() -> dict[str, Any]:
    """Return the options of ``subprocess`` with which the server runs."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user")


class Postgres:
    """A running PostgreSQL; a context manager that ends it.

    Attributes:
        port: where it serves TCP and TLS, on 127.0.0.1.
        directory: where its UNIX socket is, with the same port in its name.
        ca_pem: the certificate authority that signed its certificate, which is for localhost
            and 127.0.0.1.
    """

    def __init__(self) -> None:
        initdb, program = executable("initdb"), executable("postgres")
        if initdb is None or program is None:
            raise FileNotFoundError("postgres")
        self._initdb = initdb
        self._program = program
        self._process: ServerProcess | None = None
        self._user = _unprivileged()
        self.port = 0
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.ca_pem = self.directory / "ca.pem"

    def __enter__(self) -> Self:
        try:
            self._make()
            for tries_left in reversed(range(START_TRIES)):
                self.port = free_port()
                try:
                    self._process = self._start()
                except PortTakenError:
                    if not tries_left:
                        raise
                else:
                    return self
        except BaseException:
            shutil.rmtree(self.directory)
            raise
        raise AssertionError("unreachable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.end(signal.SIGINT)  # "fast shutdown"
        shutil.rmtree(self.directory)

    def _make(self) -> None:
        """Make the directory of a new cluster, all of it the server's user's."""
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        data = self.directory / "data"
        password = self.directory / "password"
        password.write_text(PASSWORD)
        authority.cert_pem.write_to_path(str(self.ca_pem))
        self._give_away(self.directory, password)
        subprocess.run(
            [
                self._initdb, "--pgdata", str(data), "--username", USER,
                "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8",
                "--locale", "C", "--no-sync",
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.directory,
            **self._user,
        )  # fmt: skip
        key = data / "key.pem"
        certificate.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(data / "certificate.pem"), append=True)
        self._give_away(key, data / "certificate.pem")

    def _give_away(self, *paths: Path) -> None:
        if self._user:
            for path in paths:
                os.chown(path, self._user["user"], self._user["group"])

    def _start(self) -> ServerProcess:
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        command = [self._program, "-D", str(self.directory / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return ServerProcess(
            command,
            self.directory / "server.log",
            "database system is ready to accept connections",
            cwd=self.directory,
            **self._user,
        )

"""pytest-httpbin's servers, plain and TLS, in a process of their own, for tests.

Owns the process.  The package's own plug-in runs them on threads of the tests' process, whose
descriptors come and go while a test's own are counted.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.server_process import ServerProcess

PROGRAM = """\
import json, signal
from httpbin import app
from pytest_httpbin.certs import where
from pytest_httpbin.serve import SecureServer, Server
routes = [(rule.rule, sorted(rule.methods)) for rule in app.url_map.iter_rules()]
with Server(application=app) as plain, SecureServer(application=app) as secure:
    print("ports", plain.port, secure.port, where())
    print("routes", json.dumps(routes))
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM])
"""


class Httpbin:
    """A running httpbin; a context manager that ends it.

    Attributes:
        ca_file: the root of the certificate of the TLS server, which is for 127.0.0.1.
        routes: all that it answers: paths, with names in angle brackets, and methods.
    """

    def __init__(self, directory: Path) -> None:
        self._log = directory / "httpbin.log"

    def url(self, path: str, *, scheme: str = "http") -> str:
        """Return the URL of *path*, which begins with a slash."""
        return f"{scheme}://127.0.0.1:{self._ports[scheme]}{path}"

    def __enter__(self) -> Self:
        self._process = ServerProcess([sys.executable, "-c", PROGRAM], self._log, "ready")
        told = self._log.read_text()
        words = told.partition("ports ")[2].split()
        self._ports = {"http": int(words[0]), "https": int(words[1])}
        self.ca_file = words[2]
        line = told.partition("routes ")[2].partition("\n")[0]
        self.routes: list[tuple[str, list[str]]] = [
            (path, names) for path, names in json.loads(line)
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.end(signal.SIGTERM)

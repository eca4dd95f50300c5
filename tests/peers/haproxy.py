"""A real HAProxy before a server of the test's, plain and TLS, for tests.

Owns the proxy's process.  It hands on what the server says, compresses it if it is asked to,
and says 103 (Early Hints) before it for paths that begin with ``/hinted``.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.server_process import PortTakenError, ServerProcess, free_port

START_TRIES = 5

CONFIGURATION = """\
global
    log stderr local0
    stats socket {directory}/stats.sock
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend both
    bind 127.0.0.1:{http_port}
    bind 127.0.0.1:{https_port} ssl crt {directory}/server.pem
    http-request early-hint Link "</style.css>; rel=preload" if {{ path_beg /hinted }}
    http-request return status 200 content-type text/plain string "of its own" if {{ path /own }}
    compression algo gzip
    compression type text/plain
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin_port}
"""


def executable() -> str | None:
    """Return the path of HAProxy, or None where it is not installed."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("haproxy", path=os.pathsep.join([path, "/usr/sbin", "/usr/local/sbin"]))


class HAProxy:
    """A running HAProxy; a context manager that ends it.

    Args:
        directory: for its files.
        origin_port: where the server is that it stands before.

    Attributes:
        http_port, https_port: on 127.0.0.1.
        ca_pem: the authority of the certificate, which is for 127.0.0.1.
    """

    def __init__(self, directory: Path, origin_port: int) -> None:
        self._directory = directory
        self._origin_port = origin_port
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(directory / "server.pem")
        )

    def url(self, path: str, *, scheme: str = "http") -> str:
        """Return the URL of *path*, which begins with a slash."""
        port = {"http": self.http_port, "https": self.https_port}[scheme]
        return f"{scheme}://127.0.0.1:{port}{path}"

    def __enter__(self) -> Self:
        for tries_left in reversed(range(START_TRIES)):
            try:
                self._start()
            except PortTakenError:
                if not tries_left:
                    raise
            else:
                return self
        raise AssertionError("unreachable")

    def _start(self) -> None:
        program = executable()
        assert program is not None
        self.http_port, self.https_port = free_port(), free_port()
        path = self._directory / "haproxy.cfg"
        path.write_text(
            CONFIGURATION.format(
                directory=self._directory,
                http_port=self.http_port,
                https_port=self.https_port,
                origin_port=self._origin_port,
            )
        )
        self._process = ServerProcess(
            [program, "-W", "-db", "-f", str(path)],
            self._directory / "haproxy.log",
            "Loading success",
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.end(signal.SIGTERM)

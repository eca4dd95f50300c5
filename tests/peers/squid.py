"""A real squid that lets in who knows the password, or everybody, for tests.

Owns the server's process and its directory.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.server_process import PortTakenError, ServerProcess, free_port

START_TRIES = 5

CONFIGURATION = """\
http_port 127.0.0.1:{http_port}
http_port 127.0.0.1:{open_port}
https_port 127.0.0.1:{https_port} tls-cert={directory}/server.pem
pid_filename {directory}/squid.pid
cache_log {directory}/cache.log
access_log stdio:{directory}/access.log
coredump_dir {directory}
cache deny all
cache_mem 8 MB
memory_cache_shared off
pinger_enable off
shutdown_lifetime 0 seconds
workers 1
max_filedescriptors 1024
dns_nameservers 127.0.0.1
host_verify_strict off
auth_param basic program /bin/sh {helper}
auth_param basic children 1
auth_param basic realm squid
acl open_port localport {open_port}
acl known proxy_auth REQUIRED
acl refused dstdomain refused.example
http_access deny refused
http_access allow open_port
http_access allow known
http_access deny all
"""

HELPER = """\
while read -r login; do
    if [ "$login" = "me secret" ]; then echo OK; else echo ERR; fi
done
"""


def executable() -> str | None:
    """Return the path of squid, or None where it is not installed."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("squid", path=os.pathsep.join([path, "/usr/sbin", "/usr/local/sbin"]))


class Squid:
    """A running squid; a context manager that ends it.

    Attributes:
        http_port, https_port: for "me", whose password is "secret".
        open_port: for everybody.
        ca_pem: the authority of the certificate of the https port, which is for 127.0.0.1.
    """

    def __init__(self) -> None:
        # Root's squid becomes another user, whom pytest's directories do not let in.
        directory = self._directory = Path(tempfile.mkdtemp(prefix="squid-"))
        directory.chmod(0o777)
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(directory / "server.pem")
        )
        (directory / "helper.sh").write_text(HELPER)
        for path in directory.iterdir():
            path.chmod(0o644)

    def __enter__(self) -> Self:
        for tries_left in reversed(range(START_TRIES)):
            try:
                self._start()
            except PortTakenError:
                if not tries_left:
                    shutil.rmtree(self._directory)
                    raise
            else:
                return self
        raise AssertionError("unreachable")

    def _start(self) -> None:
        program = executable()
        assert program is not None
        self.http_port, self.open_port, self.https_port = free_port(), free_port(), free_port()
        (self._directory / "squid.conf").write_text(
            CONFIGURATION.format(
                http_port=self.http_port,
                open_port=self.open_port,
                https_port=self.https_port,
                directory=self._directory,
                helper=self._directory / "helper.sh",
            )
        )
        self._process = ServerProcess(
            # the name keeps its shared memory apart from that of others
            [
                program,
                "-N",
                "-n",
                f"tests{secrets.token_hex(6)}",
                "-d",
                "1",
                "-f",
                str(self._directory / "squid.conf"),
            ],
            self._directory / "output.log",
            "Accepting HTTPS Socket connections",
            cwd=self._directory,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.end(signal.SIGTERM)
        shutil.rmtree(self._directory)

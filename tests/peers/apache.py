"""A real Apache that serves files, compressed if wanted, and a CGI program that echoes, for tests.

Owns the server's processes and its directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.server_process import PortTakenError, ServerProcess, free_port

START_TRIES = 5
MODULES = Path("/usr/lib/apache2/modules")

CONFIGURATION = """\
ServerRoot {directory}
PidFile {directory}/httpd.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/error.log
LogLevel notice
ServerName localhost
{modules}
User www-data
Group www-data
Listen 127.0.0.1:{http_port}
Listen 127.0.0.1:{https_port}
ScriptSock {directory}/cgid.sock
TypesConfig /dev/null
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot {directory}/root
<Directory {directory}/root>
    Require all granted
</Directory>
<Location /zipped/>
    SetOutputFilter DEFLATE
</Location>
<Location /private/>
    AuthType Digest
    AuthName private
    AuthUserFile {directory}/users
    Require valid-user
</Location>
ScriptAlias /cgi/ {directory}/cgi/
<Directory {directory}/cgi>
    Require all granted
</Directory>
<VirtualHost 127.0.0.1:{https_port}>
    DocumentRoot {directory}/root
    SSLEngine on
    SSLCertificateFile {directory}/server.pem
</VirtualHost>
"""

NAMES = (
    "mpm_event", "authz_core", "authz_host", "authn_core", "authn_file", "authz_user",
    "auth_digest", "alias", "mime", "filter", "deflate", "socache_shmcb", "ssl", "cgid",
)  # fmt: skip

# Says what came in the way of CGI: the method, and the content as it is.  All of it is read
# first: Apache does not read the answer before it has written the content.
ECHO = """\
#!/bin/sh
content=$(mktemp)
cat >"$content"
printf 'Content-Type: application/octet-stream\\r\\nX-Method: %s\\r\\n\\r\\n' "$REQUEST_METHOD"
cat "$content"
rm "$content"
"""


def executable() -> str | None:
    """Return the path of Apache, or None where it is not installed."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("apache2", path=os.pathsep.join([path, "/usr/sbin", "/usr/local/sbin"]))


class Apache:
    """A running Apache; a context manager that ends it.

    Attributes:
        http_port, https_port: on 127.0.0.1.
        root: the document root; what is in ``zipped`` is sent compressed, what is in
            ``private`` to ann alone, whose password is "secret" (Digest).
        ca_pem: the authority of the certificate, which is for 127.0.0.1.
    """

    def __init__(self) -> None:
        # Root's Apache becomes another user, whom pytest's directories do not let in.
        directory = self._directory = Path(tempfile.mkdtemp(prefix="apache-"))
        directory.chmod(0o777)
        self.root = directory / "root"
        for name in ("root/zipped", "root/private", "cgi"):
            (directory / name).mkdir(parents=True)
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(directory / "server.pem")
        )
        (directory / "cgi" / "echo").write_text(ECHO)
        (directory / "cgi" / "echo").chmod(0o755)
        (self.root / "64").write_bytes(bytes(range(64)))
        (self.root / "zipped" / "text").write_bytes(b"text and more text " * 1_000)
        (self.root / "private" / "it").write_bytes(b"it")
        # MD5 of "ann:private:secret", as htdigest(1) writes it
        (directory / "users").write_text("ann:private:8c8e78ec92ee355c5206e8db25dcd01c\n")

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
                    shutil.rmtree(self._directory)
                    raise
            else:
                return self
        raise AssertionError("unreachable")

    def _start(self) -> None:
        program = executable()
        assert program is not None
        self.http_port, self.https_port = free_port(), free_port()
        modules = [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in NAMES]
        path = self._directory / "httpd.conf"
        path.write_text(
            CONFIGURATION.format(
                directory=self._directory,
                modules="\n".join(modules),
                http_port=self.http_port,
                https_port=self.https_port,
            )
        )
        log = self._directory / "error.log"
        self._process = ServerProcess(
            [program, "-f", str(path), "-DFOREGROUND", "-E", str(log)], log, "resuming normal"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.end(signal.SIGTERM)
        shutil.rmtree(self._directory)

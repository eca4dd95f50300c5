"""A real nginx that serves static files over HTTP and HTTPS, for tests.

Owns the server's process, its certificate and its document root.  One process serves
everything (``master_process off``), so that ending it is one signal and one wait.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.peers.server_process import PortTakenError

# What is in the document root from the start: name to size in bytes.
FILE_SIZES = {"64": 64, "1k": 1 << 10, "100k": 100 << 10}

START_TRIES = 5

CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 10000000;
    keepalive_timeout 300s;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    ssl_session_cache shared:tls:1m;
    server {{
{listeners}
        root root;
        location /private/ {{
            auth_basic private;
            auth_basic_user_file users;
        }}
        location /early/ {{
            return 200 early;  # when it has the head: what follows is thrown away
        }}
    }}
}}
"""


def executable() -> str | None:
    """Return the path of nginx, or None where it is not installed.

    Debian puts it where the path of an ordinary user does not reach.
    """
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("nginx", path=os.pathsep.join([path, "/usr/sbin", "/usr/local/sbin"]))


def loopback_addresses() -> list[str]:
    """Return the loopback addresses that this machine can bind."""
    found = []
    for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((address, 0))
        except OSError:
            continue
        found.append(address)
    return found


def free_port(addresses: list[str]) -> int:
    """Return a port that was free on all of *addresses* a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as first:
        first.bind(("127.0.0.1", 0))
        port: int = first.getsockname()[1]
        for address in addresses:
            if address == "127.0.0.1":
                continue
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as second:
                try:
                    second.bind((address, port))
                except OSError as error:
                    raise PortTakenError(port) from error
        return port


class Nginx:
    """A running nginx; a context manager that ends it.

    Attributes:
        http_port: where it serves plain HTTP, on 127.0.0.1 and, if there is one, ::1.
        https_port: where it serves HTTPS, on the same addresses.
        root: the document root; a file put there is served at once, what is in ``private``
            to Aladdin alone, whose password is "open sesame".
        ca_pem: the certificate authority that signed the certificate, which is for
            localhost, 127.0.0.1 and ::1.
    """

    configuration = CONFIGURATION
    listen_options = ""  # of each address, after a space

    def __init__(self, directory: Path) -> None:
        program = executable()
        if program is None:
            raise FileNotFoundError("nginx")
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port = 0
        self.https_port = 0
        self.root = directory / "root"
        self.root.mkdir()
        (directory / "temp").mkdir()
        for name, size in FILE_SIZES.items():
            (self.root / name).write_bytes(random.Random(name).randbytes(size))
        (self.root / "private").mkdir()
        (self.root / "private" / "hello").write_bytes(b"hello")
        (directory / "users").write_text("Aladdin:{PLAIN}open sesame\n")
        authority = trustme.CA()
        self.ca_pem = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_pem))
        certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(directory / "certificate.pem"), append=True)

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def url(self, path: str, *, scheme: str = "http", host: str = "localhost") -> str:
        """Return the URL of *path*, a file's name relative to the document root."""
        port = {"http": self.http_port, "https": self.https_port}[scheme]
        return f"{scheme}://{host}:{port}/{path}"

    def sparse_file(self, name: str, size: int) -> Path:
        """Put a file of *size* zero bytes, which takes no disk, into the document root."""
        path = self.root / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def addresses(self) -> list[str]:
        """Return the addresses on which to listen; 127.0.0.1 is one of them."""
        return loopback_addresses()

    def _start(self) -> None:
        addresses = self.addresses()
        self.http_port = free_port(addresses)
        self.https_port = free_port(addresses)
        listeners = []
        for address in addresses:
            name = f"[{address}]" if ":" in address else address
            listeners.append(f"        listen {name}:{self.http_port}{self.listen_options};")
            listeners.append(f"        listen {name}:{self.https_port} ssl{self.listen_options};")
        configuration = self.configuration.format(listeners="\n".join(listeners))
        (self._directory / "nginx.conf").write_text(configuration)
        # Sanitizers preloaded into the tests' Python are not for nginx.
        environment = {key: os.environ[key] for key in os.environ if key != "LD_PRELOAD"}
        command = [self._program, "-p", str(self._directory), "-e", "error.log", "-c", "nginx.conf"]
        with (self._directory / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        try:
            self._await_listening()
        except BaseException:
            self._stop()
            raise

    def _await_listening(self) -> None:
        """Return once nginx answers on both ports.

        It binds both before it serves either, and a wait for its end, in steps of a few
        milliseconds, is what spaces the attempts.
        """
        process = self._process
        assert process is not None
        while True:
            try:
                process.wait(0.005)
            except subprocess.TimeoutExpired:
                pass
            else:
                log = "".join(
                    (self._directory / name).read_text()
                    for name in ("output.log", "error.log")
                    if (self._directory / name).exists()
                )
                if "Address already in use" in log:
                    raise PortTakenError(log)
                raise RuntimeError(f"nginx ended with status {process.returncode}:\n{log}")
            try:
                for port in (self.http_port, self.https_port):
                    socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                continue
            return

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

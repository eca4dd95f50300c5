"""The server of the benchmark: nginx from Debian's package, on a core of its own.

Owns its process, its files and what was uploaded to it.  Starts as the tests' nginx does.
"""

from __future__ import annotations

import os
import random
import re
import urllib.request
from pathlib import Path
from typing import Self

from tests.peers.nginx import Nginx

SMALL_BYTES = 100
BLOCK = random.Random(6).randbytes(1 << 20)  # what the files are made of
PROBE_BYTES = 8 << 20
ADDRESSES = [f"127.0.0.{number}" for number in range(1, 9)]

# sendfile and tcp_nopush as in Debian's nginx.conf: without the second a response is two segments,
# its head and its file.  10,000 connections to each of eight addresses never meet the ports of one
# another that are in TIME_WAIT.
CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{
    worker_connections 19000;
}}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    ssl_session_cache shared:tls:8m;
    server {{
{listeners}
        root root;
        location = /counted {{
            stub_status;
        }}
        location = /posted {{
            error_page 405 =200 /small;
            return 405;
        }}
        location /uploaded/ {{
            dav_methods PUT;
            create_full_put_path on;
        }}
    }}
}}
"""


class Server(Nginx):
    """A running nginx with the files of the benchmark; a context manager that ends it.

    Args:
        directory: where its files are, in memory if that can be.
        core: the core that it runs on.
        large_bytes: the size of the file that is downloaded and uploaded, whole MiB.
    """

    configuration = CONFIGURATION
    listen_options = " backlog=16384"

    def __init__(self, directory: Path, core: int, large_bytes: int) -> None:
        super().__init__(directory)
        self._core = core
        self.small = BLOCK[:SMALL_BYTES]
        self.large_bytes = large_bytes
        (self.root / "small").write_bytes(self.small)
        for name, size in (("probe", PROBE_BYTES), ("large", large_bytes)):
            with (self.root / name).open("wb") as file:
                for _ in range(size // len(BLOCK)):
                    file.write(BLOCK)

    def addresses(self) -> list[str]:
        """Return the addresses on which it listens."""
        return ADDRESSES

    def __enter__(self) -> Self:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})  # which the server inherits
        try:
            return super().__enter__()
        finally:
            os.sched_setaffinity(0, cores)

    def counted(self) -> int:
        """Return how many requests it has served, these included."""
        with urllib.request.urlopen(self.url("counted", host="127.0.0.1")) as answer:
            found = re.search(rb"(\d+)\s+Reading", answer.read())
        assert found is not None
        return int(found[1])

    def take_uploads(self, sizes: list[int]) -> str:
        """Remove what was uploaded; return what is wrong with it, or an empty text.

        Args:
            sizes: of the files that should have come, in any order.
        """
        wrong = ""
        files = sorted((self.root / "uploaded").glob("*"))
        if sorted(path.stat().st_size for path in files) != sorted(sizes):
            wrong = f"uploaded were {[path.stat().st_size for path in files]}, not {sizes}"
        for path in files:
            with path.open("rb") as file:
                while piece := file.read(len(BLOCK)):
                    if piece != BLOCK:
                        wrong = "what was uploaded is not the file"
            path.unlink()
        return wrong

"""Count the instructions of a request under callgrind; fail when a hot path has become slower.

A count does not depend on the machine's load, so this holds where no time would.  Each path runs
twice in a process of its own, with few and with many requests; the difference, divided, is the
cost of one request without start-up.  The counts are of CPython 3.11 and gcc -O3: another
interpreter or compiler needs its own.  That of HTTPS has OpenSSL's share in it, here 3.0's.

usage: python .ci/instructions.py [PATH...]
Without valgrind it says so and ends well, or (CI is set) fails.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from protocols.http import AsyncClient

# Instructions of one request; lower one when it was made faster.
BUDGETS = {
    "get": 7_900,
    "features": 7_900,
    "careful": 8_150,
    "https": 24_200,
    "callbacks": 7_400,
    "waiting": 16_700,
    "options": 75_100,
    "blocking": 8_500,
    "blocking-options": 80_900,
    "pieces": 5_000,
    "blocking-pieces": 5_300,
}
OPENSSL = (3, 0)
TOLERANCE = 0.06
FEW, MANY = 400, 1_600
CONNECTIONS = 16
CALLERS = 64  # for them, where they wait for a connection
PIECE_BYTES = 1_024
OPTIONS: dict[str, Any] = {"json": {"id": 1, "name": "x"}, "headers": {"X-Request-ID": "0123abcd"}}
PYTHON = (3, 11)

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 06 Jul 2026 10:00:00 GMT\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: 100\r\n"
    b"Last-Modified: Mon, 06 Jul 2026 09:00:00 GMT\r\nConnection: keep-alive\r\n"
    b'ETag: "64a5e4d0-64"\r\nAccept-Ranges: bytes\r\n\r\n' + b"x" * 100
)


class Server(asyncio.Protocol):
    """Answers every request; one for /n with n pieces."""

    def connection_made(self, transport: Any) -> None:  # noqa: D102
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.head += data
        while b"\r\n\r\n" in self.head:
            head, _, rest = self.head.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if length is not None and len(rest) < int(length[1]):
                return
            self.head = rest if length is None else rest[int(length[1]) :]
            if count := int(b"0" + head.split()[1][1:]):
                size = count * PIECE_BYTES
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                self.transport.write(bytes(size))
            else:
                self.transport.write(ANSWER)


async def serve(authority_file: str) -> None:
    """Serve until standard input ends; write the certificate of who vouches for the server."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(authority_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Server, "127.0.0.1", 0, ssl=tls) for tls in (None, context)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


# -- the paths ---------------------------------------------------------------------------------


async def gets(client: AsyncClient, url: str, count: int) -> None:
    """One caller's requests."""
    for _ in range(count):
        response = await client.get(url)
        assert response.status_code == 200
        assert len(response.content) == 100


async def posts(client: AsyncClient, url: str, count: int) -> None:
    """The same with options."""
    for _ in range(count):
        response = await client.post(url, **OPTIONS)
        assert response.status_code == 200
        assert len(response.content) == 100


def get(
    url: str, count: int, caller: Any = gets, callers: int = CONNECTIONS, **options: Any
) -> None:
    """``await client.get(url)`` over some connections."""
    import reactor
    from protocols.http import AsyncClient

    async def main() -> None:
        async with AsyncClient(max_per_host=CONNECTIONS, **options) as client:
            await asyncio.gather(*(caller(client, url, count // callers) for _ in range(callers)))

    reactor.run(main())


def waiting(url: str, count: int) -> None:
    """The same by four times as many callers as there are connections."""
    get(url, count, callers=CALLERS)


def options(url: str, count: int) -> None:
    """``await client.post(url, json=..., headers=...)``."""
    get(url, count, posts)


def features(url: str, count: int) -> None:
    """The same with cookies that are sent and others that are not, redirects and absent hooks."""
    from protocols.http import CookieJar

    jar = CookieJar()
    for name, domain in (("session", "127.0.0.1"), ("other", "example.org")):
        jar.set(name, "0123456789abcdef", domain=domain)
    hooks: dict[str, list[Any]] = {"request": [], "response": []}
    get(url, count, cookies=jar, follow_redirects=True, event_hooks=hooks)


def careful(url: str, count: int) -> None:
    """The same of a client that has credentials, and that sends again what has failed."""
    from protocols.http import Retry

    get(url, count, auth=("user", "password"), retry=Retry())


def callbacks(url: str, count: int) -> None:
    """``HTTPProtocol``: the next request from ``response_complete``."""
    import reactor
    from protocols.http import HTTPProtocol

    port = int(url.rpartition(":")[2].strip("/"))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        left = [CONNECTIONS]
        over = loop.create_future()

        class Caller(HTTPProtocol):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                self.left = count // CONNECTIONS
                self.request("GET", "/")

            def head_received(self, status_code: int, headers: Any) -> None:
                assert status_code == 200

            def body_received(self, data: bytes) -> None:
                assert len(data) == 100

            def response_complete(self) -> None:
                self.left -= 1
                if self.left:
                    self.request("GET", "/")
                    return
                self.transport.close()
                left[0] -= 1
                if not left[0]:
                    over.set_result(None)

        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: Caller("127.0.0.1", port), "127.0.0.1", port)
        await over

    reactor.run(main())


def blocking(url: str, count: int) -> None:
    """``Client.get`` in one thread, one after the other."""
    from protocols.http import Client

    with Client() as client:
        for _ in range(count):
            assert client.get(url).status_code == 200


def blocking_options(url: str, count: int) -> None:
    """``Client.post(url, json=..., headers=...)`` in one thread, one after the other."""
    from protocols.http import Client

    with Client() as client:
        for _ in range(count):
            assert client.post(url, **OPTIONS).status_code == 200


def pieces(url: str, count: int) -> None:
    """A streamed body, as many receives as there are pieces: the loop has no larger blocks."""
    import reactor
    from protocols.http import AsyncClient
    from reactor.pollers import new_poller

    async def main() -> None:
        async with AsyncClient() as client, client.stream("GET", f"{url}{count}") as response:
            check_pieces([len(piece) async for piece in response.aiter_bytes()], count)

    loop = reactor.EventLoop(new_poller(block_size=PIECE_BYTES))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def blocking_pieces(url: str, count: int) -> None:
    """The same with ``Client`` in one thread."""
    from protocols.http import Client
    from reactor import EventLoop
    from reactor.pollers import new_poller

    loop = EventLoop(new_poller(block_size=PIECE_BYTES))
    with (
        mock.patch("protocols.http.sync_client.new_event_loop", return_value=loop),
        Client() as client,
        client.stream("GET", f"{url}{count}") as response,
    ):
        check_pieces([len(piece) for piece in response.iter_bytes()], count)


def check_pieces(sizes: list[int], count: int) -> None:
    """See that each receive gave a piece, but for the head's maybe."""
    assert sum(sizes) == count * PIECE_BYTES
    assert count <= len(sizes) <= count + 1


PATHS = {
    "get": get,
    "features": features,
    "careful": careful,
    "https": get,
    "callbacks": callbacks,
    "waiting": waiting,
    "options": options,
    "blocking": blocking,
    "blocking-options": blocking_options,
    "pieces": pieces,
    "blocking-pieces": blocking_pieces,
}


# -- counting ----------------------------------------------------------------------------------


def instructions(valgrind: str, path: str, url: str, count: int, authority_file: str) -> int:
    """Return how many instructions a process takes for *count* requests."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                valgrind,
                "--tool=callgrind",
                f"--callgrind-out-file={Path(directory, 'out')}",
                *(sys.executable, __file__, "--run", path, url, str(count)),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0", "SSL_CERT_FILE": authority_file},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"{path}: valgrind ended with {done.returncode}\n{done.stderr}")
    return int(found[1])


def main(paths: list[str]) -> int:
    """Count, print a table, and return the exit status."""
    valgrind = shutil.which("valgrind")
    missing = "valgrind is not installed" if valgrind is None else ""
    if sys.version_info[:2] != PYTHON:
        missing = "the counts are of CPython {}.{}".format(*PYTHON)
    if valgrind is None or missing:
        print(f"instructions are not counted: {missing}")
        return 1 if os.environ.get("CI") else 0
    failed = False
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [sys.executable, __file__, "--serve", authority_file := f"{directory}/authority.pem"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        port, tls_port = server.stdout.readline().split()
        for path in paths or PATHS:
            url = f"http://127.0.0.1:{int(port)}/"
            if path == "https":
                url = f"https://127.0.0.1:{int(tls_port)}/"
                if ssl.OPENSSL_VERSION_INFO[:2] != OPENSSL:
                    print(f"https is not counted: {ssl.OPENSSL_VERSION} is another one")
                    continue
            few = instructions(valgrind, path, url, FEW, authority_file)
            many = instructions(valgrind, path, url, MANY, authority_file)
            cost = (many - few) // (MANY - FEW)
            ratio = cost / BUDGETS[path]
            verdict = "too many" if ratio > 1 + TOLERANCE else "good"
            if ratio < 1 - TOLERANCE:
                verdict = "good: lower the budget"
            failed |= ratio > 1 + TOLERANCE
            print(f"{path:16} {cost:7} of {BUDGETS[path]:7}  {ratio:5.2f}  {verdict}", flush=True)
        server.stdin.close()
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(sys.argv[2]))
    elif sys.argv[1:2] == ["--run"]:
        PATHS[sys.argv[2]](sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(main(sys.argv[1:]))

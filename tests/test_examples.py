"""The examples run as they are, against each other."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import reactor
from tests.peers.child import Ended, running
from tests.peers.site import Connection, Site, page

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCREEN_LINES = 40

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")


async def run(name: str, *arguments: str) -> Ended:
    async with running(str(EXAMPLES / name), *arguments) as child:
        return await child.end()


@asynccontextmanager
async def echo_server(*arguments: str) -> AsyncIterator[str]:
    """Run the echo server for a block, then interrupt it; yield its port."""
    async with running(str(EXAMPLES / "echo_server.py"), "--port", "0", *arguments) as child:
        stdout = child.process.stdout
        assert stdout is not None
        line = (await stdout.readline()).decode()
        assert line.startswith("listening on 127.0.0.1:"), (await child.end()).err
        yield line.strip().rpartition(":")[2]
        child.process.send_signal(signal.SIGINT)
        assert await child.end() == (0, "stopped\n", "")


def test_client_gets_its_text_back_from_the_server() -> None:
    async def test() -> None:
        async with echo_server() as port:
            answers = await asyncio.gather(
                *[run("echo_client.py", "--port", port, f"hello {number}") for number in range(3)]
            )
        assert answers == [(0, f"hello {number}\n", "") for number in range(3)]

    reactor.run(test())


def test_client_gets_its_text_back_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))

    async def test() -> None:
        async with echo_server("--certificate", str(tmp_path / "server.pem")) as port:
            trusting = ("--port", port, "--ca-file", str(tmp_path / "ca.pem"))
            assert await run("echo_client.py", *trusting, "hello") == (0, "hello\n", "")

    reactor.run(test())


def test_client_names_a_port_where_nobody_listens() -> None:
    async def test() -> None:
        async with echo_server() as port:
            pass
        ended = await run("echo_client.py", "--port", port, "hello")
        assert ended.status == 1
        assert ended.err.startswith(f"echo_client: connect 127.0.0.1:{port}: ")
        assert ended.err.count("\n") == 1

    reactor.run(test())


def test_follower_comes_back_to_a_server_that_goes_and_comes() -> None:
    class Greeter(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")
            transport.close()

    async def test() -> None:
        loop = asyncio.get_running_loop()
        held = socket.socket()  # its port is nobody else's, and refuses until it listens
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        options = ("--first-delay", "0.01", str(port))
        async with running(str(EXAMPLES / "follow.py"), *options) as child:
            assert child.process.stdout is not None
            assert child.process.stderr is not None
            refused = f"follow: connect 127.0.0.1:{port}: Connection refused\n"
            assert (await child.process.stderr.readline()).decode() == refused
            server = await loop.create_server(Greeter, sock=held)
            lines = [(await child.process.stdout.readline()).decode() for _ in range(4)]
            assert lines == ["connection 1\n", "hello\n", "connection 2\n", "hello\n"]
            child.process.send_signal(signal.SIGINT)
            ended = await child.end()
            assert ended.status == 0
            assert ended.out.endswith("stopped\n")
        server.close()
        await server.wait_closed()

    reactor.run(test())


def test_fetch_prints_a_line_for_each_url() -> None:
    async def test() -> None:
        async with Site() as site:
            site.routes["/page"] = page(b"hello")
            good = await run("http_fetch.py", site.url("/page"))
            bad = await run("http_fetch.py", site.url("/gone"), "http://nowhere.invalid/", "what")
        assert good == (0, f"{site.url('/page')}: 200, 5 bytes\n", "")
        assert (bad.status, bad.out) == (1, "")
        assert "404 Not Found" in bad.err
        assert "http://nowhere.invalid/: resolve nowhere.invalid:80: " in bad.err
        assert "what: invalid URL: scheme: " in bad.err
        assert bad.err.count("\n") == 3

    reactor.run(test())


def test_fetch_fits_a_screen() -> None:
    assert len((EXAMPLES / "http_fetch.py").read_text().splitlines()) <= SCREEN_LINES


def test_driver_of_the_docs_talks_to_the_echo_server(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "drivers.md").read_text()
    [code] = re.findall(r"(?ms)^```python\n(.*?)^```", text)
    (tmp_path / "lines.py").write_text(code)

    async def test() -> None:
        lines = str(tmp_path / "lines.py")
        async with (
            echo_server() as port,
            running(lines, port, "one", "two", "three") as child,
        ):
            good = await child.end()
        async with running(lines, port, "one") as child:
            bad = await child.end()
        assert good == (0, "['one', 'two', 'three']\n", "")
        assert bad.status == 1
        assert f"ConnectRefusedError: connect 127.0.0.1:{port}: " in bad.err

    reactor.run(test())


def test_code_in_the_readme_runs_as_it_is(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    [code] = re.findall(r"(?ms)^```python\n(.*?)^```", text)

    def serve(connection: Connection, target: str) -> None:
        connection.reply(b"hello")
        if b"HTTP/1.0" in connection.head:
            connection.transport.close()

    async def test() -> None:
        async with Site() as site:
            site.routes["/"] = serve
            host, _, port = site.url("").removeprefix("http://").partition(":")
            here = code.replace("https://example.org/", site.url("/"))
            here = here.replace('"example.org", 80', f'"{host}", {port}')
            (tmp_path / "readme.py").write_text(here)
            async with running(str(tmp_path / "readme.py")) as child:
                ended = await child.end()
        assert ended.err == ""
        assert ended.status == 0
        status, stats, answer = ended.out.splitlines()
        assert status == "200"
        assert stats.startswith("100 {")
        assert "'opened': 8, 'reused': 92" in stats
        assert answer.startswith("b'HTTP/1.1 200 OK")

    reactor.run(test())

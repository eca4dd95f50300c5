"""GET over connections that stay: this client, wrk and aiohttp on uvloop, against nginx.

The same work for each, interleaved: so many requests for a file of 100 bytes over so many
connections.  The figure is the CPU time of the client's process for a request in microseconds
(user and system), of the rounds the median with the least and the most, and the ratio to wrk's in
the same round.  nginx runs on one core, the client on another, where there are two.

usage: python benchmarks/http_get.py [--rounds 5] [--connections 64] [--json FILE]
Needs nginx and wrk (Debian: nginx-light, wrk); a Python peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNTS = {"cyreactor": 20_000, "aiohttp": 10_000}
NEEDS = {"cyreactor": ["protocols"], "aiohttp": ["aiohttp", "uvloop"]}
WRK_SECONDS = 2
SIZE_BYTES = 100

CONFIGURATION = """\
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 20000; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    server {{ listen 127.0.0.1:{port} backlog=16384; root .; }}
}}
"""


def core_of(number: int) -> int:
    """Return the core of the server (0) or the client (1), the same where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)]


def pin(number: int) -> None:
    """Keep this process on its core."""
    os.sched_setaffinity(0, {core_of(number)})


async def call(kind: str, url: str, count: int, connections: int) -> None:
    """Make the requests with one of the Python clients."""
    each = count // connections

    if kind == "cyreactor":
        from protocols.http import AsyncClient

        async with AsyncClient(max_per_host=connections) as client:

            async def caller() -> None:
                for _ in range(each):
                    assert len((await client.get(url)).content) == SIZE_BYTES

            await asyncio.gather(*(caller() for _ in range(connections)))
    else:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def caller() -> None:
                for _ in range(each):
                    async with session.get(url) as response:
                        assert len(await response.read()) == SIZE_BYTES

            await asyncio.gather(*(caller() for _ in range(connections)))


def child(kind: str, url: str, count: int, connections: int) -> None:
    """Measure one client in this process; print user and system microseconds a request."""
    pin(1)
    factory = None
    if kind == "cyreactor":
        import reactor

        factory = reactor.new_event_loop
    elif kind == "aiohttp":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(call(kind, url, connections, connections))
        before = resource.getrusage(resource.RUSAGE_SELF)
        runner.run(call(kind, url, count, connections))
        after = resource.getrusage(resource.RUSAGE_SELF)
    print((after.ru_utime - before.ru_utime) / count * 1e6)
    print((after.ru_stime - before.ru_stime) / count * 1e6)


def measure(kind: str, url: str, connections: int) -> tuple[float, float]:
    """Return user and system microseconds a request, of one run."""
    if kind != "wrk":
        command = [sys.executable, __file__, "--child", kind, url]
        command += [str(COUNTS[kind]), str(connections)]
        user, system = subprocess.check_output(command, text=True).split()
        return float(user), float(system)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.check_output(
        [
            "taskset",
            "-c",
            str(core_of(1)),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{WRK_SECONDS}",
            url,
        ],
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    count = int(found[1])
    return (
        (after.ru_utime - before.ru_utime) / count * 1e6,
        (after.ru_stime - before.ru_stime) / count * 1e6,
    )


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kinds = [kind for kind, names in NEEDS.items() if all(map(importlib.util.find_spec, names))]
    if shutil.which("wrk"):
        kinds.insert(0, "wrk")
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is None:
        sys.exit("nginx is not installed")
    cores = os.sched_getaffinity(0)
    figures: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        directory = Path(name)
        (directory / "nginx.conf").write_text(CONFIGURATION.format(port=port))
        (directory / "small").write_bytes(b"x" * SIZE_BYTES)
        pin(0)  # the server inherits it
        server = subprocess.Popen([nginx, "-p", name, "-c", "nginx.conf", "-e", "error.log"])
        os.sched_setaffinity(0, cores)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            for _ in range(options.rounds):
                for kind in kinds:
                    url = f"http://127.0.0.1:{port}/small"
                    figures[kind].append(measure(kind, url, options.connections))
        finally:
            server.terminate()
            server.wait()
    print(f"{platform.python_version()}, {options.connections} connections, CPU us a request")
    for kind, runs in figures.items():
        user = statistics.median(each[0] for each in runs)
        system = statistics.median(each[1] for each in runs)
        line = f"{kind:10} user {user:7.2f}  system {system:7.2f}"
        if "wrk" in figures:
            ratios = [sum(one) / sum(wrk) for one, wrk in zip(runs, figures["wrk"], strict=True)]
            line += f"  x wrk {statistics.median(ratios):6.2f}"
            line += f" ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()

"""Acquire and release of an idle connection: this manager, aiohttp's connector, httpcore's pool.

The same work for each: so many idle TCP connections, spread evenly over so many hosts (addresses
of 127.0.0.0/8), all open to a server in a process of its own; then one connection after the
other is acquired for the next host in a fixed disorder, and released.  Nothing is sent.  Each
figure is taken in a fresh process pinned to one core, the kinds interleaved; it is the CPU time
of one acquire and release in nanoseconds, user + system, the least of some runs in a process, and
of the rounds the median with the least and the most.

What each does for that: this manager asks the kernel whether anything has come ("scale"), or not
within a millisecond ("speed"); httpcore asks for every idle connection; aiohttp asks for none.
For httpcore the lines of its ``handle_async_request`` around the exchange are called.

usage: python benchmarks/pool_lease.py [--rounds 5] [--kinds scale,speed,take,aiohttp,httpcore]
           [--json FILE]
(aiohttp and httpcore are installed by hand; a kind that is not there is left out)
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

KINDS = ("scale", "speed", "take", "aiohttp", "httpcore")
CASES = ((10, 1), (100, 1), (1_000, 1), (10_000, 1), (1_000, 1_000), (10_000, 1_000))
HTTPCORE_CONNECTIONS = 100  # it looks at all for each lease, and counts all for each of these
RUNS = 5
RUN_SECONDS = 0.1

Lease = Callable[[int], Awaitable[None]]


def host(number: int) -> str:
    """Return the address that stands for a host."""
    return f"127.0.{number // 250}.{number % 250 + 1}"


def serve() -> None:
    """Accept connections and hold them, until standard input ends."""
    held = []
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)

        def accept() -> None:
            while True:
                held.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.read()
        os._exit(0)


# -- one process, one figure -------------------------------------------------------------------


async def of_manager(kind: str, port: int, connections: int, hosts: int) -> Lease:
    """Return what leases from this manager."""
    import reactor

    manager = reactor.ConnectionManager(
        max_connections=connections,
        max_per_endpoint=connections,
        idle_seconds=3600,
        optimization="speed" if kind == "speed" else "scale",
    )
    endpoints = [reactor.Endpoint("tcp", host(number), port) for number in range(hosts)]
    leased = []
    for number in range(connections):
        endpoint = endpoints[number % hosts]
        leased.append(await manager.acquire(reactor.Protocol, endpoint, fresh=True))
    for protocol in leased:
        manager.release(protocol)

    async def take(times: int) -> None:
        for number in range(times):
            manager.release(manager.take(endpoints[number * 7919 % hosts]))

    async def acquire(times: int) -> None:
        for number in range(times):
            endpoint = endpoints[number * 7919 % hosts]
            manager.release(await manager.acquire(reactor.Protocol, endpoint))

    return take if kind == "take" else acquire


async def of_aiohttp(port: int, connections: int, hosts: int) -> Lease:
    """Return what leases from aiohttp's connector."""
    import aiohttp
    import yarl
    from aiohttp.client_reqrep import ClientRequest

    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3600)
    timeout = aiohttp.ClientTimeout()
    requests = [
        ClientRequest("GET", yarl.URL(f"http://{host(number)}:{port}/"), loop=loop)
        for number in range(hosts)
    ]
    held = [
        await connector.connect(requests[number % hosts], [], timeout)
        for number in range(connections)
    ]
    for connection in held:
        connection.release()

    async def lease(times: int) -> None:
        for number in range(times):
            connection = await connector.connect(requests[number * 7919 % hosts], [], timeout)
            connection.release()

    return lease


async def of_httpcore(port: int, connections: int, hosts: int) -> Lease:
    """Return what leases from httpcore's pool."""
    import httpcore
    from httpcore._async.connection_pool import AsyncPoolRequest
    from httpcore._async.http11 import AsyncHTTP11Connection, HTTPConnectionState

    pool: Any = httpcore.AsyncConnectionPool(
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=3600,
    )
    requests = [
        httpcore.Request("GET", f"http://{host(number)}:{port}/") for number in range(hosts)
    ]
    for number in range(connections):
        request = requests[number % hosts]
        connection = pool.create_connection(request.url.origin)
        stream = await connection._connect(request)
        connection._connection = AsyncHTTP11Connection(request.url.origin, stream, 3600)
        connection._connection._state = HTTPConnectionState.IDLE
        pool._connections.append(connection)

    async def lease(times: int) -> None:
        for number in range(times):
            one = AsyncPoolRequest(requests[number * 7919 % hosts])
            pool._requests.append(one)
            await pool._close_connections(pool._assign_requests_to_connections())
            await one.wait_for_connection()
            pool._requests.remove(one)
            await pool._close_connections(pool._assign_requests_to_connections())

    return lease


def cpu_ns() -> int:
    """Return this process's CPU time, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


async def measured(lease: Lease) -> float:
    """Return the nanoseconds of CPU of one acquire and release."""
    times = 1
    while True:  # as many as fill the time; the clock of CPU time is coarse
        began = time.perf_counter()
        await lease(times)
        passed = time.perf_counter() - began
        if passed >= RUN_SECONDS or passed * 10 > RUN_SECONDS * 15:
            break
        times = max(times + 1, int(times * min(10.0, RUN_SECONDS / max(passed, 1e-6) * 1.1)))
    best = float("inf")
    for _ in range(RUNS):
        began_ns = cpu_ns()
        await lease(times)
        best = min(best, (cpu_ns() - began_ns) / times)
    return best


def child(kind: str, port: int, connections: int, hosts: int) -> None:
    """Measure one case and print the figure."""

    async def main() -> None:
        if kind == "aiohttp":
            lease = await of_aiohttp(port, connections, hosts)
        elif kind == "httpcore":
            lease = await of_httpcore(port, connections, hosts)
        else:
            lease = await of_manager(kind, port, connections, hosts)
        print(json.dumps(await measured(lease)), flush=True)
        os._exit(0)  # thousands of connections need not be closed one by one

    if kind in ("aiohttp", "httpcore"):
        asyncio.run(main())
    else:
        import reactor

        reactor.run(main())


# -- all of them --------------------------------------------------------------------------------


def run_case(kind: str, connections: int, hosts: int) -> float:
    """Run one case against a server of its own; return its figure."""
    cores = sorted(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        os.sched_setaffinity(server.pid, {cores[0]})
        assert server.stdout is not None
        port = server.stdout.readline().decode().strip()
        case = f"{kind},{port},{connections},{hosts}"
        pin = ["taskset", "-c", str(cores[-1])]
        try:
            done = subprocess.run(
                [*pin, sys.executable, __file__, "--case", case],
                stdout=subprocess.PIPE,
                check=True,
                timeout=120,
            )
        finally:
            server.kill()
    return float(json.loads(done.stdout))


def report(kinds: list[str], figures: dict[tuple[str, int, int], list[float]]) -> None:
    """Print a table, and how flat each kind is."""
    print(f"{'connections':>11} {'hosts':>6}  " + "".join(f"{kind:>26}" for kind in kinds))
    for connections, hosts in CASES:
        line = f"{connections:>11} {hosts:>6}  "
        base = statistics.median(figures[kinds[0], connections, hosts])
        for kind in kinds:
            found = figures.get((kind, connections, hosts))
            if found is None:
                line += f"{'-':>26}"
                continue
            middle = statistics.median(found)
            text = f"{middle:,.0f} ({min(found):,.0f}-{max(found):,.0f})"
            line += f"{text + f' {middle / base:.1f}x':>26}"
        print(line)
    for kind in kinds:
        mine = [figures[kind, *case] for case in CASES if (kind, *case) in figures]
        for word, choose in (("medians", statistics.median), ("least", min)):
            chosen = [choose(found) for found in mine]
            print(f"{kind}, {word}: most / least over all sizes {max(chosen) / min(chosen):.2f}")


def as_data(
    kinds: list[str], figures: dict[tuple[str, int, int], list[float]], commit: str
) -> dict[str, Any]:
    """Return the figures with what they were taken on, as JSON has it."""
    versions = {"python": platform.python_version(), "kernel": platform.release()}
    for name in ("aiohttp", "httpcore"):
        if name in kinds:
            versions[name] = importlib.metadata.version(name)
    cases = []
    for (kind, connections, hosts), found in figures.items():
        middle = statistics.median(found)
        own = figures.get((kinds[0], connections, hosts))
        cases.append(
            {
                "kind": kind,
                "connections": connections,
                "hosts": hosts,
                "cpu_ns": {"min": min(found), "median": middle, "max": max(found), "all": found},
                f"ratio_to_{kinds[0]}": middle / statistics.median(own) if own else None,
            }
        )
    return {
        "unit": "CPU ns of one acquire and release, user + system",
        "commit": commit,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": versions,
        "cases": cases,
    }


def main() -> None:
    """Measure every kind in every case, round by round."""
    parser = argparse.ArgumentParser(description="What a lease of an idle connection costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.serve:
        serve()
    if given.case:
        kind, *numbers = given.case.split(",")
        child(kind, *map(int, numbers))
    kinds = [
        kind
        for kind in given.kinds.split(",")
        if kind in ("scale", "speed", "take") or importlib.util.find_spec(kind) is not None
    ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"Python {platform.python_version()}, {platform.release()}, commit {commit or '?'}")
    figures: dict[tuple[str, int, int], list[float]] = {}
    for _ in range(given.rounds):
        for case in CASES:
            for kind in kinds:
                if kind != "httpcore" or case[0] <= HTTPCORE_CONNECTIONS:
                    figures.setdefault((kind, *case), []).append(run_case(kind, *case))
    report(kinds, figures)
    if given.json:
        Path(given.json).write_text(json.dumps(as_data(kinds, figures, commit), indent=1))


if __name__ == "__main__":
    main()

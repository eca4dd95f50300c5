"""CPU time of ``await client.get`` over one poller and another, in turns.

One server (nginx, on the other core), the client in a fresh process for each figure, with
REACTOR_POLLER set: so many connections, each of which asks again as soon as it is answered. The
figure is the client process's CPU time in microseconds for each request, user and system apart,
over the requests after a warm-up; of the rounds the median, and the least and the most.

usage: python benchmarks/poller_get.py [--rounds 5] [--pollers epoll,uring]
           [--connections 1,64,512] [--requests 30000] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import reactor
from protocols.http import AsyncClient

BODY = b"x" * 100
WARM_UP = 10  # a tenth of the requests


def measure(url: str, connections: int, requests: int) -> dict[str, Any]:
    """Make the requests in this process; return what they took."""

    async def main() -> dict[str, Any]:
        async with AsyncClient(max_connections=connections, max_per_host=connections) as client:

            async def ask(turns: Any) -> None:
                for _ in turns:
                    response = await client.get(url)
                    if response.content != BODY:
                        raise RuntimeError("the server answered something else")

            async def walk(count: int) -> None:
                turns = iter(range(count))
                await asyncio.gather(*(ask(turns) for _ in range(connections)))

            await walk(max(requests // WARM_UP, 2 * connections))
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            await walk(requests)
            after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
        loop = asyncio.get_running_loop()
        assert isinstance(loop, reactor.EventLoop)
        return {
            "poller": type(loop.poller).__name__,
            "user_us": (after.ru_utime - before.ru_utime) * 1e6 / requests,
            "system_us": (after.ru_stime - before.ru_stime) * 1e6 / requests,
            "wall_us": took * 1e6 / requests,
            "switches": (after.ru_nvcsw - before.ru_nvcsw) / requests,
        }

    return reactor.run(main())


def measured(poller: str, core: int, url: str, connections: int, requests: int) -> dict[str, Any]:
    """Run ``measure`` in a process of its own, on *core*, over *poller*."""
    command = [sys.executable, __file__, "--child", url]
    command += ["--connections", str(connections), "--requests", str(requests)]
    output = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "REACTOR_POLLER": poller},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ).stdout
    found: dict[str, Any] = json.loads(output)
    assert found.pop("poller").lower().startswith(poller)
    return found


def spread(figures: list[float]) -> str:
    """Return the median of *figures*, with the least and the most."""
    return f"{statistics.median(figures):6.2f} ({min(figures):5.2f} to {max(figures):5.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pollers", default="epoll,uring")
    parser.add_argument("--connections", default="1,64,512")
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = [int(count) for count in options.connections.split(",")]
    if options.child:
        print(json.dumps(measure(options.child, counts[0], options.requests)))
        return
    from benchmarks.clients.server import Server

    cores = sorted(os.sched_getaffinity(0))
    pollers = options.pollers.split(",")
    figures: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        Server(Path(directory), cores[-1], 1 << 20) as server,
    ):
        (server.root / "hundred").write_bytes(BODY)
        url = server.url("hundred", host="127.0.0.1")
        for _ in range(options.rounds):
            for count in counts:
                for poller in pollers:
                    found = measured(poller, cores[0], url, count, options.requests)
                    figures.setdefault((poller, count), []).append(found)
    print(f"{platform.python_version()}, Linux {platform.release()}, {options.rounds} rounds")
    print("connections poller   user us/request          system us/request        both")
    for count in counts:
        for poller in pollers:
            of = figures[poller, count]
            user, system = ([one[name] for one in of] for name in ("user_us", "system_us"))
            both = [one + other for one, other in zip(user, system, strict=True)]
            print(f"{count:11} {poller:6}", spread(user), spread(system), spread(both), sep="  ")
    if options.json:
        options.json.write_text(
            json.dumps(
                [{"poller": p, "connections": c, "rounds": f} for (p, c), f in figures.items()]
            )
        )


if __name__ == "__main__":
    main()

"""Echo over TLS: CPU time per message of this loop, uvloop and asyncio.

Server and client run in processes of their own, pinned to a core each, both on the loop under
test; the bytes that come back are verified.  Rounds of the loops are interleaved.  Figures
are microseconds of CPU per message and side, user and system, and the ratio of user + system
to this loop's: median, with the least and the most of all rounds.

usage: python benchmarks/tls_echo.py [--rounds 5] [--size 1024] [--connections 1]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import ssl
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import trustme

LOOPS = ("reactor", "uvloop", "asyncio")
WARM_UP = 200


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop of the kind *name*."""
    if name == "reactor":
        from reactor.eventloop import new_event_loop

        return new_event_loop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.SelectorEventLoop()


def cpu_seconds() -> tuple[float, float]:
    """Return this process's CPU time, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


class Echo(asyncio.Protocol):
    """The server: sends back what it gets."""

    def connection_made(self, transport: Any) -> None:  # noqa: D102
        self.transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.transport.write(data)


class Client(asyncio.Protocol):
    """The client: sends the next message when the last one is back."""

    def __init__(self, message: bytes, count: int, done: Callable[[], None]) -> None:
        self.message = message
        self.left = count
        self.done = done
        self.got = 0
        self.parts: list[bytes] = []

    def connection_made(self, transport: Any) -> None:  # noqa: D102
        self.transport = transport

    def go(self) -> None:
        """Send the first message."""
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.got += len(data)
        self.parts.append(data)
        if self.got < len(self.message):
            return
        if self.left % 64 == 0 and b"".join(self.parts) != self.message:
            raise RuntimeError("the echo is not what was sent")
        self.parts.clear()
        self.got = 0
        self.left -= 1
        if self.left:
            self.transport.write(self.message)
        else:
            self.done()


def serve(name: str, pem: bytes, pipe: Any) -> None:
    """Run the server process."""
    os.sched_setaffinity(0, {0})
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with trustme.Blob(pem).tempfile() as path:
        context.load_cert_chain(path)
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0, ssl=context))
    pipe.send(server.sockets[0].getsockname()[1])
    before = cpu_seconds()

    def mark() -> None:
        nonlocal before
        if pipe.recv() == "mark":
            before = cpu_seconds()
            pipe.send("marked")
        else:
            after = cpu_seconds()
            pipe.send((after[0] - before[0], after[1] - before[1]))
            loop.stop()

    watch(loop, pipe, mark)
    loop.run_forever()
    os._exit(0)


def watch(loop: asyncio.AbstractEventLoop, pipe: Any, mark: Callable[[], None]) -> None:
    """Call *mark* on the loop when the pipe has something; from a thread, on every loop."""

    def wait() -> None:
        for _ in range(2):
            pipe.poll(None)
            seen = threading.Event()
            loop.call_soon_threadsafe(lambda e=seen: (mark(), e.set()))
            seen.wait()

    threading.Thread(target=wait, daemon=True).start()


def drive(
    name: str, ca: bytes, port: int, size: int, connections: int, count: int, pipe: Any
) -> dict[str, float]:
    """Run the client and return the figures of both sides."""
    os.sched_setaffinity(0, {1})
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    context = ssl.create_default_context(cadata=ca.decode())
    message = os.urandom(size)

    async def main() -> dict[str, float]:
        clients: list[Client] = []
        pending = connections
        finished = asyncio.Event()

        def done() -> None:
            nonlocal pending
            pending -= 1
            if pending == 0:
                finished.set()

        for _ in range(connections):
            _, client = await loop.create_connection(
                lambda: Client(message, 1, done),
                "127.0.0.1",
                port,
                ssl=context,
                server_hostname="localhost",
            )
            clients.append(client)

        async def run(each: int) -> None:
            nonlocal pending
            pending = connections
            finished.clear()
            for client in clients:
                client.left = each
                client.go()
            await finished.wait()

        await run(max(1, WARM_UP // connections))
        pipe.send("mark")
        pipe.recv()
        each = max(1, count // connections)
        before, began = cpu_seconds(), time.perf_counter()
        await run(each)
        elapsed, after = time.perf_counter() - began, cpu_seconds()
        pipe.send("end")
        server = pipe.recv()
        total = each * connections
        return {
            "client_user": (after[0] - before[0]) / total * 1e6,
            "client_system": (after[1] - before[1]) / total * 1e6,
            "server_user": server[0] / total * 1e6,
            "server_system": server[1] / total * 1e6,
            "rate": total / elapsed,
        }

    return loop.run_until_complete(main())


def one(name: str, size: int, connections: int, count: int) -> dict[str, float]:
    """Run one round and return its figures."""
    ca = trustme.CA()
    pem = ca.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(name, pem, theirs))
    server.start()
    port = ours.recv()
    results: Any = multiprocessing.Queue()

    def client() -> None:
        results.put(drive(name, ca.cert_pem.bytes(), port, size, connections, count, ours))
        results.close()
        results.join_thread()
        os._exit(0)

    process = multiprocessing.Process(target=client)
    process.start()
    result: dict[str, float] = results.get(timeout=120)
    process.join()
    server.join()
    return result


def main() -> None:
    """Run all rounds and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--loops", default=",".join(LOOPS))
    options = parser.parse_args()
    count = options.count or (20_000 if options.size <= 4096 else 4_000)
    loops = options.loops.split(",")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    for _ in range(options.rounds):
        for name in loops:
            rounds[name].append(one(name, options.size, options.connections, count))
    print(
        f"{options.size} bytes, {options.connections} connections, {count} messages, "
        f"{options.rounds} rounds, Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}"
    )

    def total(result: dict[str, float], side: str) -> float:
        return result[f"{side}_user"] + result[f"{side}_system"]

    for name in loops:
        row = {key: statistics.median(r[key] for r in rounds[name]) for key in rounds[name][0]}
        text = f"{name:8}"
        for side in ("client", "server"):
            text += f"  {side} {row[side + '_user']:6.2f} user {row[side + '_system']:6.2f} system"
            ratios = sorted(
                total(theirs, side) / total(ours, side)
                for theirs, ours in zip(rounds[name], rounds[loops[0]], strict=True)
            )
            middle = statistics.median(ratios)
            text += f"  x{middle:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"{text}  {row['rate']:8.0f}/s")


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()

"""One peer of the loop benchmarks: a process on one event loop that does as it is told.

``loop_echo.py`` and ``loop_memory.py`` start it, pinned, and send one JSON object a line; each
answer is one.  It serves echo over TCP and TLS, drives an echo server, makes the calls of an
event loop by the thousand, and tells what CPU time and memory that took.

Owns: what runs inside of a measured process.  May not touch: which cells there are, what is
made of the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import importlib.metadata
import json
import os
import resource
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

PEERS = ("reactor", "asyncio", "uvloop", "aiofastnet", "rloop")
WITHOUT_TLS = ("rloop",)
VERIFY_EVERY = 16


def new_loop(peer: str) -> asyncio.AbstractEventLoop:
    """Return a new event loop of the kind *peer*; aiofastnet runs on uvloop's."""
    if peer == "asyncio":
        return asyncio.SelectorEventLoop()
    name = {"reactor": "reactor.eventloop", "aiofastnet": "uvloop"}.get(peer, peer)
    loop: asyncio.AbstractEventLoop = importlib.import_module(name).new_event_loop()
    return loop


def version_of(peer: str) -> str:
    """Return what is measured, in words."""
    if peer == "asyncio":
        return f"Python {sys.version.split()[0]}"
    names = {"reactor": ["cyreactor"], "aiofastnet": ["aiofastnet", "uvloop"]}.get(peer, [peer])
    return " + ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def all_descriptors() -> None:
    """Let this process, and those that it starts, have all the descriptors that it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds() -> list[float]:
    """Return this process's CPU time, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [usage.ru_utime, usage.ru_stime]


def resident_bytes() -> int:
    """Return how much memory of its own this process has."""
    rows = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return 1024 * sum(int(row[1]) for row in rows if row[0].startswith("Private_"))


class Echo(asyncio.Protocol):
    """The server: sends back what it gets."""

    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class Ping(asyncio.Protocol):
    """The client: sends the next message when the last one is back."""

    __slots__ = ("ended", "got", "left", "message", "parts", "transport")

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def go(self, message: bytes, count: int, ended: Callable[[], None]) -> None:
        """Send *message* so often, each time when the last one is back."""
        self.message = message
        self.left = count
        self.ended = ended
        self.got = 0
        self.parts: list[bytes] = []
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Look at what came back, and send the next one."""
        self.got += len(data)
        verified = self.left % VERIFY_EVERY == 0
        if verified:
            self.parts.append(data)
        if self.got < len(self.message):
            return
        if self.got != len(self.message) or (verified and b"".join(self.parts) != self.message):
            os.write(2, b"the echo is not what was sent\n")
            os._exit(1)
        if verified:
            self.parts.clear()
        self.got = 0
        self.left -= 1
        if self.left:
            self.transport.write(self.message)
        else:
            self.ended()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the benchmark if that was not meant."""
        if exc is not None:
            os.write(2, f"connection lost: {exc!r}\n".encode())
            os._exit(1)


class Idle(asyncio.Protocol):
    """A connection on which nothing happens: as small as a protocol in Python gets."""

    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve echo with asyncio's streams, as its documentation shows it."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Peer:
    """What the commands do; each is a method that returns the answer."""

    def __init__(self, peer: str, certificate: str) -> None:
        self.peer = peer
        self.certificate = certificate
        self.loop = asyncio.get_running_loop()
        self.kept: dict[int, tuple[str, list[Any]]] = {}
        self.servers: list[Any] = []
        # each peer's way to the network
        self.create_server: Any = self.loop.create_server
        self.create_connection: Any = self.loop.create_connection
        self.start_server: Any = asyncio.start_server
        self.open_connection: Any = asyncio.open_connection
        if peer == "aiofastnet":
            network: Any = importlib.import_module(peer)
            for name in ("create_server", "create_connection", "start_server", "open_connection"):
                setattr(self, name, functools.partial(getattr(network, name), self.loop))

    def context(self, tls: bool, server: bool) -> ssl.SSLContext | None:
        """Return the TLS context of one end."""
        if not tls:
            return None
        if not server:
            return ssl.create_default_context(cafile=self.certificate)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate)
        return context

    async def serve(self, kind: str, tls: bool) -> dict[str, Any]:
        """Serve *kind* (echo, streams, idle) on a free port."""
        options = {"host": "127.0.0.1", "port": 0, "ssl": self.context(tls, True), "backlog": 4096}
        if kind == "streams":
            server = await self.start_server(echo_stream, **options)
        else:
            factory = {"echo": Echo, "idle": Idle}[kind]
            server = await self.create_server(factory, **options)
        self.servers.append(server)
        return {"port": server.sockets[0].getsockname()[1]}

    async def connect(self, kind: str, tls: bool, port: int, count: int) -> dict[str, Any]:
        """Open *count* connections to *port* and keep them under a key."""
        options: dict[str, Any] = {"host": "127.0.0.1", "port": port}
        if tls:
            options |= {"ssl": self.context(tls, False), "server_hostname": "localhost"}
        opened: list[Any] = []
        while len(opened) < count:
            some = range(min(50, count - len(opened)))
            if kind == "streams":
                opened += await asyncio.gather(*[self.open_connection(**options) for _ in some])
            else:
                made = await asyncio.gather(
                    *[
                        self.create_connection({"echo": Ping, "idle": Idle}[kind], **options)
                        for _ in some
                    ]
                )
                opened += [protocol for _, protocol in made]
        self.kept[port] = kind, opened
        return {"key": port}

    async def disconnect(self, key: int) -> dict[str, Any]:
        """Close what ``connect`` has opened."""
        kind, clients = self.kept.pop(key)
        for client in clients:
            (client[1] if kind == "streams" else client.transport).close()
        await asyncio.sleep(0.05)
        return {}

    async def echo(self, key: int, size: int, count: int) -> dict[str, Any]:
        """Echo *count* messages of *size* bytes, shared among the connections."""
        kind, clients = self.kept[key]
        message = os.urandom(size)
        each = max(1, count // len(clients))
        if kind == "streams":
            work: Awaitable[Any] = asyncio.gather(
                *[ping_stream(*client, message, each) for client in clients]
            )
        else:
            done = self.loop.create_future()
            left = len(clients)

            def ended() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    done.set_result(None)

            work = done
        if kind != "streams":
            for client in clients:
                client.go(message, each, ended)
        await work
        return {"messages": each * len(clients)}

    async def call(self, what: str, count: int) -> dict[str, Any]:
        """Make *count* calls of one kind and tell the CPU time."""
        before = cpu_seconds()
        await CALLS[what](self.loop, count)
        after = cpu_seconds()
        return {"messages": count, "cpu": [after[0] - before[0], after[1] - before[1]]}

    async def memory(self) -> dict[str, Any]:
        """Tell how much memory this process has."""
        return {"bytes": resident_bytes()}


async def ping_stream(reader: Any, writer: Any, message: bytes, count: int) -> None:
    """Echo with asyncio's streams."""
    for left in range(count):
        writer.write(message)
        await writer.drain()
        data = await reader.readexactly(len(message))
        if left % VERIFY_EVERY == 0 and data != message:
            os.write(2, b"the echo is not what was sent\n")
            os._exit(1)


async def call_soon(loop: Any, count: int) -> None:
    """Queue call-backs and run them, a thousand in a pass."""
    done = loop.create_future()

    def nothing() -> None:
        pass

    def more(left: int) -> None:
        for _ in range(min(1000, left)):
            loop.call_soon(nothing)
        if left > 1000:
            loop.call_soon(more, left - 1000)
        else:
            loop.call_soon(done.set_result, None)

    more(count)
    await done


async def call_later(loop: Any, count: int) -> None:
    """Arm so many timers at once, then disarm each."""

    def nothing() -> None:
        raise AssertionError("a cancelled timer was called")

    # like deadlines: all about a minute away, no two the same, none in order
    delays = [60.0 + (at * 7919 % count) / count for at in range(count)]
    handles = [loop.call_later(delay, nothing) for delay in delays]
    for handle in handles:
        handle.cancel()
    del handles
    await asyncio.sleep(0)


async def create_task(loop: Any, count: int) -> None:
    """Create tasks and let them run, a hundred in a pass."""

    async def nothing() -> None:
        pass

    for _ in range(count // 100):
        tasks = [loop.create_task(nothing()) for _ in range(100)]
        await asyncio.sleep(0)
    assert all(task.done() for task in tasks)


async def task_step(loop: Any, count: int) -> None:
    """Let tasks go on, one step of each in a pass."""

    async def steps(left: int) -> None:
        for _ in range(left):
            await asyncio.sleep(0)

    await asyncio.gather(*[loop.create_task(steps(count // 10)) for _ in range(10)])


async def future_wake_up(loop: Any, count: int) -> None:
    """Wake tasks that wait for a future, which a call-back does."""

    async def wait(rounds: int) -> None:
        for _ in range(rounds):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    await asyncio.gather(*[wait(count // 10) for _ in range(10)])


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


class PingDatagrams(asyncio.DatagramProtocol):
    """Sends the next datagram when the last one is back."""

    left = 0

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def go(self, count: int) -> asyncio.Future[None]:
        """Send so many, one after the other; return the future that is done then."""
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.sendto(b"%0100d" % count)
        return self.done

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Look at what came back, and send the next one."""
        assert data == b"%0100d" % self.left
        self.left -= 1
        if self.left:
            self.transport.sendto(b"%0100d" % self.left)
        else:
            self.done.set_result(None)

    def error_received(self, exc: OSError) -> None:
        """End the benchmark: that was not meant."""
        os.write(2, f"a datagram failed: {exc!r}\n".encode())
        os._exit(1)


async def udp_round_trip(loop: Any, count: int) -> None:
    """Send datagrams of 100 bytes to a server on this loop and back, from 50 clients."""
    server, _ = await loop.create_datagram_endpoint(EchoDatagrams, ("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    ends = [
        await loop.create_datagram_endpoint(PingDatagrams, remote_addr=address) for _ in range(50)
    ]
    await asyncio.gather(*[ping.go(count // len(ends)) for _, ping in ends])
    for transport, _ in [*ends, (server, None)]:
        transport.close()
    await asyncio.sleep(0)


CALLS: dict[str, Callable[[Any, int], Awaitable[None]]] = {
    "call_soon + run": call_soon,
    "call_later + cancel": call_later,
    "create_task + run": create_task,
    "Task step": task_step,
    "Future wake-up": future_wake_up,
    "UDP round trip": udp_round_trip,
}


async def obey(peer: str, certificate: str) -> None:
    """Do what the lines of the standard input say until it ends."""
    loop = asyncio.get_running_loop()
    doer = Peer(peer, certificate)
    requests: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def read() -> None:
        # in a thread, the same for every loop: it sleeps while something is measured, and
        # answers itself what need not disturb the loop
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "cpu":
                answer({"cpu": cpu_seconds()})
            else:
                loop.call_soon_threadsafe(requests.put_nowait, request)
        loop.call_soon_threadsafe(requests.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    answer({"version": version_of(peer), "openssl": ssl.OPENSSL_VERSION})
    while (request := await requests.get()) is not None:
        what = request.pop("do")
        try:
            answer(await getattr(doer, what)(**request))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side shows it
            answer({"failed": f"{what}: {error!r}"})


def answer(value: dict[str, Any]) -> None:
    """Write one line."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(value), flush=True)


def main() -> None:
    """Run the process: ``loop_peers.py PEER CORE CERTIFICATE``."""
    peer, core, certificate = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # less disturbed by whatever else runs
    # what a closed connection leaves is not measured
    loop = new_loop(peer)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(obey(peer, certificate))
    os._exit(0)


if __name__ == "__main__":
    main()

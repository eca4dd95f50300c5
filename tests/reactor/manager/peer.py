"""Both ends of the manager's tests: an echo server, a protocol that asks it, and the books.

Owns: nothing that outlives a test.
Invariant: ``check`` holds between any two call-backs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from reactor import (
    ConnectionManager,
    Endpoint,
    PoolEvent,
    Protocol,
)
from reactor.eventloop import EventLoop
from reactor.testing import listen
from tests.virtual_time import pass_time

NOTHING = {"leased": 0, "idle": 0, "opening": 0, "waiting": 0}
QUIET = {**NOTHING, "closing": 0}


class Echo(asyncio.Protocol):
    """The server: sends back what comes, and remembers its connections."""

    transports: list[Any]

    def __init__(self, transports: list[Any]) -> None:
        self.transports = transports

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transports.append(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """The client: sends bytes and waits for as many; nothing of HTTP."""

    def __init__(self) -> None:
        self.got = b""
        self.waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def ask(self, data: bytes) -> bytes:
        self.got = b""
        self.transport.write(data)
        while len(self.got) < len(data):
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.got


class Strict(Asker):
    """Closes when something comes that it did not ask for, as ``HTTPProtocol`` does."""

    def data_received(self, data: bytes) -> None:
        if self.waiter is None or self.waiter.done():
            self.transport.abort()
        super().data_received(data)


class Peer:
    """A running echo server; ``endpoints`` are names for it that are different keys."""

    def __init__(self, port: int, transports: list[Any]) -> None:
        self.transports = transports
        self.endpoints = [Endpoint(f"s{n}", "127.0.0.1", port) for n in range(4)]
        self.endpoint = self.endpoints[0]

    @property
    def open(self) -> int:
        return sum(not transport.is_closing() for transport in self.transports)


@contextlib.asynccontextmanager
async def echoing(loop: EventLoop) -> AsyncIterator[Peer]:
    transports: list[Any] = []
    server = await listen(loop, lambda: Echo(transports))
    try:
        yield Peer(server.sockets[0].getsockname()[1], transports)
    finally:
        server.close()
        for transport in transports:
            transport.abort()
        await settle()


async def settle() -> None:
    """Let happen what is under way."""
    loop: Any = asyncio.get_running_loop()
    if hasattr(loop.poller, "advance"):
        await pass_time(0)
        return
    for _ in range(8):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is the manager's state and has no event
        await asyncio.sleep(0)


def counts(manager: ConnectionManager) -> dict[str, int]:
    stats: dict[str, Any] = {**manager.stats()}
    return {name: stats[name] for name in NOTHING}


def numbers(manager: ConnectionManager) -> dict[str, int]:
    stats: dict[str, Any] = {**manager.stats()}
    return {name: stats[name] for name in (*QUIET, "opened", "reused")}


def check(manager: ConnectionManager) -> None:
    """Assert that the books are in order."""
    manager._policy.check()
    stats = manager.stats()
    assert manager._policy.total == stats["leased"] + stats["idle"] + (
        stats["opening"] + stats["closing"]
    )


class Events:
    """What a manager tells its hook, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[PoolEvent] = []
        self.news = asyncio.Event()

    def __call__(self, event: PoolEvent) -> None:
        self.seen.append(event)
        self.news.set()

    def of(self, kind: str) -> list[PoolEvent]:
        return [event for event in self.seen if event.kind == kind]

    async def wait(self, kind: str, count: int) -> list[PoolEvent]:
        while len(self.of(kind)) < count:
            self.news.clear()
            await self.news.wait()
        return self.of(kind)


Scenario = Callable[[Peer], Awaitable[None]]


def play(loop: EventLoop, scenario: Scenario) -> None:
    async def main() -> None:
        async with echoing(loop) as peer:
            await scenario(peer)

    loop.run_until_complete(main())

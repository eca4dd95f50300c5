"""A server that closes idle connections at the very moment of reuse.

The server ends each connection that was idle for T.  Each caller aims at that moment: who came
too late comes earlier the next time, who was in time comes later; and T is longer where all of them
together take longer.  So on any machine, however busy, some requests meet a connection whose end
is on its way, in the kernel, or read already.
There are 50,000 uses in tox's environment ``proofs``.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from protocols.http import AsyncClient
from reactor import EndpointError, new_event_loop, run
from tests.effort import effort

USES = effort(2_000 if sys.platform == "win32" else 5_000, 50_000)  # a turn is longer under Wine
ENOUGH = USES // 20  # uses of a connection that lay idle, and of one that replaced it
CALLERS = 50
TURNS = USES // CALLERS
MOST_TURNS = 4 * TURNS  # where the machine is too busy for ENOUGH
IDLE_SECONDS = 0.03  # or four times what a request of each caller takes, all at once
LATER, EARLIER = 1.1, 0.8


class Impatient(asyncio.Protocol):
    """Answers what is whole, notes each target, and closes when nothing came for a while."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen = server.seen
        self.open_now = server.open_now
        self.head = b""
        self.used = b"fresh"

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.open_now.add(transport)
        self.timer: asyncio.TimerHandle | None = None

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def expire(self) -> None:
        self.server.closed["idle"] += 1
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.disarm()
        self.head += data
        while b"\r\n\r\n" in self.head:
            head, _, self.head = self.head.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            self.seen[target] += 1
            body = target.encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Connection: %b\r\n\r\n%b"
                % (len(body), self.used, body)
            )
            self.used = b"used"
        self.timer = asyncio.get_running_loop().call_later(self.server.idle_seconds, self.expire)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disarm()
        self.open_now.discard(self.transport)


class Server:
    """The impatient server, on a loop of another thread, so that it does not wait for us."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.open_now: set[Any] = set()
        self.idle_seconds = 3600.0
        self.loop = new_event_loop()
        self.server = self.loop.run_until_complete(
            self.loop.create_server(
                lambda: Impatient(self),
                "127.0.0.1",
                0,
                backlog=2 * CALLERS,
            )
        )
        self.root = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def stop(self) -> None:
        async def end() -> None:
            self.server.close()
            for transport in self.open_now:
                transport.abort()
            while self.open_now:  # noqa: ASYNC110 - the transports tell it one by one
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


async def use(server: Server, method: str, failed: Counter[str]) -> Counter[str]:
    """Make the uses, by many callers at a time, each at the moment at which it may go wrong.

    Each has a client of its own, or it would be lent what another has just given back.  Return
    what became of their connections.
    """
    dice = random.Random(4711)
    total: Counter[str] = Counter()

    async def caller(number: int) -> None:
        pause = server.idle_seconds
        async with AsyncClient() as client:
            for turn in range(MOST_TURNS):
                if turn >= TURNS and total["in time"] >= ENOUGH:
                    break
                target = f"/{method}/{number}/{turn}"
                try:
                    response = await client.request(method, server.root + target)
                    assert response.text == target
                    was_in_time = response.headers["X-Connection"] == "used"
                except EndpointError:
                    failed[target] += 1
                    was_in_time = False
                total["in time"] += was_in_time
                pause *= (LATER if was_in_time else EARLIER) * dice.uniform(0.95, 1.05)
                await asyncio.sleep(pause)  # the time is what is tested: the server's is real, too
            stats = client.manager.stats()
            total.update(opened=stats["opened"], reused=stats["reused"])

    async def once(number: int) -> None:
        async with AsyncClient() as client:
            await client.request(method, f"{server.root}/first/{number}")

    began = time.perf_counter()
    await asyncio.gather(*map(once, range(CALLERS)))
    server.idle_seconds = max(IDLE_SECONDS, 4 * (time.perf_counter() - began))
    await asyncio.gather(*map(caller, range(CALLERS)))
    return total


@pytest.mark.timeout(900)
def test_work_that_may_be_repeated_never_fails(server: Server) -> None:
    failed: Counter[str] = Counter()
    total = run(use(server, "GET", failed))
    assert not failed
    assert total["reused"] >= ENOUGH
    assert total["opened"] >= CALLERS + ENOUGH
    assert len(server.seen) >= TURNS * CALLERS
    assert server.closed["idle"] > CALLERS


@pytest.mark.timeout(900)
def test_work_that_may_not_be_repeated_is_never_done_twice(server: Server) -> None:
    failed: Counter[str] = Counter()
    total = run(use(server, "POST", failed))
    assert total["reused"] >= ENOUGH
    assert set(server.seen.values()) == {1}
    assert len(server.seen) + len(failed) >= TURNS * CALLERS
    assert len(failed) < len(server.seen)  # most are seen to be dead before they are used

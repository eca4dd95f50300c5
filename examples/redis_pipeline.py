"""Talk to redis: python examples/redis_pipeline.py --port N [--commands N] [--watch].

A driver that is not HTTP, over the connection manager: a small RESP protocol, pipelined, each
connection shared by many callers.  While a server restarts, what may be repeated is repeated.
"""

import argparse
import asyncio
import collections
import sys
from typing import Any

import reactor

# How long a command that may be repeated is, and how long to wait before each time: a server that
# restarts is back in about a second, on a machine with more to do in some.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.1


class RedisError(Exception):
    """What the server answered instead of a value."""


class Redis(reactor.Protocol):
    """Sends commands and matches the replies to them, in order (RESP 2).

    Any number of commands may be under way, so a connection may be leased more than once.
    """

    max_leases = 100

    def __init__(self) -> None:
        self.buffer = b""
        self.waiting: collections.deque[asyncio.Future[Any]] = collections.deque()

    def data_received(self, data: bytes) -> None:
        """Take what came; each whole reply ends the oldest command."""
        self.buffer += data
        at = 0
        while (found := parse(self.buffer, at)) is not None:
            value, at = found
            if not self.waiting:
                self.transport.abort()  # it answers what nobody asked
                return
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(value)
        self.buffer = self.buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the commands whose replies will not come."""
        for future in self.waiting:
            if not future.done():
                future.set_exception(exc or ConnectionResetError("redis hung up"))
        self.waiting.clear()

    async def pipeline(self, *commands: tuple[str, ...]) -> list[Any]:
        """Send commands in one write and return their replies; errors are values here."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("redis hung up")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in commands]
        self.waiting.extend(futures)
        self.transport.write(b"".join(map(encode, commands)))
        return await asyncio.gather(*futures)


def encode(command: tuple[str, ...]) -> bytes:
    """Return a command as an array of bulk strings."""
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def parse(data: bytes, at: int) -> tuple[Any, int] | None:
    """Return the reply that begins at *at*, and where it ends; None while it is not whole."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    kind, line, after = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b"+":
        return line.decode(), after
    if kind == b"-":
        return RedisError(line.decode()), after
    if kind == b":":
        return int(line), after
    size = int(line)
    if size < 0:
        return None, after
    if kind == b"$":
        if len(data) < after + size + 2:
            return None
        return data[after : after + size], after + size + 2
    values = []
    for _ in range(size):
        found = parse(data, after)
        if found is None:
            return None
        values.append(found[0])
        after = found[1]
    return values, after


async def repeated(
    manager: reactor.ConnectionManager, endpoint: reactor.Endpoint, *commands: tuple[str, ...]
) -> list[Any]:
    """Run commands that may be run twice, on a new connection if need be."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            async with manager.lease(Redis, endpoint) as redis:
                replies: list[Any] = await redis.pipeline(*commands)
                return replies
        except ConnectionError:
            if loop.time() > give_up_at:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def main(host: str, port: int, commands: int, watch: bool) -> None:
    """Set and get keys in a pipeline; with *watch*, ping for each line of standard input."""
    endpoint = reactor.Endpoint("redis", host, port)
    manager = reactor.ConnectionManager(max_per_endpoint=4)
    sets = [("SET", f"key:{n}", f"value {n}") for n in range(commands)]
    gets = [("GET", f"key:{n}") for n in range(commands)]
    assert set(await repeated(manager, endpoint, *sets)) == {"OK"}
    values = await repeated(manager, endpoint, *gets)
    print(f"{commands} keys set and read: {values[-1].decode()}", flush=True)
    while watch:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            break
        [answer] = await repeated(manager, endpoint, ("PING",))
        stats = manager.stats()
        print(f"{answer}, {stats['opened']} opened, {stats['reused']} reused", flush=True)
    await manager.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Talk to redis.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--watch", action="store_true", help="ping for each line of stdin")
    given = parser.parse_args()
    try:
        reactor.run(main(given.host, given.port, given.commands, given.watch))
    except OSError as error:
        sys.exit(f"redis_pipeline: {error}")

"""The redis example against a real redis-server, which is restarted under it."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reactor
from tests.peers.absent import absent
from tests.peers.child import running
from tests.peers.redis import Redis, executable

EXAMPLE = Path(__file__).parents[1] / "examples" / "redis_pipeline.py"

pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are not here")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    if executable() is None:
        absent("redis-server", "redis-server")
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture
def example() -> Any:
    spec = importlib.util.spec_from_file_location("redis_pipeline", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_sets_and_gets_and_reconnects_after_a_restart(server: Redis) -> None:
    async def test() -> None:
        async with running(
            str(EXAMPLE), "--port", str(server.port), "--watch", stdin=subprocess.PIPE
        ) as child:
            stdin, stdout = child.process.stdin, child.process.stdout
            assert stdin is not None
            assert stdout is not None
            assert await stdout.readline() == b"1000 keys set and read: value 999\n"
            stdin.write(b"\n")
            assert await stdout.readline() == b"PONG, 1 opened, 2 reused\n"
            server.stop()
            stdin.write(b"\n")  # while nobody is there
            server.start()
            assert await stdout.readline() == b"PONG, 2 opened, 2 reused\n"
            assert await child.end() == (0, "", "")

    reactor.run(test())


def test_example_names_a_port_where_nobody_listens(server: Redis, example: Any) -> None:
    server.stop()

    async def test() -> None:
        endpoint = reactor.Endpoint("redis", "127.0.0.1", server.port)
        manager = reactor.ConnectionManager()
        with pytest.raises(reactor.ConnectRefusedError, match=f"connect 127.0.0.1:{server.port}"):
            await manager.acquire(example.Redis, endpoint)
        await manager.close()

    reactor.run(test())


def test_callers_of_one_connection_get_their_own_replies(server: Redis, example: Any) -> None:
    async def test() -> None:
        endpoint = reactor.Endpoint("redis", "127.0.0.1", server.port)
        manager = reactor.ConnectionManager(max_per_endpoint=2)

        async def use(number: int) -> None:
            key = f"k{number}"
            async with manager.lease(example.Redis, endpoint) as redis:
                replies = await redis.pipeline(
                    ("SET", key, "x" * number), ("GET", key), ("GET", "no such key"), ("FLY",)
                )
                assert replies[:3] == ["OK", b"x" * number, None]
                assert isinstance(replies[3], example.RedisError)
                assert await redis.pipeline(("LRANGE", "none", "0", "1"), ("INCR", f"n{key}")) == [
                    [],
                    1,
                ]

        await asyncio.gather(*map(use, range(300)))
        stats = manager.stats()
        assert stats["opened"] == 2
        assert stats["reused"] == 298
        await manager.close()

    reactor.run(test())


def test_work_that_may_be_repeated_survives_restarts(server: Redis, example: Any) -> None:
    async def test() -> None:
        endpoint = reactor.Endpoint("redis", "127.0.0.1", server.port)
        manager = reactor.ConnectionManager(max_per_endpoint=2)
        restarts = done = 0
        again = asyncio.Event()

        async def use(number: int) -> None:
            nonlocal done
            while restarts < 3 or not number:
                answers = await example.repeated(
                    manager, endpoint, ("SET", f"k{number}", "v"), ("PING",)
                )
                assert answers == ["OK", "PONG"]
                done += 1
                again.set()
                if not number and restarts == 3:
                    return

        users = [asyncio.ensure_future(use(number)) for number in range(20)]
        for _ in range(3):
            before = done
            while done < before + 100:
                again.clear()
                await again.wait()
            server.stop()
            await asyncio.to_thread(server.start)
            restarts += 1
        await asyncio.gather(*users)
        stats = manager.stats()
        assert stats["opened"] >= 4  # each restart ended at least one
        assert (stats["leased"], stats["waiting"], stats["opening"]) == (0, 0, 0)
        await manager.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    reactor.run(test())

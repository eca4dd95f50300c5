"""redis-py on our loop, against a real Redis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import reactor
from tests.peers.redis import Redis

aioredis = pytest.importorskip("redis.asyncio")
exceptions = pytest.importorskip("redis.exceptions")

WAYS = ["tcp", "unix", "tls"]


def new_client(server: Redis, way: str, **options: Any) -> Any:
    match way:
        case "unix":
            return aioredis.Redis(unix_socket_path=str(server.path), **options)
        case "tls":
            return aioredis.Redis(
                host="localhost",
                port=server.tls_port,
                ssl=True,
                ssl_ca_certs=str(server.ca_pem),
                **options,
            )
        case _:
            return aioredis.Redis(host="127.0.0.1", port=server.port, **options)


@contextlib.asynccontextmanager
async def connected(server: Redis, way: str, **options: Any) -> AsyncIterator[Any]:
    """Return a client of an empty database, with a pool of connections."""
    assert isinstance(asyncio.get_running_loop(), reactor.EventLoop)
    client = new_client(server, way, **options)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()


@pytest.mark.parametrize("way", WAYS)
def test_values_of_many_sizes_are_kept(redis_server: Redis, way: str) -> None:
    async def main() -> None:
        async with connected(redis_server, way) as client:
            for size in (0, 1, 1000, 16_384, 1_000_000, 20_000_000):
                value = bytes([size % 251]) * size
                await client.set(f"key {size}", value)
                assert await client.get(f"key {size}") == value

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_many_tasks_share_a_pool(redis_server: Redis, way: str) -> None:
    async def main() -> None:
        async with connected(redis_server, way) as client:

            async def count(number: int) -> None:
                for _ in range(20):
                    await client.incr(f"counter {number % 10}")

            await asyncio.gather(*map(count, range(40)))
            counters = await client.mget([f"counter {number}" for number in range(10)])
            assert counters == [b"80"] * 10

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_pipeline_of_thousands_of_commands_is_answered_in_order(
    redis_server: Redis, way: str
) -> None:
    async def main() -> None:
        async with connected(redis_server, way) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(10_000):
                pipeline.rpush("list", number)
            assert await pipeline.execute() == list(range(1, 10_001))
            stored = await client.lrange("list", 0, -1)
            assert stored == [str(number).encode() for number in range(10_000)]

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_subscriber_hears_every_message(redis_server: Redis, way: str) -> None:
    async def main() -> None:
        async with connected(redis_server, way) as client, client.pubsub() as subscriber:
            await subscriber.subscribe("news")
            assert (await subscriber.get_message(timeout=5))["type"] == "subscribe"

            async def publish() -> None:
                for number in range(500):
                    assert await client.publish("news", number) == 1

            publishing = asyncio.create_task(publish())
            heard = [
                (await subscriber.get_message(ignore_subscribe_messages=True, timeout=5))["data"]
                for _ in range(500)
            ]
            await publishing
            assert heard == [str(number).encode() for number in range(500)]

    reactor.run(main())


def test_blocking_command_that_is_cancelled_leaves_the_client_usable(redis_server: Redis) -> None:
    async def main() -> None:
        async with connected(redis_server, "tcp") as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.blpop(["empty"]), 0.05)
            await client.rpush("empty", "late")
            assert await client.blpop(["empty"]) == (b"empty", b"late")

    reactor.run(main())


def test_connection_that_the_server_kills_is_replaced(redis_server: Redis) -> None:
    async def main() -> None:
        async with (
            connected(redis_server, "tcp") as client,
            connected(redis_server, "tcp", single_connection_client=True) as victim,
        ):
            identity = await victim.client_id()
            blocked = asyncio.create_task(victim.blpop(["empty"]))
            while not any(
                each["id"] == str(identity) and each["cmd"] == "blpop"
                for each in await client.client_list()
            ):
                assert not blocked.done()
            await client.client_kill_filter(_id=identity)
            await client.rpush("empty", "late")
            # The client tries once more, on a new connection.
            assert await blocked == (b"empty", b"late")
            assert await victim.client_id() != identity

    reactor.run(main())


def test_server_that_is_not_there_is_a_connection_error() -> None:
    async def main() -> None:
        client = aioredis.Redis(unix_socket_path="/nowhere/redis.sock", retry=None)
        with pytest.raises(exceptions.ConnectionError):
            await client.ping()
        await client.aclose()

    reactor.run(main())

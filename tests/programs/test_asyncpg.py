"""asyncpg on our loop, against a real PostgreSQL."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

import reactor
from tests.peers.postgres import DATABASE, PASSWORD, USER, Postgres

asyncpg = pytest.importorskip("asyncpg")

WAYS = ["tcp", "unix", "tls"]


def options_for(server: Postgres, way: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "user": USER,
        "password": PASSWORD,
        "database": DATABASE,
        "port": server.port,
        "host": "localhost" if way == "tls" else "127.0.0.1",
        "ssl": False,
    }
    if way == "unix":
        found["host"] = str(server.directory)
    elif way == "tls":
        found["ssl"] = ssl.create_default_context(cafile=str(server.ca_pem))
    return found


@contextlib.asynccontextmanager
async def connected(server: Postgres, way: str) -> AsyncIterator[Any]:
    assert isinstance(asyncio.get_running_loop(), reactor.EventLoop)
    connection = await asyncpg.connect(**options_for(server, way))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("way", WAYS)
def test_values_come_back_as_they_went(postgres_server: Postgres, way: str) -> None:
    async def main() -> None:
        async with connected(postgres_server, way) as connection:
            for size in (0, 1, 1000, 16_384, 1_000_000, 20_000_000):
                value = bytes([size % 251]) * size
                assert await connection.fetchval("SELECT $1::bytea", value) == value
            row = await connection.fetchrow("SELECT 1 AS one, 'zwei' AS two, NULL AS three")
            assert dict(row) == {"one": 1, "two": "zwei", "three": None}

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_connection_is_encrypted_when_it_should_be(postgres_server: Postgres, way: str) -> None:
    async def main() -> None:
        async with connected(postgres_server, way) as connection:
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await connection.fetchval(query) is (way == "tls")

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_many_tasks_share_a_pool(postgres_server: Postgres, way: str) -> None:
    async def main() -> None:
        options = options_for(postgres_server, way)
        async with asyncpg.create_pool(**options, min_size=2, max_size=10) as pool:

            async def square(number: int) -> int:
                found: int = await pool.fetchval("SELECT $1::int * $1::int", number)
                return found

            assert await asyncio.gather(*map(square, range(500))) == [n * n for n in range(500)]
            assert pool.get_size() <= 10

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_copied_in_and_read_back_by_a_cursor(postgres_server: Postgres, way: str) -> None:
    count = 50_000

    async def main() -> None:
        async with connected(postgres_server, way) as connection:
            await connection.execute("CREATE TEMPORARY TABLE rows (number int, text text)")
            records = [(number, f"row {number}") for number in range(count)]
            result = await connection.copy_records_to_table("rows", records=records)
            assert result == f"COPY {count}"
            async with connection.transaction():
                cursor = connection.cursor("SELECT * FROM rows ORDER BY number", prefetch=1000)
                seen = [tuple(row) async for row in cursor]
            assert seen == records
            await connection.executemany(
                "UPDATE rows SET text = $2 WHERE number = $1",
                [(number, "changed") for number in range(100)],
            )
            query = "SELECT count(*) FROM rows WHERE text = 'changed'"
            assert await connection.fetchval(query) == 100

    reactor.run(main())


def test_transaction_that_fails_is_rolled_back(postgres_server: Postgres) -> None:
    async def main() -> None:
        async with connected(postgres_server, "tcp") as connection:
            await connection.execute("CREATE TEMPORARY TABLE numbers (number int PRIMARY KEY)")

            async def twice() -> None:
                async with connection.transaction():
                    for _ in range(2):
                        await connection.execute("INSERT INTO numbers VALUES (1)")

            with pytest.raises(asyncpg.UniqueViolationError):
                await twice()
            assert await connection.fetchval("SELECT count(*) FROM numbers") == 0

    reactor.run(main())


def test_listener_hears_every_notification(postgres_server: Postgres) -> None:
    async def main() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        async with (
            connected(postgres_server, "tcp") as speaker,
            connected(postgres_server, "unix") as listener,
        ):
            await listener.add_listener("news", lambda *event: heard.put_nowait(event[3]))
            for number in range(500):
                await speaker.execute("SELECT pg_notify('news', $1)", str(number))
            for number in range(500):
                assert await asyncio.wait_for(heard.get(), 10) == str(number)

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_query_that_takes_too_long_is_cancelled_on_the_server(
    postgres_server: Postgres, way: str
) -> None:
    async def main() -> None:
        async with connected(postgres_server, way) as connection:
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetchval("SELECT pg_sleep(60)", timeout=0.05)
            # The connection is free again, since the server was told to give the query up.
            assert await connection.fetchval("SELECT 7") == 7

    reactor.run(main())


def test_connection_that_the_server_ends_is_an_error(postgres_server: Postgres) -> None:
    async def main() -> None:
        async with (
            connected(postgres_server, "tcp") as killer,
            connected(postgres_server, "tcp") as victim,
        ):
            lost = asyncio.Event()
            victim.add_termination_listener(lambda _: lost.set())
            assert await killer.fetchval("SELECT pg_terminate_backend($1)", victim.get_server_pid())
            await asyncio.wait_for(lost.wait(), 10)
            assert victim.is_closed()
            with pytest.raises(asyncpg.InterfaceError):
                await victim.fetchval("SELECT 1")

    reactor.run(main())


def test_wrong_password_is_refused(postgres_server: Postgres) -> None:
    async def main() -> None:
        options = {**options_for(postgres_server, "tcp"), "password": "another"}
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**options)

    reactor.run(main())


def test_server_that_is_not_there_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncpg.connect(user=USER, password=PASSWORD, host="/nowhere", port=1)

    reactor.run(main())

"""The servers that other people's clients talk to on our loop.

Owns the session's Redis and PostgreSQL.  What these tests need from the package index is not in
the ``test`` extra: ``tox -e programs`` installs it, and elsewhere they are skipped.
"""

from collections.abc import Iterator

import pytest

from tests.peers import postgres, redis
from tests.peers.absent import absent
from tests.peers.postgres import Postgres
from tests.peers.redis import Redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Return a running Redis, the same for the whole session."""
    if redis.executable() is None:
        absent("redis-server", "redis-server")
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Return a running PostgreSQL, the same for the whole session."""
    if postgres.executable("postgres") is None:
        absent("postgres", "postgresql")
    with Postgres() as server:
        yield server

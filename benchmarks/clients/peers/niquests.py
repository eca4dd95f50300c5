"""niquests: ``AsyncSession`` on uvloop, and ``Session``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import niquests

from benchmarks.clients.work import Job, WrongBytesError, on_uvloop


def session_of(job: Job) -> niquests.AsyncSession:
    """Return a session with room for all connections."""
    session = niquests.AsyncSession(pool_connections=1, pool_maxsize=job.connections)
    if job.work == "fresh":
        session.headers["Connection"] = "close"
    return session


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        async with session_of(job) as session:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    if (await session.get(job.url, verify=job.ca)).content != job.body:
                        raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


fresh = get


def blocking(job: Job) -> None:
    """``Session.get``, one after another."""
    with niquests.Session() as session:
        session.verify = job.ca
        for phase in job.phases():
            for _ in phase[0]:
                if session.get(job.url).content != job.body:
                    raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with session_of(job) as session:
            for _ in job.phases():
                take = job.begin()
                response = await session.get(job.url, stream=True, verify=job.ca)
                async for piece in await response.iter_content(-1):
                    take(piece)
                job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """A file as data."""

    async def main() -> None:
        async with session_of(job) as session:
            for _ in job.phases():
                with Path(job.source).open("rb") as file:  # noqa: ASYNC230 - it is in memory
                    response = await session.put(job.url, data=file)
                job.check_stored(response.status_code)

    on_uvloop(main())

"""aiohttp on uvloop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.clients.work import (
    FIELDS,
    PARAMETERS,
    POSTED,
    QUEUED_CONNECTIONS,
    Job,
    WrongBytesError,
    on_uvloop,
)


def session_of(job: Job) -> aiohttp.ClientSession:
    """Return a session with room for all connections; must be called on the loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=QUEUED_CONNECTIONS if job.work == "queued" else job.connections, ssl=job.tls()
        ),
        timeout=aiohttp.ClientTimeout(total=None if job.work in ("download", "upload") else 300),
        headers={"Connection": "close"} if job.work == "fresh" else None,
    )


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        async with session_of(job) as session:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    async with session.get(job.url) as response:
                        if await response.read() != job.body:
                            raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


fresh = queued = get


def post(job: Job) -> None:
    """POST of JSON with a header and a parameter, the connections kept."""

    async def main() -> None:
        async with session_of(job) as session:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    async with session.post(
                        job.url, json=POSTED, headers=FIELDS, params=PARAMETERS
                    ) as response:
                        if await response.read() != job.body:
                            raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with session_of(job) as session:
            for _ in job.phases():
                take = job.begin()
                async with session.get(job.url) as response:
                    async for piece in response.content.iter_any():
                        take(piece)
                job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """A file as data."""

    async def main() -> None:
        async with session_of(job) as session:
            for _ in job.phases():
                with Path(job.source).open("rb") as file:  # noqa: ASYNC230 - it is in memory
                    async with session.put(job.url, data=file) as response:
                        job.check_stored(response.status)

    on_uvloop(main())

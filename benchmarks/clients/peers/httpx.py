"""httpx, and httpx2, which has the same names: ``AsyncClient`` on uvloop, and ``Client``."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.clients.work import FIELDS, PARAMETERS, POSTED, Job, WrongBytesError, on_uvloop


def client_of(job: Job, kind: str = "AsyncClient") -> Any:
    """Return a client with room for all connections."""
    httpx = importlib.import_module(job.settings["module"])
    return getattr(httpx, kind)(
        verify=job.tls(),
        timeout=None if job.work in ("download", "upload") else 300,
        headers={"Connection": "close"} if job.work == "fresh" else None,
        limits=httpx.Limits(
            max_connections=job.connections, max_keepalive_connections=job.connections
        ),
    )


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        async with client_of(job) as client:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    if (await client.get(job.url)).content != job.body:
                        raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


fresh = get


def post(job: Job) -> None:
    """POST of JSON with a header and a parameter, the connections kept."""

    async def main() -> None:
        async with client_of(job) as client:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    response = await client.post(
                        job.url, json=POSTED, headers=FIELDS, params=PARAMETERS
                    )
                    if response.content != job.body:
                        raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


def blocking(job: Job) -> None:
    """``Client.get``, one after another."""
    with client_of(job, "Client") as client:
        for phase in job.phases():
            for _ in phase[0]:
                if client.get(job.url).content != job.body:
                    raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                take = job.begin()
                async with client.stream("GET", job.url) as response:
                    async for piece in response.aiter_bytes():
                        take(piece)
                job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """An asynchronous generator as content, with the length told."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                size = {"Content-Length": job.source_size}
                response = await client.put(job.url, content=job.pieces(), headers=size)
                job.check_stored(response.status_code)

    on_uvloop(main())

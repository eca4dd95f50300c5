"""ry (reqwest, in Rust): ``Client`` on uvloop, and ``BlockingClient``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ry

from benchmarks.clients.work import Job, WrongBytesError, on_uvloop


def options_of(job: Job) -> dict[str, Any]:
    """Return the options of a client."""
    options: dict[str, Any] = {
        "http1_only": True,
        "tls_certs_only": [ry.Certificate.from_pem(Path(job.ca).read_bytes())],
    }
    if job.work == "fresh":
        options["headers"] = {"Connection": "close"}
    return options


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        client = ry.Client(**options_of(job))

        async def caller(turns: Any) -> None:
            for _ in turns:
                response = await client.get(job.url)
                if await response.bytes() != job.body:
                    raise WrongBytesError

        await job.walk(caller)

    on_uvloop(main())


fresh = get


def blocking(job: Job) -> None:
    """``BlockingClient.get``, one after another."""
    client = ry.BlockingClient(**options_of(job))
    for phase in job.phases():
        for _ in phase[0]:
            if client.get(job.url).bytes() != job.body:
                raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        client = ry.Client(**options_of(job))
        for _ in job.phases():
            take = job.begin()
            response = await client.get(job.url)
            async for piece in response.stream():
                take(piece)
            job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """An asynchronous generator as body, with the length told."""

    async def main() -> None:
        client = ry.Client(**options_of(job))
        for _ in job.phases():
            size = {"Content-Length": job.source_size}
            response = await client.put(job.url, body=job.pieces(), headers=size)
            job.check_stored(response.status)

    on_uvloop(main())

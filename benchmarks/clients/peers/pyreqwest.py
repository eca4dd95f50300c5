"""pyreqwest (reqwest, in Rust): ``Client`` on uvloop, and ``SyncClient``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyreqwest.client import ClientBuilder, SyncClientBuilder

from benchmarks.clients.work import Job, WrongBytesError, on_uvloop


def client_of(job: Job, builder: Any = ClientBuilder) -> Any:
    """Return a client with room for all connections."""
    made = builder().http1_only().max_connections(job.connections)
    if job.work == "fresh":
        made = made.default_headers({"Connection": "close"})
    return made.add_root_certificate_pem(Path(job.ca).read_bytes()).build()


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        async with client_of(job) as client:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    response = await client.get(job.url).build().send()
                    if await response.bytes() != job.body:
                        raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


fresh = get


def blocking(job: Job) -> None:
    """``SyncClient``, one after another."""
    with client_of(job, SyncClientBuilder) as client:
        for phase in job.phases():
            for _ in phase[0]:
                if client.get(job.url).build().send().bytes() != job.body:
                    raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                take = job.begin()
                async with client.get(job.url).build_streamed() as response:
                    while (piece := await response.body_reader.read_chunk()) is not None:
                        take(piece)
                job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """An asynchronous generator as body, with the length told."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                size = job.source_size
                request = client.put(job.url).header("Content-Length", size)
                response = await request.body_stream(job.pieces()).build().send()
                job.check_stored(response.status)

    on_uvloop(main())

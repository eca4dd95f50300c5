"""wreq (in Rust, with BoringSSL): ``Client`` on uvloop, and ``blocking.Client``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wreq
import wreq.blocking
import wreq.tls

from benchmarks.clients.work import Job, WrongBytesError, on_uvloop


def options_of(job: Job) -> dict[str, Any]:
    """Return the options of a client."""
    options: dict[str, Any] = {
        "http1_only": True,
        "tls_verify": wreq.tls.CertStore.from_pem_stack(Path(job.ca).read_bytes()),
    }
    if job.work == "fresh":
        options["headers"] = {"Connection": "close"}
    return options


def get(job: Job) -> None:
    """GET, the connections kept."""

    async def main() -> None:
        async with wreq.Client(**options_of(job)) as client:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    async with client.get(job.url) as response:
                        if await response.bytes() != job.body:
                            raise WrongBytesError

            await job.walk(caller)

    on_uvloop(main())


fresh = get


def blocking(job: Job) -> None:
    """``blocking.Client.get``, one after another."""
    client = wreq.blocking.Client(**options_of(job))
    for phase in job.phases():
        for _ in phase[0]:
            with client.get(job.url) as response:
                if response.bytes() != job.body:
                    raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with wreq.Client(**options_of(job)) as client:
            for _ in job.phases():
                take = job.begin()
                async with client.get(job.url) as response, response.stream() as stream:
                    async for piece in stream:
                        take(piece)
                job.end()

    on_uvloop(main())


def upload(job: Job) -> None:
    """An asynchronous generator as body."""

    async def main() -> None:
        async with wreq.Client(**options_of(job)) as client:
            for _ in job.phases():
                size = {"Content-Length": job.source_size}
                async with client.put(job.url, body=job.pieces(), headers=size) as response:
                    job.check_stored(response.status.as_int())

    on_uvloop(main())

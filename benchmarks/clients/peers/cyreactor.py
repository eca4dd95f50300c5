"""This client: ``AsyncClient``, ``HTTPProtocol`` and ``Client``."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import reactor
from benchmarks.clients.work import (
    FIELDS,
    PARAMETERS,
    POSTED,
    QUEUED_CONNECTIONS,
    Job,
    WrongBytesError,
)
from protocols.http import AsyncClient, Client, HTTPProtocol

CLOSE = {"Connection": "close"}
FEATURE_REQUESTS = 480
FEATURE_BLOCKS = 61


def client_of(job: Job) -> AsyncClient:
    """Return a client with room for all connections; the rest is as it comes."""
    return AsyncClient(
        tls=job.tls(),
        max_connections=QUEUED_CONNECTIONS if job.work == "queued" else job.connections,
        max_per_host=QUEUED_CONNECTIONS if job.work == "queued" else job.connections,
        resume_tls=job.work != "fresh",
    )


def get(job: Job) -> None:
    """``await client.get``, the connections kept."""

    async def main() -> None:
        async with client_of(job) as client:
            url = job.url

            async def caller(turns: Any) -> None:
                body = job.body
                for _ in turns:
                    response = await client.get(url)
                    if response.content != body:
                        raise WrongBytesError

            await job.walk(caller)

    reactor.run(main())


queued = get


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

    reactor.run(main())


def fresh(job: Job) -> None:
    """A new connection for each request, with a full handshake; or (``resumed``) as it comes."""

    async def main() -> None:
        async with client_of(job) as client:

            async def caller(turns: Any) -> None:
                for _ in turns:
                    response = await client.get(job.url, headers=CLOSE)
                    if response.content != job.body:
                        raise WrongBytesError

            await job.walk(caller)

    reactor.run(main())


resumed = fresh


class Caller(HTTPProtocol):
    """Asks again as long as there are turns."""

    turns: Iterator[int]
    body = b""
    over: asyncio.Future[None]

    def begin(self, job: Job, turns: Any, over: asyncio.Future[None]) -> None:
        """Take the turns of a phase."""
        self.turns, self.expected, self.over = iter(turns), job.body, over
        next(self.turns)
        self.request("GET", "/small")

    def body_received(self, data: bytes) -> None:
        """Keep what came."""
        self.body += data

    def response_complete(self) -> None:
        """Look at it and ask again."""
        if self.body != self.expected:
            self.over.set_exception(WrongBytesError())
            return
        self.body = b""
        if next(self.turns, None) is None:
            self.over.set_result(None)
        else:
            self.request("GET", "/small")

    def request_failed(self, error: Any) -> None:
        """End with the error."""
        self.over.set_exception(error)


def callbacks(job: Job) -> None:
    """``HTTPProtocol``, the next request from ``response_complete``."""
    parts = urlsplit(job.url)
    assert parts.hostname is not None
    assert parts.port is not None
    host, port = parts.hostname, parts.port

    async def main() -> None:
        loop = asyncio.get_running_loop()
        callers = [
            (await loop.create_connection(lambda: Caller(host, port), host, port))[1]
            for _ in range(job.connections)
        ]
        for phase in job.phases():
            ends = [loop.create_future() for _ in phase]
            for caller, turns, over in zip(callers, phase, ends, strict=True):
                caller.begin(job, turns, over)
            await asyncio.gather(*ends)

    reactor.run(main())


def blocking(job: Job) -> None:
    """``Client.get`` in one thread, one after another."""
    with Client(tls=job.tls()) as client:
        url = job.url
        for phase in job.phases():
            body = job.body
            for _ in phase[0]:
                if client.get(url).content != body:
                    raise WrongBytesError


def download(job: Job) -> None:
    """A streamed body, in the pieces in which it comes."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                take = job.begin()
                async with client.stream("GET", job.url, timeout=None) as response:
                    async for piece in response.aiter_bytes():
                        take(piece)
                job.end()

    reactor.run(main())


def upload(job: Job) -> None:
    """A file as content."""

    async def main() -> None:
        async with client_of(job) as client:
            for _ in job.phases():
                with Path(job.source).open("rb") as file:  # noqa: ASYNC230 - it is in memory
                    response = await client.put(job.url, content=file, timeout=None)
                job.check_stored(response.status_code)

    reactor.run(main())


# -- what a feature costs ------------------------------------------------------------------------


def features(job: Job) -> dict[str, Any]:
    """Return what each feature adds to a request, in ns of CPU time.

    Clients that differ in that alone are measured in turns, in short blocks.  What else happens on
    the machine only adds to a block, so what is told is the difference of the least fifths to the
    plain client's; "plain again" shows how much of it is chance.
    """
    host = urlsplit(job.url).hostname
    bare: dict[str, Any] = {
        "timeout": None,
        "follow_redirects": False,
        "max_connections": job.connections,
        "max_per_host": job.connections,
    }
    variants: dict[str, dict[str, Any]] = {
        "plain": bare,
        "plain again": bare,
        "cookies": bare,  # a jar with cookies of another site
        "cookie sent": bare,
        "redirects": {**bare, "follow_redirects": True},
        "deadline": {**bare, "timeout": 30.0},
        "hooks absent": {**bare, "event_hooks": {"request": [], "response": []}},
    }
    costs: dict[str, list[float]] = {name: [] for name in variants}
    body = Path(job.root, "small").read_bytes()
    each = int(job.settings.get("requests", FEATURE_REQUESTS)) // job.connections

    async def main() -> None:
        clients = {name: AsyncClient(**options) for name, options in variants.items()}
        for name, domain in (("cookies", "example.org"), ("cookie sent", host)):
            clients[name].cookies.set("session", "0123456789abcdef", domain=domain)

        async def caller(client: AsyncClient) -> None:
            for _ in range(each):
                if (await client.get(job.url)).content != body:
                    raise WrongBytesError

        names = list(variants)
        for block in range(-1, FEATURE_BLOCKS):
            for name in names:
                began = time.process_time_ns()
                await asyncio.gather(*(caller(clients[name]) for _ in range(job.connections)))
                cost = (time.process_time_ns() - began) / each / job.connections
                if block >= 0:  # the first one connects
                    costs[name].append(cost)
            names = names[1:] + names[:1]
        for client in clients.values():
            await client.aclose()

    reactor.run(main())
    least = {
        name: statistics.fmean(sorted(blocks)[: FEATURE_BLOCKS // 5])
        for name, blocks in costs.items()
    }
    plain = least.pop("plain")
    return {"costs_ns": {name: cost - plain for name, cost in least.items()}}

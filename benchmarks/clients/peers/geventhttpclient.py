"""geventhttpclient: a greenlet for each request that is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient import HTTPClient

from benchmarks.clients.work import Job, WrongBytesError

CHUNK = 65_536


def client_of(job: Job) -> HTTPClient:
    """Return a client with room for all connections."""
    return HTTPClient.from_url(
        job.url,
        concurrency=job.connections,
        network_timeout=300,
        ssl_options={"ca_certs": job.ca},
        headers={"Connection": "close"} if job.work == "fresh" else None,
    )


def get(job: Job) -> None:
    """GET, the connections kept."""
    client = client_of(job)
    path = urlsplit(job.url).path

    def caller(turns: Any) -> None:
        for _ in turns:
            if client.get(path).read() != job.body:
                raise WrongBytesError

    for phase in job.phases():
        gevent.joinall([gevent.spawn(caller, turns) for turns in phase], raise_error=True)


fresh = get
blocking = get


def download(job: Job) -> None:
    """A streamed body, read in pieces."""
    client = client_of(job)
    for _ in job.phases():
        take = job.begin()
        response = client.get(urlsplit(job.url).path)
        while piece := response.read(CHUNK):
            take(piece)
        job.end()


def upload(job: Job) -> None:
    """A file as body."""
    client = client_of(job)
    for _ in job.phases():
        with Path(job.source).open("rb") as file:
            response = client.put(urlsplit(job.url).path, file)
            response.read()
        job.check_stored(response.status_code)

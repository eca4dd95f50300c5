"""requests: a ``Session``, one request after another."""

from __future__ import annotations

import requests

from benchmarks.clients.work import Job, WrongBytesError


def blocking(job: Job) -> None:
    """``Session.get``, one after another."""
    with requests.Session() as session:
        for phase in job.phases():
            for _ in phase[0]:
                if session.get(job.url, verify=job.ca).content != job.body:
                    raise WrongBytesError

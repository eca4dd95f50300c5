"""The fetcher's engine: a fixed number of workers that take URLs and stream the bodies.

Owns: what becomes of one URL.  May not touch: where URLs come from, where bodies go, what is
shown (``fetch_input``, ``fetch_files``, ``fetch_report``).
Invariant: there are never more requests under way than workers, and what is held in memory
does not depend on how many URLs there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from protocols.http.client import AsyncClient
from protocols.http.errors import HTTPError, InvalidURL
from protocols.http.fetch_input import InputError, Source
from protocols.http.response import Response
from protocols.http.url import URL
from reactor import EndpointError

__all__ = ["Discard", "Fetcher", "Job", "Observer", "Sink", "Target", "checked_url"]

# The body of a response that nobody wants is read if it is short, which saves the connection.
MAX_UNWANTED_BYTES = 65_536

_USERINFO = re.compile(r"//[^/?#]*@")


@dataclass(slots=True, eq=False)
class Job:
    """One URL and what has become of it so far.

    Attributes:
        url: as it is shown, without a password.
        status: of the response, ``None`` while there is none.
        expected: bytes that the body was announced to have, ``None`` when it was not.
        received: bytes of the body that came.
        error, reason: the kind of the failure, and what went wrong in words; empty if nothing.
        path: where the body was saved, ``None`` if it was not.
        seconds: from the first step to the last.
    """

    url: str
    status: int | None = None
    expected: int | None = None
    received: int = 0
    error: str = ""
    reason: str = ""
    path: Path | None = None
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def fail(self, error: str, reason: str) -> None:
        """Note the failure."""
        self.error, self.reason = error, reason


class Target(Protocol):
    """Where one body goes: entered when the head is there, committed when it is whole."""

    @property
    def path(self) -> Path | None:
        """Where the body is kept; ``None`` if it is not."""

    def write(self, data: bytes) -> None:
        """Take the next piece."""

    def commit(self) -> None:
        """Keep the body: it is whole."""

    def __enter__(self) -> object:
        """Get ready for the first piece."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop the body, unless it was committed."""


class Sink(Protocol):
    """Where bodies go."""

    def target(self, url: URL) -> Target:
        """Return the target for *url*; called in the order of the URLs."""


class Observer(Protocol):
    """Who is told what happens."""

    def begun(self, job: Job) -> None:
        """A URL's turn has come."""

    def finished(self, job: Job) -> None:
        """The URL is done, or has failed."""

    def abandoned(self, job: Job) -> None:
        """The URL will neither be done nor fail: the run was stopped."""

    def input_failed(self, error: InputError) -> None:
        """The rest of the URLs cannot be read."""


class Discard(contextlib.AbstractContextManager["Discard"]):
    """A sink, and the target of every URL, that keeps nothing."""

    path = None

    def target(self, url: URL) -> Discard:
        """Return the one target."""
        return self

    def write(self, data: bytes) -> None:
        """Forget *data*."""

    def commit(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        pass


class Fetcher:
    """Fetches every URL of *source* into *sink*, *concurrency* at a time."""

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        sink: Sink,
        observer: Observer,
        *,
        concurrency: int,
    ) -> None:
        self._client = client
        self._source = source
        self._sink = sink
        self._observer = observer
        self._concurrency = concurrency

    async def run(self) -> None:
        """Return when every URL was fetched or has failed.

        A cancellation ends the requests under way; their bodies are dropped.
        """
        count = self._concurrency
        if self._source.total is not None:
            count = min(count, self._source.total)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(count):
                    workers.create_task(self._work())
        finally:
            self._source.close()

    async def _work(self) -> None:
        while True:
            try:
                text = await self._source.next()
            except InputError as error:
                self._observer.input_failed(error)
                return
            if text is None:
                return
            await self._fetch(text)

    async def _fetch(self, text: str) -> None:
        """Fetch one URL and tell the observer; what fails is noted and not raised."""
        job = Job(_USERINFO.sub("//[secure]@", text) if "@" in text else text)
        try:
            url = checked_url(text)
            self._observer.begun(job)
            await self._download(url, self._sink.target(url), job)
        except asyncio.CancelledError:
            self._observer.abandoned(job)
            raise
        except (HTTPError, EndpointError) as error:
            job.fail(type(error).__name__, str(error))
        except OSError as error:
            file = f"{error.filename}: " if error.filename else ""
            job.fail(type(error).__name__, file + (error.strerror or str(error)))
        job.seconds = time.monotonic() - job.started
        self._observer.finished(job)

    async def _download(self, url: URL, target: Target, job: Job) -> None:
        async with self._client.stream("GET", url) as response:
            job.status = response.status_code
            if not response.is_success:
                job.fail("StatusError", _status_in_words(response))
                await _read_unwanted(response, job)
                return
            job.expected = _content_length(response)
            with target:
                async for data in response.aiter_raw():
                    job.received += len(data)
                    target.write(data)
                target.commit()
                job.path = target.path


def checked_url(text: str) -> URL:
    """Return the URL; raise ``InvalidURL`` for one that cannot be fetched as it is meant."""
    url = URL(text)
    if url.userinfo:
        raise InvalidURL("userinfo", "not supported; send an Authorization header instead")
    return url


def _status_in_words(response: Response) -> str:
    words = f"{response.status_code} {response.reason_phrase}".rstrip()
    location = response.headers.get("location")
    if 300 <= response.status_code <= 399 and location is not None:
        words += f" (redirect to {location}, not followed)"
    return words


def _content_length(response: Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


async def _read_unwanted(response: Response, job: Job) -> None:
    async for data in response.aiter_raw():
        job.received += len(data)
        if job.received > MAX_UNWANTED_BYTES:
            break

"""The fetcher's engine: a fixed number of workers that take URLs and stream the bodies.

Owns: what becomes of one URL.  May not touch: where URLs come from, where bodies go, what is
shown (``fetch_input``, ``fetch_files``, ``fetch_report``).
Invariant: there are never more requests under way than workers, and what is held in memory
does not depend on how many URLs there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from protocols.http.auth import AuthSource
from protocols.http.client import AsyncClient
from protocols.http.errors import HTTPError, InvalidURL, RemoteProtocolError
from protocols.http.fetch_input import InputError, Source
from protocols.http.fetch_timings import Trace
from protocols.http.headers import Headers
from protocols.http.response import Response
from protocols.http.url import URL
from reactor import EndpointError, EndpointTimeoutError, TLSCertificateError

__all__ = [
    "Ask",
    "Device",
    "Discard",
    "Fetcher",
    "Job",
    "Observer",
    "Pace",
    "Sink",
    "StandardOutput",
    "Target",
    "WholeTarget",
    "checked_url",
]

# The body of a response that nobody wants is read if it is short, which saves the connection.
MAX_UNWANTED_BYTES = 65_536

# What may be better a little later, and how much later: doubled each time, up to a minute.
RETRIED_STATUSES = frozenset([408, 429, 500, 502, 503, 504])
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
# RFC 9110 section 9.2.2.  Others may have been done although no answer came.
IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

UNASKED = "the server sent a part that nobody asked for"

_USERINFO = re.compile(r"//[^/?#]*@")


@dataclass(slots=True, eq=False)
class Job:
    """One URL and what has become of it so far.

    Attributes:
        url: as it is shown, without a password.
        status: of the response, ``None`` while there is none.
        expected: bytes that the body was announced to have, ``None`` when it was not.
        received: bytes of the body that came, in the last attempt.
        error, reason: the kind of the failure, and what went wrong in words; empty if nothing.
        path: where the body was saved, ``None`` if it was not.
        wanted_wait: seconds for which the server wants to be left alone.
        trace: what times the attempt under way, if it is timed.
        timings: of the last attempt, where they were asked for (``fetch_timings``).
        seconds: from the first step to the last.
    """

    url: str
    status: int | None = None
    expected: int | None = None
    received: int = 0
    error: str = ""
    reason: str = ""
    path: Path | None = None
    wanted_wait: float = 0.0
    timings: dict[str, float | None] | None = None
    trace: Trace | None = None
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def fail(self, error: str, reason: str) -> None:
        """Note the failure."""
        self.error, self.reason = error, reason

    def begin(self) -> None:
        """Note that an attempt begins: nothing of the one before counts."""
        self.status = self.expected = None
        self.received = 0
        self.error = self.reason = ""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked of every URL.

    Attributes:
        method: of each request.
        data: its content, or ``None``.
        file: its content, read anew for each request.
        auth: the credentials for each URL's origin, or ``None``.
    """

    method: str = "GET"
    data: bytes | None = None
    file: Path | None = None
    auth: AuthSource | None = None

    @contextlib.contextmanager
    def content(self) -> Iterator[Any]:
        """Yield the content of one request."""
        if self.file is None:
            yield self.data
            return
        with self.file.open("rb") as file:
            yield file


class Pace:
    """Keeps the downloads of a run, together, below a rate.

    Args:
        rate: bytes a second, ``None`` for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = 0.0

    async def take(self, size: int, deadline: float | None = None) -> bool:
        """Return when *size* more bytes may be there, or False at *deadline* if that is before."""
        if self._rate is None:
            return True
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time()) + size / self._rate
        until = self._due if deadline is None else min(self._due, deadline)
        await asyncio.sleep(until - loop.time())
        return until == self._due


class Target(Protocol):
    """Where one body goes: entered when the head is there, committed when it is whole."""

    @property
    def path(self) -> Path | None:
        """Where the body is kept; ``None`` if it is not."""

    @property
    def restarts(self) -> bool:
        """Whether another attempt may begin the body once more."""

    def ask(self) -> dict[str, str]:
        """Return the fields with which the body is asked for."""

    def answered(self, status: int, headers: Headers) -> str:
        """Say what an answer means; see ``fetch_resume``."""

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

    def retried(self, job: Job, seconds: float) -> None:
        """The URL has failed, and is tried again after so many seconds."""

    def input_failed(self, error: InputError) -> None:
        """The rest of the URLs cannot be read."""


class WholeTarget(contextlib.AbstractContextManager["WholeTarget"]):
    """A sink, and the target of every URL, of which nothing is there beforehand."""

    path: Path | None = None
    restarts = True

    def target(self, url: URL) -> Self:
        """Return the one target."""
        return self

    def ask(self) -> dict[str, str]:
        """Return no field."""
        return {}

    def answered(self, status: int, headers: Headers) -> str:
        """Say that the body begins."""
        return "anew"

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        raise NotImplementedError

    def commit(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        pass


class StandardOutput(WholeTarget):
    """Writes a body to standard output as it comes: what is there cannot be taken back."""

    def write(self, data: bytes) -> None:
        """Write *data*, all of it; raises ``OSError``."""
        self.restarts = False
        while data:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:  # whoever made the pipe does not want to wait at it
                select.select([], [1], [])


class Device(WholeTarget):
    """Writes a body as it comes to what is there and is no file: a device, a pipe, a terminal.

    It is never replaced by a file, as it would be by one that is given its name when it is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Write *data*, all of it; raises ``OSError``."""
        self.restarts = False
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            error.filename = str(self.path)
            raise

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self.path, flags)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Discard(WholeTarget):
    """Keeps nothing."""

    def write(self, data: bytes) -> None:
        """Forget *data*."""


class Fetcher:
    """Fetches every URL of *source* into *sink*, *concurrency* at a time.

    Args:
        ask: what is asked of each.
        retries: how often one that failed is tried again, if it may be better later.
        pace: of all downloads together.
        times: whether each attempt's phases are timed.
    """

    def __init__(
        self,
        client: AsyncClient,
        source: Source,
        sink: Sink,
        observer: Observer,
        *,
        concurrency: int,
        ask: Ask | None = None,
        retries: int = 0,
        pace: Pace | None = None,
        times: bool = False,
    ) -> None:
        self._client = client
        self._source = source
        self._sink = sink
        self._observer = observer
        self._concurrency = concurrency
        self._ask = ask or Ask()
        self._retries = retries
        self._pace = pace or Pace(None)
        self._times = times
        # An auth of None would be another request than one without.
        self._options: dict[str, Any] = {} if self._ask.auth is None else {"auth": self._ask.auth}

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
            target = self._sink.target(url)
            for attempt in range(self._retries + 1):
                job.begin()
                asked_for = await self._timed_attempt(url, target, job)
                if asked_for is None or attempt == self._retries or not target.restarts:
                    break
                seconds = max(asked_for, min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
                self._observer.retried(job, seconds)
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._observer.abandoned(job)
            raise
        except InvalidURL as error:
            job.fail(type(error).__name__, str(error))
        job.seconds = time.monotonic() - job.started
        self._observer.finished(job)

    async def _timed_attempt(self, url: URL, target: Target, job: Job) -> float | None:
        if not self._times:
            return await self._attempt(url, target, job)
        with Trace() as trace:
            job.trace = trace
            asked_for = await self._attempt(url, target, job)
        job.timings = trace.seconds
        return asked_for

    async def _attempt(self, url: URL, target: Target, job: Job) -> float | None:
        """Try once; note what fails.

        Returns ``None`` if that is that, or for how many seconds the server wants to be left
        alone, 0 if it does not say, before another attempt that may be a better one.
        """
        try:
            if await self._download(url, target, job) == "forget":
                job.begin()
                if await self._download(url, target, job) == "forget":
                    job.fail("RemoteProtocolError", UNASKED)
                    return None
            if job.status in RETRIED_STATUSES and self._ask.method in IDEMPOTENT:
                return job.wanted_wait
        except (HTTPError, EndpointError) as error:
            job.fail(type(error).__name__, str(error))
            return 0.0 if self._may_pass(error) else None
        except OSError as error:
            file = f"{error.filename}: " if error.filename else ""
            job.fail(type(error).__name__, file + (error.strerror or str(error)))
        return None

    def _may_pass(self, error: Exception) -> bool:
        """Return whether another attempt may go better, and does no harm."""
        if not isinstance(error, EndpointError):
            return False
        if isinstance(error, TLSCertificateError | RemoteProtocolError):
            return False
        was_sent = error.phase not in ("pool", "resolve", "connect", "tls")
        return not was_sent or self._ask.method in IDEMPOTENT

    async def _download(self, url: URL, target: Target, job: Job) -> str:
        total = self._client.timeout.total
        deadline = None if total is None else asyncio.get_running_loop().time() + total
        fields = target.ask()
        with self._ask.content() as content:
            async with self._client.stream(
                self._ask.method, url, content=content, headers=fields or None, **self._options
            ) as response:
                job.status = response.status_code
                if job.trace is not None:
                    job.trace.head(response)
                answer = target.answered(response.status_code, response.headers)
                if answer == "forget":
                    await _read_unwanted(response, job)
                elif answer != "whole" and not response.is_success:
                    job.fail("StatusError", _status_in_words(response))
                    job.wanted_wait = _retry_after(response)
                    await _read_unwanted(response, job)
                elif (
                    response.status_code == 206
                    and answer == "anew"
                    and "Range" not in self._client.headers
                ):
                    job.fail("RemoteProtocolError", UNASKED)
                    await _read_unwanted(response, job)
                else:
                    await self._keep(response, answer, target, job, deadline)
        return answer

    async def _keep(
        self, response: Response, answer: str, target: Target, job: Job, deadline: float | None
    ) -> None:
        """Put the body, or the rest of it, where it belongs.

        The pace may be too slow for *deadline*, which is over then though more could be read.
        """
        with target:
            if answer != "whole":
                job.expected = _content_length(response)
                async for data in response.aiter_raw():
                    job.received += len(data)
                    target.write(data)
                    in_time = await self._pace.take(len(data), deadline)
                    if not in_time and job.received != job.expected:
                        raise EndpointTimeoutError(
                            "the deadline passed, at this rate",
                            host=response.url.host, port=response.url.port, phase="read",
                        )  # fmt: skip
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


def _retry_after(response: Response) -> float:
    """Return how many seconds the server wants to be left alone; 0 if it does not say."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT_SECONDS)
    return 0.0


async def _read_unwanted(response: Response, job: Job) -> None:
    async for data in response.aiter_raw():
        job.received += len(data)
        if job.received > MAX_UNWANTED_BYTES:
            break

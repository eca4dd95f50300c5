"""What the fetcher says: lines, a progress bar, the closing summary.

Owns: standard output and standard error.  May not touch: the network, files.
Invariant: no control character of a URL or of a server reaches the terminal, and an output
that nobody reads any longer does not disturb the downloads.

Failures go to standard error, a line each, in every mode.  The summary goes to standard
output.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TextIO

from protocols.http.fetch_input import InputError
from protocols.http.fetch_run import Job

__all__ = ["BarReport", "LineReport", "Report", "Totals", "new_report", "printable", "say"]

PROGRAM = "cyfetch"

# What the JSON summary lists; the rest are counted, and every one was a line on stderr.
MAX_FAILURES_LISTED = 1_000
# What --timings lists; a table that is longer is for statistics, which are made of --json.
MAX_TIMINGS_LISTED = 1_000
# Bars for single downloads: for those that are large, and no more than fit a terminal.
MAX_BARS = 6
MIN_BAR_BYTES = 1 << 20

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def printable(text: str) -> str:
    """Return *text* with everything that a terminal might act upon escaped."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def size_in_words(count: float) -> str:
    """Return a number of bytes with a decimal unit, such as ``"1.5 MB"``."""
    for factor, unit in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def rate_in_words(rate: float) -> str:
    """Return a rate, with decimals only where they matter."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2f}"


def say(stream: TextIO, text: str) -> bool:
    """Write a line at once; return whether somebody still reads.

    Raises the ``OSError`` of an output that cannot take it, such as a full disk.
    """
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        _drop(stream)
        return False
    except OSError as error:
        _drop(stream)
        if sys.platform == "win32" and error.errno == errno.EINVAL:
            return False  # how a pipe that nobody reads any more ends there
        raise
    return True


def _drop(stream: TextIO) -> None:
    """Send to nowhere what is in the buffer: it would raise again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@dataclass(slots=True)
class Totals:
    """The figures of a run.

    Attributes:
        total: how many URLs there are, ``None`` while that is not known.
        requests, failed: URLs that are done, and those of them that failed.
        received: bytes of bodies, those that did not come whole included.
        timings: URL and readings of the first ones, where they are timed.
        failures: the first of them, as the JSON summary lists them.
        input_error: why the URLs could not all be read, or empty.
        interrupted: the name of the signal that ended the run, or empty.
        opened, reused: connections, as the connection manager counts them.
    """

    total: int | None = None
    requests: int = 0
    failed: int = 0
    received: int = 0
    timings: list[tuple[str, dict[str, float | None]]] = field(default_factory=list)
    failures: list[dict[str, object]] = field(default_factory=list)
    input_error: str = ""
    interrupted: str = ""
    opened: int = 0
    reused: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether everything that was asked for was fetched."""
        return not (self.failed or self.input_error or self.interrupted)

    def rate(self, count: float) -> float:
        """Return *count* per second of the run."""
        return count / self.seconds if self.seconds > 0 else 0.0

    def count(self, job: Job) -> None:
        """Add a job that is done."""
        self.requests += 1
        self.received += job.received
        if job.timings is not None and len(self.timings) < MAX_TIMINGS_LISTED:
            self.timings.append((job.url, job.timings))
        if job.error:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES_LISTED:
                self.failures.append(
                    {
                        "url": job.url,
                        "status": job.status,
                        "error": job.error,
                        "reason": job.reason,
                    }
                )

    def as_words(self) -> str:
        """Return the closing summary for people."""
        requests = "request" if self.requests == 1 else "requests"
        connections = "connection" if self.opened == 1 else "connections"
        lines = [
            f"{self.requests} {requests}, {self.failed} failed, {size_in_words(self.received)} "
            f"in {self.seconds:.2f} s: {rate_in_words(self.rate(self.requests))} requests/s, "
            f"{self.rate(self.received) / 1e6:.1f} MB/s",
            f"{self.opened} {connections} opened, reused {self.reused} times",
        ]
        if self.interrupted:
            left = "" if self.total is None else f", {self.total - self.requests} not fetched"
            lines.insert(0, f"stopped by {self.interrupted}{left}; done until then:")
        return "\n".join(lines)

    def as_json(self, version: str) -> str:
        """Return the closing summary for programs, in one line."""
        summary: dict[str, object] = {
            "version": version,
            "requests": self.requests,
            "succeeded": self.requests - self.failed,
            "failed": self.failed,
            "bytes": self.received,
            "seconds": round(self.seconds, 6),
            "requests_per_second": round(self.rate(self.requests), 3),
            "bytes_per_second": round(self.rate(self.received), 3),
            "connections": {"opened": self.opened, "reused": self.reused},
            "interrupted": self.interrupted or None,
            "input_error": self.input_error or None,
            "failures": self.failures,
            "failures_omitted": self.failed - len(self.failures),
        }
        if self.timings:
            summary["timings"] = [{"url": url, **seconds} for url, seconds in self.timings]
        return json.dumps(summary)


class Report:
    """Counts, and says nothing but failures: what ``--quiet`` asks for."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals

    def begun(self, job: Job) -> None:
        """A URL's turn has come."""

    def finished(self, job: Job) -> None:
        """Count the job, and name its failure."""
        self.totals.count(job)
        if job.error:
            self.line(f"{PROGRAM}: {printable(job.url)}: {printable(job.reason)}")

    def abandoned(self, job: Job) -> None:
        """Count what came of the body; the URL is neither done nor failed."""
        self.totals.received += job.received

    def retried(self, job: Job, seconds: float) -> None:
        """Say what failed and when it is tried again."""
        self.totals.received += job.received
        self.line(
            f"{PROGRAM}: {printable(job.url)}: {printable(job.reason)}; again in {seconds:g} s"
        )

    def input_failed(self, error: InputError) -> None:
        """Say that the rest of the URLs cannot be read."""
        self.totals.input_error = str(error.strerror)
        self.line(f"{PROGRAM}: {printable(self.totals.input_error)}")

    def line(self, text: str) -> None:
        """Write a line to standard error."""
        say(sys.stderr, text)

    def tick(self) -> None:
        """Show how far things are; called several times a second."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class LineReport(Report):
    """A line for every URL that is done."""

    def finished(self, job: Job) -> None:
        """Count the job and write its line."""
        super().finished(job)
        if not job.error:
            saved = f" -> {printable(str(job.path))}" if job.path is not None else ""
            self.line(
                f"{job.status}  {size_in_words(job.received):>8}  {job.seconds:.3f} s  "
                f"{printable(job.url)}{saved}"
            )


class BarReport(Report):
    """A bar for the run, and one for each large download; drawn with ``rich``.

    It is drawn by ``tick`` alone: no thread, and no cost per piece of a body.
    """

    def __init__(self, totals: Totals) -> None:
        from rich import progress
        from rich.console import Console

        super().__init__(totals)
        self._jobs: set[Job] = set()  # under way
        self._bars: dict[Job, Any] = {}  # of those of them that have one
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.fields[done]}"),
            progress.TextColumn("{task.fields[rate]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._whole = self._progress.add_task(PROGRAM, total=totals.total, done="", rate="")

    def begun(self, job: Job) -> None:
        """Watch the job."""
        self._jobs.add(job)

    def finished(self, job: Job) -> None:
        """Count the job and take its bar away."""
        self._jobs.discard(job)
        bar = self._bars.pop(job, None)
        if bar is not None:
            self._progress.remove_task(bar)
        super().finished(job)

    def line(self, text: str) -> None:
        """Write a line above the bars."""
        with contextlib.suppress(OSError):
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tick(self) -> None:
        """Draw the bars as things are now."""
        totals = self.totals
        seconds = max(time.monotonic() - totals.started, 1e-9)
        received = totals.received
        for job in self._jobs:
            received += job.received
            self._draw(job)
        of_total = "" if totals.total is None else f" of {totals.total}"
        self._progress.update(
            self._whole,
            completed=totals.requests,
            done=f"{totals.requests}{of_total}, {totals.failed} failed, {size_in_words(received)}",
            rate=f"{rate_in_words(totals.requests / seconds)}/s "
            f"{received / seconds / 1e6:.1f} MB/s",
        )
        with contextlib.suppress(OSError):
            self._progress.refresh()

    def _draw(self, job: Job) -> None:
        """Draw the bar of a large download, while there are not too many."""
        expected = job.expected or 0
        if job not in self._bars:
            if expected < MIN_BAR_BYTES or len(self._bars) == MAX_BARS:
                return
            name = printable(job.url.partition("?")[0].rstrip("/").rpartition("/")[2])
            self._bars[job] = self._progress.add_task(name[:30], total=expected, done="", rate="")
        self._progress.update(
            self._bars[job],
            completed=job.received,
            done=f"{size_in_words(job.received)} of {size_in_words(expected)}",
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()


def new_report(totals: Totals, *, quiet: bool, lines: bool = True) -> Report:
    """Return the report that fits standard error.

    Args:
        totals: what is counted.
        quiet: nothing but failures.
        lines: a line for each URL where there is no bar.
    """
    if quiet:
        return Report(totals)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with contextlib.suppress(ImportError):
            return BarReport(totals)
    return LineReport(totals) if lines else Report(totals)

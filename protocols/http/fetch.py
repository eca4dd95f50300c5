"""The fetcher, ``cyfetch``: downloads many URLs over few connections.

Owns: signals, the exit status.  May not touch: the command line (``fetch_options``), how a URL
is fetched (``fetch_run``), where URLs come from (``fetch_input``), where bodies go
(``fetch_files``), what is shown (``fetch_report``), the demonstration (``fetch_demo``).
Invariant: a bad option is refused before any I/O on the network; after that every URL ends
as fetched or as a failure with a reason, and no traceback is the user's to read.

Exit status: 0 when every URL was fetched, 1 when any failed, 2 for bad usage, and 128 and
the signal's number (130 for Ctrl-C, 143 for SIGTERM, 129 when the terminal was closed) when
a signal ended the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from protocols.http.client import AsyncClient
from protocols.http.fetch_demo import PAGES, Verify, demo_urls, serve_demo
from protocols.http.fetch_input import ArgumentSource, ChainedSource, Source
from protocols.http.fetch_options import Options, parse, version, why
from protocols.http.fetch_report import (
    PROGRAM,
    Report,
    Totals,
    new_report,
    printable,
    say,
    size_in_words,
)
from protocols.http.fetch_run import Discard, Fetcher, Pace, Sink
from protocols.http.fetch_timings import table, time_resolution
from protocols.http.headers import Headers
from reactor import EventLoop, run

__all__ = ["main"]

TICK_SECONDS = 0.1

# A file is to be what the server has: not compressed for the way, and not decoded if it is.
AS_STORED = (("Accept-Encoding", "identity"),)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fetcher and return its exit status.

    Args:
        arguments: by default those of the process.

    Raises ``SystemExit`` for bad usage and for ``--help``, as ``argparse`` does.  To be called
    in the main thread, where Python handles signals.
    """
    try:
        status = _run(parse(arguments))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT  # before there was anything to stop
    if arguments is None and threading.active_count() > 1:
        # A thread that still asks for an address would keep the process, maybe for minutes.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return status


# -- a run ---------------------------------------------------------------------------------


class Interruption:
    """Turns the first SIGINT, SIGTERM or SIGHUP into the cancellation of a task.

    The second one has the system's own effect: the process ends at once.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def cancels(self, task: asyncio.Task[None]) -> None:
        """Name the task to cancel; belongs to the running loop."""
        self._loop, self._task = asyncio.get_running_loop(), task
        if self.number:
            task.cancel()

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._task.cancel)

    def __enter__(self) -> Self:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # Ignored by whoever started the process (nohup, a shell's "&"): so it stays.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _run(options: Options) -> int:
    totals = Totals(options.total)
    demonstrates = not options.sources
    report = new_report(totals, quiet=options.quiet, lines=not demonstrates)
    with Interruption() as interruption:
        if demonstrates:
            run(_demonstrate(options, report, interruption))
        else:
            source = ChainedSource(options.sources)
            source.total = options.total
            run(_fetch(options, source, options.sink or Discard(), report, interruption))
    if interruption.number:
        totals.interrupted = signal.Signals(interruption.number).name
    if not _summarize(options, totals):
        return 1
    if interruption.number:
        return 128 + interruption.number
    return 0 if totals.is_success else 1


async def _fetch(
    options: Options, source: Source, sink: Sink, report: Report, interruption: Interruption
) -> None:
    """Fetch everything, or until the interruption; the report's totals tell what was done."""
    totals = report.totals
    if options.times:
        time_resolution()
    async with AsyncClient(
        headers=Headers(AS_STORED).merged_with(options.headers),
        timeout=options.timeout,
        tls=options.tls,
        proxy=options.proxy,
        follow_redirects=options.follow,
        max_connections=options.concurrency,
        max_per_host=options.concurrency,
    ) as client:
        fetcher = Fetcher(
            client,
            source,
            sink,
            report,
            concurrency=options.concurrency,
            ask=options.ask,
            retries=options.retries,
            pace=Pace(options.rate),
            times=options.times,
        )
        task = asyncio.create_task(fetcher.run())
        interruption.cancels(task)
        totals.started = time.monotonic()
        with report:
            # The tick draws, and lets a signal be seen that came just before the loop slept.
            while not (await asyncio.wait({task}, timeout=TICK_SECONDS))[0]:
                report.tick()
        totals.seconds = time.monotonic() - totals.started
        stats = client.manager.stats()
        totals.opened, totals.reused = stats["opened"], stats["reused"]
        if not task.cancelled():
            task.result()


async def _demonstrate(options: Options, report: Report, interruption: Interruption) -> None:
    """Fetch from an embedded server and tell what it is that is fetched."""
    shows = not (options.json or options.quiet)
    async with serve_demo() as root:
        if shows:
            say(sys.stdout, _demo_opening(root))
        urls, total = demo_urls(root)
        report.totals.total = total
        await _fetch(options, ArgumentSource(urls, total), Verify(), report, interruption)
    if shows and report.totals.is_success:
        say(sys.stdout, "every body came as it was served")


def _demo_opening(root: str) -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, EventLoop)
    poller = type(loop.poller).__name__.removesuffix("Poller").lower()
    lines = [
        f"{PROGRAM} {version()}, {poller}, "
        f"{platform.python_implementation()} {platform.python_version()}",
        "",
        "No URL was given: this is a demonstration.  A server in this process and on this",
        f"thread listens on {root} and serves",
        "",
    ]
    for path, (body, chunked) in PAGES.items():
        coding = "chunked" if chunked else ""
        lines.append(f"    {path:<10} {size_in_words(len(body)):>9}  {coding}".rstrip())
    return "\n".join([*lines, ""])


def _summarize(options: Options, totals: Totals) -> bool:
    """Write the closing summary; return false when the output cannot take it.

    A reader that has gone away had enough: that is no failure.
    """
    if options.quiet and not options.json:
        return True
    output = sys.stderr if options.keeps_stdout else sys.stdout
    try:
        if totals.timings and not options.json:
            rows = [(printable(url), seconds) for url, seconds in totals.timings]
            say(output, table(rows))
        say(output, totals.as_json(version()) if options.json else totals.as_words())
    except OSError as error:
        say(sys.stderr, f"{PROGRAM}: standard output: {why(error)}")
        return False
    return True

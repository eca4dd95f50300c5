"""The fetcher, ``cyfetch``: downloads many URLs over few connections.

Owns: the command line, signals, the exit status.  May not touch: how a URL is fetched
(``fetch_run``), where URLs come from (``fetch_input``), where bodies go (``fetch_files``),
what is shown (``fetch_report``), the demonstration (``fetch_demo``).
Invariant: a bad option is refused before any I/O on the network; after that every URL ends
as fetched or as a failure with a reason, and no traceback is the user's to read.

Exit status: 0 when every URL was fetched, 1 when any failed, 2 for bad usage, and 128 and
the signal's number (130 for Ctrl-C, 143 for SIGTERM, 129 when the terminal was closed) when
a signal ended the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import functools
import importlib.metadata
import os
import platform
import signal
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

from protocols.http.client import AsyncClient
from protocols.http.errors import InvalidHeader, InvalidURL
from protocols.http.fetch_demo import PAGES, Verify, demo_urls, serve_demo
from protocols.http.fetch_files import Downloads
from protocols.http.fetch_input import ArgumentSource, ChainedSource, LineSource, Source
from protocols.http.fetch_report import (
    PROGRAM,
    Report,
    Totals,
    new_report,
    printable,
    say,
    size_in_words,
)
from protocols.http.fetch_run import Discard, Fetcher, Sink, checked_url
from protocols.http.headers import Headers, render_request_head
from reactor import available_pollers, client_context, run

__all__ = ["main"]

DEFAULT_CONCURRENCY = 16
DEFAULT_TIMEOUT_SECONDS = 300.0
MAX_CONCURRENCY = 65_536
TICK_SECONDS = 0.1

# A file is to be what the server has: not compressed for the way, and not decoded if it is.
AS_STORED = (("Accept-Encoding", "identity"),)
# They would make the server wait for a body, or read the next request as one.
FRAMING_FIELDS = ("content-length", "transfer-encoding")

DESCRIPTION = """\
Download URLs, many at a time, over connections that are reused.  Without a URL, start a
server of its own and fetch from that, to show that it works.
"""

EPILOG = """\
Without --output-dir bodies are counted and thrown away.  With it, each goes to a file named
after the last segment of the URL's path (made safe; "index.html" where there is none; a name
that comes twice in one run gets -1, -2 ...).  A file appears under its name only when it is
whole; one that is there from before is replaced at that moment.

Only a status of 2xx counts as fetched.  Redirects are not followed in this version: a 3xx is
a failure that names where it leads.  A URL that is no URL is refused if it is an argument,
and is one more failure if it comes from a list.

Exit status: 0 all fetched, 1 any failed, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, checked.

    Attributes:
        sources: make the sources of URLs, in order; none for the demonstration.
        total: how many URLs there are, ``None`` when that is not known.
    """

    sources: tuple[Callable[[], Source], ...]
    total: int | None
    concurrency: int
    downloads: Downloads | None
    headers: Headers
    timeout: float
    tls: ssl.SSLContext | None
    json: bool
    quiet: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fetcher and return its exit status.

    Args:
        arguments: by default those of the process.

    Raises ``SystemExit`` for bad usage and for ``--help``, as ``argparse`` does.  To be called
    in the main thread, where Python handles signals.
    """
    try:
        status = _run(_parse(arguments))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT  # before there was anything to stop
    if arguments is None and threading.active_count() > 1:
        # A thread that still asks for an address would keep the process, maybe for minutes.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return status


# -- the command line ----------------------------------------------------------------------


@functools.cache
def version() -> str:
    """Return the version of the distribution."""
    try:
        return importlib.metadata.version("cyreactor")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _concurrency(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 1 <= (number := int(text)) <= MAX_CONCURRENCY:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_CONCURRENCY}")


def _timeout(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= threading.TIMEOUT_MAX:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _header(text: str) -> tuple[str, str]:
    """Return name and value; a message shows the name alone, for the value may be a secret."""
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(
            f"{text.partition(' ')[0]!r}: not of the form 'Name: value'"
        )
    if name.strip().lower() in FRAMING_FIELDS:
        raise argparse.ArgumentTypeError(f"{name!r}: a GET has no body to frame")
    pair = (name, value.strip(" \t"))
    try:
        render_request_head("GET", "/", None, Headers([("Host", "localhost")]).merged_with([pair]))
    except InvalidHeader as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return pair


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("urls", metavar="URL", nargs="*", help="http or https; - for standard input")
    add(
        "--input",
        metavar="FILE",
        help="read URLs from FILE, one per line; blank lines and lines that begin with # are"
        " ignored; - for standard input",
    )
    add(
        "--concurrency",
        metavar="N",
        type=_concurrency,
        default=DEFAULT_CONCURRENCY,
        help=f"requests, and so connections, at the same time ({DEFAULT_CONCURRENCY})",
    )
    add("--output-dir", metavar="DIR", help="save each body to a file in DIR")
    add(
        "--header",
        metavar="'NAME: VALUE'",
        dest="headers",
        action="append",
        type=_header,
        default=[],
        help="send this with every request; may be repeated",
    )
    add(
        "--timeout",
        metavar="SECONDS",
        type=_timeout,
        default=DEFAULT_TIMEOUT_SECONDS,
        help=f"for each URL, from name resolution to the last byte ({DEFAULT_TIMEOUT_SECONDS:g})",
    )
    add("--ca-file", metavar="FILE", help="trust the roots in this PEM file, and no others")
    add("--json", action="store_true", help="write the summary to standard output as JSON")
    add("--quiet", action="store_true", help="write failures, and the summary of --json, only")
    add("--version", action="version", version=f"{PROGRAM} {version()}")
    return parser


def _parse(arguments: Sequence[str] | None) -> Options:
    """Return the command line, checked; exit with status 2 when it is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if [*given.urls, given.input].count("-") > 1:
        parser.error("standard input can be read only once")
    for url in given.urls:
        if url != "-":
            try:
                checked_url(url)
            except InvalidURL as error:
                parser.error(printable(f"{url!r}: {error}"))
    if given.output_dir is not None and not given.urls and given.input is None:
        parser.error("--output-dir: there is no URL to save")
    tls = None
    if given.ca_file is not None:
        try:
            tls = client_context(ca_file=given.ca_file, alpn=("http/1.1",))
        except (OSError, ValueError) as error:
            parser.error(f"--ca-file: {given.ca_file!r}: {_why(error)}")
    sources: list[Callable[[], Source]] = []
    if given.urls:
        sources += [_source_of(url) for url in given.urls]
    if given.input is not None:
        try:
            sources.append(_lines_of(given.input))
        except OSError as error:
            parser.error(f"--input: {given.input!r}: {_why(error)}")
    downloads = None
    if given.output_dir is not None:
        try:
            downloads = Downloads(given.output_dir)
        except OSError as error:
            parser.error(f"--output-dir: {given.output_dir!r}: {_why(error)}")
    is_counted = given.input is None and "-" not in given.urls
    return Options(
        sources=tuple(sources),
        total=len(given.urls) if is_counted else None,
        concurrency=given.concurrency,
        downloads=downloads,
        headers=Headers([("User-Agent", f"{PROGRAM}/{version()}")]).merged_with(given.headers),
        timeout=given.timeout,
        tls=tls,
        json=given.json,
        quiet=given.quiet,
    )


def _source_of(url: str) -> Callable[[], Source]:
    return _lines_of("-") if url == "-" else lambda: ArgumentSource((url,), 1)


def _lines_of(name: str) -> Callable[[], Source]:
    """Return what makes the source of a file's URLs; the file is opened now."""
    if name == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "there is no standard input")
        return lambda: LineSource(0, "standard input", owns_fd=False)
    fd = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return lambda: LineSource(fd, name, owns_fd=True)


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


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
            run(_fetch(options, source, options.downloads or Discard(), report, interruption))
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
    async with AsyncClient(
        headers=Headers(AS_STORED).merged_with(options.headers),
        timeout=options.timeout,
        tls=options.tls,
        max_connections=options.concurrency,
        max_per_host=options.concurrency,
    ) as client:
        fetcher = Fetcher(client, source, sink, report, concurrency=options.concurrency)
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
    lines = [
        f"{PROGRAM} {version()}, {next(iter(available_pollers()))}, "
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
    try:
        say(sys.stdout, totals.as_json(version()) if options.json else totals.as_words())
    except OSError as error:
        say(sys.stderr, f"{PROGRAM}: standard output: {_why(error)}")
        return False
    return True

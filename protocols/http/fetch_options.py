"""The fetcher's command line: what may be asked for, checked before any I/O on the network.

Owns: the options, their words in ``--help``, the exit for bad usage.  May not touch: the
network; it opens the files that are named.
Invariant: what is returned can be run; what cannot is refused with status 2, and no secret of
the command line is in the refusal.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib.metadata
import math
import os
import re
import ssl
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.http.auth import AuthSource, BasicAuth, NetrcAuth
from protocols.http.errors import InvalidHeader, InvalidURL
from protocols.http.fetch_files import Downloads, OneFile
from protocols.http.fetch_input import ArgumentSource, LineSource, Source
from protocols.http.fetch_report import PROGRAM, printable
from protocols.http.fetch_run import Ask, Device, Sink, StandardOutput, checked_url
from protocols.http.headers import Headers, render_request_head
from protocols.http.limits import MAX_REDIRECTS
from protocols.http.proxies import Proxy
from reactor import client_context, new_poller

__all__ = ["Options", "parse", "version", "why"]

DEFAULT_CONCURRENCY = 16
DEFAULT_TIMEOUT_SECONDS = 300.0
MAX_CONCURRENCY = 65_536
MAX_RETRIES = 1_000

# They follow from the data.
FRAMING_FIELDS = ("content-length", "transfer-encoding")
FORM = "application/x-www-form-urlencoded"

DESCRIPTION = """\
Download URLs, many at a time, over connections that are reused.  Without a URL, start a
server of its own and fetch from that, to show that it works.
"""

EPILOG = f"""\
Without an output option bodies are counted and thrown away.  With --output-dir, each goes to a
file named after the last segment of the URL's path (made safe; "index.html" where there is
none; a name that comes twice in one run gets -1, -2 ...).  A file appears under its name only
when it is whole; one that is there from before is replaced at that moment.

With --continue what came of a file is kept when the download breaks off, beside it, as
.NAME.part, and the next run asks for the rest of it.  The server is told which version is meant
(If-Range, by ETag or Last-Modified); if it has another one by now, the file begins anew.

Only a status of 2xx counts as fetched.  Redirects are followed, {MAX_REDIRECTS} at most; a header
that identifies you (Authorization, Cookie) stays with the host, port and scheme of the URL.  A
URL that is no URL is refused if it is an argument, and is one more failure if it comes from a
list.

Exit status: 0 all fetched, 1 any failed, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
"""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmg]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, checked.

    Attributes:
        sources: make the sources of URLs, in order; none for the demonstration.
        total: how many URLs there are, ``None`` when that is not known.
        sink: where bodies go, ``None`` for nowhere.
        ask: what is asked of each URL.
        retries: how often a URL that failed is tried again.
        proxy: the way to every URL, ``None`` for what the environment says.
        times: whether each URL's phases are timed, and shown at the end.
        rate: bytes a second that all downloads together may have, ``None`` for no limit.
        keeps_stdout: standard output is for a body, so nothing else may go there.
    """

    sources: tuple[Callable[[], Source], ...]
    total: int | None
    concurrency: int
    sink: Sink | None
    headers: Headers
    ask: Ask
    retries: int
    rate: float | None
    follow: bool
    timeout: float
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    times: bool
    json: bool
    quiet: bool
    keeps_stdout: bool


@functools.cache
def version() -> str:
    """Return the version of the distribution."""
    try:
        return importlib.metadata.version("cyreactor")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def why(error: Exception) -> str:
    """Return an error of the system in words."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


# -- values --------------------------------------------------------------------------------


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if low <= (value := int(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")

    return number


def _timeout(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= threading.TIMEOUT_MAX:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _rate(text: str) -> float:
    if (found := _SIZE.fullmatch(text)) is not None:
        rate = float(found[1]) * _FACTORS[found[2].lower()]
        if rate >= 1 and math.isfinite(rate):
            return rate
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 500k or 1.5M")


def _method(text: str) -> str:
    try:
        render_request_head(text, "/", None, Headers([("Host", "localhost")]))
    except InvalidHeader as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if text == "CONNECT":
        raise argparse.ArgumentTypeError("CONNECT makes a tunnel, and nothing to fetch")
    return text


def _user(text: str) -> tuple[str, str]:
    """Return user and password, for a pair of each origin; no message shows them."""
    user, colon, password = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("not of the form USER:PASSWORD")
    try:
        BasicAuth(user, password)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return user, password


def _proxy(text: str) -> Proxy:
    try:
        return Proxy(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _header(text: str) -> tuple[str, str]:
    """Return name and value; a message shows the name alone, for the value may be a secret."""
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(
            f"{text.partition(' ')[0]!r}: not of the form 'Name: value'"
        )
    if name.strip().lower() in FRAMING_FIELDS:
        raise argparse.ArgumentTypeError(f"{name!r}: it follows from the data")
    pair = (name, value.strip(" \t"))
    try:
        render_request_head("GET", "/", None, Headers([("Host", "localhost")]).merged_with([pair]))
    except InvalidHeader as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return pair


# -- the command line ----------------------------------------------------------------------


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
        type=_number(1, MAX_CONCURRENCY),
        default=DEFAULT_CONCURRENCY,
        help=f"requests, and so connections, at the same time ({DEFAULT_CONCURRENCY})",
    )
    _add_request(parser.add_argument_group("the request"))
    _add_output(parser.add_argument_group("the output"))
    _add_transfer(parser.add_argument_group("the transfer"))
    add("--version", action="version", version=f"{PROGRAM} {version()}")
    return parser


def _add_request(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-X", "--request", metavar="METHOD", type=_method, help="instead of GET, or POST with data")
    add(
        "--header",
        metavar="'NAME: VALUE'",
        dest="headers",
        action="append",
        type=_header,
        default=[],
        help="send this with every request; may be repeated",
    )
    data = group.add_mutually_exclusive_group()
    data.add_argument("--data", metavar="TEXT", help=f"send TEXT, as {FORM} unless a header says")
    data.add_argument("--data-file", metavar="FILE", help="send what is in FILE, piece by piece")
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "-u",
        "--user",
        metavar="USER:PASSWORD",
        type=_user,
        help="Basic credentials, for the origin of each URL",
    )
    who.add_argument("--netrc", action="store_true", help="credentials from ~/.netrc")
    add("--no-location", action="store_true", help="do not follow redirects")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    where = group.add_mutually_exclusive_group()
    where.add_argument("--output-dir", metavar="DIR", help="save each body to a file in DIR")
    where.add_argument(
        "-o", "--output", metavar="FILE", help="save the one URL's body to FILE; - for stdout"
    )
    add(
        "-C", "--continue", dest="resume", action="store_true",
        help="keep what came of a file that breaks off, and go on from there",
    )  # fmt: skip
    add("--json", action="store_true", help="write the summary to standard output as JSON")
    add("--quiet", action="store_true", help="write failures, and the summary of --json, only")


def _add_transfer(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--timeout",
        metavar="SECONDS",
        type=_timeout,
        default=DEFAULT_TIMEOUT_SECONDS,
        help=f"for each URL, from name resolution to the last byte ({DEFAULT_TIMEOUT_SECONDS:g})",
    )
    add(
        "--retry",
        metavar="N",
        type=_number(0, MAX_RETRIES),
        default=0,
        help="try again, so often, what failed for a while: no connection, a broken one, a"
        " timeout, the statuses 408, 429, 500, 502, 503, 504",
    )
    add("--limit-rate", metavar="RATE", type=_rate, help="bytes a second in all: 500k, 1.5M")
    add(
        "--proxy",
        metavar="URL",
        type=_proxy,
        help="http://, https://, socks5:// or socks5h://; else the environment's (http_proxy ...)",
    )
    add(
        "--timings", action="store_true", help="DNS, connect, TLS, first byte and total of each URL"
    )
    add("--ca-file", metavar="FILE", help="trust the roots in this PEM file, and no others")


def parse(arguments: Sequence[str] | None) -> Options:
    """Return the command line, checked; exit with status 2 when it is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check_poller(parser)
    _check_urls(parser, given)
    tls = None
    if given.ca_file is not None:
        try:
            tls = client_context(ca_file=given.ca_file, alpn=("http/1.1",))
        except (OSError, ValueError) as error:
            parser.error(f"--ca-file: {given.ca_file!r}: {why(error)}")
    headers = Headers([("User-Agent", f"{PROGRAM}/{version()}")]).merged_with(given.headers)
    if given.data is not None and "Content-Type" not in headers:
        headers = headers.merged_with([("Content-Type", FORM)])
    is_counted = given.input is None and "-" not in given.urls
    return Options(
        sources=_sources(parser, given),
        total=len(given.urls) if is_counted else None,
        concurrency=given.concurrency,
        sink=_sink(parser, given),
        headers=headers,
        ask=_ask(parser, given),
        retries=given.retry,
        rate=given.limit_rate,
        follow=not given.no_location,
        timeout=given.timeout,
        tls=tls,
        proxy=given.proxy,
        times=given.timings,
        json=given.json,
        quiet=given.quiet,
        keeps_stdout=given.output == "-",
    )


def _check_poller(parser: argparse.ArgumentParser) -> None:
    """Refuse a poller that the environment names and that is not to be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which the loop's own will give
            new_poller()
    except (ValueError, RuntimeError) as error:
        parser.error(f"REACTOR_POLLER: {error}")


def _check_urls(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    if [*given.urls, given.input].count("-") > 1:
        parser.error("standard input can be read only once")
    for url in given.urls:
        if url != "-":
            try:
                checked_url(url)
            except InvalidURL as error:
                parser.error(printable(f"{url!r}: {error}"))
    has_none = not given.urls and given.input is None
    for option in ("output_dir", "output", "data", "data_file", "request"):
        if has_none and getattr(given, option) is not None:
            parser.error(f"--{option.replace('_', '-')}: there is no URL")
    if given.output is not None and (len(given.urls) != 1 or given.input or given.urls == ["-"]):
        parser.error("--output: it takes one URL, an argument; for more there is --output-dir")
    if given.resume and given.output in (None, "-") and given.output_dir is None:
        parser.error("--continue: there is no file to go on with")
    if given.resume and (given.request or "GET") != "GET":
        parser.error("--continue: only a GET can go on")
    if given.output == "-" and given.json:
        parser.error("--json: standard output is for the body")


def _ask(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Ask:
    file = None
    if given.data_file is not None:
        file = Path(given.data_file)
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            parser.error(f"--data-file: {given.data_file!r}: {why(error)}")
    has_data = given.data is not None or file is not None
    if has_data and given.resume:
        parser.error("--continue: only a GET can go on")
    return Ask(
        method=given.request or ("POST" if has_data else "GET"),
        data=None if given.data is None else os.fsencode(given.data),
        file=file,
        auth=_netrc(parser) if given.netrc else given.user,
    )


def _netrc(parser: argparse.ArgumentParser) -> AuthSource:
    try:
        return NetrcAuth()
    except (OSError, ValueError) as error:
        parser.error(f"--netrc: {why(error)}")


def _sources(
    parser: argparse.ArgumentParser, given: argparse.Namespace
) -> tuple[Callable[[], Source], ...]:
    sources = [_source_of(url) for url in given.urls]
    if given.input is not None:
        try:
            sources.append(_lines_of(given.input))
        except OSError as error:
            parser.error(f"--input: {given.input!r}: {why(error)}")
    return tuple(sources)


def _sink(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Sink | None:
    if given.output == "-":
        return StandardOutput()
    if given.output is not None:
        path = Path(given.output)
        if path.is_dir() or not path.parent.is_dir():
            parser.error(f"--output: {given.output!r}: it is, or is in, no directory that is there")
        if path.exists() and not path.is_file():
            return Device(path)
        # a link of the user's leads to the file; with --output-dir the names are the server's
        return OneFile(Path(os.path.realpath(path)), resumes=given.resume)
    if given.output_dir is None:
        return None
    try:
        return Downloads(given.output_dir, resumes=given.resume)
    except OSError as error:
        parser.error(f"--output-dir: {given.output_dir!r}: {why(error)}")


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

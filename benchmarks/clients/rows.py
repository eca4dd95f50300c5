"""The table of issue 6: what is measured of whom, and what is wanted.

Touches nothing.  A row is one kind of work; its cells are clients.  Names of cells are what the
table and the JSON show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CLIENTS", "OURS", "ROWS", "TARGETS", "Client", "Row", "Target"]


@dataclass(frozen=True)
class Client:
    """A client: a program (no driver), or a driver in ``benchmarks.clients.peers``."""

    driver: str = ""
    distributions: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    work: str = ""  # in place of the row's, where the driver has several for it


CLIENTS = {
    "cyreactor": Client("cyreactor", ("cyreactor",)),
    "cyreactor call-backs": Client("cyreactor", ("cyreactor",), work="callbacks"),
    "cyreactor, resumed": Client("cyreactor", ("cyreactor",), work="resumed"),
    "wrk": Client(),
    "curl": Client(),
    "pycurl": Client("pycurl", ("pycurl",)),
    "aiohttp": Client("aiohttp", ("aiohttp", "uvloop")),
    "httpx": Client("httpx", ("httpx", "httpcore", "uvloop"), {"module": "httpx"}),
    "httpx2": Client("httpx", ("httpx2", "httpcore2", "uvloop"), {"module": "httpx2"}),
    "requests": Client("requests", ("requests", "urllib3")),
    "niquests": Client("niquests", ("niquests", "urllib3-future", "uvloop")),
    "ry": Client("ry", ("ry", "uvloop")),
    "pyreqwest": Client("pyreqwest", ("pyreqwest", "uvloop")),
    "wreq": Client("wreq", ("wreq", "uvloop")),
    "geventhttpclient": Client("geventhttpclient", ("geventhttpclient", "gevent")),
    "pycurl, resumed": Client("pycurl", ("pycurl",), work="resumed"),
    "ry, resumed": Client("ry", ("ry", "uvloop")),
    "pyreqwest, resumed": Client("pyreqwest", ("pyreqwest", "uvloop")),
}
OURS = "cyreactor"  # ratios are to it

ASYNC = (
    "pycurl",
    "aiohttp",
    "httpx",
    "httpx2",
    "niquests",
    "ry",
    "pyreqwest",
    "wreq",
    "geventhttpclient",
)
BLOCKING = (
    "pycurl",
    "requests",
    "httpx",
    "httpx2",
    "niquests",
    "ry",
    "pyreqwest",
    "wreq",
    "geventhttpclient",
)


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        title: for people.
        work: the function of a driver.
        cells: who does it.
        connections: how many requests are under way at once.
        scheme: of the URL.
        unit: what CPU time is divided by.
        malloc: whether the Python peers are measured with a tuned malloc, too.
        note: what must be known to read it.
    """

    title: str
    work: str
    cells: tuple[str, ...]
    connections: int = 1
    scheme: str = "http"
    unit: str = "request"
    malloc: bool = True
    note: str = ""


ROWS = {
    "get-64": Row(
        "GET, 64 connections kept", "get", (OURS, "cyreactor call-backs", "wrk", *ASYNC), 64
    ),
    "get-512": Row(
        "GET, 512 connections kept",
        "get",
        (OURS, "cyreactor call-backs", "wrk", *(each for each in ASYNC if each != "httpx")),
        512,
    ),
    "queued": Row(
        "GET, 512 callers over 64 connections", "queued", (OURS, "aiohttp"), 512, malloc=False
    ),
    "post": Row(
        "POST of JSON with a header and a parameter, 64 connections kept",
        "post",
        (OURS, "aiohttp", "httpx", "httpx2"),
        64,
        malloc=False,
    ),
    "blocking": Row("GET, blocking, one after another", "blocking", (OURS, *BLOCKING)),
    "https-64": Row("GET over TLS, 64 connections kept", "get", (OURS, "wrk", *ASYNC), 64, "https"),
    "https-new": Row(
        "GET over TLS, a new verified connection each",
        "fresh",
        (
            OURS,
            "cyreactor, resumed",
            "pycurl",
            "wrk",
            "aiohttp",
            "httpx",
            "httpx2",
            "niquests",
            "wreq",
            "geventhttpclient",
            "pycurl, resumed",
            "ry, resumed",
            "pyreqwest, resumed",
        ),
        8,
        "https",
        malloc=False,
        note="wrk verifies no certificate, and resumes.  What is resumed verifies none after the "
        "first: ry and pyreqwest always do so, ours unless resume_tls is false, as it is in the "
        "first line.  Nearly all of a full handshake is the TLS library's own work, and pycurl's "
        "need not be the one of Python's ssl (see the versions below).",
    ),
    "download": Row("Download, streamed", "download", (OURS, "curl", *ASYNC), unit="MB"),
    "download-tls": Row(
        "Download over TLS, streamed", "download", (OURS, "curl", *ASYNC), 1, "https", "MB"
    ),
    "upload": Row("Upload, streamed", "upload", (OURS, "curl", *ASYNC), unit="MB"),
    "latency": Row(
        "Latency, 1 connection", "get", (OURS, "wrk", "pycurl", "aiohttp"), malloc=False
    ),
    **{
        f"connections-{count}": Row(
            f"GET, {count:,} connections kept", "get", (OURS, "wrk"), count, malloc=False
        )
        for count in (10, 100, 1_000, 10_000)
    },
    "features": Row("What a feature costs", "features", (OURS,), 16, malloc=False),
}


@dataclass(frozen=True)
class Target:
    """What is wanted of a row.

    Attributes:
        row: its name; with "features" the peer is a feature.
        peer: the cell that we are held against.
        bound: of CPU: the least that the peer's, divided by ours, is to be.  Of "p50" and "growth":
            the most that ours, divided by the peer's, is to be.  Of "cost": nanoseconds.
        text: how the issue says it.
        kind: "cpu", "p50", "growth" (from connections-10 to this row) or "cost".
        ours: our cell.
    """

    row: str
    peer: str
    bound: float
    text: str
    kind: str = "cpu"
    ours: str = OURS


def _get_targets(row: str) -> list[Target]:
    return [
        Target(row, "wrk", 1.0, "CPU a request at most 1.0 x wrk's"),
        Target(row, "pycurl", 2.5, "at least 2.5 x pycurl's requests per CPU second"),
        Target(row, "aiohttp", 7.0, "at least 7 x aiohttp's requests per CPU second"),
        Target(
            row,
            "wrk",
            1 / 0.95,
            "call-backs: CPU a request at most 0.95 x wrk's",
            ours="cyreactor call-backs",
        ),
    ]


TARGETS = [
    *_get_targets("get-64"),
    *_get_targets("get-512"),
    Target("blocking", "requests", 10.0, "at least 10 x requests' requests per CPU second"),
    Target("blocking", "pycurl", 1.0, "at least 1.0 x those of a reused Curl.perform()"),
    Target("https-64", "wrk", 1 / 1.05, "CPU a request at most 1.05 x wrk's"),
    Target("https-new", "pycurl", 1.15, "at least 1.15 x pycurl's handshakes per CPU second"),
    Target("https-new", "aiohttp", 1.6, "at least 1.6 x aiohttp's handshakes per CPU second"),
    Target(
        "https-new",
        OURS,
        1.1,
        "resumed: at least 1.1 x our own without",
        ours="cyreactor, resumed",
    ),
    Target("download", "curl", 1.0, "at least 1.0 x curl's MB per CPU second"),
    Target("download-tls", "curl", 1.0, "at least 1.0 x curl's MB per CPU second"),
    Target("upload", "curl", 0.9, "at least 0.9 x curl's MB per CPU second"),
    Target("latency", "wrk", 1.05, "p50 at most 1.05 x wrk's", "p50"),
    *(
        Target(
            f"connections-{count}", "wrk", 1.2, "CPU grows at most 20 % more than wrk's", "growth"
        )
        for count in (100, 1_000, 10_000)
    ),
    *(
        Target("features", feature, 100.0, f"{feature}: at most 100 ns", "cost")
        for feature in ("cookies", "redirects", "deadline", "hooks absent")
    ),
]

# What the table of the issue has and no row can hold, and what takes too long.
MISSING = {
    "get-512, httpx": "its CPU time for a request grows with the connections, from milliseconds at "
    "64 to so much at 512 that one round takes minutes",
}

"""What runs in the process of a Python client: a driver, told what to do, and the measuring.

Owns the phases of a job and the CPU time of the measured one.  A driver is a module of
``benchmarks.clients.peers`` with a function for each kind of work that its client can do; it
makes its connections, and walks through the phases::

    async def get(job):
        async def caller(turns):
            for _ in turns:
                ...one request, and the body compared with job.body...

        await job.walk(caller)

The phases are: connect, see how fast it is, the one whose CPU time counts, and one in which each
turn is timed.  Of a client that is so slow that the second takes long enough, that one counts.

usage: python benchmarks/clients/work.py JOB (JSON; see Job)
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import math
import os
import re
import resource
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRIAL_REQUESTS = 256
CHUNK = 65_536  # of an upload
TIMED_PART = 0.2  # of the measured phase
LEAST_TURNS = 10  # of each caller, so that to start the callers costs little of it
MAX_TURNS = 1_000_000
# What is posted; the field and the parameter are strings that the client renders each time.
POSTED = {"id": 1, "name": "cyreactor", "tags": ["a", "b"]}
FIELDS = {"X-Request-ID": "0123456789abcdef"}
PARAMETERS = {"page": "2"}
QUEUED_CONNECTIONS = 64  # for the callers of that work
SLOW_RATE, SLOW_SECONDS = 2_000, 1.5


class WrongBytesError(Exception):
    """What came is not what was to come."""

    def __init__(self) -> None:
        super().__init__("the bytes are not those of the file")


@dataclass
class Job:
    """What a driver is to do.

    Attributes:
        peer: the name of its module.
        work: the name of its function.
        url: what is asked for, or where an upload goes; another one in another phase.
        ca: the path of the certificate authority, PEM.
        connections: how many requests are under way at once.
        seconds: CPU time that the measured phase is to take, about.
        root: the folder of the files on the server.
        source: the path of the file to upload; another one in another phase.
        distributions: whose versions are told.
        settings: what else the function takes.
    """

    peer: str
    work: str
    url: str
    ca: str
    connections: int
    seconds: float
    root: str
    source: str = ""
    distributions: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    user: float = 0.0
    system: float = 0.0
    units: float = 0.0
    times: list[int] = field(default_factory=list)
    body: bytes = b""

    def tls(self) -> ssl.SSLContext:
        """Return a context that verifies."""
        return ssl.create_default_context(cafile=self.ca)

    # -- requests ----------------------------------------------------------------------

    def phases(self) -> Iterator[list[Iterable[int]]]:
        """Iterate over the phases; each has an iterable of turns for each connection."""
        if self.work in ("download", "upload"):
            return self._large_phases()
        return self._small_phases()

    async def walk(self, caller: Callable[[Iterable[int]], Awaitable[None]]) -> None:
        """Go through the phases with a caller for each connection."""
        for phase in self.phases():
            await asyncio.gather(*(caller(turns) for turns in phase))

    def _small_phases(self) -> Iterator[list[Iterable[int]]]:
        callers = self.connections
        self.body = Path(self.root, "small").read_bytes()
        yield [range(1)] * callers
        each = max(1, TRIAL_REQUESTS // callers)
        with self._measured(each * callers):
            yield [range(each)] * callers
        rate = self.units / (self.user + self.system)
        if rate < SLOW_RATE and LEAST_TURNS * callers / rate > SLOW_SECONDS:
            return
        each = max(LEAST_TURNS, min(math.ceil(rate * self.seconds / callers), MAX_TURNS))
        with self._measured(each * callers):
            yield [range(each)] * callers
        each = max(1, int(each * TIMED_PART))
        yield [self._timed(each) for _ in range(callers)]

    def _timed(self, count: int) -> Iterator[int]:
        clock, note = time.perf_counter_ns, self.times.append
        last = clock()
        for number in range(count):
            yield number
            now = clock()
            note(now - last)
            last = now

    def _measured(self, units: float) -> _Measured:
        self.units = units
        return _Measured(self)

    # -- files -------------------------------------------------------------------------

    def _large_phases(self) -> Iterator[list[Iterable[int]]]:
        large = Path(self.root, "large")
        measured_url, name = self.url, self.url.rpartition("/")[2]
        self.source = str(large.with_name("probe"))
        self.url = self.url.replace(name, "probe")
        yield [range(1)]
        self.source, self.url = str(large), measured_url
        self._verifies = False
        with self._measured(large.stat().st_size / 1e6):
            yield [range(1)]

    _verifies = True
    _taken = 0

    def begin(self) -> Callable[[Any], None]:
        """Return the call for each piece of a download.

        In the first phase it keeps the pieces, which are compared with the file; in the measured
        one it counts, as all do.
        """
        self._taken = 0
        self._pieces = bytearray()
        return self._keep if self._verifies else self._count

    def _count(self, piece: Any) -> None:
        self._taken += len(piece)

    def _keep(self, piece: Any) -> None:
        self._taken += len(piece)
        self._pieces += piece

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Give the file to upload in pieces."""
        with Path(self.source).open("rb") as file:  # noqa: ASYNC230 - it is in memory
            while piece := file.read(CHUNK):
                yield piece

    @property
    def source_size(self) -> str:
        """The length of the file to upload, as a field has it."""
        return str(Path(self.source).stat().st_size)

    def check_stored(self, status: int) -> None:
        """Look at the answer to an upload."""
        if status not in (201, 204):
            raise WrongBytesError

    def end(self) -> None:
        """Look at what was downloaded."""
        path = Path(self.root, self.url.rpartition("/")[2])
        if self._taken != path.stat().st_size:
            raise WrongBytesError
        if self._verifies and self._pieces != path.read_bytes():
            raise WrongBytesError


class _Measured:
    """The CPU time of a block, for a job."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __enter__(self) -> None:
        self._before = resource.getrusage(resource.RUSAGE_SELF)

    def __exit__(self, *_: object) -> None:
        after = resource.getrusage(resource.RUSAGE_SELF)
        self._job.user = after.ru_utime - self._before.ru_utime
        self._job.system = after.ru_stime - self._before.ru_stime


def on_uvloop(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def version_of(distribution: str) -> str:
    """Return the version of what is installed, or "" where it is not."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main(told: str) -> None:
    """Do the job and print, as JSON, what it took."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = Job(**json.loads(told))
    module = importlib.import_module(f"benchmarks.clients.peers.{job.peer}")
    answer = getattr(module, job.work)(job) or {}
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    versions = {name: version_of(name) or "from the sources" for name in job.distributions}
    if hasattr(module, "versions"):
        versions |= module.versions()
    answer |= {
        "user": job.user,
        "system": job.system,
        "units": job.units,
        "times": sorted(job.times),
        "peak_kib": int(peak[1]),
        "versions": versions,
    }
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # what a client's threads do at the end is not measured and may take long


if __name__ == "__main__":
    # at the end: what is installed goes before the sources
    sys.path.append(str(ROOT))
    from benchmarks.clients import work

    work.main(sys.argv[1])

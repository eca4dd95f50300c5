"""Processes of clients: each pinned to the client's core, one at a time.

Owns how a process is started, how its CPU time and memory are read, and the way of the programs
that are not Python: wrk and curl.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.clients.figures import Run, Said, mean_us, percentile, read_wrk
from benchmarks.clients.rows import Client, Row
from benchmarks.clients.server import PROBE_BYTES, Server
from benchmarks.clients.work import ROOT, Job, version_of

TUNED = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
LIMIT_SECONDS = 240
QUICK_SECONDS = 0.4  # below, features are measured with fewer requests
FIRST_LOOK_SECONDS = 0.02
LOOK_SECONDS = 0.25
MANY_CONNECTIONS = 1_000


class FailedError(Exception):
    """A client could not do what it was told."""


class Child:
    """A process that has ended.

    Attributes:
        output: what it printed.
        user, system: CPU seconds, from start to end.
        peak_kib: the most memory, as last seen (every quarter of a second).

    *looks* are calls with the process's number after so many seconds, about.
    """

    def __init__(
        self,
        command: list[str],
        core: int,
        tuned: bool = False,
        looks: Sequence[tuple[float, Callable[[int], None]]] = (),
    ) -> None:
        environment = os.environ | (TUNED if tuned else {})
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # which the child inherits
        try:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        finally:
            os.sched_setaffinity(0, cores)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.peak_kib = 0
        began, wait, due = time.monotonic(), FIRST_LOOK_SECONDS, list(looks)
        while True:
            try:
                self.output, errors = process.communicate(timeout=wait)
                break
            except subprocess.TimeoutExpired:
                self._look(process.pid)
                waited = time.monotonic() - began
                if due and due[0][0] <= waited:
                    due.pop(0)[1](process.pid)
                wait = min(wait * 2, LOOK_SECONDS)
                if waited > LIMIT_SECONDS:
                    process.kill()
                    process.communicate()
                    raise FailedError(f"not done after {LIMIT_SECONDS} s") from None
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.user = after.ru_utime - before.ru_utime
        self.system = after.ru_stime - before.ru_stime
        if process.returncode:
            lines = errors.strip().splitlines() or ["nothing said"]
            raise FailedError(f"status {process.returncode}: {lines[-1]}")

    def _look(self, number: int) -> None:
        try:
            status = Path(f"/proc/{number}/status").read_text()
        except OSError:
            return
        found = re.search(r"VmHWM:\s+(\d+)", status)
        self.peak_kib = max(self.peak_kib, int(found[1]) if found else 0)

    def run(self, idle: Child, units: float, p50: float, p99: float) -> Run:
        """Return what it took, less what it takes to start."""
        cpu = max(0.0, self.user + self.system - idle.user - idle.system)
        user = min(max(0.0, self.user - idle.user), cpu)
        return Run(
            mean_us(user, units),
            mean_us(cpu - user, units),
            units,
            p50,
            p99,
            self.peak_kib / 1024 if self.peak_kib else math.nan,
        )


def cpu_seconds(number: int) -> float:
    """Return the CPU time of a process so far, of all its threads."""
    tasks = Path(f"/proc/{number}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in tasks) / 1e9


def missing(name: str, client: Client) -> str:
    """Return why a client cannot be measured here, or an empty text."""
    if not client.driver:
        return "" if shutil.which(name) else f"no program {name} (Debian's package {name})"
    absent = [each for each in client.distributions if not version_of(each)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def version_of_program(name: str) -> str:
    """Return the first line that a program says of itself."""
    option = {"wrk": "-v", "curl": "--version", "nginx": "-v"}[name]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    program = shutil.which(name, path=path)
    if program is None:
        return ""
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0]


class Clients:
    """Measures a client in a row, once."""

    def __init__(self, server: Server, core: int, seconds: float) -> None:
        self._server = server
        self._core = core
        self._seconds = seconds
        self._count = 0
        self._idle: dict[tuple[str, ...], Child] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def url(self, row: Row, path: str) -> str:
        """Return a URL of the server, of another of its addresses each time."""
        self._count += 1
        host = self._server.addresses()[self._count % 8] if row.scheme == "http" else "127.0.0.1"
        return self._server.url(path, scheme=row.scheme, host=host)

    def measure(self, name: str, client: Client, row: Row, tuned: bool) -> Run | dict[str, float]:
        """Measure; return the run, or what features cost."""
        if name == "wrk":
            return self._wrk(row)
        if name == "curl":
            return self._curl(row)
        work = client.work or row.work
        path = {"download": "large", "upload": "uploaded/large", "post": "posted"}.get(
            work, "small"
        )
        job = Job(
            peer=client.driver,
            work=work,
            url=self.url(row, path),
            ca=str(self._server.ca_pem),
            connections=row.connections,
            seconds=self._seconds,
            root=str(self._server.root),
            distributions=list(client.distributions),
            settings=dict(client.settings),
        )
        if work == "features" and self._seconds < QUICK_SECONDS:
            job.settings["requests"] = 160
        told = {key: value for key, value in asdict(job).items() if key != "body"}
        script = Path(__file__).with_name("work.py")
        child = Child([sys.executable, str(script), json.dumps(told)], self._core, tuned)
        answer = json.loads(child.output)
        if work == "upload":
            self._look_at_uploads()
        self.versions[name] = answer["versions"]
        if "costs_ns" in answer:
            costs: dict[str, float] = answer["costs_ns"]
            return costs
        times = [time / 1e3 for time in answer["times"]]
        units = answer["units"]
        return Run(
            mean_us(answer["user"], units),
            mean_us(answer["system"], units),
            units,
            percentile(times, 0.5),
            percentile(times, 0.99),
            answer["peak_kib"] / 1024,
        )

    def _look_at_uploads(self) -> None:
        wrong = self._server.take_uploads([PROBE_BYTES, self._server.large_bytes])
        if wrong:
            raise FailedError(wrong)

    # -- wrk -----------------------------------------------------------------------------

    def _wrk(self, row: Row) -> Run:
        """Measure wrk: all of it, or with many connections a part in which all of them stand.

        Of that part the server has counted the requests, and the kernel the CPU time.
        """
        seconds = max(1, round(self._seconds))
        if row.connections < MANY_CONNECTIONS:
            idle = self._started(("wrk", "-v"))
            child, said = self._wrk_for(row, seconds)
            return child.run(idle, said.requests, said.p50, said.p99)
        seen: list[tuple[int, float]] = []

        def look(number: int) -> None:
            seen.append((self._server.counted(), cpu_seconds(number)))

        # a thousand connections stand after a second, ten thousand after some
        begin = 1.5 if row.connections < 5 * MANY_CONNECTIONS else 4.0
        looks = [(begin, look), (begin + 2 * seconds, look)]
        child, said = self._wrk_for(row, math.ceil(2 * begin + 2 * seconds), looks)
        if len(seen) < 2:
            raise FailedError("wrk ended before it was looked at")
        (first, before), (last, after) = seen
        if last - first < row.connections:
            raise FailedError(f"{last - first} requests over {row.connections} connections")
        cpu = mean_us(after - before, last - first)
        user = cpu * child.user / (child.user + child.system)
        units, peak_mib = last - first, child.peak_kib / 1024
        return Run(user, cpu - user, units, said.p50, said.p99, peak_mib)

    def _wrk_for(
        self, row: Row, seconds: int, looks: Sequence[tuple[float, Callable[[int], None]]] = ()
    ) -> tuple[Child, Said]:
        command = ["wrk", "-t1", f"-c{row.connections}", f"-d{seconds}s", "--latency"]
        if row.work == "fresh":
            command += ["-H", "Connection: close"]
        child = Child([*command, self.url(row, "small")], self._core, looks=looks)
        said = read_wrk(child.output)
        if not said.requests:
            raise FailedError(f"no response in {seconds} s")
        # what it read is rounded, and it may stop in the middle of responses
        each = said.received_bytes / said.requests
        if said.wrong or not len(self._server.small) < each < 5 * len(self._server.small):
            raise FailedError(said.wrong or f"{each:.0f} bytes a response")
        return child, said

    def _started(self, command: tuple[str, ...]) -> Child:
        """Return what it takes to start a program."""
        if command not in self._idle:
            try:
                self._idle[command] = Child(list(command), self._core)
            except FailedError:  # wrk -v ends with status 1
                self._idle[command] = Child(["true"], self._core)
        return self._idle[command]

    # -- curl ----------------------------------------------------------------------------

    def _curl(self, row: Row) -> Run:
        """Measure curl, less what the same takes with 100 bytes."""
        server = self._server
        secure = ["curl", "-sS", "--fail", "--cacert", str(server.ca_pem), "-o", "/dev/null"]
        idle = self._started((*secure, server.url("small", scheme=row.scheme, host="127.0.0.1")))
        if row.work == "upload":
            for name in ("probe", "large"):
                source = str(server.root / name)
                child = Child(
                    [*secure, "-T", source, self.url(row, f"uploaded/{name}")], self._core
                )
            self._look_at_uploads()
        else:
            copy = server.root.parent / "copy"
            probe = self.url(row, "probe")
            Child([*secure[:-1], str(copy), probe], self._core)
            if copy.read_bytes() != (server.root / "probe").read_bytes():
                raise FailedError("the bytes are not those of the file")
            copy.unlink()
            child = Child([*secure, "-w", "%{size_download}", self.url(row, "large")], self._core)
            if int(child.output) != server.large_bytes:
                raise FailedError(f"{child.output} bytes came")
        return child.run(idle, server.large_bytes / 1e6, math.nan, math.nan)

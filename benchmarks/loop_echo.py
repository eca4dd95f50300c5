"""The loops compared: echo over TCP and TLS, asyncio's streams, datagrams, the calls of a loop.

Each peer (this reactor, asyncio, uvloop, aiofastnet on uvloop, rloop) has a process of its
own, twice: with malloc as it comes, and tuned so that large blocks are neither mapped nor
given back.  The side under test is on one core; on the other is always the same opposite
side, aiofastnet on uvloop, the fastest that is not ours.  Bytes are verified.  The rounds of all
peers are interleaved.

The figure is CPU time per message of the side under test, user and system.  A ratio is a
peer's CPU time divided by ours in the same round: above 1 is where we win.  Of the others the
best counts, with whichever malloc served it better; ours counts with malloc as it comes.

usage: python benchmarks/loop_echo.py [--quick] [--rounds N] [--minutes N] [--peers NAME,NAME]
           [--only WORD ...] [--json FILE] [--table FILE.md]

With ``--minutes`` each cell gets its share of that time: as many rounds as fit, three at least,
of fewer messages where three would not fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trustme
from loop_peers import CALLS, PEERS, WITHOUT_TLS, all_descriptors

HERE = Path(__file__).resolve().parent
OPPOSITE = "aiofastnet"
TUNED = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
SIZES = {"1 KiB": 1024, "10 KiB": 10_240, "100 KiB": 102_400}
# so many messages cost each side about a third of a second; a round is half of that
MESSAGES = {
    "TCP": {1024: 16_000, 10_240: 10_000, 102_400: 2_500},
    "TLS": {1024: 12_000, 10_240: 6_000, 102_400: 1_200},
}
LEAST_ROUNDS = 3
SETUP_SECONDS = {"TCP": 0.001, "TLS": 0.006}  # of a connection, about
MANY = 1000  # so many connections are opened with the better malloc of each peer only
CALL_COUNTS = {
    "call_soon + run": 500_000,
    "call_later + cancel": 1_000_000,
    "create_task + run": 200_000,
    "Task step": 300_000,
    "Future wake-up": 200_000,
    "UDP round trip": 40_000,  # both ends
}


class Failed(Exception):
    """A peer could not do what it was told."""


class Process:
    """One peer, under command."""

    def __init__(self, peer: str, core: int, certificate: str, tuned: bool) -> None:
        self.peer = peer
        self.name = f"{peer}, tuned" if tuned else peer
        environment = os.environ | (TUNED if tuned else {})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "loop_peers.py"), peer, str(core), certificate],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.facts = self.answer()

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Let it do something and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Read one answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(f"{self.name}: {answer['failed']}")
        return answer

    def end(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Cell:
    """One place of the table: what every peer's rounds came to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds: dict[str, list[list[float]]] = {}  # [user, system], microseconds

    def add(self, process: Process, cpu: list[float], messages: int) -> None:
        """Keep one round."""
        self.rounds.setdefault(process.name, []).append([part / messages * 1e6 for part in cpu])

    def median(self, name: str) -> float:
        """Return microseconds of CPU per message."""
        return statistics.median(sum(figures) for figures in self.rounds[name])

    def ratios(self, name: str, ours: str = "reactor") -> list[float]:
        """Return a peer's time divided by ours, of each round, sorted."""
        return sorted(
            sum(theirs) / sum(mine)
            for theirs, mine in zip(self.rounds[name], self.rounds[ours], strict=True)
        )

    def best(self) -> str:
        """Return the best of the others, with the malloc that served it better."""
        others = [name for name in self.rounds if not name.startswith("reactor")]
        return min(others, key=self.median)

    def row(self) -> str:
        """Return the cell as a line of text."""
        user, system = (
            statistics.median(part) for part in zip(*self.rounds["reactor"], strict=True)
        )
        best = self.best()
        ratios = self.ratios(best)
        text = f"{self.name:38} {user:7.2f} {system:7.2f}  x{statistics.median(ratios):.2f} "
        text += f"({ratios[0]:.2f}-{ratios[-1]:.2f}) {best}"
        others = sorted({name.removesuffix(", tuned") for name in self.rounds} - {"reactor"})
        text += "  |" + "".join(
            f" {peer} {min(self.median(n) for n in self.rounds if n.startswith(peer)):.2f}"
            for peer in others
        )
        if "reactor, tuned" in self.rounds:
            text += f" reactor, tuned {self.median('reactor, tuned'):.2f}"
        return text


def name_of(kind: str, carrier: str, side: str, size: str, connections: int) -> str:
    """Return what a cell of echo is called."""
    label = "" if kind == "echo" else f"{kind} "
    return f"{label}{carrier} {side} {size} x {connections}"


def plan(
    seconds: float, of_round: float, count: int, *, most_rounds: int, least: int
) -> tuple[int, int]:
    """Return how many rounds of how many messages fit into *seconds*.

    A round of *count* messages took *of_round* seconds; fewer than *least* are not to be.
    """
    if seconds == math.inf:
        return most_rounds, count
    fit = seconds / of_round
    if fit < LEAST_ROUNDS:
        return LEAST_ROUNDS, max(least, int(count * fit / LEAST_ROUNDS))
    return min(int(fit), most_rounds), count


class Benchmark:
    """All cells, measured in order."""

    def __init__(self, options: argparse.Namespace, certificate: str) -> None:
        self.options = options
        self.began = time.monotonic()
        self.cells: list[Cell] = []
        peers = options.peers.split(",")
        self.under_test = [
            Process(peer, 0, certificate, tuned)
            for peer in peers
            for tuned in (False, True)
            # malloc as it comes was never the better one for these
            if not (options.quick and (tuned == (peer == "reactor")))
        ]
        self.opposite = Process(OPPOSITE, 1, certificate, tuned=True)

    def wanted(self, name: str) -> bool:
        """Return whether a cell is to be measured."""
        return all(word in name for word in self.options.only)

    def rows(self) -> list[tuple[str, str, int]]:
        """Return what kind of echo is measured over what, at how many connections."""
        numbers = (1, 100) if self.options.quick else (1, 100, 1000)
        return [
            (kind, carrier, connections)
            for kind, carrier in itertools.product(("echo", "streams"), ("TCP", "TLS"))
            for connections in (numbers if kind == "echo" else (1, 100))
        ]

    def better(self, processes: list[Process], cells: str) -> list[Process]:
        """Return one process of each peer: that whose malloc served it better in those cells.

        Of ours the one with malloc as it comes.  All where nothing was measured.
        """
        measured = [cell for cell in self.cells if cell.name.startswith(cells)]
        if not measured:
            return processes
        best: dict[str, Process] = {}
        for process in processes:
            other = best.setdefault(process.peer, process)
            if (
                process.peer != "reactor"
                and statistics.median(
                    cell.median(process.name) / cell.median(other.name) for cell in measured
                )
                < 1
            ):
                best[process.peer] = process
        return list(best.values())

    def share(self) -> float:
        """Return how many seconds the next cell may take."""
        names = [*CALLS]
        for kind, carrier, connections in self.rows():
            for side, size in itertools.product(("client", "server"), SIZES):
                names.append(name_of(kind, carrier, side, size, connections))
        seen = {cell.name for cell in self.cells}
        names = [name for name in names if self.wanted(name) and name not in seen]
        opening = sum(
            SETUP_SECONDS[carrier] * connections * len(PEERS) * 2
            for kind, carrier, connections in self.rows()
            if any(name_of(kind, carrier, "client", size, connections) in names for size in SIZES)
        )
        end = self.began + self.options.minutes * 60 - opening
        return (end - time.monotonic()) / max(1, len(names))

    def echo(self, kind: str, carrier: str, connections: int) -> None:
        """Measure the cells of all sizes, client side and server side."""
        tls = carrier == "TLS"
        for side in ("client", "server"):
            processes = [p for p in self.under_test if not (tls and p.peer in WITHOUT_TLS)]
            names = {size: name_of(kind, carrier, side, size, connections) for size in SIZES}
            sizes = [size for size in SIZES if self.wanted(names[size])]
            if not sizes:
                continue
            if connections >= MANY:
                processes = self.better(processes, f"{carrier} {side} ")
            ends = []
            for process in processes:
                server, client = process, self.opposite
                if side == "client":
                    server, client = self.opposite, process
                # the opposite side has Protocols in any case
                ends.append(
                    (
                        process,
                        server,
                        client,
                        kind if side == "server" else "echo",
                        kind if side == "client" else "echo",
                    )
                )
            # all connections of this table row stay open together
            keys = []
            for _, server, client, serving, driving in ends:
                port = server.ask("serve", kind=serving, tls=tls)["port"]
                keys.append(
                    client.ask("connect", kind=driving, tls=tls, port=port, count=connections)[
                        "key"
                    ]
                )
            for size in sizes:
                count = MESSAGES[carrier][SIZES[size]] // (8 if self.options.quick else 2)
                self.echo_cell(
                    Cell(names[size]),
                    [(key, end[0], end[2]) for key, end in zip(keys, ends, strict=True)],
                    SIZES[size],
                    max(count, connections),
                    max(count // 4, connections),  # fewer is within the clock's grain
                )
            for key, (_, _, client, _, _) in zip(keys, ends, strict=True):
                client.ask("disconnect", key=key)

    def echo_cell(
        self,
        cell: Cell,
        ends: list[tuple[int, Process, Process]],
        size: int,
        count: int,
        least: int,
    ) -> None:
        """Measure one cell: a round that is not counted, then those that are."""
        seconds = self.share()
        rounds, at = 1, -1
        while at < rounds:
            began = time.monotonic()
            first = at % len(ends)  # nobody is always the first
            for key, process, client in ends[first:] + ends[:first]:
                before = process.ask("cpu")["cpu"]
                result = client.ask("echo", key=key, size=size, count=count)
                after = process.ask("cpu")["cpu"]
                if at >= 0:
                    cpu = [b - a for a, b in zip(before, after, strict=True)]
                    cell.add(process, cpu, result["messages"])
            if at < 0:
                took = time.monotonic() - began
                rounds, count = plan(
                    seconds - took, took, count, most_rounds=self.options.rounds, least=least
                )
            at += 1
        self.done(cell)

    def calls(self) -> None:
        """Measure the calls of a loop; aiofastnet has none of its own."""
        for what in CALLS:
            if not self.wanted(what):
                continue
            cell = Cell(what)
            count = CALL_COUNTS[what] // (5 if self.options.quick else 1)
            seconds = self.share()
            rounds, at = 1, 0
            while at < rounds:
                began = time.monotonic()
                for process in self.under_test:
                    if process.peer != "aiofastnet":
                        result = process.ask("call", what=what, count=count)
                        cell.add(process, result["cpu"], count)
                if at == 0:
                    # of no fewer calls: what a million timers cost depends on their number
                    rounds, _ = plan(
                        seconds,
                        time.monotonic() - began,
                        count,
                        most_rounds=self.options.rounds,
                        least=count,
                    )
                at += 1
            self.done(cell)

    def done(self, cell: Cell) -> None:
        """Show a cell."""
        self.cells.append(cell)
        print(cell.row(), flush=True)

    def run(self) -> None:
        """Measure everything."""
        self.began = time.monotonic()
        self.calls()
        for kind, carrier, connections in self.rows():
            self.echo(kind, carrier, connections)

    def report(self) -> dict[str, Any]:
        """Return everything for the file."""
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=HERE,
            text=True,
            capture_output=True,
            check=False,
        ).stdout.strip()
        return {
            "commit": commit,
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load": os.getloadavg(),
            "openssl": self.opposite.facts["openssl"],
            "versions": {p.peer: p.facts["version"] for p in self.under_test},
            "tuned": TUNED,
            "cells": {cell.name: cell.rounds for cell in self.cells},
        }


def sum_up(cells: list[Cell]) -> str:
    """Return what the echo cells with Protocols came to, in a sentence."""
    echoes = [
        statistics.median(c.ratios(c.best())) for c in cells if c.name.startswith(("TCP", "TLS"))
    ]
    if not echoes:
        return "no echo with Protocols was measured"
    lost = sum(ratio < 1.0 for ratio in echoes)
    return (
        f"echo: median x{statistics.median(echoes):.2f}, least x{min(echoes):.2f}; "
        f"{lost} of {len(echoes)} cells below 1.0"
    )


def markdown(cells: list[Cell], report: dict[str, Any], verdict: str) -> str:
    """Return the table, with what it was measured on."""
    versions = ", ".join(report["versions"].values())
    lines = [
        "# Loops compared",
        "",
        "Written by `python benchmarks/loop_echo.py --table`; do not edit.  CPU microseconds of",
        "one message, or of one call, user and system, median of the rounds.  The ratio is the CPU",
        "time of the best of the others divided by ours in the same round, median (least to most):",
        "above 1 is where we win.  Of a call it is uvloop's, and 2 is wanted; of UDP 1.",
        "",
        f"Commit {report['commit']}, {report['when']}, {report['openssl']}, load of the machine",
        f"{report['load'][0]:.1f}.  {versions}.",
        "",
        f"{verdict}.",
        "",
        "| cell | rounds | user | system | ratio | best of the others | "
        + " | ".join(peer for peer in report["versions"] if peer != "reactor")
        + " |",
        "|---|---:|---:|---:|---:|---|" + "---:|" * (len(report["versions"]) - 1),
    ]
    for cell in cells:
        rounds = cell.rounds["reactor"]
        user, system = (statistics.median(part) for part in zip(*rounds, strict=True))
        best = cell.best()
        if cell.name in CALLS:
            uvloop = [name for name in cell.rounds if name.startswith("uvloop")]
            best = min(uvloop, key=cell.median) if uvloop else best
        ratios = cell.ratios(best)
        theirs = [
            f"{min(medians):.2f}" if medians else ""
            for medians in (
                [cell.median(name) for name in cell.rounds if name.startswith(peer)]
                for peer in report["versions"]
                if peer != "reactor"
            )
        ]
        figures = [
            cell.name,
            str(len(rounds)),
            f"{user:.2f}",
            f"{system:.2f}",
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            best,
            *theirs,
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="take so long, to a minute or two"
    )
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell's name has")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="write the table, in Markdown")
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.quick else 9)
    all_descriptors()
    ca = trustme.CA()
    issued = ca.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    with tempfile.NamedTemporaryFile(suffix=".pem") as certificate:
        certificate.write(issued + ca.cert_pem.bytes())
        certificate.flush()
        benchmark = Benchmark(options, certificate.name)
        print(f"{'cell':38} {'user':>7} {'system':>7}  best of the others / ours (min-max)")
        benchmark.run()
    report = benchmark.report()
    verdict = sum_up(benchmark.cells)
    print(verdict)
    print(report["commit"], report["openssl"], report["versions"], "load", report["load"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.table:
        options.table.write_text(markdown(benchmark.cells, report, verdict))
    for process in [*benchmark.under_test, benchmark.opposite]:
        process.end()


if __name__ == "__main__":
    main()

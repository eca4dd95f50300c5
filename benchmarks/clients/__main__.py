"""HTTP clients compared: one command, all peers in turns against one nginx.

The client under test has a process of its own on one core, nginx runs on the other.  In each
round every client does every row once, in an order that turns from round to round.  The bytes
are verified in every client.  The figure is the CPU time of the client's process for a request
or a MB, user and system; a ratio is a peer's CPU time divided by ours in the same round: above 1
is where we win.  A Python peer runs with a tuned malloc, too, in the first round, and in all
others where that made it faster; the better of the two counts.  Ours runs with malloc as it
comes.

usage: python benchmarks/clients [--quick] [--rounds 5] [--minutes N] [--only ROW,ROW]
           [--peers NAME,NAME] [--json FILE] [--table FILE.md] [--chart FILE.svg] [--read FILE.json]
Needs nginx, wrk and curl (Debian: nginx-light, wrk, curl) and the ``bench`` extra; a peer that is
not there is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    # at the end: what is installed goes before the sources
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.clients import report
from benchmarks.clients.children import Clients, FailedError, missing
from benchmarks.clients.results import Results
from benchmarks.clients.rows import CLIENTS, OURS, ROWS, Client, Row
from benchmarks.clients.server import Server

PRIORITY = -5
LARGE_BYTES = 1 << 30
QUICK_LARGE_BYTES = 64 << 20
SECONDS = 0.5
QUICK_SECONDS = 0.2
HELPS = 0.95  # a tuned malloc goes on where it brought CPU time down to this part
TUNED = ", tuned"


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/clients", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no round that would end later"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small counts, files of 64 MiB, no tuned malloc"
    )
    parser.add_argument("--only", default="", help=f"rows of {', '.join(ROWS)}, or beginnings")
    parser.add_argument("--peers", default="", help=f"of {', '.join(CLIENTS)}; ours always")
    parser.add_argument("--json", type=Path, help="write the result")
    parser.add_argument("--table", type=Path, help="write the tables, in Markdown")
    parser.add_argument("--chart", type=Path, help="write the chart, SVG (needs matplotlib)")
    parser.add_argument("--read", type=Path, help="show an earlier result, measure nothing")
    options = parser.parse_args(arguments)
    for option, given, known in (
        ("--only", options.only, ROWS),
        ("--peers", options.peers, CLIENTS),
    ):
        for word in given.split(",") if given else ():
            if not any(_is_meant(name, word) for name in known):
                parser.error(f"{option}: no {word!r} in {', '.join(known)}")
    return options


def _is_meant(name: str, word: str) -> bool:
    """Return whether a word of the command line means a row or client, or several like it."""
    return name == word or name.startswith((f"{word}-", f"{word},"))


def rows_of(only: str) -> dict[str, Row]:
    """Return the rows that are wanted."""
    words = only.split(",")
    return {
        name: row
        for name, row in ROWS.items()
        if not only or any(_is_meant(name, word) for word in words)
    }


def clients_of(peers: str, results: Results) -> dict[str, Client]:
    """Return the clients that are wanted and can be measured; the others go into *results*."""
    words = peers.split(",")
    clients = {}
    for name, client in CLIENTS.items():
        if peers and client.driver != OURS and not any(_is_meant(name, word) for word in words):
            continue
        reason = missing(name, client)
        if reason and client.driver != OURS:
            results.absent[name] = reason
        else:
            clients[name] = client
    return clients


def raise_priority() -> str:
    """Raise the priority of this process and its children; return what came of it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        return f"nice {os.getpriority(os.PRIO_PROCESS, 0)} for all: not permitted to raise it"
    return f"nice {PRIORITY} for server and clients alike"


def may_be_tuned(row: str, client: Client) -> bool:
    """Return whether a client is measured with a tuned malloc, too."""
    return ROWS[row].malloc and client.driver not in ("", OURS)


def measure_cell(
    clients: Clients, results: Results, row: str, name: str, client: Client, tunes: bool
) -> None:
    """Measure a client in a row for one round, with a tuned malloc where that may help."""
    variants = [name]
    tuned = name + TUNED
    if tunes and may_be_tuned(row, client) and results.goes_on(row, name, HELPS):
        variants.append(tuned)
    for cell in variants:
        try:
            results.add(row, cell, clients.measure(name, client, ROWS[row], cell == tuned))
        except (FailedError, ValueError) as error:
            results.add(row, cell, None)
            results.failures[f"{row}: {cell}"] = str(error)
            print(f"{row}: {cell}: {error}", file=sys.stderr)


def measure(options: argparse.Namespace) -> Results:
    """Measure all rounds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # nginx inherits it
    cores = sorted(os.sched_getaffinity(0))
    results = Results()
    results.note(options.rounds, options.quick, raise_priority(), cores[0], cores[-1])
    wanted = clients_of(options.peers, results)
    rows = rows_of(options.only)
    large = QUICK_LARGE_BYTES if options.quick else LARGE_BYTES
    seconds = QUICK_SECONDS if options.quick else SECONDS
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name,
        Server(Path(name), cores[0], large) as server,
    ):
        clients = Clients(server, cores[-1], seconds)
        results.versions = clients.versions
        began = time.monotonic()
        for number in range(options.rounds):
            each = (time.monotonic() - began) / max(number, 1)
            if number and each * (number + 1) > options.minutes * 60:
                results.about["rounds"] = f"{number} of {options.rounds}: no time for more"
                break
            for row in rows:
                cells = [cell for cell in rows[row].cells if cell in wanted]
                turn = number % len(cells)
                for cell in cells[turn:] + cells[:turn]:
                    measure_cell(clients, results, row, cell, wanted[cell], not options.quick)
                print(f"round {number + 1}: {row}", file=sys.stderr)
            if options.json:
                write(results, options.json)
    results.end()
    return results


def write(results: Results, path: Path) -> None:
    """Write the result; after each round, so that what has been measured is not lost."""
    path.write_text(json.dumps(results.to_json(), indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Measure or read, and show; return the exit status."""
    options = options_of(arguments)
    if options.read:
        results = Results.from_json(json.loads(options.read.read_text()))
    else:
        results = measure(options)
    print(report.text(results))
    if options.json:
        write(results, options.json)
    if options.table:
        options.table.write_text(report.markdown(results))
    if options.chart:
        from benchmarks.clients.chart import draw

        draw(results, options.chart)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

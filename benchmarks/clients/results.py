"""What a run of the suite found, as it is written and read again.

Owns: the runs of each cell in the order of the rounds, and what they ran on.  Touches nothing
but what the machine says of itself.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import platform
import ssl
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.clients.figures import Run, growth, ratios, spread
from benchmarks.clients.rows import OURS, ROWS, TARGETS, Target

TUNED = ", tuned"


@dataclass
class Results:
    """The runs of all rounds.

    Attributes:
        about: what it ran on and how.
        runs: by row, by cell, one for each round; "NAME, tuned" with a tuned malloc.
        costs_ns: by feature, one for each round.
        absent: clients that are not there, and why.
        failures: cells that failed, and how.
    """

    about: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, dict[str, list[Run | None]]] = field(default_factory=dict)
    costs_ns: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    # -- while it runs -------------------------------------------------------------------

    def note(self, rounds: int, quick: bool, priority: str, server: int, client: int) -> None:
        """Write down what it runs on."""
        from benchmarks.clients.children import version_of_program

        info = Path("/proc/cpuinfo").read_text()
        model = [
            line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line
        ]
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        self.about = {
            "begun": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "commit": commit or "?",
            "rounds": rounds,
            "quick": quick,
            "priority": priority,
            "cores": f"server on {server}, client on {client}",
            "load": f"{os.getloadavg()[0]:.2f}",
            "processor": f"{os.cpu_count()} x {model[0] if model else platform.machine()}",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            **{name: version_of_program(name) for name in ("nginx", "wrk", "curl")},
        }

    def end(self) -> None:
        """Write down when it was over."""
        now = dt.datetime.now(dt.UTC)
        self.about["ended"] = now.isoformat(timespec="seconds")
        self.about["load at the end"] = f"{os.getloadavg()[0]:.2f}"

    def add(self, row: str, cell: str, run: Run | dict[str, float] | None) -> None:
        """Keep one run, or what features cost in one round."""
        if isinstance(run, dict):
            for name, cost in run.items():
                self.costs_ns.setdefault(name, []).append(cost)
        else:
            self.runs.setdefault(row, {}).setdefault(cell, []).append(run)

    def goes_on(self, row: str, name: str, helps: float) -> bool:
        """Return whether a tuned malloc is measured in this round: the first, or it helped."""
        cells = self.runs.get(row, {})
        tuned = cells.get(name + TUNED)
        if not tuned:
            return True
        plain = cells[name][0]
        return tuned[0] is not None and plain is not None and tuned[0].cpu < helps * plain.cpu

    # -- afterwards ----------------------------------------------------------------------

    def judged(self, row: str, name: str) -> str:
        """Return the cell by which a client is judged: with the malloc that served it better."""
        cells = self.runs.get(row, {})
        tuned = cells.get(name + TUNED, [])
        if len(tuned) < len(cells.get(name, [])) or not tuned:
            return name
        return min((name, name + TUNED), key=lambda cell: _median_cpu(cells[cell]))

    def ratios(self, row: str, name: str, ours: str = OURS) -> list[float]:
        """Return a client's CPU time divided by ours, of each round."""
        cells = self.runs.get(row, {})
        return ratios(cells.get(self.judged(row, name), []), cells.get(ours, []))

    def figures(self, target: Target) -> list[float]:
        """Return what a target is held against, of each round in which it was measured."""
        cells = self.runs.get(target.row, {})
        if target.kind == "cost":
            return self.costs_ns.get(target.peer, [])
        if target.kind == "cpu":
            return self.ratios(target.row, target.peer, target.ours)
        if target.kind == "p50":
            pairs = zip(cells.get(target.ours, []), cells.get(target.peer, []), strict=False)
            return [one.p50 / other.p50 for one, other in pairs if one and other]
        few = self.runs.get("connections-10", {})
        return growth(
            (few.get(target.ours, []), cells.get(target.ours, [])),
            (few.get(target.peer, []), cells.get(target.peer, [])),
        )

    def verdicts(self) -> list[tuple[Target, str, bool]]:
        """Return each target that was measured, its figures as text, and whether it is met."""
        found = []
        for target in TARGETS:
            figures = self.figures(target)
            if figures:
                middle = statistics.median(figures)
                met = middle >= target.bound if target.kind == "cpu" else middle <= target.bound
                found.append((target, str(spread(figures)), met))
        return found

    def losses(self) -> list[str]:
        """Return where a client needs less CPU than ours does, by the median of the ratios."""
        lost = []
        for row, cells in self.runs.items():
            for name in cells:
                if name.endswith(TUNED) or name.startswith(OURS):
                    continue
                found = self.ratios(row, name)
                if found and statistics.median(found) < 1:
                    lost.append(f"{ROWS[row].title}: {self.judged(row, name)}, {spread(found)}")
        return lost

    # -- as JSON -------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what ``json`` can write; NaN is null there."""
        runs = {
            row: {
                cell: [
                    None
                    if run is None
                    else {
                        name: None if math.isnan(value) else round(value, 4)
                        for name, value in asdict(run).items()
                    }
                    for run in each
                ]
                for cell, each in cells.items()
            }
            for row, cells in self.runs.items()
        }
        return {
            "about": self.about,
            "versions": self.versions,
            "absent": self.absent,
            "failures": self.failures,
            "runs": runs,
            "costs_ns": self.costs_ns,
            "ratios": {
                row: {
                    name: asdict(spread(self.ratios(row, name)))
                    for name in cells
                    if not name.endswith(TUNED) and self.ratios(row, name)
                }
                for row, cells in self.runs.items()
            },
            "targets": [
                {**asdict(target), "figures": text, "met": met}
                for target, text, met in self.verdicts()
            ],
        }

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Self:
        """Return what ``to_json`` wrote."""
        results = cls(
            about=read["about"],
            costs_ns=read["costs_ns"],
            absent=read["absent"],
            failures=read["failures"],
            versions=read["versions"],
        )
        for row, cells in read["runs"].items():
            for cell, each in cells.items():
                for run in each:
                    results.add(
                        row,
                        cell,
                        None
                        if run is None
                        else Run(**{k: math.nan if v is None else v for k, v in run.items()}),
                    )
        return results


def _median_cpu(runs: list[Run | None]) -> float:
    return statistics.median([run.cpu for run in runs if run is not None] or [math.inf])

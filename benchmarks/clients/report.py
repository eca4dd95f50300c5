"""The tables of a run, as text and in Markdown.  Touches nothing."""

from __future__ import annotations

import math
import statistics

from benchmarks.clients.figures import Run, spread
from benchmarks.clients.results import TUNED, Results
from benchmarks.clients.rows import MISSING, OURS, ROWS

__all__ = ["markdown", "text"]

Line = tuple[str, ...]
HEAD = ("user", "system", "CPU", "least", "x ours", "p50", "p99", "MiB")


def _figure(runs: list[Run], name: str, digits: int = 2) -> str:
    middle = statistics.median(getattr(run, name) for run in runs)
    return "" if math.isnan(middle) else f"{middle:,.{digits}f}"


def _lines(results: Results, row: str) -> list[Line]:
    """Return a line for each cell of a row."""
    lines = []
    for cell, all_runs in results.runs[row].items():
        runs = [run for run in all_runs if run is not None]
        name = cell.removesuffix(TUNED)
        if not runs:
            lines.append((cell, *("failed" if column == "CPU" else "" for column in HEAD)))
            continue
        judged = cell == results.judged(row, name)
        once = f" ({len(runs)} of {len(results.runs[row][name])})"
        found = results.ratios(row, name) if judged else []
        lines.append(
            (
                cell + (once if len(runs) < len(results.runs[row][name]) else ""),
                _figure(runs, "user"),
                _figure(runs, "system"),
                _figure(runs, "cpu"),
                f"{min(run.cpu for run in runs):,.2f}",
                str(spread(found)) if found and cell != OURS else "",
                _figure(runs, "p50", 0),
                _figure(runs, "p99", 0),
                _figure(runs, "peak_mib", 0),
            )
        )
    return lines


def _features(results: Results) -> list[Line]:
    return [(name, f"{spread(costs)} ns") for name, costs in results.costs_ns.items()]


def _targets(results: Results) -> list[Line]:
    return [
        (
            ROWS[target.row].title,
            target.text,
            figures,
            f"{'at least' if target.kind == 'cpu' else 'at most'} {target.bound:.2f}",
            "met" if met else "MISSED",
        )
        for target, figures, met in results.verdicts()
    ]


def _versions(results: Results) -> str:
    each = {name: version for names in results.versions.values() for name, version in names.items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(each.items()))


def _about(results: Results) -> list[str]:
    lines = [f"{name}: {value}" for name, value in results.about.items()]
    lines.append(f"versions: {_versions(results)}")
    lines += [f"absent: {name}: {reason}" for name, reason in results.absent.items()]
    lines += [f"failed: {name}: {reason}" for name, reason in results.failures.items()]
    lines += [f"missing: {name}: {reason}" for name, reason in MISSING.items()]
    return lines


def _table(head: Line, lines: list[Line]) -> list[str]:
    """Return columns in line, the first two to the left."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return [
        "  ".join(
            each.ljust(width) if number == 0 else each.rjust(width)
            for number, (each, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *lines)
    ]


def text(results: Results) -> str:
    """Return everything for a terminal."""
    parts = _about(results)
    for row in results.runs:
        parts += ["", f"{ROWS[row].title}: CPU microseconds a {ROWS[row].unit}"]
        parts += _table(("", *HEAD), _lines(results, row))
        parts += [ROWS[row].note] if ROWS[row].note else []
    if results.costs_ns:
        parts += ["", "What a feature costs, ns of CPU time a request"]
        parts += _table(("feature", "cost"), _features(results))
    targets = _targets(results)
    if targets:
        parts += ["", "Targets"]
        parts += _table(("row", "wanted", "found", "bound", ""), targets)
    parts += ["", "Where we lose", *(results.losses() or ["nowhere"])]
    return "\n".join(parts)


def _markdown_table(head: Line, lines: list[Line]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(line) + " |" for line in lines),
    ]


def markdown(results: Results) -> str:
    """Return everything as a page of Markdown."""
    parts = ["# HTTP clients compared", ""]
    parts += ["Written by `python benchmarks/clients --table`; do not edit.  CPU time of the"]
    parts += ["client's process in microseconds, median of the rounds (and the least); ratios are"]
    parts += [
        "the client's CPU divided by ours in the same round, median (least to most): above 1 is"
    ]
    parts += ["where we win.", ""]
    parts += ["## Targets", ""]
    parts += _markdown_table(("row", "wanted", "found", "bound", ""), _targets(results))
    parts += ["", "## Where we lose", ""]
    parts += [f"- {line}" for line in results.losses() or ["nowhere"]]
    for row in results.runs:
        unit = f"CPU microseconds a {ROWS[row].unit}.  {ROWS[row].note}".rstrip()
        parts += ["", f"## {ROWS[row].title}", "", unit, ""]
        parts += _markdown_table(("client", *HEAD), _lines(results, row))
    if results.costs_ns:
        parts += ["", "## What a feature costs", ""]
        parts += _markdown_table(("feature", "ns of CPU time a request"), _features(results))
    parts += ["", "## Ran on", "", *(f"- {line}" for line in _about(results))]
    return "\n".join(parts) + "\n"

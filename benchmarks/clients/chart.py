"""The chart of a run: in each row, how many times our CPU time a client needs.

Needs matplotlib.  Writes a file and nothing else.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl

from benchmarks.clients.figures import Spread, spread
from benchmarks.clients.results import TUNED, Results
from benchmarks.clients.rows import OURS, ROWS

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

__all__ = ["draw"]

WIN, LOSS, OWN = "#3a7ca5", "#c8553d", "#8a8a8a"
SCALE_TITLE = "GET, more and more connections kept"
NARROW = 30  # times ours: so far, 2 and 5 are on the scale, too
BAR_INCHES = 0.24
MAX_COLUMNS = 2


def bars_of(results: Results) -> dict[str, list[tuple[str, Spread]]]:
    """Return the bars of each panel, by its title, the most first.

    The rows of more and more connections share one.
    """
    panels: dict[str, list[tuple[str, Spread]]] = {}
    for row, cells in results.runs.items():
        scale = row.startswith("connections-")
        bars = panels.setdefault(SCALE_TITLE if scale else ROWS[row].title, [])
        for name in cells:
            found = spread(results.ratios(row, name))
            if name != OURS and not name.endswith(TUNED) and not math.isnan(found.median):
                label = results.judged(row, name)
                bars.append((f"{label}, {ROWS[row].connections:,}" if scale else label, found))
        if not scale:
            bars.sort(key=lambda bar: -bar[1].median)
    return {title: bars for title, bars in panels.items() if bars}


def draw(results: Results, path: Path) -> None:
    """Draw the ratios of each row, with the least and the most as whiskers."""
    rows = bars_of(results)
    columns = min(MAX_COLUMNS, len(rows)) or 1
    lines = math.ceil(len(rows) / columns) or 1
    heights = [
        max(len(bars) for bars in list(rows.values())[line * columns : (line + 1) * columns]) + 2
        for line in range(lines if rows else 0)
    ] or [1]
    plt.rcParams.update({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": "cyreactor"})
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(5.2 * columns, BAR_INCHES * sum(heights) + 0.7),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    axes = list(grid.flat)
    for axis, (title, bars) in zip(axes, rows.items(), strict=False):
        middles = [each.median for _, each in bars]
        colours = [
            OWN if name.startswith(OURS) else LOSS if each.median < 1 else WIN
            for name, each in bars
        ]
        whiskers = [
            [each.median - each.least for _, each in bars],
            [each.most - each.median for _, each in bars],
        ]
        axis.barh(
            range(len(bars)), [middle - 1 for middle in middles], left=1, color=colours, height=0.7
        )
        axis.errorbar(
            middles, range(len(bars)), xerr=whiskers, fmt="none", ecolor="#333333", elinewidth=0.8
        )
        axis.set_yticks(range(len(bars)), [name for name, _ in bars])
        axis.set_xscale("log")
        axis.axvline(1, color="#333333", linewidth=0.8)
        least = min(0.7, *(each.least for _, each in bars))
        most = max(each.most for _, each in bars)
        axis.set_xlim(least * 0.85, max(2.0, most * 2))
        narrow = most < NARROW
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
        for place, (_, each) in enumerate(bars):
            axis.text(
                max(1, each.most) * 1.06, place, f"{each.median:.2f}", va="center", fontsize=7
            )
        axis.set_title(title, fontsize=9, loc="left")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    figure.suptitle(
        "CPU time of HTTP clients as a multiple of cyreactor's (1 = ours; red: we lose)",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)

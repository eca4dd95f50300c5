"""The chart of a run: in each row, how many times our CPU time a client needs.

Needs matplotlib.  Writes a file and nothing else.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl

from benchmarks.clients.figures import spread
from benchmarks.clients.results import TUNED, Results
from benchmarks.clients.rows import OURS, ROWS

mpl.use("svg")
from matplotlib import pyplot as plt

__all__ = ["draw"]

WIN, LOSS = "#3a7ca5", "#c8553d"
BAR_INCHES = 0.24
MAX_COLUMNS = 2


def draw(results: Results, path: Path) -> None:
    """Draw the ratios of each row, with the least and the most as whiskers."""
    rows = {}
    for row, cells in results.runs.items():
        names = [name for name in cells if name != OURS and not name.endswith(TUNED)]
        found = {name: spread(results.ratios(row, name)) for name in names}
        found = {name: each for name, each in found.items() if not math.isnan(each.median)}
        if found:
            rows[row] = sorted(found.items(), key=lambda item: -item[1].median)
    columns = min(MAX_COLUMNS, len(rows)) or 1
    lines = math.ceil(len(rows) / columns) or 1
    heights = [
        max(len(bars) for bars in list(rows.values())[line * columns : (line + 1) * columns]) + 2
        for line in range(lines if rows else 0)
    ] or [1]
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "cyreactor"})
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(5.2 * columns, BAR_INCHES * sum(heights) + 0.7),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    axes = list(grid.flat)
    for axis, (row, bars) in zip(axes, rows.items(), strict=False):
        middles = [each.median for _, each in bars]
        colours = [LOSS if middle < 1 else WIN for middle in middles]
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
        axis.set_yticks(range(len(bars)), [results.judged(row, name) for name, _ in bars])
        axis.set_xscale("log")
        axis.axvline(1, color="#333333", linewidth=0.8)
        least = min(0.7, *(each.least for _, each in bars))
        most = max(each.most for _, each in bars)
        axis.set_xlim(least * 0.85, max(2.0, most * 2))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
        for place, (_, each) in enumerate(bars):
            axis.text(each.most * 1.06, place, f"{each.median:.2f}", va="center", fontsize=7)
        axis.set_title(ROWS[row].title, fontsize=9, loc="left")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    figure.suptitle(
        "CPU time of HTTP clients, as a multiple of cyreactor's (1 = ours; red: we lose)",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)

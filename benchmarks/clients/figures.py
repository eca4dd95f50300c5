"""The arithmetic of the suite: what was measured, what wrk said, and ratios.

Touches nothing outside.  A cell is the name of a client in a row; its runs are one for each
round, ``None`` where it failed.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Run", "Said", "Spread", "mean_us", "percentile", "ratios", "read_wrk", "spread"]

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


@dataclass(frozen=True)
class Run:
    """What one client did in one round.

    Attributes:
        user, system: CPU microseconds of its process for a unit (a request; a MB).
        units: how many were measured.
        p50, p99: microseconds from request to response; NaN where it is not looked at.
        peak_mib: the most memory that its process had, interpreter and imports included.
    """

    user: float
    system: float
    units: float
    p50: float
    p99: float
    peak_mib: float

    @property
    def cpu(self) -> float:
        """User and system together."""
        return self.user + self.system


Runs = Sequence[Run | None]


@dataclass(frozen=True)
class Spread:
    """The least, the median and the most of some figures."""

    least: float
    median: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def spread(figures: Iterable[float]) -> Spread:
    """Return the least, the median and the most; NaN of nothing."""
    ordered = sorted(figures)
    if not ordered:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(ordered[0], statistics.median(ordered), ordered[-1])


def mean_us(seconds: float, units: float) -> float:
    """Return microseconds for a unit."""
    return seconds / units * 1e6


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the least figure that so large a part (0 to 1) of *ordered* does not exceed."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)]


def ratios(above: Runs, below: Runs) -> list[float]:
    """Return CPU divided by CPU of each round in which there are both."""
    pairs = zip(above, below, strict=False)
    return [one.cpu / other.cpu for one, other in pairs if one is not None and other is not None]


def growth(ours: Sequence[Runs], theirs: Sequence[Runs]) -> list[float]:
    """Return how many times more our CPU grew than theirs, of each round.

    Both are a client's runs with few connections and its runs with many.
    """
    few = ratios(ours[0], theirs[0])
    many = ratios(ours[1], theirs[1])
    return [more / less for more, less in zip(many, few, strict=False)]


@dataclass(frozen=True)
class Said:
    """What wrk printed."""

    requests: int
    received_bytes: float
    p50: float
    p99: float
    wrong: str  # errors, "" for none


def read_wrk(text: str) -> Said:
    """Read the output of ``wrk --latency``.

    Time-outs are no error: wrk counts the responses that took longer than two seconds, as they
    do where thousands connect at once.
    """
    done = re.search(r"(\d+) requests in [\d.]+\w+, ([\d.]+)([KMGT]?B) read", text)
    if done is None:
        raise ValueError(f"wrk said: {text}")
    wrong = re.findall(r"Non-2xx or 3xx responses: \d+", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+)", text)
    if errors is not None and any(int(number) for number in errors.groups()):
        wrong.append(errors[0])
    times = [
        float(found[1]) * MICROSECONDS[found[2]] if found else math.nan
        for found in (
            re.search(rf"^ +{part}% +([\d.]+)(\w+)", text, re.MULTILINE) for part in (50, 99)
        )
    ]
    received = float(done[2]) * BYTES[done[3]]
    return Said(int(done[1]), received, times[0], times[1], ", ".join(wrong))

"""What the fetcher says: figures, and nothing that a terminal would act upon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocols.http.fetch_report import (
    MAX_FAILURES_LISTED,
    LineReport,
    Report,
    Totals,
    printable,
    rate_in_words,
    size_in_words,
)
from protocols.http.fetch_run import Job


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü", "plain ü"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\r", "a\\nb\\r"),
        ("\u202etxt", "\\u202etxt"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_might_act_upon_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2.5e10, "25.0 GB")],
)
def test_sizes_have_decimal_units(count: float, words: str) -> None:
    assert size_in_words(count) == words


def test_rates_have_decimals_where_they_matter() -> None:
    assert [rate_in_words(rate) for rate in (0.25, 9.5, 1234.5)] == ["0.25", "9.50", "1234"]


def test_summary_of_a_run_that_was_stopped_says_what_is_left() -> None:
    totals = Totals(total=10, requests=4, failed=1, received=2_000_000, seconds=2.0)
    totals.interrupted = "SIGINT"
    totals.opened, totals.reused = 1, 3
    assert totals.as_words() == (
        "stopped by SIGINT, 6 not fetched; done until then:\n"
        "4 requests, 1 failed, 2.0 MB in 2.00 s: 2.00 requests/s, 1.0 MB/s\n"
        "1 connection opened, reused 3 times"
    )


def test_json_summary_lists_so_many_failures_and_counts_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(Totals())
    for number in range(MAX_FAILURES_LISTED + 7):
        report.finished(Job(f"http://host/{number}", error="ResolveError", reason="no"))
    summary = json.loads(report.totals.as_json("1.0"))
    assert summary["failed"] == MAX_FAILURES_LISTED + 7
    assert len(summary["failures"]) == MAX_FAILURES_LISTED
    assert summary["failures_omitted"] == 7
    assert capsys.readouterr().err.count("\n") == MAX_FAILURES_LISTED + 7


def test_line_of_a_saved_body_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    report = LineReport(Totals())
    report.finished(
        Job("http://host/x", status=200, received=1500, path=Path("out/x"), seconds=0.5)
    )
    assert capsys.readouterr().err == "200    1.5 kB  0.500 s  http://host/x -> " + (
        f"{Path('out/x')}\n"
    )
    assert report.totals.is_success


def test_abandoned_body_counts_as_bytes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    report = LineReport(Totals())
    report.abandoned(Job("http://host/x", received=1500))
    assert (report.totals.received, report.totals.requests) == (1500, 0)
    assert capsys.readouterr().err == ""


def test_bars_come_and_go_with_large_downloads() -> None:
    pytest.importorskip("rich")
    from protocols.http.fetch_report import MAX_BARS, MIN_BAR_BYTES, BarReport

    report = BarReport(Totals())
    jobs = [Job(f"http://host/{number}", expected=MIN_BAR_BYTES) for number in range(MAX_BARS + 2)]
    small = Job("http://host/small", expected=MIN_BAR_BYTES - 1)
    for job in (small, *jobs):
        report.begun(job)
    report.tick()
    bars = len(report._progress.tasks) - 1
    assert bars == MAX_BARS
    for job in (small, *jobs):
        report.finished(job)
    report.tick()
    assert len(report._progress.tasks) == 1

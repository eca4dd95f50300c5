"""What is made of the runs: who is judged by which, what is met, and what is written."""

import json

import pytest

from benchmarks.clients.figures import Run
from benchmarks.clients.report import markdown, text
from benchmarks.clients.results import Results


def run(cpu: float, p50: float = 10.0) -> Run:
    return Run(cpu * 0.25, cpu * 0.75, 1000, p50, 99.0, 20.0)


def results_with(row: str, **cells: list[float]) -> Results:
    results = Results()
    for cell, figures in cells.items():
        for figure in figures:
            results.add(row, cell.replace("_", ", "), run(figure))
    return results


def verdicts(results: Results) -> dict[str, bool]:
    return {target.text: met for target, _, met in results.verdicts()}


def test_targets_are_judged_by_the_median_of_the_ratios() -> None:
    results = results_with("get-64", cyreactor=[4, 4, 4], wrk=[5, 4.1, 1], pycurl=[9, 9, 12])
    assert verdicts(results) == {
        "CPU a request at most 1.0 x wrk's": True,
        "at least 2.5 x pycurl's requests per CPU second": False,
    }


def test_a_peer_is_judged_by_the_malloc_that_served_it_better() -> None:
    results = results_with("get-64", cyreactor=[1, 1], aiohttp=[10, 10], aiohttp_tuned=[8, 6])
    assert results.judged("get-64", "aiohttp") == "aiohttp, tuned"
    assert results.ratios("get-64", "aiohttp") == [8, 6]


def test_one_round_with_a_tuned_malloc_judges_nobody() -> None:
    results = results_with("get-64", cyreactor=[1, 1], aiohttp=[10, 10], aiohttp_tuned=[9.9])
    assert results.judged("get-64", "aiohttp") == "aiohttp"
    assert not results.goes_on("get-64", "aiohttp", 0.98)


def test_a_tuned_malloc_is_tried_first_and_goes_on_where_it_helped() -> None:
    assert Results().goes_on("get-64", "aiohttp", 0.98)
    results = results_with("get-64", aiohttp=[10], aiohttp_tuned=[9])
    assert results.goes_on("get-64", "aiohttp", 0.98)


def test_latency_and_features_are_to_stay_below_their_bounds() -> None:
    results = Results()
    results.add("latency", "cyreactor", run(1, p50=21))
    results.add("latency", "wrk", run(1, p50=19))
    results.add("features", "cyreactor", {"cookies": 40.0, "deadline": 140.0})
    assert verdicts(results) == {
        "p50 at most 1.05 x wrk's": False,
        "cookies: at most 100 ns": True,
        "deadline: at most 100 ns": False,
    }


def test_growth_is_from_ten_connections() -> None:
    results = Results()
    for row, ours, wrk in (("connections-10", 4.0, 5.0), ("connections-1000", 5.0, 6.0)):
        results.add(row, "cyreactor", run(ours))
        results.add(row, "wrk", run(wrk))
    assert [figures for _, figures, _ in results.verdicts()] == ["1.04 (1.04 to 1.04)"]


def test_losses_name_who_needs_less() -> None:
    results = results_with("upload", cyreactor=[10, 10], curl=[8, 9], aiohttp=[20, 20])
    assert results.losses() == ["Upload, streamed: curl, 0.85 (0.80 to 0.90)"]


def test_a_failed_cell_is_shown_and_has_no_ratio() -> None:
    results = results_with("upload", cyreactor=[10])
    results.add("upload", "curl", None)
    results.failures["upload: curl"] = "status 7: refused"
    results.absent["wreq"] = "not installed: wreq"
    assert results.losses() == []
    for shown in (text(results), markdown(results)):
        assert "failed: upload: curl: status 7: refused" in shown
        assert "absent: wreq: not installed: wreq" in shown


def test_what_is_written_is_read_again() -> None:
    results = results_with("get-64", cyreactor=[4.0, 4.5], wrk=[5.0, 5.5])
    results.add("download", "curl", Run(1.0, 2.0, 3.0, float("nan"), float("nan"), 4.0))
    results.add("download", "curl", None)
    results.add("features", "cyreactor", {"cookies": 40.0})
    results.about["commit"] = "1234567"
    written = results.to_json()
    read = Results.from_json(json.loads(json.dumps(written, allow_nan=False)))
    assert read.to_json() == written
    assert written["ratios"]["get-64"]["wrk"]["median"] == pytest.approx((5 / 4 + 5.5 / 4.5) / 2)

"""The arithmetic of the suite, and what wrk prints."""

import math

import pytest

from benchmarks.clients.figures import (
    Run,
    growth,
    mean_us,
    percentile,
    ratios,
    read_wrk,
    spread,
)

SAID = """\
Running 1s test @ http://127.0.0.1:8080/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.93ms  407.53us  11.20ms   88.53%
    Req/Sec    33.24k     1.81k   35.03k    90.00%
  Latency Distribution
     50%    1.86ms
     75%    2.03ms
     90%  321.00us
     99%    1.02s
  33045 requests in 1.00s, 10.65MB read
Requests/sec:  33034.56
Transfer/sec:     10.65MB
"""


def run(user: float, system: float = 0.0) -> Run:
    return Run(user, system, 1000, 50.0, 99.0, 20.0)


def test_what_wrk_said_is_read() -> None:
    said = read_wrk(SAID)
    assert said.requests == 33_045
    assert said.received_bytes == pytest.approx(10.65 * 1024 * 1024)
    assert said.p50 == pytest.approx(1_860)
    assert said.p99 == pytest.approx(1_020_000)
    assert said.wrong == ""


def test_wrong_responses_and_broken_connections_are_seen_and_late_ones_are_none() -> None:
    late = SAID + "  Socket errors: connect 0, read 0, write 0, timeout 12\n"
    assert read_wrk(late).wrong == ""
    broken = SAID + "  Socket errors: connect 0, read 3, write 0, timeout 0\n"
    assert read_wrk(broken).wrong == "Socket errors: connect 0, read 3, write 0"
    refused = SAID + "  Non-2xx or 3xx responses: 7\n"
    assert read_wrk(refused).wrong == "Non-2xx or 3xx responses: 7"


def test_output_that_is_not_wrks_raises() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_wrk_without_latencies_has_none() -> None:
    said = read_wrk("  10 requests in 1.00s, 3.30KB read\n")
    assert said.requests == 10
    assert said.received_bytes == pytest.approx(3.3 * 1024)
    assert math.isnan(said.p50)
    assert math.isnan(said.p99)


def test_ratios_are_of_user_and_system_together_round_by_round() -> None:
    assert ratios([run(6.0, 2.0), run(9.0)], [run(1.0, 3.0), run(3.0)]) == [2.0, 3.0]


def test_a_round_in_which_one_failed_has_no_ratio() -> None:
    assert ratios([run(8.0), None, run(9.0)], [run(4.0), run(4.0), None]) == [2.0]
    assert ratios([run(8.0)], []) == []


def test_growth_is_ours_divided_by_theirs() -> None:
    ours = [run(2.0)], [run(3.0)]
    theirs = [run(4.0)], [run(5.0)]
    assert growth(ours, theirs) == [pytest.approx((3 / 2) / (5 / 4))]


def test_spread_is_least_median_and_most() -> None:
    assert str(spread([3.0, 1.0, 2.0, 10.0])) == "2.50 (1.00 to 10.00)"
    assert math.isnan(spread([]).median)


@pytest.mark.parametrize(("part", "figure"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_is_the_nearest_rank(part: float, figure: int) -> None:
    assert percentile(range(1, 101), part) == figure


def test_percentile_of_nothing_is_nan() -> None:
    assert math.isnan(percentile([], 0.5))


def test_mean_is_microseconds_for_a_unit() -> None:
    assert mean_us(0.5, 100_000) == pytest.approx(5.0)

"""The suite itself, quickly, with our own client alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.absent import absent
from tests.peers.nginx import executable

SUITE = Path(__file__).resolve().parents[3] / "benchmarks" / "clients"
ROWS = ["get-64", "blocking", "upload"]
LIMIT_SECONDS = 240  # processes of their own, on a core that others use


def suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SUITE), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers leave nothing to measure")
@pytest.mark.timeout(LIMIT_SECONDS + 10)
def test_our_own_client_is_measured_and_the_result_can_be_shown_again(tmp_path: Path) -> None:
    if executable() is None:
        absent("nginx", "nginx-light")
    file = tmp_path / "result.json"
    options = ["--quick", "--rounds", "1", "--peers", "cyreactor", "--only", ",".join(ROWS)]
    done = suite(*options, "--json", str(file))
    assert done.returncode == 0
    result = json.loads(file.read_text())
    assert result["failures"] == {}
    assert list(result["runs"]) == ROWS
    assert list(result["runs"]["get-64"]) == ["cyreactor", "cyreactor call-backs"]
    for cells in result["runs"].values():
        for (run,) in cells.values():
            assert run["user"] + run["system"] > 0
            assert run["peak_mib"] > 1
    assert result["runs"]["get-64"]["cyreactor"][0]["p50"] > 0
    table = tmp_path / "table.md"
    shown = suite("--read", str(file), "--table", str(table))
    assert shown.returncode == 0
    # The file's figures are rounded, and a figure rounded twice may differ in its last digit.
    assert re.sub(r"[\d.]+", "N", shown.stdout) == re.sub(r"[\d.]+", "N", done.stdout)
    assert "## GET, 64 connections kept" in table.read_text()


@pytest.mark.parametrize("option", ["--only", "--peers"])
def test_what_is_not_in_the_table_is_refused(option: str) -> None:
    assert suite(option, "nothing-of-that-name").returncode == 2

"""A short soak in every run of the suite, so that the long one (``tox -e soak``) stays fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.effort import effort


@pytest.mark.timeout(effort(60, 600))
def test_nothing_is_left_after_many_requests_that_end_in_all_ways() -> None:
    command = [sys.executable, str(Path(__file__).with_name("run.py"))]
    done = subprocess.run(
        [*command, str(effort(600, 100_000)), "--rounds", "3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing leaked" in done.stdout

"""What a test does when a program that it needs is not installed."""

import os
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def absent(program: str, package: str) -> NoReturn:
    """Skip the test, or, in CI, which installs them all, fail it."""
    message = f"{program} is not installed (Debian: apt-get install {package})"
    if IN_CI:
        pytest.fail(message)
    pytest.skip(message)

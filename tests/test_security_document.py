"""docs/security.md names, for each class of flaw, tests; they must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "security.md"

pytestmark = pytest.mark.skipif(not DOCUMENT.exists(), reason="the documentation is not here")

NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    """Return the rows of the document's tables, without their heads."""
    return [
        line
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| what went wrong")
    ]


def test_every_row_names_a_test_and_each_test_exists() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert row.count("|") == 5, row
        assert NAMED.search(row), f"no test: {row}"
    missing = []
    for file, name in NAMED.findall(DOCUMENT.read_text()):
        path = ROOT / "tests" / file
        if not path.exists() or not re.search(rf"def {name}\(", path.read_text()):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_row_has_a_number_or_says_that_there_is_none() -> None:
    for row in rows():
        number = row.split("|")[2]
        assert re.search(r"CVE-20\d\d-\d{4,}", number) or "number" in number, row


def test_every_project_of_the_catalogue_is_there() -> None:
    text = DOCUMENT.read_text()
    for project in ("urllib3", "requests", "aiohttp", "httpx", "h11", "curl", "Twisted"):
        assert re.search(rf"{project} (?:CVE-\d+-\d+(?:, )?)+", text), project

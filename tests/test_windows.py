"""The list of what does not run on Windows: it names tests that there are."""

import re
import sys

import pytest

from tests.windows import FILES, HERE, TESTS, WINE, reason_for


def test_every_name_on_the_list_is_of_a_file_or_test_that_there_is() -> None:
    for place in FILES:
        assert (HERE / place).exists(), place
    for name in [*TESTS, *WINE]:
        place, _, function = name.partition("::")
        bare = function.partition("[")[0].rpartition("::")[2]
        assert re.search(rf"\bdef {bare}\(", (HERE / place).read_text()), name


def test_every_name_has_one_reason() -> None:
    assert not TESTS.keys() & WINE.keys()
    assert not any(name.partition("::")[0] in FILES for name in [*TESTS, *WINE])


def test_list_counts_on_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    path = HERE / "reactor" / "pollers" / "test_epoll.py"
    monkeypatch.setattr(sys, "platform", "linux")
    assert reason_for(path) is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert reason_for(path) == "epoll is Linux's"
    assert reason_for(path.with_name("test_iocp.py")) is None

"""Which poller is used: the platform's, or what the environment names, and why not another."""

import sys

import pytest

from reactor.pollers import available_pollers, default_poller, new_poller


def test_every_poller_says_why_it_is_not_there() -> None:
    found = available_pollers()
    assert list(found) == ["epoll", "kqueue", "iocp", "uring", "simulated"]
    assert found["simulated"] == ""
    for name, reason in found.items():
        assert reason == "" or name in reason


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", "epoll"),
        ("darwin", "kqueue"),
        ("freebsd14", "kqueue"),
        ("openbsd7", "kqueue"),
        ("win32", "iocp"),
    ],
)
def test_each_platform_has_its_poller(
    monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
) -> None:
    monkeypatch.delenv("REACTOR_POLLER", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    assert default_poller() == expected


def test_platform_without_a_poller_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REACTOR_POLLER", raising=False)
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(RuntimeError, match="no poller for plan9; REACTOR_POLLER may name one"):
        default_poller()


def test_environment_overrides_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REACTOR_POLLER", "simulated")
    assert type(new_poller()).__name__ == "SimulatedPoller"


def test_unknown_poller_is_named_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REACTOR_POLLER", "select")
    with pytest.raises(ValueError, match="unknown poller 'select'; there is epoll, kqueue"):
        new_poller()


@pytest.mark.parametrize("name", [default_poller(), "simulated"])
def test_optimization_is_for_scale_or_for_speed(name: str) -> None:
    assert type(new_poller(name, optimization="speed")) is type(new_poller(name))
    with pytest.raises(ValueError, match=r"optimization is one of .*, not 'size'"):
        new_poller(name, optimization="size")


def test_poller_that_is_not_for_here_is_refused_with_the_reason() -> None:
    absent = "epoll" if sys.platform == "win32" else "iocp"
    with pytest.raises(RuntimeError, match=f"{absent} is for .*, this is {sys.platform}"):
        new_poller(absent)

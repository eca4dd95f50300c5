"""The check for leaks sees what it is there to see."""

import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.leaks import leaked, live_resources


def test_nothing_new_is_no_leak() -> None:
    before = live_resources()
    assert leaked(before) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed on Linux only")
def test_open_file_is_a_leak_until_it_is_closed(tmp_path: Path) -> None:
    before = live_resources()
    path = tmp_path / "file"
    with path.open("w") as file:
        assert leaked(before) == {f"fd {file.fileno()}": str(path)}
    assert leaked(before) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed on Linux only")
def test_another_socket_under_the_same_number_is_a_leak() -> None:
    first = socket.socket()
    before = live_resources()
    number = first.fileno()
    first.close()
    with socket.socket() as second:
        assert second.fileno() == number
        assert list(leaked(before)) == [f"fd {number}"]


def test_running_thread_is_a_leak_until_it_has_ended() -> None:
    before = live_resources()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert list(leaked(before)) == [f"thread {thread.ident}"]
    stop.set()
    thread.join()
    assert leaked(before) == {}

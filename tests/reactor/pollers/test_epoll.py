"""The epoll poller: the suite of every poller, and what is epoll's own."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reactor.testing.poller_harness import SystemHarness, fill, receive_all, send_all
from tests.reactor.pollers.system_suite import SystemSuite

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


@pytest.fixture
def harness() -> Iterator[SystemHarness]:
    with SystemHarness("epoll") as harness:
        yield harness


class TestEpoll(SystemSuite):
    @staticmethod
    def make() -> SystemHarness:
        return SystemHarness("epoll")


def test_regular_file_is_eperm(harness: SystemHarness, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    fd = harness.keep(os.open(path, os.O_RDONLY))
    op = harness.probe.readable(fd)
    assert not op.submit()
    assert op.result == -errno.EPERM
    assert harness.probe.poller.live_ops == 0


def test_spurious_readiness_is_swallowed(harness: SystemHarness) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    os.write(one, b"stolen")
    assert harness.probe.reap(5) == [op]
    assert os.read(two, 100) == b"stolen"
    assert harness.probe.dispatch() == []
    assert (op.state, op.results) == ("pending", [])
    os.write(one, b"mine")
    harness.run(op)
    assert op.data == b"mine"


def test_number_that_was_closed_behind_the_pollers_back_is_watched_again(
    harness: SystemHarness,
) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    os.write(one, b"x")
    harness.run(op)
    harness.open.remove(two)
    os.close(two)  # not through the poller, which still believes that it watches the number
    harness.close(one)
    pairs = [harness.pair() for _ in range(2)]
    fresh = next(pair for pair in pairs if two in pair)
    peer = fresh[1 - fresh.index(two)]
    op = harness.probe.receive(two)
    op.submit()
    os.write(peer, b"y")
    harness.probe.wait(1)
    assert op.results == [1]


@pytest.mark.parametrize("fresh", [True, False])
def test_number_that_was_closed_under_a_waiting_op_is_not_deaf(
    harness: SystemHarness, fresh: bool
) -> None:
    _, two = harness.pair()
    stale = harness.probe.receive(two)
    stale.submit()
    near, far = socket.socketpair()
    os.dup2(far.fileno(), two)  # which closes it first
    os.set_blocking(two, False)
    far.close()
    assert harness.probe.attach(two, fresh=fresh) == 0
    op = harness.probe.receive(two) if fresh else stale
    if fresh:
        op.submit()
    near.send(b"x")
    harness.probe.wait(1)
    assert op.data == b"x"
    assert stale.results == ([-errno.ECANCELED] if fresh else [1])
    near.close()


def test_duplicate_of_a_closed_descriptor_wakes_nobody(harness: SystemHarness) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    harness.probe.wait(0)
    twin = os.dup(two)
    op.cancel()
    harness.run(op)
    harness.close(two)
    os.write(one, b"x")
    before = harness.probe.returns
    harness.probe.wait(0.02)
    assert harness.probe.returns == before + 1
    os.close(twin)


def test_write_interest_goes_once_nobody_waits_to_write(harness: SystemHarness) -> None:
    one, two = harness.pair()
    send, before = fill(harness, one)
    os.set_blocking(two, True)
    while before > 0:
        before -= len(os.read(two, 1 << 20))
    harness.run(send)
    os.set_blocking(two, False)
    returned = harness.probe.returns
    harness.probe.wait(0.02)
    harness.probe.wait(0.02)
    assert harness.probe.returns == returned + 2
    send_all(harness, two, b"answer")
    assert receive_all(harness, one, 6) == b"answer"


def test_descriptors_are_close_on_exec_and_non_blocking(harness: SystemHarness) -> None:
    listener, address = harness.listener()
    fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
    connect = harness.probe.connect(fd, socket.AF_INET, address)
    connect.submit()
    accept = harness.probe.accept(listener)
    accept.submit()
    harness.run(connect, accept)
    for number in (fd, harness.keep(accept.result)):
        assert not os.get_inheritable(number)
        assert not os.get_blocking(number)

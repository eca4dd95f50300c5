"""The kqueue poller: the suite of every poller, and what is kqueue's own.

On Linux it runs over ``tests/kqueue_on_epoll`` where that was built in (``tox -e kqueue``).
"""

import os
import socket
from collections.abc import Iterator

import pytest

from reactor.pollers import available_pollers
from reactor.testing.poller_harness import SystemHarness, fill, receive_all, send_all
from tests.reactor.pollers.system_suite import SystemSuite

if reason := available_pollers()["kqueue"]:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def harness() -> Iterator[SystemHarness]:
    with SystemHarness("kqueue") as harness:
        yield harness


class TestKqueue(SystemSuite):
    @staticmethod
    def make() -> SystemHarness:
        return SystemHarness("kqueue")


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


def test_write_filter_goes_once_nobody_waits_to_write(harness: SystemHarness) -> None:
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

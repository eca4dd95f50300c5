"""The IOCP poller: the suite of every poller, and what is the completion port's own."""

import errno
import gc
import signal
import socket
from collections.abc import Iterator

import pytest

from reactor.pollers import available_pollers
from reactor.testing.poller_harness import SystemHarness, drain, fill, receive_all, send_all
from reactor.testing.poller_suite import PollerSuite

if reason := available_pollers()["iocp"]:
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def harness() -> Iterator[SystemHarness]:
    with SystemHarness("iocp") as harness:
        yield harness


class TestIocp(PollerSuite):
    pass


class TestSpeed(PollerSuite):
    """A receive that waits has its block already, which is the point of these two."""

    test_idle_connection_holds_no_block = None  # type: ignore[assignment]
    test_a_batch_of_receives_borrows_one_block = None  # type: ignore[assignment]

    @pytest.fixture
    def harness(self) -> Iterator[SystemHarness]:
        with SystemHarness("iocp", "speed") as harness:
            yield harness


@pytest.mark.parametrize(("optimization", "blocks"), [("scale", 0), ("speed", 1)])
def test_receive_that_waits_has_a_block_only_for_speed(optimization: str, blocks: int) -> None:
    with SystemHarness("iocp", optimization) as harness:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        assert harness.pool.in_use == blocks
        send_all(harness, one, b"some")
        harness.run(op)
        assert op.data == b"some"


@pytest.mark.parametrize("optimization", ["scale", "speed"])
@pytest.mark.parametrize("what", ["bytes", "end"])
def test_peek_tells_of_what_a_receive_that_waits_was_given(optimization: str, what: str) -> None:
    with SystemHarness("iocp", optimization) as harness:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        assert harness.probe.peek(two) == 0
        if what == "bytes":
            send_all(harness, one, b"some")
        else:
            harness.probe.shut_down(one)
        while not harness.probe.peek(two):  # but no wait for packets
            pass
        assert op.state == "pending"
        harness.run(op)
        assert bytes(op.data) == (b"some" if what == "bytes" else b"")
        assert harness.probe.peek(two) == (what == "end")


def test_bytes_that_came_before_a_cancel_are_kept_for_speed() -> None:
    with SystemHarness("iocp", "speed") as harness:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        send_all(harness, one, b"some")
        while not harness.probe.reap(5):
            pass
        op.cancel()
        harness.run(op)
        assert op.result == 4
        assert op.data == b"some"


def test_more_packets_than_one_batch_are_all_served(harness: SystemHarness) -> None:
    pairs = [harness.pair() for _ in range(300)]
    ops = [harness.probe.receive(two, 10) for _, two in pairs]
    for op in ops:
        op.submit()
    for one, _ in pairs:
        send_all(harness, one, b"x")
    harness.run(*ops)
    assert all(op.results == [1] for op in ops)


def test_spurious_readiness_is_swallowed(harness: SystemHarness) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    send_all(harness, one, b"stolen")
    while not harness.probe.reap(5):
        pass
    thief = harness.probe.receive(two, 100)
    assert not thief.submit(no_wait=True)
    assert thief.data == b"stolen"
    assert harness.probe.dispatch() == []
    assert (op.state, op.results) == ("pending", [])
    send_all(harness, one, b"mine")
    harness.run(op)
    assert op.data == b"mine"


def test_memory_of_an_op_outlives_a_close_of_its_socket(harness: SystemHarness) -> None:
    _, two = harness.pair()
    op = harness.probe.receive(two, 1000)
    op.submit()
    harness.open.remove(two)
    socket.socket(fileno=two).close()  # not through the poller
    del op
    gc.collect()
    harness.until(lambda: harness.probe.poller.live_ops == 0)


def test_socket_that_was_closed_behind_the_pollers_back_is_associated_anew(
    harness: SystemHarness,
) -> None:
    for _ in range(5):
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        send_all(harness, one, b"x")
        harness.run(op)
        assert op.results == [1]
        for fd in (one, two):
            harness.open.remove(fd)
            socket.socket(fileno=fd).close()


def test_connection_over_ipv6(harness: SystemHarness) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        sock.listen(1)
        address = sock.getsockname()
        listener = harness.adopt(sock)
    accept = harness.probe.accept(listener)
    accept.submit()
    fd = harness.keep(harness.probe.open_socket(socket.AF_INET6, socket.SOCK_STREAM))
    connect = harness.probe.connect(fd, socket.AF_INET6, address)
    connect.submit()
    harness.run(connect, accept)
    assert connect.results == [0]
    assert harness.probe.address_of(harness.keep(accept.result), peer=True)[0] == "::1"
    assert harness.probe.address_of(fd, peer=True)[:2] == address[:2]


def test_cancelled_accept_leaves_the_listener_usable(harness: SystemHarness) -> None:
    listener, address = harness.listener()
    accept = harness.probe.accept(listener)
    for _ in range(3):
        accept.submit()
        accept.cancel()
        harness.run(accept)
    accept.submit()
    fd = harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))
    connect = harness.probe.connect(fd, socket.AF_INET, address)
    connect.submit()
    harness.run(connect, accept)
    assert accept.results[:3] == 3 * [-errno.ECANCELED]
    harness.keep(accept.result)


def test_datagram_socket_is_readable_and_writable(harness: SystemHarness) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert harness.probe.attach(sock.fileno()) == 0
        writable = harness.probe.writable(sock.fileno())
        writable.submit()
        harness.run(writable)
        readable = harness.probe.readable(sock.fileno())
        readable.submit()
        assert harness.probe.wait(0.05) == []
        sock.sendto(b"to myself", sock.getsockname())
        harness.run(readable)
        assert (writable.results, readable.results) == ([0], [0])
        harness.probe.detach(sock.fileno())


def test_vectors_wait_for_room_and_go_in_order(harness: SystemHarness) -> None:
    one, two = harness.pair()
    send, before = fill(harness, one)
    drain(harness, two, before)
    harness.run(send)
    drain(harness, two, send.result)
    op = harness.probe.send(one, [b"one ", b"two ", b"three"])
    op.submit()
    harness.run(op)
    assert receive_all(harness, two, op.result) == b"one two three"[: op.result]


def test_send_without_waiting_is_given_no_more_than_a_limit(harness: SystemHarness) -> None:
    one, two = harness.pair()
    for data in (b"x" * 1_000_000, [b"x" * 100_000] * 10):
        op = harness.probe.send(one, data)
        assert not op.submit(no_wait=True)
        assert 0 < op.result <= 256 * 1024
        drain(harness, two, op.result)


def test_byte_for_the_signal_socket_ends_a_wait(harness: SystemHarness) -> None:
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    wakeup = signal.set_wakeup_fd(harness.probe.wakeup_fd(), warn_on_full_buffer=False)
    try:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            assert harness.probe.wait(None) == []
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)

"""The simulated poller: the suite in each of its modes, its clock and its faults."""

import errno
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from reactor.pollers import available_pollers, new_poller
from reactor.pollers.simulated import Deadlock, SimulatedPoller
from reactor.pool import BlockPool
from reactor.testing.poller_harness import SimulatedHarness, receive_all, send_all
from reactor.testing.poller_suite import PollerSuite

MODES: dict[str, dict[str, Any]] = {
    "inline": {},
    "deferred": {"deferred": True},
    "posted": {"deferred": True, "posted": True},
    "slow": {"latency_seconds": 0.01, "jitter_seconds": 0.01, "segment_bytes": 700},
    "short": {"short_bytes": 3000, "segment_bytes": 3000, "seed": 1},
    "spurious": {"spurious": 0.3, "seed": 2},
    "late": {"deferred": True, "delay_seconds": 0.01, "latency_seconds": 0.002, "seed": 3},
    "awful": {
        "deferred": True, "posted": True, "delay_seconds": 0.003, "jitter_seconds": 0.003,
        "segment_bytes": 900, "short_bytes": 900, "seed": 4,
    },
}  # fmt: skip


@pytest.fixture(params=list(MODES))
def harness(request: pytest.FixtureRequest) -> Iterator[SimulatedHarness]:
    with SimulatedHarness(patience_seconds=5, **MODES[request.param]) as harness:
        yield harness


class TestSimulated(PollerSuite):
    pass


@pytest.fixture
def plain() -> Iterator[SimulatedHarness]:
    with SimulatedHarness() as harness:
        yield harness


def opened(harness: SimulatedHarness) -> int:
    return harness.keep(harness.probe.open_socket(socket.AF_INET, socket.SOCK_STREAM))


def test_simulated_poller_is_only_had_by_name() -> None:
    assert available_pollers()["simulated"] == ""
    assert not isinstance(new_poller(), SimulatedPoller)
    assert isinstance(new_poller("simulated"), SimulatedPoller)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"posted": True}, "only where completion is deferred"),
        ({"spurious": 1.0}, "below 1, not 1.0"),
        ({"spurious": -0.1}, "at least 0 and below 1, not -0.1"),
        ({"delay_seconds": -1}, "delay.* must not be negative"),
        ({"latency_seconds": -1}, "latency.* must not be negative"),
        ({"send_buffer_bytes": 0}, "buffers .* must be at least 1"),
    ],
)
def test_senseless_faults_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimulatedPoller(BlockPool(64, 1), **wrong)


def test_clock_jumps_to_the_next_event() -> None:
    with SimulatedHarness(latency_seconds=0.25) as harness:
        one, two = harness.pair()
        send_all(harness, one, b"x")
        op = harness.probe.receive(two)
        op.submit()
        before = harness.probe.now_ns()
        harness.probe.wait(None)
        assert op.results == [1]
        assert harness.probe.now_ns() - before == 250_000_000


def test_clock_jumps_to_the_timeout(plain: SimulatedHarness) -> None:
    before = plain.probe.now_ns()
    plain.probe.wait(3600)
    assert plain.probe.now_ns() - before == 3600 * 10**9


def test_wait_that_does_not_block_costs_a_microsecond(plain: SimulatedHarness) -> None:
    before = plain.probe.now_ns()
    plain.probe.wait(0)
    assert plain.probe.now_ns() - before == 1000


def test_advance_moves_the_clock_and_the_network() -> None:
    with SimulatedHarness(latency_seconds=1) as harness:
        one, two = harness.pair()
        send_all(harness, one, b"x")
        before = harness.probe.now_ns()
        harness.poller.advance(2)
        assert harness.probe.now_ns() - before == 2 * 10**9
        assert harness.poller.network.readable(two)
        with pytest.raises(ValueError, match="backwards"):
            harness.poller.advance(-1)


def test_deadlock_is_an_error_that_names_who_waits(plain: SimulatedHarness) -> None:
    with pytest.raises(Deadlock, match="waiting: nobody"):
        plain.probe.wait(None)
    one, _ = plain.pair()
    plain.probe.receive(one).submit()
    with pytest.raises(Deadlock, match=f"receive of socket {one}"):
        plain.probe.wait(None)


def test_patience_lets_another_thread_wake_the_wait() -> None:
    with SimulatedHarness(patience_seconds=5) as harness:
        thread = threading.Timer(0.01, harness.probe.wake)
        thread.start()
        assert harness.probe.wait(None) == []
        thread.join()


def test_patience_ends() -> None:
    with SimulatedHarness(patience_seconds=0.01) as harness, pytest.raises(Deadlock):
        harness.probe.wait(None)


def test_two_runs_with_one_seed_are_the_same() -> None:
    def run(seed: int) -> list[tuple[int, int]]:
        with SimulatedHarness(seed=seed, jitter_seconds=1, segment_bytes=50) as harness:
            one, two = harness.pair()
            send_all(harness, one, b"x" * 1000)
            seen, size = [], 0
            while size < 1000:
                op = harness.probe.receive(two)
                op.submit()
                harness.run(op)
                size += op.result
                seen.append((harness.probe.now_ns(), op.result))
            return seen

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_segments_of_one_connection_stay_in_order() -> None:
    with SimulatedHarness(jitter_seconds=1, segment_bytes=3) as harness:
        one, two = harness.pair()
        message = bytes(range(256)) * 4
        send_all(harness, one, message)
        assert receive_all(harness, two, len(message)) == message


def test_connect_takes_a_round_trip() -> None:
    with SimulatedHarness(latency_seconds=0.1) as harness:
        _, address = harness.listener()
        op = harness.probe.connect(opened(harness), socket.AF_INET, address)
        before = harness.probe.now_ns()
        assert op.submit()
        harness.run(op)
        assert op.results == [0]
        assert harness.probe.now_ns() - before == 200_000_000


def test_link_has_a_latency_of_its_own(plain: SimulatedHarness) -> None:
    _, address = plain.listener()
    plain.poller.network.link(address, 0.5)
    op = plain.probe.connect(opened(plain), socket.AF_INET, address)
    before = plain.probe.now_ns()
    op.submit()
    plain.run(op)
    assert plain.probe.now_ns() - before == 1_000_000_000
    plain.poller.network.restore(address)
    again = plain.probe.connect(opened(plain), socket.AF_INET, address)
    assert not again.submit()


def test_refused_address_refuses_although_somebody_listens(plain: SimulatedHarness) -> None:
    _, address = plain.listener()
    plain.poller.network.refuse(address)
    op = plain.probe.connect(opened(plain), socket.AF_INET, address)
    op.submit()
    plain.run(op)
    assert op.result == -errno.ECONNREFUSED
    plain.poller.network.restore(address)
    op.submit()
    plain.run(op)
    assert op.result == 0


def test_black_hole_times_out_after_127_seconds(plain: SimulatedHarness) -> None:
    address = ("192.0.2.1", 80)
    plain.poller.network.black_hole(address)
    op = plain.probe.connect(opened(plain), socket.AF_INET, address)
    before = plain.probe.now_ns()
    op.submit()
    plain.until(lambda: op.state == "idle", step=1000)
    assert op.result == -errno.ETIMEDOUT
    assert plain.probe.now_ns() - before == 127 * 10**9


def test_full_backlog_makes_the_client_knock_again(plain: SimulatedHarness) -> None:
    listener, address = plain.listener(backlog=1)
    first = plain.probe.connect(opened(plain), socket.AF_INET, address)
    first.submit()
    second = plain.probe.connect(opened(plain), socket.AF_INET, address)
    assert second.submit()
    before = plain.probe.now_ns()
    accept = plain.probe.accept(listener)
    accept.submit(try_now=True)
    plain.keep(accept.result)
    plain.run(second)
    assert second.result == 0
    assert plain.probe.now_ns() - before == 10**9


def test_reset_after_so_many_bytes_delivers_exactly_those(plain: SimulatedHarness) -> None:
    one, two = plain.pair()
    plain.poller.network.reset_after(two, 7)
    send_all(plain, one, b"0123")
    send_all(plain, one, b"456789")
    assert receive_all(plain, two, 7) == b"0123456"
    for fd in (one, two):
        op = plain.probe.receive(fd)
        op.submit()
        plain.run(op)
        assert op.result == -errno.ECONNRESET


def test_injected_failures_come_as_often_as_asked_for(plain: SimulatedHarness) -> None:
    one, two = plain.pair()
    network = plain.poller.network
    network.fail("send", errno.ENOBUFS, times=2)
    for expected in (-errno.ENOBUFS, -errno.ENOBUFS, 1):
        op = plain.probe.send(one, b"x")
        op.submit(try_now=True)
        assert op.result == expected
    network.fail("receive", errno.EIO)
    op = plain.probe.receive(two)
    op.submit(try_now=True)
    assert op.result == -errno.EIO
    with pytest.raises(ValueError, match="no call 'recieve'"):
        network.fail("recieve", errno.EIO)


def test_connections_tell_what_is_on_its_way() -> None:
    with SimulatedHarness(send_buffer_bytes=10, receive_buffer_bytes=4) as harness:
        one, two = harness.pair()
        send_all(harness, one, b"0123456789")
        near, far = harness.poller.network.connections
        assert (near.fd, near.peer_fd, near.unread, near.unsent) == (one, two, 0, 6)
        assert (far.fd, far.peer_fd, far.unread, far.unsent) == (two, one, 4, 0)
        assert near.local == far.remote
        assert not near.broken


def test_what_was_sent_before_a_close_arrives_through_a_small_window() -> None:
    with SimulatedHarness(receive_buffer_bytes=3, latency_seconds=0.1) as harness:
        one, two = harness.pair()
        send_all(harness, one, b"all of this")
        harness.close(one)
        assert receive_all(harness, two, 11) == b"all of this"
        op = harness.probe.receive(two)
        op.submit()
        harness.run(op)
        assert op.result == 0


def test_bytes_for_a_closed_socket_reset_the_sender() -> None:
    with SimulatedHarness(latency_seconds=0.1) as harness:
        one, two = harness.pair()
        harness.close(two)
        send_all(harness, one, b"too late")
        op = harness.probe.receive(one)
        op.submit()
        harness.run(op)
        assert op.result == 0
        harness.probe.wait(1)
        op.submit()
        harness.run(op)
        assert op.result == -errno.ECONNRESET


def test_closed_listener_resets_who_was_not_accepted(plain: SimulatedHarness) -> None:
    listener, address = plain.listener()
    fd = opened(plain)
    connect = plain.probe.connect(fd, socket.AF_INET, address)
    connect.submit()
    plain.close(listener)
    op = plain.probe.receive(fd)
    op.submit()
    plain.run(op)
    assert op.result == -errno.ECONNRESET


def test_only_stream_sockets_of_three_families_exist(plain: SimulatedHarness) -> None:
    assert plain.probe.open_socket(socket.AF_INET, socket.SOCK_DGRAM) == -errno.EPROTONOSUPPORT
    assert plain.probe.open_socket(999, socket.SOCK_STREAM) == -errno.EAFNOSUPPORT
    assert plain.probe.attach(3) == -errno.EBADF


class TestReferee:
    """What an owner does against the contract is written down."""

    @pytest.fixture
    def broken(self) -> Iterator[SimulatedHarness]:
        harness = SimulatedHarness()
        with harness:
            yield harness
            assert harness.poller.violations
            harness.poller.violations.clear()

    def test_close_under_a_pending_op(self, broken: SimulatedHarness) -> None:
        one, _ = broken.pair()
        op = broken.probe.receive(one)
        op.submit()
        broken.close(one)
        assert f"socket {one} was closed under receive" in broken.poller.violations[0]
        broken.run(op)
        assert op.result == -errno.ECANCELED

    def test_submit_of_a_live_op(self, broken: SimulatedHarness) -> None:
        one, two = broken.pair()
        op = broken.probe.receive(one)
        op.submit()
        op.submit()
        assert "while it was live" in broken.poller.violations[0]
        send_all(broken, two, b"x")
        broken.run(op)

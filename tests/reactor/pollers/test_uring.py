"""The io_uring poller: the suite of every poller, and what is io_uring's own."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.pollers import available_pollers
from reactor.testing.poller_harness import receive_all, send_all
from tests.reactor.pollers.system_suite import SystemSuite

if reason := available_pollers()["uring"]:
    pytest.skip(reason, allow_module_level=True)

from reactor.pollers.uring import UringPoller
from tests.reactor.pollers.uring_harness import UringHarness, in_thread, open_descriptors

# The least that the kernel makes, on a ring that any thread may enter.
SMALL: dict[str, Any] = {"entries": 1, "completions": 2, "places": 1, "shared": True}

# Every receive without a buffer stands, on a shelf of its usual size and on the least.
STANDING: dict[str, Any] = {"stands_from": 1}
SMALL_STANDING: dict[str, Any] = {"entries": 1, "completions": 2, "places": 1, "stands_from": 1}


@pytest.fixture
def harness() -> Iterator[UringHarness]:
    with UringHarness() as harness:
        yield harness


class TestUring(SystemSuite):
    @staticmethod
    def make() -> UringHarness:
        return UringHarness()


class TestSmallUring(SystemSuite):
    """Where the ring is always full, completions overflow and the shelf is empty."""

    @staticmethod
    def make() -> UringHarness:
        return UringHarness(**SMALL)


class TestStandingUring(SystemSuite):
    """Where bytes are received before anybody asks for them, from the first op on."""

    @staticmethod
    def make() -> UringHarness:
        return UringHarness(**STANDING)


class TestSmallStandingUring(SystemSuite):
    """The same where there is one block for all."""

    @staticmethod
    def make() -> UringHarness:
        return UringHarness(**SMALL_STANDING)


# -- what a ring has only so much of -------------------------------------------------


@pytest.mark.parametrize("places", [1, 4, 64])
def test_receives_without_a_block_on_the_shelf_are_served_all_the_same(places: int) -> None:
    with UringHarness(places=places) as harness:
        pairs = [harness.pair() for _ in range(100)]
        for turn in range(4):
            ops = [harness.probe.receive(two) for _, two in pairs]
            for op in ops:
                op.submit()
            for at, (one, _) in enumerate(pairs):
                os.write(one, b"%d:%d" % (turn, at))
            harness.run(*ops)
            assert [op.data for op in ops] == [b"%d:%d" % (turn, at) for at in range(100)]
        assert harness.pool.aside == min(places, 64)  # it grew with what was asked of it
        assert harness.pool.high_water <= harness.pool.aside


def test_blocks_that_are_kept_do_not_stop_the_others() -> None:
    with UringHarness(places=2) as harness:
        pairs = [harness.pair() for _ in range(6)]
        keepers = [harness.probe.receive(two, keep=True) for _, two in pairs]
        for op in keepers:
            op.submit()
        for one, _ in pairs:
            os.write(one, b"kept")
        harness.run(*keepers)
        assert harness.pool.in_use == 6
        one, two = harness.pair()
        send_all(harness, one, b"x")
        assert receive_all(harness, two, 1) == b"x"
        for op in keepers:
            op.give_back()
        assert harness.pool.in_use == 0


def test_receive_that_found_no_block_and_no_bytes_any_more_waits_again() -> None:
    with UringHarness(places=1) as harness:
        (one, two), (three, four) = harness.pair(), harness.pair()
        first, second = harness.probe.receive(two), harness.probe.receive(four)
        first.submit()
        second.submit()
        os.write(one, b"takes the only block")
        os.write(three, b"or this one does")
        harness.until(lambda: len(harness.probe.reap(1)) == 2)
        late = [each for each in ((first, two, one), (second, four, three)) if taken(each[1])]
        assert len(late) == 1  # the other one's bytes are in the block
        [(op, _, peer)] = late
        harness.probe.dispatch()
        os.write(peer, b"mine")
        harness.run(first, second)
        assert op.data == b"mine"


def taken(fd: int) -> bytes:
    """Return what a descriptor that is not blocking has now."""
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        return b""


def test_more_completions_than_there_is_room_for_are_all_told() -> None:
    with UringHarness(entries=2, completions=2) as harness:
        pairs = [socket.socketpair() for _ in range(300)]
        fds = [(harness.adopt(one), harness.adopt(two)) for one, two in pairs]
        ops = [harness.probe.receive(two, 1) for _, two in fds]
        for op in ops:
            op.submit()
        harness.probe.wait(0)
        for one, _ in fds:
            os.write(one, b"x")
        harness.probe.wake()
        harness.run(*ops)
        assert all(op.results == [1] for op in ops)
        harness.probe.wake()
        assert harness.probe.wait(None) == []


def test_wakes_that_overflow_do_not_deafen_it() -> None:
    with UringHarness(**SMALL) as harness:
        fd = harness.probe.wakeup_fd()
        for turn in range(50):
            os.write(fd, b"s") if turn % 2 else harness.probe.wake()
            assert harness.probe.wait(None) == []
        harness.until(lambda: harness.probe.wait(0) == [])


# -- cancelling ----------------------------------------------------------------------


def test_cancelled_watch_lets_go_of_a_connection_at_once(harness: UringHarness) -> None:
    """A request holds the open file: else the peer would hear of the close at the next wait."""
    near, far = socket.socketpair()
    near.settimeout(5)
    op = harness.probe.readable(far.fileno())
    op.submit()
    harness.probe.wait(0)
    op.cancel()
    assert op.state == "done"
    far.close()
    assert near.recv(1) == b""
    harness.run(op)
    assert op.results == [-errno.ECANCELED]
    near.close()


def test_number_that_is_closed_with_an_op_in_flight_is_closed_for_the_peer(
    harness: UringHarness,
) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two, 10)
    op.submit()
    harness.probe.wait(0)
    harness.close(two)
    assert receive_end(one) == b""
    harness.run(op)
    assert op.results == [-errno.ECANCELED]


def receive_end(fd: int) -> bytes:
    """Return what a descriptor that is not blocking has, waiting for it."""
    os.set_blocking(fd, True)
    try:
        return os.read(fd, 100)
    finally:
        os.set_blocking(fd, False)


def test_bytes_that_came_before_the_cancel_are_the_result(harness: UringHarness) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two, keep=True)
    op.submit()
    harness.probe.wait(0)
    os.write(one, b"was first")
    assert harness.probe.reap(1) == [op]
    op.cancel()  # the bytes are not in the socket any more
    assert harness.probe.dispatch() == [op]
    assert op.data == b"was first"
    op.give_back()


def test_cancel_of_what_the_kernel_has_not_seen_yet(harness: UringHarness) -> None:
    _, two = harness.pair()
    ops = [harness.probe.receive(two), harness.probe.send(two, b"x")]
    for op in ops:
        op.submit()
        op.cancel()
    harness.run(*ops)
    assert [len(op.results) for op in ops] == [1, 1]


def test_number_that_was_closed_under_a_watch_is_not_deaf(harness: UringHarness) -> None:
    _, two = harness.pair()
    op = harness.probe.readable(two)
    op.submit()
    harness.probe.wait(0)
    near, far = socket.socketpair()
    os.dup2(far.fileno(), two)  # which closes it first
    far.close()
    assert harness.probe.attach(two, fresh=False) == 0
    near.send(b"x")
    harness.run(op)
    assert op.results == [0]
    near.close()


# -- what may be watched ------------------------------------------------


def test_regular_file_is_eperm(harness: UringHarness, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    for name in (path, tmp_path):
        fd = os.open(name, os.O_RDONLY)
        assert harness.probe.attach(fd, fresh=False) == -errno.EPERM
        os.close(fd)
    assert harness.probe.attach(fd, fresh=False) == -errno.EBADF


# -- threads and processes -------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_another_thread_goes_on_with_what_one_began(shared: bool) -> None:
    with UringHarness(shared=shared) as harness:
        pairs = [harness.pair() for _ in range(20)]
        ops = [
            harness.probe.receive(two, None if at % 2 else 10) for at, (_, two) in enumerate(pairs)
        ]
        watch = harness.probe.readable(pairs[0][0])
        gone = harness.probe.readable(pairs[1][0])

        def begin() -> None:
            for op in (*ops, watch, gone):
                op.submit()
            harness.probe.wait(0)
            for one, _ in pairs[:5]:
                os.write(one, b"early")
            gone.cancel()

        in_thread(begin)  # which ends, and with it what it has asked for
        assert harness.poller.shared is shared
        for one, _ in pairs[5:]:
            os.write(one, b"late!")
        os.write(pairs[0][1], b"seen")
        harness.run(*ops, watch, gone)
        assert [op.data for op in ops] == 5 * [b"early"] + 15 * [b"late!"]
        assert (watch.results, gone.results) == ([0], [-errno.ECANCELED])
        assert harness.poller.shared  # a ring of one thread's was left for one of all

        def go_on() -> None:
            one, two = pairs[7]
            send_all(harness, one, b"third")
            assert receive_all(harness, two, 5) == b"third"
            harness.probe.wake()
            assert harness.probe.wait(None) == []

        in_thread(go_on)
        go_on()


def test_ring_is_of_the_thread_that_waits_not_of_the_one_that_made_it(
    harness: UringHarness,
) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    os.write(one, b"x")
    in_thread(lambda: harness.run(op))
    assert op.results == [1]
    assert not harness.poller.shared


def test_another_thread_comes_while_every_block_is_kept() -> None:
    with UringHarness(places=4) as harness:
        pairs = [harness.pair() for _ in range(6)]
        keepers = [harness.probe.receive(two, keep=True) for _, two in pairs[:4]]
        late = harness.probe.receive(pairs[4][1])
        gone = harness.probe.readable(pairs[5][1])

        def begin() -> None:
            for op in (*keepers, late, gone):
                op.submit()
            for one, _ in pairs[:4]:
                os.write(one, b"kept")
            harness.run(*keepers)

        in_thread(begin)
        assert [op.data for op in keepers] == 4 * [b"kept"]
        os.write(pairs[4][0], b"late")  # for which the new ring has no block
        gone.cancel()
        harness.run(late, gone)
        assert harness.poller.shared
        assert late.data == b"late"
        for op in keepers:
            op.give_back()


def test_another_thread_finds_the_ring_full() -> None:
    with UringHarness(entries=1) as harness:
        pairs = [harness.pair() for _ in range(5)]
        in_thread(lambda: harness.probe.wait(0))
        ops = [harness.probe.receive(two) for _, two in pairs]
        for op in ops:
            assert op.submit()
        assert harness.poller.shared
        for one, _ in pairs:
            os.write(one, b"x")
        harness.run(*ops)
        assert [op.results for op in ops] == 5 * [[1]]
        harness.probe.wake()
        assert harness.probe.wait(None) == []
        assert harness.probe.wait(0) == []


@pytest.mark.parametrize("shared", [False, True])
def test_another_thread_closes_it(shared: bool) -> None:
    with UringHarness(shared=shared) as harness:
        ops = [harness.probe.receive(fd, 10) for fd in harness.pair()]
        for op in ops:
            op.submit()
        in_thread(lambda: harness.probe.wait(0))
        harness.probe.close()
        assert [op.results for op in ops] == [[-errno.ECANCELED], [-errno.ECANCELED]]


def test_forked_child_leaves_the_ring_to_its_parent(harness: UringHarness) -> None:
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    harness.probe.wait(0)
    before = open_descriptors()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            left = before - open_descriptors()
            with pytest.raises(RuntimeError, match="cannot run in a child process"):
                harness.probe.wait(0)
            op.cancel()
            harness.probe.wake()
            harness.probe.close()
            assert op.results == [-errno.ECANCELED]
            status = 0 if harness.poller.foreign and left == 2 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not harness.poller.foreign
    os.write(one, b"x")
    harness.run(op)
    assert op.results == [1]


def test_poller_that_cannot_be_made_closes_nobody_elses_descriptor() -> None:
    before = os.fstat(0)
    with pytest.raises(TypeError):
        UringPoller(None)  # type: ignore[arg-type]
    assert os.fstat(0) == before


# -- where the system refuses ----------------------------------------------------------

REFUSED = """\
import ctypes, struct, sys, warnings
NO_NEW_PRIVS, SECCOMP, FILTER, IO_URING_SETUP = 38, 22, 2, 425
program = b"".join(struct.pack("HBBI", *line) for line in [
    (0x20, 0, 0, 0),                            # the number of the system call
    (0x15, 0, 1, IO_URING_SETUP),
    (0x06, 0, 0, 0x00050000 | int(sys.argv[1])),    # SECCOMP_RET_ERRNO
    (0x06, 0, 0, 0x7FFF0000),                   # SECCOMP_RET_ALLOW
])
memory = ctypes.create_string_buffer(program)
pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(memory))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(SECCOMP, FILTER, pointer, 0, 0) == 0

import reactor
print(reactor.available_pollers()["uring"])
try:
    reactor.new_poller("uring")
except reactor.PollerUnavailableError as error:
    print(error.name, "|", error)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(type(reactor.new_event_loop().poller).__name__)
print(caught[0].category.__name__, caught[0].message)
"""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EPERM, "uring is forbidden"),
        (errno.ENOSYS, "uring needs Linux 6.0"),
        (errno.EINVAL, "lacks what it uses"),
        (errno.ENOMEM, "RLIMIT_MEMLOCK"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_refusal_is_told_with_its_reason_and_epoll_is_there_instead(
    number: int, words: str
) -> None:
    """Refused by a real filter, in a child: EPERM is what containers answer."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", REFUSED, str(number)],
        env={**os.environ, "REACTOR_POLLER": "uring"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    reason, named, kind, warning = child.stdout.splitlines()
    assert words in reason
    assert named == f"uring | poller 'uring' does not work here: {reason}"
    assert kind == "EpollPoller"
    assert warning == (
        f"RuntimeWarning REACTOR_POLLER=uring does not work here, epoll is used: {reason}"
    )

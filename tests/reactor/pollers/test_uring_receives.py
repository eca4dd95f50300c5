"""Receives of the io_uring poller that stand: bytes come before anybody has asked for them."""

import errno
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reactor.pollers import available_pollers
from reactor.testing.poller_harness import receive_all, send_all
from reactor.testing.poller_probe import ProbeOp

if reason := available_pollers()["uring"]:
    pytest.skip(reason, allow_module_level=True)

from tests.reactor.pollers.uring_harness import (
    BLOCK_BYTES,
    UringHarness,
    in_thread,
    open_descriptors,
)

# More than two blocks, each of which is told from the others.
LONG = random.Random(1).randbytes(2 * BLOCK_BYTES + 100)


@pytest.fixture
def harness() -> Iterator[UringHarness]:
    with UringHarness(stands_from=1) as harness:
        yield harness


def standing(harness: UringHarness) -> tuple[int, int, ProbeOp]:
    """Return a connection, and an op on its second end that waits on a receive that stands."""
    before = harness.poller.standing
    one, two = harness.pair()
    op = harness.probe.receive(two)
    op.submit()
    harness.probe.wait(0)
    assert harness.poller.standing == before + 1
    return one, two, op


def holding(harness: UringHarness) -> tuple[int, int]:
    """Return a connection, of which the second end had LONG's first block, and two are held."""
    one, two, op = standing(harness)
    os.write(one, LONG)
    harness.run(op)
    assert op.data == LONG[:BLOCK_BYTES]
    assert harness.poller.held == 2
    return one, two


def in_socket(fd: int) -> bytes:
    """Return what the system has not handed to us yet."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.recv(1 << 20, socket.MSG_PEEK)
    except BlockingIOError:
        return b""
    finally:
        sock.detach()


def entries_taken(harness: UringHarness) -> int:
    """Return how many entries the kernel has taken from the ring so far."""
    [ring] = [
        path.name
        for path in Path("/proc/self/fd").iterdir()
        if os.path.lexists(path) and str(path.readlink()) == "anon_inode:[io_uring]"
    ]
    for line in Path("/proc/self/fdinfo", ring).read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "SqHead":
            return int(value)
    raise AssertionError("the kernel does not tell")


# -- what it is for --------------------------------------------------------------------


def test_what_receives_again_and_again_asks_the_kernel_once() -> None:
    with UringHarness() as harness:
        one, two = harness.pair()
        ops = [harness.probe.receive(two) for _ in range(12)]
        for at, op in enumerate(ops):
            op.submit()
            harness.probe.wait(0)
            assert harness.poller.standing == (at > 0)  # from the second one on
            if at == 1:
                before = entries_taken(harness)
            os.write(one, b"%d" % at)
            harness.run(op)
            assert op.data == b"%d" % at
        assert entries_taken(harness) == before


def test_receive_into_given_memory_begins_the_count_again() -> None:
    with UringHarness() as harness:
        one, two = harness.pair()
        for given, stands in [(None, 0), (10, 0), (None, 0), (None, 1), (10, 0), (None, 0)]:
            op = harness.probe.receive(two, given)
            op.submit()
            harness.probe.wait(0)
            assert harness.poller.standing == stands
            os.write(one, b"x")
            harness.run(op)
            assert op.data == b"x"


# -- bytes that are held ---------------------------------------------------------------


def test_bytes_that_are_held_are_received_in_their_order(harness: UringHarness) -> None:
    _, two = holding(harness)
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]
    assert harness.poller.held == 0


@pytest.mark.parametrize("size", [1, 1000, BLOCK_BYTES, 10_000])
def test_bytes_that_are_held_are_copied_into_given_memory(harness: UringHarness, size: int) -> None:
    one, two = holding(harness)
    left = LONG[BLOCK_BYTES:]
    op = harness.probe.receive(two, size)
    op.submit()
    harness.run(op)
    assert op.data == left[: min(size, BLOCK_BYTES)]
    left = left[len(op.data) :]
    assert receive_all(harness, two, len(left)) == left  # what is left of a block is lent
    assert harness.poller.held == 0
    send_all(harness, one, b"more")
    assert receive_all(harness, two, 4) == b"more"


@pytest.mark.parametrize("given", [None, 10_000])
def test_bytes_that_are_held_are_taken_without_waiting(
    harness: UringHarness, given: int | None
) -> None:
    one, two = holding(harness)
    os.write(one, b"behind")  # which stays in the socket until what is held is had
    found = b""
    for options in ({"no_wait": True}, {"try_now": True}, {"no_wait": True}):
        op = harness.probe.receive(two, given)
        assert not op.submit(**options)
        found += op.data
    assert found == LONG[BLOCK_BYTES:] + b"behind"
    op = harness.probe.receive(two, given)
    assert not op.submit(no_wait=True)
    assert op.results == [-errno.EAGAIN]


def test_bytes_that_are_held_are_told_to_who_waits_for_readiness(harness: UringHarness) -> None:
    _, two = holding(harness)
    assert in_socket(two) == b""
    op = harness.probe.readable(two)
    assert op.submit()
    assert harness.probe.wait(None) == [op]
    assert op.results == [0]
    assert not op.submit(try_now=True)
    assert op.results == [0, 0]
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]
    assert op.submit()
    harness.probe.wait(0)
    assert op.state == "pending"
    op.cancel()
    harness.run(op)


def test_bytes_that_are_held_are_told_to_a_peek(harness: UringHarness) -> None:
    one, two = holding(harness)
    assert harness.probe.peek(two) == 1
    receive_all(harness, two, len(LONG) - BLOCK_BYTES)
    assert harness.probe.peek(two) == 0
    assert harness.probe.shut_down(one) == 0
    assert harness.probe.peek(two) == 1


def test_op_that_waits_for_held_bytes_is_cancelled_and_takes_none(harness: UringHarness) -> None:
    _, two = holding(harness)
    op = harness.probe.receive(two)
    assert op.submit()
    op.cancel()
    assert op.state == "done"
    harness.run(op)
    assert op.results == [-errno.ECANCELED]
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]


def test_op_waits_on_when_somebody_else_had_the_held_bytes(harness: UringHarness) -> None:
    one, two = holding(harness)
    op = harness.probe.receive(two)
    assert op.submit()
    for _ in range(2):
        other = harness.probe.receive(two)
        assert not other.submit(no_wait=True)
        assert other.result > 0
    harness.probe.wait(0)
    assert op.state == "pending"
    send_all(harness, one, b"mine")
    harness.run(op)
    assert op.data == b"mine"


def test_poller_that_is_closed_lets_go_of_what_is_held(harness: UringHarness) -> None:
    _, _, idle = standing(harness)
    _, two = holding(harness)
    waiting = harness.probe.receive(two)
    waiting.submit()
    harness.probe.close()
    assert waiting.results == idle.results == [-errno.ECANCELED]
    assert (harness.poller.held, harness.poller.standing) == (0, 0)
    assert (harness.pool.in_use, harness.pool.aside) == (0, 0)
    assert harness.probe.peek(two) == 0


# -- the end and failures ----------------------------------------------------------------


def test_end_comes_after_what_is_held(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    os.write(one, LONG)
    assert harness.probe.shut_down(one) == 0
    harness.run(op)
    assert harness.poller.held == 2
    assert harness.probe.peek(two) == 1
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]
    assert harness.probe.peek(two) == 1
    for _ in range(3):  # it stays at the end
        op = harness.probe.receive(two)
        op.submit()
        harness.run(op)
        assert op.results == [0]


def test_reset_comes_after_what_is_held_and_once(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    os.write(one, LONG)
    harness.reset(one)
    harness.run(op)
    assert op.data == LONG[:BLOCK_BYTES]
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]
    results = []
    for given in (None, 10):
        op = harness.probe.receive(two, given)
        op.submit()
        harness.run(op)
        results += op.results
    assert results == [-errno.ECONNRESET, 0]


def test_failure_that_is_held_is_told_to_a_peek(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    os.write(one, b"x")
    harness.reset(one)
    harness.run(op)
    assert op.data == b"x"
    assert harness.probe.peek(two) == -errno.ECONNRESET
    op.submit()
    harness.run(op)
    assert op.results == [1, -errno.ECONNRESET]


@pytest.mark.parametrize("size", [1, BLOCK_BYTES, BLOCK_BYTES + 1])
@pytest.mark.parametrize("stands", [True, False])
@pytest.mark.parametrize("how", ["end", "reset", "unix"])
def test_end_that_is_there_with_the_last_bytes_is_not_missed(
    harness: UringHarness, how: str, stands: bool, size: int
) -> None:
    """A multishot receive of Linux 6.18 that finds both as it begins tells of the bytes only."""
    one, two = harness.pair() if how != "unix" else map(harness.adopt, socket.socketpair())
    op = harness.probe.receive(two)
    if stands:
        op.submit()
        harness.probe.wait(0)
    os.write(one, LONG[:size])
    if how == "reset":
        harness.reset(one)
    else:
        assert harness.probe.shut_down(one) == 0
    if not stands:
        op.submit()
    for end in range(BLOCK_BYTES, size + BLOCK_BYTES, BLOCK_BYTES):
        harness.run(op)
        assert op.data == LONG[: min(end, size)]
        op.submit()
    harness.until(lambda: op.state == "idle")
    assert op.result == (-errno.ECONNRESET if how == "reset" else 0)
    assert op.data == LONG[:size]


def test_no_receive_stands_again_where_the_peer_has_ended(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    os.write(one, LONG)
    assert harness.probe.shut_down(one) == 0
    harness.run(op)
    assert receive_all(harness, two, len(LONG) - BLOCK_BYTES) == LONG[BLOCK_BYTES:]
    for given in (None, None, 10, None, None):
        op = harness.probe.receive(two, given)
        op.submit()
        assert harness.poller.standing == 0
        harness.run(op)
        assert op.results == [0]


# -- who does not ask any more -------------------------------------------------------------


def test_who_pauses_has_nothing_more_received(harness: UringHarness) -> None:
    one, two = holding(harness)
    harness.probe.wait(0)  # nobody has asked in time
    assert harness.poller.standing == 0
    os.write(one, b"while it pauses")
    harness.probe.wait(0.01)
    assert harness.poller.held == 2
    assert in_socket(two) == b"while it pauses"
    expected = LONG[BLOCK_BYTES:] + b"while it pauses"
    assert receive_all(harness, two, len(expected)) == expected


def test_reader_that_goes_before_bytes_come_leaves_them_in_the_socket(
    harness: UringHarness,
) -> None:
    one, two, op = standing(harness)
    op.cancel()
    assert op.state == "done"
    harness.run(op)
    assert op.results == [-errno.ECANCELED]
    assert harness.poller.standing == 0
    os.write(one, b"x")
    harness.probe.wait(0.01)
    assert harness.poller.held == 0
    assert receive_all(harness, two, 1) == b"x"


def test_reader_that_goes_while_bytes_come_loses_none(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    os.write(one, LONG)  # which the kernel is about to receive
    op.cancel()
    harness.run(op)
    assert op.results == [-errno.ECANCELED]
    assert receive_all(harness, two, len(LONG)) == LONG


def test_reader_that_goes_and_comes_again_asks_for_nothing_new(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    before = entries_taken(harness)
    op.cancel()
    again = harness.probe.receive(two)
    assert again.submit()
    os.write(one, b"x")
    harness.run(op, again)
    assert op.results == [-errno.ECANCELED]
    assert again.data == b"x"
    assert entries_taken(harness) == before


def test_receive_is_ended_before_its_first_bytes_are_taken(harness: UringHarness) -> None:
    """A cancel may miss a request that is ready as it begins."""
    one, two = harness.pair()
    os.write(one, LONG)
    op = harness.probe.receive(two)
    op.submit()
    op.cancel()
    harness.until(lambda: harness.poller.standing == 0)
    assert op.results == [-errno.ECANCELED]
    assert receive_all(harness, two, len(LONG)) == LONG


@pytest.mark.parametrize(("blocks", "stands"), [(3, 1), (6, 0)])
def test_slow_reader_has_nothing_more_received_where_much_is_held(
    harness: UringHarness, blocks: int, stands: int
) -> None:
    one, two, op = standing(harness)
    data = random.Random(4).randbytes(blocks * BLOCK_BYTES)
    os.write(one, data)
    harness.run(op)
    op.submit()
    os.write(one, b"and more")
    harness.run(op)
    assert harness.poller.standing == stands
    assert in_socket(two) == (b"" if stands else b"and more")
    rest = len(data) + 8 - 2 * BLOCK_BYTES
    assert op.data + receive_all(harness, two, rest) == data + b"and more"
    send_all(harness, one, b"x")
    assert receive_all(harness, two, 1) == b"x"
    assert harness.poller.standing == 1


@pytest.mark.parametrize("given", [None, 100])
def test_flood_is_held_within_a_limit_and_others_are_served(given: int | None) -> None:
    """Neither who does not read nor who is slow has more than the shelf received."""
    with UringHarness(stands_from=1, places=16) as harness:
        one, two, op = standing(harness)
        three, four = harness.pair()
        sent, found, most = bytearray(), bytearray(), 0
        source = random.Random(2)
        for turn in range(100):
            if len(sent) < 500_000:
                chunk = source.randbytes(20_000)
                with suppress(BlockingIOError):
                    sent += chunk[: os.write(one, chunk)]
            if op.state == "idle":
                found += op.data
                op = harness.probe.receive(two, given if turn % 3 else None)
                op.submit()
            other = harness.probe.receive(four)
            other.submit()
            os.write(three, b"%d" % turn)
            harness.run(other)
            assert other.data == b"%d" % turn
            most = max(most, harness.poller.held)
            assert harness.pool.in_use == 0
        assert 0 < most <= 16
        assert harness.pool.aside <= 16
        harness.run(op)
        found += op.data
        found += receive_all(harness, two, len(sent) - len(found))
        assert found == sent


# -- descriptors that go away ----------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_descriptor_that_is_closed_has_nothing_held_and_is_closed_for_the_peer(
    harness: UringHarness, at_once: bool
) -> None:
    one, two = holding(harness)
    before = open_descriptors()
    if not at_once:
        harness.probe.wait(0)
    harness.close(two)
    assert (harness.poller.held, harness.poller.standing) == (0, 0)
    assert (harness.pool.in_use, harness.pool.aside) == (0, 8)
    assert open_descriptors() == before - 1
    os.set_blocking(one, True)
    assert os.read(one, 1) == b""
    os.set_blocking(one, False)


def test_descriptor_that_is_detached_is_received_from_by_nobody(harness: UringHarness) -> None:
    """Who hands a socket on has had what is held: a receive that does not wait finds it."""
    one, two, op = standing(harness)
    os.write(one, LONG)
    harness.run(op)
    os.write(one, b"for the next one")
    found = bytes(op.data)
    while harness.poller.held:
        op = harness.probe.receive(two)
        assert not op.submit(no_wait=True)
        found += op.data
    harness.probe.detach(two)
    assert harness.poller.standing == 0
    harness.probe.wait(0.01)
    assert found + in_socket(two) == LONG + b"for the next one"


def test_what_was_held_for_a_number_is_not_its_next_users(harness: UringHarness) -> None:
    _, two = holding(harness)
    near, far = socket.socketpair()
    far.setblocking(False)
    os.dup2(far.fileno(), two)  # closed without a word to the poller
    far.close()
    assert harness.probe.attach(two) == 0
    assert (harness.poller.held, harness.poller.standing) == (0, 0)
    near.send(b"the next one's")
    assert receive_all(harness, two, 14) == b"the next one's"
    near.close()


def test_reader_of_a_number_that_is_another_comes_back_cancelled(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    _, held = holding(harness)
    assert harness.poller.standing == 2
    waiting = harness.probe.receive(held)
    waiting.submit()
    for number in (two, held):
        assert harness.probe.attach(number) == 0
    assert harness.poller.standing == 0
    harness.run(op, waiting)
    assert op.results == waiting.results == [-errno.ECANCELED]
    os.write(one, b"x")
    assert receive_all(harness, two, 1) == b"x"


def test_number_that_is_attached_again_is_not_received_from(harness: UringHarness) -> None:
    one, two, op = standing(harness)
    op.cancel()
    os.write(one, b"x")
    assert harness.probe.attach(two, fresh=False) == 0
    assert harness.poller.standing == 0
    assert in_socket(two) == b"x"
    harness.run(op)


# -- where there is little room ------------------------------------------------------------


@pytest.mark.parametrize("places", [1, 2, 4])
def test_shelf_that_runs_short_loses_nothing(places: int) -> None:
    with UringHarness(stands_from=1, places=places) as harness:
        data = random.Random(3).randbytes(40_000)
        pairs = [standing(harness) for _ in range(5)]
        for one, _, _ in pairs:
            os.write(one, data)
        for _, two, op in pairs:
            harness.run(op)
            assert op.data + receive_all(harness, two, len(data) - op.result) == data
        for one, two, _ in pairs:  # and they stand again
            send_all(harness, one, b"x")
            assert receive_all(harness, two, 1) == b"x"
        assert harness.pool.aside <= places


def test_thousand_connections_that_receive_again_and_again() -> None:
    with UringHarness(stands_from=1) as harness:
        pairs = [socket.socketpair() for _ in range(1000)]
        fds = [(harness.adopt(one), harness.adopt(two)) for one, two in pairs]
        ops = [harness.probe.receive(two) for _, two in fds]
        for turn in range(4):
            for op in ops:
                op.submit()
            harness.probe.wait(0)
            assert harness.poller.standing == 1000
            for at, (one, _) in enumerate(fds):
                os.write(one, b"%4d:%d" % (at, turn))
            harness.run(*ops)
        for at, op in enumerate(ops):
            assert op.data == b"".join(b"%4d:%d" % (at, turn) for turn in range(4))
        assert harness.poller.held == 0


# -- threads and processes -----------------------------------------------------------------


def test_another_thread_goes_on_with_what_is_held_and_what_stands(harness: UringHarness) -> None:
    made: dict[str, tuple[int, int]] = {}
    ops = []

    def begin() -> None:
        ones = []
        for _ in range(5):
            one, _, op = standing(harness)
            ops.append(op)
            ones.append(one)
        made["early"] = harness.pair()
        made["held"] = holding(harness)
        for at, one in enumerate(ones):
            os.write(one, b"%d" % at)

    in_thread(begin)
    harness.run(*ops)
    assert harness.poller.shared
    assert harness.poller.standing == 0  # where all threads enter, each receive is asked for
    assert [op.data for op in ops] == [b"0", b"1", b"2", b"3", b"4"]
    one, two = made["held"]
    os.write(one, b"late")
    assert harness.probe.peek(two) == 1
    expected = LONG[BLOCK_BYTES:] + b"late"
    assert receive_all(harness, two, len(expected)) == expected
    one, two = made["early"]
    for _ in range(3):
        send_all(harness, one, b"x")
        assert receive_all(harness, two, 1) == b"x"
    assert harness.poller.standing == 0


def test_another_thread_closes_what_stands(harness: UringHarness) -> None:
    made: list[tuple[int, int]] = []
    in_thread(lambda: made.append(holding(harness)))
    [(one, two)] = made
    harness.close(two)
    assert (harness.poller.held, harness.poller.standing) == (0, 0)
    os.set_blocking(one, True)
    assert os.read(one, 1) == b""
    os.set_blocking(one, False)


def test_forked_child_leaves_what_is_held_to_its_parent(harness: UringHarness) -> None:
    _, four, op = standing(harness)
    one, two = holding(harness)
    waiting = harness.probe.receive(two)
    waiting.submit()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            op.cancel()
            harness.close(four)
            harness.probe.close()
            harness.close(two)
            assert waiting.results == op.results == [-errno.ECANCELED]
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    harness.run(waiting)
    assert waiting.data + receive_all(harness, two, 100) == LONG[BLOCK_BYTES:]
    send_all(harness, one, b"x")
    assert receive_all(harness, two, 1) == b"x"


# -- all of it together --------------------------------------------------------------------


@pytest.mark.parametrize("places", [1, 4, 64])
@pytest.mark.parametrize("seed", range(6))
def test_no_byte_is_lost_or_out_of_order_whatever_is_asked_when(places: int, seed: int) -> None:
    source = random.Random(seed)
    with UringHarness(stands_from=source.choice([1, 2]), places=places) as harness:
        for _ in range(4):
            walk(harness, source)


def walk(harness: UringHarness, source: random.Random) -> None:
    """Send, ask, cancel and wait at random on one connection, and compare what comes."""
    one, two = harness.pair()
    data = source.randbytes(source.choice([500, 60_000]))
    sent, ended = 0, False
    found = bytearray()
    op = None
    while True:
        step = source.randrange(8)
        if step < 2 and sent < len(data):
            with suppress(BlockingIOError):
                sent += os.write(one, data[sent : sent + source.choice([1, 300, 9000])])
        elif step == 2 and sent == len(data) and not ended:
            assert harness.probe.shut_down(one) == 0
            ended = True
        elif step < 5 and (op is None or op.state == "idle"):
            kind = source.randrange(4)
            op = harness.probe.readable(two)
            if kind:
                op = harness.probe.receive(two, source.choice([None, None, 1, 700, 9000]))
            now = source.randrange(6)
            op.submit(no_wait=now == 0 and kind != 0, try_now=now == 1)
        elif step == 5 and op is not None and source.randrange(3) == 0:
            op.cancel()
        elif step > 5:
            harness.probe.wait(0)
        if op is not None and op.state == "idle":
            found += op.data
            assert found == data[: len(found)]
            if op.results == [0] and ended and len(found) == len(data):
                break
            op = None
    assert found == data
    harness.close(two)
    assert harness.poller.held == 0

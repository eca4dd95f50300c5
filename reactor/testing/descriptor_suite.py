"""The contract's part on descriptors: numbers, attach and detach, one op each way.

Owns and invariant: as ``reactor.testing.poller_suite``, whose suite includes this one.
"""

# ruff: noqa: D102 - the names of tests are their docstrings
from __future__ import annotations

import errno

from reactor.testing.poller_harness import Harness, drain, fill, receive_all, send_all
from reactor.testing.poller_probe import ProbeOp

__all__ = ["DescriptorSuite"]


class DescriptorSuite:
    """What a poller must do with numbers that come and go."""

    def test_number_is_reused_within_a_batch(self, harness: Harness) -> None:
        first, second = harness.pair(), harness.pair()
        ops = [harness.probe.receive(first[1]), harness.probe.receive(second[1])]
        fresh: list[tuple[int, int]] = []

        def replace_the_other(op: ProbeOp) -> None:
            other = ops[1 - ops.index(op)]
            if fresh or other.state == "pending":
                return
            other.cancel()
            harness.close(other.fd)
            fresh.append(harness.pair())

        for op in ops:
            op.on_done = replace_the_other
            op.submit()
        for one, _ in (first, second):
            send_all(harness, one, b"old")
        harness.run(*ops)
        assert [len(op.results) for op in ops] == [1, 1]
        if fresh:
            one, two = fresh[0]
            send_all(harness, one, b"new")
            assert receive_all(harness, two, 3) == b"new"

    def test_second_op_of_a_direction_is_eexist_and_takes_nothing_from_the_first(
        self, harness: Harness
    ) -> None:
        one, two = harness.pair()
        send, before = fill(harness, one)
        first = harness.probe.receive(one)
        first.submit()
        second = harness.probe.readable(one)
        assert not second.submit()
        assert second.results == [-errno.EEXIST]
        second.cancel()
        send_all(harness, two, b"for the first")
        harness.run(first)
        assert b"for the first".startswith(first.data)
        drain(harness, two, before)
        harness.run(send)
        assert send.result > 0

    def test_number_attached_fresh_ends_the_ops_of_its_earlier_user(self, harness: Harness) -> None:
        one, two = harness.pair()
        send, before = fill(harness, two)
        receive = harness.probe.receive(two)
        receive.submit()
        assert harness.probe.attach(two) == 0
        harness.run(receive, send)
        assert receive.results == [-errno.ECANCELED]
        receive.submit()
        drain(harness, one, before)
        send_all(harness, one, b"mine")
        harness.run(receive)
        assert b"mine".startswith(receive.data)

    def test_number_attached_again_lets_its_ops_wait_on(self, harness: Harness) -> None:
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        harness.probe.wait(0)
        assert harness.probe.attach(two, fresh=False) == 0
        assert harness.probe.wait(0) == []
        send_all(harness, one, b"mine")
        harness.run(op)
        assert b"mine".startswith(op.data)

    def test_new_user_of_a_number_gets_its_own_events(self, harness: Harness) -> None:
        for _ in range(5):
            one, two = harness.pair()
            op = harness.probe.receive(two)
            op.submit()
            harness.probe.wait(0)
            op.cancel()
            harness.run(op)
            harness.close(two)
            harness.close(one)
        one, two = harness.pair()
        op = harness.probe.receive(two)
        op.submit()
        assert harness.probe.wait(0) == []
        send_all(harness, one, b"mine")
        harness.run(op)
        assert b"mine".startswith(op.data)

    def test_detached_descriptor_can_be_attached_again(self, harness: Harness) -> None:
        one, two = harness.pair()
        send_all(harness, one, b"a")
        assert receive_all(harness, two, 1) == b"a"
        harness.probe.detach(two)
        assert harness.probe.attach(two) == 0
        send_all(harness, one, b"b")
        assert receive_all(harness, two, 1) == b"b"

    def test_op_on_a_closed_descriptor_is_ebadf(self, harness: Harness) -> None:
        one, _ = harness.pair()
        harness.close(one)
        for op in (harness.probe.receive(one), harness.probe.send(one, b"x")):
            op.submit()
            harness.run(op)
            assert op.results == [-errno.EBADF]
        assert harness.probe.close_fd(one) == -errno.EBADF
        assert harness.probe.shut_down(one) == -errno.EBADF

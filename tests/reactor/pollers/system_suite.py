"""What every poller of a POSIX system must do beyond ``PollerSuite``: the system's limits, and
looks at a descriptor.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from reactor.testing.poller_harness import SystemHarness
from reactor.testing.poller_suite import PollerSuite

MANY = 4096  # descriptors, more than a batch of events


class SystemSuite(PollerSuite):
    """Subclasses say how a harness is made."""

    @staticmethod
    def make() -> SystemHarness:
        raise NotImplementedError

    @pytest.fixture
    def harness(self) -> Iterator[SystemHarness]:
        with self.make() as harness:
            yield harness

    @pytest.fixture
    def many_descriptors(self) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < MANY:
            pytest.skip(f"only {hard} descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY), hard))
        yield
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_more_events_than_one_batch_are_all_served(
        self, harness: SystemHarness, many_descriptors: None
    ) -> None:
        pairs = [socket.socketpair() for _ in range(1300)]
        fds = [(harness.adopt(one), harness.adopt(two)) for one, two in pairs]
        ops = [harness.probe.receive(two) for _, two in fds]
        for op in ops:
            op.submit()
        for one, _ in fds:
            os.write(one, b"x")
        harness.run(*ops)
        assert all(op.results == [1] for op in ops)

    def test_peek_at_a_watched_descriptor_is_right_whatever_came_for_others(
        self, harness: SystemHarness
    ) -> None:
        """A system may be asked for all at once, and must lose none of what it tells."""
        ones, twos = zip(*(harness.pair() for _ in range(4)), strict=True)
        ops = [harness.probe.receive(two) for two in twos[:3]]  # nobody waits at the last
        for op in ops:
            op.submit()

        def look(at: int) -> int:  # as a transport does, which knows its own op
            if at < len(ops) and ops[at].state == "done":
                return 1
            return harness.probe.peek(twos[at])

        def looks() -> list[int]:
            return [look(at) for at in range(4)]

        def send(at: int) -> None:
            os.write(ones[at], b"x")
            harness.until(lambda: look(at) == 1)  # the network's own time

        for _ in range(2):  # before the system has heard of the ops, maybe, and after
            assert looks() == [0, 0, 0, 0]
            harness.probe.wait(0)
        send(3)
        assert looks() == [0, 0, 0, 1]
        send(0)
        assert looks() == [1, 0, 0, 1]
        send(1)  # after the system has told of another
        assert looks() == [1, 1, 0, 1]
        harness.run(*ops[:2])
        assert [op.results for op in ops] == [[1], [1], []]
        assert looks() == [0, 0, 0, 1]
        send(2)  # after the next wait
        assert looks() == [0, 0, 1, 1]
        harness.run(ops[2])
        assert look(2) == 0

    @pytest.mark.parametrize("left", [0, 1])
    def test_poller_without_descriptors_raises_and_leaks_nothing(self, left: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = lowest_free()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                self.make()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert lowest_free() == lowest


def lowest_free() -> int:
    """Return the number that the next descriptor gets."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd

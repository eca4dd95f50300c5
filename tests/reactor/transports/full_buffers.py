"""Connections whose buffers are full, for the tests of several files."""

from typing import Any

from reactor.eventloop import EventLoop
from tests.reactor.recorder import turn

BIG = 3_000_000  # bytes, more than the system's buffers of one connection take


def fill(loop: EventLoop, writer: Any) -> int:
    """Write until the transport has to queue; return how many bytes that were.

    What is queued then is more than the system may take in later, as Windows does.
    """
    total = 0
    writer.link.set_write_buffer_limits(high=1 << 30)
    while writer.link.get_write_buffer_size() == 0:
        writer.link.write(b"x" * 100_000)
        total += 100_000
        turn(loop)
    writer.link.write(b"x" * BIG)
    return total + BIG

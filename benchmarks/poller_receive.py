"""CPU time of a receive, over epoll and over io_uring with receives that stand or do not.

No server and no loop: pairs of TCP sockets in this process, whose one ends are written to; then
all that waited on the other ends is received, and asked for again. The figure is the thread's CPU
time (user and system) from the first wait to the last message, for each message. The pollers take
turns message by message, so other work on the machine meets them alike; of all turns the median
and the quartiles. The calls from Python are a part of it, the same for all.

usage: python benchmarks/poller_receive.py [--connections 1,64,512] [--messages 20000]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reactor.limits import MAX_FREE_BLOCKS, RECEIVE_BLOCK_BYTES
from reactor.pollers.contract import Poller
from reactor.pollers.epoll import EpollPoller
from reactor.pollers.uring import UringPoller
from reactor.pool import BlockPool
from reactor.testing.poller_harness import Harness, SystemHarness
from reactor.testing.poller_probe import ProbeOp

MESSAGE = b"x" * 250
NEVER = 1 << 30

POLLERS: dict[str, Callable[[BlockPool], Poller]] = {
    "epoll": EpollPoller,
    "io_uring, single-shot": lambda pool: UringPoller(pool, stands_from=NEVER),
    "io_uring, multishot": UringPoller,
}


class Connections(SystemHarness):
    """So many connections on a poller, each of which receives again and again."""

    def __init__(self, make: Callable[[BlockPool], Poller], count: int) -> None:
        Harness.__init__(self, make(BlockPool(RECEIVE_BLOCK_BYTES, MAX_FREE_BLOCKS)))
        self.pairs = [self.pair() for _ in range(count)]
        self.awaited = 0
        for _, two in self.pairs:
            op = self.probe.receive(two)
            op.on_done = self.received
            op.submit()

    def received(self, op: ProbeOp) -> None:
        """Ask for the next message."""
        if op.result > 0:
            assert op.data == MESSAGE
            op.data.clear()
            self.awaited -= 1
            op.submit()

    def turn(self) -> float:
        """Send a message on each connection and receive it; microseconds for each."""
        for one, _ in self.pairs:
            os.write(one, MESSAGE)
        self.awaited = len(self.pairs)
        before = time.thread_time_ns()
        while self.awaited:
            self.probe.wait(None)
        return (time.thread_time_ns() - before) / 1000 / len(self.pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", default="1,64,512")
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{platform.python_version()}, Linux {platform.release()}, us of CPU for each message")
    for count in map(int, options.connections.split(",")):
        sets = {name: Connections(make, count) for name, make in POLLERS.items()}
        figures: dict[str, list[float]] = {name: [] for name in sets}
        for _ in range(max(options.messages // count, 20)):
            for name, connections in sets.items():
                figures[name].append(connections.turn())
        for name, connections in sets.items():
            low, median, high = statistics.quantiles(figures[name], n=4)
            print(f"{count:5} {name:22} {median:6.2f} ({low:5.2f} to {high:5.2f})")
            with connections:
                pass


if __name__ == "__main__":
    main()

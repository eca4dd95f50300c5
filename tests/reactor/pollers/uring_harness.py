"""The io_uring poller under test, with arguments of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reactor.pollers.uring import UringPoller
from reactor.pool import BlockPool
from reactor.testing.poller_harness import Harness, SystemHarness

BLOCK_BYTES = 4096


class UringHarness(SystemHarness):
    """io_uring with arguments of its own."""

    def __init__(self, **options: Any) -> None:
        Harness.__init__(self, UringPoller(BlockPool(BLOCK_BYTES, 4), **options))
        poller = self.probe.poller
        assert isinstance(poller, UringPoller)
        self.poller = poller
        self.blocks_ahead = min(8, options.get("places", 8))


def in_thread(run: Callable[[], object]) -> None:
    """Run something in a thread, which has ended on return."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

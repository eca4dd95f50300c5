"""Pollers under test, each with the sockets that it is tested with.

Owns: descriptors that tests opened.  May not touch: what is tested (``poller_suite``).
Invariant: when a harness is left without an error, no op of its poller is live, no block is
lent and, where the poller is a referee, the contract was kept.
"""

# ruff: noqa: D102 - Harness documents what the others override
from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import pytest

from reactor.pollers import new_poller
from reactor.pollers.contract import Poller
from reactor.pollers.simulated import SimulatedPoller
from reactor.pool import BlockPool
from reactor.testing.poller_probe import PollerProbe, ProbeOp

__all__ = [
    "FULL",
    "LOOPBACK",
    "Harness",
    "SimulatedHarness",
    "SystemHarness",
    "drain",
    "fill",
    "idle_returns",
    "receive_all",
    "send_all",
]

LOOPBACK = ("127.0.0.1", 0)
BLOCK_BYTES = 4096
WAITS = 20_000  # more than any test here needs; a poller that spins or loses an op ends at it
FULL = b"x" * 65_536
# struct linger: on, for 0 seconds
LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Harness:
    """A poller under test and the sockets that it is tested with.

    Attributes:
        probe: drives the poller.
        deferred: whether a result may be in while the op is still pending.
        lends_early: whether a bufferless receive borrows its block when it is submitted.
        blocks_ahead: what the system has at hand to fill, which a batch may borrow at once.
        many: pairs of sockets that it can have at once.
    """

    deferred = False
    lends_early = False
    blocks_ahead = 1
    many = 200

    def __init__(self, poller: Poller) -> None:
        self.probe = PollerProbe(poller)
        self.open: list[int] = []

    @property
    def pool(self) -> BlockPool:
        """The poller's pool."""
        return self.probe.pool

    def listener(self, backlog: int = 128) -> tuple[int, Any]:
        """Return an attached listening descriptor and its address."""
        raise NotImplementedError

    def pair(self) -> tuple[int, int]:
        """Return two attached descriptors, connected over TCP."""
        raise NotImplementedError

    def reset(self, fd: int) -> None:
        """Close *fd* so that the other end is reset."""
        raise NotImplementedError

    def refused(self) -> Any:
        """Return an address where nobody listens."""
        raise NotImplementedError

    @contextmanager
    def out_of_descriptors(self) -> Iterator[None]:
        """Let accepts and opens fail with EMFILE meanwhile."""
        raise NotImplementedError
        yield

    def close(self, fd: int) -> None:
        """Close one descriptor through the poller."""
        self.open.remove(fd)
        assert self.probe.close_fd(fd) == 0

    def keep(self, fd: int) -> int:
        """Note a descriptor that is to be closed at the end."""
        assert fd >= 0, os.strerror(-fd)
        self.open.append(fd)
        return fd

    def until(self, condition: Callable[[], object], *, step: float = 5.0) -> None:
        """Wait and dispatch until *condition* holds; each wait takes at most *step* seconds."""
        for _ in range(WAITS):
            if condition():
                return
            self.probe.wait(step)
        raise AssertionError("it did not come to pass")

    def run(self, *ops: ProbeOp) -> None:
        """Wait and dispatch until all *ops* are idle."""
        self.until(lambda: all(op.state == "idle" for op in ops))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.probe.close()
        for fd in self.open:
            self.probe.close_fd(fd)
        if error is None:
            poller = self.probe.poller
            assert poller.live_ops == 0
            assert self.pool.in_use == 0
            assert getattr(poller, "violations", []) == []


class SystemHarness(Harness):
    """A poller of the operating system, by name, over real sockets on loopback."""

    def __init__(self, name: str, optimization: str = "scale") -> None:
        super().__init__(new_poller(name, block_size=BLOCK_BYTES, optimization=optimization))
        self.deferred = name == "iocp"
        if name == "uring":
            self.blocks_ahead = 8

    def listener(self, backlog: int = 128) -> tuple[int, Any]:
        sock = socket.socket()
        sock.bind(LOOPBACK)
        sock.listen(backlog)
        sock.setblocking(False)
        address = sock.getsockname()
        return self.adopt(sock), address

    def adopt(self, sock: socket.socket) -> int:
        """Attach a real socket, which is the harness's from now on; return its descriptor."""
        sock.setblocking(False)
        fd = self.keep(sock.detach())
        assert self.probe.attach(fd) == 0
        return fd

    def pair(self) -> tuple[int, int]:
        client = socket.socket()
        with socket.socket() as listener:
            for sock in (listener, client):  # of a fixed size, which accept hands on
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            listener.bind(LOOPBACK)
            listener.listen(1)
            client.settimeout(5)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.adopt(client), self.adopt(server)

    def reset(self, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        sock.detach()
        self.close(fd)

    def refused(self) -> Any:
        with socket.socket() as sock:
            sock.bind(LOOPBACK)
            return sock.getsockname()

    @contextmanager
    def out_of_descriptors(self) -> Iterator[None]:
        resource = pytest.importorskip("resource", reason="Windows has no limit of descriptors")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class SimulatedHarness(Harness):
    """A ``SimulatedPoller`` with the given faults.

    With *patience_seconds* among them, or else it cannot wait for threads and signals.
    """

    def __init__(self, **faults: Any) -> None:
        self.poller = SimulatedPoller(BlockPool(BLOCK_BYTES, 4), **faults)
        super().__init__(self.poller)
        self.deferred = self.poller.deferred
        self.lends_early = self.poller.posted

    def listener(self, backlog: int = 128) -> tuple[int, Any]:
        network = self.poller.network
        fd = self.keep(network.open(socket.AF_INET, socket.SOCK_STREAM))
        assert network.bind(fd, LOOPBACK) == 0
        assert network.listen(fd, backlog) == 0
        return fd, network.sockets[fd].local

    def pair(self) -> tuple[int, int]:
        one, two = self.poller.network.pair()
        return self.keep(one), self.keep(two)

    def reset(self, fd: int) -> None:
        self.poller.network.reset(fd)
        self.close(fd)

    def refused(self) -> Any:
        return ("127.0.0.1", 9)

    @contextmanager
    def out_of_descriptors(self) -> Iterator[None]:
        network = self.poller.network
        limit, network.max_descriptors = network.max_descriptors, 0
        try:
            yield
        finally:
            network.max_descriptors = limit


def send_all(harness: Harness, fd: int, data: bytes) -> None:
    """Send all of *data*."""
    while data:
        op = harness.probe.send(fd, data)
        op.submit(try_now=True)
        harness.run(op)
        assert op.result > 0, op
        data = data[op.result :]


def receive_all(harness: Harness, fd: int, size: int, given: int | None = None) -> bytes:
    """Receive exactly *size* bytes, into lent blocks or into a buffer of *given* bytes."""
    data = b""
    while len(data) < size:
        op = harness.probe.receive(fd, given)
        op.submit()
        harness.run(op)
        assert op.result > 0, op
        data += op.data
    assert len(data) == size
    return data


def fill(harness: Harness, fd: int) -> tuple[ProbeOp, int]:
    """Send until no more fits; return the op that waits and how many bytes went before."""
    total = 0
    while True:
        op = harness.probe.send(fd, FULL)
        op.submit()
        quiet = 0
        while op.state != "idle" and quiet < 3:
            harness.probe.wait(0.05)
            quiet += 1
        if op.state != "idle":
            return op, total
        assert op.result > 0
        total += op.result


def drain(harness: Harness, fd: int, size: int) -> None:
    """Receive *size* bytes and forget them."""
    while size:
        op = harness.probe.receive(fd, min(size, 1 << 20))
        op.submit(try_now=True)
        harness.run(op)
        assert op.result > 0
        size -= op.result


def idle_returns(harness: Harness, seconds: float = 0.05) -> int:
    """Return how often a wait comes back while nothing is dispatched for *seconds*."""
    before = harness.probe.returns
    until_ns = harness.probe.now_ns() + int(seconds * 1e9)
    while (left_ns := until_ns - harness.probe.now_ns()) > 0:
        assert harness.probe.wait(left_ns / 1e9) == []
    return harness.probe.returns - before

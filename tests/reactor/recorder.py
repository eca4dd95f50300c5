"""A protocol that writes down what happens to it, and how tests wait for that.

Owns: nothing that outlives a test.  Invariant: every call-back is noted before its hook runs,
and its order is checked: made first and once, lost last and once, one end at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reactor.eventloop import EventLoop
from reactor.pollers.simulated import SimulatedPoller
from reactor.protocol import BufferedProtocol, Protocol
from reactor.testing import pair

watched: set[EventLoop] = set()  # whose until() waits for the next event


class Record:
    """What happened, in order.

    Attributes:
        events: names of call-backs, one for each call.
        data: every byte that was received.
        lost: what ``connection_lost`` was called with.
        hooks: what to do inside of a call-back, by its name; called with the record.
        keeps_open: what ``eof_received`` returns.
        link: the transport, also after the loss.
        calling: whether a call-back is running.
    """

    def __init__(self, *, keeps_open: bool = False, **hooks: Any) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.lost: list[BaseException | None] = []
        self.hooks = hooks
        self.keeps_open = keeps_open
        self.link: Any = None
        self.calling = False

    def note(self, event: str) -> None:
        assert not self.calling or event in {"pause_writing", "resume_writing"}, (
            f"{event} inside of a call-back: {self.events}"
        )
        assert "connection_lost" not in self.events, f"{event} after the loss"
        assert bool(self.events) == (event != "connection_made")
        assert event != "eof_received" or event not in self.events
        self.events.append(event)
        for loop in watched:
            loop.stop()
        hook = self.hooks.get(event)
        if hook is not None:
            calling, self.calling = self.calling, True
            try:
                hook(self)
            finally:
                self.calling = calling

    def connection_made(self, transport: Any) -> None:
        self.link = transport
        self.note("connection_made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.data += data
        self.note("data_received")

    def eof_received(self) -> bool:
        self.note("eof_received")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)
        self.note("connection_lost")


class Recorder(Record, Protocol):
    """One of ours."""


class AsyncioRecorder(Record, asyncio.Protocol):
    """One written for asyncio."""


class BufferRecorder(Record, BufferedProtocol):
    """One that receives into a small buffer of its own."""

    size = 4999

    def get_buffer(self, sizehint: int) -> memoryview:
        self.buffer = bytearray(self.size)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= self.size
        self.data += self.buffer[:nbytes]
        self.note("data_received")


class AsyncioBufferRecorder(Record, asyncio.BufferedProtocol):
    """The same, written for asyncio."""

    size = 4999
    get_buffer = BufferRecorder.get_buffer
    buffer_updated = BufferRecorder.buffer_updated


KINDS = (Recorder, AsyncioRecorder, BufferRecorder, AsyncioBufferRecorder)


def until(loop: EventLoop, condition: Callable[[], object]) -> None:
    """Run the loop from one recorded event to the next until *condition* holds."""
    while not condition():
        watched.add(loop)
        try:
            loop.run_forever()
        finally:
            watched.discard(loop)


def turn(loop: EventLoop, passes: int = 3) -> None:
    """Let the loop do what it can without waiting."""
    for _ in range(passes):
        loop.call_soon(loop.stop)
        loop.run_forever()


def settle(loop: EventLoop) -> None:
    """Let everything happen that does not wait for anybody."""
    for _ in range(5):
        turn(loop)
        if isinstance(loop.poller, SimulatedPoller):
            loop.poller.advance(0.1)


def connected(loop: EventLoop, one: Any = None, two: Any = None) -> tuple[Any, Any]:
    """Return two recorders that are connected to each other."""
    one = Recorder() if one is None else one
    two = Recorder() if two is None else two
    pair(loop, one, two)
    until(loop, lambda: one.events and two.events)
    return one, two


def finish(loop: EventLoop, *protocols: Any) -> None:
    """Close what is open and wait until all is lost, each exactly once."""
    for protocol in protocols:
        if not protocol.lost:
            protocol.link.abort()
    until(loop, lambda: all(protocol.lost for protocol in protocols))
    turn(loop)
    for protocol in protocols:
        assert len(protocol.lost) == 1
        assert protocol.link.get_protocol() is None
        assert protocol.link.is_closing()

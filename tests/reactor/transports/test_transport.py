"""The half of a stream transport that faces its protocol, plain and over TLS."""

import asyncio
import contextvars
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.pollers.simulated import SimulatedPoller
from reactor.protocol import BufferedProtocol, Protocol
from reactor.testing import pair
from tests.reactor.recorder import Recorder, finish, turn, until, watched
from tests.reactor.transports.tls_ends import End, ends

TEXT = bytes(range(256)) * 40  # more than one of the buffers below, less than a block


class Reader(BufferedProtocol):
    """A BufferedProtocol whose one buffer is filled piece by piece."""

    def __init__(self, loop: EventLoop, size: int = 1000) -> None:
        self.loop = loop
        self.buffer = bytearray(size)
        self.free = memoryview(self.buffer)
        self.data = bytearray()
        self.calls = 0
        self.lost: list[Any] = []
        self.on_update: Callable[[Reader], None] = lambda _: None

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.free

    def buffer_updated(self, nbytes: int) -> None:
        self.calls += 1
        self.data += bytes(self.free)[:nbytes]
        self.on_update(self)
        if self.loop in watched:
            self.loop.stop()

    def connection_lost(self, exc: Any) -> None:
        self.lost.append(exc)
        if self.loop in watched:
            self.loop.stop()


def connected_ends(loop: EventLoop, secure: bool, reader: Any) -> tuple[Any, Any, Any]:
    """Return (the reader's transport, the writer's transport, the writer's protocol)."""
    if not secure:
        writer = Recorder()
        near, far = pair(loop, reader, writer)
        turn(loop)
        return near, far, writer
    one: End
    two: End
    one, two = ends(loop, client=reader)
    loop.run_until_complete(one.ready)
    loop.run_until_complete(two.ready)
    return one.transport, two.transport, two.protocol


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_buffered_protocol_that_pauses_gets_nothing_until_it_resumes(
    loop: EventLoop, secure: bool
) -> None:
    reader = Reader(loop)

    def full(_: Reader) -> None:
        near.pause_reading()
        reader.free = memoryview(b"")  # asking for it now would be a mistake

    near, far, _ = connected_ends(loop, secure, reader)
    reader.on_update = full
    far.write(TEXT)
    while len(reader.data) < len(TEXT):
        before = reader.calls
        until(loop, lambda: reader.calls > before)  # noqa: B023 - called in this iteration
        turn(loop)
        assert reader.calls == before + 1
        reader.free = memoryview(reader.buffer)
        near.resume_reading()
    assert bytes(reader.data) == TEXT
    assert reader.lost == []
    near.abort()
    far.abort()
    until(loop, lambda: reader.lost)
    turn(loop)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("resumes", [False, True])
def test_protocol_that_became_a_buffered_one_and_pauses_gets_nothing_until_it_resumes(
    loop: EventLoop, secure: bool, within: bool, resumes: bool
) -> None:
    """Whether a receive is under way by then, or more of what it has brought is to come."""
    reader = Reader(loop)
    text = TEXT * 30
    near: Any

    def full(_: Reader) -> None:
        near.pause_reading()
        reader.free = memoryview(b"")  # asking for it now would be a mistake
        if resumes:
            loop.call_soon(resume)

    def resume() -> None:
        reader.free = memoryview(reader.buffer)
        near.resume_reading()

    reader.on_update = full
    first = Recorder(data_received=lambda _: near.set_protocol(reader))
    near, far, _ = connected_ends(loop, secure, first)
    if not within:
        near.set_protocol(reader)
    far.write(text)
    received = 0
    while (received := len(first.data) + len(reader.data)) < len(text):
        until(loop, lambda: len(first.data) + len(reader.data) > received)
        if not resumes and reader.calls:
            before = reader.calls
            turn(loop)
            assert reader.calls == before
            resume()
    assert bytes(first.data + reader.data) == text
    assert bool(first.data) is within
    assert reader.lost == []
    near.abort()
    far.abort()
    until(loop, lambda: reader.lost)
    turn(loop)


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("when", ["paused", "resumed"])
def test_what_a_pause_has_left_of_a_block_is_dropped_at_the_end(
    loop: EventLoop, how: str, when: str
) -> None:
    reader = Reader(loop)
    near, far, _ = connected_ends(loop, False, Recorder())
    reader.on_update = lambda _: near.pause_reading()
    near.set_protocol(reader)
    far.write(TEXT)
    until(loop, lambda: reader.calls)
    if when == "resumed":
        near.resume_reading()
    getattr(near, how)()
    far.abort()
    until(loop, lambda: reader.lost)
    assert reader.calls == 1
    turn(loop)


def test_protocol_that_pauses_and_resumes_as_it_is_asked_for_memory_is_given_all(
    loop: EventLoop, secure: bool
) -> None:
    class Fickle(Reader):
        asked = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            self.asked += 1
            near.pause_reading()
            near.resume_reading()
            return super().get_buffer(sizehint)

    reader = Fickle(loop)
    near, far, _ = connected_ends(loop, secure, reader)
    for _ in range(3):
        far.write(TEXT)
        wanted = len(reader.data) + len(TEXT)
        until(loop, lambda: len(reader.data) >= wanted)  # noqa: B023 - in this iteration
    assert bytes(reader.data) == TEXT * 3
    assert reader.asked <= 2 * reader.calls + 1
    near.abort()
    far.abort()
    until(loop, lambda: reader.lost)
    turn(loop)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_buffered_protocol_that_ends_the_connection_gets_no_more(
    loop: EventLoop, secure: bool, how: str
) -> None:
    reader = Reader(loop)
    near, far, _ = connected_ends(loop, secure, reader)
    reader.on_update = lambda _: getattr(near, how)()
    far.write(TEXT)
    until(loop, lambda: reader.calls)
    far.abort()
    until(loop, lambda: reader.lost)
    assert reader.calls == 1
    turn(loop)


def test_buffered_protocol_receives_into_its_own_memory_of_any_format(loop: EventLoop) -> None:
    reader = Reader(loop)
    reader.free = memoryview(bytearray(64)).cast("I")
    near, far, _ = connected_ends(loop, False, reader)
    far.write(b"abcdefgh")
    until(loop, lambda: reader.calls)
    assert bytes(reader.free)[:8] == b"abcdefgh"
    near.abort()
    far.abort()
    until(loop, lambda: reader.lost)
    turn(loop)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_out_of_a_callback_leaves_the_loop_and_loses_no_byte(
    loop: EventLoop, secure: bool, kind: type[BaseException]
) -> None:
    class Leaver(Recorder):
        def data_received(self, data: bytes) -> None:
            first = not self.data
            super().data_received(data)
            if first:
                raise kind  # which leaves run_forever, whatever else was to come

    leaver = Leaver()
    near, far, _ = connected_ends(loop, secure, leaver)
    text = TEXT * 30  # several records, several receives
    far.write(text)
    with pytest.raises(kind):
        until(loop, lambda: len(leaver.data) == len(text))
    until(loop, lambda: len(leaver.data) == len(text))
    assert bytes(leaver.data) == text
    near.abort()
    far.abort()
    until(loop, lambda: leaver.lost)
    turn(loop)


def test_writing_is_resumed_in_the_context_of_the_connection(loop: EventLoop, secure: bool) -> None:
    owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="nobody")
    seen: list[str] = []

    class Writer(Protocol):
        lost = False

        def connection_made(self, transport: Any) -> None:
            owner.set("connection")

        def resume_writing(self) -> None:
            seen.append(owner.get())
            if loop in watched:
                loop.stop()

        def connection_lost(self, exc: Any) -> None:
            self.lost = True
            if loop in watched:
                loop.stop()

    writer = Writer()
    near, far, peer = connected_ends(loop, secure, writer)
    far.pause_reading()
    near.write(b"x" * 3_000_000)
    turn(loop)
    assert seen == []
    far.resume_reading()
    until(loop, lambda: seen)
    assert seen == ["connection"]
    near.abort()
    far.abort()
    until(loop, lambda: writer.lost)
    turn(loop)
    del peer


def test_protocol_set_after_the_loss_is_not_taken(loop: EventLoop) -> None:
    one, two = Recorder(), Recorder()
    near, _ = pair(loop, one, two)
    turn(loop)
    finish(loop, one, two)
    late = Recorder()
    near.set_protocol(late)
    assert near.get_protocol() is None
    assert late.transport is None


def test_lost_callback_is_called_although_connection_lost_leaves_the_loop(
    loop: EventLoop,
) -> None:
    class Leaver(Recorder):
        def connection_lost(self, exc: Any) -> None:
            raise KeyboardInterrupt

    leaver = Leaver()
    near, far, peer = connected_ends(loop, False, leaver)
    told: list[Any] = []
    near.lost_callback = told.append
    near.abort()
    with pytest.raises(KeyboardInterrupt):
        until(loop, lambda: told)
    assert told == [near]
    far.abort()
    until(loop, lambda: peer.lost)
    turn(loop)


def test_file_is_sent_after_what_was_written_and_writes_meanwhile_raise(
    loop: EventLoop, tmp_path: Path, secure: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    if isinstance(loop.poller, SimulatedPoller):
        pytest.skip("the file is read in a thread, which simulated time does not wait for")

    async def send() -> int:
        near.write(b"before")
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(near, file, 100))
            await asyncio.sleep(0)
            if not secure and hasattr(os, "sendfile"):
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    near.write(b"between")
            count: int = await sending
        near.write(b"after")
        return count

    reader = Recorder()
    near, far, peer = connected_ends(loop, secure, reader)
    assert loop.run_until_complete(send()) == len(TEXT) - 100
    expected = b"before" + TEXT[100:] + b"after"
    if secure:
        assert loop.run_until_complete(peer.receive(len(expected))) == expected
    else:
        until(loop, lambda: len(peer.data) == len(expected))
        assert bytes(peer.data) == expected
    assert near.is_reading()
    near.abort()
    far.abort()
    until(loop, lambda: reader.lost)
    turn(loop)

"""The stream transport, both ends in one test, on every poller."""

import asyncio
import contextvars
import gc
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reactor.eventloop import EventLoop
from reactor.protocol import Protocol
from reactor.testing import pair, simulated_loop
from tests.effort import effort
from tests.reactor.recorder import (
    KINDS,
    AsyncioRecorder,
    Recorder,
    connected,
    finish,
    settle,
    turn,
    until,
)
from tests.reactor.transports.full_buffers import BIG

# -- receiving and sending ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_arrive_whole_and_in_order(loop: EventLoop, kind: Callable[[], Any]) -> None:
    one, two = connected(loop, kind(), kind())
    message = os.urandom(BIG)
    one.link.write(message)
    two.link.write(b"the other way")
    until(loop, lambda: len(two.data) == BIG and len(one.data) == 13)
    assert two.data == message
    assert one.data == b"the other way"
    finish(loop, one, two)


def test_connection_made_is_first_and_has_the_transport(loop: EventLoop) -> None:
    one, two = Recorder(), AsyncioRecorder()
    transports = pair(loop, one, two)
    assert one.events == two.events == []
    until(loop, lambda: one.events and two.events)
    assert (one.link, two.link) == transports
    assert one.transport is one.link
    assert one.link.get_protocol() is one
    finish(loop, one, two)
    assert one.transport is None


def test_write_inside_connection_made_is_sent(loop: EventLoop) -> None:
    one = Recorder(connection_made=lambda p: p.link.write(b"hello"))
    one, two = connected(loop, one)
    until(loop, lambda: two.data == b"hello")
    finish(loop, one, two)


def test_small_write_is_not_queued(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"x")
    assert one.link.get_write_buffer_size() in {0, 1}
    until(loop, lambda: two.data)
    settle(loop)
    assert one.link.get_write_buffer_size() == 0
    finish(loop, one, two)


def test_empty_write_does_nothing(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"")
    one.link.writelines([])
    one.link.writelines([b"", b""])
    assert one.link.get_write_buffer_size() == 0
    one.link.write(b"x")
    until(loop, lambda: two.data)
    finish(loop, one, two)


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"]])
def test_write_of_what_is_not_bytes_raises(loop: EventLoop, wrong: Any) -> None:
    one, two = connected(loop)
    with pytest.raises(TypeError, match="bytes-like"):
        one.link.write(wrong)
    finish(loop, one, two)


@pytest.mark.parametrize("size", [10, BIG])
def test_buffer_may_be_changed_right_after_the_write(loop: EventLoop, size: int) -> None:
    one, two = connected(loop)
    message = os.urandom(size)
    array = bytearray(message)
    one.link.write(array)
    array[:] = bytes(size)
    view = bytearray(message)
    one.link.write(memoryview(view))
    view[:] = bytes(size)
    array.clear()  # nothing is exported any more
    one.link.writelines([bytearray(b"a"), memoryview(b"b"), b"c"])
    until(loop, lambda: len(two.data) == 2 * size + 3)
    assert two.data == message + message + b"abc"
    finish(loop, one, two)


def test_writelines_keeps_the_order(loop: EventLoop) -> None:
    one, two = connected(loop)
    chunks = [b"%06d" % at for at in range(10_000)]
    one.link.write(b"first ")
    one.link.writelines(chunks)
    one.link.write(b" last")
    expected = b"first " + b"".join(chunks) + b" last"
    until(loop, lambda: len(two.data) == len(expected))
    assert two.data == expected
    finish(loop, one, two)


@settings(
    max_examples=effort(8, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=30),
    lines=st.lists(st.booleans(), min_size=30, max_size=30),
    faults=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 1000),
            "deferred": st.booleans(),
            "send_buffer_bytes": st.integers(1, 3000),
            "receive_buffer_bytes": st.integers(1, 3000),
            "short_bytes": st.integers(0, 500),
            "jitter_seconds": st.sampled_from([0.0, 0.01]),
        }
    ),
)
def test_writes_of_any_size_keep_their_order_under_back_pressure(
    sizes: list[int], lines: list[bool], faults: dict[str, Any]
) -> None:
    loop = simulated_loop(**faults)
    one, two = connected(loop)
    expected = b""
    for at, (size, gathered) in enumerate(zip(sizes, lines, strict=False)):
        chunk = bytes([at % 256]) * size
        expected += chunk
        if gathered:
            one.link.writelines([chunk[: size // 3], chunk[size // 3 :]])
        else:
            one.link.write(chunk if at % 2 else bytearray(chunk))
        if at % 5 == 0:
            turn(loop, 1)
    one.link.close()
    until(loop, lambda: two.lost)
    assert two.data == expected
    finish(loop, one, two)
    assert not any(loop.stats().values())
    assert loop.poller.violations == []  # type: ignore[attr-defined]
    loop.close()


# -- facts --------------------------------------------------------------------------------


def test_extra_info_tells_addresses_and_defaults(loop: EventLoop) -> None:
    one, two = connected(loop)
    assert one.link.get_extra_info("sockname") == two.link.get_extra_info("peername")
    assert one.link.get_extra_info("nonsense") is None
    assert one.link.get_extra_info("nonsense", 5) == 5
    assert one.link.get_extra_info("sslcontext") is None
    sock = one.link.get_extra_info("socket")
    assert sock.fileno() == one.link._sock_fd
    assert sock is one.link.get_extra_info("socket")
    finish(loop, one, two)
    assert one.link.get_extra_info("sockname") is None
    assert one.link.get_extra_info("socket", "gone") == "gone"


def test_repr_tells_the_state(loop: EventLoop) -> None:
    one, two = connected(loop)
    assert f"open fd={one.link._sock_fd} reading 0 bytes queued" in repr(one.link)
    one.link.pause_reading()
    assert "read paused" in repr(one.link)
    finish(loop, one, two)
    assert "lost" in repr(one.link)


def test_callbacks_run_in_the_context_of_the_maker(loop: EventLoop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    seen: list[tuple[str, str]] = []
    events = ("connection_made", "data_received", "eof_received", "resume_writing",
              "connection_lost")  # fmt: skip

    def note(who: str, event: str) -> Callable[[Any], None]:
        def hook(_: Any) -> None:
            seen.append((who, name.get()))
            if event == "connection_made":
                name.set(f"{who} itself")

        return hook

    recorders = []
    for who in ("one", "two"):
        name.set(who)
        recorders.append(Recorder(keeps_open=True, **{e: note(who, e) for e in events}))
    name.set("one")
    one, two = recorders
    contextvars.copy_context().run(pair, loop, one, two)
    name.set("test")
    until(loop, lambda: one.events and two.events)
    assert seen == [("one", "one"), ("two", "one")]
    seen.clear()
    one.link.write(b"x" * BIG)
    two.link.write(b"x")
    until(loop, lambda: one.data and len(two.data) == BIG and "resume_writing" in one.events)
    one.link.write_eof()
    two.link.write_eof()
    until(loop, lambda: "eof_received" in one.events and "eof_received" in two.events)
    finish(loop, one, two)
    assert name.get() == "test"
    assert {where for who, where in seen if who == "one"} == {"one itself"}
    assert {where for who, where in seen if who == "two"} == {"two itself"}


def test_lost_connection_is_freed_without_the_collector(loop: EventLoop) -> None:
    one, two = connected(loop)
    finish(loop, one, two)
    gone = [weakref.ref(one.link), weakref.ref(two.link)]
    gc.disable()
    try:
        del one, two
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


# -- written for asyncio ------------------------------------------------------------------


def test_asyncio_streams_work(loop: EventLoop) -> None:
    async def main() -> bytes:
        reader, far_reader = (asyncio.StreamReader(loop=loop) for _ in range(2))
        near = asyncio.StreamReaderProtocol(reader, loop=loop)
        far = asyncio.StreamReaderProtocol(far_reader, loop=loop)
        link, far_link = pair(loop, near, far)
        writer = asyncio.StreamWriter(link, near, reader, loop)
        far_writer = asyncio.StreamWriter(far_link, far, far_reader, loop)
        writer.write(b"line\n" + b"x" * BIG)
        drain = asyncio.ensure_future(writer.drain())
        assert await far_reader.readline() == b"line\n"
        assert len(await far_reader.readexactly(BIG)) == BIG
        await drain
        far_writer.write(b"answer")
        far_writer.write_eof()
        answer = await reader.read()
        for end in (writer, far_writer):
            end.close()
            await end.wait_closed()
        return answer

    assert loop.run_until_complete(main()) == b"answer"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
def test_protocol_may_be_a_cdef_class_with_slots(loop: EventLoop) -> None:
    class Slotted(Protocol):
        __slots__ = ("got",)
        got: bytes

        def connection_made(self, transport: Any) -> None:
            self.got = b""

        def data_received(self, data: bytes) -> None:
            self.got += data
            asyncio.get_running_loop().stop()

    two = Slotted()
    one = Recorder()
    pair(loop, one, two)
    until(loop, lambda: one.events)
    one.link.write(b"x")
    while not getattr(two, "got", b""):
        loop.run_forever()
    two.transport.abort()
    finish(loop, one)

"""The stream transport, both ends in one test, on every poller."""

import asyncio
import contextvars
import errno
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
from reactor.limits import HIGH_WATER_BYTES
from reactor.protocol import Protocol
from reactor.testing import pair, simulated_loop
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

BIG = 3_000_000  # more than the system's buffers of one connection take


def block(loop: EventLoop, writer: Any) -> int:
    """Write until the transport has to queue; return how many bytes that were."""
    total = 0
    writer.link.set_write_buffer_limits(high=1 << 30)
    while writer.link.get_write_buffer_size() == 0:
        writer.link.write(b"x" * 100_000)
        total += 100_000
        turn(loop)
    return total


# -- receiving and sending ------------------------------------------------------------


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
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


# -- water marks ------------------------------------------------------------------------


def test_limits_have_asyncios_defaults(loop: EventLoop) -> None:
    one, two = connected(loop)
    assert one.link.get_write_buffer_limits() == (HIGH_WATER_BYTES // 4, HIGH_WATER_BYTES)
    one.link.set_write_buffer_limits(high=100)
    assert one.link.get_write_buffer_limits() == (25, 100)
    one.link.set_write_buffer_limits(low=100)
    assert one.link.get_write_buffer_limits() == (100, 400)
    one.link.set_write_buffer_limits(high=0)
    assert one.link.get_write_buffer_limits() == (0, 0)
    one.link.set_write_buffer_limits()
    assert one.link.get_write_buffer_limits() == (HIGH_WATER_BYTES // 4, HIGH_WATER_BYTES)
    finish(loop, one, two)


@pytest.mark.parametrize(("high", "low"), [(10, 11), (-1, None), (10, -1), (None, -5)])
def test_senseless_limits_raise(loop: EventLoop, high: int | None, low: int | None) -> None:
    one, two = connected(loop)
    with pytest.raises(ValueError, match="must be >="):
        one.link.set_write_buffer_limits(high=high, low=low)
    finish(loop, one, two)


def test_protocol_is_paused_above_the_high_mark_and_resumed_at_the_low_one(
    loop: EventLoop,
) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    total = block(loop, one)
    queued = one.link.get_write_buffer_size()
    one.link.set_write_buffer_limits(high=queued + 10, low=0)
    one.link.write(b"x" * 10)
    assert one.events == ["connection_made"]  # exactly at the mark
    one.link.write(b"x")
    assert one.events == ["connection_made", "pause_writing"]
    one.link.write(b"x" * 1000)
    assert one.events.count("pause_writing") == 1
    two.link.resume_reading()
    until(loop, lambda: len(two.data) == total + 1011)
    turn(loop)
    assert one.events == ["connection_made", "pause_writing", "resume_writing"]
    assert one.link.get_write_buffer_size() == 0
    finish(loop, one, two)


def test_resume_comes_when_the_queue_has_exactly_the_low_mark() -> None:
    loop = simulated_loop(send_buffer_bytes=100, receive_buffer_bytes=100)
    sizes: list[int] = []
    one = Recorder(resume_writing=lambda p: sizes.append(p.link.get_write_buffer_size()))
    one, two = connected(loop, one)
    two.link.pause_reading()
    one.link.set_write_buffer_limits(high=350, low=300)
    one.link.write(b"x" * 200)  # in both sockets' buffers
    turn(loop)
    one.link.write(b"x" * 400)
    assert one.events[-1] == "pause_writing"
    two.link.resume_reading()
    until(loop, lambda: sizes)
    assert sizes == [300]
    finish(loop, one, two)
    loop.close()


def test_lowered_limits_pause_at_once(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    block(loop, one)
    one.link.set_write_buffer_limits(high=0)
    assert one.events == ["connection_made", "pause_writing"]
    finish(loop, one, two)


def test_paused_protocol_that_aborts_is_not_resumed(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    block(loop, one)
    one.link.set_write_buffer_limits(high=0)
    one.link.abort()
    until(loop, lambda: one.lost)
    assert one.events == ["connection_made", "pause_writing", "connection_lost"]
    finish(loop, one, two)


def test_more_is_written_inside_resume_writing(loop: EventLoop) -> None:
    one = Recorder(resume_writing=lambda p: p.link.write(b"more"))
    one, two = connected(loop, one)
    one.link.write(b"x" * BIG)
    until(loop, lambda: len(two.data) == BIG + 4)
    assert two.data.endswith(b"xmore")
    finish(loop, one, two)


# -- reading: pause and resume ------------------------------------------------------------


def test_paused_reader_receives_nothing(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    assert not two.link.is_reading()
    one.link.write(b"unread")
    turn(loop, 10)
    assert two.data == b""
    two.link.resume_reading()
    assert two.link.is_reading()
    until(loop, lambda: two.data == b"unread")
    finish(loop, one, two)


def test_pause_and_resume_may_be_called_twice_and_at_once(loop: EventLoop) -> None:
    one, two = connected(loop)
    for _ in range(3):
        two.link.pause_reading()
        two.link.pause_reading()
        two.link.resume_reading()
        two.link.resume_reading()
    one.link.write(b"x")
    until(loop, lambda: two.data)
    two.link.pause_reading()
    two.link.resume_reading()
    turn(loop)
    two.link.pause_reading()
    two.link.resume_reading()
    one.link.write(b"y")
    until(loop, lambda: two.data == b"xy")
    finish(loop, one, two)


def test_pause_inside_data_received_stops_it(loop: EventLoop) -> None:
    two = Recorder(data_received=lambda p: p.link.pause_reading())
    one, two = connected(loop, None, two)
    one.link.write(b"x" * 500_000)
    until(loop, lambda: two.data)
    turn(loop, 5)
    seen = 0
    while len(two.data) < 500_000:
        assert len(two.data) > seen
        seen = len(two.data)
        events = len(two.events)
        two.link.resume_reading()
        until(loop, lambda: len(two.events) > events)  # noqa: B023
        assert len(two.events) == events + 1
        turn(loop, 3)
        assert len(two.events) == events + 1
    finish(loop, one, two)


def test_pause_inside_connection_made_stops_it(loop: EventLoop) -> None:
    two = Recorder(connection_made=lambda p: p.link.pause_reading())
    one, two = connected(loop, None, two)
    one.link.write(b"x")
    turn(loop, 5)
    assert not two.data
    two.link.resume_reading()
    until(loop, lambda: two.data)
    finish(loop, one, two)


def test_resume_inside_connection_made_is_harmless(loop: EventLoop) -> None:
    def dither(p: Recorder) -> None:
        p.link.pause_reading()
        p.link.resume_reading()

    one, two = connected(loop, None, Recorder(connection_made=dither))
    one.link.write(b"x")
    until(loop, lambda: two.data)
    finish(loop, one, two)


def test_pause_by_another_connection_of_the_same_batch_holds(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    pairs = [connected(loop) for _ in range(6)]
    readers = [two for _, two in pairs]

    def pause_the_others(reader: Recorder) -> None:
        for other in readers:
            if other is not reader:
                other.link.pause_reading()

    for reader in readers:
        reader.hooks["data_received"] = pause_the_others
    for one, _ in pairs:
        one.link.write(b"x")
    until(loop, lambda: any(reader.data for reader in readers))
    settle(loop)
    first = [reader for reader in readers if reader.data]
    assert len(first) == 1
    for reader in readers:
        reader.hooks.clear()
        reader.link.resume_reading()
    until(loop, lambda: all(reader.data == b"x" for reader in readers))
    finish(loop, *readers, *(one for one, _ in pairs))


def test_end_that_comes_while_paused_is_told_after_resume(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    one, two = connected(loop)
    one.link.write_eof()
    two.link.pause_reading()
    settle(loop)
    assert two.events == ["connection_made"]
    two.link.resume_reading()
    until(loop, lambda: two.lost)
    assert two.events == ["connection_made", "eof_received", "connection_lost"]
    finish(loop, one, two)


def test_pause_when_the_bytes_are_in_already_holds_them_back(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated(delay_seconds=0.01)
    if not loop.poller.deferred:  # type: ignore[attr-defined]
        return
    for end in (lambda p: p.link.abort(), lambda p: p.link.close(), None):
        one, two = connected(loop)
        one.link.write(b"held")
        turn(loop, 1)
        two.link.pause_reading()
        settle(loop)
        assert two.data == b""
        if end is None:
            two.link.resume_reading()
            assert two.data == b""  # not from inside the call
            until(loop, lambda: two.data)  # noqa: B023
            assert two.data == b"held"
        else:
            end(two)
            until(loop, lambda: two.lost)  # noqa: B023
            assert two.data == b""
        finish(loop, one, two)
        assert loop.stats()["blocks_in_use"] == 0


# -- the end: write_eof, close, abort, loss --------------------------------------------------


def test_end_of_file_closes_by_default(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"last")
    one.link.write_eof()
    assert one.link.can_write_eof()
    until(loop, lambda: two.lost and one.lost)
    assert two.data == b"last"
    assert two.events[-2:] == ["eof_received", "connection_lost"]
    assert one.events[-2:] == ["eof_received", "connection_lost"]
    assert one.lost == two.lost == [None]
    finish(loop, one, two)


def test_half_closed_connection_carries_the_other_direction(loop: EventLoop) -> None:
    one, two = connected(loop, None, Recorder(keeps_open=True))
    one.link.write_eof()
    until(loop, lambda: "eof_received" in two.events)
    message = os.urandom(BIG)
    two.link.write(message)
    until(loop, lambda: len(one.data) == BIG)
    assert one.data == message
    assert not one.lost
    two.link.close()
    until(loop, lambda: one.lost and two.lost)
    finish(loop, one, two)


def test_both_halves_may_be_closed_by_write_eof(loop: EventLoop) -> None:
    one, two = connected(loop, Recorder(keeps_open=True), Recorder(keeps_open=True))
    one.link.write_eof()
    two.link.write_eof()
    one.link.write_eof()
    until(loop, lambda: "eof_received" in one.events and "eof_received" in two.events)
    assert not one.link.is_closing()
    one.link.close()
    two.link.close()
    finish(loop, one, two)


def test_write_eof_waits_for_the_queue(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"x" * BIG)
    one.link.write_eof()
    until(loop, lambda: "eof_received" in two.events)
    assert len(two.data) == BIG
    finish(loop, one, two)


def test_write_after_write_eof_raises(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        one.link.write(b"x")
    with pytest.raises(RuntimeError, match="after write_eof"):
        one.link.writelines([b"x"])
    finish(loop, one, two)


def test_close_sends_what_was_written(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"x" * BIG)
    one.link.close()
    assert one.link.is_closing()
    assert not one.lost
    until(loop, lambda: one.lost and two.lost)
    assert len(two.data) == BIG
    assert one.lost == two.lost == [None]
    finish(loop, one, two)


def test_close_receives_nothing_more(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    block(loop, one)
    one.link.close()
    two.link.write(b"too late")
    turn(loop, 5)
    assert one.data == b""
    assert one.events == ["connection_made"]
    two.link.resume_reading()
    until(loop, lambda: one.lost)
    finish(loop, one, two)


def test_connection_lost_is_never_called_from_inside_close_or_abort(loop: EventLoop) -> None:
    for end in ("close", "abort"):
        one, two = connected(loop)
        getattr(one.link, end)()
        assert not one.lost
        getattr(one.link, end)()
        until(loop, lambda: one.lost)  # noqa: B023
        one.link.close()
        one.link.abort()
        finish(loop, one, two)


def test_abort_discards_what_was_written(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    total = block(loop, one)
    one.link.abort()
    until(loop, lambda: one.lost)
    assert one.lost == [None]
    two.link.resume_reading()
    until(loop, lambda: two.lost)
    assert len(two.data) < total
    finish(loop, one, two)


def test_abort_while_closing_is_at_once(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    block(loop, one)
    one.link.close()
    one.link.abort()
    until(loop, lambda: one.lost)
    finish(loop, one, two)


def test_write_after_close_is_dropped(loop: EventLoop) -> None:
    one, two = connected(loop)
    one.link.write(b"kept")
    one.link.close()
    one.link.write(b"dropped")
    one.link.writelines([b"dropped", b"too"])
    until(loop, lambda: one.lost and two.lost)
    one.link.write(b"dropped")
    one.link.write_eof()
    assert two.data == b"kept"
    with pytest.raises(TypeError):
        one.link.write("text")
    finish(loop, one, two)


def test_writes_after_a_loss_are_warned_about(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    one.link.write(b"unread")
    turn(loop)
    two.link.abort()  # with unread bytes: a reset
    until(loop, lambda: one.lost)
    for _ in range(10):
        one.link.write(b"x")
    assert "socket.send() raised exception" in caplog.text
    finish(loop, one, two)


def test_close_with_unread_bytes_is_a_loss_for_the_peer(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    one, two = connected(loop)
    two.link.pause_reading()
    settle(loop)
    one.link.write(b"unread")
    settle(loop)
    two.link.close()
    until(loop, lambda: one.lost)
    assert isinstance(one.lost[0], ConnectionResetError)
    finish(loop, one, two)


def test_reset_while_writing_is_told_once(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    one, two = connected(loop)
    two.link.pause_reading()
    block(loop, one)
    loop.poller.network.reset(one.link._sock_fd)  # type: ignore[attr-defined]
    until(loop, lambda: one.lost)
    assert isinstance(one.lost[0], (ConnectionResetError, BrokenPipeError))
    assert one.events[-1] == "connection_lost"
    one.link.write(b"more")
    finish(loop, one, two)


def test_reset_after_so_many_bytes_delivers_them_first(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    one, two = connected(loop)
    loop.poller.network.reset_after(two.link._sock_fd, 1000)  # type: ignore[attr-defined]
    one.link.write(b"x" * 5000)
    until(loop, lambda: two.lost and one.lost)
    assert len(two.data) == 1000
    assert isinstance(two.lost[0], ConnectionResetError)
    finish(loop, one, two)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.EIO])
@pytest.mark.parametrize("call", ["send", "receive"])
def test_failing_call_of_the_system_is_the_reason_of_the_loss(
    simulated: Callable[..., EventLoop], call: str, number: int
) -> None:
    loop = simulated()
    one, two = connected(loop)
    loop.poller.network.fail(call, number)  # type: ignore[attr-defined]
    one.link.write(b"x")
    until(loop, lambda: one.lost or two.lost)
    failed = one if call == "send" else two
    assert isinstance(failed.lost[0], OSError)
    assert failed.lost[0].errno == number
    finish(loop, one, two)


# -- facts ------------------------------------------------------------------------------


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


# -- loops that close ---------------------------------------------------------------------


@pytest.mark.parametrize("state", ["reading", "paused", "queued", "closing", "fresh"])
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_closed_loop_frees_live_transports_with_a_warning(loop: EventLoop, state: str) -> None:
    one, two = Recorder(), Recorder()
    links: Any = pair(loop, one, two)
    if state != "fresh":
        until(loop, lambda: one.events and two.events)
    if state == "paused":
        one.link.pause_reading()
    if state in {"queued", "closing"}:
        two.link.pause_reading()
        block(loop, one)
    if state == "closing":
        one.link.close()
    turn(loop, 0 if state == "fresh" else 2)
    events = [list(one.events), list(two.events)]
    with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
        loop.close()
        del links
        one.link = two.link = None
        one.transport = two.transport = None
        gc.collect()
    assert [one.events, two.events] == events
    assert loop.stats()["live_ops"] == 0
    assert loop.stats()["blocks_in_use"] == 0


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_closed_loop_delivers_nothing_of_a_batch_that_an_exit_left(loop: EventLoop) -> None:
    def leave(_: Any) -> None:
        raise KeyboardInterrupt

    ends = [connected(loop) for _ in range(10)]
    for _, two in ends:
        two.hooks["data_received"] = leave
    for one, _ in ends:
        one.link.write(b"x")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        while True:
            loop.run_forever()
    received = [len(two.data) for _, two in ends]
    assert sum(received) == 1
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert [len(two.data) for _, two in ends] == received
    assert loop.stats()["live_ops"] == 0
    assert loop.stats()["blocks_in_use"] == 0
    del ends
    gc.collect()


# -- written for asyncio --------------------------------------------------------------------


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

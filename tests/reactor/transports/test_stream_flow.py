"""Flow control of the stream transport: water marks of the writer, pauses of the reader."""

from collections.abc import Callable

import pytest

from reactor.eventloop import EventLoop
from reactor.limits import HIGH_WATER_BYTES
from reactor.testing import simulated_loop
from tests.reactor.recorder import Recorder, connected, finish, settle, turn, until
from tests.reactor.transports.full_buffers import BIG, fill

# -- water marks --------------------------------------------------------------------------


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
    total = fill(loop, one)
    queued = one.link.get_write_buffer_size()
    one.link.set_write_buffer_limits(high=queued + 10, low=0)
    one.link.write(b"x" * 10)
    assert one.events == ["connection_made"]  # exactly at the mark
    one.link.write(b"x")
    assert one.events == ["connection_made", "pause_writing"]
    one.link.write(b"x" * 1000)
    assert one.events.count("pause_writing") == 1
    two.link.resume_reading()
    until(loop, lambda: len(two.data) == total + 1011 and one.events[-1] == "resume_writing")
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
    fill(loop, one)
    one.link.set_write_buffer_limits(high=0)
    assert one.events == ["connection_made", "pause_writing"]
    finish(loop, one, two)


def test_paused_protocol_that_aborts_is_not_resumed(loop: EventLoop) -> None:
    one, two = connected(loop)
    two.link.pause_reading()
    fill(loop, one)
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


@pytest.mark.parametrize("simulated", ["deferred", "posted"], indirect=True)
def test_pause_when_the_bytes_are_in_already_holds_them_back(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated(delay_seconds=0.01)
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

"""Call-backs of the stream transport that do things, and call-backs that fail."""

from collections.abc import Callable
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.testing import pair
from tests.reactor.recorder import BufferRecorder, Recorder, connected, finish, turn, until
from tests.reactor.transports.full_buffers import BIG

EVENTS = [
    "connection_made",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
]


# -- call-backs that do things ------------------------------------------------------------


@pytest.mark.parametrize(
    "action", ["close", "abort", "pause_reading", "resume_reading", "write_eof", "set_protocol"]
)
@pytest.mark.parametrize(
    "event",
    [
        "connection_made",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ],
)
def test_everything_may_be_called_inside_every_callback(
    loop: EventLoop, event: str, action: str
) -> None:
    done: list[str] = []

    def act(p: Any) -> None:
        if done:
            return
        done.append(action)
        if action == "set_protocol":
            p.link.set_protocol(p)
        else:
            getattr(p.link, action)()

    one = Recorder(**hooks(event, act))
    one, two = connected(loop, one)
    one.link.set_write_buffer_limits(high=0)
    two.link.write(b"ping")
    if not one.link.is_closing() and "write_eof" not in done:
        one.link.write(b"x" * BIG)
    until(loop, lambda: done or event in {"eof_received", "connection_lost"})
    turn(loop, 5)
    if not two.lost:
        two.link.write_eof()
    until(loop, lambda: done or event == "connection_lost")
    turn(loop, 5)
    if not one.lost and not one.link.is_closing():
        one.link.resume_reading()
    turn(loop, 5)
    finish(loop, one, two)
    assert done == [action]


def test_callback_may_close_every_other_connection_of_its_batch(loop: EventLoop) -> None:
    pairs = [connected(loop) for _ in range(20)]
    readers = [two for _, two in pairs]

    def close_the_others(reader: Recorder) -> None:
        for at, other in enumerate(readers):
            if other is not reader:
                other.link.abort() if at % 2 else other.link.close()

    for reader in readers:
        reader.hooks["data_received"] = close_the_others
    for one, _ in pairs:
        one.link.write(b"x")
    until(loop, lambda: sum(bool(reader.lost) for reader in readers) >= 19)
    finish(loop, *readers, *(one for one, _ in pairs))


def test_callback_may_write_to_every_other_connection_of_its_batch(loop: EventLoop) -> None:
    pairs = [connected(loop) for _ in range(10)]
    readers = [two for _, two in pairs]

    def tell_the_others(reader: Recorder) -> None:
        for other in readers:
            if other is not reader:
                other.link.write(b"!")

    for reader in readers:
        reader.hooks["data_received"] = tell_the_others
    for one, _ in pairs:
        one.link.write(b"x")
    until(loop, lambda: all(len(one.data) == 9 for one, _ in pairs))
    finish(loop, *readers, *(one for one, _ in pairs))


def test_descriptor_number_that_is_reused_at_once_belongs_to_the_new_connection(
    loop: EventLoop,
) -> None:
    old = [connected(loop) for _ in range(4)]
    fresh: list[tuple[Recorder, Recorder]] = []

    def replace(reader: Recorder) -> None:
        if not fresh:
            for _, two in old:
                two.link.abort()
            one, two = Recorder(), Recorder()
            pair(loop, one, two)
            fresh.append((one, two))

    for _, two in old:
        two.hooks["data_received"] = replace
    for one, _ in old:
        one.link.write(b"x")
    until(loop, lambda: all(two.lost for _, two in old))
    ((one, two),) = fresh
    until(loop, lambda: one.events and two.events)
    one.link.write(b"fresh")
    until(loop, lambda: two.data == b"fresh")
    finish(loop, one, two, *(end for ends in old for end in ends))


def test_set_protocol_sends_what_comes_next_to_another(loop: EventLoop) -> None:
    other = Recorder()
    other.events.append("connection_made")
    two = Recorder(data_received=lambda p: p.link.set_protocol(other))
    one, two = connected(loop, None, two)
    one.link.write(b"for the first")
    until(loop, lambda: two.data)
    one.link.write(b"for the second")
    until(loop, lambda: other.data)
    assert other.data == b"for the second"
    assert other.transport is two.link
    one.link.close()
    until(loop, lambda: other.lost)
    assert not two.lost
    finish(loop, one)


def test_set_protocol_between_two_buffers_splits_the_bytes(loop: EventLoop) -> None:
    other = Recorder()
    other.events.append("connection_made")
    two = BufferRecorder(data_received=lambda p: p.link.set_protocol(other))
    two.size = 4
    one, two = connected(loop, None, two)
    one.link.write(b"0123456789")
    until(loop, lambda: len(other.data) == 6)
    assert two.data == b"0123"
    assert other.data == b"456789"
    one.link.close()
    until(loop, lambda: other.lost)
    finish(loop, one)


# -- call-backs that fail -----------------------------------------------------------------


class Oops(Exception):
    pass


def fail(_: Any) -> None:
    raise Oops


def hooks(event: str, hook: Callable[[Any], None] = fail) -> dict[str, Any]:
    return {event: hook}


def take_reports(loop: EventLoop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = list(loop.reported)  # type: ignore[attr-defined]
    loop.reported.clear()  # type: ignore[attr-defined]
    return reports


@pytest.mark.parametrize("kind", [Recorder, BufferRecorder])
@pytest.mark.parametrize("event", ["data_received", "eof_received"])
def test_failing_callback_aborts_and_is_reported_once(
    loop: EventLoop, event: str, kind: type[Any]
) -> None:
    one, two = connected(loop, None, kind(**hooks(event)))
    one.link.write(b"x")
    one.link.write_eof()
    until(loop, lambda: two.lost)
    (report,) = take_reports(loop)
    assert isinstance(report["exception"], Oops)
    assert report["transport"] is two.link
    assert report["protocol"] is two
    assert isinstance(two.lost[0], Oops)
    finish(loop, one, two)


@pytest.mark.parametrize("event", ["connection_made", "pause_writing", "resume_writing"])
def test_failure_that_leaves_the_stream_whole_is_only_reported(loop: EventLoop, event: str) -> None:
    one, two = connected(loop, Recorder(**hooks(event)))
    one.link.write(b"x" * BIG)
    until(loop, lambda: len(two.data) == BIG)
    turn(loop)
    (report,) = take_reports(loop)
    assert isinstance(report["exception"], Oops)
    two.link.write(b"still here")
    until(loop, lambda: one.data == b"still here")
    finish(loop, one, two)


def test_failing_connection_lost_is_reported_and_the_socket_closed(loop: EventLoop) -> None:
    one, two = connected(loop, Recorder(connection_lost=fail))
    one.link.close()
    until(loop, lambda: two.lost and one.lost)
    (report,) = take_reports(loop)
    assert isinstance(report["exception"], Oops)
    finish(loop, one, two)


@pytest.mark.parametrize(
    "missing",
    ["connection_made", "data_received", "eof_received", "pause_writing", "connection_lost"],
)
def test_protocol_without_a_callback_is_reported(loop: EventLoop, missing: str) -> None:
    class Partial:
        def __init__(self) -> None:
            self.record = Recorder()

        def __getattr__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return getattr(self.record, name)

    one = Recorder()
    two = Partial()
    _, link = pair(loop, one, two)
    until(loop, lambda: one.events and (two.record.events or missing == "connection_made"))
    link.set_write_buffer_limits(high=0)
    if missing == "connection_made":
        turn(loop)
        two.record.events.append(missing)
    if missing == "pause_writing":
        link.write(b"x" * BIG)
    one.link.write(b"x")
    one.link.write_eof()
    until(loop, lambda: one.lost or loop.reported)  # type: ignore[attr-defined]
    link.abort()
    one.link.abort()
    until(loop, lambda: one.lost)
    turn(loop)
    assert "AttributeError" in repr([report["exception"] for report in take_reports(loop)])


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    "event",
    [
        "connection_made",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ],
)
def test_exit_inside_a_callback_leaves_the_loop_and_loses_nothing(
    loop: EventLoop, event: str, kind: type[BaseException]
) -> None:
    def leave(_: Any) -> None:
        del two.hooks[event]
        raise kind

    one, two = Recorder(), Recorder(**hooks(event, leave))
    others = [connected(loop) for _ in range(5)]
    pair(loop, one, two)
    left = 0
    message = b""

    def run(condition: Callable[[], object]) -> None:
        nonlocal left
        while not condition():
            try:
                until(loop, condition)
            except kind:
                left += 1

    run(lambda: one.events and two.events)
    one.link.write(b"hello")
    for near, _ in others:
        near.link.write(b"served")
    run(lambda: two.data == b"hello" and all(far.data == b"served" for _, far in others))
    try:
        two.link.write(b"x" * BIG)
    except kind:
        left += 1
        message = b"x" * BIG
    run(lambda: len(one.data) == BIG)
    assert message in {b"", bytes(one.data)}
    one.link.write(b"again")
    run(lambda: two.data == b"helloagain")
    one.link.close()
    run(lambda: one.lost and two.lost)
    assert left == 1
    finish(loop, one, two, *(end for ends in others for end in ends))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exit_between_two_buffers_of_one_block_ends_the_connection(
    loop: EventLoop, kind: type[BaseException]
) -> None:
    """What is left in the block has no place to wait, and nothing may come after a gap."""

    class Small(BufferRecorder):
        size = 10

    def leave(_: Any) -> None:
        del two.hooks["data_received"]
        raise kind

    one, first = connected(loop)
    two = Small(**hooks("data_received", leave))
    two.connection_made(first.link)
    turn(loop)
    first.link.set_protocol(two)  # while a receive for the other one is under way
    one.link.write(b"0123456789abcdefghij")
    with pytest.raises(kind):
        until(loop, lambda: two.data)
    one.link.write(b"after the gap")
    until(loop, lambda: one.lost and two.lost)
    assert two.data == b"0123456789"
    assert isinstance(two.lost[0], ConnectionAbortedError)
    finish(loop, one)

"""How a stream transport ends: half-closed, closed, aborted, lost, or its loop closed."""

import errno
import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.testing import pair
from tests.reactor.recorder import Recorder, connected, finish, settle, turn, until
from tests.reactor.transports.full_buffers import BIG, fill

# -- the end: write_eof, close, abort, loss -----------------------------------------------


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
    fill(loop, one)
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
    total = fill(loop, one)
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
    fill(loop, one)
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
    with pytest.raises(TypeError, match="bytes-like"):
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
    fill(loop, one)
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
        fill(loop, one)
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

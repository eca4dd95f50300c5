"""The reactor: ready queue, timers, passes, threads, exits."""

import asyncio
import contextvars
import gc
import math
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from reactor.core import Handle, Reactor
from reactor.eventloop import EventLoop
from reactor.testing import Deadlock, simulated_loop
from reactor.testing.poller_probe import PollerProbe, ProbeOp
from reactor.timers import TimerProbe
from tests.reactor.recorder import Recorder, connected, finish, turn, until


def take_reports(loop: EventLoop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = list(loop.reported)  # type: ignore[attr-defined]
    loop.reported.clear()  # type: ignore[attr-defined]
    return reports


# -- the ready queue ------------------------------------------------------------------------


def test_callbacks_run_in_the_order_in_which_they_were_queued(loop: EventLoop) -> None:
    seen: list[int] = []
    for at in range(1000):  # more than the ring's first size
        loop.call_soon(seen.append, at)
    turn(loop, 1)
    assert seen == list(range(1000))


def test_ring_keeps_its_order_while_it_wraps_and_grows(loop: EventLoop) -> None:
    seen: list[int] = []
    count = 0
    for size in (200, 100, 300, 50, 700, 1):
        for _ in range(size):
            loop.call_soon(seen.append, count)
            count += 1
        turn(loop, 1)
    assert seen == list(range(count))


def test_callback_queued_by_a_callback_runs_in_the_next_pass(loop: EventLoop) -> None:
    seen: list[str] = []

    def first() -> None:
        loop.call_soon(seen.append, "second")
        seen.append("first")

    loop.call_soon(first)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first"]
    turn(loop, 1)
    assert seen == ["first", "second"]


def test_cancelled_handle_does_not_run(loop: EventLoop) -> None:
    seen: list[int] = []
    handles = [loop.call_soon(seen.append, at) for at in range(3)]
    handles[1].cancel()
    handles[1].cancel()
    assert [handle.cancelled() for handle in handles] == [False, True, False]
    turn(loop, 1)
    assert seen == [0, 2]
    assert isinstance(handles[0], Handle)


def test_handle_that_somebody_keeps_serves_no_other_callback(loop: EventLoop) -> None:
    seen: list[str] = []
    kept = loop.call_soon(seen.append, "kept")
    turn(loop, 1)
    others = [loop.call_soon(seen.append, "other") for _ in range(3)]
    assert kept not in others
    kept.cancel()
    turn(loop, 1)
    assert seen == ["kept", "other", "other", "other"]


def test_handle_that_its_own_callback_cancelled_is_not_used_again(loop: EventLoop) -> None:
    handles: list[asyncio.Handle] = []
    handles.append(loop.call_soon(lambda: handles.pop().cancel()))
    turn(loop, 1)
    assert not handles
    seen: list[int] = []
    for at in range(3):  # one of these has the memory of the first
        loop.call_soon(seen.append, at)
    turn(loop, 1)
    assert seen == [0, 1, 2]


def test_handle_that_was_run_in_debug_mode_tells_no_later_one_where_it_was_made(
    loop: EventLoop,
) -> None:
    loop.set_debug(True)
    loop.call_soon(loop.set_debug, False)
    turn(loop, 1)
    handle: Any = loop.call_soon(str)
    assert not handle._source_traceback
    turn(loop, 1)


def test_handle_in_waiting_keeps_nothing_alive(loop: EventLoop) -> None:
    class Callback:
        def __call__(self, argument: object) -> None: ...

    callback, argument = Callback(), Callback()
    watched = [weakref.ref(callback), weakref.ref(argument)]
    loop.call_soon(callback, argument)
    del callback, argument
    turn(loop, 1)
    assert [each() for each in watched] == [None, None]


def test_handle_whose_callback_turned_debug_mode_on_and_failed_keeps_nothing_alive(
    loop: EventLoop,
) -> None:
    class Callback:
        def __call__(self) -> None:
            loop.set_debug(True)
            raise OSError("on purpose")

    loop.set_exception_handler(lambda *_: None)
    callback = Callback()
    watched = weakref.ref(callback)
    loop.call_soon(callback)
    del callback
    turn(loop, 1)
    loop.set_debug(False)
    assert watched() is None


def test_cancelled_handle_lets_its_callback_go(loop: EventLoop) -> None:
    class Big:
        def method(self) -> None:
            raise AssertionError

    big = Big()
    handle: Any = loop.call_soon(big.method)
    assert len(gc.get_referrers(big)) >= 1
    handle.cancel()
    assert handle._callback is handle._args is None
    turn(loop, 1)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("end", ["run", "failed", "cancelled", "closed"])
@pytest.mark.parametrize("kind", ["soon", "later"])
def test_handle_that_is_done_with_is_in_no_cycle(kind: str, end: str, debug: bool) -> None:
    class Owner:
        handle: asyncio.Handle

        def __call__(self) -> None:
            if end == "failed":
                raise OSError("on purpose")

    loop = simulated_loop()
    loop.set_debug(debug)
    loop.set_exception_handler(lambda *_: None)
    owner = Owner()
    owner.handle = loop.call_soon(owner) if kind == "soon" else loop.call_later(0, owner)
    gone = weakref.ref(owner)
    gc.disable()
    try:
        if end == "cancelled":
            owner.handle.cancel()
        elif end == "closed":
            loop.close()
        else:
            turn(loop, 3)
        del owner
        assert gone() is None  # by its count alone: nothing but itself held it
    finally:
        gc.enable()
        loop.close()


def test_failed_call_back_is_told_of_with_its_handle_as_it_was(loop: EventLoop) -> None:
    def fail() -> None:
        raise OSError("on purpose")

    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(repr(context["handle"])))
    loop.call_soon(fail)
    turn(loop, 1)
    assert "fail()" in told[0]


@pytest.mark.parametrize("args", [(), (1,), (1, 2), (1, 2, 3, 4, 5)])
def test_arguments_arrive(loop: EventLoop, args: tuple[int, ...]) -> None:
    seen: list[tuple[int, ...]] = []
    loop.call_soon(lambda *got: seen.append(got), *args)
    turn(loop, 1)
    assert seen == [args]


@pytest.mark.parametrize("allocations", range(12))
def test_finalizer_that_queues_while_the_ring_grows_is_not_lost(allocations: int) -> None:
    loop = simulated_loop()
    seen: list[int] = []

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            loop.call_soon(seen.append, -1)

    gc.collect()
    before = gc.get_threshold()
    gc.disable()
    try:
        for at in range(256):  # the ring is full now
            loop.call_soon(seen.append, at)
        Cycle()
        # The collector starts so many allocations from here.
        gc.set_threshold(gc.get_count()[0] + allocations)
        gc.enable()
        loop.call_soon(seen.append, 256)
    finally:
        gc.enable()
        gc.set_threshold(*before)
    gc.collect()
    turn(loop, 2)
    assert sorted(seen) == list(range(-1, 257))
    loop.close()


# -- contexts -------------------------------------------------------------------------------

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def test_callback_runs_in_a_copy_of_the_context_of_its_scheduling(loop: EventLoop) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(name.get())
        name.set("changed by the call-back")

    token = name.set("first")
    loop.call_soon(look)
    loop.call_later(0, look)
    name.set("second")
    loop.call_soon_threadsafe(look)
    loop.call_at(0, look)
    while len(seen) < 4:
        turn(loop, 1)
    assert sorted(seen) == ["first", "first", "second", "second"]
    assert name.get() == "second"
    name.reset(token)


def test_given_context_is_used(loop: EventLoop) -> None:
    context = contextvars.copy_context()
    handle: Any = loop.call_soon(name.set, "inside", context=context)
    timer: Any = loop.call_later(0, name.set, "later", context=context)
    assert handle.get_context() is timer.get_context() is context
    turn(loop, 1)
    assert name.get() == "nobody"
    assert context[name] in {"inside", "later"}
    timer.cancel()


def test_context_that_is_entered_already_is_the_callbacks_failure(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    context = contextvars.copy_context()
    seen: list[int] = []

    def run() -> None:
        loop.call_soon(seen.append, 1, context=context)
        loop.call_soon(seen.append, 2)
        turn(loop, 1)

    context.run(run)
    assert seen == [2]
    # Since 3.12 asyncio calls the handler in the handle's context, which fails for the same
    # reason and is logged.
    assert "already entered" in f"{take_reports(loop)} {caplog.text}"


def test_context_that_is_none_is_the_callbacks_failure(loop: EventLoop) -> None:
    seen: list[int] = []
    nothing: Any = object()
    loop.call_soon(seen.append, 1, context=nothing)
    loop.call_soon(seen.append, 2)
    turn(loop, 1)
    assert seen == [2]
    (report,) = take_reports(loop)
    assert isinstance(report["exception"], TypeError)


# -- failures ---------------------------------------------------------------------------------


class Oops(Exception):
    pass


def fail() -> None:
    raise Oops("on purpose")


def test_failing_callback_is_reported_and_the_others_run(loop: EventLoop) -> None:
    seen: list[int] = []
    handle = loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    turn(loop, 1)
    assert seen == [1]
    (report,) = take_reports(loop)
    assert isinstance(report["exception"], Oops)
    assert report["handle"] is handle
    assert report["message"].startswith("Exception in callback fail()")


def test_failing_timer_is_reported(loop: EventLoop) -> None:
    loop.call_later(0.001, fail)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert isinstance(take_reports(loop)[0]["exception"], Oops)


def test_failing_exception_handler_is_logged(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(lambda _, __: fail())
    loop.call_soon(fail)
    turn(loop, 1)
    assert "Unhandled error in exception handler" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exit_leaves_the_loop_and_the_rest_runs_next_time(
    loop: EventLoop, kind: type[BaseException]
) -> None:
    seen: list[int] = []

    def leave() -> None:
        raise kind

    loop.call_soon(seen.append, 1)
    loop.call_soon(leave)
    loop.call_soon(seen.append, 2)
    loop.call_later(0, leave)
    for _ in range(2):
        with pytest.raises(kind):
            loop.run_forever()
        assert not loop.is_running()
    turn(loop)
    assert seen == [1, 2]


def test_exit_in_one_callback_of_a_batch_leaves_the_rest_for_the_next_run(
    loop: EventLoop,
) -> None:
    ends = [connected(loop) for _ in range(8)]

    def leave(_: Any) -> None:
        raise KeyboardInterrupt

    for _, two in ends:
        two.hooks["data_received"] = leave
    for one, _ in ends:
        one.link.write(b"x")
    left = 0
    while not all(two.data for _, two in ends):
        try:
            until(loop, lambda: all(two.data for _, two in ends))
        except KeyboardInterrupt:
            left += 1
    assert left in {7, 8}  # the last one's event ends the wait as well
    for _, two in ends:
        two.hooks.clear()
    finish(loop, *(end for pair in ends for end in pair))


# -- timers -----------------------------------------------------------------------------------


def test_timers_fire_in_their_order(loop: EventLoop) -> None:
    seen: list[float] = []
    delays = [0.003, 0.001, 0.002, 0.0, 0.004, -1.0]
    for delay in delays:
        loop.call_later(delay, seen.append, delay)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert seen == sorted(delays)


def test_equal_times_fire_in_the_order_of_their_scheduling(loop: EventLoop) -> None:
    seen: list[int] = []
    when = loop.time() + 0.001
    for at in range(100):
        loop.call_at(when, seen.append, at)
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert seen == list(range(100))


def test_timer_never_fires_early(loop: EventLoop) -> None:
    late: list[float] = []
    handles: list[Any] = []

    def fire(at: int) -> None:
        late.append(loop.time() - handles[at].when())

    handles += [loop.call_later(random.random() / 100, fire, at) for at in range(50)]
    loop.call_later(0.011, loop.stop)
    loop.run_forever()
    assert len(late) == 50
    assert min(late) > -1e-9


def test_timer_handles_are_sorted_by_their_time(loop: EventLoop) -> None:
    now = loop.time()
    handles = [loop.call_at(now + delay, print) for delay in (30, 10, 20, 10)]
    assert sorted(handles) == [handles[at] for at in (1, 3, 2, 0)]
    first, second = handles[1], handles[2]
    assert (first < second, first <= second, first > second, first >= second) == (
        True,
        True,
        False,
        False,
    )
    assert first <= handles[3]
    assert first >= handles[3]
    assert len({*handles, first}) == 4
    with pytest.raises(TypeError):
        first < 5  # type: ignore[operator]  # noqa: B015
    for handle in handles:
        handle.cancel()


def test_cancelled_timer_leaves_the_heap_at_once(loop: EventLoop) -> None:
    handles = [loop.call_later(1000 + at, fail) for at in range(100)]
    assert loop.stats()["timers"] == 100
    for handle in handles:
        handle.cancel()
        handle.cancel()
    assert loop.stats()["timers"] == 0
    assert all(handle.cancelled() for handle in handles)


def test_timer_cancelled_by_another_of_the_same_time_does_not_run(loop: EventLoop) -> None:
    when = loop.time() + 0.001
    handles: list[Any] = []
    loop.call_at(when, lambda: handles[0].cancel())  # noqa: PLW0108 - it is not there yet
    handles.append(loop.call_at(when, fail))
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert handles[0].cancelled()


@pytest.mark.parametrize("then", ["cancelled", "due"])
def test_timer_that_was_run_by_hand_leaves_the_heap(loop: EventLoop, then: str) -> None:
    seen: list[int] = []
    handle = loop.call_later(0.001, seen.append, 1)
    handle._run()
    assert loop.stats()["timers"] == 0
    if then == "cancelled":
        handle.cancel()
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_timer_cancelled_inside_its_own_call_is_harmless(loop: EventLoop) -> None:
    handles: list[Any] = []
    fired: list[float] = []

    def fire() -> None:
        fired.append(loop.time())
        handles[0].cancel()
        loop.stop()

    handles.append(loop.call_later(0, fire))
    loop.run_forever()
    turn(loop)
    assert len(fired) == 1
    assert handles[0].cancelled()
    assert loop.stats()["timers"] == 0


@pytest.mark.parametrize("when", [0, -5.0, -math.inf])
def test_time_in_the_past_is_due_now(loop: EventLoop, when: float) -> None:
    handle = loop.call_at(when, loop.stop)
    assert handle.when() == when
    loop.run_forever()


@pytest.mark.parametrize("delay", [1e10, 1e18, 1e300, math.inf])
def test_far_future_is_far(loop: EventLoop, delay: float) -> None:
    handle = loop.call_later(delay, fail)
    assert handle.when() >= delay
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    handle.cancel()


def test_time_that_is_no_number_raises(loop: EventLoop) -> None:
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(math.nan, fail)
    with pytest.raises(ValueError, match="NaN"):
        loop.call_at(math.nan, fail)
    for schedule in (loop.call_at, loop.call_later):
        with pytest.raises(TypeError, match="None"):
            schedule(None, fail)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="str"):
            schedule("1", fail)  # type: ignore[arg-type]
    assert loop.stats()["timers"] == 0


def test_simulated_timer_fires_at_its_very_time() -> None:
    loop = simulated_loop()
    seen: list[float] = []
    start = loop.time()
    for delay in (3600.0, 0.5, 86_400.0):
        loop.call_later(delay, lambda: seen.append(loop.time() - start))
    loop.call_later(100_000, loop.stop)
    loop.run_forever()
    assert seen == pytest.approx([0.5, 3600, 86_400])
    loop.close()


def test_simulated_loop_without_anything_to_do_is_a_deadlock() -> None:
    loop = simulated_loop()
    with pytest.raises(Deadlock):
        loop.run_forever()
    loop.close()


# -- threads --------------------------------------------------------------------------------


def test_calls_from_sixteen_threads_are_each_made_once() -> None:
    threads_count, calls_count = 16, 100_000
    loop = EventLoop()
    expected = [0] * threads_count  # the number with which each thread's next call must come
    begin = threading.Barrier(threads_count)

    def called(at: int, number: int) -> None:
        assert number == expected[at]  # what is lost, doubled or late stops the count
        expected[at] += 1
        if number == calls_count - 1 and min(expected) == calls_count:
            loop.stop()

    def pester(at: int) -> None:
        begin.wait()
        for number in range(calls_count):
            loop.call_soon_threadsafe(called, at, number)

    reports: list[dict[str, Any]] = []

    def failed(_: Any, context: dict[str, Any]) -> None:
        reports.append(context)
        loop.stop()

    loop.set_exception_handler(failed)
    threads = [threading.Thread(target=pester, args=(at,)) for at in range(threads_count)]
    for thread in threads:
        loop.call_soon(thread.start)
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert reports == []
    assert expected == [calls_count] * threads_count
    assert loop.stats()["ready"] == 0
    loop.close()


def test_call_from_a_thread_ends_the_wait() -> None:
    loop = EventLoop()
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()
    loop.close()


def test_patient_simulated_loop_hears_threads() -> None:
    loop = simulated_loop(patience_seconds=5)
    assert loop.run_until_complete(asyncio.to_thread(lambda: 7)) == 7
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


# -- the closed loop --------------------------------------------------------------------------


def test_closed_loop_refuses_and_has_dropped_what_was_queued(loop: EventLoop) -> None:
    loop.call_soon(fail)
    loop.call_later(0, fail)
    timer = loop.call_later(100, fail)
    loop.close()
    loop.close()
    stats = loop.stats()
    assert not any(stats.values()), stats
    timer.cancel()
    for schedule in (
        lambda: loop.call_soon(fail),
        lambda: loop.call_soon_threadsafe(fail),
        lambda: loop.call_later(1, fail),
        lambda: loop.call_at(1, fail),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match="closed"):
            schedule()


def test_reactor_needs_a_poller() -> None:
    with pytest.raises(TypeError, match="needs a Poller"):
        Reactor()


def test_stats_count_what_is_alive(loop: EventLoop) -> None:
    timer = loop.call_later(100, fail)
    loop.call_soon(lambda: None)
    stats = loop.stats()
    assert (stats["timers"], stats["ready"], stats["live_ops"]) == (1, 1, 0)
    timer.cancel()


# -- debug mode -----------------------------------------------------------------------------


@pytest.fixture
def debugging(loop: EventLoop) -> EventLoop:
    loop.set_debug(True)
    return loop


def test_debug_mode_warns_of_slow_callbacks(
    simulated: Callable[..., EventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    loop = simulated()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.5
    loop.call_soon(loop.poller.advance, 0.4)  # type: ignore[attr-defined]
    turn(loop, 1)
    assert caplog.text == ""
    loop.call_soon(loop.poller.advance, 0.6)  # type: ignore[attr-defined]
    turn(loop, 1)
    assert "took 0.600 seconds" in caplog.text


def test_debug_mode_refuses_calls_from_the_wrong_thread(debugging: EventLoop) -> None:
    loop, failures = debugging, []

    def wrong() -> None:
        calls: list[Callable[[], object]] = [
            lambda: loop.call_soon(fail),
            lambda: loop.call_later(1, fail),
            lambda: loop.call_at(1, fail),
        ]
        for schedule in calls:
            try:
                schedule()
            except RuntimeError as error:
                failures.append(str(error))

    def start() -> None:
        thread = threading.Thread(target=wrong)
        thread.start()
        thread.join()

    loop.call_soon(start)
    turn(loop, 1)
    assert len(failures) == 3
    assert "Non-thread-safe operation" in failures[0]


def test_debug_mode_tells_where_a_handle_was_made(debugging: EventLoop) -> None:
    handle: Any = debugging.call_soon(fail)
    timer = debugging.call_later(1, fail)
    assert f"created at {__file__}" in repr(handle)
    assert f"created at {__file__}" in repr(timer)
    assert "when=" in repr(timer)
    turn(debugging, 1)
    (report,) = take_reports(debugging)
    assert report["source_traceback"] is handle._source_traceback
    timer.cancel()
    assert repr(timer).startswith("<cancelled TimerHandle when=")
    assert "fail()" in repr(timer)


def test_debug_mode_refuses_what_cannot_be_called(debugging: EventLoop) -> None:
    async def coroutine() -> None: ...

    for wrong, words in ((coroutine, "coroutines cannot"), (5, "callable object was expected")):
        with pytest.raises(TypeError, match=rf"{words} .* call_soon\(\)"):
            debugging.call_soon(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"{words} .* call_later\(\)"):
            debugging.call_later(1, wrong)  # type: ignore[arg-type]


def test_repr_without_debug_mode_is_short(loop: EventLoop) -> None:
    handle = loop.call_soon(fail)
    assert repr(handle).startswith("<Handle fail()")
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    turn(loop, 1)


@pytest.mark.parametrize("state", ["reading", "read paused", "read ended"])
def test_closed_loop_frees_transports_that_wait_for_nothing(loop: EventLoop, state: str) -> None:
    mine, theirs = connected(loop, Recorder(keeps_open=True))
    if state == "read paused":
        mine.link.pause_reading()
    elif state == "read ended":
        theirs.link.write_eof()
        until(loop, lambda: "eof_received" in mine.events)
    turn(loop)
    with pytest.warns(ResourceWarning) as caught:
        loop.close()
    assert sum("unclosed transport" in str(warning.message) for warning in caught) == 2
    assert mine.link._sock_fd == theirs.link._sock_fd == -1
    assert mine.link.get_protocol() is None
    assert mine.lost == []


def test_live_list_keeps_no_transport_alive(loop: EventLoop) -> None:
    mine, theirs = connected(loop)
    seen = weakref.ref(mine.link)
    mine.link.pause_reading()
    turn(loop)
    with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
        mine.link = mine.transport = None
        gc.collect()
    assert seen() is None
    finish(loop, theirs)


@pytest.mark.parametrize("error", [ValueError("wrong"), GeneratorExit()])
def test_failing_owner_of_an_op_does_not_end_the_run(loop: EventLoop, error: BaseException) -> None:
    probe = PollerProbe(loop.poller)
    kept = connected(loop)
    fds = [record.link._sock_fd for record in kept]
    ops = [probe.writable(fd) for fd in fds]
    seen: list[int] = []

    def fail(op: ProbeOp) -> None:
        seen.append(op.fd)
        loop.stop()
        raise error

    for op in ops:
        op.on_done = fail
        op.submit()
    until(loop, lambda: len(seen) == 2)
    reports = take_reports(loop)
    assert [report["exception"] for report in reports] == [error, error]
    finish(loop, *kept)


def test_failing_timer_does_not_end_the_run(loop: EventLoop) -> None:
    seen: list[int] = []
    timers = [TimerProbe(loop.timers) for _ in range(2)]
    for timer in timers:
        timer.error = ValueError("due")
        timer.arm(1)
    loop.call_later(0, seen.append, 1)
    turn(loop, 3)
    assert seen == [1]
    assert [str(report["exception"]) for report in take_reports(loop)] == ["due"] * 2

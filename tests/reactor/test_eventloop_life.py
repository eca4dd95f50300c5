"""How a program gets a loop, and how a loop ends: run, install, signals, tasks, closing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reactor
from reactor.eventloop import EventLoop
from tests.reactor.recorder import turn

POLICIES = pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run *program* with what is installed, not what lies in the current folder."""
    return subprocess.run(
        [sys.executable, "-P", *options, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


# -- getting a loop -------------------------------------------------------------------------------


def test_run_returns_raises_and_closes() -> None:
    loops = []

    async def main() -> int:
        loops.append(asyncio.get_running_loop())
        return 7

    async def fail() -> None:
        loops.append(asyncio.get_running_loop())
        raise ValueError("no")

    assert reactor.run(main()) == 7
    with pytest.raises(ValueError, match="no"):
        reactor.run(fail())
    assert [type(loop) for loop in loops] == [EventLoop] * 2
    assert all(loop.is_closed() for loop in loops)


def test_run_takes_debug_from_its_caller() -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert [reactor.run(main(), debug=debug) for debug in (True, False)] == [True, False]


def test_run_refuses_what_is_no_coroutine_and_to_run_inside_of_a_loop() -> None:
    with pytest.raises((TypeError, ValueError), match="coroutine"):
        reactor.run(7)  # type: ignore[arg-type]

    async def nothing() -> None: ...

    async def main() -> None:
        inner = nothing()
        with pytest.raises(RuntimeError, match="from a running event loop"):
            reactor.run(inner)
        inner.close()

    reactor.run(main())


def test_run_cancels_what_is_left_and_ends_generators_and_executors() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    kept: list[Any] = []

    async def main() -> None:
        kept.append(asyncio.ensure_future(forever()))
        kept.append(numbers())
        await anext(kept[1])
        await asyncio.to_thread(ended.append, "executor")

    reactor.run(main())
    assert ended == ["executor", "task", "generator"]
    assert not [t for t in threading.enumerate() if t.name.startswith("asyncio_")]


@POSIX
def test_interrupt_cancels_the_main_task_of_run() -> None:
    seen: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            reactor.run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["cancelled"]


@POLICIES
def test_installed_policy_makes_our_loop() -> None:
    async def main() -> type[asyncio.AbstractEventLoop]:
        return type(asyncio.get_running_loop())

    reactor.install()
    try:
        assert asyncio.run(main()) is EventLoop
        loop = asyncio.new_event_loop()
        assert type(loop) is EventLoop
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
        loop.close()
    finally:
        asyncio.set_event_loop_policy(None)


def test_install_says_what_to_do_where_policies_are_deprecated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    with pytest.raises(RuntimeError, match=r"use reactor.run\(main\(\)\)"):
        reactor.install()


def test_import_and_run_use_nothing_that_is_deprecated() -> None:
    program = (
        "import asyncio, sys, reactor\n"
        "async def main():\n"
        "    child = await asyncio.create_subprocess_exec(sys.executable, '-c', '')\n"
        "    assert await child.wait() == 0\n"
        "    server = await asyncio.start_server(print, '127.0.0.1', 0)\n"
        "    server.close()\n"
        "    await server.wait_closed()\n"
        "reactor.run(main())\n"
    )
    assert run(program, "-W", "error").stderr == ""


# -- tasks ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="from Python 3.12 on")
def test_eager_tasks_run_before_the_loop_hears_of_them(loop: EventLoop) -> None:
    order: list[str] = []

    async def cached() -> int:
        order.append("began")
        return 7

    async def blocking() -> int:
        order.append("blocks")
        await asyncio.sleep(0)
        assert asyncio.current_task() is not None
        return 8

    async def main() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        quick = asyncio.create_task(cached())
        slow = asyncio.create_task(blocking())
        order.append("made")
        assert quick.done()
        assert not slow.done()
        assert (await quick, await slow) == (7, 8)
        async with asyncio.TaskGroup() as group:
            group.create_task(blocking())
        loop.set_task_factory(None)

    loop.run_until_complete(main())
    assert order == ["began", "blocks", "made", "blocks"]


def test_task_factory_gets_names_and_contexts(loop: EventLoop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    made: list[dict[str, Any]] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        made.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def tell() -> str:
        return name.get()

    async def main() -> None:
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        context = contextvars.copy_context()
        context.run(name.set, "given")
        task = loop.create_task(tell(), name="teller", context=context)
        assert await task == "given"
        assert task.get_name() == "teller"
        assert name.get() == "none"
        loop.set_task_factory(None)
        with pytest.raises(TypeError, match="must be a callable"):
            loop.set_task_factory(1)  # type: ignore[arg-type]

    loop.run_until_complete(main())
    assert made[0]["context"] is not None


def test_executor_may_be_set_and_its_failures_come_back(real: EventLoop) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def fail() -> None:
        raise LookupError("in the thread")

    async def main() -> None:
        with ThreadPoolExecutor(1, "mine") as executor:
            name = await real.run_in_executor(executor, lambda: threading.current_thread().name)
            assert name.startswith("mine")
        real.set_default_executor(ThreadPoolExecutor(1, "default"))
        assert (await real.run_in_executor(None, os.getpid)) == os.getpid()
        with pytest.raises(LookupError, match="in the thread"):
            await real.run_in_executor(None, fail)
        await real.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            await real.run_in_executor(None, os.getpid)

    real.run_until_complete(main())


def test_slow_callbacks_and_tasks_are_named_in_debug_mode(
    real: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    real.set_debug(True)
    real.slow_callback_duration = 0.001

    async def dawdle() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.002:
            pass

    real.run_until_complete(dawdle())
    assert "Executing <Task finished name=" in caplog.text
    assert "dawdle() done, defined at" in caplog.text


# -- signals --------------------------------------------------------------------------------------


@LINUX
def test_signal_wakes_the_loop_after_the_last_handler_was_removed() -> None:
    """asyncio takes the wake-up descriptor away with the last handler."""
    loop = EventLoop()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: loop.stop())
    asleep = threading.Event()

    def prepare() -> None:
        loop.add_signal_handler(signal.SIGUSR2, print)
        assert loop.remove_signal_handler(signal.SIGUSR2)
        assert not loop.remove_signal_handler(signal.SIGUSR2)
        asleep.set()

    def strike() -> None:
        asleep.wait()
        times = 0  # in a row; each look lets go of the GIL, so that it sleeps in the poller
        while times < 100:
            state = stat.read_text().rpartition(")")[2].split()[0]
            times = times + 1 if state == "S" else 0
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    stat = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    thread = threading.Thread(target=strike)
    thread.start()
    try:
        loop.call_soon(prepare)
        loop.run_forever()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert signal.set_wakeup_fd(-1) == -1
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_signal_as_the_loop_begins_or_ends_to_run_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the SIGCHLD of a child that was told to end just before."""
    loop = EventLoop()
    sent = came = 0
    set_wakeup_fd = signal.set_wakeup_fd

    def send() -> None:
        nonlocal sent
        sent += 1
        signal.raise_signal(signal.SIGUSR1)

    def handle() -> None:
        nonlocal came
        came += 1
        loop.stop()

    def disturbed(fd: int, **options: Any) -> int:
        before = set_wakeup_fd(fd, **options)
        send()
        return before

    loop.add_signal_handler(signal.SIGUSR1, handle)
    monkeypatch.setattr(signal, "set_wakeup_fd", disturbed)
    for _ in range(3):
        loop.call_soon(send)
        loop.run_forever()
    monkeypatch.undo()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    assert came == sent
    assert signal.set_wakeup_fd(-1) == -1


@POSIX
# A handler may raise within a finalizer, too, where it is told and goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals come at random times here")
@pytest.mark.parametrize("debug", [False, True])
def test_interrupted_at_any_time_the_loop_gives_its_thread_back(debug: bool) -> None:
    """Else the next signal would be written to whatever descriptor has that number by then."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    hooks = sys.get_asyncgen_hooks()
    interrupted = 0
    until = time.monotonic() + 20
    loop = EventLoop()
    loop.set_debug(debug)
    try:
        while interrupted < 1_000 and time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 7 * 0.00001)
                for _ in range(1_000):
                    loop.call_soon(loop.stop)
                    loop.run_forever()
            except Interrupted:
                interrupted += 1
            assert signal.set_wakeup_fd(-1) == -1, interrupted
            assert not loop.is_running()
            assert asyncio._get_running_loop() is None
            assert sys.get_asyncgen_hooks() == hooks
            assert sys.get_coroutine_origin_tracking_depth() == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        loop.close()
    assert interrupted == 1_000


@POSIX
def test_signal_handlers_that_are_left_end_with_the_loop() -> None:
    loop = EventLoop()
    seen: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 2)  # in place of the first
    os.kill(os.getpid(), signal.SIGUSR1)
    turn(loop)
    assert seen == [2]
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    with pytest.raises(ValueError, match="invalid signal"):
        loop.add_signal_handler(1000, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


@POSIX
def test_signal_handlers_belong_to_the_main_thread() -> None:
    failures: list[str] = []

    def run() -> None:
        loop = EventLoop()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            failures.append(str(error))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in failures[0]


@POSIX
def test_thousand_signals_that_queue_calls_lose_none() -> None:
    loop = EventLoop()
    calls: list[int] = []
    before = signal.signal(
        signal.SIGUSR1,
        lambda number, frame: loop.call_soon_threadsafe(calls.append, number),
    )
    try:
        for _ in range(1000):
            loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        while len(calls) < 1000:
            turn(loop, 1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    loop.close()


# -- the end --------------------------------------------------------------------------------------


class Quiet(asyncio.DatagramProtocol, asyncio.Protocol):
    """Must hear nothing of the end of its loop."""

    def connection_lost(self, exc: Exception | None) -> None:
        pytest.fail("called by a closed loop")


peers: list[Any] = []  # what the transports of the functions below are connected to


@pytest.fixture(autouse=True)
def _no_peer_is_left() -> Iterator[None]:
    yield
    while peers:
        peers.pop().close()


async def a_tcp_client(loop: EventLoop) -> Any:
    peers.append(socket.create_server(("127.0.0.1", 0)))
    return (await loop.create_connection(Quiet, *peers[-1].getsockname()))[0]


async def a_unix_socket(loop: EventLoop) -> Any:
    one, two = socket.socketpair()
    peers.append(two)
    return (await loop.create_unix_connection(Quiet, sock=one))[0]


async def a_udp_endpoint(loop: EventLoop) -> Any:
    return (await loop.create_datagram_endpoint(Quiet, ("127.0.0.1", 0)))[0]


async def a_udp_endpoint_that_is_closing(loop: EventLoop) -> Any:
    transport = await a_udp_endpoint(loop)
    loop.call_soon(loop.stop)
    loop.call_soon(transport.close)
    return transport


async def a_pipe(loop: EventLoop) -> Any:
    ends = os.pipe()
    peers.append(os.fdopen(ends[1], "wb", 0))
    return (await loop.connect_read_pipe(Quiet, os.fdopen(ends[0], "rb", 0)))[0]


@pytest.mark.parametrize(
    "make",
    [a_tcp_client, a_unix_socket, a_udp_endpoint, a_udp_endpoint_that_is_closing, a_pipe],
    ids=lambda make: make.__name__,
)
@POSIX
def test_closed_loop_warns_of_live_transports_and_frees_them(
    make: Callable[[EventLoop], Any],
) -> None:
    loop = EventLoop()
    transport = loop.run_until_complete(make(loop))
    with pytest.warns(ResourceWarning, match="unclosed transport") as caught:
        loop.close()
    assert len(caught) == 1
    assert transport.is_closing()
    transport.close()
    del transport
    gc.collect()  # which warns of nothing a second time


def test_failing_warning_does_not_stop_the_closing_loop() -> None:
    """The suite makes warnings errors: each transport's raises."""
    loop = EventLoop()

    async def main() -> list[Any]:
        return [await a_udp_endpoint(loop), await a_udp_endpoint(loop), await a_tcp_client(loop)]

    made = loop.run_until_complete(main())
    loop.call_later(100, pytest.fail)
    with pytest.raises(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert loop.is_closed()
    assert not any(loop.stats().values())
    assert all(transport.is_closing() for transport in made)


def test_warning_of_a_closing_loop_does_not_hide_what_ended_its_work() -> None:
    async def main() -> None:
        await a_tcp_client(asyncio.get_running_loop())  # type: ignore[arg-type]
        raise KeyError("what ended it")

    with pytest.raises(ResourceWarning, match="unclosed transport") as caught:
        reactor.run(main())
    context = caught.value.__context__
    assert isinstance(context, KeyError)
    assert context.args == ("what ended it",)


def test_loop_closed_in_a_callback_of_its_own_refuses(loop: EventLoop) -> None:
    raised: list[Exception] = []

    def close() -> None:
        try:
            loop.close()
        except RuntimeError as error:
            raised.append(error)

    loop.call_soon(close)
    turn(loop, 1)
    assert "Cannot close a running event loop" in str(raised[0])


DROPPED = """
import asyncio, socket, reactor
def main():
    loop = reactor.new_event_loop()
    {work}
main()
"""


@pytest.mark.parametrize(
    "work",
    [
        "loop.call_later(100, print)",
        "global pair; pair = socket.socketpair(); loop.add_reader(pair[0], print)",
        "loop.run_until_complete(asyncio.sleep(0))",
    ],
)
def test_loop_that_was_never_closed_is_warned_about_at_the_latest_at_exit(work: str) -> None:
    said = run(DROPPED.format(work=work), "-W", "always::ResourceWarning").stderr
    assert said.count("unclosed event loop <EventLoop running=False closed=False") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_forked_child_does_not_speak_of_its_parents_loops() -> None:
    program = (
        "import os, sys, reactor\n"
        "loop = reactor.new_event_loop()\n"
        "loop.call_later(100, print)\n"
        "if os.fork() == 0:\n"
        "    sys.exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "loop.close()\n"
    )
    assert run(program, "-W", "always").stderr == ""


def test_loop_that_runs_in_a_daemon_thread_at_exit_is_left_alone() -> None:
    program = (
        "import threading, reactor\n"
        "loop = reactor.new_event_loop()\n"
        "ready = threading.Event()\n"
        "loop.call_soon(ready.set)\n"
        "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
        "ready.wait()\n"
    )
    assert run(program, "-W", "always").stderr == ""


def test_future_is_the_loops_whether_it_runs_or_not_and_keeps_it_no_longer_than_it_runs() -> None:
    other = reactor.new_event_loop()

    def make() -> weakref.ref[EventLoop]:
        loop = reactor.new_event_loop()

        async def main() -> list[asyncio.Future[None]]:
            return [loop.create_future(), loop.create_future(), other.create_future()]

        made = [loop.create_future(), *loop.run_until_complete(main()), loop.create_future()]
        assert [each.get_loop() for each in made] == [loop, loop, loop, other, loop]
        assert [each.__class__ for each in made] == [asyncio.Future] * 5
        assert len(set(map(id, made))) == 5
        loop.close()
        return weakref.ref(loop)

    gc.collect()
    gc.disable()
    try:
        assert make()() is None
    finally:
        gc.enable()
        other.close()


def test_task_is_made_as_asyncio_makes_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        async def answers() -> int:
            return number.get()

        number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=1)
        context = contextvars.copy_context()
        context.run(number.set, 2)
        plain, named = loop.create_task(answers()), loop.create_task(answers(), name="a name")
        other = loop.create_task(answers(), context=context)
        assert [each.__class__ for each in (plain, named, other)] == [asyncio.Task] * 3
        assert plain.get_name() != other.get_name()
        assert (plain.get_name()[:5], named.get_name()) == ("Task-", "a name")
        assert {plain, named, other} <= asyncio.all_tasks()
        assert list(await asyncio.gather(plain, named, other)) == [1, 1, 2]
        made = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(options)
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(factory)
        await loop.create_task(answers())
        loop.set_task_factory(None)
        await loop.create_task(answers())
        assert len(made) == 1
        with pytest.raises(TypeError, match="a coroutine was expected"):
            loop.create_task(answers)  # type: ignore[arg-type]

    for debug in (False, True):
        loop = reactor.new_event_loop()
        loop.set_debug(debug)
        before = loop.create_task(main(loop))
        loop.run_until_complete(before)
        loop.close()
        coroutine = main(loop)
        with pytest.raises(RuntimeError, match="closed"):
            loop.create_task(coroutine)
        coroutine.close()
    assert not caplog.records


def test_task_is_of_the_class_that_asyncio_has_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(asyncio.Task[Any]):
        pass

    async def main() -> type[Any]:
        monkeypatch.setattr(asyncio.tasks, "Task", Watched)
        task = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await task
        return type(task)

    loop = reactor.new_event_loop()
    assert loop.run_until_complete(main()) is Watched
    loop.close()

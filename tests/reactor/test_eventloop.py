"""The reactor as an asyncio event loop: what asyncio's own loops promise."""

import asyncio
import contextvars
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import reactor
from reactor.eventloop import EventLoop, new_event_loop
from reactor.pollers.simulated import SimulatedPoller
from reactor.testing import connect, listen, simulated_loop
from tests.reactor.recorder import settle, turn

FORKED = """
import asyncio, gc, os, socket, sys, warnings
from reactor.eventloop import EventLoop
from reactor.pollers import new_poller

class Receiver(asyncio.Protocol):
    def data_received(self, data):
        seen.append(data)
        loop.stop()

warnings.simplefilter("ignore")
loop = EventLoop(new_poller("epoll"))
one, two = socket.socketpair()
three, four = socket.socketpair()
for sock in (one, three):
    sock.setblocking(False)
paused, _ = loop.run_until_complete(loop.create_connection(Receiver, sock=one))
reader, writer = loop.run_until_complete(asyncio.open_connection(sock=three))
loop.run_until_complete(asyncio.sleep(0))
paused.pause_reading()
loop.run_until_complete(asyncio.sleep(0))
if os.fork() == 0:
    try:
        loop.call_soon(loop.stop)
        loop.run_forever()
    except RuntimeError as error:
        assert "child process" in str(error), error
    else:
        os._exit(1)
    paused.abort()
    paused = None
    gc.collect()
    loop.close()
    new = EventLoop(new_poller("epoll"))
    new.run_until_complete(asyncio.sleep(0))
    new.close()
    os._exit(0)
assert os.wait()[1] == 0
paused.resume_reading()
seen = []
two.send(b"hello")
loop.call_later(5, loop.stop)
loop.run_forever()
assert seen == [b"hello"], seen
four.send(b"hello")
assert loop.run_until_complete(asyncio.wait_for(reader.readexactly(5), 5)) == b"hello"
loop.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
def test_forked_child_leaves_its_parents_loop_alone() -> None:
    # -P: what is installed, not what lies in the current folder
    subprocess.run([sys.executable, "-P", "-c", FORKED], check=True, timeout=30)


# -- running, stopping, closing -------------------------------------------------------------


def test_run_until_complete_returns_the_result_or_raises(loop: EventLoop) -> None:
    async def give(value: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(value, Exception):
            raise value
        return value

    assert loop.run_until_complete(give(5)) == 5
    with pytest.raises(ValueError, match="wrong"):
        loop.run_until_complete(give(ValueError("wrong")))


def test_stop_before_run_runs_one_pass(loop: EventLoop) -> None:
    seen: list[int] = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(seen.append, 2))
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 2]


def test_stop_inside_a_callback_finishes_the_pass(loop: EventLoop) -> None:
    seen: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 1)
    loop.run_forever()
    assert seen == [1]


def test_stopped_loop_says_that_the_future_is_not_done(loop: EventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(future)


def test_loop_knows_whether_it_runs(loop: EventLoop) -> None:
    seen: list[Any] = []
    assert not loop.is_running()
    loop.call_soon(lambda: seen.append((loop.is_running(), asyncio.get_running_loop())))
    turn(loop, 1)
    assert seen == [(True, loop)]
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_running_loop_refuses_to_run_or_close(loop: EventLoop) -> None:
    failures: list[str] = []

    def try_all() -> None:
        for call in (loop.run_forever, loop.close):
            try:
                call()
            except RuntimeError as error:
                failures.append(str(error))

    loop.call_soon(try_all)
    turn(loop, 1)
    assert failures == ["This event loop is already running", "Cannot close a running event loop"]


def test_two_loops_do_not_run_in_one_thread(loop: EventLoop) -> None:
    other = simulated_loop()
    failures: list[str] = []

    def nest() -> None:
        try:
            other.run_forever()
        except RuntimeError as error:
            failures.append(str(error))

    loop.call_soon(nest)
    turn(loop, 1)
    assert "another loop is running" in failures[0]
    other.close()


def test_unclosed_loop_is_warned_about_and_closed() -> None:
    loop = new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):  # noqa: PT031
        del loop
        gc.collect()


def test_asyncio_run_and_reactor_run_take_the_loop() -> None:
    async def main() -> type[asyncio.AbstractEventLoop]:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop())

    assert reactor.run(main()) is EventLoop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) is EventLoop
    with asyncio.Runner(loop_factory=simulated_loop) as runner:
        assert runner.run(main()) is EventLoop


def test_poller_may_be_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REACTOR_POLLER", "simulated")
    loop = new_event_loop()
    assert "Simulated" in type(loop.poller).__name__
    loop.close()
    monkeypatch.setenv("REACTOR_POLLER", "nonsense")
    with pytest.raises(ValueError, match="unknown poller 'nonsense'"):
        new_event_loop()


# -- tasks and futures ----------------------------------------------------------------------


def test_tasks_futures_queues_and_timeouts_work(loop: EventLoop) -> None:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(2)
        got: list[int] = []

        async def produce() -> None:
            for at in range(20):
                await queue.put(at)

        async def consume() -> None:
            while True:
                got.append(await queue.get())
                queue.task_done()

        consumer = asyncio.create_task(consume())
        await asyncio.gather(produce(), asyncio.sleep(0))
        await queue.join()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 0.001)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, at)) for at in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        return got

    assert loop.run_until_complete(main()) == list(range(20))


def test_task_keeps_its_context(loop: EventLoop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    all_have_set_it = asyncio.Barrier(10)

    async def keep(value: str) -> str:
        name.set(value)
        await all_have_set_it.wait()
        return name.get()

    async def main() -> list[str]:
        return await asyncio.gather(*(keep(str(at)) for at in range(10)))

    assert loop.run_until_complete(main()) == [str(at) for at in range(10)]


def test_failed_task_that_nobody_awaits_is_reported(loop: EventLoop) -> None:
    async def fail() -> None:
        raise ValueError("lost")

    task = loop.create_task(fail())
    turn(loop)
    del task
    gc.collect()
    (report,) = loop.reported  # type: ignore[attr-defined]
    loop.reported.clear()  # type: ignore[attr-defined]
    assert str(report["exception"]) == "lost"


def test_task_factory_is_used(loop: EventLoop) -> None:
    made: list[Any] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    loop.run_until_complete(asyncio.sleep(0))
    assert len(made) == 1


def test_async_generators_are_closed(loop: EventLoop) -> None:
    closed: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for at in range(10):
                yield at
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def main() -> None:
        async for at in numbers():
            if at == 2:
                break

    loop.run_until_complete(main())
    gc.collect()
    loop.run_until_complete(loop.shutdown_asyncgens())
    turn(loop)
    assert closed == [1]


def test_executor_results_come_back() -> None:
    loop = new_event_loop()

    async def main() -> tuple[int, int]:
        return (
            await asyncio.to_thread(threading.get_ident),
            await loop.run_in_executor(None, lambda: 7),
        )

    ident, seven = loop.run_until_complete(main())
    assert ident != threading.get_ident()
    assert seven == 7
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_debug_mode_works_with_tasks_and_connections(loop: EventLoop) -> None:
    loop.set_debug(True)

    async def main() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            writer.close()
            await writer.wait_closed()

        def factory() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), serve, loop=loop)

        server = await listen(loop, factory)
        reader = asyncio.StreamReader(loop=loop)
        link, protocol = await connect(
            loop,
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
            server.sockets[0].getsockname(),
        )
        writer = asyncio.StreamWriter(link, protocol, reader, loop)
        writer.write(b"debugged")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer

    assert loop.run_until_complete(main()) == b"debugged"
    settle(loop)


# -- signals --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_signal_handler_runs_on_the_loop() -> None:
    loop = new_event_loop()
    seen: list[str] = []

    def handle(what: str) -> None:
        seen.append(what)
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handle, "came")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["came"]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()


@pytest.mark.raises_in_signal_handler
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_interrupt_while_waiting_leaves_the_loop() -> None:
    loop = new_event_loop()

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("is_reused", [False, True])
def test_signal_that_another_thread_got_wakes_the_loop(is_reused: bool) -> None:
    """Also where what it is written to has the number of one that was watched, and closed."""
    loop = new_event_loop()
    slept: list[str] = []

    def wait_no_longer() -> None:
        slept.append("for 20 s")
        loop.stop()

    before = signal.signal(signal.SIGUSR1, lambda number, frame: loop.stop())
    reading, writing = os.pipe()
    if is_reused:
        loop.add_reader(reading, pytest.fail, "nobody has it")
        os.close(reading)
        loop.call_soon(loop.remove_reader, reading)
    asleep = threading.Event()

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
        loop.call_soon(asleep.set)
        loop.call_later(20, wait_no_longer)
        loop.run_forever()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        os.close(writing)
        if not is_reused:
            os.close(reading)
    assert slept == []
    assert signal.set_wakeup_fd(-1) == -1
    loop.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_that_the_loop_forked_does_not_write_signals_to_its_pipe() -> None:
    loop = new_event_loop()
    statuses: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0 if signal.set_wakeup_fd(-1) == -1 else 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        loop.stop()

    loop.call_soon(fork)
    loop.run_forever()
    assert statuses == [0]
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_anothers_wakeup_descriptor_is_left_in_place() -> None:
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        signal.set_wakeup_fd(theirs.fileno())
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
        finally:
            present = signal.set_wakeup_fd(-1)
        assert present == theirs.fileno()
    loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
def test_callback_that_a_signal_queues_just_before_the_wait_is_not_slept_over() -> None:
    loop = new_event_loop()
    send = ctypes.CDLL(None)["raise"]  # which, unlike os.kill, looks for no signals afterwards
    before = signal.signal(
        signal.SIGUSR1, lambda number, frame: loop.call_soon_threadsafe(loop.stop)
    )
    try:
        loop.call_soon(send, int(signal.SIGUSR1))
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
    loop.close()


# -- other people's descriptors -----------------------------------------------------------------


@pytest.fixture
def sockets() -> Any:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    yield pair
    for sock in pair:
        sock.close()


@pytest.fixture
def real() -> Any:
    loop = new_event_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())  # which joins its threads
    assert loop.stats()["live_ops"] == 0
    loop.close()
    assert reported == []


def test_reader_is_called_as_long_as_there_is_something(real: EventLoop, sockets: Any) -> None:
    one, two = sockets
    seen: list[bytes] = []

    def read() -> None:
        seen.append(two.recv(1))
        if len(seen) == 3:
            real.remove_reader(two)
            real.stop()

    real.add_reader(two, read)
    one.send(b"abcd")
    real.run_forever()
    assert seen == [b"a", b"b", b"c"]
    assert not real.remove_reader(two)
    turn(real)
    assert two.recv(10) == b"d"


def test_reader_and_writer_of_one_descriptor_are_independent(real: EventLoop, sockets: Any) -> None:
    one, two = sockets
    seen: list[str] = []

    def write() -> None:
        seen.append("writable")
        real.remove_writer(two)
        one.send(b"x")

    def read() -> None:
        seen.append("readable")
        two.recv(10)
        real.remove_reader(two)
        real.stop()

    real.add_reader(two, read)
    turn(real)
    real.add_writer(two, write)
    real.run_forever()
    assert seen == ["writable", "readable"]
    turn(real)


def test_second_reader_replaces_the_first(real: EventLoop, sockets: Any) -> None:
    one, two = sockets
    real.add_reader(two, pytest.fail)
    real.add_reader(two, real.stop)
    one.send(b"x")
    real.run_forever()
    assert real.remove_reader(two)
    turn(real)


def test_reader_of_a_number_that_was_closed_does_not_deafen_a_new_connection(
    real: EventLoop, sockets: Any
) -> None:
    async def main() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        stale, other = socket.socketpair()
        number = stale.fileno()
        real.add_reader(stale, pytest.fail)
        await asyncio.sleep(0)
        stale.close()  # and no remove_reader
        reader, writer = await asyncio.open_connection(*server.getsockname())
        assert writer.get_extra_info("socket").fileno() == number
        peer, _ = server.accept()
        peer.send(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
        writer.write(b"x" * 20_000_000)
        assert real._remove_reader(number)  # takes nothing from the transport
        peer.settimeout(5)
        received = 0
        while received < 20_000_000:
            received += len(await asyncio.to_thread(peer.recv, 1 << 20))
        writer.close()
        await writer.wait_closed()
        for sock in (peer, other, server):
            sock.close()

    real.run_until_complete(main())
    turn(real)


def test_descriptor_of_a_transport_is_refused_to_readers_and_writers(
    real: EventLoop, sockets: Any
) -> None:
    one, two = sockets

    async def main() -> None:
        two.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=two)
        used = "File descriptor .* is used by transport"
        for add in (real.add_reader, real.add_writer):
            with pytest.raises(RuntimeError, match=used):
                add(two, pytest.fail)
        for remove in (real.remove_reader, real.remove_writer):
            with pytest.raises(RuntimeError, match=used):
                remove(two)
        await asyncio.sleep(0)  # from now on it receives
        with pytest.raises(RuntimeError, match=used):  # what asyncio's own methods call
            real._add_reader(two, pytest.fail)
        one.send(b"still heard")
        assert await reader.readexactly(11) == b"still heard"
        writer.close()
        await writer.wait_closed()

    real.run_until_complete(main())


def test_descriptor_of_an_accepted_connection_is_refused_once_it_is_known(
    real: EventLoop,
) -> None:
    async def main() -> None:
        done = asyncio.Event()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            with pytest.raises(RuntimeError, match="is used by transport"):
                real.add_reader(sock, pytest.fail)
            writer.close()
            done.set()

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await done.wait()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    real.run_until_complete(main())
    turn(real)


@pytest.mark.parametrize("deferred", [False, True])
def test_reader_that_is_replaced_or_removed_leaves_one_op(deferred: bool) -> None:
    loop = simulated_loop(deferred=deferred, delay_seconds=0.01 if deferred else 0.0)
    poller = loop.poller
    assert isinstance(poller, SimulatedPoller)
    fd, other = poller.network.pair()
    for _ in range(3):
        loop.add_reader(fd, pytest.fail)
        loop.remove_reader(fd)
    loop.add_reader(fd, pytest.fail)
    loop.add_reader(fd, loop.stop)
    assert loop.stats()["live_ops"] == 1
    settle(loop)
    assert loop.stats()["live_ops"] == 1
    poller.network.send(other, b"x")
    loop.run_forever()
    assert loop.remove_reader(fd)
    settle(loop)
    assert loop.stats()["live_ops"] == 0
    assert poller.violations == []
    loop.close()


def test_exit_inside_a_reader_leaves_it_watching(real: EventLoop, sockets: Any) -> None:
    one, two = sockets
    calls: list[int] = []

    def read() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real.stop()

    real.add_reader(two, read)
    one.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        real.run_forever()
    real.run_forever()
    assert len(calls) == 2
    real.remove_reader(two)
    turn(real)


def test_sock_methods_work(real: EventLoop, sockets: Any) -> None:
    one, two = sockets

    async def main() -> bytes:
        big = b"x" * 1_000_000
        send = asyncio.create_task(real.sock_sendall(one, big))
        got = b""
        while len(got) < len(big):
            got += await real.sock_recv(two, 100_000)
        await send
        assert got == big
        await real.sock_sendall(one, b"end")
        buffer = bytearray(10)
        size = await real.sock_recv_into(two, buffer)
        return bytes(buffer[:size])

    assert real.run_until_complete(main()) == b"end"
    turn(real)


def test_closed_loop_forgets_its_readers(sockets: Any) -> None:
    loop = new_event_loop()
    loop.add_reader(sockets[0], pytest.fail)
    loop.add_writer(sockets[0], pytest.fail)
    loop.close()
    assert loop.stats()["live_ops"] == 0

"""Pipes and child processes of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from reactor import limits
from reactor.eventloop import EventLoop
from reactor.transports import inherited

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX systems")

PIPE = subprocess.PIPE
SHOUT = "import sys; sys.stdout.write(sys.stdin.read().upper())"
WAITS = "import signal; print('up', flush=True); signal.pause()"


def python(code: str, **options: Any) -> Any:
    return asyncio.create_subprocess_exec(sys.executable, "-c", code, **options)


class Piped(asyncio.Protocol):
    """Keeps what comes through a pipe."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.calls: list[str] = []
        self.lost = asyncio.Event()
        self.resumed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set()


# -- pipes ----------------------------------------------------------------------------------------


def test_bytes_go_through_a_pipe(real: EventLoop) -> None:
    async def main() -> None:
        ends = os.pipe()
        _, reader = await real.connect_read_pipe(Piped, os.fdopen(ends[0], "rb", 0))
        _, writer = await real.connect_write_pipe(Piped, os.fdopen(ends[1], "wb", 0))
        reader.transport.pause_reading()
        text = os.urandom(1_000_000)
        writer.transport.write(text)
        assert writer.calls == ["made", "pause"]
        assert len(reader.received) == 0
        reader.transport.resume_reading()
        await writer.resumed.wait()
        writer.transport.write_eof()
        await writer.lost.wait()
        await reader.lost.wait()
        assert reader.received == text
        assert reader.calls == ["made", "eof", "lost"]

    real.run_until_complete(main())


def test_writer_hears_that_the_reading_end_is_gone(real: EventLoop) -> None:
    async def main() -> None:
        ends = os.pipe()
        _, writer = await real.connect_write_pipe(Piped, os.fdopen(ends[1], "wb", 0))
        os.close(ends[0])
        await writer.lost.wait()

    real.run_until_complete(main())


def test_what_is_no_pipe_is_refused(real: EventLoop, tmp_path: Any) -> None:
    async def main() -> None:
        with (tmp_path / "file").open("w+b", 0) as file:
            with pytest.raises(ValueError, match="pipes"):
                await real.connect_read_pipe(Piped, file)
            with pytest.raises(ValueError, match="pipes"):
                await real.connect_write_pipe(Piped, file)

    real.run_until_complete(main())


# -- children -------------------------------------------------------------------------------------


def test_child_gets_input_and_gives_output(real: EventLoop) -> None:
    async def main() -> None:
        child = await python(SHOUT, stdin=PIPE, stdout=PIPE)
        text = b"hello " * 100_000
        out, err = await child.communicate(text)
        assert (out, err, child.returncode) == (text.upper(), None, 0)
        child = await asyncio.create_subprocess_shell("cat; echo oops >&2; exit 3", stdin=PIPE,
                                                      stdout=PIPE, stderr=PIPE)  # fmt: skip
        assert await child.communicate(b"x") == (b"x", b"oops\n")
        assert await child.wait() == 3

    real.run_until_complete(main())


def test_no_thread_waits_for_a_child(real: EventLoop) -> None:
    async def main() -> None:
        before = threading.active_count()
        child = await python(WAITS, stdout=PIPE)
        await child.stdout.readline()
        assert threading.active_count() == before
        child.terminate()
        assert await child.wait() == -signal.SIGTERM

    real.run_until_complete(main())


@pytest.mark.filterwarnings("error")
def test_many_children_end_each_with_its_own_status(real: EventLoop) -> None:
    async def one(status: int) -> int:
        child = await asyncio.create_subprocess_exec("sh", "-c", f"exit {status}")
        return await child.wait()

    async def main() -> None:
        statuses = list(range(20))
        assert await asyncio.gather(*map(one, statuses)) == statuses

    real.run_until_complete(main())


@pytest.mark.parametrize("call", ["kill", "terminate", "send_signal", "close"])
def test_child_is_ended_by_signal(real: EventLoop, call: str) -> None:
    async def main() -> int:
        child = await python(WAITS, stdout=PIPE)
        await child.stdout.readline()
        if call == "close":
            child._transport.close()
        else:
            getattr(child, call)(*[signal.SIGINT] if call == "send_signal" else [])
        status = await child.wait()
        with contextlib.suppress(ProcessLookupError):  # from Python 3.14 on nothing is raised
            child.kill()
        return int(status)

    expected = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "send_signal": signal.SIGINT}
    status = real.run_until_complete(main())
    if call == "send_signal":  # Python's own handler of SIGINT makes it 1 in a child of a shell
        assert status in (1, -signal.SIGINT)
    else:
        assert status == -expected.get(call, signal.SIGKILL)


def test_child_that_cannot_be_started_leaves_nothing(real: EventLoop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE)

    real.run_until_complete(main())


@pytest.mark.parametrize("passes", range(6))
def test_start_of_a_child_may_be_cancelled_at_every_await(real: EventLoop, passes: int) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(python(WAITS, stdin=PIPE, stdout=PIPE, stderr=PIPE))
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        try:
            child = await task
        except asyncio.CancelledError:
            return
        child.kill()
        await child.communicate()

    real.run_until_complete(main())
    gc.collect()


def test_children_of_a_loop_in_another_thread_are_waited_for() -> None:
    statuses: list[int] = []

    def run() -> None:
        async def main() -> int:
            child = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
            return await child.wait()

        with asyncio.Runner(loop_factory=EventLoop) as runner:
            statuses.append(runner.run(main()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert statuses == [7]


def test_status_that_a_poll_has_read_is_not_lost(real: EventLoop) -> None:
    async def main() -> None:
        child = await python(WAITS)
        os.kill(child.pid, signal.SIGUSR1)
        process = child._transport.get_extra_info("subprocess")
        process.wait()  # in place of the loop
        assert await child.wait() == -signal.SIGUSR1

    real.run_until_complete(main())


def test_child_that_somebody_else_reaped_has_status_255(
    real: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        child = await python(WAITS)
        os.kill(child.pid, signal.SIGUSR1)
        os.waitpid(child.pid, 0)  # noqa: ASYNC222 - in place of the loop
        assert await child.wait() == 255

    real.run_until_complete(main())
    assert "status already read" in caplog.text


def test_child_is_waited_for_in_a_thread_where_the_system_has_no_pidfd(
    real: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def main() -> None:
        child = await python(SHOUT, stdin=PIPE, stdout=PIPE)
        assert await child.communicate(b"hello") == (b"HELLO", None)
        assert child.returncode == 0
        child = await python(WAITS, stdout=PIPE)
        await child.stdout.readline()
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        for thread in threading.enumerate():
            if thread.name.startswith("cyreactor-child"):
                thread.join()

    real.run_until_complete(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_child_watcher_that_the_program_chose_is_used() -> None:
    loop = EventLoop()
    watcher = asyncio.SafeChildWatcher()
    asyncio.set_child_watcher(watcher)
    watcher.attach_loop(loop)

    async def main() -> None:
        child = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
        transport = child._transport  # type: ignore[attr-defined]
        assert type(transport) is not inherited.ProcessTransport
        assert await child.wait() == 4

    try:
        loop.run_until_complete(main())
    finally:
        asyncio.set_child_watcher(None)  # type: ignore[arg-type]
        loop.close()


# -- loops that close over them ---------------------------------------------------------------


def closed_with(loop: EventLoop) -> list[str]:
    """Close *loop* and return its warnings."""
    with pytest.warns(ResourceWarning) as caught:  # noqa: PT031
        loop.close()
        gc.collect()
    return sorted(str(warning.message) for warning in caught)


def test_closed_loop_kills_and_reaps_its_children() -> None:
    loop = EventLoop()

    async def main() -> Any:
        child = await python(WAITS, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await child.stdout.readline()
        return child

    child = loop.run_until_complete(main())
    process = child._transport.get_extra_info("subprocess")
    messages = closed_with(loop)
    assert process.returncode == -signal.SIGKILL
    assert [message.split(" ")[2] for message in messages] == [
        "<ProcessTransport",
        "<ReadPipeTransport",
        "<ReadPipeTransport",
        "<WritePipeTransport",
    ]
    child._transport.close()


def test_closed_loop_reaps_a_child_whose_end_it_has_not_seen() -> None:
    loop = EventLoop()

    async def main() -> Any:
        return await python(WAITS)

    child = loop.run_until_complete(main())
    process = child._transport.get_extra_info("subprocess")
    child.send_signal(signal.SIGUSR1)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (message,) = closed_with(loop)
    assert message.startswith("unclosed transport <ProcessTransport")
    assert process.returncode == -signal.SIGUSR1


def test_loop_closed_before_a_child_has_its_pipes_closes_them() -> None:
    loop = EventLoop()

    async def main() -> None:
        starting = asyncio.ensure_future(python(WAITS, stdin=PIPE, stdout=PIPE))
        await asyncio.sleep(0)
        starting.cancel()  # and nobody lets it end

    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    closed_with(loop)


def test_closed_loop_that_waits_in_a_thread_frees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    loop = EventLoop()

    async def main() -> Any:
        return await python(WAITS, stdout=PIPE)

    child = loop.run_until_complete(main())
    closed_with(loop)
    for thread in threading.enumerate():
        if thread.name.startswith("cyreactor-child"):
            thread.join()
    assert child._transport.get_extra_info("subprocess").returncode == -signal.SIGKILL


@pytest.mark.parametrize("act", ["is_closing", "pause_reading", "close"])
def test_closed_loop_frees_pipes(act: str) -> None:
    loop = EventLoop()

    async def main() -> list[Any]:
        ends = os.pipe()
        reader, _ = await loop.connect_read_pipe(Piped, os.fdopen(ends[0], "rb", 0))
        writer, _ = await loop.connect_write_pipe(Piped, os.fdopen(ends[1], "wb", 0))
        return [reader, writer]

    made = loop.run_until_complete(main())
    made[1].write(bytes(200_000))
    getattr(made[0], act)()
    if act == "close":
        made[1].close()
    assert len(closed_with(loop)) == 2
    for transport in made:
        transport.close()
        assert transport.is_closing()
        assert "closed" in repr(transport)


def test_limit_of_the_wait_for_a_killed_child_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot die at once is left to the system."""
    monkeypatch.setattr(inherited, "KILLED_SECONDS", 0.001)
    loop = EventLoop()

    async def main() -> Any:
        return await python(WAITS)

    child = loop.run_until_complete(main())
    process = child._transport.get_extra_info("subprocess")
    kill, process.kill = process.kill, lambda: None
    closed_with(loop)
    assert process.returncode is None
    assert limits.KILLED_SECONDS >= 0.1
    kill()
    process.wait()

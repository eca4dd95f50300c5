"""The connection manager for threads: blocking calls, and a loop that answers them.

Owns: the hand-over between a thread and the loop; the loop and its thread, unless the manager
of somebody else's loop is served.  May not touch: pools (``reactor.manager.manager``).
Invariant: a protocol is touched on the loop's thread alone; a thread that stops waiting
(a time-out, Ctrl-C) leaves nothing leased.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar

from reactor.eventloop import EventLoop, new_event_loop
from reactor.locks import Mutex, synchronized
from reactor.manager.endpoint import Endpoint
from reactor.manager.manager import ConnectionManager, PoolClosedError
from reactor.manager.sight import PoolStats
from reactor.waiting import cancel_others

__all__ = ["BlockingConnectionManager"]

T = TypeVar("T")

# How long a thread sleeps before it looks whether the loop is there still, which somebody else may
# have closed, and on Windows whether it was interrupted: no signal ends the wait for a lock there.
SLEEP_SECONDS = 0.1 if sys.platform == "win32" else 1.0


class _Call:
    """A coroutine that a thread waits for.

    The thread sleeps on a lock.  A future of ``concurrent``'s has a condition, which Python code
    takes: a signal handler that raises there may leave it held, and the loop's thread asleep on it
    for good (``reactor.locks``).
    """

    __slots__ = ("coroutine", "error", "is_over", "result", "task", "wake")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.task: asyncio.Task[Any] | None = None
        self.is_over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def wait(self, loop: EventLoop, timeout: float | None) -> None:
        """Sleep until the coroutine is done; ``TimeoutError`` if that takes too long (seconds)."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        left = until - time.monotonic()
        while not self.wake.acquire(timeout=min(max(left, 0), SLEEP_SECONDS)):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if loop.is_closed():
                raise PoolClosedError

    def begin(self, loop: EventLoop) -> None:
        """On the loop: make the coroutine's task."""
        if self.is_over:
            self.coroutine.close()
            return
        work = self._work()
        try:
            self.task = loop.create_task(work)
        except Exception as error:  # noqa: BLE001 - a task factory's, raised in the thread
            work.close()
            self.coroutine.close()
            self.end(error)
        else:
            self.task.add_done_callback(self._ended)

    async def _work(self) -> None:
        try:
            self.result = await self.coroutine
        except (KeyboardInterrupt, SystemExit) as error:
            if threading.get_ident() == threading.main_thread().ident:
                raise  # a signal may have come to who runs the loop
            self.error = error  # the thread's that waits, and not the loop's end

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.task = None  # it has the error, whose traceback has this call
        self.coroutine.close()  # which was not begun, if the task was cancelled before
        self.end(asyncio.CancelledError() if task.cancelled() else self.error or task.exception())

    def end(self, error: BaseException | None) -> None:
        """Wake the thread, once; on the loop, or when that is over."""
        if not self.is_over:
            self.is_over = True
            self.error = error
            with contextlib.suppress(RuntimeError):  # woken by another thread just now
                self.wake.release()

    def give_up(self, undo: Callable[[], object] | None) -> None:
        """On the loop: the thread waits no longer."""
        self.is_over = True
        if self.task is None:
            self.coroutine.close()  # interrupted before the loop was told
        else:
            self.task.cancel()
        if undo is not None:
            undo()


class BlockingConnectionManager:
    """Leases connections to blocking code; every method may be called from any thread.

    Either it has a manager and a loop of its own, which a thread runs until ``close``, or it
    serves those of a program that runs a loop anyway, and ``close`` leaves both alone.

    Args:
        manager, loop: the manager to serve, and the loop, which is running, that it belongs
            to; both or neither.
        options: the ``ConnectionManager``'s own, without a manager.

    What is leased belongs to the loop's thread: call its methods with ``run``.  A call from
    that thread itself would wait for itself; it raises ``RuntimeError``.
    """

    def __init__(
        self,
        manager: ConnectionManager | None = None,
        loop: EventLoop | None = None,
        **options: Any,
    ) -> None:
        if (manager is None) != (loop is None):
            raise TypeError("a manager and its loop come together")
        if manager is not None and options:
            raise TypeError(f"the manager has its options already: {', '.join(options)}")
        self._closed = False
        self._mutex = Mutex()
        self._calls: set[_Call] = set()  # that a thread waits for
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        if manager is not None and loop is not None:
            self._manager, self._loop = manager, loop
            return
        self._manager = ConnectionManager(**options)
        self._loop = new_event_loop()
        # a daemon: who forgets to close is told so, and can still end
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="cyreactor-manager", daemon=True
        )
        self._thread.start()

    # -- leasing -----------------------------------------------------------------------

    def acquire(
        self,
        factory: Callable[[], Any],
        host: str | Endpoint,
        port: int | None = None,
        *,
        timeout: float | None = None,
        **key: Any,
    ) -> Any:
        """Lease a connection, waiting *timeout* seconds at most; see ``ConnectionManager``."""
        got: list[Any] = []
        is_wanted = True  # these two are the loop's thread's

        async def work() -> None:
            deadline = None if timeout is None else self._loop.time() + timeout
            protocol = await self._manager.acquire(factory, host, port, deadline=deadline, **key)
            if is_wanted:
                got.append(protocol)
            else:
                self._manager.release(protocol)

        def undo() -> None:
            nonlocal is_wanted
            is_wanted = False
            if got:
                self._manager.release(got.pop())

        self._wait_for(work(), undo)
        return got[0]

    @contextlib.contextmanager
    def lease(
        self,
        factory: Callable[[], Any],
        host: str | Endpoint,
        port: int | None = None,
        *,
        timeout: float | None = None,
        **key: Any,
    ) -> Iterator[Any]:
        """Acquire a connection for a ``with`` block; discard it if the block raises."""
        protocol = self.acquire(factory, host, port, timeout=timeout, **key)
        give_back = self.discard
        try:
            yield protocol
            give_back = self.release
        finally:
            with contextlib.suppress(PoolClosedError):  # then nothing is left to be given back
                give_back(protocol)

    def release(self, protocol: Any) -> None:
        """Give a leased connection back; ``ValueError`` for what is not leased."""
        self._wait_for(_call(self._manager.release, protocol))

    def discard(self, protocol: Any) -> None:
        """Give a leased connection back and end it; ``ValueError`` for what is not leased."""
        self._wait_for(_call(self._manager.discard, protocol))

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop, a method of what is leased, say; return its result.

        It is cancelled when it takes longer than *timeout* seconds (``TimeoutError``).
        """
        return self._wait_for(coroutine, timeout=timeout)

    def stats(self) -> PoolStats:
        """Return the manager's counters."""
        return self._wait_for(_call(self._manager.stats))

    def _wait_for(
        self,
        coroutine: Coroutine[Any, Any, T],
        undo: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Run *coroutine* on the loop and wait; *undo* it, there, if the wait is cut short."""
        if not asyncio.iscoroutine(coroutine):
            raise TypeError(f"a coroutine is needed, not {coroutine!r}")
        call = _Call(coroutine)
        try:
            self._check_use()
        except BaseException:
            coroutine.close()
            raise
        try:
            self._calls.add(call)
            self._hand_over(call)
            call.wait(self._loop, timeout)
        except BaseException:
            try:
                self._loop.call_soon_threadsafe(call.give_up, undo)
            except RuntimeError:  # the loop is closed, all is over
                if call.task is None:
                    coroutine.close()
            raise
        finally:
            self._calls.discard(call)
        if isinstance(call.error, asyncio.CancelledError):
            if self._loop.is_closed():
                coroutine.close()  # it may never have begun
            raise PoolClosedError from None
        if call.error is not None:
            error, call.error = call.error, None  # whose traceback has the call
            try:
                raise error
            finally:
                del error  # and this frame
        result: T = call.result
        return result

    def _hand_over(self, call: _Call) -> None:
        try:
            self._loop.call_soon_threadsafe(call.begin, self._loop)
        except RuntimeError:
            call.coroutine.close()
            self._check_open()  # the loop may have been closed meanwhile
            raise
        if self._closed and self._thread is not None:
            call.end(asyncio.CancelledError())  # the loop may have ended without hearing of it

    def _check_open(self) -> None:
        if self._closed or (self._thread is not None and self._loop.is_closed()):
            raise PoolClosedError

    def _check_use(self) -> None:
        self._check_open()
        if self._process != os.getpid():
            raise RuntimeError("the manager belongs to the process that this one was forked from")
        if self._loop._thread_id == threading.get_ident():
            raise RuntimeError("a blocking call on the loop's own thread would wait for itself")
        if self._thread is None and not self._loop.is_running():
            raise RuntimeError("the manager's event loop is not running")

    # -- the end -----------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> None:
        """Close the manager, if it is ours, as ``ConnectionManager.close`` does; end the thread.

        Calls of other threads raise ``PoolClosedError``.  A second call does nothing, nor does
        one in a forked child: the manager is its parent's.
        """
        if self._process != os.getpid():
            self._closed = True
            return
        self._close(timeout)

    @synchronized("_mutex")
    def _close(self, timeout: float) -> None:
        if self._closed:
            return
        if self._thread is not None:
            self._wait_for(self._finish(timeout))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._closed = True
        if self._thread is not None:
            for call in list(self._calls):  # whatever the loop did not hear of any more
                call.end(asyncio.CancelledError())

    async def _finish(self, timeout: float) -> None:
        """On the loop: close all and end what other threads are still waiting for."""
        await self._manager.close(timeout)
        await cancel_others()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._thread is None:
            return
        if self._process != os.getpid():
            return  # a forked child's copy
        self._loop.call_soon_threadsafe(self._loop.stop)
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<BlockingConnectionManager {state}, {self._manager!r}>"


async def _call(function: Callable[..., T], *args: Any) -> T:
    """Call a function on the loop's thread."""
    return function(*args)


def _run(loop: EventLoop) -> None:
    """Run *loop* until it is stopped; what this thread is for."""
    with contextlib.closing(loop):
        loop.run_forever()

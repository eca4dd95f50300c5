"""The blocking face of the HTTP client: any thread, no event loop in sight.

Owns: a private event loop, and who drives it.  May not touch: requests
(``protocols.http.client``).

There is no background thread.  The thread that waits for its response runs the loop itself,
and so pays no hand-over; threads that come meanwhile leave their request with it and sleep
(leader and followers).  When the leader's own response is there, it appoints a follower and
leaves::

    thread A   get ===== runs the loop =====> its response, appoints B
    thread B        get ..... sleeps ......... ===== runs the loop =====> its response
    thread C           get .. sleeps ... its response (came while A was running)

Invariant: while any call is unfinished, exactly one thread runs the loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from protocols.http.client import AsyncClient, ClientClosedError, Default, HeaderSource
from protocols.http.response import Response
from protocols.http.url import URL
from reactor import new_event_loop

__all__ = ["Client"]

T = TypeVar("T")


class _Call:
    """A call of one thread.

    ``wake`` is a lock that its thread sleeps on; it is released when the call is finished or
    when its thread is to lead.
    """

    __slots__ = ("leads", "start", "task", "wake")

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.start = start
        self.task: asyncio.Task[Any] | None = None
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()


class Client:
    """A blocking HTTP/1.1 client; every method may be called from any thread.

    The arguments are ``AsyncClient``'s.  Use it as ``with Client() as client`` or call
    ``close``.  Connections are shared by all threads.
    """

    def __init__(self, **options: Any) -> None:
        self._async = AsyncClient(**options)
        self._loop = new_event_loop()
        self._mutex = threading.Lock()
        self._calls: dict[_Call, None] = {}  # unfinished, in the order in which they came
        self._leading = False
        self._closed = False
        self._pid = os.getpid()

    # -- requests ----------------------------------------------------------------------

    def get(
        self,
        url: str | URL,
        *,
        headers: HeaderSource | None = None,
        timeout: float | Default | None = Default.TIMEOUT,
    ) -> Response:
        """GET *url* and return the response; see ``AsyncClient.get``."""
        return self._run(lambda: self._async.get(url, headers=headers, timeout=timeout))

    def head(
        self,
        url: str | URL,
        *,
        headers: HeaderSource | None = None,
        timeout: float | Default | None = Default.TIMEOUT,
    ) -> Response:
        """HEAD *url*; see ``AsyncClient.head``."""
        return self._run(lambda: self._async.head(url, headers=headers, timeout=timeout))

    # -- leader and followers ------------------------------------------------------------

    def _run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine of the client's and return its result."""
        call = _Call(start)
        with self._mutex:
            if self._closed:
                raise ClientClosedError("the client is closed")
            if self._pid != os.getpid():
                raise RuntimeError("the client was made before a fork; make one in each process")
            self._calls[call] = None
            if not self._leading:
                self._leading = call.leads = True
            else:
                self._loop.call_soon_threadsafe(self._begin, call)
        try:
            if not call.leads:
                call.wake.acquire()
            if call.leads:
                self._lead(call)
        except BaseException:
            self._abandon(call)
            raise
        with self._mutex:
            self._calls.pop(call, None)
        assert call.task is not None
        result: T = call.task.result()
        return result

    def _begin(self, call: _Call) -> None:
        """On the loop: start the call's task, unless its thread gave up."""
        if call.task is None and call in self._calls:
            call.task = self._loop.create_task(call.start())
            call.task.add_done_callback(lambda _: self._finished(call))

    def _finished(self, call: _Call) -> None:
        """On the loop: a task is done; its thread is woken, or the loop stops for it."""
        if call.leads:
            self._loop.stop()
        elif call.wake.locked():
            call.wake.release()

    def _lead(self, call: _Call) -> None:
        """Run the loop until the call is finished, then appoint the next leader."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            if not call.done:
                self._loop.call_soon(self._begin, call)
                self._loop.run_forever()
        finally:
            asyncio._set_running_loop(outer)
            self._resign(call)

    def _resign(self, call: _Call) -> None:
        with self._mutex:
            call.leads = False
            for other in self._calls:
                if other is not call and not other.done:
                    other.leads = True
                    other.wake.release()
                    return
            self._leading = False

    def _abandon(self, call: _Call) -> None:
        """The thread gives its call up (a signal, say): cancel it, leave no trace."""
        with self._mutex:
            self._calls.pop(call, None)
            leads = call.leads
            call.leads = False
        if call.task is not None:
            self._loop.call_soon_threadsafe(call.task.cancel)
        if leads:
            self._resign(call)

    # -- the client --------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection and free the loop; a second call does nothing."""
        if self._closed or self._pid != os.getpid():
            return
        self._run(self._async.aclose)
        with self._mutex:
            self._closed = True
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<Client {'closed' if self._closed else 'open'}, {self._async.manager!r}>"

"""The blocking face of the HTTP client: any thread, no event loop in sight.

Owns: a private event loop, and who drives it.  May not touch: requests
(``protocols.http.client``); the short way of a lone thread's (``protocols.http.turns``).

There is no background thread.  The thread that waits for its response runs the loop itself,
and so pays no hand-over; threads that come meanwhile leave their request with it and sleep
(leader and followers).  When the leader's own response is there, it appoints a follower and
leaves::

    thread A   get ===== runs the loop =====> its response, appoints B
    thread B        get ..... sleeps ......... ===== runs the loop =====> its response
    thread C           get .. sleeps ... its response (came while A was running)

Invariant: while any call is unfinished, exactly one thread runs the loop, or has been
appointed to.  A call is marked done and its thread woken in one step of the loop, so that
there is no moment at which a leader could leave and forget it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import contextlib
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Self, TypeVar

from protocols.http.calls import Call
from protocols.http.client import AsyncClient
from protocols.http.cookies import CookieJar
from protocols.http.errors import ClientClosedError, RequestInterruptedError
from protocols.http.headers import Headers
from protocols.http.request import SAFE_METHODS, Request
from protocols.http.response import Response
from protocols.http.streams import BlockingStreamBlock
from protocols.http.timeouts import Timeout
from protocols.http.turns import Turns
from protocols.http.url import URL
from reactor import new_event_loop
from reactor.locks import synchronized
from reactor.waiting import cancel_others

__all__ = ["Client"]

T = TypeVar("T")

# How long a thread sleeps before it looks whether it was interrupted: no signal ends the wait for
# a lock on Windows.  Elsewhere one does, and the sleep (-1) has no limit.
SLEEP_SECONDS = 0.1 if sys.platform == "win32" else -1


def _held_lock() -> threading.Lock:
    """Return a lock to sleep on, until another thread releases it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


async def _nothing() -> None:
    """Do nothing."""


def _mark(interrupt: BaseException) -> None:
    """Note that a thread is told of an interrupt."""
    interrupt.__dict__["_is_told"] = True


def _is_echo(error: BaseException) -> bool:
    """Return whether *error* is an interrupt that a thread was told of before.

    It is met again as the result of a task, say, that was interrupted as it opened a connection.
    """
    return "_is_told" in error.__dict__


def _is_interrupt(error: BaseException) -> bool:
    """Return whether *error* was raised by a signal, and so is meant for the thread it came to.

    An alarm's exception is like any other, but for the handler's frame in its traceback.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return True
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return False
    codes, entry = set(), error.__traceback__
    while entry is not None:
        codes.add(entry.tb_frame.f_code)
        entry = entry.tb_next
    for number in range(1, signal.NSIG):
        handler = _signal.getsignal(number)  # what ``signal`` makes enumerations of
        while isinstance(handler, partial):
            handler = handler.func
        if not callable(handler):
            continue
        code = getattr(handler, "__code__", getattr(type(handler).__call__, "__code__", None))
        if code in codes:
            return True
    return False


def _report(
    client: weakref.ref[Client], loop: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    """Raise what interrupted a call-back of the loop's where it belongs; log the rest."""
    error, served = context.get("exception"), client()
    if served is None or error is None or not served._takes(error) or served._interrupt is None:
        loop.default_exception_handler(context)


class _Call:
    """A call of one thread.

    ``wake`` is a lock that its thread sleeps on; it is released when the call is done or
    when its thread is to lead.  ``begun`` is what was begun before the loop ran for it, in
    place of ``start``.  ``again``: what is interrupted on another thread's behalf may be done once
    more.
    """

    __slots__ = (
        "again", "begun", "done", "ended", "error", "has_begun", "leads", "result", "start",
        "task", "thread", "wake",
    )  # fmt: skip

    def __init__(
        self,
        start: Callable[[], Coroutine[Any, Any, Any]] | None,
        begun: Call | None = None,
        *,
        again: bool = False,
    ) -> None:
        self.start: Any = start
        self.begun = begun
        self.again = again
        self.has_begun = False
        self.ended: Any = None  # what tells of the task's end
        self.thread = threading.get_ident()
        self.task: asyncio.Task[None] | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.leads = False
        self.wake = _held_lock()


class Client(Turns):
    """A blocking HTTP/1.1 client; every method may be called from any thread.

    The arguments are ``AsyncClient``'s.  Use it as ``with Client() as client`` or call
    ``close``.  Connections are shared by all threads.  What the handler of a signal raises, an
    alarm's exception say, is raised by the call that the main thread is in.
    """

    _async: AsyncClient

    def __init__(self, **options: Any) -> None:
        super().__init__(AsyncClient(**options), new_event_loop())
        self._interrupt: BaseException | None = None  # for the leader, out of what it ran
        self._loop.set_exception_handler(partial(_report, weakref.ref(self)))
        self._pid = os.getpid()
        self._closed = False

    # -- requests ----------------------------------------------------------------------

    def build_request(self, method: str, url: str | URL, **options: Any) -> Request:
        """Return the request that ``request`` would send; see ``AsyncClient``."""
        return self._async.build_request(method, url, **options)

    def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """Send what ``build_request`` or ``Request`` made; see ``AsyncClient.send``.

        With *stream* the response has the connection until it was read, or closed
        (``Response.close``).
        """
        if stream:
            return self.stream_request(request, **options).__enter__()
        # if an interrupt of another thread's has ended it
        again = getattr(request, "method", None) in SAFE_METHODS and request.body is None
        return self._run(lambda: self._async.send(request, **options), again=again)

    def stream(self, method: str, url: str | URL, **options: Any) -> BlockingStreamBlock:
        """Send a request for a ``with`` block; the response's body is streamed.

        Read it with ``response.iter_bytes()`` or ``read()``; see ``AsyncClient.stream``.
        """
        return BlockingStreamBlock(self, self._async.stream(method, url, **options))

    def stream_request(self, request: Request, **options: Any) -> BlockingStreamBlock:
        """Send what ``build_request`` or ``Request`` made, as ``stream`` does."""
        return BlockingStreamBlock(self, self._async.stream_request(request, **options))

    def _catch_up(self) -> None:
        """Let the loop do what was left for it; what the client ended is over."""
        if self._leader == threading.get_ident():
            return  # a signal handler: the loop goes on once it has returned
        with contextlib.suppress(ClientClosedError):
            self._run(_nothing, again=True)

    @property
    def cookies(self) -> CookieJar:
        """The jar, which any thread may use; see ``AsyncClient.cookies``."""
        return self._async.cookies

    @property
    def headers(self) -> Headers:
        """What every request has that has no others of these names; not to be changed."""
        return self._async.headers

    @property
    def base_url(self) -> URL | None:
        """What the URLs of requests are below, or ``None``."""
        return self._async.base_url

    @property
    def timeout(self) -> Timeout:
        """The limits of requests that have none of their own."""
        return self._async.timeout

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    # -- leader and followers ------------------------------------------------------------

    def _run(
        self,
        start: Callable[[], Coroutine[Any, Any, T]],
        *,
        again: bool = False,
        closes: bool = False,
    ) -> T:
        """Run a coroutine of the client's and return its result; *again* as in ``_Call``."""
        # before the mutex, which another thread may have held at the fork
        if self._pid != os.getpid():
            raise RuntimeError("the client was made before a fork; make one in each process")
        result: T = self._see_through(_Call(start, again=again), closes)
        return result

    def _continue(self, begun: Call) -> Response:
        """Run the loop for what the calling thread, which leads alone, has begun."""
        response: Response = self._see_through(_Call(None, begun), False)
        return response

    def _see_through(self, call: _Call, closes: bool) -> Any:
        """Lead, or sleep until the call is done; return what it has come to."""
        try:
            if call.begun is None:
                self._enter(call, closes=closes)
                if not call.leads:
                    while not call.wake.acquire(timeout=SLEEP_SECONDS):
                        pass  # whatever interrupts is raised here
            else:
                # nothing is called in between: the lead is the call's, or was not handed over
                call.leads = True
                self._alone = False
                self._list(call)
            if call.leads:
                self._lead(call)
            self._strike(call)
        except BaseException:
            while True:  # here, where nothing is called outside of the try
                try:
                    self._abandon(call)
                    break
                except (SystemExit, KeyboardInterrupt):  # the second Ctrl-C
                    continue  # the first one is raised; others may wait for a leader
            raise
        if isinstance(call.error, asyncio.CancelledError):
            raise ClientClosedError("the client was closed") from None
        if call.error is not None:
            error, call.error = call.error, None
            try:
                raise error
            finally:
                del error  # which has a traceback, which has this frame
        return call.result

    @synchronized("_mutex")
    def _enter(self, call: _Call, *, closes: bool) -> None:
        """Leave the call with the thread that leads, or make its own thread lead."""
        if self._closed:
            raise ClientClosedError("the client is closed")
        if self._leader == call.thread:
            # a signal handler, say: the loop cannot go on before it returns
            raise RuntimeError("the client was called by what itself is calling")
        self._closed = closes
        self._calls[call] = None
        if self._leader is None:
            self._leader = call.thread
            call.leads = True
        else:
            self._loop.call_soon_threadsafe(self._begin, call)

    @synchronized("_mutex")
    def _list(self, call: _Call) -> None:
        """Count the call among the unfinished."""
        self._calls[call] = None

    @synchronized("_mutex")
    def _strike(self, call: _Call) -> None:
        """The call is finished."""
        self._calls.pop(call, None)

    async def _perform(self, call: _Call) -> None:
        """On the loop: do what the call is for; wake its thread, or stop the loop for it."""
        if call not in self._calls:
            return  # its thread gave up, interrupted before it knew of this task
        call.has_begun = True
        try:
            call.task = asyncio.current_task()
            call.result = await (call.start() if call.begun is None else call.begun)
        except BaseException as error:  # noqa: BLE001 - raised in the call's own thread
            if not _is_echo(error) and (call.leads or not self._takes(error)):
                call.error = error
            elif call.again:
                call.task = None
                call.has_begun = False
                self._loop.call_soon(self._begin, call)
                return
            else:
                call.error = RequestInterruptedError()
        if call.begun is not None:
            call.begun.close()  # what raised may not have come to it
        self._conclude(call)

    def _run_loop(self, call: _Call) -> None:
        """Run the loop until the call is done; ``_lead`` has seen to all around it."""
        self._interrupt = None
        self._loop.call_soon(self._begin, call)
        while not call.done:
            try:
                self._loop.run_forever()
            except BaseException as error:
                _mark(error)
                raise
            task = call.task
            if call.done and task is not None and task.done() and not task.cancelled():
                error = task.exception()  # as it was about to return
                if self._interrupt is None and error is not None and not _is_echo(error):
                    self._interrupt = error
                del error
            if self._interrupt is not None:
                interrupt, self._interrupt = self._interrupt, None
                _mark(interrupt)
                try:
                    raise interrupt
                finally:
                    del interrupt, task  # which has a traceback, which has this frame

    def _takes(self, error: BaseException) -> bool:
        """On the loop: have the thread that runs it raise *error*, if a signal has raised that.

        Only the main thread does, where signals are handled; another, which has come to lead
        meanwhile, knows by this that the error is not its own.
        """
        if not _is_interrupt(error):
            return False
        if _is_echo(error):
            return True
        thread = threading.get_ident()
        runs = self._loop._thread_id == thread and not self._alone
        if isinstance(error, (KeyboardInterrupt, SystemExit)) or (
            runs and thread == threading.main_thread().ident
        ):
            self._interrupt = error
            self._loop.stop()
        return True

    @synchronized("_mutex")
    def _resign(self, call: _Call | None) -> None:
        """Appoint the next leader, if the call's thread (None: one that is alone) leads.

        A signal handler may raise wherever something is called, and nowhere else.  So the
        search and the notice come first, while ``leads`` still tells ``_abandon`` to do it
        over again, and between the assignments nothing is called.
        """
        if not (self._alone if call is None else call.leads):
            return
        heir = next((each for each in self._calls if each is not call and not each.done), None)
        if heir is None:
            self._wake_closers()
            self._leader = None
        else:
            self._leader = heir.thread
            heir.leads = True
        if call is None:
            self._alone = False
        else:
            call.leads = False
        if heir is not None:
            heir.wake.release()

    def _abandon(self, call: _Call) -> None:
        """The thread gives its call up (a signal, say): cancel it, leave no trace.

        May be done over again.
        """
        self._end(call)
        self._resign(call)

    @synchronized("_mutex")
    def _end(self, call: _Call) -> None:
        self._calls.pop(call, None)
        if not self._loop.is_closed():
            if call.task is not None and not call.task.done():
                self._loop.call_soon_threadsafe(call.task.cancel)
            elif call.task is not None and not call.task.cancelled():
                call.task.exception()  # the call's thread raises it by now
            if call.begun is not None:  # which the task may not have come to
                self._loop.call_soon_threadsafe(call.begun.close)

    # -- the client --------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection and free the loop; a second call does nothing.

        Calls of other threads may go on for the time that ``ConnectionManager.close`` gives
        them; after that they raise ``ClientClosedError``.
        """
        if self._pid != os.getpid():
            return
        while not self._loop.is_closed():
            if not self._closed:
                try:
                    self._run(self._finish, again=True, closes=True)
                except ClientClosedError:
                    pass  # another thread does it, or is interrupted, and it is done here
                except BaseException:
                    self._reopen()
                    raise
            while (wake := self._leader_leaves()) is not None:
                while not wake.acquire(timeout=SLEEP_SECONDS):
                    pass
            self._free()

    @synchronized("_mutex")
    def _reopen(self) -> None:
        """Be open again, unless another thread has freed the loop; who waits for it tries next."""
        self._closed = self._loop.is_closed()
        self._wake_closers()

    def _wake_closers(self) -> None:
        while self._waking:
            try:  # noqa: SIM105
                self._waking[-1].release()  # who sleeps there looks once the mutex is free
            except RuntimeError:
                pass  # awake already: it was interrupted here
            self._waking.pop()

    @synchronized("_mutex")
    def _free(self) -> None:
        """Close the loop, if all was finished and nobody runs it."""
        if self._closed and self._leader is None:
            self._loop.close()

    @synchronized("_mutex")
    def _leader_leaves(self) -> threading.Lock | None:
        """Return a lock that is released once nobody leads.

        ``None`` where nobody does, or where the client is open again: calls go on, and there may
        be somebody who leads for ever.
        """
        if self._leader is None or not self._closed:
            return None
        if self._leader == threading.get_ident():
            raise RuntimeError("the client was called by what itself is calling")
        wake = _held_lock()
        self._waking.append(wake)
        return wake

    async def _finish(self) -> None:
        """On the loop: close all and end what other threads are still waiting for."""
        await self._async.aclose()
        await cancel_others()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._pid != os.getpid() or sys.is_finalizing():
            return
        shown = repr(self)
        with warnings.catch_warnings():  # of the loop's own: there is one thing unclosed
            warnings.simplefilter("ignore")
            self._loop.close()
        warnings.warn(f"unclosed {shown}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<Client {'closed' if self._closed else 'open'}, {self._async.manager!r}>"

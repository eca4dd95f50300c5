"""What is called for each blocking request: one exchange on the calling thread, and no loop run.

Owns: the way of a plain request (``protocols.http.calls``), and of a piece of a streamed body,
while nobody else uses the client; and of the turns of several threads the steps that no signal may
cut in two.
May not touch: the rest of these turns, and whatever needs the loop to run: that is
``protocols.http.sync_client``'s, which derives from ``Turns`` and takes over where this way ends.
Invariant: a thread that leads alone resigns, or hands its lead to a call that resigns, on every
way out.

::

    get --> alone --sends, waits--> response
              |          |
              |          +-- somebody came, 20 ms are over, redirected, stale --> _continue
              +-- others lead, nothing idle, options ---------------------------> _run

A piece goes the same way, and so does the good end of a body; at its _continue the thread resigns,
as nothing of its own was begun, and runs the loop for a coroutine that waits for the piece.

Taking the lead looks at whether the mutex is held and takes what it protects, without letting go
of the GIL in between: so it sees those who hold the mutex, and they do not see it half done.
Signal handlers run within the loop's wait, where an interrupt gives the exchange up, and in
Python code that is called from here.

While a thread leads alone its loop makes the first phases of its passes (``Reactor.collect``);
that is enough for bytes and deadlines. When there is anything in the ready queue, such as
another thread's call, the loop is run as it ought to be. A single wait is short, since signals
are not made to end it: one that came to another thread, or just before the wait, is seen after.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t

from reactor.core cimport Reactor, shade
from reactor.locks cimport Mutex

from protocols.http.body_stream cimport BodyStream
from protocols.http.calls cimport CALL_OVER, Call, Calls, Prepared, new_call
from protocols.http.connection cimport ClientConnection
from protocols.http.response cimport Response
from protocols.http.verbs cimport Verbs

import sys
from asyncio import CancelledError, _get_running_loop, _set_running_loop
from asyncio.tasks import _enter_task, _leave_task, current_task
from functools import partial

from protocols.http.body_stream import until_piece
from protocols.http.errors import RequestInterruptedError
from protocols.http.request import SAFE_METHODS
from protocols.http.verbs import CONTENT

cdef object running_loop = _get_running_loop
cdef object set_running_loop = _set_running_loop
cdef object enter_task = _enter_task
cdef object leave_task = _leave_task
cdef bint ONE_TASK_A_THREAD = sys.version_info >= (3, 14)   # up to 3.13: one a loop

# Options that mean the same each time that they are read.
cdef frozenset PLAIN = frozenset(
    ["content", "data", "json", "params", "headers", "timeout", "follow_redirects"])

cdef enum:
    LONGEST_WAIT_NS = 20_000_000    # an interrupt may be late by that


cdef class Turns(Verbs):
    """The part of a blocking client that every request goes through.

    Args:
        client: the asyncio client whose requests these are.
        loop: what it runs on, which nobody else runs.
    """

    def __cinit__(self, *args, **kwargs):
        self._closed = True         # until there is something to close

    def __init__(self, Calls client not None, Reactor loop not None):
        self._async = client
        self._loop = loop
        self._mutex = Mutex()
        self._calls = {}
        self._waking = []

    cdef object ask(self, str method, object url, dict options):
        cdef Calls client = self._async
        cdef Prepared prepared = None
        cdef Response response = None
        cdef bint follows
        cdef object timeout
        cdef object planned
        if not self._closed and client._is_direct and self.may_lead():
            follows = client._follow
            timeout = client._timeout
            if not options:
                prepared = client.recall(method, url)
            if prepared is None and is_plain(options):
                planned = client._plan(method, url, **options)
                if type(planned) is tuple:
                    prepared, follows, timeout = planned
                else:
                    planned.close()
            if prepared is not None:
                response = self.go_alone(prepared, method, url, follows, timeout)
        if response is None:
            again = (method.upper() in SAFE_METHODS and options.keys().isdisjoint(CONTENT)
                     and may_repeat(options))
            return self._run(partial(client.request, method, url, **options), again=again)
        return response

    cdef Response go_alone(self, Prepared prepared, str method, object url, bint follows,
                           object timeout):
        cdef Reactor loop = self._loop
        cdef Call call = None
        cdef Response response
        cdef object thread = PyThread_get_thread_ident()
        cdef object outer
        if not self.may_lead():
            return None
        self._leader = thread
        self._alone = True
        try:
            call = new_call(self._async, method, url)
            call.limit(follows, timeout)
            outer = running_loop()
            set_running_loop(loop)
            shade(outer, 1)
            loop._thread_id = thread
            try:
                response = self.attempt(call, prepared)
            finally:
                loop._thread_id = None
                shade(outer, -1)
                set_running_loop(outer)
            if call.state != CALL_OVER:
                return self._continue(call)
            self.resign(thread)
            return response
        except BaseException:
            if self._alone and self._leader is thread:      # else it is another's by now
                self.give_up(call, thread)
            raise

    cdef bint may_lead(self) except -1:
        """Whether the calling thread may lead alone, if it takes the lead at once."""
        # the mutex first: from here to the assignments nothing lets go of the GIL
        return not (self._mutex.is_held or self._leader is not None or self._calls
                    or self._closed or self._async._loop is not self._loop or self._loop._debug
                    or self._loop.poller.foreign)

    cdef Response attempt(self, Call call, Prepared prepared):
        cdef Reactor loop = self._loop
        cdef ClientConnection connection
        # what has come for an idle connection is seen when it is taken, and it is not, then
        if loop.ready_count or not call.launch(prepared):
            call.close()
            return None
        connection = call.connection
        while not connection.outcome.is_over:
            if loop.ready_count or loop.now_ns() - connection.began_ns >= LONGEST_WAIT_NS:
                return None
            loop.collect(LONGEST_WAIT_NS)
        return call.finish()        # None for a redirect: whoever goes on follows it

    def _next_piece(self, BodyStream stream not None, hold):
        """Return the next piece of a body; see ``BodyStream.reader``.

        It is taken last, with nothing in between that can raise: an interrupt costs no piece.
        """
        while True:
            if not self.wait_alone(stream, hold):
                self._run(partial(until_piece, stream, hold), again=True)
            PyErr_CheckSignals()        # else what is pending is raised as this returns
            if stream.first is not None:            # nobody else has taken it meanwhile
                return stream.take()

    cdef bint wait_alone(self, BodyStream stream, object hold) except -1:
        cdef Reactor loop = self._loop
        cdef object thread = PyThread_get_thread_ident()
        cdef object outer
        cdef bint is_there, has_ended = False
        if not self.may_lead():
            return False
        self._leader = thread
        self._alone = True
        try:
            outer = running_loop()
            set_running_loop(loop)
            shade(outer, 1)
            loop._thread_id = thread
            try:
                is_there = self.attempt_piece(stream)
                # where there is more to do, of the connection's end maybe, the loop is to run
                if stream.first is None and stream.complete and not loop.ready_count:
                    has_ended = True
                    if hold is not None:
                        hold.end()
            finally:
                loop._thread_id = None
                shade(outer, -1)
                set_running_loop(outer)
            self.resign(thread)
        except BaseException:
            if self._alone and self._leader is thread:      # else it is another's by now
                self.give_up(None, thread)
            raise
        if has_ended:
            raise StopAsyncIteration
        return is_there

    cdef bint attempt_piece(self, BodyStream stream) except -1:
        cdef Reactor loop = self._loop
        cdef int64_t until_ns = 0
        while stream.first is None:
            if stream.connection is None or stream.is_awaited or loop.ready_count:
                return False
            if until_ns == 0:
                until_ns = loop.now_ns() + LONGEST_WAIT_NS
            elif loop.now_ns() >= until_ns:
                return False
            loop.collect(LONGEST_WAIT_NS)
        stream.make_room()
        return True

    def _lead(self, call):
        """Run the loop until the call is done, then appoint the next leader.

        The calling thread may be within a task of another loop's, which stands aside.
        """
        cdef object outer = running_loop()
        cdef object task = None
        if ONE_TASK_A_THREAD and outer is not None:
            task = current_task(outer)
        shade(outer, 1)
        try:
            if task is not None:
                leave_task(outer, task)
            set_running_loop(None)
            self._run_loop(call)
        finally:
            shade(outer, -1)
            set_running_loop(outer)
            if task is not None:
                enter_task(outer, task)
            self._resign(call)

    def _begin(self, call):
        """On the loop: start the call's task, unless its thread gave up."""
        try:
            self._mutex.call(give_task, (self, call), {})
        except BaseException:       # a handler's: the loop reports it, or its thread raises it
            self._loop.call_soon(self._begin, call)
            raise

    def _ended(self, call, task):
        """On the loop: a call's task is over; see that the call is, too, or begins anew.

        A task that is cancelled before its first line, or interrupted as it is entered, or on its
        way out, tells nobody but its loop.
        """
        cdef object error = None if task.cancelled() else task.exception()
        # of the others the loop has raised by itself those that are meant for its thread
        cdef bint is_raised = isinstance(error, (KeyboardInterrupt, SystemExit))
        cdef bint is_interrupt = is_raised or (error is not None and self._takes(error))
        if call.done or call.task is not task or call not in self._calls:
            return
        if task.cancelled():
            call.error = CancelledError()
        elif not call.has_begun:
            self._begin(call)
            return
        elif error is not None and call.error is None:
            call.error = RequestInterruptedError() if is_interrupt else error
        self._conclude(call)

    def _conclude(self, call):
        """On the loop: the call is done; wake its thread, or stop the loop for it."""
        call.done = True
        if call.task is not None:
            call.task.remove_done_callback(call.ended)  # or it would wait for another pass
        call.ended = None
        if call.leads:
            self._loop.stop()
        else:
            try:
                call.wake.release()
            except RuntimeError:
                pass                    # awake already

    cdef int give_up(self, Call call, object thread) except -1:
        """Something was raised: end the exchange, and resign whatever comes."""
        try:
            if call is not None:
                call.close()
        finally:
            while self._leader is thread:
                try:
                    self.resign(thread)
                except (SystemExit, KeyboardInterrupt):     # the second Ctrl-C
                    pass            # the first one is raised; others may wait for a leader
        return 0

    cdef int resign(self, object thread) except -1:
        if self._mutex.is_held or self._calls or self._closed or self._waking:
            self._resign(None)
        else:
            self._leader = None
            self._alone = False
        return 0


def give_task(client, call):
    """Make the task of a call, once; the mutex is held."""
    if call not in client._calls or call.done:
        return
    # one that died before its first line is replaced
    if call.task is None or call.task.done():
        task = client._loop.create_task(client._perform(call))
        call.ended = partial(client._ended, call)
        task.add_done_callback(call.ended)
        call.task = task


def is_plain(options):
    """Return whether a request with these options can be made once more after it was planned."""
    if not PLAIN.issuperset(options) or not may_repeat(options):
        return False
    return isinstance(options.get("content", ""), (str, bytes))


def may_repeat(options):
    """Return whether a request without content that has these options can be made once more.

    A generator of parameters, fields or cookies is empty by then; what has a length is not.
    """
    for name in ("params", "headers", "cookies", "data"):
        value = options.get(name)
        if value is not None and not hasattr(value, "__len__"):
            return False
    return True

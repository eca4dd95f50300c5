"""What a task waits for while an exchange is under way, or the next piece of a body.

Owns: as much of a future as a task needs, over and over.  May not touch: connections.
Invariant: who waits is woken once, in a pass after the end that it waits for.
"""

cimport cython
from reactor.core cimport Reactor, Stepper, call_in_context

from asyncio import CancelledError, InvalidStateError
from contextvars import copy_context


@cython.final
cdef class Outcome(Waitable):
    """How something ended; what a task waits for, with as much of a future as it needs.

    It serves for one thing after the other, so that waiting allocates nothing: a connection has
    one for its exchanges, a body for its pieces.  Nobody but the task that waits may hold on to
    it.

    A task of ``reactor.tasks`` goes on without a call-back; asyncio's own has one.
    """

    cdef int begin(self) except -1:
        self.is_over = False
        self.is_cancelled = False
        self.waker = None
        self._cancelled = False
        return 0

    cdef int end(self) except -1:
        """Wake who waits, in the next pass."""
        if not self.is_over:
            self.is_over = True
            if self.waker is not None and not self.loop._closed:
                self.loop.push(self.waker if isinstance(self.waker, Stepper) else self)
        return 0

    cdef int run(self) except -1:
        cdef object callback = self.waker
        cdef object context = self.waker_context
        cdef object error
        self.waker = None
        self.waker_context = None
        if callback is not None:
            error = call_in_context(context, callback, (self,))
            if error is not None:
                self.loop.report("Exception in callback of what was waited for", error, self, None,
                                 None)
        return 0

    cdef int wake_later(self, Stepper task) except -1:
        self.expect(task)
        if self.is_over:
            self.loop.push(task)
        return 0

    cdef object woken(self, Stepper task):
        if self.waker is task:
            self.waker = None
        return self.cancelled_error() if self.is_cancelled else None

    cdef int expect(self, object waker) except -1:
        if self.loop is None:
            raise RuntimeError("an outcome comes with a connection or a body")
        if self.waker is not None:
            raise RuntimeError("it is waited for by somebody else already")
        self.waker = waker
        return 0

    cdef object cancelled_error(self):
        return CancelledError() if self.message is None else CancelledError(self.message)

    cdef int spent(self) except -1:
        return 0                    # it serves on: the next thing may have begun by now

    def add_done_callback(self, callback, *, context=None):
        """Call *callback* with this when it is over; there is one at a time."""
        self.expect(callback)
        self.waker_context = copy_context() if context is None else context
        if self.is_over:
            self.loop.push(self)

    def get_loop(self):
        """Return the loop on which it ends."""
        return self.loop

    def remove_done_callback(self, callback):
        """Do not call *callback*.  Return how many there were."""
        if self.waker != callback:
            return 0
        self.waker = None
        return 1

    def cancel(self, msg=None):
        """Wake who waits with a ``CancelledError``, upon which it gives up what it waits for."""
        if self.is_over:
            return False
        self.is_cancelled = True
        self.message = msg
        self.end()
        return True

    def cancelled(self):
        """Whether ``cancel`` came before the end."""
        return self.is_cancelled

    def done(self):
        """Whether it is over."""
        return self.is_over

    def result(self):
        """Raise ``CancelledError`` if this was cancelled; what it ended with is not told here."""
        if self.is_cancelled:
            raise self.cancelled_error()
        if not self.is_over:
            raise InvalidStateError("it is not over")

    def exception(self):
        """Like ``result``: what went wrong is not told here."""
        return self.result()


cdef Outcome new_outcome(Reactor loop):
    cdef Outcome outcome = Outcome.__new__(Outcome)
    outcome.loop = loop
    return outcome

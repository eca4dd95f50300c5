"""Tasks of the reactor's own, and the loop that makes them; the C face."""

from libc.stdint cimport int64_t

from reactor.core cimport Reactor
from reactor.futures cimport Future, Waitable


cdef class Task(Future):
    """``asyncio.Task``'s surface.  It goes on when its loop takes it out of the ready queue."""

    cdef readonly object _coro
    cdef object context
    cdef object name                    # a str, or None: it is made of the number when asked for
    cdef int64_t number
    cdef object waits_for               # a Future, a Waitable or another library's; or None
    cdef object thrown                  # what it is to meet for what it awaited, or None
    cdef readonly bint _must_cancel     # when it goes on
    cdef int64_t cancels                # requests that were not taken back
    cdef public bint _log_destroy_pending

    cdef int start(self, object coroutine, object name, object context) except -1
    cdef int go_on_later(self) except -1
    cdef int go_on(self) except -1
    cdef object met(self)
    cdef int ended(self, object value) except -1
    cdef int raised(self) except -1
    cdef int wait_for(self, object awaited) except -1
    cdef int wait_for_future(self, Future awaited) except -1
    cdef int wait_for_waitable(self, Waitable awaited) except -1
    cdef int wait_for_other(self, object awaited) except -1
    cdef int waiting(self, object awaited) except -1
    cdef int refuse(self, str reason) except -1


cdef class TaskReactor(Reactor):
    """A reactor with futures and tasks."""

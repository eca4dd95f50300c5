"""What a task waits for, and how it waits without a frame of its own; the C face."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from reactor.core cimport Reactor
from reactor.futures cimport PYGEN_ERROR, PYGEN_NEXT, PySendResult, Waitable


cdef class Outcome(Waitable):
    """How something ended, and then the next thing."""

    cdef bint is_over
    cdef bint is_cancelled
    cdef object waker_context           # of who waits, where that is a call-back
    cdef object message                 # of who cancelled, or None

    cdef int expect(self, object waker) except -1
    cdef object cancelled_error(self)
    cdef int begin(self) except -1
    cdef int end(self) except -1


cdef Outcome new_outcome(Reactor loop)


cdef inline PySendResult wait_for(Outcome outcome, PyObject **result) except PYGEN_ERROR:
    """Yield the outcome, which a task waits for."""
    outcome._asyncio_future_blocking = True
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return PYGEN_NEXT

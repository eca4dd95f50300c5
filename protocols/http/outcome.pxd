"""What a task waits for, and how it waits without a frame of its own; the C face."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from reactor.core cimport Handle, Reactor

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    ctypedef PySendResult (*sendfunc)(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR
    ctypedef struct PyAsyncMethods:
        sendfunc am_send                # by which the interpreter awaits; no exception tells
                                        # the result
    ctypedef struct AwaitableType "PyTypeObject":
        PyAsyncMethods *tp_as_async
    PySendResult PyIter_Send(object iterator, object argument,
                             PyObject **result) except PYGEN_ERROR


cdef class Outcome(Handle):
    """How something ended, and then the next thing."""

    cdef Reactor loop                   # in place of the handle's, which the collector cannot see
    cdef bint is_over
    cdef bint is_cancelled
    cdef public bint _asyncio_future_blocking   # asyncio's mark of what a task may wait for
    cdef object waker                   # the call-back of who waits, or None,
    cdef object waker_context           # and its context
    cdef object message                 # of who cancelled, or None
    cdef object adder, getter           # add_done_callback and get_loop, bound, until parted

    cdef int begin(self) except -1
    cdef int end(self) except -1
    # Nobody will wait any more: let go of what refers to this.
    cdef int part(self) except -1


cdef Outcome new_outcome(Reactor loop)

# Of what is awaited without a frame: its send(), by its am_send; what its throw() raises, or
# TypeError for what is none.
cdef object send_to(object awaited, object value)
cdef object thrown(object kind, object value, object traceback)
# The result of a coroutine that never yields; RuntimeError for one that does.
cdef object at_once(object coroutine)


cdef inline PySendResult wait_for(Outcome outcome, PyObject **result) except PYGEN_ERROR:
    """Yield the outcome, which a task waits for."""
    outcome._asyncio_future_blocking = True
    Py_INCREF(outcome)
    result[0] = <PyObject *>outcome
    return PYGEN_NEXT

"""Futures of the reactor's own, and what else a task of its own waits for; the C face."""

from cpython.object cimport PyObject

from reactor.core cimport Handle, Reactor, Stepper

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


cdef enum FutureState:
    FUTURE_PENDING
    FUTURE_CANCELLED
    FUTURE_FINISHED


cdef class Waitable(Handle):
    """What one task at a time waits for, over and over, and no future is made for it."""

    cdef public bint _asyncio_future_blocking   # asyncio's mark of what a task may wait for
    cdef Reactor loop                   # on which it ends, in place of the handle's, which the
                                        # collector cannot see; None if it was made by itself
    cdef object waker                   # who waits: a task of ours, or a call-back; or None

    # Wake *task*, a task of the same loop, in the pass after the end.
    cdef int wake_later(self, Stepper task) except -1
    # *task* goes on: the exception that it is to meet, or None.
    cdef object woken(self, Stepper task)


cdef class Future(Stepper):
    """``asyncio.Future``'s surface; cancelled, done, and its call-backs in the order they came."""

    cdef readonly object _loop
    cdef Reactor reactor                # the same, or None: it is not one of ours
    cdef FutureState state
    cdef public bint _asyncio_future_blocking
    cdef bint is_unheard                # it failed, and nobody has asked yet
    cdef object value                   # the result
    cdef object error                   # the exception,
    cdef object traceback               # and where it came from
    cdef object message                 # of who cancelled
    cdef object cancellation            # the CancelledError by which a task ended
    # Who is told: the first one, and a list of the others, or None. A task that waits is told
    # without a call, and has no context here.
    cdef object waker
    cdef object waker_context
    cdef list more
    cdef dict __dict__
    cdef object __weakref__

    cdef int check_bound(self) except -1
    cdef int check_pending(self) except -1
    cdef int check_over(self, str otherwise) except -1
    cdef int tell_unheard(self) except -1
    cdef int tell(self, dict context) except -1
    cdef int wake_later(self, object waker, object context) except -1
    cdef int wake(self, object waker, object context) except -1
    cdef int finish(self, FutureState state) except -1
    cdef int fail(self, object error) except -1
    cdef bint give_up(self, object message) except -1
    # What whoever asks for the result is to raise, or None; it is heard then.
    cdef object failure(self)
    cdef object cancelled_error(self)
    cdef list listeners(self)


# Of what is awaited without a frame: its send(), by its am_send; what its throw() raises, or
# TypeError for what is none.
cdef object send_to(object awaited, object value)
cdef object thrown(object kind, object value, object traceback)
# The result of a coroutine that never yields; RuntimeError for one that does.
cdef object at_once(object coroutine)
# A future of a loop that is no EventLoop in debug mode.
cdef Future new_future(Reactor loop)

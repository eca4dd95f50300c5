"""Futures: what ``loop.create_future`` returns.

Owns: a result to come, and who is told of it.  May not touch: tasks but as what is to go on, nor
their coroutines.
Invariant: each call-back is queued once, in the order in which they were added, by what ends the
future and never within it.

It does what ``asyncio.Future`` does, and says that it is one where ``isinstance`` asks; but a task
of ``reactor.tasks`` that waits for it goes into the ready queue itself, where asyncio's own makes
a call-back, a handle and a tuple for each time.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

from reactor.core cimport Handle, Reactor, Stepper

import asyncio
import sys
from asyncio import CancelledError, InvalidStateError, base_futures, events
from types import GenericAlias
from warnings import warn

cdef extern from "Python.h":
    int is_exception_class "PyExceptionClass_Check"(object value)
    int set_traceback "PyException_SetTraceback"(object error, object traceback) except -1
    object PyContext_CopyCurrent()
    enum: METH_VARARGS
    ctypedef PyObject *(*Method "PyCFunction")(PyObject *, PyObject *) noexcept
    ctypedef struct MethodDef "PyMethodDef":
        const char *ml_name
        Method ml_meth
        int ml_flags
        const char *ml_doc
    ctypedef struct TypeObject "PyTypeObject":
        PyObject *tp_dict
    object new_method "PyDescr_NewMethod"(TypeObject *kind, MethodDef *method)
    void PyType_Modified(TypeObject *kind)
    void write_unraisable "PyErr_WriteUnraisable"(object where) noexcept
    void set_raised "PyErr_SetObject"(object kind, object error) noexcept
    PyObject *traceback_of "PyException_GetTraceback"(object error)

# What changed in Python 3.12: what set_exception makes of a StopIteration, and what throw() says to
# three arguments.
cdef bint WRAPS_STOP = sys.version_info >= (3, 12)
cdef bint WARNS_OF_THREE = WRAPS_STOP


@cython.auto_pickle(False)
cdef class Waitable(Handle):
    cdef int wake_later(self, Stepper task) except -1:
        raise NotImplementedError

    cdef object woken(self, Stepper task):
        raise NotImplementedError


@cython.auto_pickle(False)
cdef class Future(Stepper):
    """A result to come; see ``asyncio.Future``.

    Args:
        loop: whose call-backs it queues; the current one without.
    """

    def __init__(self, *, loop=None):
        self._loop = events.get_event_loop() if loop is None else loop
        if isinstance(self._loop, Reactor):
            self.reactor = <Reactor>self._loop

    def __del__(self):
        self.tell_unheard()

    cdef int tell_unheard(self) except -1:
        if self.is_unheard:
            self.is_unheard = False
            self.tell({
                "message": f"{self.__class__.__name__} exception was never retrieved",
                "exception": self.error,
                "future": self,
            })
        return 0

    cdef int tell(self, dict context) except -1:
        """Call the loop's exception handler, out of a finalizer: nobody hears what that raises."""
        try:
            self._loop.call_exception_handler(context)
        except BaseException as error:
            set_raised(type(error), error)
            write_unraisable(self)          # Cython's own leaves the process for a SystemExit
        return 0

    cdef int check_bound(self) except -1:
        if self._loop is None:
            raise RuntimeError(f"{type(self).__name__} object is not initialized.")
        return 0

    # -- how it ends -----------------------------------------------------------------

    def set_result(self, result):
        """End it with *result*.  Raises ``InvalidStateError`` when it is over."""
        self.check_pending()
        self.value = result
        self.finish(FUTURE_FINISHED)

    def set_exception(self, exception):
        """End it with an exception, or one of a class.

        Raises ``InvalidStateError`` when it is over, and TypeError for what is no exception.
        """
        self.check_pending()
        if is_exception_class(exception):
            exception = exception()
        if not isinstance(exception, BaseException):
            raise TypeError(f"invalid exception object: {exception!r}")
        if isinstance(exception, StopIteration):
            said = ("StopIteration interacts badly with generators and cannot be raised into a "
                    "Future")
            if not WRAPS_STOP:
                raise TypeError(said)
            outer = RuntimeError(said)
            outer.__cause__ = outer.__context__ = exception
            exception = outer
        self.fail(exception)

    def cancel(self, msg=None):
        """End it with a ``CancelledError``.  Return False when it is over already."""
        self.check_bound()
        self.is_unheard = False
        return self.give_up(msg)

    cdef int check_pending(self) except -1:
        self.check_bound()
        if self.state != FUTURE_PENDING:
            raise InvalidStateError(f"{self._state}: {self!r}")
        return 0

    cdef int fail(self, object error) except -1:
        cdef PyObject *traceback = traceback_of(error)
        self.error = error
        self.traceback = None if traceback == NULL else <object>traceback
        Py_XDECREF(traceback)
        self.is_unheard = True
        return self.finish(FUTURE_FINISHED)

    cdef bint give_up(self, object message) except -1:
        if self.state != FUTURE_PENDING:
            return False
        self.message = message
        self.finish(FUTURE_CANCELLED)
        return True

    cdef int finish(self, FutureState state) except -1:
        cdef object waker = self.waker
        cdef object context = self.waker_context
        cdef list more = self.more
        self.state = state
        if waker is None and context is None:
            return 0
        self.waker = self.waker_context = self.more = None
        self.wake(waker, context)
        if more is not None:
            for waker, context in more:
                self.wake(waker, context)
        return 0

    # -- who is told -----------------------------------------------------------------

    def add_done_callback(self, fn, /, *, context=None):
        """Call *fn* with this in the pass after the end, in *context* or a copy of the current."""
        self.check_bound()
        self.wake_later(fn, PyContext_CopyCurrent() if context is None else context)

    def remove_done_callback(self, fn, /):
        """Do not call *fn*.  Return how often it had been added."""
        cdef list kept = []
        cdef list found
        cdef Py_ssize_t count = 0
        self.check_bound()
        found = self.listeners()
        for waker, context in found:
            # a comparison may be the caller's code: it sees the future as it was, and may change it
            if context is not None and waker == fn:
                count += 1
            else:
                kept.append((waker, context))
        if count and self.state == FUTURE_PENDING:
            kept += self.listeners()[len(found):]
            self.waker = self.waker_context = self.more = None
            for waker, context in kept:
                self.wake_later(waker, context)
        return count

    cdef int wake_later(self, object waker, object context) except -1:
        if self.state != FUTURE_PENDING:
            return self.wake(waker, context)
        if self.waker is None and self.waker_context is None:
            self.waker = waker
            self.waker_context = context
        else:
            if self.more is None:
                self.more = []
            self.more.append((waker, context))
        return 0

    cdef int wake(self, object waker, object context) except -1:
        if context is None:
            self.reactor.push_checked(waker)
        elif self.reactor is None or self.reactor._debug:
            self._loop.call_soon(waker, self, context=context)
        else:
            self.reactor.enqueue(waker, (self,), context)
        return 0

    cdef list listeners(self):
        cdef list found = []
        if self.waker is not None or self.waker_context is not None:
            found.append((self.waker, self.waker_context))
            if self.more is not None:
                found += self.more
        return found

    # -- what became of it -----------------------------------------------------------

    def done(self):
        """Return whether it is over."""
        return self.state != FUTURE_PENDING

    def cancelled(self):
        """Return whether it was cancelled."""
        return self.state == FUTURE_CANCELLED

    def result(self):
        """Return the result, or raise what it ended with; ``InvalidStateError`` before the end."""
        self.check_over("Result is not set.")
        error = self.failure()
        if error is not None:
            try:
                raise error
            finally:
                error = None            # or the traceback's frame has it
        return self.value

    def exception(self):
        """Return the exception, or None.

        Raises ``CancelledError`` when it was cancelled, and ``InvalidStateError`` before the end.
        """
        self.check_over("Exception is not set.")
        self.is_unheard = False
        if self.state == FUTURE_CANCELLED:
            raise self.cancelled_error()
        return self.error

    cdef int check_over(self, str otherwise) except -1:
        if self.state == FUTURE_PENDING:
            raise InvalidStateError(otherwise)
        return 0

    cdef object failure(self):
        self.is_unheard = False
        if self.state == FUTURE_CANCELLED:
            return self.cancelled_error()
        if self.error is not None:
            if self.traceback is not None:
                set_traceback(self.error, self.traceback)
            else:
                self.error.__traceback__ = None
        return self.error

    cdef object cancelled_error(self):
        cdef object error = self.cancellation
        if error is not None:
            self.cancellation = None
            return error
        return CancelledError() if self.message is None else CancelledError(self.message)

    def _make_cancelled_error(self):
        """Return the ``CancelledError`` to raise; the one by which a task ended only once."""
        return self.cancelled_error()

    def get_loop(self):
        """Return the loop on which it ends."""
        self.check_bound()
        return self._loop

    # -- awaiting --------------------------------------------------------------------

    def __await__(self):
        cdef FutureIterator iterator = FutureIterator.__new__(FutureIterator)
        self.check_bound()
        iterator.future = self
        return iterator

    def __iter__(self):
        return self.__await__()

    # -- what asyncio and its debuggers look at --------------------------------------

    @property
    def __class__(self):
        """``asyncio.Future``, so that ``isinstance`` finds what others look for."""
        return asyncio.Future if type(self) is Future else type(self)

    @classmethod
    def __class_getitem__(cls, item):
        """Return the type with its argument, as ``asyncio.Future[int]``."""
        return GenericAlias(cls, item)

    def __repr__(self):
        return base_futures._future_repr(self)

    @property
    def _state(self):
        if self.state == FUTURE_PENDING:
            return "PENDING"
        return "CANCELLED" if self.state == FUTURE_CANCELLED else "FINISHED"

    @property
    def _result(self):
        return self.value

    @property
    def _exception(self):
        return self.error

    @property
    def _callbacks(self):
        found = [(waker._wakeup, waker.get_context()) if context is None else (waker, context)
                 for waker, context in self.listeners()]
        return found or None

    @property
    def _asyncio_awaited_by(self):
        """The tasks of ours that wait for it, or None; see ``asyncio.capture_call_graph``."""
        return frozenset([waker for waker, context in self.listeners() if context is None]) or None

    @property
    def _log_traceback(self):
        return self.is_unheard

    @_log_traceback.setter
    def _log_traceback(self, value):
        if value:
            raise ValueError("_log_traceback can only be set to False")
        self.is_unheard = False

    @property
    def _cancel_message(self):
        return self.message

    @_cancel_message.setter
    def _cancel_message(self, value):
        self.message = value

    @property
    def _source_traceback(self):
        """None: in debug mode futures are asyncio's own."""
        return None


@cython.auto_pickle(False)
@cython.final
@cython.freelist(256)
cdef class FutureIterator:
    """One wait for a future."""

    cdef Future future                  # None when it is over

    def __iter__(self):
        return self

    def __next__(self):
        return send_to(self, None)

    def send(self, value):
        """Go on, as ``generator.send`` does; *value* is not looked at."""
        return send_to(self, None)

    def close(self):
        """End the wait."""
        self.future = None


cdef PySendResult advance(PyObject *self, PyObject *argument,
                          PyObject **result) except PYGEN_ERROR:
    """Go on: am_send, by which the interpreter awaits without an exception for the result."""
    cdef FutureIterator iterator = <FutureIterator>self
    cdef Future future = iterator.future
    cdef object value
    if future is None:
        Py_INCREF(None)
        result[0] = <PyObject *>None
        return PYGEN_RETURN
    if future.state == FUTURE_PENDING:
        if future._asyncio_future_blocking:
            raise RuntimeError("await wasn't used with future")
        future._asyncio_future_blocking = True
        Py_INCREF(future)
        result[0] = <PyObject *>future
        return PYGEN_NEXT
    iterator.future = None
    value = future.failure()
    if value is not None:
        set_raised(type(value), value)
        return PYGEN_ERROR
    value = future.value
    Py_INCREF(value)
    result[0] = <PyObject *>value
    return PYGEN_RETURN


cdef PyObject *throw(PyObject *self, PyObject *args) noexcept:
    """throw() of a wait.  Written out, so that no line of this file is in the traceback of what a
    future failed with, each time that somebody awaits it."""
    cdef object error
    try:
        error = give_up(<FutureIterator>self, <tuple>args)
    except BaseException as wrong:
        error = wrong
    set_raised(type(error), error)
    return NULL


cdef object give_up(FutureIterator iterator, tuple args):
    """End a wait, and return what its ``throw`` with these arguments raises."""
    cdef object value = None
    cdef object traceback = None
    if not 1 <= len(args) <= 3:
        raise TypeError(f"throw expected 1 to 3 arguments, got {len(args)}")
    kind = args[0]
    if len(args) > 1:
        value = args[1]
    if len(args) > 2:
        traceback = args[2]
    iterator.future = None
    if WARNS_OF_THREE and not (value is None and traceback is None):
        warn("the (type, exc, tb) signature of throw() is deprecated, use the single-arg "
             "signature instead.", DeprecationWarning, stacklevel=2)
    return thrown(kind, value, traceback)


cdef MethodDef throwing
throwing.ml_name = "throw"
throwing.ml_meth = throw
throwing.ml_flags = METH_VARARGS
throwing.ml_doc = "End the wait, and raise, as ``generator.throw`` does."
(<dict>(<TypeObject *>FutureIterator).tp_dict)["throw"] = new_method(
    <TypeObject *>FutureIterator, &throwing)
PyType_Modified(<TypeObject *>FutureIterator)

cdef PyAsyncMethods iterating
iterating.am_send = advance
(<AwaitableType *>FutureIterator).tp_as_async = &iterating


cdef Future new_future(Reactor loop):
    cdef Future future = Future.__new__(Future)
    future._loop = future.reactor = loop
    return future


# -- what is awaited like a coroutine, and is one for asyncio, but has no frame -----------------

cdef object sent(object awaited, object value, PySendResult *kind):
    """Send *value*; return what comes back, and how it did."""
    cdef PyObject *result = NULL
    cdef object owned
    kind[0] = PyIter_Send(awaited, value, &result)
    owned = <object>result
    Py_XDECREF(result)
    return owned


cdef object send_to(object awaited, object value):
    cdef PySendResult kind = PYGEN_ERROR
    cdef object got = sent(awaited, value, &kind)
    if kind == PYGEN_NEXT:
        return got
    raise StopIteration(got)


cdef object at_once(object coroutine):
    cdef PySendResult kind = PYGEN_ERROR
    cdef object got = sent(coroutine, None, &kind)
    if kind == PYGEN_NEXT:
        coroutine.close()
        raise RuntimeError("the coroutine waits for something")
    return got


cdef object thrown(object kind, object value, object traceback):
    cdef object error
    if isinstance(kind, BaseException):
        if value is not None:
            raise TypeError("instance exception may not have a separate value")
        error = kind
    elif not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError("exceptions must be classes or instances deriving from BaseException, "
                        f"not {type(kind).__name__}")
    elif isinstance(value, kind):
        error = value
    elif value is None:
        error = kind()
    else:
        error = kind(*value) if isinstance(value, tuple) else kind(value)
    if traceback is not None:
        error = error.with_traceback(traceback)
    if isinstance(error, StopIteration):        # it would be taken for the result (PEP 479)
        outer = RuntimeError("coroutine raised StopIteration")
        outer.__cause__ = error
        return outer
    return error

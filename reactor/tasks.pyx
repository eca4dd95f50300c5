"""Tasks: what drives coroutines, and the loop's ``create_task`` and ``create_future``.

Owns: when a coroutine goes on, and with what.  May not touch: the ready queue but by the loop's
own methods.
Invariant: a task that is not done is in one place: in the ready queue, with whom it waits for, or
on its way through ``go_on``.

It does what ``asyncio.Task`` does, and says that it is one where ``isinstance`` asks.  That one
makes a call-back, a handle and a tuple for each step, and finds what it calls by name; this one is
in the ready queue itself, and what it waits for puts it there.  See decision 19.

In debug mode, with a task factory, and where ``asyncio.tasks.Task`` was replaced, tasks are
asyncio's own, or whoever's.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int64_t

from reactor.core cimport Reactor, why_not_entered
from reactor.futures cimport FUTURE_FINISHED, FUTURE_PENDING, Future, Waitable, new_future

import asyncio
import sys
from asyncio import CancelledError, InvalidStateError, base_tasks, coroutines, tasks
from inspect import isgenerator

cdef extern from "Python.h":
    ctypedef enum Sent "PySendResult":
        RETURNED "PYGEN_RETURN"
        FAILED "PYGEN_ERROR"
        YIELDED "PYGEN_NEXT"
    # NULL and FAILED with the exception set, which is no error of this module's: no line of its
    # goes into the traceback.
    Sent send "PyIter_Send"(PyObject *coroutine, PyObject *argument, PyObject **result) noexcept
    PyObject *call_method "PyObject_CallMethodOneArg"(PyObject *self, PyObject *name,
                                                      PyObject *argument) noexcept
    void fetch "PyErr_Fetch"(PyObject **kind, PyObject **value, PyObject **traceback) noexcept
    void normalize "PyErr_NormalizeException"(PyObject **kind, PyObject **value,
                                              PyObject **traceback) noexcept
    int set_traceback "PyException_SetTraceback"(PyObject *error, PyObject *traceback) except -1
    bint is_coroutine "PyCoro_CheckExact"(object value) noexcept
    object PyContext_CopyCurrent()
    int enter_context "PyContext_Enter"(PyObject *context)      # -1 with the exception set
    int PyContext_Exit(object context) except -1

cdef object StockTask = tasks.Task
cdef object StockFuture = asyncio.Future
cdef object register_task = tasks._register_task
cdef object enter_task = tasks._enter_task
cdef object leave_task = tasks._leave_task
cdef object THROW = "throw"
cdef frozenset OPTIONS = frozenset(["name", "context"])
cdef bint FORGETS = sys.version_info >= (3, 13)     # uncancel() the last request, not yet heard of

cdef int64_t last_number = 0


cdef inline bint is_own(object awaited) noexcept:
    """Whether it is a future or a task of ours, and of no class that derives from them."""
    return type(awaited) is Future or type(awaited) is Task


cdef object fetch_raised():
    """Return the exception that a C call left behind, and its traceback with it."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    cdef object error
    fetch(&kind, &value, &traceback)
    normalize(&kind, &value, &traceback)
    if traceback != NULL:
        set_traceback(value, traceback)
    error = <object>value
    Py_XDECREF(kind)
    Py_XDECREF(value)
    Py_XDECREF(traceback)
    return error


@cython.auto_pickle(False)
cdef class Task(Future):
    """A coroutine on its way; see ``asyncio.Task``.

    Args:
        coro: the coroutine.
        loop: on which it runs; the current one without.
        name: what it is called; ``Task-N`` without.
        context: in which it runs; a copy of the current one without.
    """

    def __init__(self, coro, *, loop=None, name=None, context=None):
        Future.__init__(self, loop=loop)
        self.start(coro, name, context)

    def __del__(self):
        if self.state == FUTURE_PENDING and self._log_destroy_pending and self._loop is not None:
            self.tell({"task": self, "message": "Task was destroyed but it is pending!"})
        self.tell_unheard()

    cdef int start(self, object coroutine, object name, object context) except -1:
        global last_number
        if not is_coroutine(coroutine) and not coroutines.iscoroutine(coroutine):
            raise TypeError(f"a coroutine was expected, got {coroutine!r}")
        last_number += 1
        self.number = last_number
        if name is not None:
            self.name = str(name)
        self.context = PyContext_CopyCurrent() if context is None else context
        self._coro = coroutine
        self._log_destroy_pending = True
        self.go_on_later()
        register_task(self)
        return 0

    # -- one step --------------------------------------------------------------------

    cdef bint step(self) except -1:
        if enter_context(<PyObject *>self.context) < 0:
            raise why_not_entered()
        try:
            self.reactor.enter(self)
            self.go_on()
        finally:
            PyContext_Exit(self.context)
        return self.state != FUTURE_PENDING

    def _step(self):
        """Go on: what a loop that is not ours calls, in the task's context."""
        enter_task(self._loop, self)        # which raises when another one runs
        try:
            self.go_on()
        finally:
            leave_task(self._loop, self)

    def _wakeup(self, awaited):
        """Go on: what another library's future calls."""
        self._step()

    cdef int go_on_later(self) except -1:
        if self.reactor is None:
            self._loop.call_soon(self._step, context=self.context)
            return 0
        return self.reactor.push_checked(self)

    cdef int go_on(self) except -1:
        """Let the coroutine go on, in the context of the task, which is the current one."""
        cdef PyObject *result = NULL
        cdef Sent sent
        cdef object value
        cdef object error = None
        if self.waits_for is not None or self.thrown is not None:
            error = self.met()
        if self.state != FUTURE_PENDING:
            raise InvalidStateError(f"_step(): already done: {self!r}, {error!r}")
        if self._must_cancel:
            if not isinstance(error, CancelledError):
                error = self.cancelled_error()
            self._must_cancel = False
        if error is None:
            sent = send(<PyObject *>self._coro, <PyObject *>None, &result)
        else:
            result = call_method(<PyObject *>self._coro, <PyObject *>THROW, <PyObject *>error)
            sent = FAILED if result == NULL else YIELDED
            error = None
        if sent == FAILED:
            self.raised()
        else:
            value = <object>result
            Py_XDECREF(result)
            if sent == YIELDED:
                self.wait_for(value)
            else:
                self.ended(value)
        return 0

    cdef object met(self):
        """What the coroutine meets for what it waited for: an exception, or None."""
        cdef object awaited = self.waits_for
        cdef object error = self.thrown
        if awaited is None:
            self.thrown = None
            return error
        self.waits_for = None
        if isinstance(awaited, Waitable):
            return (<Waitable>awaited).woken(self)
        if is_own(awaited):
            return (<Future>awaited).failure()
        try:
            awaited.result()
        except BaseException as failure:
            return failure
        return None

    cdef int ended(self, object value) except -1:
        if self._must_cancel:               # right before it came to its end
            self._must_cancel = False
            self.give_up(self.message)
        else:
            self.value = value
            self.finish(FUTURE_FINISHED)
        return 0

    cdef int raised(self) except -1:
        cdef object error = fetch_raised()
        if isinstance(error, StopIteration):
            return self.ended(error.value)
        if isinstance(error, CancelledError):
            self.cancellation = error       # so that who awaits the task sees where it came from
            self.give_up(None)
            return 0
        self.fail(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        return 0

    # -- what it waits for -----------------------------------------------------------

    cdef int wait_for(self, object awaited) except -1:
        if awaited is None:
            return self.go_on_later()       # a bare yield: one pass
        if isinstance(awaited, Waitable):
            return self.wait_for_waitable(<Waitable>awaited)
        if is_own(awaited):
            return self.wait_for_future(<Future>awaited)
        return self.wait_for_other(awaited)

    cdef int wait_for_future(self, Future awaited) except -1:
        if awaited._loop is not self._loop:
            return self.refuse(f"Task {self!r} got Future {awaited!r} attached to a different loop")
        if not awaited._asyncio_future_blocking:
            return self.refuse(f"yield was used instead of yield from in task {self!r} with "
                               f"{awaited!r}")
        if awaited is self:
            return self.refuse(f"Task cannot await on itself: {self!r}")
        awaited._asyncio_future_blocking = False
        if self.reactor is None:
            awaited.wake_later(self._wakeup, self.context)
        else:
            awaited.wake_later(self, None)
        return self.waiting(awaited)

    cdef int wait_for_waitable(self, Waitable awaited) except -1:
        if (awaited.loop is not self.reactor or not awaited._asyncio_future_blocking
                or awaited.waker is not None):
            return self.wait_for_other(awaited)
        awaited._asyncio_future_blocking = False
        awaited.wake_later(self)
        return self.waiting(awaited)

    cdef int wait_for_other(self, object awaited) except -1:
        cdef object blocking
        try:
            blocking = getattr(awaited, "_asyncio_future_blocking", None)
            if blocking is None:
                if isgenerator(awaited):
                    return self.refuse("yield was used instead of yield from for generator in "
                                       f"task {self!r} with {awaited!r}")
                return self.refuse(f"Task got bad yield: {awaited!r}")
            loop = awaited.get_loop() if hasattr(awaited, "get_loop") else awaited._loop
            if loop is not self._loop:
                return self.refuse(
                    f"Task {self!r} got Future {awaited!r} attached to a different loop")
            if not blocking:
                return self.refuse(f"yield was used instead of yield from in task {self!r} with "
                                   f"{awaited!r}")
            if awaited is self:             # of a class that derives from this one
                return self.refuse(f"Task cannot await on itself: {self!r}")
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._wakeup, context=self.context)
        except Exception as error:
            self.thrown = error
            return self.go_on_later()
        return self.waiting(awaited)

    cdef int waiting(self, object awaited) except -1:
        self.waits_for = awaited
        if self._must_cancel and awaited.cancel(msg=self.message):
            self._must_cancel = False
        return 0

    cdef int refuse(self, str reason) except -1:
        self.thrown = RuntimeError(reason)
        return self.go_on_later()

    # -- cancelling ------------------------------------------------------------------

    def cancel(self, msg=None):
        """Let the coroutine meet a ``CancelledError``; see ``asyncio.Task.cancel``.

        Returns False when it is done.
        """
        self.check_bound()
        self.is_unheard = False
        if self.state != FUTURE_PENDING:
            return False
        self.cancels += 1
        if self.waits_for is not None and self.waits_for.cancel(msg=msg):
            return True         # it may be a task that goes on all the same: it stays
        self._must_cancel = True
        self.message = msg
        return True

    def cancelling(self):
        """Return how many requests to cancel it there are that were not taken back."""
        return self.cancels

    def uncancel(self):
        """Take a request to cancel it back; return how many are left."""
        if self.cancels > 0:
            self.cancels -= 1
            if self.cancels == 0 and FORGETS:
                self._must_cancel = False
        return self.cancels

    # -- what asyncio.Task tells and refuses -----------------------------------------

    def set_result(self, result):
        """Raise: it ends with what its coroutine returns."""
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, exception):
        """Raise: it ends with what its coroutine raises."""
        raise RuntimeError("Task does not support set_exception operation")

    def get_coro(self):
        """Return the coroutine."""
        return self._coro

    def get_context(self):
        """Return the ``contextvars.Context`` in which it runs."""
        return self.context

    def get_name(self):
        """Return what it is called."""
        if self.name is None:
            self.name = f"Task-{self.number}"
        return self.name

    def set_name(self, value, /):
        """Call it *value*, which is made a str."""
        self.name = str(value)

    def get_stack(self, *, limit=None):
        """Return the frames in which it waits, or where it failed; see ``asyncio.Task``."""
        return base_tasks._task_get_stack(self, limit)

    def print_stack(self, *, limit=None, file=None):
        """Print them; see ``asyncio.Task``."""
        return base_tasks._task_print_stack(self, limit, file)

    @property
    def __class__(self):
        """``asyncio.Task``, so that ``isinstance`` finds what others look for."""
        return StockTask if type(self) is Task else type(self)

    def __repr__(self):
        return base_tasks._task_repr(self)

    @property
    def _fut_waiter(self):
        return self.waits_for


cdef class TaskReactor(Reactor):
    """A reactor with futures and tasks."""

    def create_future(self):
        """Return a future of this loop, an ``asyncio.Future`` to all who ask."""
        if self._debug:
            return StockFuture(loop=self)
        return new_future(self)

    def create_task(self, coro, **options):
        """Return a task of this loop, an ``asyncio.Task`` to all who ask.

        See ``loop.create_task``.
        """
        cdef Task task
        if (self._debug or self._closed or self._task_factory is not None
                or tasks.Task is not StockTask or (options and not OPTIONS.issuperset(options))):
            return super().create_task(coro, **options)     # asyncio.BaseEventLoop's
        task = Task.__new__(Task)
        task._loop = task.reactor = self
        if options:
            task.start(coro, options.get("name"), options.get("context"))
        else:
            task.start(coro, None, None)
        return task

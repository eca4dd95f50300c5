"""The reactor: ready queue, timers and the passes of the loop.

One pass is four phases, always in this order::

    wait       the poller blocks, at most until the next timer
    dispatch   each done op goes to its owner, which calls protocols
    timers     what is due fires: deadlines at once, call_later into the ready queue
    ready      the call-backs that were queued when the phase began, in order

Owns: the order in which things happen on one thread.  May not touch: descriptors (the
poller's), asyncio's cold surface (``reactor.eventloop``).
Invariant: no call-back runs while the poller waits or while a batch is being collected.

The ready queue may be appended to by any thread that holds the GIL; everything else belongs
to the reactor's thread.  A thread that appends wakes the poller only when it may be asleep:
the reactor sets ``waiting`` and then looks at the queue, the thread appends and then looks at
``waiting``, so that one of them sees what the other did wherever the GIL changes hands.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsUnsignedLong
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport ceil, isnan
from libc.stdint cimport INT64_MAX, int64_t, intptr_t
from libc.string cimport memcpy, memset

from reactor.pollers.contract cimport OP_IDLE, Op, OpOwner, Poller, let_go, op_pop
from reactor.timers cimport Timer, TimerHeap

import asyncio
import logging
import sys
import traceback
from asyncio import format_helpers, tasks
from sys import _getframe

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *value)
    PyObject *PyObject_CallNoArgs(PyObject *callback)
    PyObject *PyObject_CallOneArg(PyObject *callback, PyObject *argument)
    PyObject *PyObject_Call(PyObject *callback, PyObject *args, PyObject *kwargs)
    PyObject *PyTuple_GET_ITEM(PyObject *args, Py_ssize_t at)
    Py_ssize_t PyTuple_GET_SIZE(PyObject *args)
    void Py_XDECREF(PyObject *value)
    object PyContext_CopyCurrent()
    int enter_context "PyContext_Enter"(PyObject *context)      # -1 with the exception set
    int PyContext_Exit(object context) except -1

cdef enum:
    FIRST_RING = 256            # places; the ring doubles when it is full
    MAX_SPARE = 1024

# Handles that were run and that nobody else has: they hold nothing and serve again, which is
# half the price of a new one from the freelist.
cdef PyObject *spare[MAX_SPARE]
cdef Py_ssize_t spare_count = 0

# By which asyncio.current_task() knows up to Python 3.13; after it a function tells it.
cdef dict current_tasks = tasks._current_tasks if sys.version_info < (3, 14) else None
cdef object swap_current_task = getattr(tasks, "_swap_current_task", None)

cdef object logger = logging.getLogger("asyncio")
cdef double LATEST = <double>INT64_MAX / 1e9


cdef int raise_pending() except -1:
    """Raise the exception that a C call left behind."""
    return -1


cdef object why_not_entered():
    try:
        raise_pending()
    except (RuntimeError, TypeError) as error:      # somebody is in it already; it is none
        return error


cdef object call_in_context(object context, object callback, object args):
    cdef PyObject *result
    cdef Py_ssize_t count = 0 if args is None else PyTuple_GET_SIZE(<PyObject *>args)
    if enter_context(<PyObject *>context) < 0:
        return why_not_entered()
    if count == 0:
        result = PyObject_CallNoArgs(<PyObject *>callback)
    elif count == 1:
        result = PyObject_CallOneArg(<PyObject *>callback, PyTuple_GET_ITEM(<PyObject *>args, 0))
    else:
        result = PyObject_Call(<PyObject *>callback, <PyObject *>args, NULL)
    if result != NULL:
        Py_XDECREF(result)
        PyContext_Exit(context)
        return None
    try:
        raise_pending()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return error
    finally:
        PyContext_Exit(context)


@cython.freelist(1024)
@cython.no_gc
cdef class Handle:
    """A call-back that was scheduled with ``call_soon``; see ``asyncio.Handle``.

    Hidden from the cyclic collector, for which a thousand call-backs in the queue are a thousand
    objects to walk through.  That costs nothing since it holds nothing once it was run or
    cancelled; until then the loop holds it.  And it may serve again after that, so it takes no weak
    references.
    """

    cdef int run(self) except -1:
        cdef Reactor loop = self._loop
        cdef object callback = self._callback
        cdef object args = self._args
        cdef object error
        if loop is None:
            return 0                    # it was run or cancelled
        context = self._context
        if not loop._debug:
            self.spent()                # else who looks for slow ones shows what it was first
        error = call_in_context(context, callback, args)
        if error is not None:
            self._callback, self._args = callback, args
            loop.report(
                f"Exception in callback {describe_callback(callback, args)}",
                error, self, None, None,
            )
            if not loop._debug:
                self.spent()
        return 0

    cdef int spent(self) except -1:
        self._loop = None
        self._callback = None
        self._args = None
        self._context = None
        return 0

    def _run(self):
        """Call the call-back now, as ``asyncio.Handle`` lets a loop do."""
        self.run()

    def cancel(self):
        """Do not call the call-back.  A second cancel does nothing."""
        if self._cancelled:
            return
        if self._loop is not None and self._loop._debug:
            self.shown = repr(self)
        self._cancelled = True
        self.spent()

    def cancelled(self):
        """Return whether the handle was cancelled."""
        return self._cancelled

    def get_context(self):
        """Return the ``contextvars.Context`` in which the call-back runs; None once it did."""
        return self._context

    def _repr_info(self):
        info = [type(self).__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(describe_callback(self._callback, self._args))
        if self._source_traceback:
            frame = self._source_traceback[len(self._source_traceback) - 1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def __repr__(self):
        if self.shown is not None:
            return f"<cancelled {self.shown[1:]}"
        return f"<{' '.join(self._repr_info())}>"


@cython.profile(False)                  # a tracer may let go of the GIL
@cython.linetrace(False)
cdef inline Handle spare_handle():
    """Return a handle that holds nothing."""
    global spare_count
    cdef Handle handle
    if spare_count == 0:
        return Handle.__new__(Handle)
    spare_count -= 1
    handle = <Handle>spare[spare_count]
    Py_DECREF(handle)               # the place's reference
    return handle


@cython.profile(False)                  # a tracer may let go of the GIL
@cython.linetrace(False)
cdef inline int keep_spare(Handle handle) except -1:
    """Keep a handle that was run, unless somebody else has it (the caller has one reference)."""
    global spare_count
    if (spare_count < MAX_SPARE and Py_REFCNT(<PyObject *>handle) == 1 and type(handle) is Handle
            and not handle._cancelled and handle._callback is None
            and handle._source_traceback is None):
        Py_INCREF(handle)
        spare[spare_count] = <PyObject *>handle
        spare_count += 1
    return 0


cdef int fill_handle(Handle handle, Reactor loop, object callback, tuple args,
                     object context) except -1:
    handle._loop = loop
    handle._callback = callback
    handle._args = args
    handle._context = PyContext_CopyCurrent() if context is None else context
    if loop._debug:
        handle._source_traceback = extract_stack()
    return 0


cdef object format_entry(object entry):
    return repr(entry) if isinstance(entry, Stepper) else asyncio.base_events._format_handle(entry)


def describe_callback(callback, args):
    """Return how a call-back is shown in logs: its name, arguments and place."""
    return format_helpers._format_callback_source(callback, args or ())


cdef class TimerHandle(Handle):
    """A call-back that was scheduled with ``call_at``; see ``asyncio.TimerHandle``."""

    cdef int spent(self) except -1:
        """Let go of what it holds; the timer leaves the heap at once."""
        cdef bint is_armed = self.timer.position != 0
        if is_armed:
            self._loop.timers.disarm(&self.timer)
        Handle.spent(self)
        if is_armed:
            Py_DECREF(self)         # the heap's reference
        return 0

    def when(self):
        """Return the time on the loop's clock, in seconds, at which the call-back is due."""
        return self.due

    @property
    def _when(self):
        return self.due

    @property
    def _scheduled(self):
        return self.timer.position != 0

    # Earlier is less, as asyncio's handles have it; each is equal to itself only.

    def __lt__(self, TimerHandle other not None):
        return self.due < other.due

    def __le__(self, TimerHandle other not None):
        return self.due <= other.due

    def __gt__(self, TimerHandle other not None):
        return self.due > other.due

    def __ge__(self, TimerHandle other not None):
        return self.due >= other.due

    def __hash__(self):
        return <Py_hash_t>(<size_t><void *>self >> 4)

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f"when={self.due}")
        return info


@cython.auto_pickle(False)
cdef class Stepper:
    cdef bint step(self) except -1:
        raise NotImplementedError


cdef int fire_handle(void *owner) except -1:
    cdef TimerHandle handle = <TimerHandle>owner
    Py_DECREF(handle)               # the heap's reference
    handle._loop.push(handle)
    return 0


cdef class Reactor:
    """Runs call-backs, timers and I/O on one thread over *poller*."""

    def __cinit__(self, Poller poller=None, *args, **kwargs):
        if poller is None:
            raise TypeError("a Reactor needs a Poller")
        self.poller = poller
        self.pool = poller.pool
        self.timers = TimerHeap()
        self.ring = <PyObject **>PyMem_RawMalloc(FIRST_RING * sizeof(PyObject *))
        if self.ring == NULL:
            raise MemoryError
        self.ring_size = FIRST_RING

    def __dealloc__(self):
        while self.ready_count:
            self.pop()
        PyMem_RawFree(self.ring)

    # -- scheduling ------------------------------------------------------------------

    def time(self):
        """Return the time on the reactor's monotonic clock in seconds."""
        return <double>self.poller.now_ns() / 1e9

    def get_debug(self):
        """Return whether debug mode is on; CPython asks for each Future and Task of its own."""
        return self._debug

    def call_soon(self, callback, *args, context=None):
        """Call *callback* with *args* in the next pass; see ``loop.call_soon``.

        Raises ``RuntimeError`` when the loop is closed.
        """
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        return self.enqueue(callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """Like ``call_soon``, from any thread or from a signal handler."""
        cdef Handle handle
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = self.enqueue(callback, args, context)
        if self.waiting:
            self.poller.wake()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Call *callback* after *delay* seconds; see ``loop.call_later``."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.schedule(self.time() + delay, callback, args, context, "call_later")

    def call_at(self, when, callback, *args, context=None):
        """Call *callback* when ``loop.time()`` has reached *when*; see ``loop.call_at``."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule(when, callback, args, context, "call_at")

    cdef Handle enqueue(self, object callback, tuple args, object context):
        cdef Handle handle
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = spare_handle()
        fill_handle(handle, self, callback, args, context)
        self.push(handle)
        return handle

    cdef TimerHandle schedule(self, double when, object callback, tuple args, object context,
                              str method):
        cdef TimerHandle handle
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
            self._check_callback(callback, method)
        if isnan(when):
            raise ValueError("a timer cannot be due at NaN")
        handle = TimerHandle.__new__(TimerHandle)
        memset(&handle.timer, 0, sizeof(handle.timer))
        handle.timer.fire = fire_handle
        handle.timer.owner = <void *>handle
        handle.due = when
        fill_handle(handle, self, callback, args, context)
        self.timers.arm(&handle.timer, nanoseconds(when))
        Py_INCREF(handle)
        return handle

    @cython.profile(False)              # a tracer may let go of the GIL
    @cython.linetrace(False)
    cdef int push(self, object entry) except -1:
        if self.ready_count == self.ring_size:
            self.grow()
        Py_INCREF(entry)                # the ring's reference
        self.ring[(self.ring_head + self.ready_count) & (self.ring_size - 1)] = <PyObject *>entry
        self.ready_count += 1
        return 0

    cdef int push_checked(self, Stepper stepper) except -1:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_thread()
        return self.push(stepper)

    @cython.profile(False)              # a tracer may let go of the GIL
    @cython.linetrace(False)
    cdef int grow(self) except -1:
        """Double the ring, which is full; what wraps round moves behind the rest."""
        cdef Py_ssize_t size = self.ring_size
        cdef PyObject **wider = <PyObject **>PyMem_RawRealloc(
            self.ring, 2 * size * sizeof(PyObject *))
        if wider == NULL:
            raise MemoryError
        memcpy(wider + size, wider, self.ring_head * sizeof(PyObject *))
        self.ring = wider
        self.ring_size = 2 * size
        return 0

    # -- running ---------------------------------------------------------------------

    def _run(self):
        """Make passes until ``stop`` is called; the caller has set the loop up to run."""
        while True:
            self.run_pass()
            if self._stopping:
                break

    def _run_once(self):
        """Make one pass."""
        self.run_pass()

    def stop(self):
        """Leave ``run_forever`` at the end of the pass."""
        self._stopping = True

    def _wakeup_fd(self):
        """Return the poller's descriptor for ``signal.set_wakeup_fd``; None without one."""
        cdef intptr_t fd = self.poller.wakeup_fd()
        return fd if fd >= 0 else None

    cdef int run_pass(self) except -1:
        self.collect(-1)
        if self.ready_count:
            self.run_ready()
        return 0

    cdef int collect(self, int64_t longest_ns) except -1:
        cdef int64_t timeout_ns, next_ns
        # One that came while C code ran would not interrupt the wait; its handler may queue.
        PyErr_CheckSignals()
        self.waiting = True             # before the look at the queue; see the head
        if self.ready_count or self.done.first != NULL or self._stopping:
            self.waiting = False
            timeout_ns = 0
        else:
            next_ns = self.timers.next_ns()
            if next_ns == INT64_MAX:
                timeout_ns = -1
            else:
                timeout_ns = next_ns - self.poller.now_ns()
                if timeout_ns < 0:
                    timeout_ns = 0
            if longest_ns >= 0 and not 0 <= timeout_ns < longest_ns:
                timeout_ns = longest_ns
        self.poller.wait(timeout_ns, &self.done)
        self.waiting = False
        PyErr_CheckSignals()
        if self.done.first != NULL:
            self.dispatch()
        if self.timers.size:
            self.fire_timers()
        return 0

    cdef int dispatch(self) except -1:
        while self.done.first != NULL:
            try:
                self.dispatch_batch()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("Exception in the completion of an operation", error, None, None,
                            None)
        return 0

    cdef int dispatch_batch(self) except -1:
        cdef Op *op
        cdef OpOwner owner
        while True:
            op = op_pop(&self.done)
            if op == NULL:
                return 0
            if not self.poller.complete(op):
                continue
            owner = <OpOwner>op.owner
            op.state = OP_IDLE
            let_go(self.poller, op)
            owner.op_done(op)

    cdef int fire_timers(self) except -1:
        cdef int64_t now_ns = self.poller.now_ns()
        while self.timers.next_ns() <= now_ns:
            try:
                self.fire_batch(now_ns)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.report("Exception in a timer", error, None, None, None)
        return 0

    cdef int fire_batch(self, int64_t now_ns) except -1:
        cdef Timer *timer
        cdef object owner
        while True:
            timer = self.timers.pop_due(now_ns)
            if timer == NULL:
                return 0
            owner = <object>timer.owner         # alive through its own call
            timer.fire(<void *>owner)

    cdef int run_ready(self) except -1:
        self.due_count = self.ready_count
        try:
            while self.due_count:
                try:
                    self.run_batch()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    if not self.in_step:        # it is a signal handler's
                        raise
                    self.in_step = False
                    self.report("Exception in a step of a task", error, None, None, None)
        finally:
            self.due_count = 0
            self.in_step = False
            if self.current is not None:
                self.leave()
        return 0

    cdef int run_batch(self) except -1:
        cdef object entry
        cdef bint is_over
        while self.due_count and self.ready_count:
            self.due_count -= 1
            entry = self.pop()
            if type(entry) is not Handle and isinstance(entry, Stepper):
                self.in_step = True
                is_over = self.run_watched(entry) if self._debug else (<Stepper>entry).step()
                self.in_step = False
                if is_over:
                    # It may be freed here, and what it has: that is no part of a task, and no place
                    # for a signal's exception, which nobody would hear of there.
                    PyErr_CheckSignals()
                    if self.current is not None:
                        self.leave()
                    entry = None
                continue
            if (<Handle>entry)._cancelled:
                continue
            if self.current is not None:
                self.leave()
            if self._debug:
                self.run_watched(entry)
            else:
                (<Handle>entry).run()
                keep_spare(<Handle>entry)
        self.due_count = 0
        return 0

    @cython.profile(False)              # a tracer may let go of the GIL
    @cython.linetrace(False)
    cdef object pop(self):
        cdef object entry = <object>self.ring[self.ring_head]
        self.ring_head = (self.ring_head + 1) & (self.ring_size - 1)
        self.ready_count -= 1
        Py_DECREF(entry)                        # the ring's reference; ours keeps it alive
        return entry

    cdef int run_watched(self, object entry) except -1:
        """Run what was ready in debug mode, and say so when it takes too long."""
        cdef int64_t began = self.poller.now_ns()
        cdef double took
        cdef int is_over = 0
        if isinstance(entry, Stepper):
            is_over = (<Stepper>entry).step()
        else:
            self._current_handle = entry
            try:
                (<Handle>entry).run()
            finally:
                self._current_handle = None
        took = <double>(self.poller.now_ns() - began) / 1e9
        if took >= self.slow_callback_duration:
            logger.warning("Executing %s took %.3f seconds", format_entry(entry), took)
        return is_over if isinstance(entry, Stepper) else (<Handle>entry).spent()

    cdef int enter(self, object task) except -1:
        if self.current is not task:
            if current_tasks is None:
                swap_current_task(self, task)
            else:
                current_tasks[self] = task
            self.current = task
        return 0

    cdef int leave(self) except -1:
        self.current = None
        if current_tasks is None:
            swap_current_task(self, None)
        else:
            current_tasks.pop(self, None)
        return 0

    cdef int64_t now_ns(self) noexcept:
        return self.poller.now_ns()

    # -- failures and checks ---------------------------------------------------------

    cdef int report(self, str message, object error, object handle, object transport,
                    object protocol) except -1:
        context = {"message": message, "exception": error}
        if handle is not None:
            context["handle"] = handle
            if (<Handle>handle)._source_traceback:
                context["source_traceback"] = (<Handle>handle)._source_traceback
        if transport is not None:
            context["transport"] = transport
        if protocol is not None:
            context["protocol"] = protocol
        self.call_exception_handler(context)
        return 0

    cdef bint runs_here(self) except -1:
        return (self._thread_id is not None and self.shades == 0 and not self.poller.foreign
                and PyLong_AsUnsignedLong(self._thread_id)
                == <unsigned long>PyThread_get_thread_ident())

    def _check_thread(self):
        if self._thread_id is not None and self._thread_id != PyThread_get_thread_ident():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )

    # -- closing ---------------------------------------------------------------------

    def _close_reactor(self):
        """Drop what is queued, cancel every op, tell their owners, free the poller.

        Owners hear ``-ECANCELED`` while the poller is closed already: they close their
        descriptors and call nobody.  So do transports that had no op pending.
        """
        cdef Timer *timer
        cdef TimerHandle handle
        cdef Op *op
        while self.ready_count:
            entry = self.pop()
            if isinstance(entry, Handle):
                (<Handle>entry).spent()
        while True:
            timer = self.timers.pop_due(INT64_MAX)
            if timer == NULL:
                break
            if timer.fire == fire_handle:
                handle = <TimerHandle>timer.owner
                Py_DECREF(handle)           # the heap's reference
                handle.spent()
        # What an exit left of a batch. What comes with a result that stands is its owner's.
        op = self.done.first
        while op != NULL:
            self.poller.cancel(op)
            op = op.next
        self.poller.close(&self.done)
        failure = None
        while self.done.first != NULL or self.live != NULL:
            try:
                self.dispatch_batch()
                self.close_live()
            except BaseException as error:      # such as a warning that is an error
                failure = error
        if failure is not None:
            raise failure

    cdef int close_live(self) except -1:
        cdef object transport
        while self.live != NULL:
            transport = <object>self.live.owner
            unlist(self.live)
            transport.orphan()
        return 0

    def live_transports(self):
        """Return the transports that have a descriptor, as a list."""
        cdef LiveLink *link = self.live
        cdef list found = []
        while link != NULL:
            found.append(<object>link.owner)
            link = link.next
        return found

    def stats(self):
        """Return what is alive: ops, timers, ready call-backs and blocks, as ints."""
        return {
            "live_ops": self.poller.live_ops,
            "timers": self.timers.size,
            "ready": self.ready_count,
            "blocks_in_use": self.pool.in_use,
        }


cdef int64_t nanoseconds(double seconds) noexcept:
    """Return *seconds* as nanoseconds, rounded up and kept within range."""
    if seconds >= LATEST:
        return INT64_MAX - 1
    if seconds <= 0:
        return 0
    return <int64_t>ceil(seconds * 1e9)


cdef object extract_stack():
    """Return the stack of the Python caller, as ``asyncio`` shows it in debug mode."""
    try:
        frame = _getframe(0)
    except ValueError:
        return None             # no Python frame: called from C alone
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=asyncio.constants.DEBUG_STACK_DEPTH,
        lookup_lines=False,
    )
    stack.reverse()
    return stack

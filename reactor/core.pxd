"""The reactor's C face: what transports, listeners and drivers in Cython see of it."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from reactor.pollers.contract cimport OpList, Poller
from reactor.pool cimport BlockPool
from reactor.timers cimport Timer, TimerHeap


cdef struct LiveLink:           # an entry of the list of live transports; all 0 outside of it
    LiveLink *next
    LiveLink **place            # what points here: the list's head or the one before
    void *owner                 # a transport with orphan(), borrowed


cdef class Handle:
    """A call-back in the ready queue; asyncio.Handle's surface."""

    # These four are None once it was run or cancelled.
    cdef readonly Reactor _loop
    cdef readonly object _callback
    cdef readonly object _args              # a tuple
    cdef readonly object _context
    cdef readonly bint _cancelled
    cdef readonly object _source_traceback  # only in debug mode
    cdef str shown                          # the repr from before a cancel, in debug mode

    # Call it now. Exceptions go to the loop's handler; only SystemExit and
    # KeyboardInterrupt come through.
    cdef int run(self) except -1
    # Let go of what it holds.
    cdef int spent(self) except -1


cdef class Stepper:
    """What goes on in the ready queue again and again without a handle: a task."""

    # Go on. Return whether it is over.
    cdef bint step(self) except -1


cdef class TimerHandle(Handle):
    cdef Timer timer
    cdef double due                         # seconds on the reactor's clock


cdef class Reactor:
    """One per thread. Its methods belong to that thread but for ``call_soon_threadsafe``."""

    cdef readonly Poller poller
    cdef readonly BlockPool pool            # blocks that receives are lent
    cdef readonly TimerHeap timers
    cdef public object resolver             # reactor.resolver.Resolver, set by the event loop
    cdef OpList done                        # ops that are done and not yet dispatched
    cdef LiveLink *live                     # transports that have a descriptor

    cdef PyObject **ring                    # the ready queue: owned references, in a circle,
                                            # to each a Handle or a Stepper
    cdef Py_ssize_t ring_size               # its places, a power of two
    cdef Py_ssize_t ring_head
    cdef readonly Py_ssize_t ready_count
    cdef Py_ssize_t due_count               # of these, how many this pass has yet to run
    cdef bint in_step                       # of a Stepper
    cdef bint waiting                       # may be asleep: who queues from outside must wake
    cdef object current                     # the task that asyncio.current_task() tells, if this
                                            # has told it so

    # asyncio.BaseEventLoop's own names, so that its methods and ours share one state
    cdef public bint _closed
    cdef public bint _stopping
    cdef public bint _debug
    cdef public object _thread_id           # None while the reactor does not run
    cdef int shades                         # loops that run within it, in its thread
    cdef public object _task_factory

    # Whether this is the loop that runs in this thread, in this process, as
    # asyncio._get_running_loop tells, for which CPython 3.11 makes a system call.
    cdef bint runs_here(self) except -1
    # Append a call-back; context None means a copy of the current one.
    cdef Handle enqueue(self, object callback, tuple args, object context)
    # One pass: wait, dispatch ops, fire timers, run what was ready when the pass began.
    cdef int run_pass(self) except -1
    # The phases of a pass but for the last, the wait no longer than longest_ns (negative: no
    # limit). For a thread that runs no loop but waits for what needs none: it looks at
    # ready_count and has the loop run when there is anything.
    cdef int collect(self, int64_t longest_ns) except -1
    cdef TimerHandle schedule(self, double when, object callback, tuple args, object context,
                              str method)
    cdef int push(self, object entry) except -1
    # Like push; RuntimeError on a closed loop, and in debug mode in another thread.
    cdef int push_checked(self, Stepper stepper) except -1
    cdef object pop(self)
    cdef int run_watched(self, object entry) except -1
    # Tell asyncio.current_task() who runs. It is told otherwise when one goes on that is no task:
    # leave, which forgets it, is for the passes.
    cdef int enter(self, object task) except -1
    cdef int leave(self) except -1
    cdef int grow(self) except -1
    cdef int dispatch(self) except -1
    cdef int dispatch_batch(self) except -1
    cdef int fire_timers(self) except -1
    cdef int fire_batch(self, int64_t now_ns) except -1
    cdef int close_live(self) except -1
    cdef int run_ready(self) except -1
    cdef int run_batch(self) except -1
    # Nanoseconds on the poller's clock.
    cdef int64_t now_ns(self) noexcept
    # Give a failure that nobody awaits to the loop's exception handler.
    cdef int report(self, str message, object error, object handle, object transport,
                    object protocol) except -1


cdef inline void shade(object outer, int by) noexcept:
    """Count a loop that begins (1) or ends (-1) to run within *outer*, a loop or None."""
    if isinstance(outer, Reactor):
        (<Reactor>outer).shades += by


cdef inline void enlist(Reactor loop, LiveLink *link, void *owner) noexcept nogil:
    link.owner = owner
    link.next = loop.live
    link.place = &loop.live
    if link.next != NULL:
        link.next.place = &link.next
    loop.live = link


cdef inline void unlist(LiveLink *link) noexcept nogil:
    if link.place != NULL:
        link.place[0] = link.next
        if link.next != NULL:
            link.next.place = link.place
        link.next = NULL
        link.place = NULL


# Seconds as nanoseconds, rounded up and kept within range.
cdef int64_t nanoseconds(double seconds) noexcept
# Raise the exception that a C call left behind.
cdef int raise_pending() except -1
# The exception that PyContext_Enter left behind.
cdef object why_not_entered()
# Call callback(*args) in a context; args a tuple or None. What it raises is returned (and
# None without), but for SystemExit and KeyboardInterrupt, which come through.
cdef object call_in_context(object context, object callback, object args)

# Set up a new handle, of a subclass maybe; context None means a copy of the current one.
cdef int fill_handle(Handle handle, Reactor loop, object callback, tuple args,
                     object context) except -1

"""A heap of intrusive timers; the C face of ``reactor.timers``.

A timer is a struct inside the object that wants to be woken, so that a deadline costs no
allocation.  The owner disarms it before its own memory goes.
"""

from libc.stdint cimport int64_t, uint64_t

# Called by the reactor when the timer is due; it is disarmed by then and may be armed again.
ctypedef int (*timer_fire)(void *owner) except -1

cdef struct Timer:
    Py_ssize_t position             # its place in the heap plus one; 0 while not armed
    timer_fire fire
    void *owner                     # borrowed; the first argument of fire


cdef struct TimerEntry:             # what the heap moves about: keys beside the pointer
    int64_t when_ns                 # absolute, on the poller's clock
    uint64_t sequence               # equal times fire in the order in which they were armed
    Timer *timer


cdef class TimerHeap:
    cdef TimerEntry *entries
    cdef Py_ssize_t capacity
    cdef readonly Py_ssize_t size   # armed timers
    cdef uint64_t sequence

    # Arm the timer, or move it if it is armed. MemoryError when the heap cannot grow.
    cdef int arm(self, Timer *timer, int64_t when_ns) except -1
    # Disarm the timer; nothing happens if it is not armed.
    cdef void disarm(self, Timer *timer) noexcept
    # The earliest timer if it is due by now_ns, taken off the heap; else NULL.
    cdef Timer *pop_due(self, int64_t now_ns) noexcept
    # When the earliest timer is due; INT64_MAX with none armed.
    cdef int64_t next_ns(self) noexcept

    cdef void sift_up(self, Py_ssize_t at, TimerEntry entry) noexcept
    cdef void sift_down(self, Py_ssize_t at, TimerEntry entry) noexcept
    cdef void take_out(self, Py_ssize_t at) noexcept

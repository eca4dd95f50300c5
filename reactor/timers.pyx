"""The timers of a reactor: a four-way heap whose members know their place.

Owns: the order of deadlines.  May not touch: clocks (the caller says what time it is),
system calls, Python code.
Invariant: ``entries[timer.position - 1].timer is timer`` for every armed timer, so that
disarming one among a million costs a handful of moves: most timers are disarmed.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memset

cdef Py_ssize_t FIRST_CAPACITY = 64


cdef inline bint earlier(const TimerEntry *a, const TimerEntry *b) noexcept nogil:
    return a.when_ns < b.when_ns or (a.when_ns == b.when_ns and a.sequence < b.sequence)


cdef class TimerHeap:
    """Armed timers, earliest first.  Belongs to one reactor and its thread."""

    def __dealloc__(self):
        cdef Py_ssize_t at
        for at in range(self.size):
            self.entries[at].timer.position = 0
        PyMem_RawFree(self.entries)

    def __len__(self):
        return self.size

    cdef int arm(self, Timer *timer, int64_t when_ns) except -1:
        cdef TimerEntry entry
        cdef Py_ssize_t capacity
        cdef TimerEntry *grown
        if timer.position:
            self.take_out(timer.position - 1)
        if self.size == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_CAPACITY
            grown = <TimerEntry *>PyMem_RawRealloc(self.entries, capacity * sizeof(TimerEntry))
            if grown == NULL:
                raise MemoryError(f"no memory for {capacity} timers")
            self.entries = grown
            self.capacity = capacity
        self.sequence += 1
        entry.when_ns = when_ns
        entry.sequence = self.sequence
        entry.timer = timer
        self.size += 1
        self.sift_up(self.size - 1, entry)
        return 0

    cdef void disarm(self, Timer *timer) noexcept:
        if timer.position:
            self.take_out(timer.position - 1)

    cdef Timer *pop_due(self, int64_t now_ns) noexcept:
        cdef Timer *timer
        if self.size == 0 or self.entries[0].when_ns > now_ns:
            return NULL
        timer = self.entries[0].timer
        self.take_out(0)
        return timer

    cdef int64_t next_ns(self) noexcept:
        return self.entries[0].when_ns if self.size else INT64_MAX

    cdef void take_out(self, Py_ssize_t at) noexcept:
        cdef TimerEntry last
        self.entries[at].timer.position = 0
        self.size -= 1
        if at == self.size:
            return
        last = self.entries[self.size]
        if at and earlier(&last, &self.entries[(at - 1) >> 2]):
            self.sift_up(at, last)
        else:
            self.sift_down(at, last)

    cdef void sift_up(self, Py_ssize_t at, TimerEntry entry) noexcept:
        cdef Py_ssize_t parent
        while at:
            parent = (at - 1) >> 2
            if not earlier(&entry, &self.entries[parent]):
                break
            self.entries[at] = self.entries[parent]
            self.entries[at].timer.position = at + 1
            at = parent
        self.entries[at] = entry
        entry.timer.position = at + 1

    cdef void sift_down(self, Py_ssize_t at, TimerEntry entry) noexcept:
        cdef Py_ssize_t child, best, stop
        while True:
            child = (at << 2) + 1
            if child >= self.size:
                break
            best = child
            stop = child + 4 if child + 4 < self.size else self.size
            child += 1
            while child < stop:
                if earlier(&self.entries[child], &self.entries[best]):
                    best = child
                child += 1
            if not earlier(&self.entries[best], &entry):
                break
            self.entries[at] = self.entries[best]
            self.entries[at].timer.position = at + 1
            at = best
        self.entries[at] = entry
        entry.timer.position = at + 1


cdef int record(void *owner) except -1:
    cdef TimerProbe probe = <TimerProbe>owner
    probe.fired += 1
    if probe.error is not None:
        raise probe.error
    return 0


cdef class TimerProbe:
    """One timer, driven from Python: how the tests reach the heap's C face."""

    cdef TimerHeap heap
    cdef Timer timer
    cdef readonly Py_ssize_t fired      # how often it was due
    cdef public object error            # what it raises when it is due, or None

    def __cinit__(self, TimerHeap heap):
        memset(&self.timer, 0, sizeof(self.timer))
        self.heap = heap
        self.timer.fire = record
        self.timer.owner = <void *>self

    def __dealloc__(self):
        if self.heap is not None:
            self.heap.disarm(&self.timer)

    @property
    def armed(self):
        """Whether the timer is on the heap."""
        return self.timer.position != 0

    def arm(self, int64_t when_ns):
        """Arm the timer for *when_ns*, nanoseconds on whatever clock the test keeps."""
        self.heap.arm(&self.timer, when_ns)

    def disarm(self):
        """Disarm the timer."""
        self.heap.disarm(&self.timer)

    @staticmethod
    def pop_due(TimerHeap heap, int64_t now_ns):
        """Fire the earliest timer if it is due and return its probe, else ``None``."""
        cdef Timer *timer = heap.pop_due(now_ns)
        if timer == NULL:
            return None
        timer.fire(timer.owner)
        return <TimerProbe>timer.owner

"""The simulated poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport int64_t, intptr_t

from reactor.pollers.contract cimport Op, OpList, Poller


cdef class SimulatedPoller(Poller):
    cdef readonly object network    # reactor.pollers.simulated_network.Network
    cdef readonly list violations   # what owners did against the contract, in words
    cdef readonly bint deferred     # results come through the done list, as IOCP's do
    cdef readonly bint posted       # a bufferless receive borrows its block when submitted
    cdef readonly Py_ssize_t waits  # how often wait was called
    cdef double spurious
    cdef int64_t tick_ns
    cdef int64_t patience_ns
    cdef int64_t delay_ns
    cdef int64_t clock_ns
    cdef dict slots                 # descriptor: _Slot
    cdef list packets               # heap of (when_ns, sequence, address of an op)
    cdef Py_ssize_t sequence
    cdef OpList finished            # done, for the next wait
    cdef set lent                   # addresses of blocks that owners have
    cdef void *gate                 # a lock that wake() opens
    cdef int woken                  # 1 while it is open

    cdef int move_to(self, int64_t when_ns) except -1
    cdef int64_t next_ns(self) except -1
    cdef bint take_wake(self, int64_t patience_ns) except -1
    cdef int collect(self, OpList *done) except -1
    cdef int wake_spuriously(self) except -1
    cdef int offer(self, Op *op) except -1
    cdef int finish(self, Op *op) except -1
    cdef int finish_later(self, Op *op) except -1
    cdef int finish_cancelled(self, Op *op) except -1
    cdef int64_t refuse_in_line(self, Op *op)
    cdef bint perform(self, Op *op)
    cdef int receive(self, Op *op) except -1
    cdef int send(self, Op *op) except -1
    cdef bint borrow(self, Op *op) noexcept
    cdef int unborrow(self, Op *op) except -1
    cdef bint park(self, Op *op)
    cdef int unpark(self, Op *op) except -1
    cdef int disown(self, intptr_t fd) except -1
    cdef int check_unused(self, intptr_t fd, str call) except -1

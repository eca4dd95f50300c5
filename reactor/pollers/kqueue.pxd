"""The kqueue poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uintptr_t

from reactor.pollers.contract cimport Op, OpList, Poller


cdef struct Slot:               # what is known of one descriptor; the table is indexed by it
    Op *reader                  # the pending op that reads, or NULL
    Op *writer                  # the pending op that writes, or NULL
    bint read_filter            # whether EVFILT_READ is in the queue
    bint write_filter           # whether EVFILT_WRITE is
    uintptr_t generation        # counts uses of the number; an event of an older one is stale


cdef class KqueuePoller(Poller):
    cdef object __weakref__
    cdef int queue_fd
    cdef int wake_fds[2]        # a pipe: kevent(2) is not for signal handlers everywhere
    cdef Slot *slots
    cdef Py_ssize_t slot_count
    cdef OpList cancelled       # done by cancel, for the next wait
    cdef void *events           # the batch: struct kevent[BATCH]

    cdef void disown(self) noexcept
    cdef int make_room(self, intptr_t fd) noexcept
    cdef bint attempt(self, Op *op) noexcept
    cdef void receive_block(self, Op *op) noexcept
    cdef void accept_attached(self, Op *op) noexcept
    cdef int park(self, Op *op) noexcept
    cdef int tell(self, intptr_t fd, int filter, int action, uintptr_t generation) noexcept
    cdef void finish_cancelled(self, Op *op, OpList *done) noexcept
    cdef void cancel_pending(self, Slot *slot, OpList *done) noexcept
    cdef void ready(self, intptr_t fd, int filter, uintptr_t generation,
                    OpList *done) noexcept

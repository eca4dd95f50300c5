"""The epoll poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uint32_t, uint64_t

from reactor.pollers.contract cimport Op, OpList, Poller


cdef struct Slot:               # what is known of one descriptor; the table is indexed by it
    Op *reader                  # the pending op that reads, or NULL
    Op *writer                  # the pending op that writes, or NULL
    uint32_t interest           # what epoll_ctl was last told; 0 when not in the set
    uint32_t generation         # counts uses of the number; an event of an older one is stale


cdef class EpollPoller(Poller):
    cdef object __weakref__
    cdef int epoll_fd
    cdef int wake_fd
    cdef int signal_fds[2]      # a pipe, once asked for: an eventfd does not take single bytes
    cdef Slot *slots
    cdef Py_ssize_t slot_count
    cdef bint is_stirred        # something has come since the last wait, peek has found
    cdef OpList cancelled       # done by cancel or by a failed epoll_ctl, for the next wait
    cdef void *events           # the batch: struct epoll_event[BATCH]

    cdef bint is_calm(self, intptr_t fd) noexcept
    cdef void disown(self) noexcept
    cdef int watch_wakeups(self, int fd, uint64_t mark) noexcept
    cdef int make_room(self, intptr_t fd) noexcept
    cdef bint attempt(self, Op *op) noexcept
    cdef void receive_block(self, Op *op) noexcept
    cdef void accept_attached(self, Op *op) noexcept
    cdef int park(self, Op *op) noexcept
    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept
    cdef void drain(self, int fd) noexcept
    cdef void finish_cancelled(self, Op *op, OpList *done) noexcept
    cdef void ready(self, intptr_t fd, uint32_t generation, uint32_t bits,
                    OpList *done) noexcept

"""The epoll poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uint32_t, uint64_t

from reactor.pollers.contract cimport OpList
from reactor.pollers.eventfd cimport EventfdPoller


cdef class EpollPoller(EventfdPoller):
    cdef int epoll_fd
    cdef bint is_stirred        # something has come since the last wait, peek has found
    cdef void *events           # the batch: struct epoll_event[BATCH]

    cdef int watch_wakeups(self, int fd, uint64_t mark) noexcept
    cdef void ready(self, intptr_t fd, uint32_t generation, uint32_t bits,
                    OpList *done) noexcept

"""The kqueue poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uint32_t, uintptr_t

from reactor.pollers.contract cimport OpList
from reactor.pollers.readiness cimport ReadinessPoller, Slot


cdef class KqueuePoller(ReadinessPoller):
    # signal_fds wakes, too: kevent(2) is not for signal handlers everywhere
    cdef int queue_fd
    cdef void *events           # the batch: struct kevent[BATCH]

    cdef int change(self, intptr_t fd, int filter, int action, uint32_t generation) noexcept
    cdef int tell_one(self, intptr_t fd, int filter, uint32_t bit, Slot *slot, uint32_t wanted,
                      bint anew) noexcept
    cdef void ready(self, intptr_t fd, int filter, uintptr_t generation,
                    OpList *done) noexcept

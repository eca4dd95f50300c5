"""What the pollers of Linux are woken by; the contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t

from reactor.pollers.readiness cimport ReadinessPoller


cdef class EventfdPoller(ReadinessPoller):
    cdef int wake_fd            # beside signal_fds: an eventfd does not take single bytes

    # -- what a system call supplies -----------------------------------------------------
    # See that signal_fds[0] ends a wait from now on; 0 or -errno.
    cdef int watch_signals(self) noexcept
    # True when the system says that nothing has come for *fd*, at less than a look at it costs.
    cdef bint is_calm(self, intptr_t fd) noexcept

    # -- for who derives from it ---------------------------------------------------------
    # Open the eventfd; for __cinit__.
    cdef int open_wake_fd(self) except -1
    # Take what woke us from a descriptor.
    cdef void drain(self, int fd) noexcept

"""What the pollers of Linux share beyond readiness: an eventfd wakes them.

Owns: the eventfd, and the pipe for signals.  May not touch: how either is watched, which is
what a poller adds.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport errno
from libc.stdint cimport intptr_t, uint64_t

from reactor.pollers.posix_sockets cimport close_descriptor, peek_now
from reactor.pollers.readiness cimport ReadinessPoller

cdef extern from "fcntl.h" nogil:
    enum:
        O_CLOEXEC
        O_NONBLOCK

cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int initval, int flags)

cdef extern from "unistd.h" nogil:
    int pipe2(int *fds, int flags)
    Py_ssize_t read(int fd, void *buffer, size_t length)
    Py_ssize_t write(int fd, const void *buffer, size_t length)


cdef class EventfdPoller(ReadinessPoller):
    """A poller of Linux.  Lends receives blocks of its pool."""

    def __cinit__(self, *args, **kwargs):
        self.wake_fd = -1

    cdef int watch_signals(self) noexcept:
        return 0

    cdef bint is_calm(self, intptr_t fd) noexcept:
        return False

    cdef int open_wake_fd(self) except -1:
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef void drain(self, int fd) noexcept:
        cdef char taken[512]            # more than there ever is: what is left may end no wait
        if fd >= 0:
            read(fd, taken, sizeof(taken))

    cdef void wake(self) noexcept nogil:
        cdef uint64_t one = 1
        write(self.wake_fd, &one, sizeof(one))

    cdef intptr_t wakeup_fd(self) noexcept:
        cdef int error
        if self.signal_fds[1] < 0:
            if pipe2(self.signal_fds, O_CLOEXEC | O_NONBLOCK) < 0:
                return -errno
            error = self.watch_signals()
            if error < 0:
                close_descriptor(self.signal_fds[0])
                close_descriptor(self.signal_fds[1])
                self.signal_fds[0] = self.signal_fds[1] = -1
                return error
        return self.signal_fds[1]

    cdef int peek(self, intptr_t fd) noexcept:
        return 0 if self.is_calm(fd) else peek_now(fd)

    cdef void disown(self) noexcept:
        if self.wake_fd >= 0:
            close_descriptor(self.wake_fd)
        self.wake_fd = -1
        ReadinessPoller.disown(self)

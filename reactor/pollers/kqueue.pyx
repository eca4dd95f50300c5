"""The poller of macOS and the BSDs.

Some facts about kqueue, and how they are used here:

* A descriptor has two filters, EVFILT_READ and EVFILT_WRITE, that know nothing of each other.
  Each is added when an op must wait for it and taken away only when an event comes that no op
  wants, as the epoll poller does it: request and answer cost no call to add or to delete.
* The end of a stream and its reset are flags of either filter (EV_EOF), not events of their
  own: whoever waits is told by the call that is then made, and a filter that nobody waits on
  can be deleted, so that neither spins.
* The kernel forgets the filters of a descriptor when that is closed, also while a duplicate
  lives. What is in a batch already is not taken back: each slot has a generation, which the
  event carries, so that one for an earlier user of the number is known as stale.
* kevent(2) counts nanoseconds: no rounding.
* A child process does not inherit the queue (kqueue(2)); libkqueue's, which is an epoll
  descriptor, it does. The poller is marked as foreign there and lets go of what it has.
* Waking by EVFILT_USER would save a pipe; but libkqueue takes a lock in kevent, which a signal
  handler may not, and the signal module wants a descriptor anyway. One pipe serves both.
* There is no accept4, no SOCK_NONBLOCK and no MSG_NOSIGNAL everywhere: flags are set by
  fcntl(2), and SO_NOSIGPIPE where it exists.

Owns: the queue, the wake-up pipe; an op's way is ``readiness.pyx``'s.  May not touch: Python
objects other than through an op's owner count; call-backs.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EBADF, ENOENT, errno
from libc.stdint cimport int64_t, intptr_t, uint32_t, uintptr_t
from posix.time cimport timespec

from reactor.pollers.contract cimport OpList, op_splice
from reactor.pollers.posix_sockets cimport close_descriptor, prepare
from reactor.pollers.readiness cimport READ, WRITE, ReadinessPoller, Slot, become_ready
from reactor.pool cimport BlockPool

import os

cdef extern from *:
    """
    #include <sys/types.h>
    #include <sys/event.h>
    """
    enum:
        EV_ADD
        EV_DELETE
        EVFILT_READ
        EVFILT_WRITE
    struct kernel_event "kevent":
        uintptr_t ident
        short filter
        void *udata
    void EV_SET(kernel_event *event, uintptr_t ident, int filter, int flags, int fflags,
                intptr_t data, void *udata) nogil
    int kevent(int queue, const kernel_event *changes, int change_count, kernel_event *events,
               int event_count, const timespec *timeout) nogil
    int kqueue() nogil

cdef extern from "unistd.h" nogil:
    int pipe(int *fds)
    Py_ssize_t read(int fd, void *buffer, size_t length)
    Py_ssize_t write(int fd, const void *buffer, size_t length)

cdef enum:
    BATCH = 512                 # events fetched at once; 16 KiB


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(int queue, kernel_event *events, timespec *timeout) noexcept nogil:
    # errno is read before the GIL is taken back, which may change it
    cdef int count = kevent(queue, NULL, 0, events, BATCH, timeout)
    return -errno if count < 0 else count


@cython.final
cdef class KqueuePoller(ReadinessPoller):
    """kqueue(2) behind the completion contract.  Lends receives blocks of *pool*.

    Raises ``OSError`` when the process or the system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None):
        self.queue_fd = -1
        self.events = PyMem_RawMalloc(BATCH * sizeof(kernel_event))
        if self.events == NULL:
            raise MemoryError("no memory for kqueue's events")
        self.queue_fd = kqueue()
        if self.queue_fd < 0:
            PyErr_SetFromErrno(OSError)
        os.set_inheritable(self.queue_fd, False)
        if pipe(self.signal_fds) < 0:
            PyErr_SetFromErrno(OSError)
        if prepare(self.signal_fds[0]) < 0 or prepare(self.signal_fds[1]) < 0:
            PyErr_SetFromErrno(OSError)
        if self.change(self.signal_fds[0], EVFILT_READ, EV_ADD, 0) < 0:
            PyErr_SetFromErrno(OSError)
        self.mind_forks()

    def __dealloc__(self):
        if self.events != NULL:         # else it was never made
            self.disown()
        PyMem_RawFree(self.events)

    # -- ops -------------------------------------------------------------------------

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        cdef kernel_event *events = <kernel_event *>self.events
        cdef timespec limit
        cdef int count, at
        cdef char taken[64]
        if timeout_ns < 0 and self.cancelled.first == NULL:
            with nogil:
                count = wait_now(self.queue_fd, events, NULL)
        else:
            if self.cancelled.first != NULL:
                timeout_ns = 0
            limit.tv_sec = timeout_ns // 1_000_000_000
            limit.tv_nsec = timeout_ns % 1_000_000_000
            if timeout_ns == 0:
                count = wait_now(self.queue_fd, events, &limit)
            else:
                with nogil:
                    count = wait_now(self.queue_fd, events, &limit)
        count = self.waited(count)
        op_splice(done, &self.cancelled)
        for at in range(count):
            if <int>events[at].ident == self.signal_fds[0]:
                read(self.signal_fds[0], taken, sizeof(taken))    # what is left ends the next wait
            else:
                self.ready(<intptr_t>events[at].ident, events[at].filter,
                           <uintptr_t>events[at].udata, done)
        return 0

    cdef void wake(self) noexcept nogil:
        cdef char byte = 0
        write(self.signal_fds[1], &byte, 1)       # a full pipe wakes as well

    cdef intptr_t wakeup_fd(self) noexcept:
        return self.signal_fds[1] if self.signal_fds[1] >= 0 else -EBADF

    # -- inside ----------------------------------------------------------------------

    cdef void disown(self) noexcept:
        if self.queue_fd >= 0:
            close_descriptor(self.queue_fd)
        self.queue_fd = -1
        ReadinessPoller.disown(self)

    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept:
        cdef bint anew = wanted == slot.interest
        cdef int error = self.tell_one(fd, EVFILT_READ, READ, slot, wanted, anew)
        return error if error else self.tell_one(fd, EVFILT_WRITE, WRITE, slot, wanted, anew)

    cdef int tell_one(self, intptr_t fd, int filter, uint32_t bit, Slot *slot, uint32_t wanted,
                      bint anew) noexcept:
        """Add or delete a filter where that is a change, or *anew*; 0 or -errno."""
        cdef int error = 0
        if wanted & bit:
            if anew or not slot.interest & bit:
                error = self.change(fd, filter, EV_ADD, slot.generation)
        elif slot.interest & bit:
            error = self.change(fd, filter, EV_DELETE, 0)
        if error == 0:
            slot.interest = slot.interest & ~bit | wanted & bit
        return error

    cdef int change(self, intptr_t fd, int filter, int action, uint32_t generation) noexcept:
        """Add or delete a filter; 0 or -errno.  One that is not there is as good as deleted."""
        cdef kernel_event change
        EV_SET(&change, <uintptr_t>fd, filter, action, 0, 0, <void *><uintptr_t>generation)
        if kevent(self.queue_fd, &change, 1, NULL, 0, NULL) < 0:
            return 0 if action == EV_DELETE and errno == ENOENT else -errno
        return 0

    cdef void ready(self, intptr_t fd, int filter, uintptr_t generation,
                    OpList *done) noexcept:
        """Move the op that an event is for to the done list, or delete the filter."""
        cdef Slot *slot = &self.slots[fd]
        if slot.generation != generation:
            return
        if filter == EVFILT_READ:
            if slot.reader != NULL:
                become_ready(&slot.reader, done)
            else:
                self.tell(fd, slot, slot.interest & ~<uint32_t>READ)
        elif slot.writer != NULL:
            become_ready(&slot.writer, done)
        else:
            self.tell(fd, slot, slot.interest & ~<uint32_t>WRITE)

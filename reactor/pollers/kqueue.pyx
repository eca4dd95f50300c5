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

Owns: the queue, the wake-up pipe, the table of descriptors.  May not touch: Python objects
other than through an op's owner count; call-backs.
Invariant: an op is in a slot exactly while it is PENDING.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.errno cimport EBADF, EEXIST, EINPROGRESS, EINTR, ENOBUFS, ENOENT, ENOMEM, EAGAIN, errno
from libc.stdint cimport int64_t, intptr_t, uintptr_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CANCELLED, OP_CONNECT, OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING,
    OP_READABLE, OP_RECEIVE, OP_SEND, OP_TRY, Op, OpList, OpState, Poller, hold,
    op_append, op_splice,
)
from reactor.pollers.posix_sockets cimport (
    accept_now, address_now, bind_now, close_descriptor, close_now, connect_now, connected,
    open_now, peek_now, prepare, receive_now, send_now, set_option_now, shut_down_now,
)
from reactor.pool cimport BlockPool

import os
import signal
import weakref

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED               # missing in Cython's libc.errno

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
    FIRST_SLOTS = 64


cdef inline bint reads(const Op *op) noexcept nogil:
    return op.kind == OP_RECEIVE or op.kind == OP_ACCEPT or op.kind == OP_READABLE


cdef object pollers = weakref.WeakSet()
cdef str FOREIGN = "an event loop cannot run in a child process that was forked from its own"


def disown_all():
    """In a forked child: let go of every poller, which stays the parent's."""
    cdef KqueuePoller poller
    cdef int wakeup_fd = signal.set_wakeup_fd(-1)
    cdef bint ours = False
    for poller in pollers:
        ours |= wakeup_fd == poller.wake_fds[1]
        poller.foreign = True
        poller.disown()
    if not ours:
        signal.set_wakeup_fd(wakeup_fd)


os.register_at_fork(after_in_child=disown_all)


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(int queue, kernel_event *events, timespec *timeout) noexcept nogil:
    # errno is read before the GIL is taken back, which may change it
    cdef int count = kevent(queue, NULL, 0, events, BATCH, timeout)
    return -errno if count < 0 else count


cdef class KqueuePoller(Poller):
    """kqueue(2) behind the completion contract.  Lends receives blocks of *pool*.

    Raises ``OSError`` when the process or the system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None):
        self.pool = pool
        self.queue_fd = self.wake_fds[0] = self.wake_fds[1] = -1
        self.events = PyMem_RawMalloc(BATCH * sizeof(kernel_event))
        if self.events == NULL:
            raise MemoryError("no memory for kqueue's events")
        self.queue_fd = kqueue()
        if self.queue_fd < 0:
            PyErr_SetFromErrno(OSError)
        os.set_inheritable(self.queue_fd, False)
        if pipe(self.wake_fds) < 0:
            PyErr_SetFromErrno(OSError)
        if prepare(self.wake_fds[0]) < 0 or prepare(self.wake_fds[1]) < 0:
            PyErr_SetFromErrno(OSError)
        if self.tell(self.wake_fds[0], EVFILT_READ, EV_ADD, 0) < 0:
            PyErr_SetFromErrno(OSError)
        pollers.add(self)

    def __dealloc__(self):
        self.disown()
        PyMem_RawFree(self.slots)
        PyMem_RawFree(self.events)

    # -- ops -------------------------------------------------------------------------

    cdef OpState submit(self, Op *op) noexcept:
        op.flags &= ~OP_CANCELLED
        if self.closed:
            op.result = -ECANCELED
            return OP_IDLE
        if op.kind == OP_CONNECT:
            op.result = connect_now(op)
            if op.result != -EINPROGRESS:
                return OP_IDLE
        elif op.flags & (OP_TRY | OP_NOWAIT):
            if self.attempt(op) or op.flags & OP_NOWAIT:
                return OP_IDLE
        op.result = self.park(op)
        if op.result == 0:
            hold(self, op)
            op.state = OP_PENDING
        return op.state

    cdef void cancel(self, Op *op) noexcept:
        cdef Slot *slot
        if op.state == OP_PENDING:
            slot = &self.slots[op.fd]
            if slot.reader == op:
                slot.reader = NULL
            elif slot.writer == op:
                slot.writer = NULL
            self.finish_cancelled(op, &self.cancelled)
        elif op.state == OP_DONE:
            op.flags |= OP_CANCELLED
            op.result = -ECANCELED

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
        if count < 0:
            if self.foreign:
                raise RuntimeError(FOREIGN)
            if count != -EINTR:
                raise OSError(-count, os.strerror(-count))
            count = 0
        op_splice(done, &self.cancelled)
        for at in range(count):
            if <int>events[at].ident == self.wake_fds[0]:
                read(self.wake_fds[0], taken, sizeof(taken))    # what is left ends the next wait
            else:
                self.ready(<intptr_t>events[at].ident, events[at].filter,
                           <uintptr_t>events[at].udata, done)
        return 0

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & OP_CANCELLED:
            return True
        if op.kind == OP_CONNECT:
            op.result = connected(op)
            return True
        if self.attempt(op):
            return True
        # Readiness was spurious: wait again.
        op.result = self.park(op)
        if op.result < 0:
            return True
        op.state = OP_PENDING
        return False

    cdef void wake(self) noexcept nogil:
        cdef char byte = 0
        write(self.wake_fds[1], &byte, 1)       # a full pipe wakes as well

    cdef intptr_t wakeup_fd(self) noexcept:
        return self.wake_fds[1] if self.wake_fds[1] >= 0 else -EBADF

    cdef int64_t now_ns(self) noexcept nogil:
        cdef timespec now
        clock_gettime(CLOCK_MONOTONIC, &now)
        return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec

    cdef void close(self, OpList *done) noexcept:
        cdef Py_ssize_t fd
        if self.closed:
            return
        self.closed = True
        op_splice(done, &self.cancelled)
        for fd in range(self.slot_count):
            self.cancel_pending(&self.slots[fd], done)
        self.disown()

    # -- descriptors -----------------------------------------------------------------

    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept:
        cdef intptr_t fd = open_now(family, kind, protocol)
        cdef int error
        if fd >= 0:
            error = self.attach(fd, True)
            if error < 0:
                close_descriptor(<int>fd)
                return error
        return fd

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        cdef int error = self.make_room(fd)
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[fd]
        if fresh:
            self.cancel_pending(slot, &self.cancelled)
            self.detach(fd)
            return 0
        if slot.reader == NULL and slot.writer == NULL:
            if slot.read_filter or slot.write_filter:
                self.detach(fd)
            return 0
        # Somebody may have closed an earlier user of the number without telling.
        if slot.reader != NULL:
            error = self.tell(fd, EVFILT_READ, EV_ADD, slot.generation)
        if slot.writer != NULL and error == 0:
            error = self.tell(fd, EVFILT_WRITE, EV_ADD, slot.generation)
        return error

    cdef void detach(self, intptr_t fd) noexcept:
        cdef Slot *slot
        if fd < 0 or fd >= self.slot_count:
            return
        slot = &self.slots[fd]
        if slot.read_filter:
            self.tell(fd, EVFILT_READ, EV_DELETE, 0)
        if slot.write_filter:
            self.tell(fd, EVFILT_WRITE, EV_DELETE, 0)
        slot.read_filter = slot.write_filter = False
        slot.generation += 1

    cdef int close_fd(self, intptr_t fd) noexcept:
        self.detach(fd)
        return close_now(fd)

    cdef int shut_down(self, intptr_t fd) noexcept:
        return shut_down_now(fd)

    cdef int peek(self, intptr_t fd) noexcept:
        return peek_now(fd)

    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept:
        return set_option_now(fd, level, name, value)

    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept:
        return bind_now(fd, address, size)

    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept:
        return address_now(fd, peer, address, size)

    # -- inside ----------------------------------------------------------------------

    cdef void disown(self) noexcept:
        """Close the poller's own descriptors."""
        if self.queue_fd >= 0:
            close_descriptor(self.queue_fd)
        if self.wake_fds[0] >= 0:
            close_descriptor(self.wake_fds[0])
            close_descriptor(self.wake_fds[1])
        self.queue_fd = self.wake_fds[0] = self.wake_fds[1] = -1

    cdef int make_room(self, intptr_t fd) noexcept:
        """Let the table have a slot for *fd*; 0 or -errno."""
        cdef Py_ssize_t count
        cdef Slot *grown
        if fd < 0:
            return -EBADF
        if fd >= self.slot_count:
            count = self.slot_count if self.slot_count else FIRST_SLOTS
            while count <= fd:
                count *= 2
            grown = <Slot *>PyMem_RawRealloc(self.slots, count * sizeof(Slot))
            if grown == NULL:
                return -ENOMEM
            memset(&grown[self.slot_count], 0, (count - self.slot_count) * sizeof(Slot))
            self.slots = grown
            self.slot_count = count
        return 0

    cdef bint attempt(self, Op *op) noexcept:
        """Make the op's call; true unless it would block (then the result is -EAGAIN)."""
        if op.kind == OP_RECEIVE:
            if op.buffer != NULL:
                op.result = receive_now(op)
            else:
                self.receive_block(op)
        elif op.kind == OP_SEND:
            op.result = send_now(op)
        elif op.kind == OP_ACCEPT:
            self.accept_attached(op)
        else:
            op.result = 0 if op.state == OP_DONE else -EAGAIN
        return op.result != -EAGAIN

    cdef void receive_block(self, Op *op) noexcept:
        """Receive into a block of the pool; it stays with the op only if data came."""
        cdef char *block = self.pool.acquire()
        if block == NULL:
            op.result = -ENOBUFS
            return
        op.buffer = block
        op.length = self.pool.block_size
        op.result = receive_now(op)
        if op.result <= 0:
            op.buffer = NULL
            self.pool.release(block)

    cdef void accept_attached(self, Op *op) noexcept:
        cdef int error
        op.result = accept_now(op)
        if op.result >= 0:
            error = self.attach(op.result, True)
            if error < 0:
                close_descriptor(<int>op.result)
                op.result = error

    cdef int park(self, Op *op) noexcept:
        """Put the op into its slot and see that its filter is there; 0 or -errno."""
        cdef int error = self.make_room(op.fd)
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[op.fd]
        if reads(op):
            if slot.reader != NULL:
                return -EEXIST
            if not slot.read_filter:
                error = self.tell(op.fd, EVFILT_READ, EV_ADD, slot.generation)
                if error < 0:
                    return error
                slot.read_filter = True
            slot.reader = op
        else:
            if slot.writer != NULL:
                return -EEXIST
            if not slot.write_filter:
                error = self.tell(op.fd, EVFILT_WRITE, EV_ADD, slot.generation)
                if error < 0:
                    return error
                slot.write_filter = True
            slot.writer = op
        return 0

    cdef int tell(self, intptr_t fd, int filter, int action, uintptr_t generation) noexcept:
        """Add or delete a filter; 0 or -errno.  One that is not there is as good as deleted."""
        cdef kernel_event change
        EV_SET(&change, <uintptr_t>fd, filter, action, 0, 0, <void *>generation)
        if kevent(self.queue_fd, &change, 1, NULL, 0, NULL) < 0:
            return 0 if action == EV_DELETE and errno == ENOENT else -errno
        return 0

    cdef void finish_cancelled(self, Op *op, OpList *done) noexcept:
        op.flags |= OP_CANCELLED
        op.result = -ECANCELED
        op.state = OP_DONE
        op_append(done, op)

    cdef void cancel_pending(self, Slot *slot, OpList *done) noexcept:
        if slot.reader != NULL:
            self.finish_cancelled(slot.reader, done)
            slot.reader = NULL
        if slot.writer != NULL:
            self.finish_cancelled(slot.writer, done)
            slot.writer = NULL

    cdef void ready(self, intptr_t fd, int filter, uintptr_t generation,
                    OpList *done) noexcept:
        """Move the op that an event is for to the done list, or delete the filter."""
        cdef Slot *slot = &self.slots[fd]
        if slot.generation != generation:
            return
        if filter == EVFILT_READ:
            if slot.reader != NULL:
                slot.reader.state = OP_DONE
                op_append(done, slot.reader)
                slot.reader = NULL
            else:
                self.tell(fd, EVFILT_READ, EV_DELETE, 0)
                slot.read_filter = False
        elif slot.writer != NULL:
            slot.writer.state = OP_DONE
            op_append(done, slot.writer)
            slot.writer = NULL
        else:
            self.tell(fd, EVFILT_WRITE, EV_DELETE, 0)
            slot.write_filter = False

"""What the pollers of readiness have in common: a table of descriptors, with a place for two ops.

A call is tried at once where that is likely to work; an op whose call would block is parked in its
descriptor's slot, and its call is made once more when the system says that the descriptor is
ready. What a platform supplies is how interest in a descriptor is told (``tell``), and the wait.

Owns: the slots, an op's way through them, the calls that are made on sockets; what becomes of all
that in a forked child.  May not touch: Python objects other than through an op's owner count;
call-backs.
Invariant: an op is in a slot exactly while it is PENDING.
"""

from cpython.mem cimport PyMem_RawFree
from libc.errno cimport EAGAIN, EBADF, EEXIST, EINPROGRESS, EINTR, ENOBUFS
from libc.stdint cimport int64_t, intptr_t, uint32_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from reactor.addresses cimport Address
from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CANCELLED, OP_CONNECT, OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING,
    OP_RECEIVE, OP_SEND, OP_TRY, Op, OpList, OpState, Poller, hold,
    op_append, op_splice,
)
from reactor.pollers.posix_sockets cimport (
    accept_now, address_now, bind_now, close_descriptor, close_now, connect_now, connected,
    open_now, peek_now, receive_from_now, receive_now, send_now, send_to_now, set_option_now,
    shut_down_now,
)
from reactor.pollers.table cimport make_entry
from reactor.pool cimport BlockPool

import os
import signal
import weakref

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED               # missing in Cython's libc.errno

cdef object pollers = weakref.WeakSet()


def disown_all():
    """In a forked child: let go of every poller, which stays the parent's."""
    cdef ReadinessPoller poller
    cdef int wakeup_fd = signal.set_wakeup_fd(-1)
    cdef bint ours = False
    for poller in pollers:
        ours |= wakeup_fd == poller.signal_fds[1]
        poller.foreign = True
        poller.disown()
    if not ours:
        signal.set_wakeup_fd(wakeup_fd)


os.register_at_fork(after_in_child=disown_all)


cdef class ReadinessPoller(Poller):
    """The contract over ``tell`` and ``wait``.  Lends receives blocks of *pool*."""

    def __cinit__(self, BlockPool pool not None, *args, **kwargs):
        self.pool = pool
        self.signal_fds[0] = self.signal_fds[1] = -1

    def __dealloc__(self):
        PyMem_RawFree(self.slots)

    # -- what a platform supplies ------------------------------------------------------

    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept:
        return -EBADF

    cdef int expect(self, Op *op, Slot *slot) noexcept:
        cdef uint32_t wanted
        if reads(op):
            wanted = READ | (WRITE if slot.writer != NULL else 0)
        else:
            wanted = WRITE | (READ if slot.reader != NULL else 0)
        if (slot.interest & wanted) == wanted:
            return 0
        return self.tell(op.fd, slot, wanted)

    cdef void disown(self) noexcept:
        if self.signal_fds[0] >= 0:
            close_descriptor(self.signal_fds[0])
            close_descriptor(self.signal_fds[1])
        self.signal_fds[0] = self.signal_fds[1] = -1

    # -- for who derives from it -------------------------------------------------------

    cdef int mind_forks(self) except -1:
        pollers.add(self)
        return 0

    cdef int waited(self, int count) except -1:
        if count >= 0:
            return count
        if self.foreign:
            raise RuntimeError(
                "an event loop cannot run in a child process that was forked from its own"
            )
        if count != -EINTR:
            raise OSError(-count, os.strerror(-count))
        return 0

    # -- ops ---------------------------------------------------------------------------

    cdef OpState submit(self, Op *op) noexcept:
        op.flags &= OP_TRY | OP_NOWAIT
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

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & OP_CANCELLED:
            return True
        if op.kind == OP_CONNECT:
            op.result = connected(op)
            return True
        if self.attempt(op):
            return True
        # Readiness was spurious (select(2) under BUGS): wait again.
        op.result = self.park(op)
        if op.result < 0:
            return True
        op.state = OP_PENDING
        return False

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

    # -- descriptors -------------------------------------------------------------------

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
        elif slot.reader != NULL or slot.writer != NULL:
            # Somebody may have closed an earlier user of the number without telling.
            return self.tell(fd, slot, slot.interest)
        elif slot.interest:
            self.detach(fd)
        return 0

    cdef void detach(self, intptr_t fd) noexcept:
        cdef Slot *slot
        if fd < 0 or fd >= self.slot_count:
            return
        slot = &self.slots[fd]
        if slot.interest:
            self.tell(fd, slot, 0)
        slot.interest = 0
        slot.generation += 1

    cdef void disarm(self, intptr_t fd) noexcept:
        cdef Slot *slot
        cdef uint32_t wanted
        if self.closed or fd < 0 or fd >= self.slot_count:
            return
        slot = &self.slots[fd]
        wanted = (READ if slot.reader != NULL else 0) | (WRITE if slot.writer != NULL else 0)
        if wanted == 0:
            self.detach(fd)
        elif slot.interest & ~wanted:
            self.tell(fd, slot, wanted)

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

    cdef Py_ssize_t receive_from(self, intptr_t fd, char *buffer, Py_ssize_t size,
                                 Address *sender) noexcept:
        return receive_from_now(fd, buffer, size, sender)

    cdef Py_ssize_t send_to(self, intptr_t fd, const char *data, Py_ssize_t size,
                            const Address *receiver) noexcept:
        return send_to_now(fd, data, size, receiver)

    # -- inside ------------------------------------------------------------------------

    cdef int make_room(self, intptr_t fd) noexcept:
        """Let the table have a slot for *fd*; 0 or -errno."""
        if fd < 0:
            return -EBADF
        if fd < self.slot_count:
            return 0
        return make_entry(<void **>&self.slots, &self.slot_count, sizeof(Slot), fd)

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
        """Put the op into its slot and see that the system watches for it; 0 or -errno."""
        cdef int error = self.make_room(op.fd)
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[op.fd]
        if (slot.reader if reads(op) else slot.writer) != NULL:
            return -EEXIST
        error = self.expect(op, slot)
        if error < 0:
            return error
        if reads(op):
            slot.reader = op
        else:
            slot.writer = op
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

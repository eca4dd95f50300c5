"""The poller of Linux.

Some facts about epoll, as measured and as used here:

* Level-triggered with one registration per descriptor is as fast as edge-triggered, as long
  as the registration is left alone. So interest is only ever added when an op must wait for
  it, and only taken away when an event comes that no op wants ("lazy disarm"): a client that
  sends a request and awaits the answer makes no epoll_ctl call at all.
* EPOLLHUP and EPOLLERR cannot be masked. A descriptor with such an event and no op to tell
  leaves the set altogether until an op is submitted again.
* The kernel drops a closed descriptor from the set by itself, but not when a duplicate (a
  child process, dup(2)) keeps the open file alive. ``detach`` therefore always removes it,
  and each slot has a generation so that an event already fetched for an earlier user of the
  number is known as stale.
* epoll_wait counts milliseconds. Timeouts are rounded up: a timer may be late by less than
  one, never early.
* A forked child has the same epoll object, not a copy of it: what it says to epoll_ctl, it says
  to its parent's. So the child's copies of the descriptors are closed as it begins
  (os.register_at_fork), and whatever it does with the poller then fails with EBADF.
* Regular files cannot be watched: epoll_ctl says EPERM, and the op is done with it.

* A signal may be delivered to a thread that does not wait, or to the one that waits just
  before it does; EINTR ends neither wait. What CPython's handler writes to the wake-up
  descriptor does (``set_wakeup_fd`` in the signal module's documentation).

Owns: the epoll descriptor, the wake-up eventfd and pipe, the table of descriptors.  May not touch:
Python objects other than through an op's owner count; call-backs.
Invariant: an op is in a slot exactly while it is PENDING.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.errno cimport (
    EAGAIN, EBADF, EEXIST, EINPROGRESS, EINTR, ENOBUFS, ENOENT, ENOMEM, errno
)
from libc.stdint cimport INT32_MAX, int64_t, intptr_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from reactor.addresses cimport ADDRESS_MAX
from reactor.buffers cimport Vector
from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CANCELLED, OP_CONNECT, OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING,
    OP_READABLE, OP_RECEIVE, OP_SEND, OP_TRY, Op, OpList, OpState, Poller, hold,
    op_append, op_splice,
)
from reactor.pool cimport BlockPool

import os
import signal
import weakref

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED               # missing in Cython's libc.errno

cdef extern from "fcntl.h" nogil:
    enum:
        O_CLOEXEC
        O_NONBLOCK

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLERR
        EPOLLHUP
        EPOLLIN
        EPOLLOUT
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int initval, int flags)

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_PEEK
        SHUT_WR
        SOCK_CLOEXEC
        SOCK_NONBLOCK
        SOL_SOCKET
        SO_ERROR
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct msghdr:
        Vector *msg_iov
        size_t msg_iovlen
    int accept4(int fd, sockaddr *address, socklen_t *size, int flags)
    int bind(int fd, const sockaddr *address, socklen_t size)
    int connect(int fd, const sockaddr *address, socklen_t size)
    int getpeername(int fd, sockaddr *address, socklen_t *size)
    int getsockname(int fd, sockaddr *address, socklen_t *size)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    Py_ssize_t recv(int fd, void *buffer, size_t length, int flags)
    Py_ssize_t send(int fd, const void *buffer, size_t length, int flags)
    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)
    int shutdown(int fd, int how)
    int socket(int family, int kind, int protocol)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    int pipe2(int *fds, int flags)
    Py_ssize_t read(int fd, void *buffer, size_t length)
    Py_ssize_t write(int fd, const void *buffer, size_t length)

cdef enum:
    BATCH = 1024                # events fetched at once; 12 KiB
    FIRST_SLOTS = 64

cdef uint64_t WAKE_MARK = <uint64_t>-1
cdef uint64_t SIGNAL_MARK = <uint64_t>-2


cdef inline bint reads(const Op *op) noexcept nogil:
    return op.kind == OP_RECEIVE or op.kind == OP_ACCEPT or op.kind == OP_READABLE


cdef inline Py_ssize_t receive_now(Op *op) noexcept nogil:
    cdef Py_ssize_t count
    while True:
        count = recv(<int>op.fd, op.buffer, op.length, 0)
        if count >= 0:
            return count
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t send_now(const Op *op) noexcept nogil:
    cdef Py_ssize_t count
    cdef msghdr message
    while True:
        if op.vector_count:
            memset(&message, 0, sizeof(message))
            message.msg_iov = op.vectors
            message.msg_iovlen = op.vector_count
            count = sendmsg(<int>op.fd, &message, MSG_NOSIGNAL)
        else:
            count = send(<int>op.fd, op.buffer, op.length, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t accept_now(Op *op) noexcept nogil:
    cdef socklen_t size = ADDRESS_MAX
    cdef int fd
    while True:
        fd = accept4(<int>op.fd, <sockaddr *>op.buffer, NULL if op.buffer == NULL else &size,
                     SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            op.length = 0 if op.buffer == NULL else <Py_ssize_t>size
            return fd
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t connect_now(const Op *op) noexcept nogil:
    if connect(<int>op.fd, <const sockaddr *>op.buffer, <socklen_t>op.length) == 0:
        return 0
    # An interrupted connect goes on by itself, like one in progress (connect(2)).
    return -EINPROGRESS if errno == EINTR else -errno


cdef inline Py_ssize_t connected(const Op *op) noexcept nogil:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    if getsockopt(<int>op.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0:
        return -errno
    return -error


cdef object pollers = weakref.WeakSet()
cdef str FOREIGN = "an event loop cannot run in a child process that was forked from its own"


def disown_all():
    """In a forked child: let go of every poller, which stays the parent's."""
    cdef EpollPoller poller
    cdef int wakeup_fd = signal.set_wakeup_fd(-1)
    cdef bint ours = False
    for poller in pollers:
        ours |= wakeup_fd == poller.signal_fds[1]
        poller.foreign = True
        poller.disown()
    if not ours:
        signal.set_wakeup_fd(wakeup_fd)


os.register_at_fork(after_in_child=disown_all)


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(int epoll_fd, epoll_event *events, int timeout_ms) noexcept nogil:
    # errno is read before the GIL is taken back, which may change it
    cdef int count = epoll_wait(epoll_fd, events, BATCH, timeout_ms)
    return -errno if count < 0 else count


cdef class EpollPoller(Poller):
    """epoll(7) behind the completion contract.  Lends receives blocks of *pool*.

    Raises ``OSError`` when the process or the system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None):
        self.pool = pool
        self.epoll_fd = self.wake_fd = self.signal_fds[0] = self.signal_fds[1] = -1
        self.events = PyMem_RawMalloc(BATCH * sizeof(epoll_event))
        if self.events == NULL:
            raise MemoryError("no memory for epoll's events")
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            PyErr_SetFromErrno(OSError)
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_fd < 0:
            PyErr_SetFromErrno(OSError)
        if self.watch_wakeups(self.wake_fd, WAKE_MARK) < 0:
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
        cdef epoll_event *events = <epoll_event *>self.events
        cdef int timeout_ms, count, at
        cdef uint64_t mark
        if timeout_ns == 0 or self.cancelled.first != NULL:
            count = wait_now(self.epoll_fd, events, 0)
        else:
            if timeout_ns < 0:
                timeout_ms = -1
            elif timeout_ns > <int64_t>INT32_MAX * 1_000_000 - 999_999:
                timeout_ms = INT32_MAX
            else:
                timeout_ms = <int>((timeout_ns + 999_999) // 1_000_000)
            with nogil:
                count = wait_now(self.epoll_fd, events, timeout_ms)
        if count < 0:
            if self.foreign:
                raise RuntimeError(FOREIGN)
            if count != -EINTR:
                raise OSError(-count, os.strerror(-count))
            count = 0
        self.is_stirred = False
        op_splice(done, &self.cancelled)
        for at in range(count):
            mark = events[at].data.u64
            if mark == WAKE_MARK:
                self.drain(self.wake_fd)
            elif mark == SIGNAL_MARK:
                self.drain(self.signal_fds[0])
            else:
                self.ready(<intptr_t><uint32_t>mark, <uint32_t>(mark >> 32),
                           events[at].events, done)
        return 0

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & OP_CANCELLED:
            return True
        if op.kind == OP_CONNECT:
            op.result = connected(op)
            return True
        if self.attempt(op):
            return True
        # Readiness was spurious (epoll(7), select(2) under BUGS): wait again.
        op.result = self.park(op)
        if op.result < 0:
            return True
        op.state = OP_PENDING
        return False

    cdef void wake(self) noexcept nogil:
        cdef uint64_t one = 1
        write(self.wake_fd, &one, sizeof(one))

    cdef intptr_t wakeup_fd(self) noexcept:
        cdef int error = 0
        if self.signal_fds[1] < 0:
            if pipe2(self.signal_fds, O_CLOEXEC | O_NONBLOCK) < 0:
                return -errno
            if self.watch_wakeups(self.signal_fds[0], SIGNAL_MARK) < 0:
                error = -errno
                close(self.signal_fds[0])
                close(self.signal_fds[1])
                self.signal_fds[0] = self.signal_fds[1] = -1
        return error if error else self.signal_fds[1]

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
            if self.slots[fd].reader != NULL:
                self.finish_cancelled(self.slots[fd].reader, done)
                self.slots[fd].reader = NULL
            if self.slots[fd].writer != NULL:
                self.finish_cancelled(self.slots[fd].writer, done)
                self.slots[fd].writer = NULL
        self.disown()

    # -- descriptors -----------------------------------------------------------------

    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept:
        cdef int fd = socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
        cdef int error
        if fd < 0:
            return -errno
        error = self.attach(fd, True)
        if error < 0:
            close(fd)
            return error
        return fd

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        cdef int error = self.make_room(fd)
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[fd]
        if fresh:
            if slot.reader != NULL:
                self.finish_cancelled(slot.reader, &self.cancelled)
                slot.reader = NULL
            if slot.writer != NULL:
                self.finish_cancelled(slot.writer, &self.cancelled)
                slot.writer = NULL
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

    cdef int close_fd(self, intptr_t fd) noexcept:
        self.detach(fd)
        return -errno if close(<int>fd) < 0 and errno != EINTR else 0

    cdef int shut_down(self, intptr_t fd) noexcept:
        return -errno if shutdown(<int>fd, SHUT_WR) < 0 else 0

    cdef int peek(self, intptr_t fd) noexcept:
        cdef char byte
        if self.is_calm(fd):
            return 0
        while recv(<int>fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0:
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                return -errno
        return 1

    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept:
        if setsockopt(<int>fd, level, name, &value, sizeof(value)) < 0:
            return -errno
        return 0

    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept:
        return -errno if bind(<int>fd, <const sockaddr *>address, size) < 0 else 0

    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept:
        cdef socklen_t length = size
        cdef int failed
        if peer:
            failed = getpeername(<int>fd, <sockaddr *>address, &length)
        else:
            failed = getsockname(<int>fd, <sockaddr *>address, &length)
        return -errno if failed else <int>length

    # -- inside ----------------------------------------------------------------------

    cdef bint is_calm(self, intptr_t fd) noexcept:
        """True when epoll says that nothing has come for any descriptor, *fd* among them.

        That is half the price of asking the socket itself, which need not be touched for it;
        an answer for all of them.  Level-triggered, an event that is looked at here comes
        again.  Once something has come it is not asked again before the next wait.
        """
        cdef epoll_event event
        if (self.is_stirred or fd < 0 or fd >= self.slot_count or self.slots[fd].reader == NULL
                or not self.slots[fd].interest & EPOLLIN):
            return False
        self.is_stirred = epoll_wait(self.epoll_fd, &event, 1, 0) != 0
        return not self.is_stirred

    cdef void disown(self) noexcept:
        """Close the poller's own descriptors."""
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        if self.wake_fd >= 0:
            close(self.wake_fd)
        if self.signal_fds[0] >= 0:
            close(self.signal_fds[0])
            close(self.signal_fds[1])
        self.epoll_fd = self.wake_fd = self.signal_fds[0] = self.signal_fds[1] = -1

    cdef int watch_wakeups(self, int fd, uint64_t mark) noexcept:
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = mark
        return epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event)

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
                close(<int>op.result)
                op.result = error

    cdef int park(self, Op *op) noexcept:
        """Put the op into its slot and see that epoll watches for it; 0 or -errno."""
        cdef int error = self.make_room(op.fd)
        cdef Slot *slot
        cdef uint32_t wanted
        if error < 0:
            return error
        slot = &self.slots[op.fd]
        if (slot.reader if reads(op) else slot.writer) != NULL:
            return -EEXIST
        if reads(op):
            wanted = EPOLLIN | (EPOLLOUT if slot.writer != NULL else 0)
        else:
            wanted = EPOLLOUT | (EPOLLIN if slot.reader != NULL else 0)
        if (slot.interest & wanted) != wanted:
            error = self.tell(op.fd, slot, wanted)
            if error < 0:
                return error
        if reads(op):
            slot.reader = op
        else:
            slot.writer = op
        return 0

    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept:
        """Set the interest of a descriptor; 0 or -errno.

        The kernel's set and ours differ when somebody closed the descriptor behind our back
        and its number came to life again; then the other call is the right one.
        """
        cdef epoll_event event
        cdef int action
        event.events = wanted
        event.data.u64 = (<uint64_t>slot.generation << 32) | <uint64_t>fd
        if wanted == 0:
            action = EPOLL_CTL_DEL
        else:
            action = EPOLL_CTL_MOD if slot.interest else EPOLL_CTL_ADD
        if epoll_ctl(self.epoll_fd, action, <int>fd, &event) < 0:
            if action == EPOLL_CTL_MOD and errno == ENOENT:
                action = EPOLL_CTL_ADD
            elif action == EPOLL_CTL_ADD and errno == EEXIST:
                action = EPOLL_CTL_MOD
            else:
                return -errno
            if epoll_ctl(self.epoll_fd, action, <int>fd, &event) < 0:
                return -errno
        slot.interest = wanted
        return 0

    cdef void drain(self, int fd) noexcept:
        cdef char taken[64]             # what is left ends the next wait as well
        read(fd, taken, sizeof(taken))

    cdef void finish_cancelled(self, Op *op, OpList *done) noexcept:
        op.flags |= OP_CANCELLED
        op.result = -ECANCELED
        op.state = OP_DONE
        op_append(done, op)

    cdef void ready(self, intptr_t fd, uint32_t generation, uint32_t bits,
                    OpList *done) noexcept:
        """Move the ops that an event is for to the done list; disarm what nobody wants."""
        cdef Slot *slot = &self.slots[fd]
        cdef uint32_t unwanted = 0
        cdef bint told = False
        if slot.generation != generation:
            return
        if bits & ~<uint32_t>EPOLLOUT:
            if slot.reader != NULL:
                slot.reader.state = OP_DONE
                op_append(done, slot.reader)
                slot.reader = NULL
                told = True
            else:
                unwanted = EPOLLIN
        if bits & <uint32_t>(EPOLLOUT | EPOLLERR | EPOLLHUP):
            if slot.writer != NULL:
                slot.writer.state = OP_DONE
                op_append(done, slot.writer)
                slot.writer = NULL
                told = True
            else:
                unwanted |= EPOLLOUT
        if bits & <uint32_t>(EPOLLERR | EPOLLHUP) and not told:
            self.tell(fd, slot, 0)
            slot.interest = 0
        elif slot.interest & unwanted:
            self.tell(fd, slot, slot.interest & ~unwanted)

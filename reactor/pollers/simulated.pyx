"""A poller in memory: deterministic, faulty on demand, and a referee of the contract.

Some facts about it:

* Time is virtual. A wait jumps to the next event of the network or to its timeout, and a wait
  that does not block costs a microsecond, so that a loop that never sleeps sees time pass.
* With nothing to happen and no timeout a real poller would sleep for ever; this one raises
  ``Deadlock`` and says which ops wait. Only with *patience* does it sleep for real, so that
  another thread can call ``wake``.
* In line, as epoll: a call is tried at once where the contract says so, parked on EAGAIN, and
  made when the op is dispatched. Deferred, as IOCP: nothing but failures is done in line, the
  system makes the call while the op is pending, its result and a cancel's come later, and a
  cancel comes too late when the result is in. A bufferless receive is then either a zero-byte
  one that borrows its block at dispatch, or (*posted*) borrows it when it is submitted.
* What an owner does against the contract (a detach or close with an op pending, a block given
  back twice) is written down in ``violations``, which the tests want empty. A block that was
  given back is overwritten.

Owns: the ops that wait, the virtual clock, the wake-up gate.  May not touch: descriptors of
the system, call-backs.
Invariant: a PENDING op is in a slot or, once its outcome is certain, in ``packets``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EBADF, EEXIST, ENOBUFS
from libc.stdint cimport INT64_MAX, int64_t, intptr_t, uintptr_t
from libc.string cimport memcpy, memset

from reactor.addresses cimport Address, pack_address, unpack_address
from reactor.buffers cimport Vector
from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CANCELLED, OP_CONNECT, OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING,
    OP_READABLE, OP_RECEIVE, OP_SEND, OP_TRY, OP_WRITABLE, Op, OpList, OpState, Poller, hold,
    op_append, op_splice,
)
from reactor.pool cimport BlockPool

import errno
import heapq

from reactor.pollers.simulated_network import Network

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED               # missing in Cython's libc.errno

# The network's, which are Python's: on Windows Winsock's, not errno.h's.
cdef int EINPROGRESS = errno.EINPROGRESS
cdef int ENOTCONN = errno.ENOTCONN

cdef extern from "Python.h" nogil:
    enum:
        PY_LOCK_FAILURE
    void *PyThread_allocate_lock()
    void PyThread_free_lock(void *lock)
    int PyThread_acquire_lock_timed(void *lock, long long microseconds, int interruptible)
    void PyThread_release_lock(void *lock)

cdef extern from *:
    """
    #ifdef _WIN32
    #  define cyr_exchange(p, v) ((int)InterlockedExchange((volatile LONG *)(p), (v)))
    #  define cyr_vector_base(v) ((v)->buf)
    #  define cyr_vector_size(v) ((Py_ssize_t)(v)->len)
    #else
    #  define cyr_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #  define cyr_vector_base(v) ((char *)(v)->iov_base)
    #  define cyr_vector_size(v) ((Py_ssize_t)(v)->iov_len)
    #endif
    """
    int cyr_exchange(int *place, int value) noexcept nogil
    char *cyr_vector_base(Vector *vector) noexcept nogil
    Py_ssize_t cyr_vector_size(Vector *vector) noexcept nogil

cdef enum:                      # flags of an op that are this poller's own
    RESULT_IN = 0x100           # the call was made, the result stands
    QUEUED = 0x200              # the op is in packets
    BORROWED = 0x400            # the op's buffer is a block of the pool

cdef int64_t FIRST_NS = 1_000_000_000_000       # a clock that starts at 0 hides mistakes
cdef tuple KINDS = ("receive", "send", "accept", "connect", "readable", "writable")


class Deadlock(RuntimeError):
    """Nothing will ever happen: no event, no timer, no call-back, and a wait without limit."""


cdef class _Slot:
    cdef Op *reader
    cdef Op *writer


cdef inline bint reads(const Op *op) noexcept nogil:
    return op.kind == OP_RECEIVE or op.kind == OP_ACCEPT or op.kind == OP_READABLE


cdef inline bint has_late_half(const Op *op) noexcept nogil:
    """Whether a deferred op makes its call when it is dispatched, not while it is pending."""
    return (op.kind == OP_READABLE or op.kind == OP_WRITABLE
            or (op.kind == OP_RECEIVE and op.buffer == NULL))


cdef class SimulatedPoller(Poller):
    """The contract over a network in memory.  Lends receives blocks of *pool*.

    Args:
        deferred: complete as IOCP does instead of in line as epoll does.
        posted: with *deferred*: a bufferless receive borrows its block when submitted.
        spurious: the probability that a wait reports an op that is not ready.
        delay_seconds: with *deferred*: at most so much between a result and its report.
        tick_seconds: what a wait that does not block costs.
        patience_seconds: real seconds that a wait without limit and without anything to
            happen leaves other threads to call ``wake``.
        faults: see ``reactor.pollers.simulated_network.Network``.
    """

    def __cinit__(self, BlockPool pool not None, *, bint deferred=False, bint posted=False,
                  double spurious=0.0, double delay_seconds=0.0, double tick_seconds=1e-6,
                  double patience_seconds=0.0, **faults):
        if posted and not deferred:
            raise ValueError("receives are posted only where completion is deferred")
        if not 0 <= spurious < 1:
            raise ValueError(f"a probability is at least 0 and below 1, not {spurious}")
        if delay_seconds < 0 or tick_seconds < 0 or patience_seconds < 0:
            raise ValueError("delay, tick and patience must not be negative")
        self.pool = pool
        self.network = Network(**faults)
        self.violations = []
        self.deferred = deferred
        self.posted = posted
        self.spurious = spurious
        self.delay_ns = <int64_t>(delay_seconds * 1e9)
        self.tick_ns = <int64_t>(tick_seconds * 1e9)
        self.patience_ns = <int64_t>(patience_seconds * 1e9)
        self.slots = {}
        self.packets = []
        self.lent = set()
        self.gate = PyThread_allocate_lock()
        if self.gate == NULL:
            raise MemoryError("no memory for a lock")
        PyThread_acquire_lock_timed(self.gate, -1, 0)
        self.move_to(FIRST_NS)

    def __dealloc__(self):
        if self.gate != NULL:
            PyThread_free_lock(self.gate)

    def advance(self, double seconds):
        """Move the clock on by *seconds*; what the network does meanwhile happens."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        self.move_to(self.clock_ns + <int64_t>(seconds * 1e9))

    # -- ops -------------------------------------------------------------------------

    cdef OpState submit(self, Op *op) noexcept:
        if op.state != OP_IDLE:
            self.violations.append(f"{describe(op)} was submitted while it was live")
            return op.state
        op.flags &= OP_TRY | OP_NOWAIT
        if self.closed or op.fd not in self.network.sockets:
            op.result = -ECANCELED if self.closed else -EBADF
            return OP_IDLE
        if op.kind == OP_RECEIVE and op.flags & OP_NOWAIT:
            self.perform(op)            # also on a completion port: recv on a non-blocking socket
            return OP_IDLE
        if op.kind == OP_CONNECT:
            address = unpack_address(op.buffer, <int>op.length)
            op.result = self.network.connect(op.fd, address)
            if op.result != -EINPROGRESS and (op.result < 0 or not self.deferred):
                return OP_IDLE
        elif self.deferred:
            op.result = self.refuse_in_line(op)
            if op.result < 0:
                return OP_IDLE
        elif op.flags & (OP_TRY | OP_NOWAIT):
            if self.perform(op) or op.flags & OP_NOWAIT:
                return OP_IDLE
        if self.posted and op.kind == OP_RECEIVE and op.buffer == NULL and not self.borrow(op):
            op.result = -ENOBUFS
            return OP_IDLE
        if not self.park(op):
            self.unborrow(op)
            return OP_IDLE
        hold(self, op)
        op.state = OP_PENDING
        return OP_PENDING

    cdef void cancel(self, Op *op) noexcept:
        if op.state == OP_IDLE or op.flags & RESULT_IN:
            return
        op.flags |= OP_CANCELLED
        op.result = -ECANCELED
        if op.state == OP_DONE or op.flags & QUEUED:
            return
        self.unpark(op)
        self.unborrow(op)
        if self.deferred:
            self.finish_later(op)
        else:
            self.finish(op)

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        cdef bint awake = self.take_wake(0)
        cdef int64_t next_ns
        cdef int64_t limit_ns = INT64_MAX
        self.waits += 1
        if self.spurious > 0 and self.network.random.random() < self.spurious:
            self.wake_spuriously()
        self.move_to(self.clock_ns + (self.tick_ns if timeout_ns == 0 else 0))
        if 0 <= timeout_ns < INT64_MAX - self.clock_ns:
            limit_ns = self.clock_ns + timeout_ns
        while True:
            self.collect(done)
            if awake or timeout_ns == 0 or done.first != NULL:
                return 0
            next_ns = self.next_ns()
            if next_ns <= limit_ns and next_ns != INT64_MAX:
                self.move_to(next_ns)
                continue
            if timeout_ns >= 0:
                self.move_to(limit_ns)
                return 0
            if self.patience_ns and self.take_wake(self.patience_ns):
                return 0
            raise Deadlock(f"nothing will ever happen; waiting: {self.waiting_ops() or 'nobody'}")

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & (OP_CANCELLED | RESULT_IN):
            return True
        if self.closed:
            op.flags |= OP_CANCELLED
            op.result = -ECANCELED
            return True
        if op.fd not in self.network.sockets:
            self.violations.append(f"{describe(op)} outlived its descriptor")
            op.result = -EBADF
            return True
        if self.perform(op) or not self.park(op):
            return True
        op.state = OP_PENDING
        return False

    cdef void give_back(self, char *block) noexcept:
        cdef uintptr_t address = <uintptr_t>block
        if address not in self.lent:
            self.violations.append("a block was given back that was not lent")
            return
        self.lent.remove(address)
        memset(block, 0xDD, self.pool.block_size)
        self.pool.release(block)

    cdef void wake(self) noexcept nogil:
        if cyr_exchange(&self.woken, 1) == 0:
            PyThread_release_lock(self.gate)

    cdef int64_t now_ns(self) noexcept nogil:
        return self.clock_ns

    cdef void close(self, OpList *done) noexcept:
        cdef _Slot slot
        if self.closed:
            return
        self.closed = True
        for slot in self.slots.values():
            if slot.reader != NULL:
                self.finish_cancelled(slot.reader)
            if slot.writer != NULL:
                self.finish_cancelled(slot.writer)
        self.slots.clear()
        for _, _, address in self.packets:
            self.finish_cancelled(<Op *><uintptr_t>address)
        self.packets.clear()
        op_splice(done, &self.finished)

    # -- descriptors -----------------------------------------------------------------

    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept:
        cdef intptr_t fd = self.network.open(family, kind)
        if fd >= 0:
            self.disown(fd)
        return fd

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        if fd not in self.network.sockets:
            return -EBADF
        if fresh:
            self.disown(fd)
        elif fd in self.slots:
            self.network.touched[self.network.sockets[fd]] = None
        return 0

    cdef void detach(self, intptr_t fd) noexcept:
        self.check_unused(fd, "detached")

    cdef int close_fd(self, intptr_t fd) noexcept:
        self.check_unused(fd, "closed")
        return self.network.close(fd)

    cdef int shut_down(self, intptr_t fd) noexcept:
        return self.network.shut_down(fd) if fd in self.network.sockets else -EBADF

    cdef int peek(self, intptr_t fd) noexcept:
        return self.network.peek(fd) if fd in self.network.sockets else -EBADF

    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept:
        return 0 if fd in self.network.sockets else -EBADF

    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept:
        if fd not in self.network.sockets:
            return -EBADF
        return self.network.bind(fd, unpack_address(address, size))

    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept:
        cdef Address packed
        endpoint = self.network.sockets.get(fd)
        if endpoint is None:
            return -EBADF
        value = endpoint.remote if peer else endpoint.local
        if not value:
            return -ENOTCONN if peer else 0     # as unnamed as a UNIX socket that nobody bound
        pack_address(endpoint.family, value, &packed)
        memcpy(address, packed.data, min(size, packed.size))
        return packed.size

    # -- inside ----------------------------------------------------------------------

    def waiting_ops(self):
        """Return what is pending, in words."""
        cdef _Slot slot
        shown = []
        for slot in self.slots.values():
            if slot.reader != NULL:
                shown.append(describe(slot.reader))
            if slot.writer != NULL:
                shown.append(describe(slot.writer))
        return ", ".join(shown)

    cdef int move_to(self, int64_t when_ns) except -1:
        self.network.run_until(when_ns)
        self.clock_ns = when_ns
        return 0

    cdef int64_t next_ns(self) except -1:
        """When something happens next, be it in the network or a report; else INT64_MAX."""
        cdef object when_ns = self.network.next_ns()
        cdef int64_t next_ns = INT64_MAX if when_ns is None else when_ns
        return min(next_ns, self.packets[0][0]) if self.packets else next_ns

    cdef bint take_wake(self, int64_t patience_ns) except -1:
        """Return whether wake() was called, or a signal came, within that real time."""
        cdef int outcome
        cdef long long patience_us = patience_ns // 1000
        if patience_us == 0:
            outcome = PyThread_acquire_lock_timed(self.gate, 0, 0)
        else:
            with nogil:
                outcome = PyThread_acquire_lock_timed(self.gate, patience_us, 1)
        if outcome == 1:                        # PY_LOCK_ACQUIRED; 2 is an interruption
            cyr_exchange(&self.woken, 0)
        return outcome != PY_LOCK_FAILURE

    cdef int collect(self, OpList *done) except -1:
        """Move what is ready by now to the done list."""
        cdef _Slot slot
        cdef Op *op
        while self.network.touched:             # a deferred call touches others
            touched = self.network.touched
            self.network.touched = {}
            for endpoint in touched:
                fd = endpoint.fd
                slot = self.slots.get(fd)
                if slot is None:
                    continue
                if slot.reader != NULL and self.network.readable(fd):
                    self.offer(slot.reader)
                if slot.writer != NULL and self.network.writable(fd):
                    self.offer(slot.writer)
        while self.packets and self.packets[0][0] <= self.clock_ns:
            op = <Op *><uintptr_t>heapq.heappop(self.packets)[2]
            op.flags &= ~<int>QUEUED
            self.finish(op)
        op_splice(done, &self.finished)
        return 0

    cdef int wake_spuriously(self) except -1:
        """Report one op as ready that need not be."""
        cdef _Slot slot
        cdef Op *op
        if not self.slots:
            return 0
        slot = self.slots[self.network.random.choice(list(self.slots))]
        op = slot.reader if slot.reader != NULL else slot.writer
        if op != NULL and op.kind != OP_CONNECT and (not self.deferred or has_late_half(op)):
            self.offer(op)
        return 0

    cdef int offer(self, Op *op) except -1:
        """The op's descriptor is ready: finish it, or see that it will be."""
        if not self.deferred:
            self.unpark(op)
            return self.finish(op)
        if not has_late_half(op):
            if not self.perform(op):
                return 0
            op.flags |= RESULT_IN
        self.unpark(op)
        return self.finish_later(op)

    cdef int finish(self, Op *op) except -1:
        op.state = OP_DONE
        op_append(&self.finished, op)
        return 0

    cdef int finish_later(self, Op *op) except -1:
        cdef int64_t when_ns = self.clock_ns
        if self.delay_ns:
            when_ns += self.network.random.randint(0, self.delay_ns)
        op.flags |= QUEUED
        self.sequence += 1
        heapq.heappush(self.packets, (when_ns, self.sequence, <uintptr_t>op))
        return 0

    cdef int finish_cancelled(self, Op *op) except -1:
        """The poller is closed: whatever the op has goes, and it is done."""
        if op.flags & RESULT_IN and op.kind == OP_ACCEPT and op.result >= 0:
            self.network.close(op.result)
        self.unborrow(op)
        op.flags = OP_CANCELLED
        op.result = -ECANCELED
        return self.finish(op)

    cdef int64_t refuse_in_line(self, Op *op):
        """Return the failure that a deferred op has at once, or 0."""
        cdef int64_t failure = 0
        if op.kind == OP_SEND:
            failure = self.network.send_failure(op.fd)
        elif op.kind == OP_RECEIVE:
            failure = self.network.receive_failure(op.fd)
        if failure == 0 and op.flags & OP_NOWAIT:
            failure = -EAGAIN
        return failure

    cdef bint perform(self, Op *op):
        """Make the op's call; true unless it would block (then the result is -EAGAIN)."""
        if op.kind == OP_RECEIVE:
            self.receive(op)
        elif op.kind == OP_SEND:
            self.send(op)
        elif op.kind == OP_ACCEPT:
            op.result = self.network.accept(op.fd)
            if op.result >= 0:
                self.disown(op.result)
        elif op.kind == OP_CONNECT:
            op.result = self.network.connect_result(op.fd)
        elif op.kind == OP_READABLE:
            op.result = 0 if self.network.readable(op.fd) else -EAGAIN
        else:
            op.result = 0 if self.network.writable(op.fd) else -EAGAIN
        return op.result != -EAGAIN

    cdef int receive(self, Op *op) except -1:
        cdef bytes data
        if op.buffer == NULL and not self.borrow(op):
            op.result = -ENOBUFS
            return 0
        received = self.network.receive(op.fd, op.length)
        if isinstance(received, bytes):
            data = received
            memcpy(op.buffer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            op.result = PyBytes_GET_SIZE(data)
        else:
            op.result = received
        if op.result > 0:
            if op.flags & BORROWED:
                self.lent.add(<uintptr_t>op.buffer)
        elif not (self.posted and op.result == -EAGAIN):
            self.unborrow(op)
        return 0

    cdef int send(self, Op *op) except -1:
        cdef Py_ssize_t at
        cdef bytes data = b""
        if op.vector_count == 0:
            data = PyBytes_FromStringAndSize(op.buffer, op.length)
        for at in range(op.vector_count):
            data += PyBytes_FromStringAndSize(cyr_vector_base(&op.vectors[at]),
                                              cyr_vector_size(&op.vectors[at]))
        op.result = self.network.send(op.fd, data)
        return 0

    cdef bint borrow(self, Op *op) noexcept:
        op.buffer = self.pool.acquire()
        if op.buffer == NULL:
            return False
        op.length = self.pool.block_size
        op.flags |= BORROWED
        return True

    cdef int unborrow(self, Op *op) except -1:
        """Take the op's block back, if it has one."""
        if op.flags & BORROWED:
            op.flags &= ~<int>BORROWED
            self.lent.discard(<uintptr_t>op.buffer)
            self.pool.release(op.buffer)
            op.buffer = NULL
        return 0

    cdef bint park(self, Op *op):
        """Put the op into its slot; false, with a result, when another is there."""
        cdef _Slot slot = self.slots.get(op.fd)
        if slot is None:
            slot = self.slots[op.fd] = _Slot.__new__(_Slot)
        if (slot.reader if reads(op) else slot.writer) != NULL:
            op.result = -EEXIST
            return False
        if reads(op):
            slot.reader = op
        else:
            slot.writer = op
        self.network.touched[self.network.sockets[op.fd]] = None
        return True

    cdef int unpark(self, Op *op) except -1:
        cdef _Slot slot = self.slots[op.fd]
        if reads(op):
            slot.reader = NULL
        else:
            slot.writer = NULL
        if slot.reader == NULL and slot.writer == NULL:
            del self.slots[op.fd]
        return 0

    cdef int disown(self, intptr_t fd) except -1:
        """End the ops of an earlier user of the number."""
        cdef _Slot slot = self.slots.get(fd)
        if slot is not None:
            if slot.reader != NULL:
                self.cancel(slot.reader)
            if slot.writer != NULL:
                self.cancel(slot.writer)
        return 0

    cdef int check_unused(self, intptr_t fd, str call) except -1:
        """Note ops that are pending for a descriptor that goes, and end them."""
        cdef _Slot slot = self.slots.pop(fd, None)
        cdef Op *op
        if slot is not None:
            if slot.reader != NULL:
                self.violations.append(f"socket {fd} was {call} under {describe(slot.reader)}")
                self.finish_cancelled(slot.reader)
            if slot.writer != NULL:
                self.violations.append(f"socket {fd} was {call} under {describe(slot.writer)}")
                self.finish_cancelled(slot.writer)
        for _, _, address in self.packets:
            op = <Op *><uintptr_t>address
            if op.fd == fd:
                self.violations.append(f"socket {fd} was {call} under {describe(op)}")
        return 0


cdef str describe(const Op *op):
    return f"{KINDS[<int>op.kind]} of socket {op.fd}"

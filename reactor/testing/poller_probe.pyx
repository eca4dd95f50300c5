"""Drives a poller from Python, op by op: what the poller suite is written with.

Owns: ops that belong to tests, and a done list.  May not touch: a poller that a reactor runs.
Invariant: an op's memory lives as long as its ``ProbeOp``, which the poller keeps alive while
the op is live.
"""

from libc.stdint cimport int64_t, intptr_t
from libc.string cimport memset

from reactor.addresses cimport ADDRESS_MAX, Address, pack_address, unpack_address
from reactor.buffers cimport MAX_VECTORS, vector_set
from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CONNECT, OP_IDLE, OP_NOWAIT, OP_PENDING, OP_READABLE, OP_RECEIVE, OP_SEND,
    OP_TRY, OP_WRITABLE, Op, OpKind, OpOwner, Poller, let_go, op_pop,
)


cdef class ProbeOp(OpOwner):
    """One op; it is made by a ``PollerProbe``."""

    @property
    def state(self):
        """``"idle"``, ``"pending"`` or ``"done"``."""
        return ("idle", "pending", "done")[<int>self.op.state]

    @property
    def result(self):
        """The latest result: bytes, a descriptor or 0, or ``-errno``."""
        return self.op.result

    @property
    def fd(self):
        """The descriptor that the op is for."""
        return self.op.fd

    @property
    def memory(self):
        """What is in the op's own buffer."""
        return bytes(self.own)

    @property
    def holds_block(self):
        """Whether a block that was lent has not been given back."""
        return self.own is None and self.op.kind == OP_RECEIVE and self.op.buffer != NULL

    def submit(self, *, bint try_now=False, bint no_wait=False):
        """Submit the op; return whether it is pending.  Otherwise it is done already."""
        self.op.flags = (OP_TRY if try_now else 0) | (OP_NOWAIT if no_wait else 0)
        if self.op.kind == OP_RECEIVE and self.own is None:
            self.op.buffer = NULL
        if self.probe.poller.submit(&self.op) == OP_PENDING:
            return True
        self.finished()
        return False

    def cancel(self):
        """Cancel the op."""
        self.probe.poller.cancel(&self.op)

    def give_back(self):
        """Give back the block that was lent."""
        cdef char *block = self.op.buffer
        if not self.holds_block:
            raise RuntimeError("the op holds no block")
        self.op.buffer = NULL
        self.probe.poller.give_back(block)

    cdef int op_done(self, Op *op) except -1:
        return self.finished()

    cdef int finished(self) except -1:
        self.results.append(self.op.result)
        if self.op.kind == OP_RECEIVE and self.op.result > 0:
            self.data += self.op.buffer[:self.op.result]
            if self.own is None and not self.keeps:
                self.give_back()
        if self.on_done is not None:
            self.on_done(self)
        return 0

    def __repr__(self):
        return f"<ProbeOp kind={<int>self.op.kind} fd={self.op.fd} {self.state} {self.results}>"


cdef class PollerProbe:
    """A poller, its ops and its done list, on the thread that calls.

    Args:
        poller: a fresh one, without a reactor.
    """

    def __cinit__(self, Poller poller not None):
        self.poller = poller

    @property
    def pool(self):
        """The pool that blocks are lent from."""
        return self.poller.pool

    # -- ops -------------------------------------------------------------------------

    cdef ProbeOp prepare(self, int kind, object fd):
        cdef ProbeOp op = ProbeOp.__new__(ProbeOp)
        memset(&op.op, 0, sizeof(Op))
        op.op.kind = <OpKind>kind
        op.op.fd = fd
        op.op.owner = <void *>op
        op.probe = self
        op.results = []
        op.data = bytearray()
        return op

    def receive(self, fd, size=None, *, bint keep=False):
        """Return an op that receives into *size* bytes of its own, or into a lent block.

        With *keep* a lent block stays with the op until ``give_back``.
        """
        cdef ProbeOp op = self.prepare(OP_RECEIVE, fd)
        op.keeps = keep
        if size is not None:
            op.own = bytearray(size)
            op.op.buffer = op.own
            op.op.length = size
        return op

    def send(self, fd, data):
        """Return an op that sends *data*: bytes, or a sequence of them to be gathered."""
        cdef ProbeOp op = self.prepare(OP_SEND, fd)
        cdef bytes chunk
        cdef int count = 0
        if isinstance(data, bytes):
            op.own = bytearray(data)
            op.op.buffer = op.own
            op.op.length = len(data)
            return op
        if len(data) > MAX_VECTORS:
            raise ValueError(f"at most {MAX_VECTORS} vectors, not {len(data)}")
        op.chunks = list(data)
        for chunk in op.chunks:
            vector_set(&op.vectors[count], <char *>chunk, len(chunk))
            count += 1
        op.op.vectors = op.vectors
        op.op.vector_count = count
        return op

    def accept(self, fd):
        """Return an op that accepts."""
        return self.prepare(OP_ACCEPT, fd)

    def connect(self, fd, int family, address):
        """Return an op that connects to *address*."""
        cdef ProbeOp op = self.prepare(OP_CONNECT, fd)
        cdef Address packed
        pack_address(family, address, &packed)
        op.own = bytearray(packed.data[:packed.size])
        op.op.buffer = op.own
        op.op.length = packed.size
        return op

    def readable(self, fd):
        """Return an op that waits until a read would not block."""
        return self.prepare(OP_READABLE, fd)

    def writable(self, fd):
        """Return an op that waits until a write would not block."""
        return self.prepare(OP_WRITABLE, fd)

    # -- passes ----------------------------------------------------------------------

    def reap(self, timeout):
        """Wait up to *timeout* seconds, ``None`` for no limit; return what is on the done list."""
        cdef int64_t timeout_ns = -1 if timeout is None else <int64_t>(timeout * 1e9)
        cdef Op *op
        self.poller.wait(timeout_ns, &self.done)
        self.returns += 1
        found = []
        op = self.done.first
        while op != NULL:
            found.append(<object>op.owner)
            op = op.next
        return found

    def dispatch(self):
        """Complete what is on the done list, as a reactor does; return the ops that were."""
        cdef Op *op
        cdef ProbeOp owner
        found = []
        while True:
            op = op_pop(&self.done)
            if op == NULL:
                return found
            if not self.poller.complete(op):
                continue
            owner = <ProbeOp>op.owner
            op.state = OP_IDLE
            let_go(self.poller, op)
            found.append(owner)
            owner.op_done(op)

    def wait(self, timeout):
        """``reap`` and ``dispatch``."""
        self.reap(timeout)
        return self.dispatch()

    def wake(self):
        """End the present or the next wait.  Any thread; the GIL is let go meanwhile."""
        with nogil:
            self.poller.wake()

    def wakeup_fd(self):
        """Return the poller's descriptor for ``signal.set_wakeup_fd``, or ``-errno``."""
        return self.poller.wakeup_fd()

    def close(self):
        """Close the poller and dispatch what it hands back."""
        self.poller.close(&self.done)
        self.dispatch()

    def now_ns(self):
        """Return the poller's time in nanoseconds."""
        return self.poller.now_ns()

    # -- descriptors -----------------------------------------------------------------

    def open_socket(self, int family, int kind, int protocol=0):
        """Return a new descriptor or ``-errno``."""
        return self.poller.open_socket(family, kind, protocol)

    def attach(self, intptr_t fd, *, bint fresh=True):
        """Make a descriptor known; 0 or ``-errno``."""
        return self.poller.attach(fd, fresh)

    def detach(self, intptr_t fd):
        """Forget a descriptor."""
        self.poller.detach(fd)

    def close_fd(self, intptr_t fd):
        """Detach and close; 0 or ``-errno``."""
        return self.poller.close_fd(fd)

    def shut_down(self, intptr_t fd):
        """End the sending direction; 0 or ``-errno``."""
        return self.poller.shut_down(fd)

    def peek(self, intptr_t fd):
        """Return whether a receive would find something: 0, 1 or ``-errno``."""
        return self.poller.peek(fd)

    def set_option(self, intptr_t fd, int level, int name, int value):
        """Set an int option; 0 or ``-errno``."""
        return self.poller.set_option(fd, level, name, value)

    def bind(self, intptr_t fd, int family, address):
        """Bind to *address*; 0 or ``-errno``."""
        cdef Address packed
        pack_address(family, address, &packed)
        return self.poller.bind_socket(fd, packed.data, packed.size)

    def address_of(self, intptr_t fd, *, bint peer=False):
        """Return this or the other end's address, or ``-errno``."""
        cdef unsigned char data[ADDRESS_MAX]
        cdef int size = self.poller.address_of(fd, peer, data, ADDRESS_MAX)
        return size if size < 0 else unpack_address(data, size)

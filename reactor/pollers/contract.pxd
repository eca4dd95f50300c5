"""What a platform must supply: one page, in the manner of a completion port.

A caller fills an ``Op`` that it owns, submits it, and hears once that it is done. IOCP and
io_uring work this way by themselves; epoll and kqueue try the call at once, park it on
EAGAIN and finish it when the descriptor is ready. Nothing here lets a caller ask "is it
ready?" and be told by the poller alone: readiness is an op like any other (OP_READABLE).

The life of an op
-----------------
::

              submit, done in line                       (the result is there on return)
        +--------------------------------+
        |                                v
      IDLE --submit, must wait--> PENDING --ready or cancel--> DONE --dispatch--> IDLE

* IDLE: the op is its owner's, who may read the result, change it, free it.
* PENDING: it is the poller's, and so are its buffer and its descriptor; the owner may only
  cancel it. ``op.owner`` is kept alive.
* DONE: it is on the done list. ``complete`` is called for it and then its owner's
  ``op_done``, exactly once, also when it was cancelled (result ``-ECANCELED``).

A call-back that closes another connection of the same batch cancels that one's ops; a DONE
op stays on the list and completes as cancelled. So memory under the batch never goes away.

A completion port may have finished an op before the cancel reaches it. Bytes received, bytes
taken, a descriptor accepted are not lost by that: such an op is done with its result. So an
owner that cancels looks at what comes, and has a place for it.

Spurious wake-ups are the poller's to swallow: ``complete`` returns false and the op is
PENDING again. At most one op that reads and one that writes may be pending for a descriptor; a
second one that would have to wait is done in line with -EEXIST.

-errno is a number of errno.h. On Windows a poller translates what the system says: to errno.h's
number where a caller compares with one (EAGAIN, ECANCELED, EEXIST, EBADF, EINVAL, EMFILE,
ENOBUFS, ENOMEM, and ECONNABORTED of an accept), else to Winsock's (10054 for a reset), which
is what Python's errno module has there and what OSError makes its subclasses from.

Not here: files, name resolution, TLS, timers, and any promise about fairness beyond "a wait
returns what is ready, each descriptor at most once per direction".
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, intptr_t

from reactor.addresses cimport Address
from reactor.buffers cimport Vector
from reactor.pool cimport BlockPool


cdef enum OpKind:
    OP_RECEIVE                  # recv(2): result bytes, 0 for the end, -errno
    OP_SEND                     # send(2), sendmsg(2): result bytes, maybe fewer than given
    OP_ACCEPT                   # accept(2): result the new descriptor, attached, non-blocking.
                                #   A buffer has room for ADDRESS_MAX bytes: a poller that can
                                #   tell writes the peer's sockaddr there and its size to length
    OP_CONNECT                  # connect(2) to the sockaddr in buffer: result 0. Where the
                                #   system wants a bound socket (ConnectEx), the poller binds
                                #   one that is not to the wildcard address
    OP_READABLE                 # result 0 once a read would not block
    OP_WRITABLE                 # result 0 once a write would not block


cdef enum OpState:
    OP_IDLE
    OP_PENDING
    OP_DONE


cdef enum OpFlag:
    OP_TRY = 1                  # by the owner: likely possible at once, try before parking
    OP_NOWAIT = 2               # by the owner: make the call without waiting and never park,
                                #   -EAGAIN instead, as every platform's non-blocking send and
                                #   recv can; memory need not last. Only the deferred simulated
                                #   poller says -EAGAIN always, so that owners bear with it
    OP_CANCELLED = 4            # by the poller: cancelled, the result stands
                                # 0x100 and above: the poller's own while PENDING or DONE


cdef struct Op:
    OpKind kind
    OpState state               # written by the poller and the dispatch, read by the owner
    int flags
    int vector_count            # OP_SEND: buffers to gather, or 0 for buffer and length
    intptr_t fd                 # file descriptor or SOCKET
    char *buffer                # OP_RECEIVE: NULL to be lent a block when there is data; with
                                #   a result > 0 the block is the owner's until give_back
    Py_ssize_t length           # bytes in buffer, or of the sockaddr (OP_ACCEPT: 0 at first)
    Vector *vectors             # OP_SEND: stays the owner's, valid until the op is done
    Py_ssize_t result           # bytes, descriptor or 0; -errno for a failure
    Op *next                    # the done list's link
    void *detail                # the poller's own (an OVERLAPPED, a ticket); NULL while IDLE
    void *owner                 # an OpOwner; borrowed while IDLE, kept alive otherwise


cdef struct OpList:             # first in, first out
    Op *first
    Op *last


cdef inline void op_append(OpList *ops, Op *op) noexcept nogil:
    op.next = NULL
    if ops.last == NULL:
        ops.first = op
    else:
        ops.last.next = op
    ops.last = op


cdef inline Op *op_pop(OpList *ops) noexcept nogil:
    cdef Op *op = ops.first
    if op != NULL:
        ops.first = op.next
        if ops.first == NULL:
            ops.last = NULL
        op.next = NULL
    return op


cdef inline void op_splice(OpList *ops, OpList *tail) noexcept nogil:
    if tail.first == NULL:
        return
    if ops.last == NULL:
        ops.first = tail.first
    else:
        ops.last.next = tail.first
    ops.last = tail.last
    tail.first = tail.last = NULL


cdef class OpOwner:
    """Whoever embeds an Op: transports, listeners, connectors, watchers."""

    # The op is IDLE again and its result stands. Runs on the reactor's thread, outside the
    # poller, and may submit, cancel and close whatever it likes. What it raises goes to the
    # loop's exception handler, which cannot tell whose it is: a call-back's own failure is
    # dealt with before it gets here. SystemExit and KeyboardInterrupt end the run.
    cdef int op_done(self, Op *op) except -1


cdef class Poller:
    """The contract. All methods but ``wake`` belong to the reactor's thread."""

    cdef BlockPool pool                     # where blocks for bufferless receives come from
    cdef readonly Py_ssize_t live_ops       # ops that are PENDING or DONE
    cdef readonly bint closed
    cdef readonly bint foreign              # this process was forked from its own: of no use

    # -- ops -------------------------------------------------------------------------
    # OP_IDLE when it was done in line, else OP_PENDING. Never calls back. What receives,
    # accepts or waits for readiness is done in line only with OP_TRY or when it failed: so
    # whoever submits from op_done cannot recurse; where the system finishes a receive in line
    # all the same, the next wait delivers it. Sends and connects are tried as they come (a
    # send without OP_TRY may go straight to waiting). -ECANCELED in line once closed.
    cdef OpState submit(self, Op *op) noexcept
    # A PENDING op becomes DONE with -ECANCELED, now (its state says so on return) or soon; a
    # DONE op too; either one unless its result is in already and would be lost. Nothing
    # happens to an IDLE op. Until the op is DONE its descriptor must stay open.
    cdef void cancel(self, Op *op) noexcept
    # Block until an op is done, wake() is called, a signal comes or timeout_ns is over
    # (0: do not block; negative: no limit). Appends to *done*; runs no call-back; the only
    # call that lets go of the GIL. Raises only when the poller itself is broken.
    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1
    # The late half of a done op, just before its owner hears of it: epoll receives here, so
    # that a batch of a thousand borrows one block. False: it was nothing, PENDING again.
    # Makes no call for a cancelled op, whose descriptor may be gone or another's by now.
    cdef bint complete(self, Op *op) noexcept
    # Return a block that a bufferless receive was lent, once nobody reads it any more.
    cdef void give_back(self, char *block) noexcept
    # Make the present or the next wait return at once. Any thread, any signal handler.
    cdef void wake(self) noexcept nogil
    # A descriptor for signal.set_wakeup_fd(): each byte that is written to it ends the present
    # or the next wait. Opened when first asked for, closed with the poller. -errno.
    cdef intptr_t wakeup_fd(self) noexcept
    # Monotonic nanoseconds; a simulated poller keeps its own time.
    cdef int64_t now_ns(self) noexcept nogil

    # -- descriptors -----------------------------------------------------------------
    # A new non-blocking, close-on-exec socket, attached; or -errno.
    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept
    # Make somebody else's descriptor known; 0 or -errno. *fresh*: the number was just given
    # out by the system; whatever is known of it belonged to another, and its pending ops are
    # done as cancelled. Otherwise its ops wait on, and what they wait for is watched anew.
    cdef int attach(self, intptr_t fd, bint fresh) noexcept
    # Forget a descriptor without closing it. No op of it may be PENDING, nor DONE unless it
    # was cancelled.
    cdef void detach(self, intptr_t fd) noexcept
    # Watch a descriptor for what its pending ops wait for, and from now on for nothing else:
    # its owner may close it and leave a duplicate, of which the system would tell for ever.
    cdef void disarm(self, intptr_t fd) noexcept
    # Detach and close. 0 or -errno; the descriptor is gone either way (close(2), Linux).
    cdef int close_fd(self, intptr_t fd) noexcept
    # End the sending direction: the peer reads its end. 0 or -errno (shutdown(2)).
    cdef int shut_down(self, intptr_t fd) noexcept
    # Whether a receive would find something: 0 for nothing, 1 for bytes or the end, -errno for
    # a failure, which is then told. Takes no byte; may see none that a pending receive took.
    cdef int peek(self, intptr_t fd) noexcept
    # An int option of the socket; 0 or -errno (setsockopt(2)).
    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept
    # bind(2) to a sockaddr; 0 or -errno.
    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept
    # Write the sockaddr of this or (peer) the other end to *address*, of *size* bytes;
    # its size or -errno (getsockname(2), getpeername(2)).
    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept
    # Receive one datagram that has come, and its sender, of size 0 where it has no name: bytes
    # or -errno, -EAGAIN when there is none (recvfrom(2)). What does not fit is lost.
    cdef Py_ssize_t receive_from(self, intptr_t fd, char *buffer, Py_ssize_t size,
                                 Address *sender) noexcept
    # Send one datagram, or nothing of it, to an address or (NULL) to the peer: bytes or -errno
    # (sendto(2)).
    cdef Py_ssize_t send_to(self, intptr_t fd, const char *data, Py_ssize_t size,
                            const Address *receiver) noexcept

    # Free the poller's own resources. Ops still pending are appended to *done*, cancelled, and
    # what they had in hand is released. A completion port waits here until it has them back,
    # but not for ever: an op that the system does not give back in time has its memory and its
    # owner leaked, never freed under it. Afterwards only give_back, close_fd, detach, now_ns,
    # cancel, complete and, to be refused, submit may be called.
    cdef void close(self, OpList *done) noexcept


# The owner is kept alive from the moment an op becomes PENDING until it was dispatched.
cdef inline void hold(Poller poller, Op *op) noexcept:
    Py_INCREF(<object>op.owner)
    poller.live_ops += 1


cdef inline void let_go(Poller poller, Op *op) noexcept:
    poller.live_ops -= 1
    Py_DECREF(<object>op.owner)

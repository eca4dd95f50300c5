"""What the pollers of readiness have in common; the contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uint32_t

from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_DONE, OP_READABLE, OP_RECEIVE, Op, OpList, Poller, op_append,
)


cdef enum:                      # interest in a descriptor; the bits are epoll's own
    READ = 1
    WRITE = 4


cdef struct Slot:               # what is known of one descriptor; the table is indexed by it
    Op *reader                  # the pending op that reads, or NULL
    Op *writer                  # the pending op that writes, or NULL
    uint32_t interest           # what the system was last told; 0 when not in its set
    uint32_t generation         # counts uses of the number; an event of an older one is stale


cdef class ReadinessPoller(Poller):
    cdef object __weakref__
    cdef int signal_fds[2]      # the pipe for signal.set_wakeup_fd; -1 without one
    cdef Slot *slots
    cdef Py_ssize_t slot_count
    cdef OpList cancelled       # done by cancel, for the next wait

    # -- what a platform supplies, beside wait, wake and wakeup_fd --------------------------
    # Set the interest of a descriptor, for the system and in its slot; 0 or -errno. The same
    # as before is told once more.
    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept
    # See that the system watches for what an op wants, which is about to enter its slot; 0 or
    # -errno. By itself it tells of the interest.
    cdef int expect(self, Op *op, Slot *slot) noexcept
    # Close the poller's own descriptors.
    cdef void disown(self) noexcept

    # -- for who derives from it ---------------------------------------------------------
    # From now on a forked child lets go of it; for the end of __cinit__.
    cdef int mind_forks(self) except -1
    # What the system's wait returned, or -errno: how many events; raises for a broken poller.
    cdef int waited(self, int count) except -1
    # Let the table have a slot for *fd*; 0 or -errno.
    cdef int make_room(self, intptr_t fd) noexcept
    cdef bint attempt(self, Op *op) noexcept
    cdef void receive_block(self, Op *op) noexcept
    cdef void accept_attached(self, Op *op) noexcept
    cdef int park(self, Op *op) noexcept
    cdef void finish_cancelled(self, Op *op, OpList *done) noexcept
    cdef void cancel_pending(self, Slot *slot, OpList *done) noexcept


cdef inline bint reads(const Op *op) noexcept nogil:
    return op.kind == OP_RECEIVE or op.kind == OP_ACCEPT or op.kind == OP_READABLE


cdef inline void become_ready(Op **place, OpList *done) noexcept nogil:
    """Move the op of a slot's *place* to the done list."""
    place[0].state = OP_DONE
    op_append(done, place[0])
    place[0] = NULL

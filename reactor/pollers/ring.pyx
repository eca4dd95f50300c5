"""A ring of io_uring: what is asked of the kernel and has not come back.

Owns: the ring, the tickets that are out on it, what wakes its wait.  May not touch: what a ticket
is for, which is ``uring.pyx``'s, with the facts about io_uring.
Invariant: a ticket is in ``out`` exactly while the kernel may complete it; after each call of
io_uring_enter but a mere submission no completion is left unread.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.errno cimport EBADF, EEXIST, ENOMEM, EPERM
from libc.stdint cimport int32_t, int64_t, intptr_t, uint32_t, uint64_t

from reactor.pollers.contract cimport OP_CANCELLED, Op, OpList
from reactor.pollers.eventfd cimport EventfdPoller
from reactor.pollers.io_uring cimport (
    CAME_WITH_MORE, CODE_CANCEL, CODE_POLL_ADD, Completion, ENTER_GETEVENTS, ENTRY_SKIP_SUCCESS,
    Entry, FEAT_CQE_SKIP, FEAT_EXT_ARG, FEAT_FAST_POLL, FEAT_NODROP, FEAT_SUBMIT_STABLE,
    POLL_MULTISHOT, Ring, SETUP_COOP_TASKRUN, SETUP_DEFER_TASKRUN, SETUP_R_DISABLED,
    SETUP_SINGLE_ISSUER, SETUP_SUBMIT_ALL, SETUP_TASKRUN_FLAG, SQ_OVERFLOW, SQ_TASKRUN, Shelf,
    load, ring_close, ring_enable, ring_enter, ring_entry, ring_open, shelf_map, shelf_register,
    shelf_unmap, store,
)

import os
import sys

cdef extern from "errno.h" nogil:
    enum:
        EINVAL
        EMFILE
        ENFILE
        ENOSYS

cdef extern from "poll.h" nogil:
    enum:
        POLLIN

cdef enum:
    MAX_SPARE = 1024            # tickets that are kept; 120 KiB
    NEEDED = FEAT_NODROP | FEAT_SUBMIT_STABLE | FEAT_FAST_POLL | FEAT_EXT_ARG | FEAT_CQE_SKIP
    ONE_THREADS = SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_TASKRUN_FLAG | SETUP_R_DISABLED
    ANY_THREADS = SETUP_COOP_TASKRUN | SETUP_TASKRUN_FLAG

cdef bint works = False         # it did once in this process, so it does


cdef str reason_for(int error):
    """Return why io_uring_setup(2) failed with *error*, in words."""
    cdef str setting = ""
    if error == ENOSYS:
        return "uring needs Linux 6.0 with io_uring, or a seccomp filter hides it (ENOSYS)"
    if error == EINVAL:
        return "uring needs Linux 6.0: this kernel's io_uring lacks what it uses (EINVAL)"
    if error == EPERM:
        try:
            with open("/proc/sys/kernel/io_uring_disabled") as file:
                setting = file.read().strip()
        except OSError:
            pass
        if setting not in ("", "0"):
            return f"uring is forbidden: the sysctl kernel.io_uring_disabled is {setting} (EPERM)"
        return "uring is forbidden, by a seccomp filter or a security module (EPERM)"
    if error == ENOMEM:
        return "uring has no memory for its ring: ulimit -l (RLIMIT_MEMLOCK) may be low (ENOMEM)"
    return f"uring does not work: {os.strerror(error)}"


cdef str refusal():
    cdef Ring ring
    cdef Shelf *shelf
    cdef int error
    global works
    if works:
        return ""
    if sys.byteorder != "little":
        return "uring is for little-endian machines: poll's bits are in another order elsewhere"
    error = ring_open(&ring, 2, 4, ONE_THREADS)
    if error == -EINVAL:
        error = ring_open(&ring, 2, 4, ANY_THREADS)
    if error == 0:
        if ring.features & NEEDED != NEEDED:
            error = -EINVAL
        else:
            shelf = shelf_map(1)
            error = -ENOMEM if shelf == NULL else shelf_register(&ring, shelf, 1)
            ring_close(&ring)
            shelf_unmap(shelf, 1)
    if error < 0 and error != -EMFILE and error != -ENFILE:
        return reason_for(-error)
    works = error == 0
    return ""


cdef class RingPoller(EventfdPoller):
    """A poller over a ring, which *entries*, *completions* and *shared* are of."""

    def __cinit__(self, *args, unsigned int entries=256, unsigned int completions=4096,
                  bint shared=False, **kwargs):
        self.ring.fd = -1
        self.entries = entries
        self.completions = completions
        self.shared = shared

    def __dealloc__(self):
        cdef Ticket *ticket
        while self.spare != NULL:
            ticket = self.spare
            self.spare = ticket.next
            PyMem_RawFree(ticket)

    cdef int equip(self) noexcept:
        return 0

    cdef int begin(self, Ticket *ticket) noexcept:
        return -EINVAL

    cdef void begin_again(self) noexcept:
        pass

    cdef void answer(self, Ticket *ticket, int result, uint32_t flags, OpList *done) noexcept:
        pass

    cdef void fell(self, Ticket *ticket) noexcept:
        pass

    # -- tickets -----------------------------------------------------------------------

    cdef Ticket *take_ticket(self, Op *op) noexcept:
        cdef Ticket *ticket = self.spare
        if ticket != NULL:
            self.spare = ticket.next
            self.spare_count -= 1
        else:
            ticket = <Ticket *>PyMem_RawCalloc(1, sizeof(Ticket))
            if ticket == NULL:
                return NULL
        ticket.op = op
        ticket.stands = ticket.guards = ticket.revoked = False
        ticket.before = NULL
        ticket.next = self.out
        if self.out != NULL:
            self.out.before = ticket
        self.out = ticket
        if op != NULL:
            op.detail = ticket
        return ticket

    cdef void return_ticket(self, Ticket *ticket) noexcept:
        if ticket.before != NULL:
            ticket.before.next = ticket.next
        else:
            self.out = ticket.next
        if ticket.next != NULL:
            ticket.next.before = ticket.before
        if ticket.op != NULL:
            ticket.op.detail = NULL
        if ticket.stands or ticket.guards:
            self.fell(ticket)
        if self.spare_count >= MAX_SPARE:
            PyMem_RawFree(ticket)
            return
        ticket.next = self.spare
        self.spare = ticket
        self.spare_count += 1

    cdef void revoke(self, Ticket *ticket) noexcept:
        cdef Entry *entry = self.next_entry()
        if entry == NULL:
            self.unasked = True
            return
        entry.opcode = CODE_CANCEL
        entry.flags = ENTRY_SKIP_SUCCESS
        entry.address = <uint64_t><size_t>ticket
        entry.user_data = CANCEL_MARK

    cdef void revoke_again(self) noexcept:
        cdef Ticket *ticket = self.out
        cdef Ticket *following
        cdef bint shared = self.shared
        self.unasked = False
        while ticket != NULL and not self.unasked and self.shared == shared:
            following = ticket.next     # to ask may free the ticket: move()
            if ticket.op != NULL:
                if ticket.op.flags & OP_CANCELLED:
                    self.revoke(ticket)
            elif not (ticket.stands or ticket.guards):
                self.revoke(ticket)
            ticket = following

    # -- the ring ----------------------------------------------------------------------

    cdef int open_first(self) noexcept:
        cdef int error = self.open_ring()
        if error == -EINVAL and not self.shared:
            self.shared = True
            error = self.open_ring()
        return error

    cdef int open_ring(self) noexcept:
        """Open a ring of the kind that ``shared`` says; 0 or -errno."""
        cdef unsigned int kind = ANY_THREADS if self.shared else ONE_THREADS
        cdef int error = ring_open(&self.ring, self.entries, self.completions,
                                   kind | SETUP_SUBMIT_ALL)
        if error < 0:
            return error
        if self.ring.features & NEEDED != NEEDED:
            error = -EINVAL
        else:
            error = self.equip()
        if error < 0:
            ring_close(&self.ring)
        self.enabled = self.shared
        self.wake_watched = self.signals_watched = False
        return error

    cdef int enter(self, unsigned int flags, unsigned int wait_for, int64_t timeout_ns) noexcept:
        cdef int count = 0
        if self.ring.fd < 0:
            return -EBADF
        if not self.enabled:
            count = ring_enable(&self.ring)
            if count < 0:
                return count
            self.enabled = True
        count = ring_enter(&self.ring, flags, wait_for, timeout_ns)
        if count == -EEXIST:
            count = self.move()
            if count == 0:
                count = ring_enter(&self.ring, flags, wait_for, timeout_ns)
        return count

    cdef int move(self) noexcept:
        """Go over to a ring that any thread may enter; 0 or -errno.

        The old one's thread is not here, so none of its requests goes on: what is complete is
        read, all others are asked for again.
        """
        cdef Ring old = self.ring
        cdef int error
        if self.shared:
            return -EEXIST
        self.shared = True
        error = self.open_ring()
        if error < 0:
            self.ring = old
            self.shared = False
            return error
        self.moving = True
        self.harvest(&old, &self.arrived)
        self.moving = False
        ring_close(&old)
        self.begin_again()
        self.watch_wakeups()
        return 0

    cdef Entry *next_entry(self) noexcept:
        cdef Entry *entry
        if self.ring.fd < 0:
            return NULL
        entry = ring_entry(&self.ring)
        if entry == NULL and not self.moving:
            self.enter(0, 0, 0)
            entry = ring_entry(&self.ring)
        return entry

    cdef void flush(self) noexcept:
        if self.enter(ENTER_GETEVENTS, 0, 0) != -EBADF:
            self.harvest(&self.ring, &self.arrived)

    cdef inline bint has_news(self) noexcept:
        cdef Ring *ring = &self.ring
        return (ring.filled != load(ring.sq_head) or load(ring.cq_tail) != ring.cq_head[0]
                or load(ring.sq_flags) & <uint32_t>(SQ_OVERFLOW | SQ_TASKRUN))

    cdef void harvest(self, Ring *ring, OpList *done) noexcept:
        cdef uint32_t head = ring.cq_head[0]
        cdef uint32_t tail
        cdef Completion *came
        while True:
            tail = load(ring.cq_tail)
            while head != tail:
                came = &ring.completions[head & ring.cq_mask]
                head += 1
                if came.user_data > CANCEL_MARK:
                    self.answer(<Ticket *><size_t>came.user_data, came.result, came.flags, done)
                elif came.user_data == WAKE_MARK:
                    self.drain(self.wake_fd)
                    self.wake_watched &= came.flags & CAME_WITH_MORE != 0
                elif came.user_data == SIGNAL_MARK:
                    self.drain(self.signal_fds[0])
                    self.signals_watched &= came.flags & CAME_WITH_MORE != 0
            store(ring.cq_head, head)
            if self.moving or not load(ring.sq_flags) & <uint32_t>SQ_OVERFLOW:
                return
            if ring_enter(ring, ENTER_GETEVENTS, 0, 0) < 0:
                return

    cdef bint is_calm(self, intptr_t fd) noexcept:
        """True when the kernel says that nothing came for any request, *fd*'s among them."""
        cdef Op *op
        if self.shared or fd < 0 or fd >= self.slot_count:
            return False
        op = self.slots[fd].reader
        if op == NULL or op.detail == NULL or self.ring.fd < 0:
            return False
        # The kernel has taken the entry, and has nothing to do.
        return (<int32_t>(load(self.ring.sq_head) - (<Ticket *>op.detail).place) >= 0
                and load(self.ring.cq_tail) == self.ring.cq_head[0]
                and not load(self.ring.sq_flags) & <uint32_t>(SQ_OVERFLOW | SQ_TASKRUN))

    cdef void disarm(self, intptr_t fd) noexcept:
        pass                            # a request goes with its op

    cdef void disown(self) noexcept:
        if self.ring.fd >= 0:
            ring_close(&self.ring)
        EventfdPoller.disown(self)

    # -- wake-ups --------------------------------------------------------------------

    cdef void watch_wakeups(self) noexcept:
        if not self.wake_watched:
            self.wake_watched = self.watch(self.wake_fd, WAKE_MARK)
        if not self.signals_watched and self.signal_fds[0] >= 0:
            self.signals_watched = self.watch(self.signal_fds[0], SIGNAL_MARK)

    cdef bint watch(self, int fd, uint64_t mark) noexcept:
        cdef bint shared = self.shared
        cdef Entry *entry = self.next_entry()
        if self.shared != shared:
            return True                 # the ring was left, and this watched on the new one
        if entry == NULL:
            return False
        entry.opcode = CODE_POLL_ADD
        entry.fd = fd
        entry.op_flags = POLLIN
        entry.length = POLL_MULTISHOT
        entry.user_data = mark
        return True

"""The other poller of Linux, which is only used when it is asked for.

Some facts about io_uring, as measured and as used here:

* A request is memory that is shared with the kernel: an entry, which is taken by the next
  io_uring_enter, the same call that waits. What the op has (its buffer, its vectors) is the
  kernel's until its completion, also after a cancel. A completion names a *ticket*, the poller's
  own, which outlives an op that somebody else has taken the place of.
* A request holds the open file, not the number: closing the number ends neither the request nor
  the connection. So who closes first cancels. A cancel is itself a request, which a stream's
  waits with for the next wait, as its owner does; a cancelled accept or watch is asked for at
  once, as its owner may close the descriptor without waiting.
* With IORING_SETUP_DEFER_TASKRUN nothing at all happens between two calls of io_uring_enter: no
  byte is taken from a socket. And the kernel says in shared memory when it has something to do,
  so a wait that must not block, and a look whether anything came for a connection, cost no call.
* Such a ring is one thread's (IORING_SETUP_SINGLE_ISSUER), that of its first wait. A loop may be
  run by several in turns (the blocking client's is): when another thread enters, all that is out
  is asked for again on a ring that any thread may enter, which is then kept.
* What a thread has asked for is cancelled when it ends. A request that comes back as cancelled and
  was not is asked for again.
* A receive without a buffer has one picked by the kernel, when there are bytes, from a shelf of the
  pool's blocks. When the shelf is empty the kernel says ENOBUFS, and the op is done as on
  epoll: it is known to be readable, and receives into one block as its owner hears of it. The
  shelf then has more blocks, up to its limit.
* Accepts and connects are readiness here: their calls are made by us. A connect to a UNIX path that
  says EAGAIN must say so at once; a multishot accept takes connections that nobody asked for.
* Where completions find no room the kernel keeps them, and says so; they are fetched at once.
* io_uring polls what has no readiness, a regular file, as always ready; epoll refuses it, and so
  does ``attach`` here, which asks.
* A forked child has the ring's memory and descriptor: both are let go of as it begins.

Owns: the ring, the tickets, the shelf; the calls on sockets and an op's late half are
``readiness.pyx``'s, what wakes is ``eventfd.pyx``'s.  May not touch: Python objects other than
through an op's owner count; call-backs.
Invariant: a ticket is in ``out`` exactly while the kernel may complete it; after each call of
io_uring_enter but a mere submission no completion is left unread.
"""

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.errno cimport EAGAIN, EBADF, EBUSY, EEXIST, EINTR, ENOBUFS, ENOMEM, EPERM, errno
from libc.stdint cimport int32_t, int64_t, intptr_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.stat cimport S_ISDIR, S_ISREG, fstat, struct_stat

from reactor.pollers.contract cimport (
    OP_CANCELLED, OP_DONE, OP_PENDING, OP_RECEIVE, OP_SEND, Op, OpList, op_append, op_splice,
)
from reactor.pollers.eventfd cimport EventfdPoller
from reactor.pollers.io_uring cimport (
    CAME_WITH_BUFFER, CAME_WITH_MORE, CANCEL_ALL, CANCEL_ANY, CODE_CANCEL, CODE_POLL_ADD,
    CODE_RECEIVE, CODE_SEND, CODE_SENDMSG, Completion, ENTER_GETEVENTS, ENTRY_BUFFER_SELECT,
    ENTRY_SKIP_SUCCESS, Entry, FEAT_CQE_SKIP, FEAT_EXT_ARG, FEAT_FAST_POLL, FEAT_NODROP,
    FEAT_SUBMIT_STABLE, POLL_FIRST, POLL_MULTISHOT, Ring, SETUP_COOP_TASKRUN, SETUP_DEFER_TASKRUN,
    SETUP_R_DISABLED, SETUP_SINGLE_ISSUER, SETUP_SUBMIT_ALL, SETUP_TASKRUN_FLAG, SQ_OVERFLOW,
    SQ_TASKRUN, Shelf, load, ring_close, ring_enable, ring_enter, ring_entry, ring_open,
    shelf_map, shelf_put, shelf_register, shelf_unmap, store,
)
from reactor.pollers.posix_sockets cimport MSG_NOSIGNAL, close_now
from reactor.pollers.readiness cimport ReadinessPoller, Slot, reads
from reactor.pool cimport BlockPool

import os
import sys

cdef extern from "errno.h" nogil:
    enum:
        EBADFD
        ECANCELED
        EINVAL
        EMFILE
        ENFILE
        ENOSYS
        ETIME

cdef extern from "poll.h" nogil:
    enum:
        POLLIN
        POLLOUT

cdef enum:
    ANSWERED = 0x100            # an op's flag: the kernel made its call, the result is in
    MAX_SPARE = 1024            # tickets that are kept; 96 KiB
    FIRST_BLOCKS = 8            # on the shelf, while that is enough
    MOST_BYTES = 0x7FFFF000     # that one call transfers (read(2))
    CLOSE_MS = 5_000            # how long the system may take to give tickets back
    NEEDED = FEAT_NODROP | FEAT_SUBMIT_STABLE | FEAT_FAST_POLL | FEAT_EXT_ARG | FEAT_CQE_SKIP
    ONE_THREADS = SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_TASKRUN_FLAG | SETUP_R_DISABLED
    ANY_THREADS = SETUP_COOP_TASKRUN | SETUP_TASKRUN_FLAG

# What a completion names that is no ticket's.
cdef uint64_t WAKE_MARK = 1
cdef uint64_t SIGNAL_MARK = 2
cdef uint64_t CANCEL_MARK = 3

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


def why_not():
    """Return why io_uring cannot be used by this process, or ``""``."""
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


cdef inline bint transfers(const Op *op) noexcept nogil:
    """True of an op whose call the kernel makes; of another it tells when to make it."""
    return op.kind == OP_RECEIVE or op.kind == OP_SEND


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(Ring *ring, int64_t timeout_ns) noexcept nogil:
    return ring_enter(ring, ENTER_GETEVENTS, 1, timeout_ns)


@cython.final
cdef class UringPoller(EventfdPoller):
    """io_uring(7) behind the completion contract.  Lends receives blocks of *pool*.

    Args:
        pool: where the blocks on the shelf come from.
        entries: requests that one call submits.
        completions: for which there is room before the kernel has to keep them.
        places: blocks on the shelf at most; a power of two.
        shared: any thread may enter the ring from the beginning.

    Raises ``OSError`` when the kernel refuses (``why_not`` says why), or the process or the
    system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None, *, unsigned int entries=256,
                  unsigned int completions=4096, unsigned int places=64, bint shared=False):
        cdef int error
        cdef unsigned int number
        self.ring.fd = -1
        self.entries = entries
        self.completions = completions
        self.places = self.vacant_count = places
        self.wanted = min(<unsigned int>FIRST_BLOCKS, places)
        self.shared = shared
        self.blocks = <char **>PyMem_RawCalloc(places, sizeof(char *))
        self.vacant = <uint16_t *>PyMem_RawCalloc(places, sizeof(uint16_t))
        self.shelf = shelf_map(places)
        if self.blocks == NULL or self.vacant == NULL or self.shelf == NULL:
            raise MemoryError("no memory for the shelf of blocks")
        for number in range(places):
            self.vacant[number] = number
        error = self.open_ring()
        if error == -EINVAL and not shared:
            self.shared = True
            error = self.open_ring()
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        self.open_wake_fd()
        self.mind_forks()

    def __dealloc__(self):
        cdef Ticket *ticket
        cdef unsigned int number
        cdef bint written = self.shared and self.out != NULL
        if self.blocks != NULL:         # else it was never made
            self.disown()
        while self.spare != NULL:
            ticket = self.spare
            self.spare = ticket.next
            PyMem_RawFree(ticket)
        if written:
            return                      # the kernel may write to them: they stay
        if self.blocks != NULL:
            for number in range(self.places):
                PyMem_RawFree(self.blocks[number])
        PyMem_RawFree(self.blocks)
        PyMem_RawFree(self.vacant)
        shelf_unmap(self.shelf, self.places)

    # -- ops -------------------------------------------------------------------------

    cdef void cancel(self, Op *op) noexcept:
        if op.state == OP_PENDING:
            if not op.flags & OP_CANCELLED:
                op.flags |= OP_CANCELLED
                if self.ring.fd < 0:
                    self.answer(<Ticket *>op.detail, -ECANCELED, 0, &self.arrived)
                    return
                self.revoke(<Ticket *>op.detail)
                if not transfers(op):
                    self.flush()
        elif op.state == OP_DONE:
            if op.flags & ANSWERED and op.result != 0:
                return                  # bytes that were taken, or a failure that is told once
            op.flags |= OP_CANCELLED
            op.result = -ECANCELED

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        cdef int count = 0
        if self.foreign:
            return self.waited(-EBADF)
        if not (self.wake_watched and (self.signals_watched or self.signal_fds[0] < 0)):
            self.watch_wakeups()
        if self.unasked:
            self.revoke_again()
        if self.ran_short or self.places - self.vacant_count < self.wanted:
            self.stock()
        if timeout_ns == 0 or self.arrived.first != NULL:
            if self.shared or self.has_news():
                count = self.enter(ENTER_GETEVENTS, 0, 0)
        else:
            if not self.enabled:
                count = ring_enable(&self.ring)
                self.enabled = count == 0
            if count == 0:
                with nogil:
                    count = wait_now(&self.ring, timeout_ns)
                if count == -EEXIST:
                    count = self.move()
        op_splice(done, &self.arrived)
        self.harvest(&self.ring, done)
        if count < 0 and count not in (-ETIME, -EAGAIN, -EBUSY):
            self.waited(count)
        return 0

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & ANSWERED:
            return True
        return ReadinessPoller.complete(self, op)

    cdef void give_back(self, char *block) noexcept:
        if self.places - self.vacant_count < self.wanted and not self.closed:
            self.pool.set_aside()
            self.put_on_shelf(block)
        else:
            self.pool.release(block)

    cdef void close(self, OpList *done) noexcept:
        cdef Ticket *ticket
        cdef Ticket *following
        cdef Entry *entry
        cdef int64_t until
        cdef int count
        if self.closed:
            return
        self.closed = True
        op_splice(done, &self.arrived)
        ticket = self.out
        while ticket != NULL:
            following = ticket.next
            if ticket.op != NULL:
                ticket.op.flags |= OP_CANCELLED
                if self.foreign:
                    self.answer(ticket, -ECANCELED, 0, done)
            ticket = following
        if not self.foreign:
            until = self.now_ns() + <int64_t>CLOSE_MS * 1_000_000
            while self.out != NULL and self.now_ns() < until:
                entry = self.next_entry()
                if entry != NULL:
                    entry.opcode = CODE_CANCEL
                    entry.op_flags = CANCEL_ALL | CANCEL_ANY
                    entry.user_data = CANCEL_MARK
                count = self.enter(ENTER_GETEVENTS, 1, 10_000_000)
                if count < 0 and count not in (-ETIME, -EINTR, -EAGAIN, -EBUSY):
                    break
                self.harvest(&self.ring, done)
            op_splice(done, &self.arrived)
        self.disown()
        if self.out == NULL:
            self.clear_shelf()

    # -- descriptors -----------------------------------------------------------------

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        cdef int error = self.make_room(fd)
        cdef struct_stat status
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[fd]
        if fresh:
            self.abandon(slot)
            return 0
        if fstat(<int>fd, &status) < 0:
            return -errno
        if S_ISREG(status.st_mode) or S_ISDIR(status.st_mode):
            return -EPERM
        # Somebody may have closed an earlier user of the number without telling.
        if slot.reader != NULL and not transfers(slot.reader):
            self.watch_anew(slot.reader)
        if slot.writer != NULL and not transfers(slot.writer):
            self.watch_anew(slot.writer)
        return 0

    cdef void detach(self, intptr_t fd) noexcept:
        if 0 <= fd < self.slot_count:
            self.abandon(&self.slots[fd])

    cdef int close_fd(self, intptr_t fd) noexcept:
        self.detach(fd)
        return close_now(fd)

    cdef int peek(self, intptr_t fd) noexcept:
        cdef int found = EventfdPoller.peek(self, fd)
        cdef Op *reader = self.slots[fd].reader if 0 <= fd < self.slot_count else NULL
        if found != 0 or reader == NULL or not self.shared or self.ring.fd < 0:
            return found
        # On a ring of all threads the kernel makes calls between two of ours: it may have
        # received what nobody else will see.
        self.harvest(&self.ring, &self.arrived)
        if reader.state != OP_DONE:
            return 0
        return <int>reader.result if reader.flags & ANSWERED and reader.result < 0 else 1

    # -- beginning and cancelling ------------------------------------------------------

    cdef int expect(self, Op *op, Slot *slot) noexcept:
        """Write the op's entry; 0 or -errno."""
        cdef Ticket *ticket = self.take_ticket(op)
        cdef int error
        if ticket == NULL:
            return -ENOMEM
        error = self.begin(ticket)
        if error < 0:
            self.return_ticket(ticket)
        return error

    cdef Ticket *take_ticket(self, Op *op) noexcept:
        """Return a ticket for *op*, out from now on; or NULL."""
        cdef Ticket *ticket = self.spare
        if ticket != NULL:
            self.spare = ticket.next
            self.spare_count -= 1
        else:
            ticket = <Ticket *>PyMem_RawCalloc(1, sizeof(Ticket))
            if ticket == NULL:
                return NULL
        ticket.op = op
        ticket.before = NULL
        ticket.next = self.out
        if self.out != NULL:
            self.out.before = ticket
        self.out = ticket
        op.detail = ticket
        return ticket

    cdef void return_ticket(self, Ticket *ticket) noexcept:
        """The kernel does not have it any more."""
        if ticket.before != NULL:
            ticket.before.next = ticket.next
        else:
            self.out = ticket.next
        if ticket.next != NULL:
            ticket.next.before = ticket.before
        if ticket.op != NULL:
            ticket.op.detail = NULL
        if self.spare_count >= MAX_SPARE:
            PyMem_RawFree(ticket)
            return
        ticket.next = self.spare
        self.spare = ticket
        self.spare_count += 1

    cdef int begin(self, Ticket *ticket) noexcept:
        """Write the entry of what a ticket is for; 0 or -errno."""
        cdef Op *op = ticket.op
        cdef bint shared = self.shared
        cdef Entry *entry = self.next_entry()
        if self.shared != shared:
            return 0                    # the ring was left, and this one begun with all others
        if entry == NULL:
            return -ENOMEM
        ticket.place = self.ring.filled
        entry.fd = <int32_t>op.fd
        entry.user_data = <uint64_t><size_t>ticket
        if op.kind == OP_RECEIVE:
            entry.opcode = CODE_RECEIVE
            entry.ioprio = POLL_FIRST
            if op.buffer == NULL:
                entry.flags = ENTRY_BUFFER_SELECT
            else:
                entry.address = <uint64_t><size_t>op.buffer
                entry.length = <uint32_t>min(op.length, MOST_BYTES)
        elif op.kind == OP_SEND:
            entry.ioprio = POLL_FIRST
            entry.op_flags = MSG_NOSIGNAL
            if op.vector_count:
                memset(&ticket.message, 0, sizeof(msghdr))
                ticket.message.msg_iov = op.vectors
                ticket.message.msg_iovlen = op.vector_count
                entry.opcode = CODE_SENDMSG
                entry.address = <uint64_t><size_t>&ticket.message
                entry.length = 1
            else:
                entry.opcode = CODE_SEND
                entry.address = <uint64_t><size_t>op.buffer
                entry.length = <uint32_t>min(op.length, MOST_BYTES)
        else:
            entry.opcode = CODE_POLL_ADD
            entry.op_flags = POLLIN if reads(op) else POLLOUT
        return 0

    cdef void revoke(self, Ticket *ticket) noexcept:
        """Ask the kernel to give a ticket back."""
        cdef Entry *entry = self.next_entry()
        if entry == NULL:
            self.unasked = True
            return
        entry.opcode = CODE_CANCEL
        entry.flags = ENTRY_SKIP_SUCCESS
        entry.address = <uint64_t><size_t>ticket
        entry.user_data = CANCEL_MARK

    cdef void revoke_again(self) noexcept:
        """Ask for all tickets that are to come back, as a cancel found no place in the ring."""
        cdef Ticket *ticket = self.out
        cdef Ticket *following
        cdef bint shared = self.shared
        self.unasked = False
        while ticket != NULL and not self.unasked and self.shared == shared:
            following = ticket.next     # to ask may free the ticket: move()
            if ticket.op == NULL or ticket.op.flags & OP_CANCELLED:
                self.revoke(ticket)
            ticket = following

    cdef void watch_anew(self, Op *op) noexcept:
        """Watch the present user of the op's number."""
        cdef Ticket *ticket = <Ticket *>op.detail
        if self.take_ticket(op) == NULL:
            return
        if self.begin(<Ticket *>op.detail) < 0:
            self.return_ticket(<Ticket *>op.detail)
            op.detail = ticket
            return
        ticket.op = NULL
        self.revoke(ticket)

    cdef void abandon(self, Slot *slot) noexcept:
        """Forget a user of a number; what it has pending comes back cancelled."""
        cdef Op *reader = slot.reader
        cdef Op *writer = slot.writer
        if reader == NULL and writer == NULL:
            return
        slot.reader = slot.writer = NULL
        if reader != NULL:
            self.cancel(reader)
        if writer != NULL:
            self.cancel(writer)
        self.flush()                    # the number may be closed next

    # -- the ring --------------------------------------------------------------------

    cdef int open_ring(self) noexcept:
        """Open a ring of the kind that ``shared`` says, with the shelf; 0 or -errno."""
        cdef unsigned int kind = ANY_THREADS if self.shared else ONE_THREADS
        cdef int error = ring_open(&self.ring, self.entries, self.completions,
                                   kind | SETUP_SUBMIT_ALL)
        if error < 0:
            return error
        if self.ring.features & NEEDED != NEEDED:
            error = -EINVAL
        else:
            error = shelf_register(&self.ring, self.shelf, self.places)
        if error < 0:
            ring_close(&self.ring)
        self.enabled = self.shared
        self.wake_watched = self.signals_watched = False
        return error

    cdef int enter(self, unsigned int flags, unsigned int wait_for, int64_t timeout_ns) noexcept:
        """io_uring_enter(2) with the GIL held; what it returned, or -errno."""
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
        cdef Ticket *ticket
        cdef Ticket *following
        cdef unsigned int number
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
        # as the new ring begins to count; there may be no block to put
        self.shelf_tail = self.shelf.tail = 0
        for number in range(self.places):
            if self.blocks[number] != NULL:
                shelf_put(self.shelf, self.places - 1, &self.shelf_tail, self.blocks[number],
                          <uint32_t>self.pool.block_size, <uint16_t>number)
        ticket = self.out
        while ticket != NULL:
            following = ticket.next
            if ticket.op == NULL:
                self.return_ticket(ticket)
            elif ticket.op.flags & OP_CANCELLED or self.begin(ticket) < 0:
                self.answer(ticket, -ECANCELED, 0, &self.arrived)
            ticket = following
        self.watch_wakeups()
        return 0

    cdef Entry *next_entry(self) noexcept:
        """Return an entry to be written, or NULL when the kernel takes none."""
        cdef Entry *entry
        if self.ring.fd < 0:
            return NULL
        entry = ring_entry(&self.ring)
        if entry == NULL and not self.moving:
            self.enter(0, 0, 0)
            entry = ring_entry(&self.ring)
        return entry

    cdef void flush(self) noexcept:
        """Have the kernel do what it was asked to."""
        if self.enter(ENTER_GETEVENTS, 0, 0) >= 0:
            self.harvest(&self.ring, &self.arrived)

    cdef inline bint has_news(self) noexcept:
        """True when the kernel has something to tell or to do, or we have for it."""
        cdef Ring *ring = &self.ring
        return (ring.filled != load(ring.sq_head) or load(ring.cq_tail) != ring.cq_head[0]
                or load(ring.sq_flags) & <uint32_t>(SQ_OVERFLOW | SQ_TASKRUN))

    cdef void harvest(self, Ring *ring, OpList *done) noexcept:
        """Read all completions."""
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

    cdef void answer(self, Ticket *ticket, int result, uint32_t flags, OpList *done) noexcept:
        """The kernel is through with a ticket."""
        cdef Op *op = ticket.op
        cdef Slot *slot
        cdef char *block = NULL
        if flags & CAME_WITH_BUFFER:
            block = self.take_from_shelf(flags >> 16)
        if op == NULL:
            self.return_ticket(ticket)
            if block != NULL:
                self.put_on_shelf(block)
            return
        if result == -ECANCELED and not op.flags & OP_CANCELLED:
            # Whose thread has ended; or on a ring that is given up.
            if block != NULL:
                self.put_on_shelf(block)
                block = NULL
            if self.moving or self.begin(ticket) == 0:
                return
        self.return_ticket(ticket)
        slot = &self.slots[op.fd]
        if slot.reader == op:
            slot.reader = NULL
        elif slot.writer == op:
            slot.writer = NULL
        self.finish(op, result, block)
        op.state = OP_DONE
        op_append(done, op)

    cdef void finish(self, Op *op, int result, char *block) noexcept:
        """Write what came of an op into it."""
        op.result = result
        if transfers(op):
            if result == -ENOBUFS and op.kind == OP_RECEIVE and op.buffer == NULL:
                self.ran_short = True
            elif result not in (-EAGAIN, -EINTR):
                op.flags |= ANSWERED
        elif result < 0:
            op.flags |= ANSWERED
        if block != NULL:
            if result > 0:
                op.buffer = block
                op.length = self.pool.block_size
                self.pool.lend()
            else:
                self.put_on_shelf(block)
        if op.flags & OP_CANCELLED:
            if op.flags & ANSWERED and result != 0 and result != -ECANCELED:
                op.flags &= ~OP_CANCELLED       # it was over before: its result stands
            else:
                op.result = -ECANCELED

    cdef bint is_calm(self, intptr_t fd) noexcept:
        """True when the kernel says that nothing came for any request, *fd*'s among them."""
        cdef Op *op
        if self.shared or fd < 0 or fd >= self.slot_count:
            return False
        op = self.slots[fd].reader
        if op == NULL or self.ring.fd < 0:
            return False
        # The kernel has taken the entry, and has nothing to do.
        return (<int32_t>(load(self.ring.sq_head) - (<Ticket *>op.detail).place) >= 0
                and load(self.ring.cq_tail) == self.ring.cq_head[0]
                and not load(self.ring.sq_flags) & <uint32_t>(SQ_OVERFLOW | SQ_TASKRUN))

    cdef void disown(self) noexcept:
        if self.ring.fd >= 0:
            ring_close(&self.ring)
        EventfdPoller.disown(self)

    # -- wake-ups --------------------------------------------------------------------

    cdef void watch_wakeups(self) noexcept:
        """See that the eventfd is watched, and the pipe if there is one."""
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

    # -- the shelf -------------------------------------------------------------------

    cdef void put_on_shelf(self, char *block) noexcept:
        """Let the kernel have a block that is aside."""
        cdef uint16_t number
        self.vacant_count -= 1
        number = self.vacant[self.vacant_count]
        self.blocks[number] = block
        shelf_put(self.shelf, self.places - 1, &self.shelf_tail, block,
                  <uint32_t>self.pool.block_size, number)

    cdef char *take_from_shelf(self, uint32_t number) noexcept:
        """The kernel has taken a block: return it, still aside."""
        cdef char *block = self.blocks[number]
        self.blocks[number] = NULL
        self.vacant[self.vacant_count] = <uint16_t>number
        self.vacant_count += 1
        return block

    cdef void stock(self) noexcept:
        """Put as many blocks on the shelf as are wanted there."""
        cdef char *block
        if self.ran_short:
            self.ran_short = False
            self.wanted = min(2 * self.wanted, self.places)
        while self.places - self.vacant_count < self.wanted:
            block = self.pool.acquire_aside()
            if block == NULL:
                return
            self.put_on_shelf(block)

    cdef void clear_shelf(self) noexcept:
        """The ring is gone: give the pool its blocks back."""
        cdef unsigned int number
        for number in range(self.places):
            if self.blocks[number] != NULL:
                self.pool.lend()
                self.pool.release(self.take_from_shelf(number))

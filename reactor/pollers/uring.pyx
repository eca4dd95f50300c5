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
* From the second in a row on such a receive *stands* (IORING_RECV_MULTISHOT): it goes on, ops come
  and go. It may take bytes that nobody has asked for. They are held, in their order, with the
  end or the failure after them, and are had first by whatever reads through the poller. What is
  held of a connection, and what is on the shelf, is the shelf's: no more than it has places.
* Since nothing is taken between two calls, and all completions are read after each, what is in the
  socket comes after what is held. So only who reads past the poller must not have it stand: it
  is ended by the wait that finds no op there, by whatever asks for readiness or brings memory of
  its own, by a detach, and, for a while, where much is held.
* A cancel may miss a request that is just about to receive (ENOENT), and a multishot one then goes
  on. So an end is asked for until it has come.
* A multishot receive that finds the end or a failure there with the last bytes may tell of the
  bytes only, and then waits for ever (6.18: of a UNIX socket's end, and of a reset on TCP). So each
  has a *guard*, a poll for the peer's end. When that tells, the receive stands no more.
* On a ring that any thread may enter bytes come at any time: no receive stands there.
* Accepts and connects are readiness here: their calls are made by us. A connect to a UNIX path that
  says EAGAIN must say so at once; a multishot accept takes connections that nobody asked for.
* Where completions find no room the kernel keeps them, and says so; they are fetched at once.
* io_uring polls what has no readiness, a regular file, as always ready; epoll refuses it, and so
  does ``attach`` here, which asks.
* A forked child has the ring's memory and descriptor: both are let go of as it begins.

Owns: what each ticket is for, and what is held for each descriptor; the ring is ``ring.pyx``'s, the
shelf ``shelf.pxd``'s, the calls on sockets and an op's late half are ``readiness.pyx``'s.  May not
touch: Python objects other than through an op's owner count; call-backs.
Invariant: an op waits on a receive that stands only while nothing is held; and where an op waits
for what is held, or a receive stands that nobody waits on, the next wait looks.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree
from libc.errno cimport EAGAIN, EBADF, EBUSY, EEXIST, EINTR, ENOBUFS, ENOMEM, EPERM, errno
from libc.stdint cimport int32_t, int64_t, intptr_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.stat cimport S_ISDIR, S_ISREG, fstat, struct_stat

from reactor.pollers.contract cimport (
    OP_CANCELLED, OP_DONE, OP_PENDING, OP_READABLE, OP_RECEIVE, OP_SEND, Op, OpList, op_append,
    op_splice,
)
from reactor.pollers.io_uring cimport (
    CAME_WITH_BUFFER, CAME_WITH_MORE, CANCEL_ALL, CANCEL_ANY, CODE_CANCEL, CODE_POLL_ADD,
    CODE_RECEIVE, CODE_SEND, CODE_SENDMSG, ENTER_GETEVENTS, ENTRY_BUFFER_SELECT, Entry, PEER_ENDED,
    POLL_FIRST, RECEIVE_MULTISHOT, Ring, ring_enable, ring_enter, shelf_register,
)
from reactor.pollers.posix_sockets cimport MSG_NOSIGNAL, close_now, msghdr
from reactor.pollers.readiness cimport ReadinessPoller, Slot, reads
from reactor.pollers.ring cimport CANCEL_MARK, RingPoller, Ticket, refusal
from reactor.pollers.shelf cimport (
    Held, clear_shelf, drop_held, free_shelf, has_held, hold_block, lacks_blocks, open_shelf,
    put_block, serve, show_again, show_block, stock_shelf, take_block,
)
from reactor.pollers.table cimport make_entry
from reactor.pool cimport BlockPool

import os

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED
        ETIME

cdef extern from "poll.h" nogil:
    enum:
        POLLIN
        POLLOUT

cdef enum:
    ANSWERED = 0x100            # an op's flag: the kernel made its call, the result is in
    MOST_HELD = 4               # blocks for one descriptor, before its receive is ended
    NEVER_AGAIN = -0x40000000   # such a streak ends with the descriptor
    END_TRIES = 4               # to end a receive; the second succeeds
    MOST_BYTES = 0x7FFFF000     # that one call transfers (read(2))
    CLOSE_MS = 5_000            # how long the system may take to give tickets back


def why_not():
    """Return why io_uring cannot be used by this process, or ``""``."""
    return refusal()


cdef inline bint transfers(const Op *op) noexcept nogil:
    """True of an op whose call the kernel makes; of another it tells when to make it."""
    return op.kind == OP_RECEIVE or op.kind == OP_SEND


cdef inline int peeked(int result) noexcept nogil:
    """Return what a peek says of what a receive found."""
    return result if result < 0 else 1


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(Ring *ring, int64_t timeout_ns) noexcept nogil:
    return ring_enter(ring, ENTER_GETEVENTS, 1, timeout_ns)


@cython.final
cdef class UringPoller(RingPoller):
    """io_uring(7) behind the completion contract.  Lends receives blocks of *pool*.

    Args:
        pool: where the blocks on the shelf come from.
        entries: requests that one call submits.
        completions: for which there is room before the kernel has to keep them.
        places: blocks on the shelf at most; a power of two.
        shared: any thread may enter the ring from the beginning.
        stands_from: bufferless receives of a descriptor in a row until one stands.

    Raises ``OSError`` when the kernel refuses (``why_not`` says why), or the process or the
    system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None, *, unsigned int entries=256,
                  unsigned int completions=4096, unsigned int places=64, bint shared=False,
                  int stands_from=2):
        cdef int error
        self.stands_from = stands_from
        if open_shelf(&self.shelf, places, pool.block_size) < 0:
            raise MemoryError("no memory for the shelf of blocks")
        error = self.open_first()
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        self.open_wake_fd()
        self.mind_forks()

    def __dealloc__(self):
        cdef bint written = self.shared and self.out != NULL
        if self.shelf.shared != NULL:   # else it was never made
            self.disown()
        PyMem_RawFree(self.intakes)
        if not written:                 # else the kernel may write to the blocks: they stay
            free_shelf(&self.shelf)

    @property
    def held(self):
        """Blocks that came before anybody asked for them."""
        return self.shelf.held

    # -- ops -------------------------------------------------------------------------

    cdef void cancel(self, Op *op) noexcept:
        if op.state == OP_PENDING:
            if not op.flags & OP_CANCELLED:
                if op.detail == NULL or (<Ticket *>op.detail).stands:
                    self.leave(op)
                    return
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
        if self.noted:
            self.look_after_intakes()
        if self.unasked:
            self.revoke_again()
        if self.shelf.ran_short or lacks_blocks(&self.shelf):
            stock_shelf(&self.shelf, self.pool)
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
        if lacks_blocks(&self.shelf) and not self.closed:
            self.pool.set_aside()
            put_block(&self.shelf, block)
        else:
            self.pool.release(block)

    cdef void close(self, OpList *done) noexcept:
        cdef Ticket *ticket
        cdef Ticket *following
        cdef Entry *entry
        cdef Op *op
        cdef Py_ssize_t fd
        cdef int64_t until
        cdef int count
        if self.closed:
            return
        self.closed = True
        op_splice(done, &self.arrived)
        for fd in range(self.intake_count):
            op = self.slots[fd].reader
            if op != NULL and op.detail == NULL:
                self.slots[fd].reader = NULL
                self.finish_cancelled(op, done)
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
            clear_shelf(&self.shelf, self.pool)
            for fd in range(self.intake_count):
                memset(&self.intakes[fd], 0, sizeof(Intake))

    # -- descriptors -----------------------------------------------------------------

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        cdef int error = self.make_room(fd)
        cdef struct_stat status
        cdef Slot *slot
        if error < 0:
            return error
        slot = &self.slots[fd]
        if fresh:
            self.abandon(fd)
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
        if slot.reader == NULL:
            self.end_intake(&self.intakes[fd])
        return 0

    cdef void detach(self, intptr_t fd) noexcept:
        if 0 <= fd < self.intake_count:
            self.abandon(fd)

    cdef int close_fd(self, intptr_t fd) noexcept:
        self.detach(fd)
        return close_now(fd)

    cdef int peek(self, intptr_t fd) noexcept:
        cdef int found
        cdef Op *reader = NULL
        if 0 <= fd < self.intake_count:
            if has_held(&self.intakes[fd].held):
                return 1 if self.intakes[fd].held.count else peeked(self.intakes[fd].held.end)
            reader = self.slots[fd].reader
        found = RingPoller.peek(self, fd)
        if found != 0 or reader == NULL or not self.shared or self.ring.fd < 0:
            return found
        # On a ring of all threads the kernel makes calls between two of ours: it may have
        # received what nobody else will see.
        self.harvest(&self.ring, &self.arrived)
        if reader.state != OP_DONE:
            return 0
        return peeked(<int>reader.result) if reader.flags & ANSWERED else 1

    # -- beginning and cancelling ------------------------------------------------------

    cdef bint attempt(self, Op *op) noexcept:
        if ((op.kind == OP_RECEIVE or op.kind == OP_READABLE) and 0 <= op.fd < self.intake_count
                and has_held(&self.intakes[op.fd].held)):
            serve(&self.shelf, &self.intakes[op.fd].held, op, self.pool)
            return True
        return RingPoller.attempt(self, op)

    cdef int make_room(self, intptr_t fd) noexcept:
        cdef int error = RingPoller.make_room(self, fd)
        if error < 0 or fd < self.intake_count:
            return error
        return make_entry(<void **>&self.intakes, &self.intake_count, sizeof(Intake), fd)

    cdef int expect(self, Op *op, Slot *slot) noexcept:
        """See that the op is completed some time, by an entry of its own mostly; 0 or -errno."""
        cdef bint bufferless = op.kind == OP_RECEIVE and op.buffer == NULL
        cdef Intake *intake = &self.intakes[op.fd]
        cdef Ticket *ticket
        cdef bint stands = False
        cdef int error
        if reads(op):
            if bufferless and not has_held(&intake.held):
                if intake.ticket != NULL and not intake.ticket.revoked:
                    intake.ticket.op = op
                    op.detail = intake.ticket
                    return 0
                if intake.ticket != NULL or (intake.guard != NULL and intake.guard.revoked):
                    self.end_intake(intake)
            elif not bufferless:
                self.end_intake(intake)
            if has_held(&intake.held):
                op.detail = NULL        # the next wait serves it
                self.note(op.fd)
                return 0
            if intake.streak != NEVER_AGAIN:
                intake.streak = min(intake.streak + 1, self.stands_from) if bufferless else 0
            stands = (intake.streak >= self.stands_from and not self.shared
                      and (intake.guard != NULL or self.guard(op.fd)))
        ticket = self.take_ticket(op)
        if ticket == NULL:
            return -ENOMEM
        ticket.stands = stands
        ticket.fd = op.fd
        error = self.begin(ticket)
        if error < 0:
            self.return_ticket(ticket)
        elif ticket.stands:
            intake.ticket = ticket
            self.standing += 1
        return error

    cdef int begin(self, Ticket *ticket) noexcept:
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
                if ticket.stands:
                    entry.ioprio |= RECEIVE_MULTISHOT
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

    cdef void abandon(self, intptr_t fd) noexcept:
        """Forget a user of a number; what it has pending comes back cancelled."""
        cdef Slot *slot = &self.slots[fd]
        cdef Intake *intake = &self.intakes[fd]
        cdef Op *reader = slot.reader
        cdef Op *writer = slot.writer
        slot.reader = slot.writer = NULL
        if reader != NULL:
            self.cancel(reader)
        if writer != NULL:
            self.cancel(writer)
        self.end_intake(intake)
        if reader != NULL or writer != NULL:
            self.flush()                # the number may be closed next
        drop_held(&self.shelf, &intake.held)
        intake.streak = 0

    # -- receives that stand -----------------------------------------------------------

    cdef void leave(self, Op *op) noexcept:
        """Cancel an op that has no request of its own: nothing has come for it."""
        if op.detail != NULL:
            (<Ticket *>op.detail).op = NULL
            op.detail = NULL
        if self.slots[op.fd].reader == op:
            self.slots[op.fd].reader = NULL
        self.finish_cancelled(op, &self.arrived)
        self.note(op.fd)

    cdef void note(self, intptr_t fd) noexcept:
        """Have the next wait look at what is received for a descriptor."""
        cdef Intake *intake = &self.intakes[fd]
        if not intake.noted:
            intake.noted = True
            intake.following = self.noted
            self.noted = fd + 1

    cdef void look_after_intakes(self) noexcept:
        """Serve who waits for what is held, and end the receives of who does not wait."""
        cdef Py_ssize_t fd = self.noted - 1
        cdef Py_ssize_t following
        cdef Intake *intake
        cdef Op *op
        self.noted = 0
        while fd >= 0:
            intake = &self.intakes[fd]
            following = intake.following - 1
            intake.noted = False
            op = self.slots[fd].reader
            if op != NULL and op.detail == NULL:
                self.slots[fd].reader = NULL
                if has_held(&intake.held):
                    serve(&self.shelf, &intake.held, op, self.pool)
                else:                   # somebody else has had it
                    op.result = self.park(op)
                if op.result < 0 or self.slots[fd].reader == NULL:
                    op.flags |= ANSWERED
                    op.state = OP_DONE
                    op_append(&self.arrived, op)
                self.note(fd)
            if intake.ticket != NULL:
                if op == NULL or intake.ticket.revoked or intake.held.count >= MOST_HELD:
                    self.revoke_intake(intake)
                    self.note(fd)       # until it is back: a cancel may miss it
            elif intake.guard != NULL:
                self.revoke_intake(intake)
                self.note(fd)
            fd = following

    cdef void revoke_intake(self, Intake *intake) noexcept:
        """Ask the kernel to receive no more."""
        if intake.ticket != NULL:
            intake.ticket.revoked = True
            self.revoke(intake.ticket)
        if intake.guard != NULL:
            intake.guard.revoked = True
            self.revoke(intake.guard)

    cdef void end_intake(self, Intake *intake) noexcept:
        """Have nothing more received for a descriptor than is asked for."""
        cdef int tries = END_TRIES
        while tries and not (intake.ticket == NULL and intake.guard == NULL):
            self.revoke_intake(intake)
            self.flush()
            tries -= 1
        # Else it is a forked child's, or the kernel takes no entry.
        if intake.ticket != NULL:
            self.unasked = True
            self.fell(intake.ticket)
        if intake.guard != NULL:
            self.unasked = True
            self.fell(intake.guard)

    cdef bint guard(self, intptr_t fd) noexcept:
        """Have the peer's end told apart; true when it will be."""
        cdef Ticket *ticket = self.take_ticket(NULL)
        cdef Entry *entry
        if ticket == NULL:
            return False
        entry = self.next_entry()
        if self.shared:
            return False                # the ring was left, and the ticket returned
        if entry == NULL:
            self.return_ticket(ticket)
            return False
        entry.opcode = CODE_POLL_ADD
        entry.fd = <int32_t>fd
        entry.op_flags = PEER_ENDED
        entry.user_data = <uint64_t><size_t>ticket
        ticket.guards = True
        ticket.fd = fd
        self.intakes[fd].guard = ticket
        return True

    cdef void guarded(self, Ticket *ticket, int result) noexcept:
        """The peer has ended, or a guard was told to go: no receive stands without."""
        cdef Intake *intake = &self.intakes[ticket.fd]
        if result != -ECANCELED:
            intake.streak = NEVER_AGAIN
        if intake.ticket != NULL:
            intake.ticket.revoked = True
            self.note(ticket.fd)

    cdef void fell(self, Ticket *ticket) noexcept:
        cdef Intake *intake
        if ticket.stands or ticket.guards:
            intake = &self.intakes[ticket.fd]
            if intake.ticket == ticket:
                intake.ticket = NULL
                self.standing -= 1
            if intake.guard == ticket:
                intake.guard = NULL
        ticket.stands = ticket.guards = False

    cdef void keep(self, Ticket *ticket, int result, uint32_t flags) noexcept:
        """Hold what came for a descriptor while nobody asks, or hear that its peer has ended."""
        cdef Held *held
        if ticket.guards:
            self.guarded(ticket, result)
            return
        if not ticket.stands or (flags & CAME_WITH_BUFFER and result <= 0):
            if flags & CAME_WITH_BUFFER:
                show_block(&self.shelf, <uint16_t>(flags >> 16))
            return
        held = &self.intakes[ticket.fd].held
        if result > 0:
            hold_block(&self.shelf, held, <uint16_t>(flags >> 16), <uint32_t>result)
        elif result == -ENOBUFS:
            self.shelf.ran_short = True
        elif result not in (-ECANCELED, -EAGAIN, -EINTR):
            held.ended = True
            held.end = result
        self.note(ticket.fd)

    # -- the ring ----------------------------------------------------------------------

    cdef int equip(self) noexcept:
        return shelf_register(&self.ring, self.shelf.shared, self.shelf.count)

    cdef void begin_again(self) noexcept:
        cdef Ticket *ticket
        cdef Ticket *following
        show_again(&self.shelf)
        ticket = self.out
        while ticket != NULL:
            following = ticket.next
            self.fell(ticket)
            if ticket.op == NULL:
                self.return_ticket(ticket)
            elif ticket.op.flags & OP_CANCELLED or self.begin(ticket) < 0:
                self.answer(ticket, -ECANCELED, 0, &self.arrived)
            ticket = following

    cdef void answer(self, Ticket *ticket, int result, uint32_t flags, OpList *done) noexcept:
        cdef Op *op = ticket.op
        cdef bint goes_on = flags & CAME_WITH_MORE != 0
        cdef Slot *slot
        cdef char *block = NULL
        if op == NULL:
            self.keep(ticket, result, flags)
            if not goes_on:
                self.return_ticket(ticket)
            return
        if flags & CAME_WITH_BUFFER:
            block = take_block(&self.shelf, <uint16_t>(flags >> 16))
        if result == -ECANCELED and not op.flags & OP_CANCELLED:
            # Whose thread has ended; or on a ring that is given up; or who stood, and is not to.
            if block != NULL:
                put_block(&self.shelf, block)
                block = NULL
            self.fell(ticket)
            if self.moving or self.begin(ticket) == 0:
                return
        if goes_on:
            ticket.op = NULL
            op.detail = NULL
            self.note(op.fd)
        else:
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
                self.shelf.ran_short = True
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
                put_block(&self.shelf, block)
        if op.flags & OP_CANCELLED:
            if op.flags & ANSWERED and result != 0 and result != -ECANCELED:
                op.flags &= ~OP_CANCELLED       # it was over before: its result stands
            else:
                op.result = -ECANCELED

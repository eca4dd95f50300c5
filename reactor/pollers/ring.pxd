"""A ring of io_uring and what is out on it; the contract is ``reactor.pollers.contract``."""

from libc.stdint cimport int64_t, intptr_t, uint32_t, uint64_t

from reactor.pollers.contract cimport Op, OpList
from reactor.pollers.eventfd cimport EventfdPoller
from reactor.pollers.io_uring cimport Entry, Ring
from reactor.pollers.posix_sockets cimport msghdr

cdef enum:                      # what a completion names that is no ticket's
    WAKE_MARK = 1
    SIGNAL_MARK = 2
    CANCEL_MARK = 3


# Why io_uring cannot be used by this process, or "".
cdef str refusal()


cdef struct Ticket:             # what the system has of an op, until it gives it back
    Op *op                      # NULL once nobody waits for it
    Ticket *next                # among those that are out, or that are free
    Ticket *before              # among those that are out
    uint32_t place              # the entry's number in the ring
    bint stands                 # a receive that goes on (multishot): ops come and go
    bint guards                 # of a receive that stands: tells of the peer's end
    bint revoked                # of these two: its end was asked for
    intptr_t fd                 # of these two
    msghdr message              # of a send that gathers


cdef class RingPoller(EventfdPoller):
    cdef Ring ring
    cdef readonly bint shared   # any thread may enter the ring, for what that costs
    cdef bint enabled           # the ring belongs to a thread, or to all
    cdef bint moving            # completions are read from a ring that is given up
    cdef bint unasked           # a cancel is still to be asked for
    cdef unsigned int entries, completions
    cdef bint wake_watched, signals_watched
    cdef OpList arrived         # done between two waits, for the next
    cdef Ticket *out            # tickets that the system has
    cdef Ticket *spare          # tickets that it gave back
    cdef Py_ssize_t spare_count

    # -- what is asked, and what is told -------------------------------------------------
    # A ring was opened: tell it what is received into; 0 or -errno.
    cdef int equip(self) noexcept
    # Write the entry of what a ticket is for; 0 or -errno.
    cdef int begin(self, Ticket *ticket) noexcept
    # The ring is a new one: write the entries of all tickets that are out, or return them.
    cdef void begin_again(self) noexcept
    # The kernel is through with a ticket, or tells of one that stands.
    cdef void answer(self, Ticket *ticket, int result, uint32_t flags, OpList *done) noexcept
    # A ticket stands or guards no more.
    cdef void fell(self, Ticket *ticket) noexcept

    # -- for who derives from it ---------------------------------------------------------
    # Open a ring, of one thread's if there is such a thing; 0 or -errno.
    cdef int open_first(self) noexcept
    # Return a ticket for an op, or for none, out from now on; or NULL.
    cdef Ticket *take_ticket(self, Op *op) noexcept
    # The kernel does not have it any more.
    cdef void return_ticket(self, Ticket *ticket) noexcept
    # Ask the kernel to give a ticket back.
    cdef void revoke(self, Ticket *ticket) noexcept
    # Ask for all that are to come back, as a cancel found no place in the ring.
    cdef void revoke_again(self) noexcept
    # io_uring_enter(2) with the GIL held; what it returned, or -errno.
    cdef int enter(self, unsigned int flags, unsigned int wait_for, int64_t timeout_ns) noexcept
    # Go over to a ring that any thread may enter; 0 or -errno.
    cdef int move(self) noexcept
    # An entry to be written, or NULL when the kernel takes none.
    cdef Entry *next_entry(self) noexcept
    # Have the kernel do what it was asked to.
    cdef void flush(self) noexcept
    # True when the kernel has something to tell or to do, or we have for it.
    cdef bint has_news(self) noexcept
    # Read all completions.
    cdef void harvest(self, Ring *ring, OpList *done) noexcept
    # See that the eventfd is watched, and the pipe if there is one.
    cdef void watch_wakeups(self) noexcept

    cdef int open_ring(self) noexcept
    cdef bint watch(self, int fd, uint64_t mark) noexcept

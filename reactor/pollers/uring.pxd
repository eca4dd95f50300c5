"""The io_uring poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport int64_t, intptr_t, uint16_t, uint32_t, uint64_t

from reactor.pollers.contract cimport Op, OpList
from reactor.pollers.eventfd cimport EventfdPoller
from reactor.pollers.io_uring cimport Entry, Ring, Shelf
from reactor.pollers.posix_sockets cimport msghdr
from reactor.pollers.readiness cimport Slot


cdef struct Ticket:             # what the system has of an op, until it gives it back
    Op *op                      # NULL once nobody waits for it
    Ticket *next                # among those that are out, or that are free
    Ticket *before              # among those that are out
    uint32_t place              # the entry's number in the ring
    msghdr message              # of a send that gathers


cdef class UringPoller(EventfdPoller):
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

    cdef Shelf *shelf           # where the kernel takes blocks from
    cdef unsigned int places    # that the shelf has, a power of two
    cdef unsigned int wanted    # blocks that are to be on it
    cdef bint ran_short         # there was none for somebody since the last wait
    cdef uint16_t shelf_tail
    cdef char **blocks          # by number: the block on the shelf, or NULL
    cdef uint16_t *vacant       # numbers without a block
    cdef unsigned int vacant_count

    cdef int open_ring(self) noexcept
    cdef int enter(self, unsigned int flags, unsigned int wait_for, int64_t timeout_ns) noexcept
    cdef int move(self) noexcept
    cdef Entry *next_entry(self) noexcept
    cdef void flush(self) noexcept
    cdef void harvest(self, Ring *ring, OpList *done) noexcept
    cdef void answer(self, Ticket *ticket, int result, uint32_t flags, OpList *done) noexcept
    cdef void finish(self, Op *op, int result, char *block) noexcept
    cdef Ticket *take_ticket(self, Op *op) noexcept
    cdef void return_ticket(self, Ticket *ticket) noexcept
    cdef int begin(self, Ticket *ticket) noexcept
    cdef void revoke(self, Ticket *ticket) noexcept
    cdef void revoke_again(self) noexcept
    cdef void watch_anew(self, Op *op) noexcept
    cdef void abandon(self, Slot *slot) noexcept
    cdef bint has_news(self) noexcept
    cdef void watch_wakeups(self) noexcept
    cdef bint watch(self, int fd, uint64_t mark) noexcept
    cdef void put_on_shelf(self, char *block) noexcept
    cdef char *take_from_shelf(self, uint32_t number) noexcept
    cdef void stock(self) noexcept
    cdef void clear_shelf(self) noexcept

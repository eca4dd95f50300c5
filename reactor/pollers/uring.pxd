"""The io_uring poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport intptr_t, uint32_t

from reactor.pollers.contract cimport Op
from reactor.pollers.ring cimport RingPoller, Ticket
from reactor.pollers.shelf cimport BlockShelf, Held


cdef struct Intake:             # of each descriptor; the table is indexed by it
    Ticket *ticket              # of the receive that stands, or NULL
    Ticket *guard               # of what tells of the peer's end meanwhile, or NULL
    Held held                   # what it took before anybody asked
    int streak                  # bufferless receives in a row, while none stood
    bint noted                  # it is among those that the next wait looks at
    Py_ssize_t following        # the next one among these, + 1


cdef class UringPoller(RingPoller):
    cdef BlockShelf shelf       # what the kernel receives into
    cdef int stands_from
    cdef Intake *intakes
    cdef Py_ssize_t intake_count
    cdef Py_ssize_t noted       # the first intake that the next wait looks at, + 1
    cdef readonly Py_ssize_t standing   # receives that go on

    cdef void finish(self, Op *op, int result, char *block) noexcept
    cdef void watch_anew(self, Op *op) noexcept
    cdef void abandon(self, intptr_t fd) noexcept
    cdef void leave(self, Op *op) noexcept
    cdef void note(self, intptr_t fd) noexcept
    cdef void look_after_intakes(self) noexcept
    cdef void revoke_intake(self, Intake *intake) noexcept
    cdef void end_intake(self, Intake *intake) noexcept
    cdef bint guard(self, intptr_t fd) noexcept
    cdef void guarded(self, Ticket *ticket, int result) noexcept
    cdef void keep(self, Ticket *ticket, int result, uint32_t flags) noexcept

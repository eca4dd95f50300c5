"""The IOCP poller's own state; its contract is ``reactor.pollers.contract``."""

from libc.stdint cimport int64_t, intptr_t

from reactor.pollers.contract cimport Op, OpList, OpOwner, OpState, Poller
from reactor.pollers.winsock cimport (
    ADDRESS_ROOM, DWORD, HANDLE, SOCKET, ULONG, AfdPoll, OVERLAPPED, OVERLAPPED_ENTRY,
)


cdef struct Ticket:             # what the system has of an op, until it gives it back
    OVERLAPPED overlapped       # the first member: a completion names the ticket by it
    Op *op                      # NULL for the poller's own (the wake-up socket)
    Ticket *next                # among those that are out, or that are free
    Ticket *before              # among those that are out
    HANDLE handle               # whom to ask for a cancel
    SOCKET accepted             # AcceptEx: the socket that it fills
    char *block                 # WSARecv in speed mode: the pool's block that it fills, or NULL
    AfdPoll poll                # readiness: what was asked, and the answer
    char addresses[2 * ADDRESS_ROOM]    # AcceptEx writes both ends here


cdef struct Slot:               # what is known of one socket; the table is indexed by handle / 4
    Op *reader                  # the op that reads and is PENDING, or NULL
    Op *writer
    bint associated             # with the port, as far as the present user of the number goes
    bint known                  # some user of the number was
    bint skips                  # what succeeds at once sends no packet


cdef class PacketTaker(OpOwner):
    """Whoever shares the port: hears of the packets that are not the poller's."""

    cdef Op op
    cdef object callback        # callback(bytes, key, address of the OVERLAPPED)
    cdef list packets


cdef class IocpPoller(Poller):
    cdef object __weakref__
    cdef HANDLE port
    cdef bint posted            # speed: a receive that waits has its block already
    cdef HANDLE afd             # the driver's handle, through which sockets are polled
    cdef long woken             # a wake-up packet is on its way
    cdef Slot *slots
    cdef Py_ssize_t slot_count
    cdef OpList arrived         # done in line where the contract says later; for the next wait
    cdef Ticket *out            # tickets that the system has
    cdef Ticket *spare          # tickets that it gave back
    cdef Py_ssize_t spare_count
    cdef OVERLAPPED_ENTRY *entries
    cdef PacketTaker taker      # who shares the port, or None
    cdef object wakers          # (near, far) sockets for signals, once asked for

    cdef Slot *slot_of(self, intptr_t fd) noexcept
    cdef int make_room(self, intptr_t fd) noexcept
    cdef Ticket *take_ticket(self, Op *op) noexcept
    cdef void return_ticket(self, Ticket *ticket) noexcept
    cdef int associate(self, Slot *slot, intptr_t fd) noexcept
    cdef bint call_now(self, Op *op) noexcept
    cdef void receive_block(self, Op *op) noexcept
    cdef void take_accepted(self, Op *op, SOCKET accepted, bint update) noexcept
    cdef int park(self, Op *op) noexcept
    cdef void put_out(self, Ticket *ticket) noexcept
    cdef int begin(self, Slot *slot, Ticket *ticket, DWORD *count) noexcept
    cdef int begin_receive(self, Ticket *ticket, DWORD *count) noexcept
    cdef int begin_accept(self, Ticket *ticket, DWORD *count) noexcept
    cdef int begin_connect(self, Ticket *ticket, DWORD *count) noexcept
    cdef void revoke(self, Ticket *ticket) noexcept
    cdef void finish(self, Ticket *ticket, bint failed, DWORD count) noexcept
    cdef void came_back(self, Ticket *ticket, OpList *done) noexcept
    cdef int reap(self, DWORD timeout_ms, OpList *done) noexcept
    cdef void abandon(self, Slot *slot) noexcept
    cdef bint has_come(self, Slot *slot) noexcept
    cdef int watch_wakers(self) noexcept
    cdef void close_wakers(self) noexcept
    cdef void drain_wakers(self) noexcept

"""What a connection manager decides; the C face, for the shell that leases."""

from libc.stdint cimport int64_t


cdef enum Place:
    PLACE_NEW                       # not known to a pool yet
    PLACE_LEASED                    # in the hands of one caller, or of several
    PLACE_IDLE
    PLACE_CLOSING                   # told to close; holds its slot until it is lost
    PLACE_ABORTING                  # told to abort; the same, and it takes a pass at most
    PLACE_LOST


cdef class Member:
    """A connection, as the policy sees it."""

    cdef readonly EndpointPool pool
    cdef Place at
    cdef readonly int leases        # callers that have it
    cdef readonly int max_leases    # that may have it at a time
    cdef readonly int64_t since_ns  # when it became idle
    # Neighbours among the idle ones of all pools, and among those of its own.
    cdef Member older
    cdef Member newer
    cdef Member older_here
    cdef Member newer_here


cdef class EndpointPool:
    """The connections to one endpoint."""

    cdef object __weakref__
    cdef readonly object key
    cdef readonly int leased        # connections in callers' hands
    cdef readonly int opening       # slots reserved for connections to be
    cdef readonly int idle
    cdef readonly int aborting
    cdef readonly int waiting       # len(waiters)
    cdef readonly int picky         # of those that wait, how many want a fresh one
    cdef readonly int starving      # of those that wait, how many wait for the total alone
    cdef readonly object closing    # OrderedDict of members, oldest first
    cdef readonly object spare      # OrderedDict of members leased below their max_leases
    cdef readonly object waiters    # OrderedDict: who -> (number, whether a fresh one is wanted)
    cdef Member oldest
    cdef Member newest

    cdef inline int size(self) noexcept:
        return self.leased + self.opening + self.idle + self.aborting + <int>len(self.closing)


cdef class PoolPolicy:
    """Decides for all pools of one manager."""

    cdef readonly int max_connections
    cdef readonly int max_per_endpoint
    cdef readonly int total         # connections and reserved slots
    cdef readonly int waiting
    cdef readonly int idle
    cdef readonly int aborting
    cdef readonly int starving      # the sum of the pools'
    cdef readonly dict pools        # by key
    cdef readonly object closing    # OrderedDict of members, oldest first
    cdef readonly object starved    # OrderedDict of pools with starving; whose turn, first
    cdef readonly object sated      # OrderedDict of pools whose own can serve who waits
    cdef Member oldest
    cdef Member newest
    cdef object joined              # how many ever waited

    cpdef EndpointPool pool(self, object key)
    cpdef int forget_if_empty(self, EndpointPool pool) except -1
    cpdef bint may_open(self, EndpointPool pool) except -1
    cpdef bint can_make_room(self, EndpointPool pool) except -1
    cpdef int reserve(self, EndpointPool pool) except -1
    cpdef int opened(self, EndpointPool pool, Member member) except -1
    cpdef int open_failed(self, EndpointPool pool) except -1
    # The member to lend next, without lending it: one with a lease to spare, or the newest
    # idle one; None when there is none, or others wait.
    cpdef Member lendable(self, EndpointPool pool)
    cpdef int lend(self, Member member) except -1
    # One lease comes back. Who has it now, of those that wait, or None.
    cpdef object give_back(self, Member member, int64_t now_ns)
    # The same for a member that must not be lent again. Whether it was the last lease.
    cpdef bint end_lease(self, Member member) except -1
    cpdef int set_max_leases(self, Member member, int max_leases) except -1
    cpdef int close(self, Member member, bint abort) except -1
    cpdef int lost(self, Member member) except -1
    cpdef Member oldest_idle(self)
    cpdef int join(self, EndpointPool pool, object waiter, bint fresh=*) except -1
    cpdef int leave(self, EndpointPool pool, object waiter) except -1
    cpdef tuple next_step(self)

    cdef object next_waiter(self, EndpointPool pool)
    cdef bint has_one_for(self, EndpointPool pool) except -1
    cdef tuple reuse(self, EndpointPool pool)
    cdef bint is_outwaited(self, EndpointPool pool) except -1
    cdef int weigh(self, EndpointPool pool) except -1
    cdef int link(self, Member member) except -1
    cdef int unlink(self, Member member) except -1

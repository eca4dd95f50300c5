"""What is called for each lease; its C face."""

from libc.stdint cimport int64_t

from reactor.core cimport Reactor
from reactor.manager.policy cimport EndpointPool, Member, PoolPolicy
from reactor.transports.transport cimport Transport


cdef class Connection(Member):
    """What the manager knows of one connection."""

    cdef readonly Leases manager
    cdef readonly Transport transport
    cdef readonly object protocol
    cdef readonly int64_t opened_ns
    cdef readonly int64_t uses      # leases, all together
    cdef public str reason          # why it is closed, or will be when it is given back; or None


cdef class Acquisition:
    """An ``acquire`` that somebody awaits."""

    cdef Leases manager
    cdef object factory
    cdef object endpoint
    cdef object deadline
    cdef object inner               # the coroutine of the long way, or None
    cdef bint fresh
    cdef bint is_begun

    cdef int begin(self) except -1
    cdef object take(self)


cdef class Slot:
    """A place for a connection to be."""

    cdef Leases manager             # None once it is taken or free again
    cdef readonly EndpointPool pool


cdef class Leases:
    """The part of a connection manager that every lease goes through."""

    cdef readonly PoolPolicy _policy
    cdef readonly Reactor _loop     # None before the first connection
    # by id(protocol): protocols need be neither hashable nor unequal
    cdef dict connections
    cdef bint trusts                # what was given back a moment ago is not asked
    cdef readonly int64_t _max_uses
    cdef readonly int64_t _reused
    cdef public object on_event     # called with a PoolEvent, or None
    cdef public object _expiry      # the timer of the idle ones, or None
    cdef public object _change      # a future for who waits until a slot comes free, or None

    # For protocols in Cython: take() and release() without a look-up of the protocol.
    cdef Connection take_lease(self, object endpoint)
    cdef Connection take_from(self, EndpointPool pool)
    cdef int give_back(self, Connection connection, int64_t now_ns) except -1

    cdef object take_one(self, object endpoint)
    cdef int check_thread(self) except -1
    cdef Connection leased(self, object protocol)
    cdef Connection connection_of(self, object protocol)
    cdef int lent(self, Connection connection) except -1
    cdef Slot new_slot(self, EndpointPool pool)

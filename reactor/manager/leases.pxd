"""What is called for each lease; its C face."""

from libc.stdint cimport int64_t

from reactor.core cimport Reactor
from reactor.manager.histogram cimport Histogram
from reactor.manager.policy cimport EndpointPool, Member, PoolPolicy
from reactor.timers cimport Timer, TimerHeap
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
    cdef object deadline            # in seconds, or None
    cdef int64_t deadline_ns        # the same, 0 for none
    cdef Waiter waiter              # while it waits in a queue, else None
    cdef object inner               # the coroutine of the long way, or None
    cdef bint fresh
    cdef bint is_begun

    cdef int begin(self) except -1
    cdef object take(self)


cdef class Slot:
    """A place for a connection to be."""

    cdef Leases manager             # None once it is taken or free again
    cdef readonly EndpointPool pool


cdef class Waiter:
    """A caller in a pool's queue."""

    cdef Leases manager
    cdef EndpointPool pool
    cdef readonly object future
    cdef readonly object found      # a Connection or a Slot, or None
    cdef object error               # why it was not served, or None
    cdef int64_t began_ns
    cdef TimerHeap timers           # the loop's
    cdef Timer deadline
    cdef bint is_over               # taken, or given up

    cdef bint serve(self, object found) except -1
    # Whether there is no more to wait for.
    cdef bint has_ended(self) except -1
    # The future, marked as what a task yields to wait for it.
    cdef object awaited(self)
    cdef bint is_good(self) except -1
    # Take the connection that was found.
    cdef Connection lease(self)
    cdef int drop(self) except -1
    cdef bint is_of_use(self) noexcept
    cdef int leave(self) except -1
    cdef int refuse(self) except -1


cdef class Leases:
    """The part of a connection manager that every lease goes through."""

    cdef readonly PoolPolicy _policy
    cdef readonly Reactor _loop     # None before the first connection
    # by id(protocol): protocols need be neither hashable nor unequal
    cdef dict connections
    cdef bint trusts                # what was given back a moment ago is not asked
    cdef readonly int64_t _max_uses
    cdef readonly int64_t _reused
    cdef readonly int _max_waiting
    cdef readonly Histogram _waits     # how long those waited who were served
    cdef readonly int64_t _gave_up  # how many stopped waiting
    cdef public bint _closed
    cdef public object on_event     # called with a PoolEvent, or None
    cdef public object _expiry      # the timer of the idle ones, or None
    cdef public object _change      # a future for who waits until a slot comes free, or None

    # For protocols in Cython: take() and release() without a look-up of the protocol.
    cdef Connection take_lease(self, object endpoint)
    cdef Connection take_from(self, EndpointPool pool)
    cdef int give_back(self, Connection connection, int64_t now_ns) except -1

    # Wait for a connection where nothing else can be done, and that can; else None.
    cdef Waiter queue(self, object endpoint, int64_t deadline_ns, bint fresh)

    cdef Waiter join(self, EndpointPool pool, int64_t deadline_ns, bint fresh)
    cdef bint is_quiet(self, Connection connection, bint is_shared) except -1
    cdef object take_one(self, object endpoint)
    cdef int go_on(self) except -1
    cdef int check_thread(self) except -1
    cdef Connection leased(self, object protocol)
    cdef Connection connection_of(self, object protocol)
    cdef int note_waited(self, Waiter waiter) except -1
    cdef int note_gave_up(self, Waiter waiter) except -1
    cdef int lent(self, Connection connection) except -1
    cdef Slot new_slot(self, EndpointPool pool)

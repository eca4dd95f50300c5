"""What a connection manager decides: reuse, open, or wait; pure bookkeeping.

Owns: the counts, the idle lists and the queues of waiting callers.  May not touch: sockets,
clocks, futures' loops (times come as arguments, waiters are opaque).
Invariants, which ``check`` asserts:

* ``total`` is the sum of every pool's ``leased + opening + idle + closing + aborting``;
* no pool exceeds ``max_per_endpoint``, ``total`` never exceeds ``max_connections``;
* a connection holds its slot from the decision to open it until it is lost;
* a caller waits only while nothing idle or closing could serve it, by being aborted.

Every decision is O(1), however many connections, endpoints and waiters there are: what is
idle is linked to its neighbours, and what is rare stands in ordered dictionaries.

Callers of one endpoint are served first come first served.  Between endpoints, a connection
that is given back goes to a caller of its own endpoint unless the starved pool whose turn it
is has somebody who came earlier: then it is closed to make room.  So a busy endpoint that
always has callers of its own cannot starve the others.

A member may be leased to several callers at a time, up to its ``max_leases``.  While it has
one to spare it is preferred to an idle one, and it is nobody's to close.
"""

cimport cython
from libc.stdint cimport int64_t

import enum
from collections import OrderedDict


class Step(enum.Enum):
    """What ``PoolPolicy.next_step`` has decided."""

    OPEN = "open"       # a slot is reserved for the waiter: opened() or open_failed() ends that
    REUSE = "reuse"     # the member is leased to the waiter
    ABORT = "abort"     # the member must be aborted, so that its slot comes free


cdef object STEP_OPEN = Step.OPEN
cdef object STEP_REUSE = Step.REUSE
cdef object STEP_ABORT = Step.ABORT

PLACES = ("new", "leased", "idle", "closing", "aborting", "lost")


@cython.trashcan(True)
cdef class Member:
    """A connection; a manager derives its own kind.

    Attributes:
        pool: whose it is, once it was opened.
        leases, max_leases: callers that have it, and that may have it at a time.
        since_ns: when it became idle.
    """

    def __cinit__(self, *args, **kwargs):
        self.max_leases = 1

    @property
    def place(self):
        """Where it is: ``"leased"``, ``"idle"``, ``"closing"``, ``"aborting"``, ``"lost"``."""
        return PLACES[self.at]


@cython.final
cdef class EndpointPool:
    """The connections to one endpoint.

    Attributes:
        key: the endpoint.
        leased: connections in callers' hands.
        opening: slots that are reserved for connections to be.
        idle: connections not in use.
        closing: those that were told to close and are not lost yet, oldest first.  They hold
            their slots: over TLS the end may take as long as the peer likes.
        aborting: those whose end takes no longer than a pass; they hold their slots as well.
        spare: those that are leased and may be leased once more.
        waiters: who waits, first come first, with a number that tells who came earlier.
    """

    def __init__(self, key):
        self.key = key
        self.closing = OrderedDict()
        self.spare = OrderedDict()
        self.waiters = OrderedDict()

    @property
    def connections(self):
        """How many count against the limit."""
        return self.size()

    def __repr__(self):
        return (
            f"<{self.key}: {self.leased} leased, {self.idle} idle, {self.opening} opening, "
            f"{len(self.closing) + self.aborting} closing, {self.waiting} waiting>"
        )


@cython.final
cdef class PoolPolicy:
    """Decides for all pools of one manager.

    Args:
        max_connections: over all endpoints.
        max_per_endpoint: for each.

    Raises ``ValueError`` for a limit below one.
    """

    def __init__(self, max_connections, max_per_endpoint):
        for name, value in (
            ("max_connections", max_connections),
            ("max_per_endpoint", max_per_endpoint),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.max_connections = max_connections
        self.max_per_endpoint = max_per_endpoint
        self.pools = {}
        self.closing = OrderedDict()
        self.starved = OrderedDict()
        self.sated = OrderedDict()
        self.joined = 0

    cpdef EndpointPool pool(self, object key):
        """Return the pool of *key*, new if need be."""
        cdef object found = self.pools.get(key)
        if found is None:
            found = self.pools[key] = EndpointPool(key)
        return <EndpointPool>found

    cpdef int forget_if_empty(self, EndpointPool pool) except -1:
        """Drop the pool of an endpoint that nobody uses any more."""
        if not pool.waiting and not pool.size() and self.pools.get(pool.key) is pool:
            del self.pools[pool.key]
        return 0

    # -- opening -----------------------------------------------------------------------

    cpdef bint may_open(self, EndpointPool pool) except -1:
        """Return whether a caller that comes now may reserve a slot at once."""
        return (not pool.waiting and pool.size() < self.max_per_endpoint
                and self.total < self.max_connections)

    cpdef bint can_make_room(self, EndpointPool pool) except -1:
        """Return whether aborting something would give a waiter of the pool a slot."""
        if pool.size() >= self.max_per_endpoint:
            return bool(pool.idle or pool.closing)
        return bool(self.idle or self.closing)

    cpdef int reserve(self, EndpointPool pool) except -1:
        """Take a slot for a connection to be; ``opened`` or ``open_failed`` comes next."""
        pool.opening += 1
        self.total += 1
        self.weigh(pool)
        return 0

    cpdef int opened(self, EndpointPool pool, Member member) except -1:
        """A reserved slot has become *member*, which is leased once."""
        pool.opening -= 1
        pool.leased += 1
        member.pool = pool
        member.at = PLACE_LEASED
        member.leases = 1
        if member.max_leases > 1:
            pool.spare[member] = None
            self.weigh(pool)
        return 0

    cpdef int open_failed(self, EndpointPool pool) except -1:
        """A reserved slot is free again."""
        pool.opening -= 1
        self.total -= 1
        self.weigh(pool)
        return 0

    # -- lending and giving back -------------------------------------------------------

    cpdef Member lendable(self, EndpointPool pool):
        if pool.waiting:
            return None
        if pool.spare:
            return <Member>next(iter(pool.spare))
        return pool.newest

    cpdef int lend(self, Member member) except -1:
        """Lease what ``lendable`` returned."""
        cdef EndpointPool pool = member.pool
        if member.at == PLACE_IDLE:
            self.unlink(member)
            member.at = PLACE_LEASED
            pool.leased += 1
        member.leases += 1
        if member.max_leases > 1:
            self.note_spare(member)
        return 0

    def note_spare(self, Member member not None):
        """Keep ``spare`` true for a member whose leases or limit have changed."""
        if member.at == PLACE_LEASED and member.leases < member.max_leases:
            member.pool.spare[member] = None
        else:
            member.pool.spare.pop(member, None)
        self.weigh(member.pool)

    cpdef object give_back(self, Member member, int64_t now_ns):
        """One lease of *member*, which can be used again, comes back.

        Returns the waiter whose it is now, or ``None``.  In that case ``next_step`` is to be
        asked if anybody is starved.
        """
        cdef EndpointPool pool = member.pool
        if pool.waiting and (member.leases > 1 or not self.is_outwaited(pool)):
            if not pool.picky or not next(iter(pool.waiters.values()))[1]:
                return self.next_waiter(pool)
        member.leases -= 1
        if member.leases == 0:
            if member.max_leases != 1:
                pool.spare.pop(member, None)
            pool.leased -= 1
            member.at = PLACE_IDLE
            member.since_ns = now_ns
            self.link(member)
            if pool.waiting:
                self.weigh(pool)
        else:
            self.note_spare(member)
        return None

    cdef bint is_outwaited(self, EndpointPool pool) except -1:
        """Return whether a caller of another endpoint waits longer, for the total alone."""
        cdef EndpointPool other
        if self.aborting >= self.starving:
            return False        # those who starve have a slot on its way
        other = <EndpointPool>next(iter(self.starved))
        if other is pool:
            return False
        return next(iter(other.waiters.values()))[0] < next(iter(pool.waiters.values()))[0]

    cpdef bint end_lease(self, Member member) except -1:
        """One lease of *member* comes back, which must not be lent again.

        Returns whether it was the last; then the member is to be closed, unless it is lost.
        """
        member.leases -= 1
        return member.leases == 0

    cpdef int set_max_leases(self, Member member, int max_leases) except -1:
        """Let so many callers have *member* at a time; 0 lets nobody else have it."""
        member.max_leases = max_leases
        if member.pool is not None:         # else it is not opened yet
            self.note_spare(member)
        return 0

    # -- the end -----------------------------------------------------------------------

    cpdef int close(self, Member member, bint abort) except -1:
        """*member* is told to close, or to abort; it holds its slot until it is lost."""
        cdef EndpointPool pool = member.pool
        if member.at == PLACE_LEASED:
            pool.leased -= 1
            if member.max_leases != 1:
                pool.spare.pop(member, None)
        elif member.at == PLACE_IDLE:
            self.unlink(member)
        elif member.at == PLACE_CLOSING and abort:
            del pool.closing[member]
            del self.closing[member]
        else:
            return 0
        if abort:
            member.at = PLACE_ABORTING
            pool.aborting += 1
            self.aborting += 1
        else:
            member.at = PLACE_CLOSING
            pool.closing[member] = None
            self.closing[member] = None
        self.weigh(pool)
        return 0

    cpdef int lost(self, Member member) except -1:
        """*member* is gone, and its slot free.  Its leases are still to be given back."""
        cdef EndpointPool pool = member.pool
        if member.at == PLACE_LEASED:
            pool.leased -= 1
            if member.max_leases != 1:
                pool.spare.pop(member, None)
        elif member.at == PLACE_IDLE:
            self.unlink(member)
        elif member.at == PLACE_CLOSING:
            del pool.closing[member]
            del self.closing[member]
        elif member.at == PLACE_ABORTING:
            pool.aborting -= 1
            self.aborting -= 1
        else:
            return 0
        member.at = PLACE_LOST
        self.total -= 1
        self.weigh(pool)
        return 0

    cpdef Member oldest_idle(self):
        """Return the connection that is idle the longest, or ``None``."""
        return self.oldest

    # -- waiting -----------------------------------------------------------------------

    cpdef int join(self, EndpointPool pool, object waiter, bint fresh=False) except -1:
        """Put *waiter*, which must be hashable, at the end of the pool's queue.

        ``next_step`` is to be asked then.  A *fresh* one is never given a used connection.
        """
        self.joined += 1
        pool.waiters[waiter] = (self.joined, fresh)
        pool.waiting += 1
        pool.picky += fresh
        self.waiting += 1
        self.weigh(pool)
        return 0

    cpdef int leave(self, EndpointPool pool, object waiter) except -1:
        """Take *waiter* out of the queue; nothing happens if it was served."""
        cdef tuple place = pool.waiters.pop(waiter, None)
        if place is None:
            return 0
        pool.picky -= place[1]
        pool.waiting -= 1
        self.waiting -= 1
        self.weigh(pool)
        self.forget_if_empty(pool)
        return 0

    cdef object next_waiter(self, EndpointPool pool):
        cdef object waiter = next(iter(pool.waiters))
        if pool.picky:
            pool.picky -= pool.waiters[waiter][1]
        del pool.waiters[waiter]
        pool.waiting -= 1
        self.waiting -= 1
        if self.starved:
            self.starved.pop(pool, None)    # to the end of the line, if it is starved any longer
        self.weigh(pool)
        return waiter

    cpdef tuple next_step(self):
        """Do the next thing for those who wait: ``(step, pool, waiter, member)`` or ``None``.

        To be asked again until it returns ``None``, whenever something came free.
        """
        cdef EndpointPool pool
        cdef Member member = None
        if self.starved:
            pool = <EndpointPool>next(iter(self.starved))
            if self.has_one_for(pool):
                return self.reuse(pool)
            if self.total < self.max_connections:
                pool.opening += 1
                self.total += 1
                return (STEP_OPEN, pool, self.next_waiter(pool), None)
            if self.aborting < self.starving:
                member = <Member>next(iter(self.closing), self.oldest)
        if member is None and self.sated:
            pool = <EndpointPool>next(iter(self.sated))
            if self.has_one_for(pool):
                return self.reuse(pool)
            member = <Member>next(iter(pool.closing), pool.oldest)
        if member is None:
            return None
        self.close(member, True)
        return (STEP_ABORT, member.pool, None, member)

    cdef bint has_one_for(self, EndpointPool pool) except -1:
        """Return whether a connection of the pool's own would do for who waits first."""
        if not pool.idle and not pool.spare:
            return False
        return not pool.picky or not next(iter(pool.waiters.values()))[1]

    cdef tuple reuse(self, EndpointPool pool):
        cdef Member member = <Member>next(iter(pool.spare)) if pool.spare else pool.newest
        self.lend(member)
        return (STEP_REUSE, pool, self.next_waiter(pool), member)

    cdef int weigh(self, EndpointPool pool) except -1:
        """Note whether callers of the pool wait for the total alone, and what its own can do."""
        cdef int starving = 0
        cdef int room
        cdef bint is_sated = False
        if pool.waiting:
            room = self.max_per_endpoint - pool.size()
            if room > 0:
                starving = min(room, pool.waiting)
            elif pool.aborting < pool.waiting:
                is_sated = pool.idle or pool.closing
            is_sated = is_sated or self.has_one_for(pool)
        if starving != pool.starving:
            self.starving += starving - pool.starving
            pool.starving = starving
        if starving:
            self.starved.setdefault(pool)
        elif self.starved:
            self.starved.pop(pool, None)
        if is_sated:
            self.sated.setdefault(pool)
        elif self.sated:
            self.sated.pop(pool, None)
        return 0

    # -- the idle ----------------------------------------------------------------------

    cdef int link(self, Member member) except -1:
        """Make *member* the newest idle one, of all and of its pool."""
        cdef EndpointPool pool = member.pool
        member.older = self.newest
        if self.newest is None:
            self.oldest = member
        else:
            self.newest.newer = member
        self.newest = member
        member.older_here = pool.newest
        if pool.newest is None:
            pool.oldest = member
        else:
            pool.newest.newer_here = member
        pool.newest = member
        pool.idle += 1
        self.idle += 1
        return 0

    cdef int unlink(self, Member member) except -1:
        """Take *member* out from among the idle ones."""
        cdef EndpointPool pool = member.pool
        cdef Member older = member.older
        cdef Member newer = member.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
            member.older = None
        if newer is None:
            self.newest = older
        else:
            newer.older = older
            member.newer = None
        older, newer = member.older_here, member.newer_here
        if older is None:
            pool.oldest = newer
        else:
            older.newer_here = newer
            member.older_here = None
        if newer is None:
            pool.newest = older
        else:
            newer.older_here = older
            member.newer_here = None
        pool.idle -= 1
        self.idle -= 1
        return 0

    # -- for tests and for sight ---------------------------------------------------------

    def idle_members(self, EndpointPool pool=None):
        """Return the idle connections, of *pool* or of all, oldest first."""
        cdef list found = []
        cdef Member member = self.oldest if pool is None else pool.oldest
        while member is not None:
            found.append(member)
            member = member.newer if pool is None else member.newer_here
        return found

    def check(self, *, bint settled=True):
        """Assert the invariants; for tests.

        *settled* says that ``next_step`` was asked until it returned ``None``.
        """
        cdef EndpointPool pool
        cdef Member member
        cdef list pools = list(self.pools.values())
        assert self.total == sum([each.connections for each in pools])
        assert self.total <= self.max_connections
        assert len(self.idle_members()) == self.idle == sum([each.idle for each in pools])
        assert self.waiting == sum([each.waiting for each in pools])
        assert len(self.closing) == sum([len(each.closing) for each in pools])
        assert self.aborting == sum([each.aborting for each in pools])
        assert self.starving == sum([each.starving for each in pools])
        for pool in pools:
            assert pool.size() <= self.max_per_endpoint
            assert pool.leased >= 0
            assert pool.opening >= 0
            assert pool.aborting >= 0
            assert pool.waiting == len(pool.waiters)
            assert pool.picky == sum([fresh for _, fresh in pool.waiters.values()])
            assert len(self.idle_members(pool)) == pool.idle
            for member in self.idle_members(pool):
                assert member.at == PLACE_IDLE and member.pool is pool and not member.leases
            for member in pool.closing:
                assert member.at == PLACE_CLOSING and member in self.closing
            for member in pool.spare:
                assert member.at == PLACE_LEASED and 0 < member.leases < member.max_leases
            if settled and pool.waiting:
                # whoever waits does so for something that is used, being opened or aborted
                assert not self.has_one_for(pool)
                if pool.size() >= self.max_per_endpoint:
                    assert not (pool.idle or pool.closing) or pool.aborting >= pool.waiting
                else:
                    assert self.total == self.max_connections
                    assert not (self.idle or self.closing) or self.aborting >= self.starving

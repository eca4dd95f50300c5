"""What a connection manager decides: reuse, open, or wait; pure bookkeeping.

Owns: the counts, the idle lists and the queues of waiting callers.  May not touch: sockets,
clocks, futures' loops (times come as arguments, waiters are opaque).
Invariants, which ``check`` asserts:

* ``total`` is the sum of every pool's ``leased + opening + len(idle) + len(closing)``;
* no pool exceeds ``max_per_endpoint``, ``total`` never exceeds ``max_connections``;
* a caller waits only while nothing idle or closing could serve it, by being aborted;
* ``starved`` holds the pools whose callers wait for the total alone.

Every decision is O(1), however many connections, endpoints and waiters there are.

Callers of one endpoint are served first come first served.  Between endpoints, a connection
that is given back goes to a caller of its own endpoint unless the starved pool whose turn it
is has somebody who came earlier: then it is closed to make room.  So a busy endpoint that
always has callers of its own cannot starve the others.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Any

__all__ = ["Action", "EndpointPool", "PoolPolicy"]


class Action(enum.Enum):
    """What a caller that wants a new connection has to do."""

    OPEN = "open"  # a slot is reserved: open one, then say opened() or open_failed()
    WAIT = "wait"  # join the queue


class EndpointPool:
    """The connections to one endpoint.

    Attributes:
        key: the endpoint.
        closing: connections that were told to close and are not lost yet, oldest first.  They
            hold their slots: over TLS the end may take as long as the peer likes.
        idle: connections not in use, with the time since when; the newest last.
        leased: how many are in a caller's hands.
        opening: how many are being opened.
        waiters: who waits, first come first, with a number that tells who came earlier.
    """

    __slots__ = ("closing", "idle", "key", "leased", "opening", "waiters")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.idle: OrderedDict[Any, float] = OrderedDict()
        self.closing: OrderedDict[Any, None] = OrderedDict()
        self.leased = 0
        self.opening = 0
        self.waiters: OrderedDict[Any, int] = OrderedDict()

    @property
    def size(self) -> int:
        """Connections that count against the limit."""
        return self.leased + self.opening + len(self.idle) + len(self.closing)

    def __repr__(self) -> str:
        return (
            f"<{self.key}: {self.leased} leased, {len(self.idle)} idle, "
            f"{self.opening} opening, {len(self.closing)} closing, {len(self.waiters)} waiting>"
        )


class PoolPolicy:
    """Decides for all pools of one manager.

    Args:
        max_connections: over all endpoints.
        max_per_endpoint: for each.

    Raises ``ValueError`` for a limit below one.
    """

    def __init__(self, max_connections: int, max_per_endpoint: int) -> None:
        for name, value in (
            ("max_connections", max_connections),
            ("max_per_endpoint", max_per_endpoint),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.max_connections = max_connections
        self.max_per_endpoint = max_per_endpoint
        self.total = 0
        self.waiting = 0
        self.pools: dict[Any, EndpointPool] = {}
        self.idle: OrderedDict[Any, EndpointPool] = OrderedDict()  # all, oldest first
        self.closing: OrderedDict[Any, EndpointPool] = OrderedDict()  # all, oldest first
        self.starved: OrderedDict[EndpointPool, None] = OrderedDict()  # whose turn, first
        self._joined = 0

    def pool(self, key: Any) -> EndpointPool:
        """Return the pool of *key*, new if need be."""
        found = self.pools.get(key)
        if found is None:
            found = self.pools[key] = EndpointPool(key)
        return found

    def forget_if_empty(self, pool: EndpointPool) -> None:
        """Drop the pool of an endpoint that nobody uses any more."""
        if not pool.size and not pool.waiters and self.pools.get(pool.key) is pool:
            del self.pools[pool.key]

    def _weigh(self, pool: EndpointPool) -> None:
        """Note whether callers of the pool wait for the total alone."""
        if pool.waiters and pool.size - len(pool.closing) < self.max_per_endpoint:
            self.starved.setdefault(pool)
        else:
            self.starved.pop(pool, None)

    # -- wanting a connection ----------------------------------------------------------

    def want(self, pool: EndpointPool) -> tuple[Action, Any]:
        """Decide for a caller that wants a new connection of *pool*.

        With ``OPEN``, what comes with it is a closing or idle connection that must be aborted
        to make room, or ``None``.
        """
        if pool.waiters:
            return Action.WAIT, None
        return self._open(pool)

    def take(self, pool: EndpointPool) -> Any:
        """Lease the newest idle connection; ``KeyError`` when there is none."""
        connection, _ = pool.idle.popitem()
        del self.idle[connection]
        pool.leased += 1
        return connection

    def _open(self, pool: EndpointPool) -> tuple[Action, Any]:
        evicted = None
        if pool.size >= self.max_per_endpoint:
            evicted = next(iter(pool.closing or pool.idle), None)
        elif self.total >= self.max_connections:
            evicted = next(iter(self.closing or self.idle), None)
        else:
            pool.opening += 1
            self.total += 1
            return Action.OPEN, None
        if evicted is None:
            return Action.WAIT, None
        if evicted in self.closing:
            self.remove_closing(evicted)
        else:
            self.remove_idle(evicted)
        pool.opening += 1
        self.total += 1
        return Action.OPEN, evicted

    def opened(self, pool: EndpointPool) -> None:
        """A reserved slot has become a leased connection."""
        pool.opening -= 1
        pool.leased += 1

    def open_failed(self, pool: EndpointPool) -> None:
        """A reserved slot is free again."""
        pool.opening -= 1
        self.total -= 1
        self._weigh(pool)

    # -- giving one back ---------------------------------------------------------------

    def give_back(self, pool: EndpointPool, connection: Any, now: float) -> Any:
        """A leased connection can be used again.

        Returns the waiter whose it is now, or ``None`` when it became idle.  In that case
        ``next_to_open`` is to be asked if anybody is starved: it may be closed for them.
        """
        if pool.waiters and not self._is_outwaited(pool):
            return self._next_waiter(pool)
        pool.leased -= 1
        pool.idle[connection] = now
        self.idle[connection] = pool
        return None

    def _is_outwaited(self, pool: EndpointPool) -> bool:
        """Return whether the starved pool whose turn it is waits longer than *pool*."""
        if not self.starved:
            return False
        other = next(iter(self.starved))
        return next(iter(other.waiters.values())) < next(iter(pool.waiters.values()))

    def remove_leased(self, pool: EndpointPool) -> None:
        """A leased connection is gone."""
        pool.leased -= 1
        self.total -= 1
        self._weigh(pool)

    def remove_idle(self, connection: Any) -> EndpointPool:
        """An idle connection is gone; returns its pool."""
        pool = self.idle.pop(connection)
        del pool.idle[connection]
        self.total -= 1
        self._weigh(pool)
        return pool

    def close_leased(self, pool: EndpointPool, connection: Any) -> None:
        """A leased connection was told to close; it holds its slot until it is lost."""
        pool.leased -= 1
        self._begin_closing(pool, connection)

    def close_idle(self, connection: Any) -> EndpointPool:
        """An idle connection was told to close, like ``close_leased``; returns its pool."""
        pool = self.idle.pop(connection)
        del pool.idle[connection]
        self._begin_closing(pool, connection)
        return pool

    def _begin_closing(self, pool: EndpointPool, connection: Any) -> None:
        pool.closing[connection] = None
        self.closing[connection] = pool
        self._weigh(pool)

    def remove_closing(self, connection: Any) -> None:
        """A closing connection is lost, or aborted, which takes no longer than a pass."""
        pool = self.closing.pop(connection)
        del pool.closing[connection]
        self.total -= 1
        self._weigh(pool)

    def expired(self, before: float) -> Any:
        """Return the connection that is idle the longest if it is so since *before* or earlier."""
        if self.idle:
            connection, pool = next(iter(self.idle.items()))
            if pool.idle[connection] <= before:
                return connection
        return None

    # -- waiting -----------------------------------------------------------------------

    def join(self, pool: EndpointPool, waiter: Any) -> None:
        """Put *waiter*, which must be hashable, at the end of the pool's queue."""
        self._joined += 1
        pool.waiters[waiter] = self._joined
        self.waiting += 1
        self._weigh(pool)

    def leave(self, pool: EndpointPool, waiter: Any) -> None:
        """Take *waiter* out of the queue; nothing happens if it was served."""
        if pool.waiters.pop(waiter, None) is None:
            return
        self.waiting -= 1
        self._weigh(pool)
        self.forget_if_empty(pool)

    def next_to_open(self) -> tuple[EndpointPool, Any, Any] | None:
        """Give a free slot to somebody who waits, endpoint after endpoint.

        Returns ``(pool, waiter, evicted)``; the slot is reserved as with ``OPEN``.
        """
        if not self.starved:
            return None
        pool = next(iter(self.starved))
        action, evicted = self._open(pool)
        if action is not Action.OPEN:
            return None
        return pool, self._next_waiter(pool), evicted

    def _next_waiter(self, pool: EndpointPool) -> Any:
        waiter, _ = pool.waiters.popitem(last=False)
        self.waiting -= 1
        self.starved.pop(pool, None)  # to the end of the line, if it is starved any longer
        self._weigh(pool)
        return waiter

    def check(self) -> None:
        """Assert the invariants; for tests."""
        assert self.total == sum(pool.size for pool in self.pools.values())
        assert self.total <= self.max_connections
        assert len(self.idle) == sum(len(pool.idle) for pool in self.pools.values())
        assert self.waiting == sum(len(pool.waiters) for pool in self.pools.values())
        assert len(self.closing) == sum(len(pool.closing) for pool in self.pools.values())
        slots = self.idle or self.closing or self.total < self.max_connections
        assert not (self.starved and slots)
        for pool in self.pools.values():
            assert pool.size <= self.max_per_endpoint
            assert pool.leased >= 0
            assert pool.opening >= 0
            assert not (pool.waiters and (pool.idle or pool.closing))
            starves = bool(pool.waiters) and pool.size < self.max_per_endpoint
            assert starves == (pool in self.starved)

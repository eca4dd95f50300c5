"""What a connection manager decides: reuse, open, or wait; pure bookkeeping.

Owns: the counts, the idle lists and the queues of waiting callers.  May not touch: sockets,
clocks, futures' loops (times come as arguments, waiters are opaque).
Invariants, which ``check`` asserts:

* ``total`` is the sum of every pool's ``leased + opening + len(idle)``;
* no pool exceeds ``max_per_endpoint``, ``total`` never exceeds ``max_connections``;
* a caller waits only while nothing idle could serve it.

Every decision is O(1), however many connections and endpoints there are.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from typing import Any

__all__ = ["Action", "EndpointPool", "PoolPolicy"]


class Action(enum.Enum):
    """What a caller that wants a connection has to do."""

    REUSE = "reuse"  # the connection that comes with it is the caller's
    OPEN = "open"  # a slot is reserved: open one, then say opened() or open_failed()
    WAIT = "wait"  # join the queue


class EndpointPool:
    """The connections to one endpoint.

    Attributes:
        key: the endpoint.
        idle: connections not in use, with the time since when; the newest last.
        leased: how many are in a caller's hands.
        opening: how many are being opened.
        waiters: who waits, first come first.
    """

    __slots__ = ("idle", "key", "leased", "opening", "waiters")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.idle: OrderedDict[Any, float] = OrderedDict()
        self.leased = 0
        self.opening = 0
        self.waiters: deque[Any] = deque()

    @property
    def size(self) -> int:
        """Connections that count against the limit."""
        return self.leased + self.opening + len(self.idle)

    def __repr__(self) -> str:
        return (
            f"<{self.key}: {self.leased} leased, {len(self.idle)} idle, "
            f"{self.opening} opening, {len(self.waiters)} waiting>"
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
        self._hungry: OrderedDict[EndpointPool, None] = OrderedDict()  # have waiters

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

    # -- wanting a connection ----------------------------------------------------------

    def want(self, pool: EndpointPool) -> tuple[Action, Any]:
        """Decide for a caller that wants a connection of *pool*.

        With ``OPEN``, what comes with it is an idle connection of another endpoint that must
        be closed to make room, or ``None``.
        """
        if pool.idle and not pool.waiters:
            return Action.REUSE, self.take(pool)
        if pool.waiters or pool.size >= self.max_per_endpoint:
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
        if self.total >= self.max_connections:
            if not self.idle:
                return Action.WAIT, None
            evicted = next(iter(self.idle))
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

    # -- giving one back ---------------------------------------------------------------

    def give_back(self, pool: EndpointPool, connection: Any, now: float) -> Any:
        """A leased connection can be used again.

        Returns the waiter whose it is now, or ``None`` when it became idle.
        """
        if pool.waiters:
            return self._next_waiter(pool)
        pool.leased -= 1
        pool.idle[connection] = now
        self.idle[connection] = pool
        return None

    def remove_leased(self, pool: EndpointPool) -> None:
        """A leased connection is gone."""
        pool.leased -= 1
        self.total -= 1

    def remove_idle(self, connection: Any) -> EndpointPool:
        """An idle connection is gone; returns its pool."""
        pool = self.idle.pop(connection)
        del pool.idle[connection]
        self.total -= 1
        return pool

    def expired(self, before: float) -> Any:
        """Return the connection that is idle the longest if it is so since *before* or earlier."""
        if self.idle:
            connection, pool = next(iter(self.idle.items()))
            if pool.idle[connection] <= before:
                return connection
        return None

    # -- waiting -----------------------------------------------------------------------

    def join(self, pool: EndpointPool, waiter: Any) -> None:
        """Put *waiter* at the end of the pool's queue."""
        pool.waiters.append(waiter)
        self.waiting += 1
        self._hungry[pool] = None

    def leave(self, pool: EndpointPool, waiter: Any) -> None:
        """Take *waiter* out of the queue; nothing happens if it was served."""
        try:
            pool.waiters.remove(waiter)
        except ValueError:
            return
        self.waiting -= 1
        if not pool.waiters:
            self._hungry.pop(pool, None)

    def next_to_open(self) -> tuple[EndpointPool, Any, Any] | None:
        """Give a free slot to somebody who waits, endpoint after endpoint.

        Returns ``(pool, waiter, evicted)``; the slot is reserved as with ``OPEN``.
        """
        for _ in range(len(self._hungry)):
            pool = next(iter(self._hungry))
            self._hungry.move_to_end(pool)
            if pool.size < self.max_per_endpoint:
                action, evicted = self._open(pool)
                if action is Action.OPEN:
                    return pool, self._next_waiter(pool), evicted
                return None
        return None

    def _next_waiter(self, pool: EndpointPool) -> Any:
        waiter = pool.waiters.popleft()
        self.waiting -= 1
        if not pool.waiters:
            self._hungry.pop(pool, None)
        return waiter

    def check(self) -> None:
        """Assert the invariants; for tests."""
        assert self.total == sum(pool.size for pool in self.pools.values())
        assert self.total <= self.max_connections
        assert len(self.idle) == sum(len(pool.idle) for pool in self.pools.values())
        assert self.waiting == sum(len(pool.waiters) for pool in self.pools.values())
        for pool in self.pools.values():
            assert pool.size <= self.max_per_endpoint
            assert pool.leased >= 0
            assert pool.opening >= 0
            assert not (pool.waiters and pool.idle)
            assert bool(pool.waiters) == (pool in self._hungry)

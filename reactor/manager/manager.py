"""The connection manager: leases connections of any protocol and cleans up after them.

Owns: the connections that it opened, from opening to loss; the policy's decisions are
``reactor.manager.policy``'s.  May not touch: what flows over them.
Invariant: every connection is leased to one caller, idle, closing, or lost in a caller's
hands; a slot is counted from the decision to open until the connection is lost or aborted
(its descriptor goes in the next pass).  Cancellation at any await leaves both true.

::

    (open) --> LEASED <--release, take--> IDLE --expired, evicted, found closing--+
                 | |                         |                                    v
                 | +---release, discard of no use---------------------------> CLOSING
                lost                        lost                                  |
                 v                           v                                   lost
               LOST --release, discard--> (gone) <--------------------------------+
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from reactor.errors import ConnectionLostError, EndpointTimeoutError
from reactor.limits import (
    ABORT_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ENDPOINT,
    MAX_WAITING,
)
from reactor.manager.policy import Action, EndpointPool, PoolPolicy
from reactor.resolver import Resolver
from reactor.transports.connect import connect

__all__ = ["BEHAVIORS", "ConnectionManager", "Endpoint", "PoolFullError"]

BEHAVIORS = ("pool_and_reuse", "create_and_destroy")


class PoolFullError(ConnectionError):
    """Too many callers wait for a connection already."""


class Endpoint(NamedTuple):
    """Everything that changes what either side of a connection sees: the pool's key.

    Attributes:
        scheme: what is spoken, so that two protocols on one port stay apart.
        host, port: whom to connect to.
        tls: the ``ssl.SSLContext``, compared by identity, or ``None``.  It holds the trusted
            roots, the client certificate and the ALPN list.
        server_hostname: the name that is verified and sent as SNI, if not *host*.
        local_address: where to connect from.
    """

    scheme: str
    host: str
    port: int
    tls: Any = None
    server_hostname: str | None = None
    local_address: tuple[str, int] | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class _State(enum.Enum):
    LEASED = "leased"
    IDLE = "idle"
    CLOSING = "closing"
    LOST = "lost"


class _Connection:
    """What the manager knows of one connection."""

    __slots__ = ("pool", "protocol", "state", "transport", "uses")

    def __init__(self, pool: EndpointPool, transport: Any, protocol: Any) -> None:
        self.pool = pool
        self.transport = transport
        self.protocol = protocol
        self.state = _State.LEASED
        self.uses = 1


class ConnectionManager:
    """Pools, reuses, limits and cleans up connections; belongs to one event loop's thread.

    Args:
        max_connections: over all endpoints, those being opened or closed included.  When a
            caller waits and closing ones stand in the way, the oldest of them is aborted.
        max_per_endpoint: for each endpoint.
        max_waiting: callers that may wait; one more gets ``PoolFullError``.
        idle_seconds: how long a connection may stay unused before it is closed.
        behavior: ``"pool_and_reuse"``, or ``"create_and_destroy"`` to use each once.
        resolver: who turns names into addresses; by default the loop's own.

    Raises ``ValueError`` for a limit below one, a negative time or an unknown behavior.
    """

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_per_endpoint: int = MAX_CONNECTIONS_PER_ENDPOINT,
        max_waiting: int = MAX_WAITING,
        idle_seconds: float = IDLE_SECONDS,
        behavior: str = "pool_and_reuse",
        resolver: Resolver | None = None,
    ) -> None:
        if behavior not in BEHAVIORS:
            raise ValueError(f"behavior is one of {', '.join(BEHAVIORS)}, not {behavior!r}")
        if max_waiting < 0:
            raise ValueError(f"max_waiting must not be negative, not {max_waiting}")
        if not idle_seconds >= 0:
            raise ValueError(f"idle_seconds must not be negative, not {idle_seconds}")
        self._policy = PoolPolicy(max_connections, max_per_endpoint)
        self._max_waiting = max_waiting
        self._idle_seconds = idle_seconds
        self._reuses = behavior == "pool_and_reuse"
        self._resolver = resolver
        # by the protocol's identity: protocols need be neither hashable nor unequal
        self._connections: dict[int, _Connection] = {}
        self._open_count = 0  # of those that are not lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] = time.monotonic  # the loop's, once there is one
        self._expiry: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        self._attempts: set[asyncio.Timeout] = set()  # to open a connection
        self._closed = False
        self._opened = 0
        self._reused = 0

    # -- acquire and release -----------------------------------------------------------

    def take(self, endpoint: Endpoint) -> Any:
        """Lease an idle connection at once; ``None`` when there is none to be had.

        That may also be because something came for the newest one since the loop last read;
        ``acquire`` lets the loop read it, and the protocol judge.
        """
        pool = self._policy.pools.get(endpoint)
        if pool is None or pool.waiters or self._closed:
            return None
        while pool.idle:
            connection = next(reversed(pool.idle))
            if connection.transport.is_quiet():
                self._policy.take(pool)
                connection.state = _State.LEASED
                connection.uses += 1
                self._reused += 1
                return connection.protocol
            if not connection.transport.is_closing():
                return None
            self._policy.take(pool)
            connection.state = _State.LEASED
            self._retire(connection)
        return None

    async def acquire(
        self,
        endpoint: Endpoint,
        factory: Callable[[], Any],
        deadline: float | None = None,
        *,
        fresh: bool = False,
    ) -> Any:
        """Lease a connection: an idle one, a new one, or the next to come free.

        Args:
            endpoint: where to; also the key of the pool.
            factory: makes the protocol of a new connection.
            deadline: when to give up, on the loop's clock in seconds.
            fresh: no idle one, for a caller that has found one to be stale.  Where it has to
                wait, it may still be handed one that another caller gives back just then.

        Returns the protocol.  Raises the ``EndpointError`` of the phase that failed
        (``"pool"`` while waiting for a free one), ``PoolFullError`` when too many wait,
        ``RuntimeError`` after ``close``.
        """
        while True:
            if self._closed:
                raise RuntimeError("the connection manager is closed")
            protocol = None if fresh else self.take(endpoint)
            if protocol is not None:
                return protocol
            pool = self._policy.pool(endpoint)
            if pool.idle and not pool.waiters and not fresh:
                connection = self._policy.take(pool)
                connection.state = _State.LEASED
                if await self._settled(connection):
                    connection.uses += 1
                    self._reused += 1
                    return connection.protocol
                continue
            action, evicted = self._policy.want(pool)
            if action is Action.WAIT:
                connection = await self._wait(pool, deadline)
                if connection is not None:
                    if connection.transport.is_quiet() or await self._settled(connection):
                        return connection.protocol
                    continue
            elif evicted is not None:
                self._abort(evicted)
            return await self._open(pool, factory, deadline)

    async def _settled(self, connection: _Connection) -> bool:
        """Let the loop read what has come for a connection in our hands, unasked for.

        Return whether the connection is still of use; otherwise it was let go.  Bytes that
        mean something to the layers below (a TLS session ticket) or to the protocol (a PING)
        are dealt with by them.  A protocol that cannot place them closes the connection, as
        it does when the loop was not too busy to read them as they came.  What is still
        unread after a pass is a surplus that nobody wants.
        """
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._drop(connection)
            raise
        if not self._closed and connection.transport.is_quiet():
            return True
        self._drop(connection)
        return False

    @contextlib.asynccontextmanager
    async def lease(
        self, endpoint: Endpoint, factory: Callable[[], Any], deadline: float | None = None
    ) -> AsyncIterator[Any]:
        """Acquire a connection for an ``async with`` block; discard it if the block raises."""
        protocol = await self.acquire(endpoint, factory, deadline)
        try:
            yield protocol
        except BaseException:
            self.discard(protocol)
            raise
        self.release(protocol)

    def release(self, protocol: Any) -> None:
        """Give a leased connection back for others to use.

        Raises ``ValueError`` for what is not leased.
        """
        connection = self._leased(protocol)
        if not self._reuses or self._closed or connection.transport.is_closing():
            self._let_go(connection)
            return
        policy = self._policy
        now = self._clock()
        while True:
            waiter = policy.give_back(connection.pool, connection, now)
            if waiter is None:
                break
            if not waiter.done():  # else it was cancelled and has yet to leave
                connection.uses += 1
                self._reused += 1
                waiter.set_result(connection)
                return
        connection.state = _State.IDLE
        if policy.starved:
            self._slot_freed(connection.pool)
        if self._expiry is None:
            self._schedule_expiry(self._idle_seconds)

    def discard(self, protocol: Any) -> None:
        """Give a leased connection back that nobody may use again; it is aborted.

        Raises ``ValueError`` for what is not leased.
        """
        self._drop(self._leased(protocol))

    def _leased(self, protocol: Any) -> _Connection:
        """Return the connection of *protocol*, which is leased, or was when it was lost."""
        connection = self._connections.get(id(protocol))
        if connection is None or connection.state not in (_State.LEASED, _State.LOST):
            raise ValueError(f"{protocol!r} is not leased from this manager")
        return connection

    def _let_go(self, connection: _Connection) -> None:
        """Take back what was leased and is of no use."""
        if connection.state is _State.LOST:
            del self._connections[id(connection.protocol)]
        else:
            self._retire(connection)

    def _drop(self, connection: _Connection) -> None:
        """Take back what was leased and abort it."""
        if connection.state is _State.LOST:
            del self._connections[id(connection.protocol)]
        else:
            self._policy.remove_leased(connection.pool)
            self._abort(connection)
            self._slot_freed(connection.pool)

    # -- opening and waiting -----------------------------------------------------------

    async def _open(
        self, pool: EndpointPool, factory: Callable[[], Any], deadline: float | None
    ) -> Any:
        """Open a connection in a slot that is reserved."""
        endpoint: Endpoint = pool.key
        scope = asyncio.timeout(None)  # close() ends it
        self._attempts.add(scope)
        try:
            self._bind()
            async with scope:
                transport, protocol = await connect(
                    factory,
                    endpoint.host,
                    endpoint.port,
                    tls=endpoint.tls,
                    server_hostname=endpoint.server_hostname,
                    local_address=endpoint.local_address,
                    deadline=deadline,
                    resolver=self._resolver,
                )
        except BaseException as error:
            self._policy.open_failed(pool)
            self._slot_freed(pool)
            self._note_end()
            if scope.expired() and isinstance(error, TimeoutError):
                raise RuntimeError("the connection manager is closed") from None
            raise
        finally:
            self._attempts.discard(scope)
        self._policy.opened(pool)
        self._opened += 1
        self._open_count += 1
        connection = _Connection(pool, transport, protocol)
        other = self._connections.setdefault(id(protocol), connection)
        transport.lost_callback = lambda _transport: self._lost(connection)
        if other is connection and not self._closed and not transport.is_closing():
            return protocol
        self._drop(connection)
        if transport.get_protocol() is None:
            self._lost(connection)
        if other is not connection:
            raise ValueError(f"the factory returned {protocol!r} for a second connection")
        if self._closed:
            raise RuntimeError("the connection manager is closed")
        raise ConnectionLostError(
            "the connection was closed before it could be used",
            host=endpoint.host,
            port=endpoint.port,
            phase="connect" if endpoint.tls is None else "tls",
        )

    def _bind(self) -> None:
        """Tie the manager to the loop on which it opens its first connection."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._clock = loop.time
        elif self._loop is not loop:
            raise RuntimeError("the connection manager belongs to another event loop")

    async def _wait(self, pool: EndpointPool, deadline: float | None) -> _Connection | None:
        """Wait for a connection, or (``None``) for a reserved slot to open one in."""
        endpoint: Endpoint = pool.key
        if self._policy.waiting >= self._max_waiting:
            self._policy.forget_if_empty(pool)
            raise PoolFullError(
                f"pool {endpoint}: {self._policy.waiting} callers wait for a connection already"
            )
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[_Connection | None] = loop.create_future()
        self._policy.join(pool, waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            self._policy.leave(pool, waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._refuse(pool, waiter.result())
            if isinstance(error, TimeoutError):
                raise EndpointTimeoutError(
                    "no connection came free before the deadline",
                    host=endpoint.host,
                    port=endpoint.port,
                    phase="pool",
                ) from None
            raise

    def _refuse(self, pool: EndpointPool, connection: _Connection | None) -> None:
        """Pass on what a waiter was given when it had just stopped waiting."""
        if connection is None:
            self._policy.open_failed(pool)
            self._slot_freed(pool)
        else:
            self.release(connection.protocol)

    def _slot_freed(self, pool: EndpointPool) -> None:
        """Let those who wait use what came free."""
        while self._policy.waiting:
            served = self._policy.next_to_open()
            if served is None:
                break
            hungry, waiter, evicted = served
            if evicted is not None:
                self._abort(evicted)
            if waiter.done():  # cancelled, and has yet to leave
                self._policy.open_failed(hungry)
                self._policy.forget_if_empty(hungry)
            else:
                waiter.set_result(None)
        self._policy.forget_if_empty(pool)

    # -- the end of connections ----------------------------------------------------------

    def _lost(self, connection: _Connection) -> None:
        """The transport is gone, for whatever reason."""
        self._open_count -= 1
        if connection.state is _State.LEASED:
            connection.state = _State.LOST  # until its holder gives it back
            self._policy.remove_leased(connection.pool)
        else:
            if self._connections.get(id(connection.protocol)) is connection:
                del self._connections[id(connection.protocol)]
            if connection.state is _State.IDLE:
                self._policy.remove_idle(connection)
            elif connection in self._policy.closing:
                self._policy.remove_closing(connection)
        self._slot_freed(connection.pool)
        self._note_end()

    def _note_end(self) -> None:
        """Wake who waits for the last connection to be gone."""
        if (
            self._empty is not None
            and not self._empty.done()
            and not self._open_count
            and not self._policy.total
        ):
            self._empty.set_result(None)

    def _retire(self, connection: _Connection) -> None:
        """Close a leased connection: it is of no use."""
        connection.state = _State.CLOSING
        self._policy.close_leased(connection.pool, connection)
        connection.transport.close()
        self._slot_freed(connection.pool)

    def _abort(self, connection: _Connection) -> None:
        """End a connection that the policy counts no longer."""
        connection.state = _State.CLOSING
        connection.transport.abort()

    def _schedule_expiry(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        """Close what has been idle for too long, and look again when the next one will be."""
        self._expiry = None
        now = asyncio.get_running_loop().time()
        while True:
            connection = self._policy.expired(now - self._idle_seconds)
            if connection is None:
                break
            connection.state = _State.CLOSING
            pool = self._policy.close_idle(connection)
            connection.transport.close()
            self._slot_freed(pool)
        if self._policy.idle:
            oldest, pool = next(iter(self._policy.idle.items()))
            self._schedule_expiry(pool.idle[oldest] + self._idle_seconds - now)

    async def close(self, timeout: float = 5.0) -> None:
        """Close every connection; what is not over after *timeout* seconds is aborted.

        Those still leased have as long.  Callers that wait, or whose connection is being
        opened, get ``RuntimeError``; so does every ``acquire`` from now on.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise RuntimeError("the connection manager belongs to another event loop")
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._loop is not loop:
            return  # never used, or its connections ended with its loop
        for pool in list(self._policy.pools.values()):
            while pool.waiters:
                waiter = next(iter(pool.waiters))
                self._policy.leave(pool, waiter)
                if not waiter.done():
                    waiter.set_exception(RuntimeError("the connection manager is closed"))
        for scope in self._attempts:
            scope.reschedule(loop.time())
        for connection in list(self._policy.idle):
            connection.state = _State.CLOSING
            self._policy.close_idle(connection)
            connection.transport.close()
        if not self._open_count and not self._policy.total:
            return
        if self._empty is None:
            self._empty = loop.create_future()
        await asyncio.wait([self._empty], timeout=timeout)
        if not self._empty.done():
            for connection in list(self._connections.values()):
                connection.transport.abort()
            # a pass or two; a call-back that left the loop may have swallowed the end of one
            await asyncio.wait([self._empty], timeout=ABORT_SECONDS)

    # -- sight -------------------------------------------------------------------------

    def stats(self) -> dict[str, int]:
        """Return the counters: connections by state, callers waiting, opened, reused."""
        policy = self._policy
        return {
            "leased": sum(pool.leased for pool in policy.pools.values()),
            "idle": len(policy.idle),
            "opening": sum(pool.opening for pool in policy.pools.values()),
            "closing": len(policy.closing),
            "waiting": policy.waiting,
            "opened": self._opened,
            "reused": self._reused,
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        pools = ", ".join(map(repr, self._policy.pools.values()))
        return (
            f"<ConnectionManager {state}, {self._policy.total} of "
            f"{self._policy.max_connections} connections{': ' if pools else ''}{pools}>"
        )

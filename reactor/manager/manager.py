"""The connection manager: leases connections of any protocol and cleans up after them.

Owns: the connections that it opened, from opening to loss; the policy's decisions are
``reactor.manager.policy``'s, what is called for each lease is ``reactor.manager.leases``'s.
May not touch: what flows over them.
Invariant: every connection is leased, idle, closing, or lost in its callers' hands; a slot is
counted from the decision to open until the connection is lost.  Cancellation at any await
leaves both true.

::

    (open) --> LEASED <--release, take--> IDLE --expired, evicted, found closing--+
                 | |                         |                                    v
                 | +---release, discard of no use---------------> CLOSING, ABORTING
                lost                        lost                                  |
                 v                           v                                   lost
               LOST --release, discard--> (gone) <--------------------------------+
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

from reactor.core import Reactor
from reactor.errors import ConnectionLostError
from reactor.limits import (
    ABORT_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ENDPOINT,
    MAX_TLS_SESSIONS,
    MAX_WAITING,
)
from reactor.manager.endpoint import Endpoint, as_endpoint, open_directly
from reactor.manager.histogram import Histogram
from reactor.manager.leases import Connection, Leases, Slot, Waiter
from reactor.manager.policy import EndpointPool, PoolPolicy
from reactor.manager.sight import PoolEvent, PoolStats
from reactor.resolver import Resolver
from reactor.transports.tls_sessions import TLSSessions
from reactor.waiting import wait

__all__ = [
    "BEHAVIORS",
    "OPTIMIZATIONS",
    "ConnectionManager",
    "PoolClosedError",
    "PoolFullError",
]

BEHAVIORS = ("pool_and_reuse", "create_and_destroy")
OPTIMIZATIONS = ("scale", "speed")


class PoolFullError(ConnectionError):
    """Too many callers wait for a connection already."""


class PoolClosedError(RuntimeError):
    """The connection manager was closed."""

    def __init__(self) -> None:
        super().__init__("the connection manager is closed")


class ConnectionManager(Leases):
    """Pools, reuses, limits and cleans up connections; belongs to one event loop's thread.

    ``BlockingConnectionManager`` is its face for other threads.

    Args:
        max_connections: over all endpoints, those being opened or closed included.  When a
            caller waits and closing or idle ones stand in the way, the oldest is aborted.
        max_per_endpoint: for each endpoint.
        max_waiting: callers that may wait; one more gets ``PoolFullError``.
        idle_seconds: how long a connection may stay unused before it is closed.
        max_age_seconds: how long a connection may live; it is closed when it is given back,
            or by the loop's timer while it is idle.  ``None`` for no limit.
        max_uses: how often a connection may be leased.  ``None`` for no limit.
        optimization: ``"scale"`` asks the kernel before each lease whether anything came for
            an idle connection; ``"speed"`` leaves that out where it was given back less than
            a millisecond ago.
        behavior: ``"pool_and_reuse"``, or ``"create_and_destroy"`` to use each once.
        resolver: who turns names into addresses; by default the loop's own.
        resume_tls: whether a new TLS connection resumes a session of an earlier one to the same
            endpoint, which was verified then (see ``reactor.transports.tls_sessions``).
        on_event: called with a ``PoolEvent`` for each thing that happens, for counters and
            traces of other systems.  What it raises goes to the loop's exception handler.

    Raises ``ValueError`` for a limit below one, a negative time or an unknown mode.
    """

    def __init__(
        self,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_per_endpoint: int = MAX_CONNECTIONS_PER_ENDPOINT,
        max_waiting: int = MAX_WAITING,
        idle_seconds: float = IDLE_SECONDS,
        max_age_seconds: float | None = None,
        max_uses: int | None = None,
        optimization: str = "scale",
        behavior: str = "pool_and_reuse",
        resolver: Resolver | None = None,
        resume_tls: bool = True,
        on_event: Callable[[PoolEvent], object] | None = None,
    ) -> None:
        for name, mode, known in (
            ("optimization", optimization, OPTIMIZATIONS),
            ("behavior", behavior, BEHAVIORS),
        ):
            if mode not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {mode!r}")
        if max_waiting < 1:
            raise ValueError(f"max_waiting must be at least 1, not {max_waiting}")
        if max_uses is not None and max_uses < 1:
            raise ValueError(f"max_uses must be at least 1, not {max_uses}")
        if not idle_seconds >= 0:
            raise ValueError(f"idle_seconds must not be negative, not {idle_seconds}")
        if max_age_seconds is not None and not max_age_seconds >= 0:
            raise ValueError(f"max_age_seconds must not be negative, not {max_age_seconds}")
        super().__init__(
            PoolPolicy(max_connections, max_per_endpoint),
            trusts=optimization == "speed",
            max_uses=max_uses or 0,
            max_waiting=max_waiting,
            on_event=on_event,
        )
        self._idle_seconds = idle_seconds
        self._max_age_seconds = max_age_seconds
        self._reuses = behavior == "pool_and_reuse"
        self._resolver = resolver
        self._tls_sessions = TLSSessions(MAX_TLS_SESSIONS if resume_tls else 0)
        self._by_age: OrderedDict[Connection, None] = OrderedDict()  # where there is a maximum
        self._aging: asyncio.TimerHandle | None = None
        self._attempts: set[asyncio.Timeout] = set()  # to open a connection
        self._opened = 0
        self._failed = 0
        self._ends: Counter[str] = Counter()
        self._connects = Histogram()

    # -- acquire and release (and acquire, take and release of Leases) --------------------

    async def _acquire(
        self,
        factory: Callable[[], Any],
        endpoint: Endpoint,
        deadline: float | None,
        fresh: bool,
        waiter: Waiter | None = None,
    ) -> Any:
        """Lease a connection where none was to be had at once; see ``acquire``.

        Who waited for that was served what *waiter* holds.
        """
        policy = self._policy
        held: Connection | Slot | Waiter | None = waiter  # till it is somebody else's to give back
        try:
            while True:
                self._check_use()
                if held is None:
                    pool = policy.pool(endpoint)
                    connection = None if fresh else policy.lendable(pool)
                    if connection is not None:
                        held = connection
                        policy.lend(connection)
                    elif policy.may_open(pool):
                        held = self._reserve(pool)
                    else:
                        held = self._line_up(pool, deadline, fresh)
                if isinstance(held, Waiter):
                    await held.future
                    held.check()
                    found = held.found
                    if isinstance(found, Slot):
                        held = held.take()
                    elif self._is_quiet(found) or await self._settled(found):
                        return held.lend()
                    else:
                        held.spoil()
                elif isinstance(held, Connection):
                    if await self._settled(held):
                        return self._lent(held)
                    self._spoil(held)
                if isinstance(held, Slot):
                    return await self._open(held, factory, deadline)
                held = None
                if not fresh:
                    protocol = self.take(endpoint)
                    if protocol is not None:
                        return protocol
        except BaseException:
            if isinstance(held, Slot):
                held.free()
            elif isinstance(held, Waiter):
                held.give_up()
            elif held is not None and held.leases:
                self._drop(held, "discarded")
            raise

    @contextlib.asynccontextmanager
    async def lease(
        self,
        factory: Callable[[], Any],
        host: str | Endpoint,
        port: int | None = None,
        *,
        deadline: float | None = None,
        **key: Any,
    ) -> AsyncIterator[Any]:
        """Acquire a connection for an ``async with`` block; discard it if the block raises."""
        protocol = await self.acquire(factory, host, port, deadline=deadline, **key)
        try:
            yield protocol
        except BaseException:
            self.discard(protocol)
            raise
        self.release(protocol)

    def set_max_leases(self, protocol: Any, max_leases: int) -> None:
        """Let so many callers have a connection at a time, from now on.

        What a multiplexed protocol calls when it learns how many its peer will serve.  With 0
        it is leased no more, and closed once those who have it have given it back.  Nothing
        happens if the connection is gone.
        """
        if max_leases < 0:
            raise ValueError(f"max_leases must not be negative, not {max_leases}")
        self._check_thread()
        connection = self._find(protocol)
        if connection is None or connection.place not in ("leased", "idle"):
            return
        if max_leases == 0:
            self._wear_out(connection, "unusable")
        elif connection.reason is None:
            self._policy.set_max_leases(connection, max_leases)
            self._serve()

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosedError

    def _check_use(self) -> None:
        """Raise unless the manager is open and this is its loop; the first one is."""
        self._check_open()
        loop = asyncio.get_running_loop()
        if not isinstance(loop, Reactor):
            raise RuntimeError(f"a connection manager needs a reactor event loop, not {loop!r}")
        self._bind(loop)

    async def _settled(self, connection: Connection) -> bool:
        """Let the loop read what has come for a connection in our hands, unasked for.

        Return whether the connection is still of use.  It is in our hands as before.

        Bytes that mean something to the layers below (a TLS session ticket) or to the protocol
        (a PING) are dealt with by them.  A protocol that cannot place them closes the
        connection, as it does when the loop was not too busy to read them as they came.  What
        is still unread after a pass is a surplus that nobody wants.
        """
        await asyncio.sleep(0)
        return not self._closed and self._is_quiet(connection)

    # -- opening and waiting -----------------------------------------------------------

    async def _open(
        self,
        slot: Slot,
        factory: Callable[[], Any],
        deadline: float | None,
        uses: int = 1,
    ) -> Any:
        """Open a connection in a slot."""
        endpoint: Endpoint = slot.pool.key
        began = self._now_ns()
        connection: Connection | None = None
        try:
            connection = await self._opened_by(slot, factory, deadline, uses)
            is_known = not slot.fill(connection)
            self._connects.observe((connection.opened_ns - began) / 1e9)
            self._opened += 1
            self._tell_of("opened", endpoint, None, began)
            if not is_known and not self._closed and not connection.transport.is_closing():
                self._welcome(connection)
                return connection.protocol
        except BaseException as error:
            slot.free()
            if connection is None:
                if not isinstance(error, PoolClosedError):
                    self._failed += 1
                    self._tell_of("failed", endpoint, None, began)
            elif connection.leases:
                self._drop(connection, "discarded")
            else:
                connection.transport.abort()
            raise
        self._drop(connection, "discarded")
        if connection.transport.get_protocol() is None and connection.place != "lost":
            self._lost(connection)
        if is_known:
            raise ValueError(
                f"the factory returned {connection.protocol!r} for a second connection"
            )
        if self._closed:
            raise PoolClosedError
        raise ConnectionLostError(
            "the connection was closed before it could be used",
            host=endpoint.host,
            port=endpoint.port,
            phase="connect" if endpoint.tls is None else "tls",
        )

    async def _opened_by(
        self, slot: Slot, factory: Callable[[], Any], deadline: float | None, uses: int
    ) -> Connection:
        """Return what the endpoint's opener opens, unless ``close`` ends the attempt."""
        endpoint: Endpoint = slot.pool.key
        opener = open_directly if endpoint.opener is None else endpoint.opener
        scope = asyncio.timeout(None)  # close() ends it
        transport: Any = None
        try:
            async with scope:
                self._attempts.add(scope)
                # without the context, which a session's key knows and must not keep alive
                with self._tls_sessions.used_for(endpoint._replace(tls=None)):
                    transport, protocol = await opener(factory, endpoint, deadline, self._resolver)
                return Connection(self, transport, protocol, _max_leases(protocol), uses)
        except BaseException as error:
            if transport is not None:
                transport.abort()
            if scope.expired() and isinstance(error, TimeoutError):
                raise PoolClosedError from None
            raise
        finally:
            self._attempts.discard(scope)

    def _welcome(self, connection: Connection) -> None:
        """Begin the life of a connection that was opened."""
        if not self._reuses:
            self._wear_out(connection, "single_use")
        elif 0 < self._max_uses == connection.uses:
            self._wear_out(connection, "uses")
        elif connection.max_leases > 1:
            self._serve()
        if self._max_age_seconds is not None:
            self._by_age[connection] = None
            if self._aging is None:
                self._aging = self._loop.call_later(self._max_age_seconds, self._age_out)

    def _line_up(self, pool: EndpointPool, deadline: float | None, fresh: bool) -> Waiter:
        """Wait for a connection, or for a slot to open one in."""
        policy = self._policy
        if policy.waiting >= self._max_waiting:
            policy.forget_if_empty(pool)
            raise PoolFullError(
                f"pool {pool.key}: {policy.waiting} callers wait for a connection already"
            )
        return self._join(pool, deadline, fresh)

    async def prewarm(
        self,
        factory: Callable[[], Any],
        host: str | Endpoint,
        port: int | None = None,
        *,
        count: int,
        deadline: float | None = None,
        **key: Any,
    ) -> int:
        """Open connections until the endpoint has *count*, as far as free slots allow.

        They are opened at the same time and lie idle then.  Nobody waits and nothing is
        evicted for them.  Returns how many were opened.  Raises the first error, when all
        attempts are over; ``ValueError`` for a count below one or above the limits.
        """
        policy = self._policy
        limit = min(policy.max_connections, policy.max_per_endpoint)
        if not 1 <= count <= limit:
            raise ValueError(f"count is 1 to {limit}, not {count}")
        if not self._reuses:
            raise ValueError("with create_and_destroy there is nothing to keep warm")
        self._check_use()
        pool = policy.pool(as_endpoint(host, port, key))
        slots: list[Slot] = []
        while pool.leased + pool.idle + pool.opening < count and policy.may_open(pool):
            slots.append(self._reserve(pool))
        policy.forget_if_empty(pool)

        async def warm(slot: Slot) -> None:
            self.release(await self._open(slot, factory, deadline, uses=0))

        try:
            results = await asyncio.gather(*map(warm, slots), return_exceptions=True)
        finally:
            for slot in slots:  # those that were cancelled before they began
                slot.free()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(results)

    # -- the end of connections ----------------------------------------------------------

    def _note_lost(self, connection: Connection) -> None:
        """The transport is gone, for whatever reason: count that."""
        self._by_age.pop(connection, None)
        reason = connection.reason or "lost"
        self._ends[reason] += 1
        self._tell_of("closed", connection.pool.key, reason, connection.opened_ns)

    def _schedule_expiry(self) -> None:
        """See to it that idle connections expire; the oldest one first."""
        oldest = self._policy.oldest_idle()
        if oldest is not None:
            due = oldest.since_ns / 1e9 + self._idle_seconds
            self._expiry = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        """Close what has been idle for too long, and look again when the next one will be."""
        self._expiry = None
        before = self._now_ns() - int(self._idle_seconds * 1e9)
        while (oldest := self._policy.oldest_idle()) is not None and oldest.since_ns <= before:
            self._end(oldest, "idle")
        self._schedule_expiry()

    def _age_out(self) -> None:
        """Close what has grown too old, at once or when it is given back."""
        assert self._max_age_seconds is not None
        self._aging = None
        limit = int(self._max_age_seconds * 1e9)
        while self._by_age:
            connection = next(iter(self._by_age))
            left = connection.opened_ns + limit - self._now_ns()
            if left > 0:
                self._aging = self._loop.call_later(left / 1e9, self._age_out)
                return
            del self._by_age[connection]
            self._wear_out(connection, "age")

    async def drain(
        self,
        host: str | Endpoint | None = None,
        port: int | None = None,
        *,
        timeout: float = 5.0,
        **key: Any,
    ) -> None:
        """Close the connections that there are now, to one endpoint or (without a host) to all.

        Idle ones are closed at once, leased ones when they are given back; what is not over
        after *timeout* seconds is aborted.  New ones may be opened meanwhile.
        """
        self._check_use()
        endpoint = None if host is None else as_endpoint(host, port, key)
        await self._close_all(
            [each for each in self._all() if endpoint is None or each.pool.key == endpoint],
            "drained",
            timeout,
        )

    async def close(self, timeout: float = 5.0) -> None:
        """Close every connection; what is not over after *timeout* seconds is aborted.

        Those still leased have as long.  Callers that wait, or whose connection is being
        opened, get ``PoolClosedError``; so does every ``acquire`` from now on.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise RuntimeError("the connection manager belongs to another event loop")
        self._closed = True
        self._tls_sessions.clear()
        for timer in (self._expiry, self._aging):
            if timer is not None:
                timer.cancel()
        self._expiry = self._aging = None
        if self._loop is not loop:
            return  # never used, or its connections ended with its loop
        for pool in list(self._policy.pools.values()):
            while pool.waiting:
                waiter: Waiter = next(iter(pool.waiters))
                waiter.fail(PoolClosedError())
        for scope in self._attempts:
            if not scope.expired():  # by an earlier call, and the opener has yet to give up
                scope.reschedule(loop.time())
        if await self._close_all(self._all(), "closed", timeout):
            await self._until(lambda: not self._policy.total, ABORT_SECONDS)

    async def _close_all(self, doomed: list[Connection], reason: str, timeout: float) -> bool:
        """Close *doomed* when nobody has them; abort what is left after *timeout* seconds.

        Returns whether all are over.
        """

        def is_over() -> bool:
            while doomed and doomed[-1].place == "lost":
                doomed.pop()
            return not doomed

        for connection in doomed:
            self._wear_out(connection, reason)
        if await self._until(is_over, timeout):
            return True
        for connection in doomed:
            if connection.place != "lost":
                self._end(connection, reason, abort=True)
        # a pass or two; a call-back that left the loop may have swallowed the end of one
        return await self._until(is_over, ABORT_SECONDS)

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until *condition* holds, which changes when a slot comes free."""
        loop = self._loop
        deadline = loop.time() + timeout
        while not condition():
            if self._change is None:
                self._change = loop.create_future()
            left = deadline - loop.time()
            if not await wait([self._change], timeout=max(0.0, left)):
                return condition()
        return True

    # -- sight -------------------------------------------------------------------------

    def _tell_of(self, kind: str, endpoint: Endpoint, reason: str | None, since_ns: int) -> None:
        if self.on_event is not None:
            seconds = (self._now_ns() - since_ns) / 1e9
            self._tell(PoolEvent(kind, endpoint, reason, seconds))

    def _tell(self, event: PoolEvent) -> None:
        """Call the hook; what it raises must not cost a connection."""
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except (KeyboardInterrupt, SystemExit) as error:
            self._loop.call_soon(_raise, error)  # they end the loop, but not half a decision
        except BaseException as error:  # noqa: BLE001 - it goes to the loop's handler
            self._loop.call_exception_handler(
                {"message": f"on_event failed for {event}", "exception": error}
            )

    def stats(self) -> PoolStats:
        """Return the counters and histograms as plain data; see ``PoolStats``."""
        policy = self._policy
        pools = policy.pools.values()
        return {
            "leased": sum(pool.leased for pool in pools),
            "idle": policy.idle,
            "opening": sum(pool.opening for pool in pools),
            "closing": len(policy.closing) + policy.aborting,
            "waiting": policy.waiting,
            "opened": self._opened,
            "reused": self._reused,
            "failed": self._failed,
            "gave_up": self._gave_up,
            "closed": dict(self._ends),
            "tls_handshakes": self._tls_sessions.handshakes,
            "tls_resumed": self._tls_sessions.resumed,
            "wait_seconds": self._waits.snapshot(),
            "connect_seconds": self._connects.snapshot(),
        }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        pools = ", ".join(map(repr, list(self._policy.pools.values())))  # of any thread
        return (
            f"<ConnectionManager {state}, {self._policy.total} of "
            f"{self._policy.max_connections} connections{': ' if pools else ''}{pools}>"
        )


def _raise(error: BaseException) -> None:
    raise error


def _max_leases(protocol: Any) -> int:
    max_leases = getattr(protocol, "max_leases", 1)
    if not isinstance(max_leases, int):
        raise TypeError(f"max_leases of {protocol!r} is not an int: {max_leases!r}")
    if max_leases < 1:
        raise ValueError(f"max_leases of {protocol!r} must be at least 1, not {max_leases}")
    return max_leases

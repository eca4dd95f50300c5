"""What can be seen of a connection manager: counters, histograms, events.

Owns: the shapes of what is told.  May not touch: the manager.
Invariant: what is told is a copy; nobody changes the manager through it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

__all__ = ["HistogramStats", "PoolEvent", "PoolStats"]


class PoolEvent(NamedTuple):
    """One thing that happened in a connection manager.

    Attributes:
        kind: ``"opened"``, ``"failed"`` (to open), ``"reused"``, ``"released"`` (and idle now),
            ``"waited"``, ``"gave_up"`` (waiting), or ``"closed"``.
        endpoint: where.
        reason: of ``"closed"``, see ``PoolStats``; else ``None``.
        seconds: how long it took to open, how long a caller waited, how old the connection
            was that is closed; else 0.
    """

    kind: str
    endpoint: Any
    reason: str | None
    seconds: float


class HistogramStats(TypedDict):
    """A histogram as plain data.

    Attributes:
        count, sum: of the observations, the latter in seconds.
        buckets: for each upper end in seconds how many were not above it; Prometheus calls
            that cumulative.
    """

    count: int
    sum: float
    buckets: dict[float, int]


class PoolStats(TypedDict):
    """The counters of a manager as plain data.

    Attributes:
        leased, idle, opening, closing: connections at this moment; each holds a slot.
        waiting: callers that wait for a connection at this moment.
        opened, reused: connections opened, leases of one that had been used before.
        failed: attempts to open one that failed.
        gave_up: callers that stopped waiting: deadlines and cancellations.
        closed: connections by reason: ``"lost"`` (the peer or the network ended it),
            ``"idle"``, ``"age"``, ``"uses"``, ``"single_use"`` (create_and_destroy),
            ``"evicted"`` (somebody needed the slot), ``"unusable"`` (closing, or with bytes
            that nobody wanted), ``"discarded"``, ``"drained"``, ``"closed"`` (the manager was).
        tls_handshakes: handshakes that were completed, with origins and with proxies,
        tls_resumed: and how many of them resumed the session of an earlier connection.
        wait_seconds: how long those waited who were served after waiting.
        connect_seconds: how long opening took, resolution, race and TLS.
    """

    leased: int
    idle: int
    opening: int
    closing: int
    waiting: int
    opened: int
    reused: int
    failed: int
    gave_up: int
    closed: dict[str, int]
    tls_handshakes: int
    tls_resumed: int
    wait_seconds: HistogramStats
    connect_seconds: HistogramStats

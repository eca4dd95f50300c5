"""Timeouts: how long each phase of a request may take, and the error of each.

Owns: the seconds of the phases, and which phase the way to a connection is in.  Touches: the
running loop's timers.  May not touch: what flows over connections.
Invariant: a phase without a limit of its own has that of the whole request, if there is one.

    total    from the call to the last byte: name resolution, redirects, retries and all
    pool     waiting for a connection, while as many as may be are in use
    connect  resolving the name, and TCP; through a proxy, until the tunnel stands
    tls      the handshake with the origin
    write    without progress in sending; what the caller's own iterator takes does not count
    read     without progress in receiving: the head of the response, each piece of its body
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Final

from protocols.http.limits import LONGEST_TIMEOUT_SECONDS
from reactor import ConnectionManager, Endpoint, EndpointTimeoutError

__all__ = [
    "PHASES",
    "ConnectTimeout",
    "Phases",
    "PoolTimeout",
    "ReadTimeout",
    "TLSTimeout",
    "Timeout",
    "WriteTimeout",
    "acquire_in_phases",
    "check_seconds",
    "phase_timeout",
]


class PoolTimeout(EndpointTimeoutError):
    """No connection came free in the time for that."""


class ConnectTimeout(EndpointTimeoutError):
    """The connection was not made in the time for that."""


class TLSTimeout(EndpointTimeoutError):
    """The TLS handshake was not over in the time for that."""


class WriteTimeout(EndpointTimeoutError):
    """The endpoint took nothing of the request for too long."""


class ReadTimeout(EndpointTimeoutError):
    """The endpoint sent nothing for too long."""


_KINDS: Final[dict[str, tuple[type[EndpointTimeoutError], str]]] = {
    "pool": (PoolTimeout, "no connection came free in {} seconds"),
    "connect": (ConnectTimeout, "no connection after {} seconds"),
    "tls": (TLSTimeout, "the handshake was not over after {} seconds"),
    "write": (WriteTimeout, "nothing was taken for {} seconds"),
    "read": (ReadTimeout, "nothing came for {} seconds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phases:
    pool: float | None = None
    connect: float | None = None
    tls: float | None = None
    write: float | None = None
    read: float | None = None


@dataclass(frozen=True, slots=True)
class Timeout(_Phases):
    """Seconds for a request and for its phases; ``None`` for no limit.

    A plain number in its place is ``Timeout(number)``: the total.

    Raises ``ValueError`` for what is not more than 0.
    """

    total: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            check_seconds(getattr(self, field.name), field.name)

    @property
    def has_phases(self) -> bool:
        """Whether more than the total is limited."""
        return any(getattr(self, phase) is not None for phase in _KINDS)


def check_seconds(timeout: Any, name: str = "a timeout") -> None:
    """Raise for a timeout that is neither ``None`` nor more than 0 seconds.

    ``TypeError`` for what is no number: the pair that requests has is ``Timeout(connect=, read=)``.
    """
    if timeout is None:
        return
    number: Any = timeout  # which is what Real does not say of itself
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise TypeError(f"{name} is a number of seconds, or a Timeout, not {timeout!r}")
    if not number > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {timeout}")


def phase_timeout(timeout: Timeout, phase: str, host: str, port: int | None) -> BaseException:
    """Return the error of a phase that took too long."""
    kind, words = _KINDS[phase]
    reason = words.format(getattr(timeout, phase))
    return kind(reason, host=host, port=port, phase=phase)


class Phases:
    """Which phase the way to a connection is in; its openers tell (``protocols.http.routes``).

    Attributes:
        phase: ``"pool"``, ``"connect"`` or ``"tls"``.
    """

    __slots__ = ("_scope", "_timeout", "phase")

    def __init__(self, timeout: Timeout, scope: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._scope: asyncio.Timeout | None = scope
        self.phase = "pool"

    def enter(self, phase: str) -> None:
        """Begin a phase: its time runs from now on, and that of the one before no more."""
        if self._scope is None or self._scope.expired():
            return
        self.phase = phase
        seconds = getattr(self._timeout, phase)
        when = None
        if seconds is not None and seconds <= LONGEST_TIMEOUT_SECONDS:
            when = asyncio.get_running_loop().time() + seconds
        self._scope.reschedule(when)

    def over(self) -> None:
        """There is a connection, or none: its context, a copy of ours, must hold no task."""
        self._scope = None

    def before(self, phase: str, factory: Callable[[], Any]) -> Callable[[], Any]:
        """Return the factory of a protocol, which begins a phase when it is called."""

        def entering() -> Any:
            self.enter(phase)
            return factory()

        return entering


# The manager opens a connection in the task that asked for it.
PHASES: ContextVar[Phases | None] = ContextVar("PHASES", default=None)


async def acquire_in_phases(
    manager: ConnectionManager,
    factory: Callable[[], Any],
    endpoint: Endpoint,
    *,
    timeout: Timeout,
    deadline: float | None,
    fresh: bool,
) -> Any:
    """Acquire a connection within the time for each phase; the total is *deadline*."""
    scope = asyncio.timeout(None)
    phases = Phases(timeout, scope)
    token = PHASES.set(phases)
    connection: Any = None
    try:
        try:
            async with scope:
                phases.enter("pool")
                connection = await manager.acquire(
                    factory, endpoint, deadline=deadline, fresh=fresh
                )
        finally:
            phases.over()
            PHASES.reset(token)
        return connection
    except BaseException as error:
        if connection is not None:
            manager.discard(connection)
        if (
            isinstance(error, TimeoutError)
            and not isinstance(error, EndpointTimeoutError)
            and scope.expired()
        ):
            raise phase_timeout(timeout, phases.phase, endpoint.host, endpoint.port) from None
        raise

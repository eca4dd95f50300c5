"""How long each phase of a download took, for ``--timings``.

Owns: the clock's readings of one attempt.  May not touch: the network; the way to a connection
tells its phases (``protocols.http.timeouts.PHASES``), the resolver when it has answered.
Invariant: nothing here runs for who does not ask for it.

    dns, connect, tls    durations; none where a connection was there already
    first_byte, total    from the beginning of the attempt: to the head, to the last byte

Through redirects the first three are those of the last connection that was opened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextvars import Token
from typing import Any, Self

from protocols.http.response import Response
from protocols.http.timeouts import PHASES

__all__ = ["COLUMNS", "TimedResolver", "Trace", "table", "time_resolution"]

COLUMNS = ("dns", "connect", "tls", "first_byte", "total")


class Trace:
    """One attempt's readings; a context manager while whose block the phases are told."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._connecting: float | None = None
        self.resolved: float | None = None
        self._securing: float | None = None
        self._token: Token[Any] | None = None
        self.seconds: dict[str, float | None] = dict.fromkeys(COLUMNS)

    def __enter__(self) -> Self:
        told: Any = self  # it has what openers call of a Phases
        self._token = PHASES.set(told)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        PHASES.reset(self._token)
        self.seconds["total"] = time.monotonic() - self._began

    # -- what openers call ---------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """Note that a phase begins."""
        now = time.monotonic()
        if phase == "connect":
            self._connecting, self.resolved, self._securing = now, None, None
        elif phase == "tls":
            self._securing = now

    def before(self, phase: str, factory: Callable[[], Any]) -> Callable[[], Any]:
        """Return the factory of a protocol, which begins a phase when it is called."""

        def entering() -> Any:
            self.enter(phase)
            return factory()

        return entering

    # -- what the engine calls -----------------------------------------------------------

    def head(self, response: Response) -> None:
        """Note that the head of the last response has come."""
        now = time.monotonic()
        self.seconds["first_byte"] = now - self._began
        if self._connecting is None:
            return
        sent = now - response.elapsed.total_seconds()
        resolved = self._connecting if self.resolved is None else self.resolved
        self.seconds["dns"] = resolved - self._connecting
        self.seconds["connect"] = (self._securing or sent) - resolved
        if self._securing is not None:
            self.seconds["tls"] = max(sent - self._securing, 0.0)


class TimedResolver:
    """A resolver that tells the trace of who asked when it has answered."""

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver

    async def resolve(self, *arguments: Any, **options: Any) -> Any:
        """Return what the resolver returns."""
        answer = await self._resolver.resolve(*arguments, **options)
        trace: Any = PHASES.get()
        if isinstance(trace, Trace):
            trace.resolved = time.monotonic()
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolver, name)


def time_resolution() -> None:
    """Let the running loop's resolver tell when it has answered."""
    loop: Any = asyncio.get_running_loop()
    loop.resolver = TimedResolver(loop.resolver)


def table(rows: Iterable[tuple[str, dict[str, float | None]]]) -> str:
    """Return the readings in milliseconds, a line for each URL."""
    lines = ["".join(f"{name.replace('_', ' '):>12}" for name in COLUMNS) + "  (ms)"]
    for url, seconds in rows:
        cells = [seconds[name] for name in COLUMNS]
        shown = ["-" if cell is None else f"{cell * 1e3:.2f}" for cell in cells]
        lines.append("".join(f"{cell:>12}" for cell in shown) + f"  {url}")
    return "\n".join(lines)

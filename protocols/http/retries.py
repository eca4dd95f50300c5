"""Retries: whether a request that failed is sent again, and when.

Owns: the policy and the waits.  Touches: nothing; it decides, the client waits and sends.
Invariant: what may have been processed is sent again only if its method is among the policy's,
and nothing whose content cannot be read again.

    what went wrong                             is sent again
    no connection (pool, resolve, connect, tls) whatever the method: nothing was sent
    it broke off, or timed out (write, read)    if the method is among the policy's
    a status of the policy's                    if the method is among the policy's
    a response that is not HTTP, or too large   never: it would be so again
    a certificate that does not verify          never

Independent of a policy, a safe request whose connection was closed while it lay in the pool is
sent again at once (``MAX_STALE_RETRIES``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from protocols.http.errors import IncompleteResponseError, ResponseError
from protocols.http.headers import Headers
from protocols.http.request import Request
from reactor import EndpointError, TLSCertificateError

__all__ = ["IDEMPOTENT", "Retry", "retry_after"]

# RFC 9110 section 9.2.2.
IDEMPOTENT: Final = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
_BEFORE_SENDING: Final = frozenset(["pool", "resolve", "connect", "tls"])
_PHASES: Final = frozenset([*_BEFORE_SENDING, "write", "read"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request is sent again.

    Attributes:
        attempts: how often at most, the first time not counted.
        phases: of the error, for it to count; see ``EndpointError.phase``.
        methods: those that may be processed twice.
        statuses: those of a response that count as a failure.
        backoff: seconds before the second attempt of a request; doubled each time.
        max_backoff: seconds that doubling does not exceed.
        jitter: the part of the wait that is left to chance, 0 to 1.
        max_retry_after: seconds that a server may ask for with Retry-After; who asks for more
            gets no second attempt.
        budget: how many retries there may be for each request of a client, in the long run;
            ``None`` for no limit.  When most requests fail, retries make it worse.
        reserve: retries that the budget has at its start, and holds at most.
    """

    attempts: int = 3
    phases: Collection[str] = _PHASES
    methods: Collection[str] = IDEMPOTENT
    statuses: Collection[int] = (429, 502, 503, 504)
    backoff: float = 0.1
    max_backoff: float = 10.0
    jitter: float = 0.5
    max_retry_after: float = 60.0
    budget: float | None = 0.2
    reserve: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 0:
            raise ValueError(f"attempts must not be negative, not {self.attempts}")
        if unknown := set(self.phases) - _PHASES:
            raise ValueError(f"phases has {', '.join(sorted(map(str, unknown)))}")
        for name in ("methods", "phases"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is a collection of str, not one")
        for name in ("backoff", "max_backoff", "max_retry_after", "reserve", "budget"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, not {value}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is 0 to 1, not {self.jitter}")

    def allows_error(self, request: Request, error: BaseException) -> bool:
        """Return whether a request may be sent again after *error*."""
        if not isinstance(error, EndpointError) or isinstance(error, TLSCertificateError):
            return False
        if isinstance(error, ResponseError) and not isinstance(error, IncompleteResponseError):
            return False
        if error.phase not in self.phases:
            return False
        if error.phase not in _BEFORE_SENDING and request.method not in self.methods:
            return False
        return request.body is None or request.body.replayable

    def allows_status(self, request: Request, status_code: int) -> bool:
        """Return whether a request may be sent again after a response with *status_code*."""
        return (
            status_code in self.statuses
            and request.method in self.methods
            and (request.body is None or request.body.replayable)
        )

    def seconds_before(self, attempt: int, headers: Headers | None = None) -> float | None:
        """Return how long to wait before an attempt; None where the server asks for too long.

        Args:
            attempt: 1 for the second one of a request.
            headers: of the response that failed.
        """
        asked = None if headers is None else retry_after(headers)
        if asked is not None and asked > self.max_retry_after:
            return None
        full = min(self.max_backoff, self.backoff * 2.0 ** min(attempt - 1, 64))
        chosen = full * (1 - self.jitter * random.random())
        return chosen if asked is None else max(asked, chosen)


def retry_after(headers: Headers, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110 section 10.2.3), None without.

    A field that is neither a number of seconds nor a date counts as none.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= 12 else float("inf")
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - now())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None

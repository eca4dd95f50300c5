"""What watches one exchange: progress for the caller, and the time without any.

Owns: the counts of what was sent and received, and the timer of a phase.  May not touch: what
is sent and received.
Invariant: a watcher belongs to one exchange and its timer ends with it, however that ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from protocols.http.bodies import Body
from protocols.http.connection import ClientConnection
from protocols.http.headers import Headers
from protocols.http.limits import LONGEST_TIMEOUT_SECONDS
from protocols.http.timeouts import Timeout, phase_timeout

__all__ = ["OnInformational", "OnProgress", "Progress", "WatchedBody", "Watcher"]

# How often sending is looked at within the time that it may stand still.
LOOKS = 4


class Progress(NamedTuple):
    """How far a body has come.

    Attributes:
        data: the piece that was sent or received just now, as on the wire but for the framing;
            encoded, where there is a Content-Encoding.
        done_bytes: of the body so far, this piece included.
        total_bytes: of the body; None where nobody knows.
    """

    data: bytes
    done_bytes: int
    total_bytes: int | None


OnProgress = Callable[[Progress], object]
OnInformational = Callable[[int, Headers], object]


class Watcher:
    """Watches one exchange; see ``ClientConnection.observer``.

    Args:
        connection: the exchange's.
        timeout: its phases *write* and *read* are kept.
        on_receive, on_informational: the caller's.  What they raise ends the exchange.
    """

    def __init__(
        self,
        connection: ClientConnection,
        timeout: Timeout,
        on_receive: OnProgress | None,
        on_informational: OnInformational | None,
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._timeout = timeout
        self._on_receive = on_receive
        self._on_informational = on_informational
        self._received = 0
        self._total: int | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._progress_at = self._loop.time()
        self._unsent = 0
        self._phase = "write"
        self.awaits_caller = False
        if timeout.write is not None or timeout.read is not None:
            self._look()

    # -- what the connection tells -------------------------------------------------------

    def informational_received(self, response: tuple[int, Headers]) -> None:
        """A 1xx response came."""
        self._progress_at = self._loop.time()
        if self._on_informational is not None:
            self._on_informational(*response)

    def head_received(self, response: Any) -> None:
        """The head of the response came."""
        self._progress_at = self._loop.time()
        parser = self._connection.parser
        if parser.content_length >= 0 and not parser.chunked:
            self._total = parser.content_length

    def body_received(self, data: bytes) -> None:
        """A piece of the body came."""
        self._progress_at = self._loop.time()
        self._received += len(data)
        if self._on_receive is not None:
            self._on_receive(Progress(data, self._received, self._total))

    def over(self) -> None:
        """The exchange is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the time without progress -------------------------------------------------------

    def _look(self) -> None:
        """Fail the exchange if it stood still for too long; look again when it may have."""
        self._timer = None
        now = self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        phase = "write" if unsent else "read"
        if (
            phase != self._phase
            or (phase == "write" and unsent != self._unsent)
            or (phase == "read" and (self.awaits_caller or not self._transport.is_reading()))
        ):
            self._progress_at = now
        self._phase, self._unsent = phase, unsent
        seconds = self._timeout.write if phase == "write" else self._timeout.read
        if seconds is not None and now >= self._progress_at + seconds:
            host, port = self._connection.host, self._connection.port
            self._connection.give_up(phase_timeout(self._timeout, phase, host, port))
            return
        # nobody tells of progress in sending, nor when it is over: that is looked at in between
        due = now + LONGEST_TIMEOUT_SECONDS
        if self._timeout.write is not None:
            due = min(due, now + self._timeout.write / LOOKS)
        if self._timeout.read is not None:
            begun = phase == "read" and not self.awaits_caller
            since = self._progress_at + self._timeout.read
            due = min(due, since if begun else now + self._timeout.read / LOOKS)
        self._timer = self._loop.call_at(due, self._look)


class WatchedBody:
    """The pieces of a request's body on their way out, counted.

    Args:
        body: the request's.
        watcher: of the exchange.
        on_send: called with each piece's ``Progress`` when the connection has taken it.
    """

    def __init__(self, body: Body, watcher: Watcher, on_send: OnProgress | None) -> None:
        self._body = body
        self._watcher = watcher
        self._on_send = on_send

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        pieces = aiter(self._body)
        while True:
            self._watcher.awaits_caller = True
            try:
                piece = await anext(pieces, b"")
            finally:
                self._watcher.awaits_caller = False
            if not piece:
                return
            yield piece
            done += len(piece)
            if self._on_send is not None:
                self._on_send(Progress(piece, done, self._body.size))

"""Factories: who makes the protocol of each connection, and who keeps one connection up.

Owns: a factory's attempts to connect and the waits between them.  May not touch: sockets, what
flows over a connection.
Invariant: a ``ReconnectingFactory`` has one attempt, one wait or one connection at a time, and
after ``stop`` none that it does not close.

::

                          +----------- attempt ----------+
                          v                              |
    IDLE --connect--> CONNECTING --failed, retry--> WAITING
                        |    |                           ^
                   made |    | failed too often          |
                        v    v                           |
                 CONNECTED   STOPPED <--stop (any)       |
                        +------------ lost --------------+
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from reactor.errors import ConnectError, EndpointError, format_endpoint
from reactor.limits import ATTEMPT_SECONDS, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS
from reactor.transports.connect import check_endpoint, connect

__all__ = ["Factory", "ReconnectingFactory"]

P = TypeVar("P")


class Factory(Generic[P]):
    """Makes a protocol for each connection, in the manner of Twisted's factories.

    A factory goes wherever a protocol factory is asked for: ``loop.create_server``,
    ``loop.create_connection``, ``reactor.connect``, a ``ConnectionManager``.  What the
    connections of one service share lives in it; each protocol finds it as ``self.factory``.

    Args:
        protocol: the protocol's class, or anything that returns one when it is called.  A
            subclass may have it as a class attribute instead.
    """

    protocol: Callable[[], P]

    def __init__(self, protocol: Callable[[], P] | None = None) -> None:
        if protocol is not None:
            self.protocol = protocol
        elif not hasattr(self, "protocol"):
            raise TypeError(f"{type(self).__name__} needs a protocol")

    def build_protocol(self) -> P:
        """Return the protocol of a new connection; a subclass may make it as it likes."""
        protocol: Any = self.protocol()
        protocol.factory = self
        return protocol  # type: ignore[no-any-return]

    def __call__(self) -> P:
        """Do the same, as a protocol factory of asyncio's."""
        return self.build_protocol()


class _State(enum.Enum):
    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    STOPPED = "stopped"


class ReconnectingFactory(Factory[P]):
    """Keeps one connection to an endpoint: what fails or is lost is tried again.

    The wait before a retry doubles with each failure and is back at its first value once a
    connection stands.  Every wait is drawn at random from its last part, so that the clients
    of a server that comes back do not all come at once.  A lost connection counts as one to
    replace however it was lost: call ``stop`` for the last one.

    Args:
        protocol: as for ``Factory``.
        first_delay: the first wait in seconds.
        max_delay: the longest wait in seconds, jitter included.
        factor: by what a wait is longer than the one before.
        jitter: the part of a wait that is drawn at random, 0 to 1.
        max_retries: failures in a row, after the first, at which the factory gives up; by
            default it never does.
        attempt_timeout: how long one attempt may take in seconds, from the name to TLS.

    Attributes:
        delay: the next wait in seconds, before jitter.
        retries: how many attempts have failed since a connection stood.

    All methods belong to the loop's thread.
    """

    def __init__(
        self,
        protocol: Callable[[], P] | None = None,
        *,
        first_delay: float = FIRST_RETRY_SECONDS,
        max_delay: float = MAX_RETRY_SECONDS,
        factor: float = 2.0,
        jitter: float = 0.5,
        max_retries: int | None = None,
        attempt_timeout: float = ATTEMPT_SECONDS,
    ) -> None:
        super().__init__(protocol)
        if not 0 < first_delay <= max_delay:
            raise ValueError(f"not 0 < first_delay {first_delay} <= max_delay {max_delay}")
        if not factor >= 1:
            raise ValueError(f"factor is {factor}, which is below 1")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter is {jitter}, which is not 0 to 1")
        if max_retries is not None and max_retries < 0:
            raise ValueError(f"max_retries is {max_retries}, which is below 0")
        if not attempt_timeout > 0:
            raise ValueError(f"attempt_timeout is {attempt_timeout}, which is not above 0")
        self.first_delay = first_delay
        self.max_delay = max_delay
        self.factor = factor
        self.jitter = jitter
        self.max_retries = max_retries
        self.attempt_timeout = attempt_timeout
        self.delay = first_delay
        self.retries = 0
        self._state = _State.IDLE
        self._endpoint: tuple[str, int] = ("", 0)
        self._options: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._connection: P | None = None
        self._lost: asyncio.Event | None = None
        self._failure: Exception | None = None
        self._waiters: set[asyncio.Future[P]] = set()

    # -- what a user calls -------------------------------------------------------------

    def connect(self, host: str, port: int, **options: Any) -> None:
        """Begin to connect, and to connect again whenever that fails or the connection is lost.

        *host*, *port* and *options* (``tls``, ``server_hostname``, ``local_address``,
        ``family``, ``resolver``) are those of ``reactor.connect``.  Must be called where the
        event loop runs.  ``RuntimeError`` when the factory is connecting already,
        ``ValueError`` or ``TypeError`` for a bad endpoint.
        """
        if self._state not in (_State.IDLE, _State.STOPPED):
            raise RuntimeError(f"{self!r} has an endpoint already")
        check_endpoint(host, port)
        self._endpoint = (host, port)
        self._options = options
        self._failure = None
        self.reset()
        self._state = _State.CONNECTING
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())
        self._task.add_done_callback(self._task_done)

    async def connected(self) -> P:
        """Return the protocol of the connection that stands; wait until there is one.

        Raises the last attempt's ``EndpointError`` when the factory has given up, and
        ``ConnectError`` when it was stopped.
        """
        if self._connection is not None:
            return self._connection
        if self._failure is not None:
            raise self._failure
        if self._task is None:
            raise RuntimeError("connect() was not called")
        waiter: asyncio.Future[P] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)

    def reset(self) -> None:
        """Let the next wait be the first one again; happens whenever a connection stands."""
        self.delay = self.first_delay
        self.retries = 0

    def stop(self) -> None:
        """End the attempt or the wait, or close the connection; make no further one.

        May be called at any time, also from inside a call-back of the protocol.  ``connect``
        may be called again afterwards.
        """
        if self._task is not None and self._state not in (_State.IDLE, _State.STOPPED):
            self._end(self._stopped())
            self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the factory has stopped or given up and its connection is lost."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._lost is not None:
            await self._lost.wait()

    # -- what a subclass may override ----------------------------------------------------

    def attempt_failed(self, error: EndpointError) -> None:
        """Called when an attempt has failed, before the wait for the next one if any."""

    def gave_up(self, error: Exception) -> None:
        """Called when the factory makes no further attempt, because of *error*.

        That is the last attempt's, or whatever ``build_protocol`` raised.  By default the
        loop's exception handler is told, unless somebody waits in ``connected`` and is told.
        """
        if not self._waiters:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self!r} gave up", "exception": error}
            )

    # -- inside --------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while True:
            self._enter(_State.CONNECTING)
            deadline = asyncio.get_running_loop().time() + self.attempt_timeout
            try:
                transport, protocol = await connect(
                    self, *self._endpoint, deadline=deadline, **self._options
                )
            except EndpointError as error:
                self.attempt_failed(error)
                self.retries += 1
                if self.max_retries is not None and self.retries > self.max_retries:
                    raise
            else:
                await self._hold(transport, protocol)
            self._enter(_State.WAITING)
            await asyncio.sleep(self._next_delay())

    async def _hold(self, transport: Any, protocol: P) -> None:
        """Wait until the connection is lost; close it when the factory is stopped."""
        self._lost = lost = asyncio.Event()
        transport.lost_callback = lambda _transport: lost.set()
        if transport.get_protocol() is None:
            lost.set()  # in the pass between the end of its handshake and this one
        try:
            self._enter(_State.CONNECTED)
            self._connection = protocol
            self.reset()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(protocol)
            await lost.wait()
            self._connection = None
        except asyncio.CancelledError:
            transport.close()
            raise

    def _enter(self, state: _State) -> None:
        if self._state is _State.STOPPED or self._task is not asyncio.current_task():
            raise asyncio.CancelledError
        self._state = state

    def _next_delay(self) -> float:
        delay = self.delay
        self.delay = min(self.max_delay, delay * self.factor)
        return delay * (1 - self.jitter * random.random())

    def _task_done(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if task is not self._task or self._state is _State.STOPPED:
            return
        if isinstance(failure, Exception):
            self._end(failure)
            self.gave_up(failure)
        else:
            self._end(self._stopped())  # somebody else cancelled the task

    def _stopped(self) -> ConnectError:
        host, port = self._endpoint
        return ConnectError("the factory was stopped", host=host, port=port, phase="connect")

    def _end(self, failure: Exception) -> None:
        """Stop: tell those who wait for a connection why there will be none."""
        self._state = _State.STOPPED
        self._connection = None
        self._failure = failure
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(failure)

    def __repr__(self) -> str:
        where = format_endpoint(*self._endpoint) if self._task is not None else "nowhere"
        return f"<{type(self).__name__} {self._state.value}: {where}, retries={self.retries}>"

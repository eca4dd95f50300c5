"""cyreactor: a reactor, transports and a connection manager for client sockets.

The house, from the door down; each room opens with what it owns and may not touch:

    reactor.manager       pools, reuses, limits and cleans up connections of any protocol
    reactor.eventloop     the reactor as an asyncio event loop (running: takes a thread)
    reactor.factory       makes protocols; keeps a connection up
    reactor.transports    stream, tcp, tls, listener, connect (by name, all phases)
    reactor.resolver      names to addresses; Happy Eyeballs (cares: by c-ares, an extra)
    reactor.protocol      what a driver subclasses
    reactor.tasks         tasks that drive coroutines (futures: what they wait for)
    reactor.core          the reactor: ready queue, timers, passes
    reactor.pollers       the contract of a platform, and those that fulfil it
    reactor.pool, buffers, timers, addresses, errors, limits, locks, waiting   the leaves

Everything that a user needs is here; ``reactor.testing`` has what tests need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from reactor.cares import CaresResolver
from reactor.core import Reactor
from reactor.errors import (
    ConnectError,
    ConnectionLostError,
    ConnectRefusedError,
    EndpointError,
    EndpointTimeoutError,
    PollerUnavailableError,
    ResolveError,
    TLSCertificateError,
    TLSError,
    TLSTruncatedError,
    endpoint_error,
)
from reactor.eventloop import EventLoop, install, new_event_loop
from reactor.factory import Factory, ReconnectingFactory
from reactor.manager import (
    BlockingConnectionManager,
    ConnectionManager,
    Endpoint,
    PoolClosedError,
    PoolEvent,
    PoolFullError,
    UnixOpener,
)
from reactor.pollers import available_pollers, new_poller
from reactor.protocol import BufferedProtocol, Protocol
from reactor.resolver import Resolver
from reactor.transports.certificates import (
    client_context,
    server_context,
    shared_client_context,
)
from reactor.transports.connect import connect, secure

__all__ = [
    "BlockingConnectionManager",
    "BufferedProtocol",
    "CaresResolver",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectionLostError",
    "ConnectionManager",
    "Endpoint",
    "EndpointError",
    "EndpointTimeoutError",
    "EventLoop",
    "Factory",
    "PollerUnavailableError",
    "PoolClosedError",
    "PoolEvent",
    "PoolFullError",
    "Protocol",
    "Reactor",
    "ReconnectingFactory",
    "ResolveError",
    "Resolver",
    "TLSCertificateError",
    "TLSError",
    "TLSTruncatedError",
    "UnixOpener",
    "available_pollers",
    "client_context",
    "connect",
    "endpoint_error",
    "install",
    "new_event_loop",
    "new_poller",
    "run",
    "secure",
    "server_context",
    "shared_client_context",
]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run *main* on a new event loop and return its result; like ``asyncio.run``.

    At the end tasks that are left are cancelled, asynchronous generators and the default
    executor shut down, and the loop closed.  Raises ``RuntimeError`` where a loop runs already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("reactor.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)

"""The server: asyncio's, with what its later versions added, on every version.

Owns: which connections a server has.  May not touch: listening sockets (the listener's), what
the connections carry.
Invariant: a connection is the server's from its ``connection_made`` until its descriptor is
closed, also when the server was closed while it was being accepted.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import Any

from reactor.transports.tls import TLSProtocol

__all__ = ["Server"]

COUNTS_CLIENTS = sys.version_info < (3, 13)  # asyncio's own server asks for a number until then


class Clients:
    """The connections of a server, which know it: as much of a set as asyncio's server asks for.

    A set of weak references would be 140 bytes more for each of them.
    """

    def __init__(self, server: Server) -> None:
        self._server = weakref.ref(server)  # which has this: no cycle
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, _transport: Any) -> None:
        """Count one more."""
        self._count += 1

    def discard(self, _transport: Any) -> None:
        """Count one less."""
        self._count -= 1

    def copy(self) -> list[Any]:
        """Return them all."""
        server = self._server()
        if server is None:
            return []
        loop: Any = server.get_loop()
        return [
            transport
            for transport in loop.live_transports()
            if getattr(transport, "server", None) is server
        ]


class Server(asyncio.base_events.Server):
    """What ``create_server`` and ``create_unix_server`` return; see ``asyncio.Server``.

    ``close_clients`` and ``abort_clients`` are there before Python 3.13 as well.
    """

    _sockets: list[Any] | None
    _waiters: list[asyncio.Future[None]] | None
    _clients: Clients
    _active_count: int

    def __init__(self, stock: Any) -> None:
        """Take over from *stock*, a server of asyncio's that does not serve."""
        super().__init__(
            stock._loop,
            stock._sockets,
            stock._protocol_factory,
            stock._ssl_context,
            stock._backlog,
            stock._ssl_handshake_timeout,
            stock._ssl_shutdown_timeout,
        )
        self._clients = Clients(self)

    def _attach(self, transport: Any) -> None:
        self._clients.add(transport)
        if COUNTS_CLIENTS:
            self._active_count += 1

    def _detach(self, transport: Any) -> None:
        self._clients.discard(transport)
        if COUNTS_CLIENTS:
            self._active_count -= 1
        if not self._clients and self._sockets is None and self._waiters is not None:
            self._wakeup()  # type: ignore[attr-defined]

    def close_clients(self) -> None:
        """Close every connection; what was written is sent, and over TLS its end is told."""
        for transport in self._clients.copy():
            while isinstance(layer := transport.get_protocol(), TLSProtocol):
                transport = layer.app_transport  # noqa: PLW2901 - or TLS inside of TLS
            transport.close()

    def abort_clients(self) -> None:
        """Close every connection at once; what was not sent is discarded."""
        for transport in self._clients.copy():
            transport.abort()

"""The reactor as an asyncio event loop.

Owns: asyncio's cold surface: running, closing, making transports for the standard library's
``create_connection`` and ``create_server``.  May not touch: the order of a pass
(``reactor.core``), descriptors of live transports.
Invariant: the methods that are called per event are ``Reactor``'s; what is inherited from
``asyncio.BaseEventLoop`` is called per connection, per run or less.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import warnings
from asyncio import events
from collections.abc import Callable
from typing import Any

from reactor.core import Reactor
from reactor.pollers import new_poller
from reactor.pollers.contract import Poller
from reactor.transports.listener import Listener
from reactor.transports.stream import adopt_stream
from reactor.transports.tcp import Connector

__all__ = ["EventLoop", "new_event_loop"]


class EventLoop(Reactor, asyncio.BaseEventLoop):
    """A complete asyncio event loop on a reactor.

    Args:
        poller: the poller to run on; by default the platform's best.
    """

    def __new__(cls, poller: Poller | None = None) -> EventLoop:
        return super().__new__(cls, new_poller() if poller is None else poller)

    def __init__(self, poller: Poller | None = None) -> None:
        asyncio.BaseEventLoop.__init__(self)
        self._listeners: dict[int, Listener] = {}

    # -- running ---------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until ``stop`` is called."""
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        hooks = sys.get_asyncgen_hooks()
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            self._run()
        finally:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    def close(self) -> None:
        """Free the loop: queued call-backs are dropped, live transports freed with a warning."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        for listener in list(self._listeners.values()):
            listener.close()
        self._listeners.clear()
        asyncio.BaseEventLoop.close(self)
        self._close_reactor()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    # -- what BaseEventLoop's create_connection and create_server call ------------------

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect *sock*, which must be non-blocking, to *address*."""
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            address = await self._numeric_address(sock, address)
        connector = Connector(
            self, sock.family, sock.type, sock.proto, address, None, sock.fileno()
        )
        try:
            await connector.start()
        finally:
            connector.close()

    async def _numeric_address(self, sock: socket.socket, address: Any) -> Any:
        infos = await self._ensure_resolved(
            address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
        )
        return infos[0][4]

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> Any:
        return adopt_stream(self, sock, protocol, waiter, extra, server)

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        listener = Listener(self, sock, protocol_factory, server, None)
        self._listeners[sock.fileno()] = listener
        listener.start()

    def _stop_serving(self, sock: socket.socket) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()


def new_event_loop() -> EventLoop:
    """Return a new event loop on the platform's best poller."""
    return EventLoop()

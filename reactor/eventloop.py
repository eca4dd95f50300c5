"""The reactor as an asyncio event loop.

Owns: asyncio's cold surface: running, closing, making transports for the standard library's
``create_connection`` and ``create_server``.  May not touch: the order of a pass
(``reactor.core``), descriptors of live transports.
Invariant: the methods that are called per event are ``Reactor``'s; what is inherited from
``asyncio.BaseEventLoop`` is called per connection, per run or less.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import sys
import threading
import warnings
from asyncio import events
from collections.abc import Callable
from typing import Any

from reactor.core import Reactor
from reactor.pollers import new_poller
from reactor.pollers.contract import Poller
from reactor.resolver import Resolver
from reactor.transports.listener import Listener
from reactor.transports.stream import adopt_stream
from reactor.transports.tcp import Connector
from reactor.transports.tls import TLSProtocol

__all__ = ["EventLoop", "new_event_loop"]


class EventLoop(Reactor, asyncio.BaseEventLoop):
    """A complete asyncio event loop on a reactor.

    Args:
        poller: the poller to run on; by default the platform's best.

    Attributes:
        resolver: who turns names into addresses for ``reactor.connect``.
    """

    def __new__(cls, poller: Poller | None = None) -> EventLoop:
        return super().__new__(cls, new_poller() if poller is None else poller)

    def __init__(self, poller: Poller | None = None) -> None:
        asyncio.BaseEventLoop.__init__(self)
        self._listeners: dict[int, Listener] = {}
        self.resolver = Resolver()

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
        self.resolver.close()
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

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        call_connection_made: bool = True,
    ) -> Any:
        layer = TLSProtocol(
            self,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            waiter=waiter,
            call_connection_made=call_connection_made,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        adopt_stream(self, rawsock, layer, None, extra, server)
        return layer.app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade *transport* to TLS and return the transport to use from now on.

        *protocol* keeps its connection: ``connection_made`` is not called again.  Over a
        transport that has TLS already this puts TLS inside of TLS.
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        if transport.is_closing():
            raise ConnectionAbortedError("TLS cannot be started on a closing transport")
        waiter = self.create_future()
        layer = TLSProtocol(
            self,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            waiter=waiter,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        transport.set_protocol(layer)
        layer.connection_made(transport)
        transport.resume_reading()
        await waiter
        return layer.app_transport

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
        secure = None
        if sslcontext is not None:
            secure = functools.partial(
                TLSProtocol,
                self,
                sslcontext=sslcontext,
                server_side=True,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        listener = Listener(self, sock, protocol_factory, server, secure)
        self._listeners[sock.fileno()] = listener
        listener.start()

    def _stop_serving(self, sock: socket.socket) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()


def new_event_loop() -> EventLoop:
    """Return a new event loop on the platform's best poller."""
    return EventLoop()

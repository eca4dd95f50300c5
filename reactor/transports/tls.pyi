import asyncio
import ssl
from typing import Any

from reactor.core import Reactor
from reactor.protocol import Protocol
from reactor.transports.transport import Transport

class TLSHandshakeTimeoutError(TimeoutError, ConnectionAbortedError): ...

class TLSTransport(Transport):
    def __new__(cls, loop: Reactor, protocol: Any, tls: TLSProtocol) -> TLSTransport: ...

class TLSProtocol(Protocol):
    @property
    def app_transport(self) -> TLSTransport: ...
    def __new__(
        cls,
        loop: Reactor,
        app_protocol: Any,
        sslcontext: ssl.SSLContext | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        waiter: asyncio.Future[None] | None = None,
        call_connection_made: bool = True,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> TLSProtocol: ...

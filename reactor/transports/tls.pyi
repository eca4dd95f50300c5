import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from typing_extensions import Buffer, Self

from reactor.core import Reactor
from reactor.protocol import Protocol
from reactor.transports.transport import Transport


class TLSTransport(Transport):
    _sendfile_compatible: Any
    def __new__(cls, loop: Reactor, protocol: Any, tls: TLSProtocol) -> Self: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def writelines(self, list_of_data: Iterable[Buffer]) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...

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
        strict_end: bool = True,
    ) -> Self: ...
    def _waiter_done(self, waiter: asyncio.Future[None]) -> None: ...
    def _resume(self) -> None: ...

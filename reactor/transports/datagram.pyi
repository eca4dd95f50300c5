import asyncio
import socket
from typing import Any, Final, Self

from typing_extensions import Buffer

from reactor.core import Reactor
from reactor.transports.base import BaseTransport

FAMILIES: Final[frozenset[int]]

class AsyncioDatagramTransport(
    asyncio.transports._FlowControlMixin, asyncio.DatagramTransport
): ...

class DatagramTransport(BaseTransport):
    def __new__(
        cls, loop: Reactor, protocol: Any, sock: socket.socket, address: Any = None
    ) -> Self: ...
    @property
    def _sock(self) -> Any: ...
    @property
    def _sock_fd(self) -> int: ...
    def begin(self, waiter: asyncio.Future[None] | None) -> None: ...
    def sendto(self, data: Buffer, addr: Any = None) -> None: ...
    def close(self) -> None: ...
    def orphan(self) -> None: ...

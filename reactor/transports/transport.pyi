import asyncio

from typing_extensions import Buffer

from reactor.transports.base import BaseTransport

class AsyncioTransport(asyncio.transports._FlowControlMixin, asyncio.Transport): ...

class Transport(BaseTransport):
    _start_tls_compatible: bool
    def write(self, data: Buffer) -> None: ...
    def is_quiet(self) -> bool: ...

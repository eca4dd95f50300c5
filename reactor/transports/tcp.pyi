import asyncio
from typing import Any, Self

from reactor.core import Reactor
from reactor.pollers.contract import OpOwner

class Connector(OpOwner):
    @property
    def future(self) -> asyncio.Future[Connector]: ...
    @property
    def address(self) -> Any: ...
    @property
    def _loop(self) -> Any: ...
    def __new__(
        cls,
        loop: Reactor,
        family: int,
        kind: int,
        protocol: int,
        address: Any,
        local: Any = None,
    ) -> Self: ...
    def start(self) -> asyncio.Future[Connector]: ...
    def close(self) -> None: ...
    def transport(self, protocol: Any) -> Any: ...

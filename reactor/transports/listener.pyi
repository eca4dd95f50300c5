import socket
from collections.abc import Callable
from typing import Any, Self

from reactor.core import Reactor
from reactor.pollers.contract import OpOwner

class Listener(OpOwner):
    def __new__(
        cls,
        loop: Reactor,
        sock: socket.socket,
        factory: Callable[[], Any],
        server: Any,
        secure: Callable[[Any], Any] | None,
    ) -> Self: ...
    def start(self) -> None: ...
    def close(self) -> None: ...

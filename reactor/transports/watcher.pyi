from typing import Self

from reactor.core import Handle, Reactor
from reactor.pollers.contract import OpOwner

class Watcher(OpOwner):
    @property
    def handle(self) -> Handle | None: ...
    def __new__(cls, loop: Reactor, fd: int, writes: bool, handle: Handle) -> Self: ...
    def close(self) -> None: ...

from typing import Self

from reactor.pollers.contract import Poller
from reactor.pool import BlockPool

class EpollPoller(Poller):
    def __new__(cls, pool: BlockPool) -> Self: ...

def disown_all() -> None: ...

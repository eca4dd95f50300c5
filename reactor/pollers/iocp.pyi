from typing import Self

from reactor.pollers.contract import Poller
from reactor.pool import BlockPool

class IocpPoller(Poller):
    def __new__(cls, pool: BlockPool) -> Self: ...

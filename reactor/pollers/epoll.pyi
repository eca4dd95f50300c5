from typing import Self, final

from reactor.pollers.eventfd import EventfdPoller
from reactor.pool import BlockPool

@final
class EpollPoller(EventfdPoller):
    def __new__(cls, pool: BlockPool) -> Self: ...

from typing import Self, final

from reactor.pollers.readiness import ReadinessPoller
from reactor.pool import BlockPool

@final
class KqueuePoller(ReadinessPoller):
    def __new__(cls, pool: BlockPool) -> Self: ...

from typing import Any, Self

from reactor.pollers.readiness import ReadinessPoller
from reactor.pool import BlockPool

class EventfdPoller(ReadinessPoller):
    def __new__(cls, pool: BlockPool, *args: Any, **kwargs: Any) -> Self: ...

from typing import Any, Self

from reactor.pollers.eventfd import EventfdPoller
from reactor.pool import BlockPool

class RingPoller(EventfdPoller):
    shared: bool
    def __new__(
        cls,
        pool: BlockPool,
        *args: Any,
        entries: int = 256,
        completions: int = 4096,
        shared: bool = False,
        **kwargs: Any,
    ) -> Self: ...

from typing import Self, final

from reactor.pollers.eventfd import EventfdPoller
from reactor.pool import BlockPool

def why_not() -> str: ...

@final
class UringPoller(EventfdPoller):
    shared: bool
    def __new__(
        cls,
        pool: BlockPool,
        *,
        entries: int = 256,
        completions: int = 4096,
        places: int = 64,
        shared: bool = False,
    ) -> Self: ...

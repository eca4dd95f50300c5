from typing import Self, final

from reactor.pollers.ring import RingPoller
from reactor.pool import BlockPool

def why_not() -> str: ...

@final
class UringPoller(RingPoller):
    standing: int
    @property
    def held(self) -> int: ...
    def __new__(
        cls,
        pool: BlockPool,
        *,
        entries: int = 256,
        completions: int = 4096,
        places: int = 64,
        shared: bool = False,
        stands_from: int = 2,
    ) -> Self: ...

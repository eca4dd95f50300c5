from typing import Any, Self

from reactor.pollers.contract import Poller
from reactor.pool import BlockPool

class ReadinessPoller(Poller):
    def __new__(cls, pool: BlockPool, *args: Any, **kwargs: Any) -> Self: ...

def disown_all() -> None: ...

from collections.abc import Callable, Hashable
from typing import Any, final

from reactor.core import Reactor
from reactor.manager.endpoint import Endpoint
from reactor.manager.policy import Member, PoolPolicy
from reactor.manager.sight import PoolEvent
from reactor.transports.transport import Transport

@final
class Connection(Member):
    manager: Leases
    transport: Any  # a Transport; each kind has its own close()
    protocol: Any
    opened_ns: int
    uses: int
    reason: str | None
    def __init__(
        self, manager: Leases, transport: Transport, protocol: Any, max_leases: int, uses: int
    ) -> None: ...
    def __call__(self, transport: Any) -> None: ...

class Leases:
    _policy: PoolPolicy
    _loop: Any
    _max_uses: int
    _reused: int
    _expiry: Any
    on_event: Callable[[PoolEvent], object] | None
    def __init__(
        self,
        policy: PoolPolicy,
        *,
        trusts: bool,
        max_uses: int,
        on_event: Callable[[PoolEvent], object] | None,
    ) -> None: ...
    async def acquire(
        self,
        factory: Callable[[], Any],
        host: str | Endpoint,
        port: int | None = None,
        *,
        deadline: float | None = None,
        fresh: bool = False,
        **key: Any,
    ) -> Any: ...
    def take(self, endpoint: Hashable) -> Any: ...
    def release(self, protocol: Any) -> None: ...
    def _check_thread(self) -> None: ...
    def _leased(self, protocol: Any) -> Connection: ...
    def _find(self, protocol: Any) -> Connection | None: ...
    def _lent(self, connection: Connection) -> Any: ...
    def _bind(self, loop: Reactor) -> None: ...
    def _now_ns(self) -> int: ...
    def _enroll(self, connection: Connection) -> bool: ...
    def _strike_off(self, connection: Connection) -> None: ...
    def _all(self) -> list[Connection]: ...

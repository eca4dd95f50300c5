from typing import Self

from reactor.pollers.contract import Poller
from reactor.pollers.simulated_network import Network
from reactor.pool import BlockPool

class Deadlock(RuntimeError): ...

class SimulatedPoller(Poller):
    network: Network
    violations: list[str]
    deferred: bool
    posted: bool
    waits: int
    def __new__(
        cls,
        pool: BlockPool,
        *,
        deferred: bool = False,
        posted: bool = False,
        spurious: float = 0.0,
        delay_seconds: float = 0.0,
        tick_seconds: float = 1e-6,
        patience_seconds: float = 0.0,
        seed: int = 0,
        latency_seconds: float = 0.0,
        jitter_seconds: float = 0.0,
        segment_bytes: int = 0,
        short_bytes: int = 0,
        send_buffer_bytes: int = 65_536,
        receive_buffer_bytes: int = 65_536,
        max_descriptors: int = 65_536,
    ) -> Self: ...
    def advance(self, seconds: float) -> None: ...
    def waiting_ops(self) -> str: ...

from typing import final

POISONS: bool

class BlockPool:
    block_size: int
    max_free: int
    in_use: int
    high_water: int
    free: int
    hits: int
    misses: int
    def __new__(cls, block_size: int, max_free: int) -> BlockPool: ...
    def stats(self) -> dict[str, int]: ...

class BlockOwner:
    def __new__(cls, pool: BlockPool) -> BlockOwner: ...
    def acquire(self) -> int: ...
    def release(self) -> int: ...

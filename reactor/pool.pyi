from typing import Self

POISONS: bool

class BlockPool:
    block_size: int
    max_free: int
    in_use: int
    high_water: int
    aside: int
    free: int
    hits: int
    misses: int
    def __new__(cls, block_size: int, max_free: int) -> Self: ...
    def stats(self) -> dict[str, int]: ...

class BlockOwner:
    def __new__(cls, pool: BlockPool) -> Self: ...
    def acquire(self) -> int: ...
    def page_offset(self) -> int: ...
    def release(self) -> int: ...

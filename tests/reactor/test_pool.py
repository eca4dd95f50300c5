"""The memory pool: blocks, counters, limits."""

import os

import pytest

from reactor.pool import POISONS, BlockOwner, BlockPool


def test_first_block_is_a_miss_and_the_next_use_a_hit() -> None:
    pool = BlockPool(256, 4)
    owner = BlockOwner(pool)
    owner.acquire()
    assert (pool.hits, pool.misses, pool.in_use, pool.free) == (0, 1, 1, 0)
    owner.release()
    assert (pool.in_use, pool.free) == (0, 1)
    owner.acquire()
    assert (pool.hits, pool.misses, pool.in_use, pool.free) == (1, 1, 1, 0)
    owner.release()


def test_high_water_is_the_most_that_were_ever_in_use() -> None:
    pool = BlockPool(64, 10)
    owner = BlockOwner(pool)
    for _ in range(5):
        owner.acquire()
    for _ in range(5):
        owner.release()
    owner.acquire()
    owner.release()
    assert pool.high_water == 5


@pytest.mark.parametrize("block_size", [64, 5_000, 262_144])
def test_blocks_begin_with_a_page(block_size: int) -> None:
    pool = BlockPool(block_size, 2)
    owner = BlockOwner(pool)
    for _ in range(5):
        owner.acquire()
        assert owner.page_offset() == 0
    for _ in range(5):
        owner.release()
    with pytest.raises(IndexError):
        owner.page_offset()


def test_no_more_than_max_free_blocks_are_kept() -> None:
    pool = BlockPool(64, 2)
    owner = BlockOwner(pool)
    for _ in range(6):
        owner.acquire()
    for _ in range(6):
        owner.release()
    assert (pool.free, pool.in_use) == (2, 0)


def test_pool_that_keeps_nothing_works() -> None:
    pool = BlockPool(64, 0)
    owner = BlockOwner(pool)
    for _ in range(3):
        owner.acquire()
        owner.release()
    assert (pool.free, pool.hits, pool.misses) == (0, 0, 3)


@pytest.mark.parametrize(("size", "free"), [(0, 1), (7, 1), (-1, 1), (64, -1)])
def test_senseless_sizes_are_refused(size: int, free: int) -> None:
    with pytest.raises(ValueError, match=f"not {size if free == 1 else free}"):
        BlockPool(size, free)


def test_smallest_block_holds_the_link() -> None:
    pool = BlockPool(8, 4)
    owner = BlockOwner(pool)
    for hits in (0, 4):  # the second time through the links
        for _ in range(4):
            owner.acquire()
        assert (pool.in_use, pool.hits, pool.misses) == (4, hits, 4)
        for _ in range(4):
            owner.release()
    assert (pool.in_use, pool.free) == (0, 4)


def test_release_without_a_block_raises() -> None:
    with pytest.raises(IndexError, match="pop from empty list"):
        BlockOwner(BlockPool(64, 1)).release()


def test_stats_and_repr_tell_the_counters() -> None:
    pool = BlockPool(128, 3)
    owner = BlockOwner(pool)
    owner.acquire()
    assert pool.stats() == {
        "block_size": 128, "max_free": 3, "in_use": 1, "high_water": 1, "aside": 0,
        "free": 0, "hits": 0, "misses": 1,
    }  # fmt: skip
    assert "128 bytes: 1 in use, 0 free, high water 1" in repr(pool)
    owner.release()


def test_blocks_are_poisoned_under_the_sanitizers_and_nowhere_else() -> None:
    assert POISONS is ("libasan" in os.environ.get("LD_PRELOAD", ""))  # see .ci/sanitized

"""The write queue: what is gathered and what is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.buffers import WriteQueue


def test_queue_gathers_what_was_pushed_in_order() -> None:
    queue = WriteQueue()
    for chunk in (b"a", b"bc", b"def"):
        queue.push(chunk)
    assert queue.peek() == [b"a", b"bc", b"def"]
    assert len(queue) == queue.size_bytes == 6


def test_pop_within_a_chunk_leaves_its_rest() -> None:
    queue = WriteQueue()
    queue.push(b"hello")
    queue.push(b"world")
    queue.pop(2)
    assert queue.peek() == [b"llo", b"world"]
    queue.pop(3)
    assert queue.peek() == [b"world"]
    queue.pop(5)
    assert queue.peek() == []
    assert len(queue) == 0


def test_empty_chunks_are_not_queued() -> None:
    queue = WriteQueue()
    queue.push(b"")
    assert queue.peek() == []


def test_no_more_than_32_chunks_are_gathered() -> None:
    queue = WriteQueue()
    for _ in range(100):
        queue.push(b"x")
    assert len(queue.peek()) == 32
    queue.pop(90)
    assert len(queue.peek()) == 10


@pytest.mark.parametrize("size", [-1, 4])
def test_pop_of_what_is_not_there_raises(size: int) -> None:
    queue = WriteQueue()
    queue.push(b"abc")
    with pytest.raises(ValueError, match=f"cannot drop {size} of 3 bytes"):
        queue.pop(size)


def test_only_bytes_are_queued() -> None:
    with pytest.raises(TypeError, match="expected bytes, got bytearray"):
        WriteQueue().push(bytearray(b"x"))  # type: ignore[arg-type]


def test_long_queue_is_compacted() -> None:
    queue = WriteQueue()
    for at in range(5000):
        queue.push(b"%04d" % at)
    for at in range(5000):
        assert queue.peek()[0] == b"%04d" % at
        queue.pop(4)
    assert len(queue) == 0


@given(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, 30)), max_size=100))
def test_queue_is_a_byte_stream(steps: list[bytes | int]) -> None:
    queue, expected = WriteQueue(), b""
    for step in steps:
        if isinstance(step, bytes):
            queue.push(step)
            expected += step
        else:
            size = min(step, len(expected))
            queue.pop(size)
            expected = expected[size:]
        assert len(queue) == len(expected)
        seen = b"".join(queue.peek())
        assert expected.startswith(seen)
        assert bool(seen) == bool(expected)

"""Where URLs come from: lines however they are cut, read lazily, in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import reactor
from protocols.http.fetch_input import (
    BLOCK_BYTES,
    MAX_BLOCKS_WAITING,
    MAX_LINE_BYTES,
    ArgumentSource,
    ChainedSource,
    InputError,
    LineSource,
    Source,
    lines_in,
)

LINES = b"\xef\xbb\xbfone\r\n\n  # comment\n\ttwo \n#three\nfo\xc3\xbcr\n\xff\nlast"
URLS = ["one", "two", "foür", "\udcff", "last"]


def flat(blocks: list[bytes]) -> list[str]:
    return [url for urls in lines_in(blocks) for url in urls]


def test_lines_are_urls_without_blank_lines_and_comments() -> None:
    assert flat([LINES]) == URLS


def test_lines_do_not_depend_on_how_they_are_cut() -> None:
    # The byte order mark is looked for in the first block, and a file's is never cut.
    for size in range(3, len(LINES)):
        cut = [LINES[start : start + size] for start in range(0, len(LINES), size)]
        assert flat(cut) == URLS


def test_endless_line_is_cut_and_the_next_one_is_whole() -> None:
    blocks = [b"x" * BLOCK_BYTES] * 100 + [b"x\nnext\n"]
    long, following = flat(blocks)
    assert len(long) == MAX_LINE_BYTES
    assert following == "next"


async def all_of(source: Source) -> list[str]:
    found = []
    while (url := await source.next()) is not None:
        found.append(url)
    return found


def on_file(path: Path, test: Callable[[int, LineSource], Coroutine[Any, Any, None]]) -> None:
    """Run *test* with the descriptor of *path* and a source on it; wait for its thread."""

    async def run() -> None:
        fd = os.open(path, os.O_RDONLY)
        source = LineSource(fd, str(path), owns_fd=False)
        try:
            await test(fd, source)
        finally:
            source.close()
            source._thread.join()
            os.close(fd)

    reactor.run(run())


def test_file_is_read_in_order(tmp_path: Path) -> None:
    expected = [f"http://host/{number}" for number in range(50_000)]
    (tmp_path / "list").write_text("\n".join(expected))

    async def test(_: int, source: LineSource) -> None:
        assert await all_of(source) == expected
        assert await source.next() is None

    on_file(tmp_path / "list", test)


def test_no_more_than_a_few_blocks_are_read_ahead(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"http://host/\n" * 500_000)

    async def test(fd: int, source: LineSource) -> None:
        for taken in range(1, 100_000):
            assert await source.next() == "http://host/"
            if taken % 1000 == 0:
                ahead = os.lseek(fd, 0, os.SEEK_CUR) - 13 * taken
                # Those that wait, the one being taken from, and the one in the thread's hand.
                assert ahead <= (MAX_BLOCKS_WAITING + 2) * BLOCK_BYTES

    on_file(tmp_path / "list", test)


def test_callers_that_wait_are_all_told_of_the_end() -> None:
    async def test() -> None:
        reading, writing = os.pipe()
        source = LineSource(reading, "pipe", owns_fd=True)
        callers = [asyncio.ensure_future(source.next()) for _ in range(5)]
        os.write(writing, b"a\nb\n")
        os.close(writing)
        assert sorted(await asyncio.gather(*callers), key=str) == [None, None, None, "a", "b"]
        source._thread.join()

    reactor.run(test())


def test_failing_read_is_raised_once_and_ends_the_source(tmp_path: Path) -> None:
    async def test(_: int, source: LineSource) -> None:
        with pytest.raises(InputError, match=str(tmp_path)):
            await source.next()
        assert await source.next() is None

    on_file(tmp_path, test)


def test_closed_source_has_no_more_urls(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"http://host/\n" * 100_000)

    async def test(_: int, source: LineSource) -> None:
        assert await source.next() == "http://host/"
        source.close()
        assert await source.next() is None

    on_file(tmp_path / "list", test)


def test_sources_follow_one_another_and_are_made_when_their_turn_comes() -> None:
    made = []

    def maker(*urls: str) -> Callable[[], Source]:
        def make() -> Source:
            made.append(urls)
            return ArgumentSource(urls, len(urls))

        return make

    async def test() -> None:
        source = ChainedSource([maker("a", "b"), maker(), maker("c"), maker("d")])
        assert await source.next() == "a"
        assert made == [("a", "b")]
        assert await source.next() == "b"
        assert await source.next() == "c"
        source.close()
        assert await source.next() is None
        assert made == [("a", "b"), (), ("c",)]

    reactor.run(test())

"""Where the fetcher's URLs come from: its arguments, a file, standard input.

Owns: the descriptors that it opened and the thread that reads them.  May not touch: what a
URL means.
Invariant: at most two blocks of lines wait, however long the input is; the loop's thread
never waits for it.

A thread reads, because standard input may be a pipe whose writer takes its time while
downloads run.  It is a daemon: a read(2) that waits for a terminal cannot be called off, and
must not keep the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocols.http.limits import MAX_URL_LENGTH

__all__ = ["ArgumentSource", "ChainedSource", "InputError", "LineSource", "Source", "lines_in"]

BLOCK_BYTES = 65_536
MAX_BLOCKS_WAITING = 2
# Enough to be refused as too long by ``URL``, and no more.
MAX_LINE_BYTES = 4 * MAX_URL_LENGTH + 4


class InputError(OSError):
    """The input broke off."""


class Source:
    """URLs, one after the other, as text."""

    total: int | None = None

    async def next(self) -> str | None:
        """Return the next URL, or ``None`` when there is none left."""
        raise NotImplementedError

    def close(self) -> None:
        """Take no more from where they come."""


class ArgumentSource(Source):
    """URLs that are known beforehand."""

    def __init__(self, urls: Iterable[str], total: int) -> None:
        self._urls = iter(urls)
        self.total = total

    async def next(self) -> str | None:
        """Return the next URL, or ``None``."""
        return next(self._urls, None)

    def close(self) -> None:
        """Forget the others."""
        self._urls = iter(())


class ChainedSource(Source):
    """Several sources, one after the other; each is made when its turn comes."""

    def __init__(self, makers: Iterable[Callable[[], Source]]) -> None:
        self._makers = iter(makers)
        self._current: Source = ArgumentSource((), 0)

    async def next(self) -> str | None:
        """Return the next URL of the first source that has one, or ``None``."""
        while True:
            current = self._current
            url = await current.next()
            if url is not None:
                return url
            if current is self._current:  # else another caller moved on already
                maker = next(self._makers, None)
                if maker is None:
                    return None
                self._current = maker()

    def close(self) -> None:
        """Close the source whose turn it is, and make no other."""
        self._makers = iter(())
        self._current.close()


def lines_in(blocks: Iterable[bytes]) -> Iterator[list[str]]:
    """Yield the URLs of each block: a line each, without blank lines and ``#`` comments.

    A line that is too long for a URL is cut where that is certain.
    """
    rest = b""
    is_first = True
    for block in blocks:
        lines = block.split(b"\n")
        if is_first:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            is_first = False
        lines[0] = (rest + lines[0])[:MAX_LINE_BYTES]
        rest = lines.pop()
        yield [url for line in lines if (url := _url_of(line))]
    if url := _url_of(rest):
        yield [url]


def _url_of(line: bytes) -> str:
    line = line.strip()
    return "" if line.startswith(b"#") else line.decode("utf-8", "surrogateescape")


class LineSource(Source):
    """URLs from a descriptor, read lazily; belongs to the running loop.

    Args:
        fd: read from, and closed at the end if *owns_fd*.
        name: of the file, for messages.
    """

    def __init__(self, fd: int, name: str, *, owns_fd: bool) -> None:
        self._fd = fd
        self._name = name
        self._owns_fd = owns_fd
        self._loop = asyncio.get_running_loop()
        self._blocks: deque[deque[str]] = deque()
        self._ended = False
        self._error: InputError | None = None
        self._changed = asyncio.Event()
        self._stopped = threading.Event()
        self._room = threading.Semaphore(MAX_BLOCKS_WAITING)
        self._thread = threading.Thread(target=self._read, name="cyfetch-input", daemon=True)
        self._thread.start()

    async def next(self) -> str | None:
        """Return the next URL, or ``None``; raises ``InputError`` once, in its place."""
        while not self._blocks:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        url = self._blocks[0].popleft()
        if not self._blocks[0]:
            self._blocks.popleft()
            self._room.release()
        return url

    def close(self) -> None:
        """Forget what was not asked for, and let the thread end when its read returns."""
        self._stopped.set()
        self._blocks.clear()
        self._finished(None)
        self._room.release(MAX_BLOCKS_WAITING)

    # -- the thread ----------------------------------------------------------------------

    def _read(self) -> None:
        error = None
        try:
            for urls in lines_in(self._read_blocks()):
                if urls:
                    self._room.acquire()
                    if self._stopped.is_set():
                        return
                    self._post(self._arrived, urls)
        except OSError as reason:
            error = InputError(reason.errno, f"{self._name}: {reason.strerror}")
        finally:
            if self._owns_fd:
                os.close(self._fd)
            self._post(self._finished, error)

    def _read_blocks(self) -> Iterator[bytes]:
        while not self._stopped.is_set():
            block = os.read(self._fd, BLOCK_BYTES)
            if not block:
                return
            yield block

    def _post(self, callback: Callable[[Any], None], argument: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(callback, argument)

    # -- on the loop ---------------------------------------------------------------------

    def _arrived(self, urls: list[str]) -> None:
        if not self._ended:
            self._blocks.append(deque(urls))
            self._changed.set()

    def _finished(self, error: InputError | None) -> None:
        if not self._ended:
            self._ended = True
            self._error = error
        self._changed.set()

"""A body as it is read: raw pieces, decoded, as text, as lines.

Owns: what happens to the pieces of a streamed body on their way to the reader.  May not touch:
the connection (``BodyStream`` does).
Invariant: each iterator asks for the next piece only when it has nothing to hand out, so that
the peer is slowed down as if the pieces were read raw; an end that does not come is an error.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar

from protocols.http.codings import Decoder
from protocols.http.errors import MessageError, response_error
from protocols.http.url import URL

__all__ = ["DecodedPieces", "Lines", "TextPieces", "blocking", "decoded_body"]

T = TypeVar("T")

# What ends a line, as for open() with newline=None. A CR at the end may be half of a CRLF.
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


def decoded_body(decoder: Decoder, body: bytes, url: URL) -> bytes:
    """Return a whole body without its content codings.

    Raises the ``ResponseError`` of what is wrong with it.
    """
    try:
        decoded = b"".join(decoder.decode(body))
        decoder.flush()
    except MessageError as error:
        raise response_error(error, host=url.host, port=url.port) from error
    return decoded


class DecodedPieces:
    """The pieces of a body without its content codings; none is empty."""

    def __init__(self, pieces: AsyncIterator[bytes], decoder: Decoder, url: URL) -> None:
        self._pieces = pieces
        self._decoder = decoder
        self._url = url
        self._ready: Iterator[bytes] = iter(())
        self._flushed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            while True:
                for piece in self._ready:
                    return piece
                try:
                    raw = await anext(self._pieces)
                except StopAsyncIteration:
                    if not self._flushed:
                        self._flushed = True
                        self._decoder.flush()
                    raise
                self._ready = self._decoder.decode(raw)
        except MessageError as error:
            raise response_error(error, host=self._url.host, port=self._url.port) from error


class TextPieces:
    """A body as str; what does not decode becomes U+FFFD."""

    def __init__(self, pieces: AsyncIterator[bytes], encoding: str) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._ended:
            try:
                data = await anext(self._pieces)
            except StopAsyncIteration:
                self._ended = True
                data = b""
            if text := self._decoder.decode(data, final=self._ended):
                return text
        raise StopAsyncIteration


class Lines:
    """A body's lines, without what ends them (CR, LF or CRLF)."""

    def __init__(self, texts: AsyncIterator[str]) -> None:
        self._texts = texts
        self._lines: deque[str] = deque()
        self._rest: list[str] = []  # of a line whose end has not come
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopAsyncIteration
            try:
                text = await anext(self._texts)
            except StopAsyncIteration:
                self._ended = True
                last = "".join(self._rest)
                if last:
                    self._lines.append(last.removesuffix("\r"))
                continue
            self._take(text)
        return self._lines.popleft()

    def _take(self, text: str) -> None:
        if self._rest and self._rest[-1].endswith("\r"):
            text = self._rest.pop() + text
        *whole, rest = _LINE_END.split(text)
        if whole:
            self._lines.append("".join([*self._rest, whole[0]]))
            self._lines.extend(whole[1:])
            self._rest = []
        if rest:
            self._rest.append(rest)


def blocking(
    run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any] | None, pieces: AsyncIterator[T]
) -> Iterator[T]:
    """Return *pieces* as an iterator; *run* runs a coroutine function to its end.

    Raises ``RuntimeError`` where there is nobody to run it.
    """
    if run is None:
        raise RuntimeError("only a response of Client.stream is read so; here, async for")
    return _Blocking(run, pieces)


class _Blocking(Iterator[T]):
    def __init__(self, run: Any, pieces: AsyncIterator[T]) -> None:
        self._run = run
        self._pieces = pieces

    def __next__(self) -> T:
        try:
            piece: T = self._run(self._pieces.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
        return piece

"""A body as it is read: raw pieces, decoded, as text, as lines.

Owns: what happens to the pieces of a streamed body on their way to the reader.  May not touch:
the connection (``protocols.http.body_stream`` does).
Invariant: each iterator asks for the next piece only when it has nothing to hand out, so that
the peer is slowed down as if the pieces were read raw; an end that does not come is an error.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, Self, TypeVar

from protocols.http.codings import Decoder
from protocols.http.errors import MessageError, response_error
from protocols.http.url import URL

__all__ = [
    "Chunks",
    "DecodedPieces",
    "Lines",
    "Ready",
    "TextPieces",
    "decoded_body",
]

T = TypeVar("T")
Text = TypeVar("Text", bytes, str)

# What ends a line, as for open() with newline=None. A CR at the end may be half of a CRLF.
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


def decoded_body(decoder: Decoder, body: bytes) -> bytes:
    """Return a whole body without its content codings.

    Raises the ``MessageError`` of what is wrong with it.
    """
    decoded = b"".join(decoder.decode(body))
    decoder.flush()
    return decoded


class Ready:
    """A body that is there, in one piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body


class Chunks(Generic[Text]):
    """The pieces of a body, cut anew so that all but the last one are of the same size.

    Args:
        pieces: of bytes or of str.
        size: of each, from 1.
        empty: what there is before the first.
    """

    def __init__(self, pieces: AsyncIterator[Text], size: int, empty: Text) -> None:
        if size < 1:
            raise ValueError(f"chunk_size is 1 or more, not {size}")
        self._pieces: AsyncIterator[Any] = pieces
        self._size = size
        self._empty: Any = empty
        self._whole: Any = empty
        self._at = 0  # what is before has been handed out
        self._more: list[Any] = []  # behind the whole
        self._left = 0  # of both
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Text:
        while self._left < self._size and not self._ended:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._ended = True
                break
            self._more.append(piece)
            self._left += len(piece)
        if not self._left:
            raise StopAsyncIteration
        if self._more:
            self._whole = self._empty.join([self._whole[self._at :], *self._more])
            self._more.clear()
            self._at = 0
        chunk: Text = self._whole[self._at : self._at + self._size]
        self._at += len(chunk)
        self._left -= len(chunk)
        return chunk


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

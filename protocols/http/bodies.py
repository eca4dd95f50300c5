"""The body of a request: what ``content``, ``data``, ``json`` and ``files`` become.

Owns: what may be a body, how long it is, whether it can be sent again.  Touches: the caller's
files, to read and to seek; ``protocols.http.multipart``, when there are files in a form.
Invariant: the pieces of a body whose size is known are that many bytes, or iterating raises;
never is a byte above that handed out, and never an empty piece, which in the chunked coding
would be the end.

    given                              size                 can be sent again
    str (as UTF-8), bytes, bytearray,  known                yes; what can change is copied
    memoryview, list or tuple of bytes
    binary file that can seek          from where it is     yes, from there
                                       to its end, now
    any other binary file              unknown, so chunked  until the first piece was read
    iterable, async iterable of bytes  unknown, so chunked  until the first piece was read
    data: a mapping, or pairs          known                yes
    json                               known                yes
    files, with data for its fields    sum of the parts     if all of the parts can

The caller's files are read and sought, never closed: who opened them does that.  Reading one
blocks, in an event loop too, as long as the disk takes for `BODY_PIECE_BYTES`.
"""

from __future__ import annotations

import inspect
import io
import json as json_module
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from protocols.http.errors import BodyConsumedError, BodySizeError
from protocols.http.limits import BODY_PIECE_BYTES
from protocols.http.query import FormSource, encode_form

__all__ = [
    "BinaryFile",
    "Body",
    "BytesBody",
    "Content",
    "FileContent",
    "FileSource",
    "FileSpec",
    "FormSource",
    "body_of",
    "encode_body",
]


class BinaryFile(Protocol):
    """What is read as a file.  ``seek`` and ``tell`` are used if it has them."""

    def read(self, size: int, /) -> bytes:
        """Return at most *size* bytes; none at the end."""


Content = str | bytes | bytearray | memoryview | BinaryFile | Iterable[bytes] | AsyncIterable[bytes]
_JSON = json_module.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

FileContent = str | bytes | bytearray | memoryview | BinaryFile | Iterable[bytes]
# The content alone, or (file name, content[, content type[, headers]]).
FileSpec = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str] | None]
)
FileSource = Mapping[str, FileSpec] | Iterable[tuple[str, FileSpec]]


class Body:
    """The body of one request; made by `encode_body`.

    Iterate over it, or asynchronously, for its pieces: bytes, none of them empty.  Each
    iteration begins at the beginning.  One at a time, and not from two threads.

    Iterating raises:
        BodySizeError: there are fewer or more bytes than ``size`` says.
        BodyConsumedError: it can be read only once, and was.
        TypeError: a piece is not bytes; or the body is asynchronous and the iteration is not.
        Whatever the caller's file or iterator raises.

    Attributes:
        content_type: what Content-Type should say; None for no field.
        size: bytes, for Content-Length; None when it is not known, for the chunked coding.
        is_async: only asynchronous iteration is possible.
        is_live: the caller may make it while it is sent, and is to be asked no earlier.
    """

    __slots__ = ("content_type", "size")

    is_async = False
    is_live = False

    content_type: str | None
    size: int | None

    def __init__(self, size: int | None, content_type: str | None = None) -> None:
        self.size = size
        self.content_type = content_type

    @property
    def replayable(self) -> bool:
        """Whether it can be sent from the beginning, now.

        Ask when it is to be sent again: a body that is read only once can be, as long as no
        piece of it was read.
        """
        return True

    @property
    def whole(self) -> bytes | None:
        """The whole body where it lies in memory as one object, else None."""
        return None

    def __iter__(self) -> Iterator[bytes]:
        self._check_replayable()
        return self._metered(self._pieces())

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._check_replayable()
        return self._metered_async()

    def _pieces(self) -> Iterator[object]:
        """Yield what the body is made of, from its beginning, as it comes."""
        raise NotImplementedError

    def _check_replayable(self) -> None:
        if not self.replayable:
            raise BodyConsumedError("the body can be read only once, and was: it cannot be sent")

    def _metered(self, pieces: Iterator[object]) -> Iterator[bytes]:
        total = 0
        for piece in pieces:
            data = _octets(piece)
            total += len(data)
            self._check_not_longer(total)
            if data:
                yield data
        self._check_not_shorter(total)

    async def _metered_async(self) -> AsyncIterator[bytes]:
        for data in self._metered(self._pieces()):
            yield data

    def _check_not_longer(self, total: int) -> None:
        if self.size is not None and total > self.size:
            raise BodySizeError(self.size, total)

    def _check_not_shorter(self, total: int) -> None:
        if self.size is not None and total < self.size:
            raise BodySizeError(self.size, total)

    def __repr__(self) -> str:
        size = "of unknown size" if self.size is None else f"of {self.size} bytes"
        return f"<{type(self).__name__} {size}, {self.content_type or 'no content type'}>"


class BytesBody(Body):
    """A body that lies in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes, content_type: str | None = None) -> None:
        super().__init__(len(data), content_type)
        self._data = data

    @property
    def whole(self) -> bytes:
        """The body."""
        return self._data

    def _pieces(self) -> Iterator[object]:
        data = self._data
        if len(data) <= BODY_PIECE_BYTES:
            yield data
            return
        for start in range(0, len(data), BODY_PIECE_BYTES):
            yield data[start : start + BODY_PIECE_BYTES]


class FileBody(Body):
    """What a file has from *start* on, as long as it was when this was made.

    What is appended later is not sent; what is cut off is a `BodySizeError`.
    """

    __slots__ = ("_file", "_start")

    def __init__(self, file: Any, start: int, size: int) -> None:
        super().__init__(size)
        self._file = file
        self._start = start

    def _pieces(self) -> Iterator[object]:
        self._file.seek(self._start)
        left = self.size or 0
        while left > 0:
            piece = _octets(self._file.read(min(left, BODY_PIECE_BYTES)))
            if not piece:
                return
            left -= len(piece)
            yield piece


class IterableBody(Body):
    """What an iterable yields; it is taken to be good for one time only."""

    __slots__ = ("_begun", "_iterable")

    is_live = True

    def __init__(self, iterable: Iterable[object]) -> None:
        super().__init__(None)
        self._iterable = iterable
        self._begun = False

    @property
    def replayable(self) -> bool:
        """Whether nothing was read of it."""
        return not self._begun

    def _pieces(self) -> Iterator[object]:
        self._check_replayable()
        self._begun = True
        yield from self._iterable


class AsyncIterableBody(Body):
    """What an async iterable yields; it is taken to be good for one time only."""

    __slots__ = ("_begun", "_iterable")

    is_async = True
    is_live = True

    def __init__(self, iterable: AsyncIterable[object]) -> None:
        super().__init__(None)
        self._iterable = iterable
        self._begun = False

    @property
    def replayable(self) -> bool:
        """Whether nothing was read of it."""
        return not self._begun

    def __iter__(self) -> Iterator[bytes]:
        raise TypeError("the body is an async iterable, which only an AsyncClient can send")

    async def _metered_async(self) -> AsyncIterator[bytes]:
        self._check_replayable()
        self._begun = True
        total = 0
        async for piece in self._iterable:
            data = _octets(piece)
            total += len(data)
            self._check_not_longer(total)
            if data:
                yield data
        self._check_not_shorter(total)


def encode_body(
    *,
    content: Content | None = None,
    data: FormSource | None = None,
    json: Any = None,
    files: FileSource | None = None,
    content_type: str | None = None,
    size: int | None = None,
) -> Body | None:
    """Return what the arguments of a request say its body is; None for no body.

    None counts as not given; no files and no data either are no body.

    Args:
        content: the body itself; see the table above.
        data: the names and values of a form; what ``protocols.http.query`` says of them.
        json: sent as compact JSON in UTF-8.
        files: the files of a form: a mapping or pairs of field names and contents, or of field
            names and (file name, content[, content type[, headers]]).
        content_type: the caller's own Content-Type, if any, in place of what follows from the
            rest.  For a form with files it must name the boundary, which is then used.
        size: the caller's own Content-Length, if any.

    Raises:
        TypeError: more than one was given, but for data with files; or it cannot be a body.
        ValueError: what was given cannot be encoded: a NaN in JSON, a lone surrogate, a closed
            file.
        BodySizeError: *size* is not the size of the body.
        BodyConsumedError: a generator that has come to its end already.
        InvalidHeader: a name of a part, a file name, a header of a part or *content_type*.
    """
    is_form = data is not None or files is not None
    if (content is not None) + (json is not None) + is_form > 1:
        arguments = {"content": content, "json": json, "data": data, "files": files}
        given = [name for name, value in arguments.items() if value is not None]
        raise TypeError(f"a request has one body: {' and '.join(given)} exclude each other")
    body: Body | None = None
    if content is not None:
        body = body_of(content)
    elif json is not None:
        body = _json_body(json)
    elif parts := list((files.items() if isinstance(files, Mapping) else files) or ()):
        # mimetypes is only loaded by who sends files.
        from protocols.http.multipart import multipart_body

        body = multipart_body(() if data is None else data, parts, content_type)
    elif data is not None:
        body = _form_body(data)
    if body is None:
        if size:
            raise BodySizeError(size, 0)
        return None
    if content_type is not None:
        body.content_type = content_type
    if size is not None:
        if body.size is not None and body.size != size:
            raise BodySizeError(size, body.size)
        body.size = size
    return body


def body_of(content: object) -> Body:
    """Return *content* as a body; see the table above.

    Raises ``TypeError`` when it cannot be one, ``BodyConsumedError`` for a generator that has
    come to its end already, and what reading nothing from a file raises.
    """
    if isinstance(content, str):
        return BytesBody(content.encode())
    if isinstance(content, (bytes, bytearray, memoryview)):
        return BytesBody(bytes(content))
    if isinstance(content, (list, tuple)):
        return BytesBody(b"".join([_octets(piece) for piece in content]))
    read = getattr(content, "read", None)
    if callable(read) and not inspect.iscoroutinefunction(read):
        return _file_body(content)
    # Anything else that has been read to its end looks like an empty body.
    if (inspect.isgenerator(content) and content.gi_frame is None) or (
        inspect.isasyncgen(content) and content.ag_frame is None
    ):
        raise BodyConsumedError("the generator has come to its end already")
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return IterableBody(content)
    if isinstance(content, AsyncIterable):
        return AsyncIterableBody(content)
    hint = ""
    if isinstance(content, Mapping):
        hint = "; for a form there is data, for JSON there is json"
    elif hasattr(content, "__fspath__"):
        hint = "; open the file"
    raise TypeError(
        "the content of a body is bytes, str, a binary file or an iterable of bytes, "
        f"not {type(content).__name__}{hint}"
    )


def _json_body(value: Any) -> BytesBody:
    return BytesBody(_JSON.encode(value).encode(), "application/json")


def _form_body(source: FormSource) -> BytesBody | None:
    try:
        form = encode_form(source)
    except TypeError as error:
        raise TypeError(f"data: {error}; a body of another kind is content") from None
    return BytesBody(form.encode(), "application/x-www-form-urlencoded") if form else None


def _file_body(file: Any) -> Body:
    # Not every text file is an io.TextIOBase (tempfile's, codecs').
    if isinstance(file, io.TextIOBase) or isinstance(file.read(0), str):
        raise TypeError("the file is open as text: open it in binary mode")
    try:
        if file.seekable():
            # Not fstat(): the descriptor of a GzipFile is that of the compressed file.
            start = file.tell()
            file.seek(0, io.SEEK_END)
            end = file.tell()
            file.seek(start)
            return FileBody(file, start, max(end - start, 0))
    except (AttributeError, OSError):
        # It says that it can, or does not say, and it cannot.
        pass
    return IterableBody(iter(lambda: _octets(file.read(BODY_PIECE_BYTES)), b""))


def _octets(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a piece of a body is bytes, not {type(piece).__name__}")

"""Content codings: what a response body was encoded with, taken off as it comes.

Owns: which codings there are, and the decoding of one body (RFC 9110 section 8.4).  Touches:
``zlib``; ``brotli`` or ``brotlicffi``, and ``compression.zstd`` or ``backports.zstd``, when
they are installed.
Invariant: between two pieces nothing is decoded.  So what lies in memory is the input of one
call, one piece for each coding and the codecs' windows, however much the body decodes to.

    coding         decoded by            read as
    gzip, x-gzip   zlib                  one or more members, each with its checksum
    deflate        zlib                  the zlib format; raw deflate, which some servers send,
                                         when the first two bytes are no zlib header
    br             brotli >= 1.2 or      one stream.  Versions below have no limit on what one
                   brotlicffi >= 1.2.1   call puts out, and count as not installed
    zstd           compression.zstd      one or more frames, windows of at most 8 MiB
                                         (RFC 9659)

Whatever follows the end is an error, and so is an end that does not come.  No bytes at all
are an empty body: a HEAD or a 304 tells the coding of content that it does not have.

A list with a coding that is not in this table is not decoded, not even those that are known:
`decoder_for` returns None and the caller gets what was sent, together with the Content-Encoding
that says what it is, as in httpx and requests.  An error would be no safer, since nothing is
guessed, and would shut out servers that write a charset or "none" there.

The limits are counted in steps of the input at offsets that do not depend on how it was cut,
so they cut off a body at the same step whatever the segmentation.  They hold for what each
coding puts out and not only the last: a gigabyte of empty gzip members, encoded once more,
is a bomb although it decodes to nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from protocols.http.errors import LimitExceeded, MalformedContent, TruncatedContent
from protocols.http.limits import (
    DECODE_INPUT_BYTES,
    DECODED_PIECE_BYTES,
    DEFAULT_LIMITS,
    MAX_ZSTD_WINDOW_LOG,
    SMALL_MEMBER_BYTES,
    ResponseLimits,
)

__all__ = ["Decoder", "accept_encoding", "decoder_for"]

# What zlib.decompressobj takes: a window of 32 KiB, plus 16 for the gzip format, negative
# for raw deflate.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15


class _Stage(Protocol):
    """One coding of one body; what it raises is a MessageError."""

    def put(self, data: bytes, /) -> None:
        """Hand in what comes next; only when `take` has nothing more of what came before."""

    def take(self) -> bytes:
        """Return a piece of bounded size; empty when all that was put in is decoded."""

    def is_whole(self) -> bool:
        """Return whether the stream may end here; asked only if it has begun."""


class Decoder:
    """Takes the content codings off one body.

    Made by `decoder_for`.  For each piece of the body, in order, iterate over `decode` to its
    end; then call `flush`.  A decoder that raised is spent.  Not for two threads at a time.

    Attributes:
        codings: what is taken off, in the order in which it was put on.
        received: bytes of the encoded body so far.
        decoded: bytes that came out so far.
    """

    __slots__ = (
        "_budget",
        "_busy",
        "_limits",
        "_max_body_bytes",
        "_outputs",
        "_stages",
        "codings",
        "decoded",
        "received",
    )

    def __init__(
        self,
        codings: tuple[str, ...],
        *,
        limits: ResponseLimits = DEFAULT_LIMITS,
        max_body_bytes: int | None = None,
    ) -> None:
        makers = _makers()
        self.codings = codings
        self.received = 0
        self.decoded = 0
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        # From the outermost, which was put on last, and how much each has put out.
        self._stages = [makers[coding](limits) for coding in reversed(codings)]
        self._outputs = [0] * len(codings)
        self._budget = 0
        self._busy = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Return an iterator over what *data* decodes to.

        The decoding is done as the iterator is advanced, one piece of at most about 100 KiB
        at a time (see the invariant), none of them empty.  There may be none.

        The iterator raises:
            MalformedContent: the body is not what its Content-Encoding says.
            LimitExceeded: ``max_decoding_ratio``, ``max_small_members`` or ``max_body_bytes``.

        ``RuntimeError``: the iterator of the call before was not read to its end.
        """
        self._begin()
        return self._decode(data)

    def flush(self) -> None:
        """Say that the body has ended; nothing is left to hand out.

        Raises:
            TruncatedContent: a stream of a coding ends in the middle.
            RuntimeError: the last iterator was not read to its end.
        """
        self._begin()
        begun = self.received > 0
        for index, stage in enumerate(self._stages):
            if begun and not stage.is_whole():
                coding = self.codings[-1 - index]
                raise TruncatedContent(coding, "the content ends in the middle")
            begun = self._outputs[index] > 0
        self._busy = False

    def _begin(self) -> None:
        if self._busy:
            raise RuntimeError("the pieces of the last call were not all read, or it failed")
        self._busy = True

    def _decode(self, data: bytes) -> Iterator[bytes]:
        limits = self._limits
        start = 0
        while start < len(data):
            # The step that a byte is in depends on its place in the body and on nothing else.
            step = data[start : start + DECODE_INPUT_BYTES - self.received % DECODE_INPUT_BYTES]
            steps = self.received // DECODE_INPUT_BYTES + 1
            self._budget = (
                limits.decoding_allowance_bytes
                + limits.max_decoding_ratio * steps * DECODE_INPUT_BYTES
            )
            self.received += len(step)
            start += len(step)
            yield from self._through(0, step)
        self._busy = False

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        """Yield what *data* is after the stage at *index* and all that follow."""
        stage = self._stages[index]
        is_last = index == len(self._stages) - 1
        stage.put(data)
        while piece := stage.take():
            self._outputs[index] += len(piece)
            if self._outputs[index] > self._budget:
                raise LimitExceeded("max_decoding_ratio", self._limits.max_decoding_ratio)
            if not is_last:
                for start in range(0, len(piece), DECODE_INPUT_BYTES):
                    yield from self._through(index + 1, piece[start : start + DECODE_INPUT_BYTES])
                continue
            self.decoded += len(piece)
            if self._max_body_bytes is not None and self.decoded > self._max_body_bytes:
                raise LimitExceeded("max_body_bytes", self._max_body_bytes)
            yield piece


def decoder_for(
    codings: Iterable[str],
    *,
    limits: ResponseLimits = DEFAULT_LIMITS,
    max_body_bytes: int | None = None,
) -> Decoder | None:
    """Return what decodes a body with these codings; None when it is to be left as it is.

    Args:
        codings: the elements of Content-Encoding in their order, as
            ``headers.get_list("content-encoding", split_commas=True)`` gives them.
        limits: its ``max_codings``, ``max_decoding_ratio``, ``decoding_allowance_bytes`` and
            ``max_small_members``.
        max_body_bytes: what the decoded body may not exceed; None for no limit.

    Raises:
        LimitExceeded: ``max_codings``; an "identity" counts too.
    """
    makers = _makers()
    wanted: list[str] = []
    all_known = True
    for name in codings:
        if len(wanted) == limits.max_codings:
            raise LimitExceeded("max_codings", limits.max_codings)
        coding = name.lower()
        # RFC 9110 section 8.4.1.3.
        coding = "gzip" if coding == "x-gzip" else coding
        all_known = all_known and (coding in makers or coding == "identity")
        wanted.append(coding)
    if "identity" in wanted:
        wanted = [coding for coding in wanted if coding != "identity"]
    if not wanted or not all_known:
        return None
    return Decoder(tuple(wanted), limits=limits, max_body_bytes=max_body_bytes)


@functools.cache
def accept_encoding() -> str:
    """Return the value of Accept-Encoding that asks for what is installed here."""
    return ", ".join(_makers())


# -- the codings ---------------------------------------------------------------------------


class _Members:
    """The account of a coding in which one stream may follow the other.

    Each costs time to set up, whatever it holds, so those that hold next to nothing are
    limited: see ``max_small_members``.
    """

    __slots__ = ("_credit", "_limit")

    def __init__(self, limits: ResponseLimits) -> None:
        self._limit = limits.max_small_members
        self._credit = self._limit * SMALL_MEMBER_BYTES

    def _count_member(self) -> None:
        self._credit -= SMALL_MEMBER_BYTES
        if self._credit < 0:
            raise LimitExceeded("max_small_members", self._limit)


class _Zlib(_Members):
    """What zlib decodes; a subclass says what begins where, in `_begin`."""

    __slots__ = ("_inflate", "_input", "_more")

    coding: str

    def __init__(self, limits: ResponseLimits) -> None:
        super().__init__(limits)
        self._inflate: zlib._Decompress | None = None
        self._input = b""
        # A full piece may leave output behind in zlib although all of the input is taken.
        self._more = False

    def put(self, data: bytes, /) -> None:
        self._input += data

    def take(self) -> bytes:
        while self._input or self._more:
            inflate = self._inflate
            if inflate is None or inflate.eof:
                inflate = self._inflate = self._begin()
                if inflate is None:
                    break
            try:
                piece = inflate.decompress(self._input, DECODED_PIECE_BYTES)
            except zlib.error as error:
                raise MalformedContent(self.coding, str(error)) from None
            self._more = len(piece) == DECODED_PIECE_BYTES and not inflate.eof
            self._input = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if piece:
                self._credit += len(piece)
                return piece
        return b""

    def is_whole(self) -> bool:
        return self._inflate is not None and self._inflate.eof

    def _begin(self) -> zlib._Decompress | None:
        """Return what decodes the stream that begins with the input; None if that is short."""
        raise NotImplementedError


class _Gzip(_Zlib):
    """Members one after the other (RFC 1952 section 2.2)."""

    __slots__ = ()

    coding = "gzip"

    def _begin(self) -> zlib._Decompress | None:
        self._count_member()
        return zlib.decompressobj(_GZIP)


class _Deflate(_Zlib):
    """The zlib format (RFC 1950), or deflate without it (RFC 1951).

    No encoder's raw stream begins like the zlib format: the low four bits of that are 8
    (deflate), which in raw deflate is a stored block with a bit set in the padding after it.
    """

    __slots__ = ()

    coding = "deflate"

    def _begin(self) -> zlib._Decompress | None:
        if self._inflate is not None:
            raise MalformedContent(self.coding, "bytes after the end")
        if len(self._input) < 2:
            return None
        first, second = self._input[:2]
        is_zlib = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        return zlib.decompressobj(_ZLIB if is_zlib else _RAW)


class _Brotli:
    """One stream (RFC 7932)."""

    __slots__ = ("_brotli", "_failure", "_input", "_more")

    def __init__(self, module: Any, limits: ResponseLimits) -> None:
        self._brotli = module.Decompressor()
        self._failure: type[Exception] = module.error
        self._input = b""
        self._more = False

    def put(self, data: bytes, /) -> None:
        if self._brotli.is_finished():
            raise MalformedContent("br", "bytes after the end")
        self._input = data
        self._more = True

    def take(self) -> bytes:
        if not self._more:
            return b""
        try:
            piece: bytes = self._brotli.process(
                self._input, output_buffer_limit=DECODED_PIECE_BYTES
            )
        except self._failure as error:
            raise MalformedContent("br", str(error)) from None
        # What is left of the input is kept inside.  So is what is left of the output, of which
        # ``brotli`` does not tell: only a piece that is not full says that it was all.
        self._input = b""
        self._more = len(piece) >= DECODED_PIECE_BYTES or not self._brotli.can_accept_more_data()
        return piece

    def is_whole(self) -> bool:
        whole: bool = self._brotli.is_finished()
        return whole


class _Zstd(_Members):
    """Frames one after the other (RFC 8878 section 3)."""

    __slots__ = ("_failure", "_frame", "_input", "_more", "_new_frame")

    def __init__(self, module: Any, limits: ResponseLimits) -> None:
        super().__init__(limits)
        self._failure: type[Exception] = module.ZstdError
        self._new_frame = functools.partial(
            module.ZstdDecompressor,
            options={module.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG},
        )
        self._frame: Any = None
        self._input = b""
        self._more = False

    def put(self, data: bytes, /) -> None:
        self._input = data

    def take(self) -> bytes:
        while self._input or self._more:
            if self._frame is None or self._frame.eof:
                self._count_member()
                self._frame = self._new_frame()
            try:
                piece: bytes = self._frame.decompress(self._input, DECODED_PIECE_BYTES)
            except self._failure as error:
                raise MalformedContent("zstd", str(error)) from None
            # What is left of the input is kept inside, until the frame ends.
            ended = self._frame.eof
            self._input = self._frame.unused_data if ended else b""
            self._more = not ended and not self._frame.needs_input
            if piece:
                self._credit += len(piece)
                return piece
        return b""

    def is_whole(self) -> bool:
        return self._frame is not None and bool(self._frame.eof)


def _brotli_module() -> Any:
    """Return a module that decodes br as `_Brotli` needs it, or None."""
    for name in ("brotli", "brotlicffi"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if not hasattr(module.Decompressor, "can_accept_more_data"):
            continue
        try:
            # An empty stream, and one byte after it: brotlicffi 1.2.0 passes over that.
            module.Decompressor().process(b"\x06x")
        except module.error:
            return module
    return None


def _zstd_module() -> Any:
    """Return the module that decodes zstd, or None."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@functools.cache
def _makers() -> dict[str, Callable[[ResponseLimits], _Stage]]:
    """Return what makes a stage, for each coding that can be decoded here."""
    makers: dict[str, Callable[[ResponseLimits], _Stage]] = {"gzip": _Gzip, "deflate": _Deflate}
    brotli = _brotli_module()
    if brotli is not None:
        makers["br"] = functools.partial(_Brotli, brotli)
    zstd = _zstd_module()
    if zstd is not None:
        makers["zstd"] = functools.partial(_Zstd, zstd)
    return makers

r"""Forms with files: multipart/form-data (RFC 7578).

Owns: how a part is written, and the boundary between parts.  Touches: nothing but what
``protocols.http.bodies`` reads; ``mimetypes``, for the content type that a file name tells.
Invariant: no string of the caller can end a quoted name, a header line or, as long as the
boundary is drawn at random, a part.

Names are written as the HTML standard says, which is what servers read today: UTF-8 as it is,
``"`` as ``%22``.  What has no reading that is safe everywhere is refused:

    a control character     a line end would begin a header of the caller's, or a part
    "\" at the end           a parser that knows quoted-pair (RFC 9110 section 5.6.4) would read
                            the quote behind it as part of the name
    a lone surrogate        has no UTF-8
    Content-Disposition     among a part's own headers: there would be two

No file is read into memory; see ``bodies`` for what one may be.
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Final

from protocols.http.bodies import Body, BytesBody, body_of
from protocols.http.errors import InvalidHeader
from protocols.http.headers import Headers
from protocols.http.limits import BODY_PIECE_BYTES
from protocols.http.query import FormSource, form_pairs

__all__ = ["MultipartBody", "multipart_body"]

_OCTETS: Final = "application/octet-stream"
# C0, DEL, C1.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# RFC 2046 section 5.1.1, without what would have to be quoted in Content-Type.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'+_.-]{1,70}")
_WORD: Final = r"[0-9A-Za-z!#$%&'*+.^_`|~-]+"
_PARAMETER: Final = rf"""[ \t]*;[ \t]*({_WORD})=({_WORD}|"[^"\\]*")"""
_MULTIPART: Final = re.compile(rf"multipart/{_WORD}(?:{_PARAMETER})*[ \t]*", re.IGNORECASE)


class MultipartBody(Body):
    """The parts of a form, one after the other; each is a head and a body."""

    __slots__ = ("_boundary", "_parts", "_whole", "is_live")

    def __init__(self, parts: Iterable[tuple[bytes, Body]], boundary: str) -> None:
        self._boundary = boundary.encode("ascii")
        self._parts = list(parts)
        self._whole: bytes | None = None
        self.is_live = any(body.is_live for _, body in self._parts)
        size: int | None = len(self._end())
        for head, body in self._parts:
            if size is not None:
                size = None if body.size is None else size + len(head) + body.size + 2
        super().__init__(size, f"multipart/form-data; boundary={boundary}")

    @property
    def replayable(self) -> bool:
        """Whether all parts can be sent from the beginning, now."""
        return all(body.replayable for _, body in self._parts)

    @property
    def whole(self) -> bytes | None:
        """The form in one piece where all of it lies in memory and is small, else None."""
        if (
            self._whole is None
            and self.size is not None
            and self.size <= BODY_PIECE_BYTES
            and all(body.whole is not None for _, body in self._parts)
        ):
            self._whole = b"".join(self)
        return self._whole

    def _pieces(self) -> Iterator[object]:
        # What lies in memory goes out together: a head with the end of the part before it,
        # fields with their heads.
        small = bytearray()
        for head, body in self._parts:
            small += head
            if body.whole is not None and len(body.whole) <= BODY_PIECE_BYTES:
                small += body.whole
            else:
                yield small
                small = bytearray()
                yield from body
            small += b"\r\n"
            if len(small) >= BODY_PIECE_BYTES:
                yield small
                small = bytearray()
        yield small + self._end()

    def _end(self) -> bytes:
        return b"--%b--\r\n" % self._boundary


def multipart_body(
    data: FormSource, files: Iterable[object], content_type: str | None = None
) -> MultipartBody:
    """Return a form of fields and files, fields first.

    Args:
        data: the fields; see ``protocols.http.query`` for what a value may be.
        files: pairs of a field name and a file, as for `encode_body`.
        content_type: the caller's own Content-Type.  The boundary that it names is used; who
            controls a field's value and can guess the boundary can forge parts.

    Raises:
        TypeError: what is not a name, a value or a file.
        InvalidHeader: a name, a header or *content_type*; see above.
        ValueError: a field's value holds a lone surrogate.
    """
    boundary = secrets.token_hex(16) if content_type is None else _boundary_in(content_type)
    parts = [_field(boundary, name, value) for name, value in form_pairs(data)]
    for pair in files:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError("files are a mapping, or pairs of a field name and a file")
        name, spec = pair
        parts.append(_file(boundary, name, spec))
    return MultipartBody(parts, boundary)


def _boundary_in(content_type: str) -> str:
    boundaries: list[str] = []
    if _MULTIPART.fullmatch(content_type):
        parameters = re.findall(_PARAMETER, content_type)
        boundaries = [value for name, value in parameters if name.lower() == "boundary"]
    if len(boundaries) == 1 and _BOUNDARY.fullmatch(boundary := boundaries[0].strip('"')):
        return boundary
    raise InvalidHeader(
        "Content-Type",
        "a form with files needs multipart/form-data with one boundary of letters, digits and "
        "'+_.- (RFC 2046 section 5.1.1); leave the field out and one is made",
    )


def _field(boundary: str, name: str | bytes, value: str | bytes) -> tuple[bytes, Body]:
    body = BytesBody(value.encode() if isinstance(value, str) else value)
    return _head(boundary, name, None, None, Headers()), body


def _file(boundary: str, name: object, spec: object) -> tuple[bytes, Body]:
    """Return the part for one file, in one of the forms that ``files`` takes."""
    content, filename, content_type, extra = spec, None, None, None
    if isinstance(spec, tuple):
        if not 2 <= len(spec) <= 4:
            raise TypeError("a file is (file name, content[, content type[, headers]])")
        filename, content, content_type, extra = (*spec, None, None)[:4]
        if filename is not None and not isinstance(filename, str):
            raise TypeError(f"a file name is str or None, not {type(filename).__name__}")
    else:
        filename = _filename(spec)
    body = body_of(content)
    if body.is_async:
        raise TypeError("a part of a form cannot be an async iterable")
    headers = Headers(extra)
    if "content-disposition" in headers:
        raise InvalidHeader(
            "Content-Disposition", "the part has one already (RFC 7578 section 4.2)"
        )
    if content_type is None and filename is not None and "content-type" not in headers:
        content_type = _guessed_type(filename)
    return _head(boundary, name, filename, content_type, headers), body


def _filename(file: object) -> str:
    """Return the file name for a file that was given without one."""
    name = getattr(file, "name", None)
    # A number for a descriptor, "<stdin>" and the like.
    if isinstance(name, str) and name and not name.startswith("<"):
        return PurePath(name).name
    return "upload"


def _guessed_type(filename: str) -> str:
    # guess_type() takes a URL: nothing that could be one is shown to it.
    _, dot, extension = filename.rpartition(".")
    if not dot or not extension.isalnum():
        return _OCTETS
    kind, encoding = mimetypes.guess_type(f"file.{extension}")
    # For a .tgz that would be the type of the tar file in it.
    return kind if kind is not None and encoding is None else _OCTETS


def _head(
    boundary: str, name: object, filename: str | None, content_type: str | None, headers: Headers
) -> bytes:
    """Return all of a part that comes before its body."""
    if not isinstance(name, str):
        raise TypeError(f"a field name is str, not {type(name).__name__}")
    disposition = b'form-data; name="%b"' % _quoted("name", name)
    if filename is not None:
        disposition += b'; filename="%b"' % _quoted("filename", filename)
    own = {"Content-Type": content_type} if content_type is not None else {}
    # Headers refuses what may not stand in a header.
    fields = headers.merged_with(own).raw
    lines = [b"--%b" % boundary.encode("ascii"), b"Content-Disposition: %b" % disposition]
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _quoted(parameter: str, text: str) -> bytes:
    """Return *text* as it stands between the quotes of a parameter."""
    if _CONTROL.search(text):
        raise InvalidHeader(parameter, "a control character in it (RFC 7578 section 4.2)")
    if text.endswith("\\"):
        raise InvalidHeader(parameter, 'a "\\" at the end of it would quote what ends it')
    try:
        return text.replace('"', "%22").encode()
    except UnicodeEncodeError:
        raise InvalidHeader(parameter, "it holds a lone surrogate") from None

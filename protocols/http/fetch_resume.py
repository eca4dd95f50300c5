"""A download that goes on where an earlier run's broke off (RFC 9110 section 14).

Owns: what is kept of a file that is not whole, and the note that says of which version it is.
May not touch: the network.
Invariant: two versions of a resource never meet in one file: the rest is taken only if the
server says that it is of the version whose beginning is here.

::

    .NAME.part          the bytes from the first one on
    .NAME.part.json     {"url": ..., "validator": ...}: an ETag or Last-Modified, if strong

    206, the range asked for, same validator    appended; thrown away if it has another length
    416, and the file is that long              it is whole already
    200                                         begun anew
    anything else that does not fit             begun anew, by another request
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from protocols.http.errors import RemoteProtocolError
from protocols.http.fetch_files import PartialFile
from protocols.http.headers import Headers
from protocols.http.url import URL

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ResumableFile"]

MAX_NOTE_BYTES = 262_144
# With the whole length, which tells that it is the rest, all of it; of what a file may have.
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,19})")
# A strong entity-tag (RFC 9110 section 8.8.3).
_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]+"')


class ResumableFile(PartialFile):
    """A file whose beginning outlives a run, if the server's answer had a validator.

    Args:
        path: its final name.
        url: whose body it is; the beginning of another one's is thrown away.
    """

    def __init__(self, path: Path, url: URL) -> None:
        super().__init__(path)
        self._url = str(url)
        self._kept = path.with_name(f".{path.name}.part")
        self._note = path.with_name(f".{path.name}.part.json")
        self._validator: str | None = None
        self._fresh = True
        self._missing: int | None = None  # bytes of the rest, where it is the rest that comes
        self.offset = 0

    def ask(self) -> dict[str, str]:
        """Return the fields that ask for the rest; none where nothing is kept."""
        self.offset = 0
        self._fresh = True
        self._missing = None
        # A note of deep nesting is a RecursionError.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            note = json.loads(self._read_note())
            kept = self._kept.lstat()
            validator = note["validator"]
            if note["url"] == self._url and _is_validator(validator) and _is_beginning(kept):
                self.offset, self._validator = kept.st_size, validator
                return {"Range": f"bytes={kept.st_size}-", "If-Range": validator}
        return {}

    def answered(self, status: int, headers: Headers) -> str:
        """Say what an answer means: ``"rest"``, ``"anew"``, ``"whole"`` or ``"forget"``.

        The last one: what is kept fits nothing that the server has; it is thrown away, and the
        request is to be made once more without it.
        """
        if status == 416 and self.offset:
            found = _UNSATISFIED.fullmatch(headers.get("content-range", ""))
            if found is not None and int(found[1]) == self.offset:
                self._fresh = False
                return "whole"
        elif status == 206:
            found = _RANGE.fullmatch(headers.get("content-range", ""))
            if self.offset and found is not None and self._is_of_version(headers):
                first, last, size = map(int, found.groups())
                if first == self.offset and last == size - 1:
                    self._fresh = False
                    self._missing = size - first
                    return "rest"
        else:
            self.offset = 0
            self._validator = _validator(headers)
            return "anew"
        self._forget()
        return "forget"

    def __enter__(self) -> Self:
        with self._named():
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT if self._fresh else 0)
            self._fd = _open(self._kept, flags)
            try:
                self._claim()
                if self._fresh:
                    self._note.unlink(missing_ok=True)
                    os.truncate(self._fd, 0)
            except BaseException:
                self._close()
                raise
            self._partial = self._kept
            if self._fresh and self._validator is not None:
                note = {"url": self._url, "validator": self._validator}
                self._note.write_text(json.dumps(note), encoding="utf-8")
        return self

    def write(self, data: bytes) -> None:
        """Append *data*; raises as ``commit`` does for more than the rest."""
        if self._missing is not None:
            if len(data) > self._missing:
                self._refuse()
            self._missing -= len(data)
        super().write(data)

    def commit(self) -> None:
        """Give the file its name, and forget where it could have been gone on with.

        Raises ``RemoteProtocolError`` if the rest is not as long as the server said: then
        nothing is kept.
        """
        if self._missing:
            self._refuse()
        with contextlib.ExitStack() as until_named:
            if fcntl is not None:  # the lock is on both, and no other run may take it before that
                until_named.callback(os.close, os.dup(self._fd))
            super().commit()
        with contextlib.suppress(OSError):
            self._note.unlink()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._partial is not None and self._validator is not None:
            self._partial = None  # kept for the next time
            with contextlib.suppress(OSError):
                self._close()
        super().__exit__(kind, value, traceback)

    def _claim(self) -> None:
        """See that no other run writes the same file; ``FileExistsError`` if one does, or did."""
        is_ours = True
        if fcntl is not None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_ours = False
            except OSError:
                pass  # a file system without locks
        status = os.fstat(self._fd)
        # Another that has ended meanwhile gave it its name.
        is_ours = is_ours and os.path.samestat(status, self._kept.lstat())
        if not is_ours or not (self._fresh or status.st_size == self.offset):
            raise FileExistsError(errno.EEXIST, f"{self._kept.name!r} is written by another run")

    def _read_note(self) -> bytes:
        with os.fdopen(_open(self._note, os.O_RDONLY), "rb") as note:
            content = note.read(MAX_NOTE_BYTES + 1)
        if len(content) > MAX_NOTE_BYTES:
            raise ValueError("no note of ours")
        return content

    def _is_of_version(self, headers: Headers) -> bool:
        """Return whether a part's fields say nothing against its being of the noted version."""
        tag, date = headers.get("etag"), headers.get("last-modified")
        if self._validator is not None and self._validator.startswith('"'):
            return tag in (None, self._validator)
        return tag is None and date in (None, self._validator)

    def _refuse(self) -> NoReturn:
        with contextlib.suppress(OSError):
            self._close()  # for Windows removes no file that is open
        self._forget()
        url = URL(self._url)
        raise RemoteProtocolError(
            "the part is not as long as its Content-Range says (RFC 9110 section 14.4)",
            host=url.host, port=url.port, phase="read",
        )  # fmt: skip

    def _forget(self) -> None:
        self.offset = 0
        for path in (self._note, self._kept):
            with contextlib.suppress(OSError):
                path.unlink()


def _open(path: Path, flags: int) -> int:
    """Open a regular file; anything else is refused, and not waited for (fifo(7))."""
    with contextlib.suppress(FileNotFoundError):
        _check(path, path.lstat())
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags, 0o666)
    try:
        _check(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(errno.EEXIST, f"{path.name!r} is no regular file")


def _is_beginning(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _validator(headers: Headers) -> str | None:
    """Return what If-Range may name (RFC 9110 section 13.1.5), or ``None``."""
    tag = headers.get("etag", "")
    if tag:
        return tag if _TAG.fullmatch(tag) else None
    modified = headers.get("last-modified", "")
    changed, sent = _time(modified), _time(headers.get("date", ""))
    # Within one second it may have changed twice (section 8.8.2.2).
    is_strong = changed is not None and sent is not None and sent - changed >= 1
    return modified if is_strong else None


def _is_validator(text: object) -> bool:
    """Return whether it is one of ``_validator``'s, which a request may carry."""
    return isinstance(text, str) and (_TAG.fullmatch(text) or _time(text)) is not None


def _time(date: str) -> float | None:
    """Return an HTTP-date as seconds since 1970, ``None`` for what is none."""
    if not (date.isascii() and date.isprintable()):
        return None
    try:
        time = parsedate_to_datetime(date)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None

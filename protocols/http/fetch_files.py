"""Where the fetcher puts what it downloads: safe names, and files that appear only when whole.

Owns: the names of one run, and partial files until they are renamed.  May not touch: the
network.
Invariant: under its final name a file is whole or not there; a partial file is removed
whatever happens, short of the end of the process by SIGKILL or the machine's.

A partial file lies in the same directory, since a rename works only inside of one file
system, under a name that no final name can have: it begins with a dot.  Nothing is flushed
to the disk (fsync(2)): what a power failure leaves is the file system's affair.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from protocols.http.headers import Headers
from protocols.http.url import URL

__all__ = ["Downloads", "OneFile", "PartialFile", "file_name"]

# NAME_MAX is 255 bytes on every file system in use; the rest is for "-1234567" of a name
# that came twice and for what makes a partial file's name.
MAX_NAME_BYTES = 200
MAX_SUFFIX_BYTES = 20
PARTIAL_NAME_TRIES = 100
NAMELESS = "index.html"

# A slash of either kind, and what Windows does not allow.
_SEPARATORS = re.compile(r'[/\\<>:"|?*]')
# Devices of Windows, with any suffix.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)

_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


def file_name(url: URL) -> str:
    """Return the name of the file for *url*: the last segment of its path, made safe.

    It is never empty, hidden, reserved, longer than ``MAX_NAME_BYTES`` in UTF-8, or anything
    but a name: no separator, no control character, no option (a leading dash).
    """
    text = unquote(url.path.rpartition("/")[2], errors="replace")
    text = unicodedata.normalize("NFC", text)
    text = _SEPARATORS.sub("_", text)
    text = "".join([character if character.isprintable() else "_" for character in text])
    text = text.strip(" ").lstrip(".").rstrip(". ")
    if not text:
        return NAMELESS
    if text[0] in "-~" or _RESERVED.fullmatch(text.partition(".")[0].rstrip()):
        text = f"_{text}"
    return _shortened(text)


def _split(name: str) -> tuple[str, str]:
    """Return stem and suffix; a suffix that is long is none."""
    path = PurePath(name)
    if len(path.suffix.encode()) > MAX_SUFFIX_BYTES:
        return name, ""
    return path.stem, path.suffix


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, suffix = _split(name)
    room = MAX_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + suffix


class Downloads:
    """The output directory of one run; hands out names so that no two URLs share one.

    Args:
        directory: created if it is not there.
        resumes: what came of a file is kept when it breaks off (``fetch_resume``).

    Raises ``OSError`` when it cannot be created or is not a directory.

    A file of an earlier run is replaced by the one that has its name now, in one step and
    only when that is whole, so that a run can be repeated.  Names that differ in case alone
    are one name on some file systems, so they are kept apart.
    """

    def __init__(self, directory: str | os.PathLike[str], *, resumes: bool = False) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._resumes = resumes
        self._taken: set[str] = set()
        self._next_number: dict[str, int] = {}  # of the names that came twice

    def name(self, url: URL) -> str:
        """Return the name for *url*: ``name``, then ``name-1``, ``name-2`` for one that is taken.

        In the order of the calls, so that the same list of URLs gives the same names.
        """
        name = file_name(url)
        key = name.casefold()
        if key not in self._taken:
            self._taken.add(key)
            return name
        stem, suffix = _split(name)
        number = self._next_number.get(key, 1)
        while True:
            numbered = f"{stem}-{number}{suffix}"
            number += 1
            if numbered.casefold() not in self._taken:
                break
        self._next_number[key] = number
        self._taken.add(numbered.casefold())
        return numbered

    def target(self, url: URL) -> PartialFile:
        """Return the file for *url*; its name is settled, but nothing is created yet."""
        return _file(self.directory / self.name(url), url, self._resumes)


class OneFile:
    """A sink for one URL's body: a file that the user has named.

    Args:
        path: in a directory that is there.
        resumes: as for ``Downloads``.
    """

    def __init__(self, path: Path, *, resumes: bool = False) -> None:
        self._path = path
        self._resumes = resumes

    def target(self, url: URL) -> PartialFile:
        """Return the file; nothing is created yet."""
        return _file(self._path, url, self._resumes)


def _file(path: Path, url: URL, resumes: bool) -> PartialFile:
    if not resumes:
        return PartialFile(path)
    from protocols.http.fetch_resume import ResumableFile  # which derives from one here

    return ResumableFile(path, url)


class PartialFile:
    """A file that is being downloaded: created as a context manager is entered.

    ``commit`` gives it its name; left without that it is removed.  Every method raises
    ``OSError`` with ``filename`` set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial: Path | None = None
        self._fd = -1

    def ask(self) -> dict[str, str]:
        """Return the fields with which the body is asked for: none."""
        return {}

    def answered(self, status: int, headers: Headers) -> str:
        """Say what an answer means for the file: it begins anew."""
        return "anew"

    @property
    def restarts(self) -> bool:
        """Whether the body may begin once more."""
        return True

    def write(self, data: bytes) -> None:
        """Append *data*; all of it, or ``OSError``."""
        with self._named():
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])

    def commit(self) -> None:
        """Close the file and give it its name, in place of whatever file had it."""
        assert self._partial is not None
        with self._named():
            self._close()
            self._partial.replace(self.path)
        self._partial = None

    def __enter__(self) -> Self:
        with self._named():
            for _ in range(PARTIAL_NAME_TRIES):
                partial = self.path.with_name(f".{self.path.name}.part-{secrets.token_hex(4)}")
                with contextlib.suppress(FileExistsError):
                    self._fd = os.open(partial, _FLAGS, 0o666)
                    self._partial = partial
                    return self
            raise FileExistsError(errno.EEXIST, "no free name for a partial file")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._partial is not None:
            with contextlib.suppress(OSError):
                self._close()
            with contextlib.suppress(OSError):
                self._partial.unlink()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Let every ``OSError`` tell which file it is about, by its final name."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            error.filename2 = None
            raise

    def _close(self) -> None:
        # close(2) reports what a network file system could not write.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

"""Cookies in a file: JSON, whole or not at all, read with suspicion.

Owns: the file's format, its mode, and how it is replaced.  May not touch: what a cookie may
be; that is `Cookie`'s.
Invariant: at any moment, a crash included, the path holds the old file or the new one.

    {"format": "cyreactor cookies", "version": 1, "cookies": [{...}, ...]}
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from protocols.http.errors import HTTPError
from protocols.http.limits import MAX_COOKIE_FILE_BYTES

__all__ = ["CookieFileError", "read_records", "write_records"]

_FORMAT: Final = "cyreactor cookies"
_VERSION: Final = 1


class CookieFileError(HTTPError, ValueError):
    """A file of cookies is not what `CookieJar.save` writes; nothing was loaded."""


def write_records(path: str | os.PathLike[str], records: list[dict[str, Any]]) -> None:
    """Replace the file at *path*; readable by its owner alone."""
    target = Path(path)
    document = {"format": _FORMAT, "version": _VERSION, "cookies": records}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
    # mkstemp makes it 0600 whatever the umask; beside the target, for a rename to be atomic.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of the file, each with all fields, each field of its type.

    Raises ``OSError`` and ``CookieFileError``; no message tells what stands in the file.
    """
    with Path(path).open("rb") as file:
        data = file.read(MAX_COOKIE_FILE_BYTES + 1)
    if len(data) > MAX_COOKIE_FILE_BYTES:
        raise CookieFileError(f"the file is larger than {MAX_COOKIE_FILE_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise CookieFileError("it is not JSON") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CookieFileError("it is not a file of cookies")
    if document.get("version") != _VERSION:
        raise CookieFileError(f"its version is not {_VERSION}")
    records = document.get("cookies")
    if not isinstance(records, list):
        raise CookieFileError("it has no list of cookies")
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or record.keys() != _FIELDS.keys():
            raise CookieFileError(f"cookie {number}: not the fields of a cookie")
        for name, is_right in _FIELDS.items():
            if not is_right(record[name]):
                raise CookieFileError(f"cookie {number}: {name} is not what it should be")
    return records


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _is_str(value: object) -> bool:
    return isinstance(value, str)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_time(value: object) -> bool:
    # The bounds keep arithmetic with it exact, and integers of JSON convertible to float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e11 < value < 1e12


def _is_time_or_none(value: object) -> bool:
    return value is None or _is_time(value)


def _is_origin_or_none(value: object) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, list)
        and len(value) == 3
        and value[0] in ("http", "https")
        and isinstance(value[1], str)
        and type(value[2]) is int
        and 1 <= value[2] <= 65_535
    )


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "name": _is_str,
    "value": _is_str,
    "domain": _is_str,
    "host_only": _is_bool,
    "path": _is_str,
    "secure": _is_bool,
    "http_only": _is_bool,
    "same_site": _is_str,
    "expires": _is_time_or_none,
    "origin": _is_origin_or_none,
    "created": _is_time,
    "accessed": _is_time,
}

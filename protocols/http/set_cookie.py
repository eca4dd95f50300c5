"""The Set-Cookie field: its grammar, its dates, and which hosts and paths a cookie is for.

Owns: sections 5.1 and 5.6 of draft-ietf-httpbis-rfc6265bis (called RFC 6265bis here), and
where the list of public suffixes comes from.  May not touch: stored cookies.
Invariant: nothing that a server sends raises; what cannot be read is None.

Text is latin-1, as `Headers` gives it, so a length in characters is one in octets.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from protocols.http.limits import MAX_COOKIE_ATTRIBUTE_BYTES, MAX_COOKIE_BYTES

__all__ = [
    "SetCookie",
    "default_path",
    "domain_matches",
    "has_prefix",
    "installed_public_suffixes",
    "is_address",
    "parse_cookie_date",
    "parse_set_cookie",
    "path_matches",
]

# RFC 6265bis section 5.6: every control character but HTAB ends it.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_AGE: Final = re.compile(r"-?[0-9]+")
_SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}

# RFC 6265bis section 5.1.1.
_DELIMITERS: Final = re.compile(r"[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_DAY: Final = re.compile(r"([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_YEAR: Final = re.compile(r"([0-9]{2,4})(?:[^0-9].*)?", re.DOTALL)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}


class SetCookie(NamedTuple):
    """What one Set-Cookie field asks for; whether it is granted is the jar's to say.

    Attributes:
        name, value: as they are sent back; the name may be empty.
        domain: lower case, without a leading dot; ``""`` where there is none.
        path: begins with a slash; None where the default is meant.
        max_age: seconds, or None.
        expires: seconds since 1970, or None.
        same_site: ``"Strict"``, ``"Lax"``, ``"None"``, or ``""``.
    """

    name: str
    value: str
    domain: str = ""
    path: str | None = None
    max_age: int | None = None
    expires: float | None = None
    secure: bool = False
    http_only: bool = False
    same_site: str = ""


def parse_set_cookie(field: str) -> SetCookie | None:
    """Return what the value of a Set-Cookie field says, or None where it is to be ignored.

    RFC 6265bis section 5.6, with one addition that its section 5.7 step 1 allows: a cookie
    without a name whose value holds a "=" is ignored.  It would go out as "a=b", look like
    the cookie "a", and pass by every rule that goes by names.
    """
    if _CONTROL.search(field):
        return None
    pair, *attributes = field.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    name, value = name.strip(" \t"), value.strip(" \t")
    if not (name or value) or len(name) + len(value) > MAX_COOKIE_BYTES:
        return None
    if not name and ("=" in value or has_prefix(value)):
        return None
    domain, path, max_age, expires, same_site = "", None, None, None, ""
    secure = http_only = False
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        text = text.strip(" \t")
        if len(text) > MAX_COOKIE_ATTRIBUTE_BYTES:
            continue
        # The last of a kind counts.
        match key.strip(" \t").lower():
            case "expires":
                date = parse_cookie_date(text)
                expires = expires if date is None else date
            case "max-age" if _MAX_AGE.fullmatch(text):
                max_age = int(text)
            case "domain":
                domain = text.removeprefix(".").lower()
            case "path":
                path = text if text.startswith("/") else None
            case "secure":
                secure = True
            case "httponly":
                http_only = True
            case "samesite":
                same_site = _SAME_SITE.get(text.lower(), "")
    return SetCookie(name, value, domain, path, max_age, expires, secure, http_only, same_site)


def has_prefix(name: str, prefix: str = "") -> bool:
    """Return whether *name* has the prefix, of any case; by default either of the two.

    ``__Secure-`` and ``__Host-`` (RFC 6265bis section 4.1.3).
    """
    return name.startswith("__") and name.lower().startswith(
        prefix.lower() or ("__secure-", "__host-")
    )


@functools.lru_cache(64)  # who sets a cookie with each response says the same for a second
def parse_cookie_date(text: str) -> float | None:
    """Return seconds since 1970 of a date in any of the ways that servers write one.

    RFC 6265bis section 5.1.1; None where there is no such date.
    """
    time = day = month = year = None
    for token in _DELIMITERS.split(text):
        if time is None and (found := _TIME.fullmatch(token)):
            time = found.groups()
        elif day is None and (found := _DAY.fullmatch(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS[token[:3].lower()]
        elif year is None and (found := _YEAR.fullmatch(token)):
            year = int(found[1])
    if time is None or day is None or month is None or year is None:
        return None
    if year <= 69:
        year += 2000
    elif year <= 99:
        year += 1900
    if year < 1601:
        return None
    hour, minute, second = map(int, time)
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    return moment.timestamp()


def is_address(host: str) -> bool:
    """Return whether the host of a `URL` is an IP address: one has no domains above it."""
    # URL takes no name whose last label is a number.
    return ":" in host or host.rpartition(".")[2].isdigit()


def domain_matches(host: str, domain: str) -> bool:
    """Return whether *host* is *domain* or below it (RFC 6265bis section 5.1.3).

    Both in lower case.  "example.com." and "example.com" are two hosts, as in browsers.
    """
    return host == domain or (host.endswith("." + domain) and not is_address(host))


def default_path(path: str) -> str:
    """Return the path of a cookie that names none (RFC 6265bis section 5.1.4)."""
    return path[: path.rindex("/")] or "/"


def path_matches(path: str, cookie_path: str) -> bool:
    """Return whether *path* is *cookie_path* or below it (RFC 6265bis section 5.1.4)."""
    if not path.startswith(cookie_path):
        return False
    end = len(cookie_path)
    return len(path) == end or cookie_path.endswith("/") or path[end] == "/"


@functools.cache
def installed_public_suffixes() -> Callable[[str], bool] | None:
    """Return what tells whether a domain is a public suffix, or None.

    That is the optional package ``publicsuffixlist`` (``pip install
    cyreactor[publicsuffixlist]``).  It is read once, which takes some 50 ms, when a server
    first sends a Domain.  A top-level domain that the list does not have counts as one.
    """
    try:
        module = importlib.import_module("publicsuffixlist")
    except ImportError:
        return None
    is_public: Callable[[str], bool] = module.PublicSuffixList().is_public
    return is_public

"""One cookie, which is legal or does not exist.

Owns: what may stand in a cookie, and what its name and attributes demand of its scope.
Touches: nothing; a leaf over the errors, the limits and `URL`.
Invariant: name and value of a `Cookie` can go into a header as they are, whoever made it: a
server, a caller or a file.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from protocols.http.errors import InvalidHeader, InvalidURL
from protocols.http.limits import MAX_COOKIE_ATTRIBUTE_BYTES, MAX_COOKIE_BYTES
from protocols.http.set_cookie import has_prefix, is_address
from protocols.http.url import URL

__all__ = ["Cookie", "canonical_host"]

# Octets but control characters, HTAB excepted, and separators; no white space around it.
_NAME: Final = re.compile(r"(?![ \t])[\t\x20-\x3a\x3c\x3e-\x7e\x80-\xff]*(?<![ \t])")
_VALUE: Final = re.compile(r"(?![ \t])[\t\x20-\x3a\x3c-\x7e\x80-\xff]*(?<![ \t])")
_PATH: Final = re.compile(r"/[\t\x20-\x3a\x3c-\x7e\x80-\xff]*(?<![ \t])")
_SAME_SITES: Final = ("Strict", "Lax", "None", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie and its scope; immutable.

    Attributes:
        name: may be empty in what a server has set.
        value: as it was received, quotes included; latin-1.  ``repr`` does not show it.
        domain: lower case, A-labels, no leading dot; ``""`` until the cookie has an origin.
        host_only: it does not go to hosts below the domain.
        path: begins with a slash.
        secure: it goes over https only.
        http_only, same_site: kept for the caller; see the module.
        expires: seconds since 1970, or None for a session cookie.
        origin: (scheme, host, port) where it goes to no other, else None.

    Raises:
        InvalidHeader, InvalidURL: both are ``ValueError``; it cannot be sent, or its scope is
            not what its name or its attributes demand.
    """

    name: str
    value: str = field(repr=False)
    domain: str = ""
    host_only: bool = True
    path: str = "/"
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    expires: float | None = None
    origin: tuple[str, str, int] | None = None

    def __post_init__(self) -> None:
        name, value, path = self.name, self.value, self.path
        parts: tuple[tuple[object, re.Pattern[str], str], ...] = (
            (name, _NAME, "name"),
            (value, _VALUE, "value"),
            (path, _PATH, "path"),
        )
        for text, legal, what in parts:
            if not (isinstance(text, str) and legal.fullmatch(text)):
                raise InvalidHeader("Cookie", _fault(what, text))
        if not (name or value) or (not name and ("=" in value or has_prefix(value))):
            raise InvalidHeader("Cookie", "a cookie without a name")
        if len(name) + len(value) > MAX_COOKIE_BYTES:
            raise InvalidHeader(
                "Cookie", f"name and value are longer than {MAX_COOKIE_BYTES} together"
            )
        if len(path) > MAX_COOKIE_ATTRIBUTE_BYTES:
            raise InvalidHeader("Cookie", f"the path is longer than {MAX_COOKIE_ATTRIBUTE_BYTES}")
        if self.same_site not in _SAME_SITES:
            raise InvalidHeader("Cookie", "SameSite is Strict, Lax, None or an empty string")
        _check_domain(self.domain, self.host_only)
        if self.origin is not None and not (self.host_only and self.origin[1] == self.domain):
            raise InvalidHeader("Cookie", "an origin of another host")
        # What has no origin yet becomes secure with an origin that is.
        if not self.secure and self.domain:
            if self.same_site == "None":
                raise InvalidHeader("Cookie", "SameSite=None needs secure")
            if has_prefix(name):
                raise InvalidHeader("Cookie", "the prefix of its name needs secure, so https")
        if has_prefix(name, "__Host-") and not (self.host_only and path == "/"):
            raise InvalidHeader("Cookie", 'a __Host- cookie is for one host and for path "/"')


def _fault(what: str, text: object) -> str:
    """Return what is wrong with a part of a cookie, without telling what stands in it."""
    if not isinstance(text, str):
        return f"the {what} is not str but {type(text).__name__}"
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        return f"a control character in the {what}"
    if re.search(r"[^\x00-\xff]", text):
        return f"the {what} cannot be encoded as latin-1"
    if what == "path" and not text.startswith("/"):
        return "the path does not begin with a slash"
    return f"a separator in the {what}, or white space around it"


def _check_domain(domain: str, host_only: bool) -> None:
    if not domain:
        if not host_only:
            raise InvalidURL("host", "a cookie without a domain is for one host")
        return
    if canonical_host(domain) != domain:
        raise InvalidURL("host", f"{domain[:80]!r} is not written as hosts are compared")
    if not host_only and (is_address(domain) or domain.endswith(".") or "." not in domain):
        raise InvalidURL("host", f"{domain[:80]!r} has no hosts below it")


@functools.lru_cache(1024)
def canonical_host(host: str) -> str:
    """Return *host* as `URL` has it: lower case, A-labels, IPv6 without brackets.

    Raises ``InvalidURL``.
    """
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host.strip("[]")).compressed
        except ValueError:
            raise InvalidURL("host", f"{host[:80]!r} is not a host without a port") from None
    if any(character in host for character in "/?#@[]"):
        raise InvalidURL("host", f"{host[:80]!r} is not a host")
    return URL(f"http://{host}/").host

"""Challenges: the WWW-Authenticate and Proxy-Authenticate fields (RFC 9110 section 11.6.1).

Owns: their grammar, and that of the credentials that look like them.  Touches: nothing; a
leaf over the limits.
Invariant: a field is read whole or not at all; half of one could turn "Digest, not Basic"
into "Basic".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from protocols.http.limits import (
    MAX_AUTH_PARAM_BYTES,
    MAX_CHALLENGE_PARAMS,
    MAX_CHALLENGES,
)

__all__ = ["Challenge", "parse_challenges", "quoted_string"]

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"'
_SCHEME: Final = re.compile(_WORD)
_SPACES: Final = re.compile(" +")
_PARAM: Final = re.compile(rf"({_WORD})[ \t]*=[ \t]*(?:({_WORD})|{_QUOTED})")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_COMMA: Final = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")
_BEFORE: Final = re.compile(r"[ \t,]*")
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a server or a proxy.

    Attributes:
        scheme: in lower case.
        params: names in lower case; values without their quotes, latin-1.
        token68: what stands in their place, such as for Negotiate, or ``""``.
    """

    scheme: str
    params: dict[str, str] = field(default_factory=dict)
    token68: str = ""


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the challenges in the values of all fields of one name, in order.

    A field that is malformed, names a parameter twice or exceeds a limit is left out: what
    cannot be read cannot be answered.  Text is latin-1, as ``Headers.get_list`` gives it.
    """
    found: list[Challenge] = []
    for value in values:
        challenges = _parse(value)
        if challenges is not None and len(found) + len(challenges) <= MAX_CHALLENGES:
            found += challenges
    return found


def _parse(text: str) -> list[Challenge] | None:
    """Return the challenges of one field, or None where it is not one.

    challenge   = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
    auth-param  = token BWS "=" BWS ( token / quoted-string )

    Both lists have commas between their elements.  What has a "=" and a value after its first
    token is a parameter of the challenge before it, anything else begins another.
    """
    found: list[Challenge] = []
    takes_params = False
    at = _end(_BEFORE.match(text, 0))
    while at < len(text):
        param = _whole(_PARAM, text, at)
        if param is None:
            scheme = _SCHEME.match(text, at)
            if scheme is None or len(found) == MAX_CHALLENGES:
                return None
            challenge = Challenge(scheme[0].lower())
            found.append(challenge)
            at = scheme.end()
            spaces = _SPACES.match(text, at)
            takes_params = False
            if spaces is not None and not _COMMA.match(text, at):
                at = spaces.end()
                param = _whole(_PARAM, text, at)
                takes_params = param is not None
                if param is None:
                    token68 = _whole(_TOKEN68, text, at)
                    if token68 is None or len(token68[0]) > MAX_AUTH_PARAM_BYTES:
                        return None
                    found[-1] = Challenge(challenge.scheme, token68=token68[0])
                    at = token68.end()
        if param is not None:
            if not takes_params or not _add(found[-1].params, param):
                return None
            at = param.end()
        comma = _COMMA.match(text, at)
        if comma is None:
            return None
        at = comma.end()
    return found


def _add(params: dict[str, str], param: re.Match[str]) -> bool:
    """Add a parameter, unless there is one of the name or it exceeds a limit."""
    name, token, quoted = param.groups()
    value = token if token is not None else _PAIR.sub(r"\1", quoted)
    name = name.lower()
    if name in params or len(params) == MAX_CHALLENGE_PARAMS:
        return False
    params[name] = value
    return len(name) + len(value) <= MAX_AUTH_PARAM_BYTES


def _whole(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str] | None:
    """Return the match of *pattern* if a comma or the end comes after it."""
    match = pattern.match(text, at)
    return match if match is not None and _COMMA.match(text, match.end()) else None


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "the expression matches the empty string"
    return match.end()


def quoted_string(text: str) -> str:
    """Return *text* as a quoted-string (RFC 9110 section 5.6.4); it holds no controls."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

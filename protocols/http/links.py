"""The Link field: what other resources a response names, and how they relate to it (RFC 8288).

Owns: its grammar.  Touches: nothing; a leaf.
Invariant: what is not understood of a field ends its reading; what stands before it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["parse_links"]

_TARGET: Final = re.compile(r"[ \t,]*<([^<>]*)>")
_PARAM: Final = re.compile(
    r'[ \t]*;[ \t]*(?:([^\s;,="<>]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"<>]*)))?)?'
)
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def parse_links(values: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the links of all Link fields, by their relation, or target where they have none.

    Each is a mapping as requests and httpx have it: ``"url"``, and the parameters by their
    names in lower case.  Of two links with one relation the first one counts, and so it is
    with two parameters of one name (RFC 8288 section 3).
    """
    links: dict[str, dict[str, str]] = {}
    for value in values:
        at = 0
        while (target := _TARGET.match(value, at)) is not None:
            at = target.end()
            link = {"url": target[1]}
            while (param := _PARAM.match(value, at)) is not None:
                at = param.end()
                name, quoted, token = param.groups()
                if name is not None:
                    text = token if quoted is None else _PAIR.sub(r"\1", quoted)
                    link.setdefault(name.lower(), text or "")
            links.setdefault(link.get("rel") or link["url"], link)
    return links

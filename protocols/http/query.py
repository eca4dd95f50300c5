"""Names and values as application/x-www-form-urlencoded: query strings and form bodies.

Owns: what ``params`` and ``data`` may hold, and how that is written.  Touches: nothing; a leaf.
Invariant: what is returned is printable ASCII without a space, so it can go into a request
target or a body as it is: whatever else a name or a value holds is percent-encoded.

The encoding is the one of httpx and requests (``urllib.parse.quote_plus``): everything but
letters, digits and ``_.-~``, a space as "+".  The URL standard writes "*" and "~" the other way
round; both ways are read alike.

    str, bytes        as they are; str is encoded as UTF-8
    True, False       "true", "false", as in httpx (requests: "True", "False")
    None              "", as in httpx (requests leaves the pair out)
    list, tuple       one pair for each element; none for an empty one
    other iterables   refused: what they mean is anybody's guess
    anything else     what str() says, such as numbers, dates, UUIDs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus, unquote_plus

from protocols.http.errors import InvalidURL

__all__ = [
    "FormSource",
    "Params",
    "encode_form",
    "encode_params",
    "extend_query",
    "form_pairs",
    "merge_params",
]

# "object" stands for whatever str() is good for; the table above tells the rest.
FormSource = Mapping[str, object] | Iterable[tuple[str, object]]
Params = FormSource | str | bytes

# RFC 3986 section 3.4: what may stand in a query, and "%" where it encodes something.
_QUERY_SAFE: Final = "!$&'()*+,;=:@/?%"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*")  # what is never encoded
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def form_pairs(source: FormSource) -> list[tuple[str | bytes, str | bytes]]:
    """Return the pairs of *source* in order, one for each value, each value as text.

    Args:
        source: a mapping, or an iterable of pairs; see the table above.

    Raises:
        TypeError: there is something in it that has no one meaning.
    """
    pairs: list[tuple[str | bytes, str | bytes]] = []
    for pair in _items(source):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError("each pair is a tuple of a name and a value")
        name, value = pair
        if not isinstance(name, (str, bytes, int)):
            raise TypeError(f"a name is str, not {type(name).__name__}")
        name_text = _text(name)
        if isinstance(value, (list, tuple)):
            pairs += [(name_text, _text(element)) for element in value]
        else:
            pairs.append((name_text, _text(value)))
    return pairs


def encode_form(source: FormSource) -> str:
    """Return *source* as application/x-www-form-urlencoded.

    Raises:
        TypeError: as `form_pairs`.
        UnicodeEncodeError: a str holds a lone surrogate.
    """
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in form_pairs(source)])


def encode_params(params: Params) -> str:
    """Return *params* as a query string.

    Args:
        params: a mapping or pairs, which are encoded; or a query string, str or bytes, in which
            only what may not stand in one is percent-encoded, control characters and "#" too.

    Raises:
        TypeError: as `form_pairs`.
        InvalidURL: a str holds a lone surrogate.
    """
    if isinstance(params, bytes):
        params = params.decode("utf-8", "surrogateescape")
    try:
        if not isinstance(params, str):
            return encode_form(params)
        octets = _LONE_PERCENT.sub("%25", params).encode("utf-8", "surrogateescape")
        return quote(octets, safe=_QUERY_SAFE)
    except UnicodeEncodeError:
        raise InvalidURL("query", "it holds a lone surrogate") from None


def merge_params(defaults: Params | None, params: Params | None) -> str:
    """Return a query string of both, in which *params* replaces what it names.

    Every pair of *defaults* whose name is in *params* too is left out.  For a client's own
    parameters and those of a request; raises what `encode_params` raises.
    """
    own = encode_params(params) if params is not None else ""
    if defaults is None:
        return own
    names = {_name(item) for item in own.split("&") if item}
    inherited = encode_params(defaults)
    kept = [item for item in inherited.split("&") if item and _name(item) not in names]
    return "&".join([*kept, own] if own else kept)


def extend_query(query: str | None, added: str) -> str | None:
    """Return *query* with *added* after it, both percent-encoded.

    Nothing that the URL has is lost or encoded anew, as in requests and aiohttp (httpx drops
    the URL's query when there are params).

    Args:
        query: the query of a URL; None when it has none.
        added: what `merge_params` returned; when it is empty, *query* is returned as it is.
    """
    if not added:
        return query
    return f"{query}&{added}" if query else added


def _items(source: object) -> Iterable[object]:
    if isinstance(source, Mapping):
        return source.items()
    if isinstance(source, (str, bytes, bytearray, memoryview)) or not isinstance(source, Iterable):
        raise TypeError(f"names and values are a mapping or pairs, not {type(source).__name__}")
    return source


def _text(value: object) -> str | bytes:
    if isinstance(value, (str, bytes)):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Iterable, bytearray, memoryview)):
        raise TypeError(f"a value is text, a number or a list of those, not {type(value).__name__}")
    return str(value)


def _quoted(text: str | bytes) -> str:
    if isinstance(text, str) and _PLAIN.fullmatch(text):
        return text
    return quote_plus(text)


def _name(item: str) -> str:
    """Return what the name of an encoded pair stands for."""
    return unquote_plus(item.partition("=")[0], errors="surrogateescape")

"""What must hold for any bytes at all: one check for each target of the fuzzer.

Owns: the properties, and how bytes become the arguments of what is tested.  Touches: no
fuzzer; the suite runs the same checks over seeds and findings.
Invariant: a check raises AssertionError, or whatever its subject raises against its
contract, for nothing but a defect.
"""

import ipaddress
import pickle
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import ada_url
import h11
import httptools

from protocols.http.errors import InvalidHeader, InvalidURL, MessageError
from protocols.http.headers import Headers, render_request_head
from protocols.http.limits import DEFAULT_LIMITS, ResponseLimits
from protocols.http.parser import ResponseParser
from protocols.http.url import URL
from tests.protocols.http.corpus import OK, TIGHT, Case, Fields, Outcome, collect, drive
from tests.protocols.http.differences import compare

# Responses: the first byte says what was asked, how the stream ends and what the limits are.

REQUESTS = ["GET", "HEAD", "CONNECT", "UPGRADE"]
_CLOSES, _IS_TIGHT = 4, 8


def encode_case(case: Case) -> bytes:
    """Return the input of `check_response` that means *case*."""
    flags = REQUESTS.index(case.request) | _CLOSES * case.eof
    flags |= _IS_TIGHT * (case.limits == TIGHT)
    # A letter or digit, so that a seed is text.
    return bytes([0x40 | flags]) + case.data


def decode_case(data: bytes) -> Case:
    """Return the case that *data* means; any bytes mean one."""
    flags = data[0] if data else 0
    return Case(
        "fuzzed",
        data[1:],
        request=REQUESTS[flags & 3],
        eof=bool(flags & _CLOSES),
        limits=TIGHT if flags & _IS_TIGHT else DEFAULT_LIMITS,
    )


def check_response(data: bytes) -> None:
    """Any cut of the stream gives the same; so does a used parser; the oracles agree."""
    case = decode_case(data)
    whole = drive([case.data], case)
    assert_limits_hold(whole, case.limits)
    for pieces in cuts(case.data):
        assert drive(pieces, case) == whole, [len(piece) for piece in pieces]
    if whole.complete and whole.keep_alive:
        message = case.data[: len(case.data) - len(whole.surplus)]
        assert again(case, message) == replace(whole, surplus=b"")
    if case.limits is DEFAULT_LIMITS:
        for difference in compare(case):
            assert difference.row is not None, f"{difference.oracle} {difference.what}"


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield *data* byte by byte, and cut at random places that only its bytes decide."""
    yield [data[i : i + 1] for i in range(len(data))]
    rng = random.Random(data)
    for _ in range(3):
        places = sorted({0, len(data), *(rng.randint(0, len(data)) for _ in range(3))})
        yield [data[a:b] for a, b in pairwise(places)]


def again(case: Case, message: bytes) -> Outcome:
    """Return what comes of *message* as the second response of a connection."""
    parser = ResponseParser(case.limits)
    for _ in range(2):
        parser.expect_response(
            head_request=case.request == "HEAD",
            connect=case.request == "CONNECT",
            upgrade=case.request == "UPGRADE",
        )
        outcome = Outcome()
        collect(parser.receive_data(message), outcome)
    outcome.keep_alive = parser.keep_alive
    return outcome


def assert_limits_hold(outcome: Outcome, limits: ResponseLimits) -> None:
    """Assert that nothing above *limits* was handed on."""
    assert len(outcome.heads) <= limits.max_informational + 1
    for *_, fields in outcome.heads:
        assert len(fields) <= limits.max_headers
        assert sum(len(name) + len(value) for name, value in fields) <= limits.max_head_bytes
    if outcome.trailers:
        assert len(outcome.trailers) <= limits.max_trailers


# Headers: the first byte says whether the rest comes off the wire or from a caller.

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_NO_SPACE = re.compile(rb"[\x21-\x7e]+")


def check_headers(data: bytes) -> None:
    """What a `Headers` tells is one story, whichever way it is asked; heads hold no more."""
    mode, text = data[:1], data[1:]
    if mode < b"\x55":
        check_parsed_headers(text)
    elif mode < b"\xaa":
        check_made_headers(text, as_text=mode < b"\x80")
    else:
        check_request_head(text)


def check_parsed_headers(lines: bytes) -> None:
    """The parser's fields are the lines between the status line and the empty one."""
    parser = ResponseParser()
    parser.expect_response(head_request=True)
    try:
        events = list(parser.receive_data(OK + lines + b"\r\n\r\n"))
    except MessageError:
        return
    if not events:
        return
    block = parser.head.removeprefix(OK)
    split = [line.partition(b":")[::2] for line in block.split(b"\r\n")[:-1]]
    check_look_ups(parser.headers, [(name, value.strip(b" \t")) for name, value in split])


def check_made_headers(lines: bytes, *, as_text: bool) -> None:
    """A caller's fields are taken exactly when each is legal, and come out as they went in."""
    pairs = [line.partition(b":")[::2] for line in lines.split(b"\n")]
    legal = all(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in pairs)
    source = [(a.decode("latin-1"), b.decode("latin-1")) for a, b in pairs] if as_text else pairs
    try:
        headers = Headers(source)
    except InvalidHeader:
        assert not legal, pairs
        return
    assert legal, pairs
    check_look_ups(headers, pairs)


def check_look_ups(headers: Headers, fields: Fields) -> None:
    """Every way of asking gives what *fields* has, by a reading without our scanners."""
    assert headers.raw == fields
    grouped: dict[str, list[str]] = {}
    for name, value in fields:
        grouped.setdefault(name.decode().lower(), []).append(value.decode("latin-1"))
    assert headers.keys() == list(headers) == list(grouped)
    assert len(headers) == len(grouped)
    assert bool(headers) == bool(fields)
    joined = {name: ", ".join(values) for name, values in grouped.items()}
    assert dict(headers.items()) == joined
    assert headers.values() == list(joined.values())
    assert [value for _, value in headers.multi_items()] == [v.decode("latin-1") for _, v in fields]
    for key in keys_to_ask(fields):
        meant = key.lower().decode("latin-1") if key.isascii() else ""
        ways: list[Any] = [key, key.decode("latin-1")]
        for asked in ways:
            assert (asked in headers) == (meant in joined), asked
            assert headers.get(asked) == joined.get(meant), asked
            assert headers.get_list(asked) == grouped.get(meant, []), asked
    assert pickle.loads(pickle.dumps(headers)).raw == Headers(headers).raw == fields
    assert headers == Headers(fields[::-1])
    merged = headers.merged_with(fields[:1])
    first = fields[0][0].lower() if fields else None
    assert merged.raw == [pair for pair in fields if pair[0].lower() != first] + fields[:1]


def keys_to_ask(fields: Fields) -> set[bytes]:
    """Return names that are there, and keys that nearly are."""
    keys = {b"", b":", b"content-length"}
    for name, value in fields[:8]:
        keys |= {name, name.swapcase(), name[:-1], name[1:], name + b":", name + b": " + value}
        keys |= {name + b"\r", name + b"\xe9", value, value[:3], bytes([name[0] ^ 0x20]) + name[1:]}
    return keys


def check_request_head(text: bytes) -> None:
    """A head that is rendered is one head, and other parsers read in it what was meant."""
    method, target, host, *lines = text.decode("latin-1").split("\n")[:12] + [""] * 3
    pairs = [line.partition(":")[::2] for line in lines if line]
    try:
        headers = Headers(pairs)
        head = render_request_head(method, target, host or None, headers)
    except InvalidHeader:
        return
    request_line, *sent, last, rest = head.split(b"\r\n")
    assert (last, rest) == (b"", b"")
    assert request_line.split(b" ") == [method.encode(), target.encode(), b"HTTP/1.1"]
    assert _TOKEN.fullmatch(method.encode())
    assert _NO_SPACE.fullmatch(target.encode())
    fields = headers.raw
    if b"host" not in [name.lower() for name, _ in fields]:
        fields.insert(0, (b"Host", host.encode()))
    assert sent == [name + b": " + value for name, value in fields]
    folded = [(name.lower(), value) for name, value in fields]
    for read in (h11_request, llhttp_request):
        found = read(head)
        if found is not None:
            seen_method, seen_target, seen_fields = found
            assert (seen_method, seen_target) == (method.encode(), target.encode())
            assert [name for name, _ in seen_fields] == [name for name, _ in folded], read
            for (name, value), (_, seen) in zip(folded, seen_fields, strict=True):
                assert value == seen or (name == b"transfer-encoding" and value.lower() == seen)


Request = tuple[bytes, bytes, Fields]


def h11_request(head: bytes) -> Request | None:
    """Return the request that h11 reads, or None when it refuses what we send."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    assert connection.trailing_data[0] == b""
    return bytes(event.method), bytes(event.target), list(event.headers)


class _LlhttpRequest:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: Fields = []
        self.heads = 0

    def on_url(self, data: bytes) -> None:
        self.target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1


def llhttp_request(head: bytes) -> Request | None:
    """Return the request that llhttp reads, or None when it refuses what we send."""
    receiver = _LlhttpRequest()
    parser = httptools.HttpRequestParser(receiver)
    rest = b""
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade as upgrade:
        # Nothing of the head is left for another protocol.
        rest = head[upgrade.args[0] :]
    except httptools.HttpParserError:
        return None
    assert (receiver.heads, rest) == (1, b"")
    return parser.get_method(), receiver.target, receiver.fields


# URLs: the first byte says whether the rest is given as bytes or as text.

BASE = URL("http://base.example/a/b?c")
URL_PARTS = {"url", "scheme", "userinfo", "host", "port", "path", "query", "fragment"}
_SENDABLE = re.compile(r"[\x21-\x7e]+")


def check_url(data: bytes) -> None:
    """What a `URL` gives can be sent, is stable, and means the same host to ada (WHATWG)."""
    as_bytes, octets = data[:1] >= b"\x80", data[1:]
    try:
        text = octets.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = octets.decode("latin-1")
        as_bytes = False
    given: str | bytes = octets if as_bytes else text
    for make, base in ((URL, None), (BASE.join, str(BASE))):
        try:
            url = make(given)
        except InvalidURL as error:
            part = error.part
        else:
            check_place(url, text, base)
            continue
        assert part in URL_PARTS


def check_place(url: URL, text: str, base: str | None) -> None:
    """What *url*, made of *text*, says can be sent, and ada finds the same place."""
    for part in (url.target, url.host_header, url.authority, str(url)):
        assert _SENDABLE.fullmatch(part), part
    assert not set("/?#@") & set(url.host), url.host
    assert url.target.startswith("/")
    assert URL(str(url)) == url
    assert pickle.loads(pickle.dumps(url)) == url
    # As it was given, and as we write it.
    assert_same_place(url, ada(text, base))
    assert_same_place(url, ada(str(url), None))


def ada(text: str, base: str | None) -> ada_url.URL | None:
    """Return what ada reads, or None when it refuses."""
    try:
        return ada_url.URL(text, base=base)
    except (ValueError, UnicodeEncodeError):
        return None


def assert_same_place(url: URL, read: ada_url.URL | None) -> None:
    """Assert that *read*, if it is one, names the server that *url* does."""
    if read is None:
        return
    assert read.protocol == url.scheme + ":", read.href
    assert int(read.port or {"http": 80, "https": 443}[url.scheme]) == url.port, read.href
    if ":" in url.host:
        assert ipaddress.ip_address(read.hostname[1:-1]) == ipaddress.ip_address(url.host)
    else:
        assert read.hostname == url.host, read.href


CHECKS: dict[str, Callable[[bytes], None]] = {
    "response": check_response,
    "headers": check_headers,
    "url": check_url,
}

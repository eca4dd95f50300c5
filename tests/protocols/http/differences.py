"""Where our parser differs from h11 and llhttp on purpose, each with the reason.

Owns: the three tables, and the comparison that consults them.  Touches: no parser but
through ``oracles.py``.
Invariant: `compare` passes over a difference only for a row of a table, and says for which.

Two rules hold beside the tables.  A reading that waits inside of a head agrees with a
refusal of that head: when a fault is told, at its byte or at the end of the head, is each
parser's own affair.  And what we refuse while an oracle still waits is no difference if
that oracle refuses it too once the connection closes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.protocols.http.corpus import Case
from tests.protocols.http.oracles import (
    Reading,
    Verdict,
    h11_reading,
    llhttp_can_be_asked,
    llhttp_reading,
    our_reading,
)

H11, LLHTTP = "h11", "llhttp"
ORACLES: dict[str, Callable[[Case], Reading]] = {H11: h11_reading, LLHTTP: llhttp_reading}

# What we refuse and the oracle takes: by our reason.

STRICTER = {
    (H11, "a line ends with LF alone"): "RFC 9112 section 2.2: a recipient MAY take LF; we need not",
    (H11, "a header line begins with white space"): "RFC 9112 section 5.2: h11 unfolds obs-fold, which no longer is HTTP",
    (H11, "a control character in the reason phrase"): "RFC 9112 section 4: HTAB, SP, VCHAR and obs-text; h11 refuses NUL and white space only",
    (H11, "a control character in a header value"): "RFC 9110 section 5.5: CTL are invalid; h11 refuses NUL and white space only",
    (H11, "a control character in a chunk extension"): "RFC 9112 section 7.1.1: token or quoted-string; h11 skips what ends in CRLF",
    (H11, "a chunk size line does not end in CRLF"): "RFC 9112 section 7.1: h11 skips a CR or LF inside of an extension",
    (H11, "white space after a chunk size"): "RFC 9112 section 7.1.1: BWS belongs to an extension; h11 knows servers that pad",
    (H11, "a chunk size has too many digits"): "RFC 9112 section 7.1: guard against overflow; h11 takes 20 digits",
    (H11, "Content-Length is above 2**63 - 1"): "RFC 9110 section 8.6: guard against overflow; h11 takes 20 digits",
    (H11, "the version is not HTTP/1.x"): "RFC 9112 section 2.3: h11 takes any two digits",
    (H11, "both Content-Length and Transfer-Encoding"): "RFC 9112 section 6.3: ought to be an error; in h11 the coding wins",
    (H11, "Transfer-Encoding in HTTP/1.0"): "RFC 9112 section 6.1: faulty framing; h11 reads it",
    (LLHTTP, "the answer does not begin with HTTP/"): "RFC 9112 section 2.2: an empty line first is for servers to skip; llhttp also knows ICE and RTSP",
    (LLHTTP, "the version is not HTTP/1.x"): "RFC 9112 section 2.3: llhttp knows 0.9 and 2.0 too",
    (LLHTTP, "the status code is not from 100 to 999"): "RFC 9110 section 15: llhttp takes any three digits",
    (LLHTTP, "a control character in the reason phrase"): "RFC 9112 section 4: llhttp refuses CR and LF only",
    (LLHTTP, "Content-Length is above 2**63 - 1"): "RFC 9110 section 8.6: guard against overflow; llhttp counts unsigned",
    (LLHTTP, "a chunk size has too many digits"): "RFC 9112 section 7.1: guard against overflow; llhttp takes any number of zeros",
    (LLHTTP, "Transfer-Encoding is not chunked, once"): "RFC 9112 section 6.1, 7.4: llhttp hands content that is still coded to its caller",
    (LLHTTP, "Transfer-Encoding in HTTP/1.0"): "RFC 9112 section 6.1: faulty framing; llhttp reads it",
    (LLHTTP, "101 Switching Protocols was not asked for"): "RFC 9110 section 7.8: llhttp does not know what was asked",
}  # fmt: skip


# What we take and an oracle refuses: by its words, and by what we saw in the stream.


@dataclass(frozen=True)
class Looser:
    """A refusal of *oracle* in words that match *complaint*, where *holds* is true."""

    oracle: str
    complaint: str
    holds: Callable[[Case, Reading], bool]
    why: str


def _values(ours: Reading, name: bytes) -> list[bytes]:
    return [value for *_, fields in ours.heads for key, value in fields if key == name]


def _trailer_is(*names: bytes) -> Callable[[Case, Reading], bool]:
    # in a stream that ends among the trailers: behind the last chunk
    among = re.compile(rb"\n0+[^\n]*\n(?:[^\n]+\n)*(?:%s):" % b"|".join(names), re.IGNORECASE)

    def holds(case: Case, ours: Reading) -> bool:
        if ours.verdict is Verdict.WAITING:
            return among.search(case.data) is not None
        return any(key in names for key, _ in ours.trailers)

    return holds


def _in_tunnel(case: Case, ours: Reading) -> bool:
    return case.request == "CONNECT" and bool(ours.heads) and 200 <= ours.heads[-1][0] < 300


def _pattern(expression: bytes) -> Callable[[Case, Reading], bool]:
    return lambda case, ours: re.search(expression, case.data) is not None


def _lengths(test: Callable[[list[bytes]], bool]) -> Callable[[Case, Reading], bool]:
    return lambda case, ours: test(_values(ours, b"content-length"))


def _has_informational(*statuses: int) -> Callable[[Case, Reading], bool]:
    return lambda case, ours: any(head[0] in statuses for head in ours.heads)


def _unknown_informational(case: Case, ours: Reading) -> bool:
    return any(head[0] < 200 and head[0] not in (100, 101, 102, 103) for head in ours.heads)


def _close_early(case: Case, ours: Reading) -> bool:
    """Whether an informational head says, or being of HTTP/1.0 means, that the end is near."""
    early = [head for head in ours.heads if head[0] < 200]
    return any(head[1] == 0 or b"connection" in dict(head[3]) for head in early)


def _spelled_apart(lengths: list[bytes]) -> bool:
    """Whether a number is written in two ways: we have seen to it that it is one."""
    return len({one.strip() for length in lengths for one in length.split(b",")}) > 1


_LEADING_ZEROS = "RFC 9110 section 8.6: 1*DIGIT, and equal as numbers is equal"
_BWS = "RFC 9112 section 7.1.1: BWS before an extension MUST be parsed"
_TRAILER = "RFC 9110 section 6.5.1: a trailer never frames, so it is no reason to refuse"
_EXTENSION = "RFC 9112 section 7.1.1: MUST ignore unrecognized extensions; what is in one is not looked at, but control characters"  # fmt: skip
_TUNNEL = "RFC 9112 section 6.3: MUST ignore Content-Length and Transfer-Encoding"

LOOSER = [
    Looser(H11, "bad Content-Length", _lengths(lambda them: any(len(one) > 20 for one in them)), "RFC 9110 section 8.6: zeros in front mean nothing; h11 takes 20 digits"),
    Looser(H11, "conflicting Content-Length", _lengths(_spelled_apart), _LEADING_ZEROS),
    Looser(H11, "illegal chunk header", _pattern(rb"[0-9A-Fa-f][ \t]+;"), _BWS),
    Looser(H11, "Content-Length", _trailer_is(b"content-length"), _TRAILER),
    Looser(H11, "Transfer-Encoding", _trailer_is(b"transfer-encoding"), _TRAILER),
    Looser(H11, "Content-Length|Transfer-Encoding", _in_tunnel, _TUNNEL),
    Looser(LLHTTP, "Duplicate Content-Length", _lengths(lambda them: len(them) > 1), "RFC 9112 section 6.3: equal ones are one"),
    Looser(LLHTTP, "Invalid character in Content-Length", _lengths(lambda them: any(b"," in one for one in them)), "RFC 9112 section 6.3: a list of equal ones is one"),
    Looser(LLHTTP, "Invalid HTTP version", lambda case, ours: any(head[1] > 1 for head in ours.heads), "RFC 9110 section 2.5: a higher minor version is read as 1.1"),
    Looser(LLHTTP, "Data after `Connection: close`", _close_early, "RFC 9112 section 9.6: close ends the connection after the final response"),
    Looser(LLHTTP, "Invalid character in chunk extensions", _pattern(rb"[0-9A-Fa-f][ \t]*;"), _EXTENSION),
    Looser(LLHTTP, "Invalid character in chunk size", _pattern(rb"[0-9A-Fa-f][ \t]+;"), _BWS),
    Looser(LLHTTP, "Content-Length can't be present", _trailer_is(b"content-length"), _TRAILER),
    Looser(LLHTTP, "", _unknown_informational, "RFC 9110 section 15.2: no 1xx has content; llhttp knows 100 to 103"),
    Looser(LLHTTP, "Pause on CONNECT/Upgrade", _has_informational(101), "RFC 9110 section 7.8: httptools goes on after the switch"),
]  # fmt: skip


# What both take, but read otherwise: by the attribute of the reading.


@dataclass(frozen=True)
class Otherwise:
    """A difference in *attribute* alone, where *holds* is true of (case, ours, theirs)."""

    oracle: str
    attribute: str
    holds: Callable[[Case, Reading, Reading], bool]
    why: str


def _rewritten(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return *fields* as h11 hands them on: one length, one spelling of a coding."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name == b"transfer-encoding":
            value = value.lower()  # noqa: PLW2901
        elif name == b"content-length":
            value = value.partition(b",")[0].strip()  # noqa: PLW2901
            if any(key == name for key, _ in kept):
                continue
        kept.append((name, value))
    return kept


def _h11_rewrote(case: Case, ours: Reading, theirs: Reading) -> bool:
    rewritten = [(*head, _rewritten(fields)) for *head, fields in ours.heads]
    return rewritten == theirs.heads


def _close_amid_spaces(ours: Reading) -> bool:
    """Whether close stands in a Connection field next to another word, with no comma."""
    return any(
        b"close" in element.lower().split() and len(element.split()) > 1
        for value in _values(ours, b"connection")
        for element in value.split(b",")
    )


READ_OTHERWISE = [
    Otherwise(H11, "heads", _h11_rewrote, "h11 normalizes Content-Length and Transfer-Encoding; we hand on what came"),
    Otherwise(H11, "trailers", lambda case, ours, theirs: _rewritten(ours.trailers) == theirs.trailers, "h11 normalizes Content-Length and Transfer-Encoding; we hand on what came"),
    Otherwise(H11, "keep_alive", lambda case, ours, theirs: ours.heads[-1][1] == 0 and ours.keep_alive, "RFC 9112 section 9.3: keep-alive in HTTP/1.0 persists; h11 never lets it"),
    Otherwise(H11, "keep_alive", lambda case, ours, theirs: _close_early(case, ours) and not ours.keep_alive, "RFC 9112 section 9.6: close counts wherever the server says it; h11 looks at the final head"),
    Otherwise(H11, "keep_alive", lambda case, ours, theirs: _close_amid_spaces(ours) and not ours.keep_alive, "RFC 9110 section 7.6.1: a list without its comma; close is the safe reading"),
    Otherwise(LLHTTP, "keep_alive", lambda case, ours, theirs: b"close" in b",".join(_values(ours, b"connection")).lower() and not ours.keep_alive, "RFC 9112 section 9.3: close wins over keep-alive; in llhttp the last decides"),
    Otherwise(LLHTTP, "keep_alive", lambda case, ours, theirs: bool(ours.trailers) and ours.keep_alive, _TRAILER),
]  # fmt: skip


# The comparison.

ATTRIBUTES = ("heads", "body", "trailers", "end", "keep_alive")


@dataclass(frozen=True)
class Difference:
    """One difference of a stream's readings, and the row that explains it, if any."""

    oracle: str
    what: str
    row: object = None


def compare(case: Case) -> Iterator[Difference]:
    """Yield how the oracles' readings of the case differ from ours."""
    ours = our_reading(case)
    theirs = {
        name: oracle(case)
        for name, oracle in ORACLES.items()
        if name == H11 or llhttp_can_be_asked(case)
    }
    for name, reading in theirs.items():
        if ours.verdict is Verdict.REFUSED:
            if takes(name, case, reading):
                reason = ours.error.partition(" (RFC")[0]
                yield Difference(
                    name,
                    f"takes it; we: {reason}",
                    (name, reason) if (name, reason) in STRICTER else None,
                )
        elif reading.verdict is Verdict.REFUSED:
            if not waits_inside_head(ours):
                yield Difference(
                    name, f"refuses it: {reading.error}", looser_row(name, case, ours, reading)
                )
        else:
            yield from compare_readings(name, case, ours, reading)


def takes(name: str, case: Case, reading: Reading) -> bool:
    """Whether the oracle takes the stream, or waits for what it would take."""
    if reading.verdict is Verdict.WAITING and not case.eof:
        reading = ORACLES[name](replace(case, eof=True))
    return reading.verdict is not Verdict.REFUSED


def waits_inside_head(ours: Reading) -> bool:
    """Whether the final head, in which the fault may lie, is not yet whole."""
    return ours.verdict is Verdict.WAITING and (not ours.heads or ours.heads[-1][0] < 200)


def looser_row(name: str, case: Case, ours: Reading, theirs: Reading) -> Looser | None:
    """Return the row for which we take what an oracle refuses."""
    for row in LOOSER:
        if row.oracle == name and re.search(row.complaint, theirs.error) and row.holds(case, ours):
            return row
    return None


def compare_readings(name: str, case: Case, ours: Reading, theirs: Reading) -> Iterator[Difference]:
    """Yield the differences of two readings of which neither is a refusal."""
    if ours.verdict is not theirs.verdict:
        yield Difference(name, f"{theirs.verdict}; we: {ours.verdict}")
        return
    for attribute in ATTRIBUTES:
        mine, other = getattr(ours, attribute), getattr(theirs, attribute)
        if mine != other:
            rows = (
                row
                for row in READ_OTHERWISE
                if (row.oracle, row.attribute) == (name, attribute)
                and row.holds(case, ours, theirs)
            )
            yield Difference(name, f"{attribute}: {other!r}; we: {mine!r}", next(rows, None))

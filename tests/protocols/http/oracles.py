"""What other parsers make of the same bytes, in the terms of ours.

Owns: the questions that h11 and llhttp (httptools) are asked, and their answers as a
`Reading`.  Touches: no table of who is right; that is in ``differences.py``.
Invariant: a reading says nothing that its parser did not, but for two things that
httptools has no way to ask, the close of the connection and HEAD: see `llhttp_reading`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import h11
import httptools

from tests.protocols.http.corpus import Case, Fields, drive


class Verdict(StrEnum):
    """What becomes of a stream."""

    REFUSED = "refused"
    WAITING = "waiting"  # for more bytes, or for the close
    COMPLETE = "complete"


@dataclass
class Reading:
    """What a parser makes of a stream; *error* says why when it is refused."""

    verdict: Verdict = Verdict.WAITING
    # (status, minor version, reason phrase, fields) of each head, the informational first.
    heads: list[tuple[int, int, bytes, Fields]] = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    # Of a complete message: where it ends in the stream, and what the connection is good for.
    end: int | None = None
    keep_alive: bool = False
    error: str = ""


def our_reading(case: Case) -> Reading:
    """Return what our parser makes of the case's stream, fed whole."""
    outcome = drive([case.data], case)
    reading = Reading(
        heads=[
            (status, minor, reason.encode("latin-1"), folded(fields))
            for _, status, minor, reason, fields in outcome.heads
        ],
        body=outcome.body,
        trailers=folded(outcome.trailers or []),
    )
    if outcome.error is not None:
        reading.verdict, reading.error = Verdict.REFUSED, outcome.error[1]
    elif outcome.complete:
        reading.verdict = Verdict.COMPLETE
        reading.end = len(case.data) - len(outcome.surplus)
        reading.keep_alive = outcome.keep_alive
    return reading


def folded(fields: Fields) -> Fields:
    """Return *fields* with names in lower case, as both oracles compare them."""
    return [(name.lower(), value) for name, value in fields]


def h11_reading(case: Case) -> Reading:
    """Return what h11 makes of the case's stream."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    method = case.request if case.request in ("HEAD", "CONNECT") else "GET"
    headers = [("Host", "x")]
    if case.request == "UPGRADE":
        headers += [("Upgrade", "x"), ("Connection", "upgrade")]
    connection.send(h11.Request(method=method, target="/", headers=headers))
    connection.send(h11.EndOfMessage())
    reading = Reading()
    try:
        for data in (case.data, b"") if case.eof else (case.data,):
            if reading.verdict == Verdict.WAITING and (data or case.eof):
                connection.receive_data(data)
                _pull_h11(connection, reading)
    except h11.RemoteProtocolError as error:
        reading.verdict, reading.error = Verdict.REFUSED, str(error)
    if reading.verdict == Verdict.COMPLETE:
        reading.end = len(case.data) - len(connection.trailing_data[0])
    return reading


def _pull_h11(connection: h11.Connection, reading: Reading) -> None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response | h11.InformationalResponse):
            version, fields = int(event.http_version[2:]), list(event.headers)
            if event.http_version[:2] != b"1.":
                version = -1
            reading.heads.append((event.status_code, version, bytes(event.reason), fields))
            if connection.their_state is h11.SWITCHED_PROTOCOL:
                reading.verdict = Verdict.COMPLETE
                return
        elif isinstance(event, h11.Data):
            reading.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            reading.verdict = Verdict.COMPLETE
            reading.trailers = list(event.headers)
            # Where the close ended the message there is nothing to keep, whatever h11 thinks.
            closed = connection.trailing_data[1]
            reading.keep_alive = connection.their_state is h11.DONE and not closed
            return
        else:
            return


class _LlhttpReceiver:
    """What httptools calls back."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.reason = b""
        self.fields: Fields = []
        self.in_body = False
        self.chunked = False
        self.parser = httptools.HttpResponseParser(self)

    def on_status(self, data: bytes) -> None:
        self.reason += data

    def on_header(self, name: bytes, value: bytes) -> None:
        # The white space behind a value is not part of it (RFC 9112 section 5.1).
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        major, minor = map(int, self.parser.get_http_version().split("."))
        head = (self.parser.get_status_code(), minor if major == 1 else -1)
        self.reading.heads.append((*head, self.reason, self.fields))
        self.in_body = True
        self.reason, self.fields = b"", []

    def on_chunk_header(self) -> None:
        self.chunked = True

    def on_body(self, data: bytes) -> None:
        self.reading.body += data

    def on_message_complete(self) -> None:
        self.in_body = False
        if self.reading.heads[-1][0] >= 200:
            self.reading.verdict = Verdict.COMPLETE
            self.reading.keep_alive = self.parser.should_keep_alive()
            self.reading.trailers, self.fields = self.fields, []

    def end_of_stream(self, position: int) -> None:
        """Do what llhttp_finish() would, which httptools does not call."""
        self.reading.verdict, self.reading.error = Verdict.REFUSED, "Invalid EOF state"
        if not self.in_body or self.chunked:
            return
        fields = self.reading.heads[-1][3]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        # llhttp_message_needs_eof(): a coding that is not chunked at its end, or no framing.
        until_close = not any(name == b"content-length" for name, _ in fields)
        if codings:
            until_close = not codings[-1].lower().endswith(b"chunked")
        if until_close:
            self.reading.verdict, self.reading.error = Verdict.COMPLETE, ""
            self.reading.end = position


def llhttp_can_be_asked(case: Case) -> bool:
    """Whether httptools can be told enough: it does not know what was requested."""
    return case.request in ("GET", "UPGRADE")


def llhttp_reading(case: Case) -> Reading:
    """Return what llhttp makes of the case's stream.

    It is fed byte by byte: that is how the end of a message is seen before the parser goes
    on to the next.
    """
    reading = Reading()
    receiver = _LlhttpReceiver(reading)
    try:
        for position in range(len(case.data)):
            reading.end = position + 1
            receiver.parser.feed_data(case.data[position : position + 1])
            if reading.verdict == Verdict.COMPLETE:
                return reading
    except httptools.HttpParserUpgrade:
        reading.verdict = Verdict.COMPLETE
        return reading
    except httptools.HttpParserError as error:
        reading.verdict, reading.error = Verdict.REFUSED, f"{type(error).__name__}: {error}"
    reading.end = None
    if case.eof and reading.verdict == Verdict.WAITING:
        receiver.end_of_stream(len(case.data))
    return reading

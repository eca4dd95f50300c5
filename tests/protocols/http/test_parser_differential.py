"""Our parser against h11 and llhttp: what all take they read alike, and the rest has a reason.

The streams are those of ``corpus.py`` (named, with an expectation) and of ``streams.py``
(made by rule, without); the reasons are the rows of ``differences.py``.  ``tests/fuzz``
carries the same comparison on to streams that nobody thought of.
"""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.protocols.http.corpus import ACCEPTED, REFUSED, Case, drive, splits
from tests.protocols.http.differences import (
    H11,
    LLHTTP,
    LOOSER,
    ORACLES,
    READ_OTHERWISE,
    STRICTER,
    Looser,
    compare,
)
from tests.protocols.http.oracles import Reading, Verdict, our_reading
from tests.protocols.http.streams import STREAMS

EVERY_STREAM = STREAMS + ACCEPTED + REFUSED
FAMILIES = sorted({case.name for case in STREAMS})


@pytest.mark.parametrize("family", [*FAMILIES, "named cases"])
def test_every_difference_from_an_oracle_has_a_reason(family: str) -> None:
    named = [*ACCEPTED, *REFUSED, *(replace(case, eof=True) for case in ACCEPTED + REFUSED)]
    cases = [case for case in STREAMS if case.name == family] or named
    unexplained = [(case, d.oracle, d.what) for case in cases for d in compare(case) if not d.row]
    assert unexplained == []


def test_every_reason_has_a_stream() -> None:
    met = {difference.row for case in EVERY_STREAM for difference in compare(case)}
    rows = [*STRICTER, *LOOSER, *READ_OTHERWISE]
    assert [row for row in rows if row not in met] == []


def test_every_reason_names_its_source() -> None:
    for why in [*STRICTER.values(), *(row.why for row in LOOSER)]:
        assert why.startswith("RFC 91"), why


# What we take although neither oracle does, as pairs of what each of them says; the rows of
# the table give the section by which we do.
ONLY_WE_TAKE = {
    ("bad Content-Length", "Duplicate Content-Length"),
    ("Transfer-Encoding", "Content-Length can't be present"),
    ("conflicting Content-Length", "Duplicate Content-Length"),
    ("conflicting Content-Length", "Invalid character in Content-Length"),
    ("illegal chunk header", "Invalid character in chunk size"),
    ("Content-Length", "Content-Length can't be present"),
}


def test_what_neither_oracle_takes_we_take_for_the_listed_reasons_alone() -> None:
    alone = set()
    for case in EVERY_STREAM:
        rows = [d.row for d in compare(case) if isinstance(d.row, Looser)]
        if [row.oracle for row in rows] == [H11, LLHTTP]:
            alone.add((rows[0].complaint, rows[1].complaint))
    assert alone == ONLY_WE_TAKE


def test_the_streams_reach_every_kind_of_end() -> None:
    verdicts = Counter(our_reading(case).verdict for case in STREAMS)
    assert min(verdicts[verdict] for verdict in Verdict) > 100


def test_no_segmentation_of_a_stream_changes_the_outcome() -> None:
    rng = random.Random(9112)
    # Whether the stream is closed changes nothing about what came before.
    for case in STREAMS:
        if not case.eof or case.request != "GET":
            continue
        whole = drive([case.data], case)
        for pieces in splits(case.data):
            assert drive(pieces, case) == whole, (case, pieces)
        for _ in range(3):
            places = sorted([0, len(case.data), *(rng.randint(0, len(case.data)) for _ in "123")])
            pieces = [case.data[a:b] for a, b in pairwise(places)]
            assert drive(pieces, case) == whole, (case, pieces)


# The comparison itself: what it would be worth if our parser were wrong.


RIGHT = Reading(
    Verdict.COMPLETE,
    [(200, 1, b"OK", [(b"content-length", b"5")])],
    b"hello",
    end=43,
    keep_alive=True,
)
WRONG = {
    "refused": Reading(Verdict.REFUSED, error="no such reason"),
    "waiting": replace(RIGHT, verdict=Verdict.WAITING, end=None, keep_alive=False),
    "status": replace(RIGHT, heads=[(201, *RIGHT.heads[0][1:])]),
    "version": replace(RIGHT, heads=[(200, 0, *RIGHT.heads[0][2:])]),
    "fields": replace(RIGHT, heads=[(200, 1, b"OK", [])]),
    "an informational head": replace(RIGHT, heads=[(100, 1, b"C", []), *RIGHT.heads]),
    "body": replace(RIGHT, body=b"hell"),
    "trailers": replace(RIGHT, trailers=[(b"a", b"b")]),
    "end": replace(RIGHT, end=42),
    "keep_alive": replace(RIGHT, keep_alive=False),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_reading_is_a_difference_without_a_reason(
    wrong: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("plain", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert our_reading(case) == RIGHT
    assert list(compare(case)) == []
    monkeypatch.setattr("tests.protocols.http.differences.our_reading", lambda case: wrong)
    assert {d.oracle: d.row for d in compare(case)} == dict.fromkeys(ORACLES)

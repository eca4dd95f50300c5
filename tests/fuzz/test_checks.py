"""The fuzzer's checks over its seeds and its findings, without the fuzzer."""

import random
from pathlib import Path

import pytest

from tests.fuzz.checks import CHECKS, decode_case, encode_case
from tests.fuzz.seeds import FINDINGS, findings, seeds
from tests.protocols.http.corpus import EVERY_CASE

FOUND = [path for target in CHECKS for path in findings(target)]


@pytest.mark.parametrize("target", CHECKS)
def test_every_seed_holds(target: str) -> None:
    for seed in seeds(target):
        CHECKS[target](seed)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_holds_now(path: Path) -> None:
    CHECKS[path.parent.name](path.read_bytes())


def test_every_directory_of_findings_has_its_check() -> None:
    assert {path.name for path in FINDINGS.iterdir()} <= set(CHECKS)


@pytest.mark.parametrize("target", CHECKS)
def test_a_few_mutations_of_the_seeds_hold(target: str) -> None:
    rng = random.Random(target)
    known = list(seeds(target))
    for _ in range(2_000):
        data = bytearray(rng.choice(known))
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(data))
            other = rng.choice(known)
            begin = rng.randint(0, len(other))
            data[at : at + rng.randint(0, 4)] = other[begin : begin + rng.randint(0, 12)]
        CHECKS[target](bytes(data))


def test_a_case_survives_the_way_into_a_seed_and_back() -> None:
    for case in EVERY_CASE:
        back = decode_case(encode_case(case))
        assert (back.data, back.request, back.eof) == (case.data, case.request, case.eof)
        assert back.limits == case.limits


def test_no_input_is_too_short() -> None:
    for check in CHECKS.values():
        for data in (b"", b"\x00", b"\xff"):
            check(data)

"""The limits: every number is sensible beside the others."""

from itertools import pairwise
from pathlib import Path

from reactor import limits


def test_every_limit_is_a_positive_number() -> None:
    numbers = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert numbers
    assert all(isinstance(value, (int, float)) and value > 0 for value in numbers.values()), numbers


def test_every_limit_says_why() -> None:
    lines = Path(limits.__file__).read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        if line[:1].isupper() and " = " in line:
            assert before.startswith(("#", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")), line

"""How much a test does: the usual, or all that a proof is worth (``tox -e proofs``)."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_THOROUGH = os.environ.get("CYREACTOR_THOROUGH", "") not in ("", "0")


def effort(usual: T, thorough: T) -> T:
    """Return the first, or the second where a whole proof was asked for."""
    return thorough if IS_THOROUGH else usual

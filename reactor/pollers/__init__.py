"""Chooses the poller: what there is on this platform, and why not the others.

Owns: the names of pollers.  May not touch: descriptors.  Invariant: every poller named here
fulfils ``reactor.pollers.contract``.
"""

from __future__ import annotations

import importlib
import os
import sys

from reactor.limits import MAX_FREE_BLOCKS, RECEIVE_BLOCK_BYTES
from reactor.pollers.contract import Poller
from reactor.pool import BlockPool

__all__ = ["available_pollers", "new_poller"]

# name: (module, class), in the order of preference
_POLLERS = {
    "epoll": ("reactor.pollers.epoll", "EpollPoller"),
    "simulated": ("reactor.pollers.simulated", "SimulatedPoller"),  # only when asked for
}
_PLATFORMS = {"epoll": "linux"}


def available_pollers() -> dict[str, str]:
    """Return every poller's name with ``""`` when it works here, else with the reason."""
    found = {}
    for name, (module, _) in _POLLERS.items():
        if not sys.platform.startswith(_PLATFORMS.get(name, "")):
            found[name] = f"{name} is for {_PLATFORMS[name]}, this is {sys.platform}"
            continue
        try:
            importlib.import_module(module)
        except ImportError as error:
            found[name] = str(error)
        else:
            found[name] = ""
    return found


def new_poller(name: str | None = None, *, block_size: int = RECEIVE_BLOCK_BYTES) -> Poller:
    """Return a new poller with a pool of its own.

    Args:
        name: one of ``available_pollers()``; by default the environment's
            ``REACTOR_POLLER``, else the best of the platform.
        block_size: bytes that one receive takes at most.

    Raises ``ValueError`` for an unknown name and ``RuntimeError`` for one that does not
    work here.
    """
    name = name or os.environ.get("REACTOR_POLLER") or next(iter(_POLLERS))
    if name not in _POLLERS:
        raise ValueError(f"unknown poller {name!r}; there is {', '.join(_POLLERS)}")
    reason = available_pollers()[name]
    if reason:
        raise RuntimeError(f"poller {name!r} does not work here: {reason}")
    module, kind = _POLLERS[name]
    pool = BlockPool(block_size, MAX_FREE_BLOCKS)
    poller: Poller = getattr(importlib.import_module(module), kind)(pool)
    return poller

"""Chooses the poller: what there is on this platform, and why not the others.

Owns: the names of pollers.  May not touch: descriptors.  Invariant: every poller named here
fulfils ``reactor.pollers.contract``.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable

from reactor.errors import PollerUnavailableError
from reactor.limits import MAX_FREE_BLOCKS, RECEIVE_BLOCK_BYTES
from reactor.pollers.contract import Poller
from reactor.pool import BlockPool

__all__ = ["available_pollers", "default_poller", "new_poller"]

OPTIMIZATIONS = ("scale", "speed")

_BSD = ("darwin", "freebsd", "netbsd", "openbsd", "dragonfly")

# name: (module, class, prefixes of sys.platform that have it by themselves, what stands for it
# in words), in the order of preference
_POLLERS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "epoll": ("reactor.pollers.epoll", "EpollPoller", ("linux",), "Linux"),
    "kqueue": ("reactor.pollers.kqueue", "KqueuePoller", _BSD, "macOS and the BSDs"),
    "iocp": ("reactor.pollers.iocp", "IocpPoller", ("win32",), "Windows"),
    # Only when it is asked for.
    "uring": ("reactor.pollers.uring", "UringPoller", ("linux",), "Linux"),
    "simulated": ("reactor.pollers.simulated", "SimulatedPoller", (), "any platform"),
}

# What is used when the environment names a poller that the system may refuse, and does.
_INSTEAD = {"uring": "epoll"}


def available_pollers() -> dict[str, str]:
    """Return every poller's name with ``""`` when it works here, else with the reason."""
    return {name: _why_not(name) for name in _POLLERS}


def default_poller() -> str:
    """Return the name of the poller that this process uses unless told otherwise.

    That is the environment's ``REACTOR_POLLER``, else the platform's own.  Raises
    ``RuntimeError`` on a platform that has none.
    """
    chosen = os.environ.get("REACTOR_POLLER")
    if chosen:
        return chosen
    for name, (_, _, platforms, _) in _POLLERS.items():
        if sys.platform.startswith(platforms):
            return name
    raise RuntimeError(f"there is no poller for {sys.platform}; REACTOR_POLLER may name one")


def _why_not(name: str) -> str:
    module, _, platforms, where = _POLLERS[name]
    refused: Callable[[], str] | None
    try:
        refused = getattr(importlib.import_module(module), "why_not", None)
    except ModuleNotFoundError as error:
        if error.name != module:
            return str(error)
        if not sys.platform.startswith(platforms):
            return f"{name} is for {where}, this is {sys.platform}"
        return f"{module} was not built"
    except ImportError as error:
        return str(error)
    return refused() if refused is not None else ""


def new_poller(
    name: str | None = None,
    *,
    block_size: int = RECEIVE_BLOCK_BYTES,
    optimization: str = "scale",
) -> Poller:
    """Return a new poller with a pool of its own.

    Args:
        name: one of ``available_pollers()``; by default ``default_poller()``.
        block_size: bytes that one receive takes at most.
        optimization: for a completion port: ``"scale"``, a receive that waits has no buffer;
            ``"speed"``, it has one, which saves a call for each message.  Where readiness is
            waited for, a buffer is only had for the call itself either way.

    Raises ``ValueError`` for an unknown name or optimization and ``PollerUnavailableError`` (a
    ``RuntimeError``) for a poller that does not work here.  Where the environment names io_uring
    and the system refuses it, there is a ``RuntimeWarning`` with the reason, and epoll.
    """
    if optimization not in OPTIMIZATIONS:
        raise ValueError(f"optimization is one of {OPTIMIZATIONS}, not {optimization!r}")
    asked = name is not None
    name = name or default_poller()
    if name not in _POLLERS:
        raise ValueError(f"unknown poller {name!r}; there is {', '.join(_POLLERS)}")
    reason = _why_not(name)
    if reason and not asked and name in _INSTEAD:
        instead = _INSTEAD[name]
        warnings.warn(
            f"REACTOR_POLLER={name} does not work here, {instead} is used: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
        name, reason = instead, _why_not(instead)
    if reason:
        raise PollerUnavailableError(name, reason)
    module, kind, _, _ = _POLLERS[name]
    pool = BlockPool(block_size, MAX_FREE_BLOCKS)
    options = {"posted": True} if optimization == "speed" and name == "iocp" else {}
    poller: Poller = getattr(importlib.import_module(module), kind)(pool, **options)
    return poller

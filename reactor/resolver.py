"""Names to addresses, and the race among addresses (Happy Eyeballs, RFC 8305).

Owns: the threads that ask getaddrinfo(3), the order of attempts.  May not touch: sockets; an
attempt is whatever the caller's function starts.
Invariant: when ``race`` returns or raises, every attempt but the one it returns was closed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from reactor.limits import ATTEMPT_DELAY_SECONDS, MAX_ADDRESSES, RESOLVER_THREADS

__all__ = ["AddressInfo", "Attempt", "Resolver", "interleave", "numeric", "race"]


class AddressInfo(NamedTuple):
    """One line of getaddrinfo(3)'s answer."""

    family: int
    kind: int
    protocol: int
    address: tuple[Any, ...]


class Attempt(Protocol):
    """What ``race`` needs of an attempt to connect."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Done when the attempt succeeded or failed."""
        ...

    def close(self) -> None:
        """Give the attempt up and free what it holds; may be called at any time."""


AttemptT = TypeVar("AttemptT", bound=Attempt)


def numeric(host: str, port: int) -> AddressInfo | None:
    """Return the address if *host* is one already, ``None`` if it is a name.

    An IPv6 zone (``fe80::1%eth0``) needs the system's table of interfaces and counts as a
    name.
    """
    for family, address in (
        (socket.AF_INET, (host, port)),
        (socket.AF_INET6, (host, port, 0, 0)),
    ):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return AddressInfo(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, address)
    return None


def interleave(infos: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Return *infos* with the families alternating, the first one's first (RFC 8305 section 4)."""
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info.family, []).append(info)
    lists = list(families.values())
    longest = max((len(each) for each in lists), default=0)
    return [each[row] for row in range(longest) for each in lists if row < len(each)]


class Resolver:
    """Asks getaddrinfo(3) in threads of its own; belongs to one loop's thread.

    Args:
        max_threads: names that are looked up at the same time; more wait their turn.
    """

    def __init__(self, max_threads: int = RESOLVER_THREADS) -> None:
        if max_threads < 1:
            raise ValueError(f"a resolver needs at least one thread, not {max_threads}")
        self._max_threads = max_threads
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._asked: set[concurrent.futures.Future[list[tuple[Any, ...]]]] = set()

    async def resolve(
        self, host: str, port: int, family: int = socket.AF_UNSPEC
    ) -> list[AddressInfo]:
        """Return the addresses of *host*, families interleaved, in the order to try them.

        Raises ``socket.gaierror`` when there is none.  An address is returned as it is,
        without a thread.
        """
        literal = numeric(host, port)
        if literal is not None:
            if family not in (socket.AF_UNSPEC, literal.family):
                raise socket.gaierror(
                    socket.EAI_FAMILY, f"{host} is not an address of family {family}"
                )
            return [literal]
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(
                self._max_threads, thread_name_prefix="cyreactor-resolver"
            )
        asked = self._executor.submit(_look_up, host, port, family)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        try:
            rows = await asyncio.wrap_future(asked)
        except UnicodeError as error:
            # the system's IDNA codec: an empty or overlong label
            raise socket.gaierror(
                socket.EAI_NONAME, f"not a host name: {host!r} ({error})"
            ) from None
        return interleave(AddressInfo(row[0], row[1], row[2], row[4]) for row in rows)[
            :MAX_ADDRESSES
        ]

    def close(self) -> None:
        """End the threads, but for those whose look-up is under way: they end after it."""
        if self._executor is not None:
            self._executor.shutdown(wait=not self._asked, cancel_futures=True)
            self._executor = None


def _look_up(host: str, port: int, family: int) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


async def race(
    infos: Iterable[AddressInfo],
    start: Callable[[AddressInfo], AttemptT],
    delay: float = ATTEMPT_DELAY_SECONDS,
) -> AttemptT:
    """Return the first attempt that succeeds.

    Args:
        infos: the addresses, in the order to try them; at least one.
        start: begins an attempt; an ``OSError`` from it counts as that address's failure.
        delay: seconds that an attempt runs alone before the next one starts; a failure
            starts the next one at once (RFC 8305 section 5).

    Raises the first address's error when all fail, with the others' as notes.
    """
    errors: dict[int, OSError] = {}
    running: dict[AttemptT, int] = {}  # in the order of the addresses
    left = list(enumerate(infos))[::-1]
    try:
        while left or running:
            if left:
                place, info = left.pop()
                try:
                    attempt = start(info)
                except OSError as error:
                    errors[place] = error
                    continue
                running[attempt] = place
            winner = await _first(running, delay if left else None, errors)
            if winner is not None:
                del running[winner]
                return winner
    finally:
        for attempt in running:
            if not attempt.future.cancel() and not attempt.future.cancelled():
                attempt.future.exception()  # a failure that came too late to matter
            attempt.close()
    first, *others = [errors[place] for place in sorted(errors)]
    for other in others:
        first.add_note(f"also tried: {other}")
    raise first


async def _first(
    running: dict[AttemptT, int], delay: float | None, errors: dict[int, OSError]
) -> AttemptT | None:
    """Wait until an attempt succeeds, one fails, or *delay* seconds passed."""
    await asyncio.wait(
        [attempt.future for attempt in running],
        timeout=delay,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for attempt in [each for each in running if each.future.done()]:
        error = attempt.future.exception()
        if error is None:
            return attempt
        place = running.pop(attempt)
        attempt.close()
        if not isinstance(error, OSError):
            raise error
        errors[place] = error
    return None

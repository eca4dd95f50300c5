"""Names to addresses, and the race among addresses (Happy Eyeballs, RFC 8305).

Owns: the threads that ask getaddrinfo(3), what is kept of their answers, the order of
attempts.  May not touch: sockets; an attempt is whatever the caller's function starts.
Invariant: when ``race`` returns or raises, every attempt but the one it returns was closed.

The threads are ``_thread``'s, fed by a queue that is written in C. To start one of ``threading``'s,
or to hand work to an executor, takes locks in Python code, and a signal handler that raises there
may leave them held for good (``reactor.locks``): every executor of the process stood still.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import queue
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from reactor.limits import (
    ATTEMPT_DELAY_SECONDS,
    FAILED_ADDRESS_SECONDS,
    MAX_ADDRESSES,
    MAX_CACHED_NAMES,
    MAX_FAILED_ADDRESSES,
    NAME_SECONDS,
    NO_NAME_SECONDS,
    RESOLVER_THREADS,
)
from reactor.waiting import wait

__all__ = ["AddressInfo", "Attempt", "Resolver", "interleave", "numeric", "race"]


# What getaddrinfo(3) returns, and its errors that are an answer: the name has no address.
Rows: TypeAlias = list[tuple[Any, ...]]
NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


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


@functools.lru_cache(MAX_CACHED_NAMES)  # asked before each connection
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


class _Answer(NamedTuple):
    """What is known of a name.

    Attributes:
        until: when it is to be asked for again, on the loop's clock.
        infos: its addresses, families interleaved, with port 0.
        error: why there are none, or ``None``.
    """

    until: float
    infos: list[AddressInfo]
    error: OSError | None


class Resolver:
    """Turns names into addresses; belongs to one loop's thread.

    It asks getaddrinfo(3) in threads of its own, so that work elsewhere cannot starve it, nor
    a look-up that hangs anything else.  A name is asked for once at a time, however many want
    it, and what was answered is kept for a while.

    Args:
        max_threads: names that are looked up at the same time; more wait their turn.
        max_cached: names whose answer is kept; the one that was used the longest ago goes.
        ttl_seconds: how long addresses are kept; getaddrinfo(3) tells no time to live.
        negative_ttl_seconds: how long it is kept that a name does not exist.  Failures that
            may pass (no name server answered) are not kept.

    Raises ``ValueError`` for a limit below one or a negative time.
    """

    def __init__(
        self,
        max_threads: int = RESOLVER_THREADS,
        *,
        max_cached: int = MAX_CACHED_NAMES,
        ttl_seconds: float = NAME_SECONDS,
        negative_ttl_seconds: float = NO_NAME_SECONDS,
    ) -> None:
        if max_threads < 1:
            raise ValueError(f"a resolver needs at least one thread, not {max_threads}")
        if max_cached < 1:
            raise ValueError(f"max_cached must be at least 1, not {max_cached}")
        if not (ttl_seconds >= 0 and negative_ttl_seconds >= 0):
            raise ValueError("a time to live must not be negative")
        self._max_threads = max_threads
        self._max_cached = max_cached
        self._ttl_seconds = ttl_seconds
        self._negative_ttl_seconds = negative_ttl_seconds
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] | None = None
        self._threads = 0
        self._asked: set[tuple[str, int]] = set()  # what no thread has answered yet
        self._answers: OrderedDict[tuple[str, int], _Answer] = OrderedDict()
        self._flights: dict[tuple[str, int], asyncio.Future[_Answer]] = {}
        self._failures: OrderedDict[str, float] = OrderedDict()  # address -> when to forget it

    async def resolve(
        self, host: str, port: int, family: int = socket.AF_UNSPEC
    ) -> list[AddressInfo]:
        """Return the addresses of *host*, families interleaved, in the order to try them.

        Those that failed a short while ago come last.  Raises ``socket.gaierror`` when there
        is none.  An address is returned as it is, without a thread.
        """
        literal = numeric(host, port)
        if literal is not None:
            if family not in (socket.AF_UNSPEC, literal.family):
                raise socket.gaierror(
                    socket.EAI_FAMILY, f"{host} is not an address of family {family}"
                )
            return [literal]
        key = (host, family)
        now = asyncio.get_running_loop().time()
        answer = self._answers.get(key)
        if answer is not None and answer.until > now:
            self._answers.move_to_end(key)
        else:
            answer = await self._fly(key)
        if answer.error is not None:
            raise type(answer.error)(*answer.error.args)
        infos = [info._replace(address=_with_port(info.address, port)) for info in answer.infos]
        if self._failures:
            infos.sort(key=lambda info: self._failures.get(info.address[0], 0.0) > now)
        return infos

    def note(self, info: AddressInfo, connected: bool) -> None:
        """Remember for a while whether *info* could be connected to; see ``race``."""
        address = info.address[0]
        self._failures.pop(address, None)
        if not connected:
            now = asyncio.get_running_loop().time()
            self._failures[address] = now + FAILED_ADDRESS_SECONDS
            if len(self._failures) > MAX_FAILED_ADDRESSES:
                self._failures.popitem(last=False)

    async def _fly(self, key: tuple[str, int]) -> _Answer:
        """Wait for the look-up of a name, which others may be waiting for as well.

        Who gives up waiting takes nothing from the others; and as the look-up goes on, who
        asks again for a name that hangs does not take another thread.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_future()
            try:
                self._ask(*key)
            except UnicodeError as error:
                self._answered(*key, error)
            except BaseException:
                del self._flights[key]
                raise
        return await asyncio.shield(flight)

    def _answered(
        self, host: str, family: int, result: Rows | BaseException, ttl: float | None = None
    ) -> None:
        """Take the answer that ``_ask`` has asked for, on the loop's thread."""
        key = (host, family)
        flight = self._flights.pop(key, None)
        if flight is None or flight.done():
            return  # closed meanwhile
        infos: list[AddressInfo] = []
        error: OSError | None = None
        if isinstance(result, UnicodeError):
            # the system's IDNA codec: an empty or overlong label
            error = socket.gaierror(socket.EAI_NONAME, f"not a host name: {host!r} ({result})")
        elif isinstance(result, OSError):
            error = result
        elif isinstance(result, BaseException):
            flight.set_exception(result)
            flight.exception()  # all may have given up waiting for it
            return
        else:
            infos = interleave(AddressInfo(row[0], row[1], row[2], row[4]) for row in result)
        if ttl is None:
            ttl = self._ttl_seconds if error is None else self._negative_ttl_seconds
        answer = _Answer(flight.get_loop().time() + ttl, infos[:MAX_ADDRESSES], error)
        if error is None or error.errno in NO_SUCH_NAME:
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > self._max_cached:
                self._answers.popitem(last=False)
        flight.set_result(answer)

    def _ask(self, host: str, family: int) -> None:
        """Begin to look a name up; ``_answered`` is called, later, when that is over.

        A resolver that asks somebody else than getaddrinfo(3) overrides this.
        """
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
        self._asked.add((host, family))
        loop = asyncio.get_running_loop()
        self._jobs.put(functools.partial(self._look_up, loop, self._asked, host, family))
        if self._threads < min(len(self._asked), self._max_threads):
            try:
                _thread.start_new_thread(_work, (self._jobs,))
            except RuntimeError:  # there can be no more threads
                if not self._threads:
                    self._dismiss()
                    raise
            else:
                self._threads += 1

    def _look_up(
        self,
        loop: asyncio.AbstractEventLoop,
        asked: set[tuple[str, int]],
        host: str,
        family: int,
    ) -> None:
        """Look a name up, in a thread, and tell the loop."""
        result: Rows | BaseException
        try:
            result = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except BaseException as error:  # noqa: BLE001 - raised where the name is waited for
            result = error
        asked.discard((host, family))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._answered, host, family, result)

    def forget(self) -> None:
        """Forget all answers and failures, as after a change of network."""
        self._answers.clear()
        self._failures.clear()

    def close(self) -> None:
        """End the threads, each once its look-up is over; what waits its turn is not looked up."""
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            if not flight.get_loop().is_closed():
                flight.cancel()
        self._dismiss()

    def _dismiss(self) -> None:
        jobs, self._jobs, self._threads = self._jobs, None, 0
        self._asked = set()  # what is under way has the old one
        if jobs is not None:
            with contextlib.suppress(queue.Empty):
                while True:
                    jobs.get_nowait()
            jobs.put(None)

    def __del__(self) -> None:
        if getattr(self, "_jobs", None) is not None:
            self._dismiss()


def _work(jobs: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    """Do what is put into the queue, in a thread, until that is ``None``, which ends them all."""
    while (job := jobs.get()) is not None:
        job()
        del job  # which has the resolver
    jobs.put(None)


def _with_port(address: tuple[Any, ...], port: int) -> tuple[Any, ...]:
    return (address[0], port, *address[2:])


async def race(
    infos: Iterable[AddressInfo],
    start: Callable[[AddressInfo], AttemptT],
    delay: float = ATTEMPT_DELAY_SECONDS,
    note: Callable[[AddressInfo, bool], object] | None = None,
) -> AttemptT:
    """Return the first attempt that succeeds.

    Args:
        infos: the addresses, in the order to try them; at least one.
        start: begins an attempt; an ``OSError`` from it counts as that address's failure.
        delay: seconds that an attempt runs alone before the next one starts; a failure
            starts the next one at once (RFC 8305 section 5).
        note: told of each address whether it could be connected to.  One that was overtaken by
            a later one could not, as far as the next attempt is concerned.

    Raises the first address's error when all fail, with the others' as notes.
    """
    errors: dict[int, OSError] = {}
    running: dict[AttemptT, int] = {}  # in the order of the addresses
    tried = list(infos)
    left = list(enumerate(tried))[::-1]
    attempt: AttemptT | None
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
                won = running.pop(winner)
                if note is not None:
                    for place in (*errors, *running.values()):
                        if place < won:
                            note(tried[place], False)
                    note(tried[won], True)
                return winner
    finally:
        for attempt in running:
            if not attempt.future.cancel() and not attempt.future.cancelled():
                attempt.future.exception()  # a failure that came too late to matter
            attempt.close()
    if note is not None:
        for place in errors:
            note(tried[place], False)
    first, *later = sorted(errors)
    failure = errors[first]
    for place in later:
        failure.add_note(f"also tried: {errors[place]}")
    errors.clear()
    attempt = None
    try:
        raise failure
    finally:
        del failure  # its traceback leads here, and from here nothing may lead back: a cycle


async def _first(
    running: dict[AttemptT, int], delay: float | None, errors: dict[int, OSError]
) -> AttemptT | None:
    """Wait until an attempt succeeds, one fails, or *delay* seconds passed."""
    futures = [attempt.future for attempt in running]
    if delay is None and len(futures) == 1 and not futures[0].done():
        try:  # whatever waits for several costs more than all of this
            await futures[0]
        except OSError as error:
            error.__traceback__ = None  # from here it leads to the future, and back: a cycle
    else:
        await wait(futures, timeout=delay, first=True)
    for attempt in [each for each in running if each.future.done()]:
        failure = attempt.future.exception()
        if failure is None:
            return attempt
        place = running.pop(attempt)
        attempt.close()
        if not isinstance(failure, OSError):
            raise failure
        errors[place] = failure
    return None

"""Names to addresses, and the race among addresses with attempts that the test controls."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from reactor import Resolver
from reactor.eventloop import EventLoop
from reactor.limits import FAILED_ADDRESS_SECONDS, MAX_ADDRESSES, MAX_FAILED_ADDRESSES
from reactor.resolver import AddressInfo, interleave, numeric, race
from tests.virtual_time import pass_time

V4, V6 = socket.AF_INET, socket.AF_INET6


def info(number: int, family: int = V4) -> AddressInfo:
    return AddressInfo(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, (f"a{number}", 80))


# -- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", V4, ("127.0.0.1", 80)),
        ("::1", V6, ("::1", 80, 0, 0)),
        ("2001:db8::1", V6, ("2001:db8::1", 80, 0, 0)),
        ("::ffff:1.2.3.4", V6, ("::ffff:1.2.3.4", 80, 0, 0)),
    ],
)
def test_literal_address_is_resolved_without_a_thread(
    loop: EventLoop, host: str, family: int, address: tuple[Any, ...]
) -> None:
    resolver = Resolver()
    before = threading.active_count()
    expected = [AddressInfo(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, address)]
    assert loop.run_until_complete(resolver.resolve(host, 80)) == expected
    assert loop.run_until_complete(resolver.resolve(host, 80, family)) == expected
    assert threading.active_count() == before
    assert resolver._jobs is None


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", V6), ("::1", V4)])
def test_literal_address_of_another_family_has_no_address(
    loop: EventLoop, host: str, family: int
) -> None:
    with pytest.raises(socket.gaierror, match="family"):
        loop.run_until_complete(Resolver().resolve(host, 80, family))


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "0x7f.1", "1.2.3.4.5", "fe80::1%lo", "[::1]", "", "a\0b"]
)
def test_what_is_no_literal_address_counts_as_a_name(host: str) -> None:
    assert numeric(host, 80) is None


def test_families_alternate_and_the_first_one_stays_first() -> None:
    infos = [info(1, V6), info(2, V6), info(3, V6), info(4, V4), info(5, V4)]
    assert [each.address[0] for each in interleave(infos)] == ["a1", "a4", "a2", "a5", "a3"]
    assert interleave(infos[3:]) == infos[3:]
    assert interleave([]) == []


@pytest.fixture
def patient() -> Any:
    """Return a loop that another thread may wake, for look-ups in threads."""
    loop = EventLoop()
    yield loop
    loop.close()
    assert not any(loop.stats().values())


def test_name_is_resolved_in_a_thread_of_the_resolvers_own(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def getaddrinfo(*args: Any) -> list[Any]:
        asked.append((threading.get_ident(), args))
        row = (V4, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*row, (f"10.0.0.{n}", 80)) for n in range(MAX_ADDRESSES + 5)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(1)
    infos = patient.run_until_complete(resolver.resolve("name", 80, V4))
    assert [each.address for each in infos] == [(f"10.0.0.{n}", 80) for n in range(MAX_ADDRESSES)]
    thread, args = asked[0]
    assert thread != threading.get_ident()
    assert args == ("name", 0, V4, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    resolver.close()
    resolver.close()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b", "\ud800"])
def test_name_that_cannot_be_encoded_has_no_address(patient: EventLoop, host: str) -> None:
    resolver = Resolver()
    with pytest.raises(socket.gaierror):
        patient.run_until_complete(resolver.resolve(host, 80))
    resolver.close()


def test_cancelled_look_up_disturbs_neither_loop_nor_resolver(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        begun.set()
        go_on.wait(20)
        return [(V4, 1, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(1)

    async def main() -> None:
        stuck = asyncio.ensure_future(resolver.resolve("stuck", 80))
        while not begun.is_set():  # noqa: ASYNC110 - it is a thread's
            await asyncio.sleep(0)
        stuck.cancel()
        await asyncio.wait([stuck])
        assert stuck.cancelled()
        go_on.set()
        assert len(await resolver.resolve("next", 80)) == 1

    patient.run_until_complete(main())
    resolver.close()


def test_close_does_not_wait_for_a_stuck_look_up(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        begun.set()
        go_on.wait(20)
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(1)

    async def main() -> None:
        stuck = asyncio.ensure_future(resolver.resolve("stuck", 80))
        while not begun.is_set():  # noqa: ASYNC110 - it is a thread's
            await asyncio.sleep(0)
        resolver.close()
        assert not go_on.is_set()
        stuck.cancel()
        await asyncio.wait([stuck])

    patient.run_until_complete(main())
    go_on.set()
    assert ended.wait(20)


def test_look_up_from_before_the_close_takes_no_thread_from_those_after(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = [threading.Event(), threading.Event()]
    begun: list[str] = []

    def getaddrinfo(host: str, *_: Any) -> list[Any]:
        begun.append(host)
        if host == "hangs":
            hanging[begun.count("hangs") - 1].wait(20)
        return [(V4, 1, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(2)

    async def main() -> None:
        for times in (1, 2):
            task = asyncio.ensure_future(resolver.resolve("hangs", 80))
            while begun.count("hangs") < times:  # noqa: ASYNC110 - it is a thread's
                await asyncio.sleep(0)
            if times == 1:
                resolver.close()
                await asyncio.wait([task])
        hanging[0].set()
        async with asyncio.timeout(20):
            for number in range(20):
                assert await resolver.resolve(f"n{number}", 80)
        hanging[1].set()
        await task

    patient.run_until_complete(main())
    resolver.close()


def test_look_up_for_which_there_is_no_thread_fails_and_leaves_nothing(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def getaddrinfo(host: str, *_: Any) -> list[Any]:
        begun.append(host)
        return [(V4, 1, 6, "", ("10.0.0.1", 0))]

    def refuse(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(2)
    with monkeypatch.context() as full:
        full.setattr("reactor.resolver._thread.start_new_thread", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                patient.run_until_complete(resolver.resolve("name", 80))
    assert resolver._asked == set()
    assert patient.run_until_complete(resolver.resolve("name", 80))
    assert begun == ["name"]
    resolver.close()


def test_threads_end_with_a_resolver_that_is_dropped(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(V4, 1, 6, "", ("10.0.0.1", 0))])
    resolver = Resolver(2)

    async def main(resolver: Resolver) -> None:
        await asyncio.gather(resolver.resolve("one", 80), resolver.resolve("two", 80))

    patient.run_until_complete(main(resolver))
    jobs = resolver._jobs
    assert jobs is not None
    del resolver
    gc.collect()
    assert jobs.get(timeout=20) is None  # the last one has put it back


# A handler may raise within a finalizer, too, where it is told and goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals come at random times here")
def test_interrupted_at_any_time_look_ups_go_on(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def getaddrinfo(host: str, *_: Any) -> list[Any]:
        return [(V4, 1, 6, "", ("10.0.0.1", 0))]

    async def main() -> None:
        interrupted = number = 0
        while interrupted < 500:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 7 * 0.00001)
                for _ in range(1_000):
                    number += 1
                    resolver._ask(f"n{number}", V4)
            except Interrupted:
                interrupted += 1
            await asyncio.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        async with asyncio.timeout(20):
            await resolver.resolve("last", 80)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(3):
            resolver = Resolver(4)
            patient.run_until_complete(main())
            assert resolver._threads <= 4
            resolver.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with concurrent.futures.ThreadPoolExecutor() as threads:  # anybody's
        assert threads.submit(int, "7").result(20) == 7


def test_resolver_without_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        Resolver(0)


# -- what is kept -----------------------------------------------------------------------------


class Zone:
    """Stands in for getaddrinfo(3): counts the questions, and answers as the test likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.names: dict[str, list[str] | int] = {}
        self.answers = threading.Event()
        self.answers.set()
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: int, family: int, *_: Any) -> list[Any]:
        self.asked.append(host)
        self.answers.wait(20)
        found = self.names.get(host, socket.EAI_NONAME)
        if isinstance(found, int):
            raise socket.gaierror(found, "no")
        return [(V4, 1, 6, "", (each, port)) for each in found]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    return Zone(monkeypatch)


class Clocked(EventLoop):
    """A loop whose clock the test turns."""

    offset = 0.0

    def time(self) -> float:
        return super().time() + self.offset


@pytest.fixture
def clocked() -> Any:
    loop = Clocked()
    yield loop
    loop.close()


def looked_up(loop: EventLoop, resolver: Resolver, host: str, port: int = 80) -> list[str]:
    infos = loop.run_until_complete(resolver.resolve(host, port))
    assert all(each.address[1] == port for each in infos)
    return [each.address[0] for each in infos]


def test_answer_is_kept_for_its_time_whatever_the_port(clocked: Clocked, zone: Zone) -> None:
    zone.names["a"] = ["10.0.0.1"]
    resolver = Resolver(1, ttl_seconds=5)
    for port in (80, 443, 80):
        assert looked_up(clocked, resolver, "a", port) == ["10.0.0.1"]
    assert zone.asked == ["a"]
    zone.names["a"] = ["10.0.0.2"]
    clocked.offset += 4
    assert looked_up(clocked, resolver, "a") == ["10.0.0.1"]
    clocked.offset += 2
    assert looked_up(clocked, resolver, "a") == ["10.0.0.2"]
    resolver.forget()
    looked_up(clocked, resolver, "a")
    assert zone.asked == ["a"] * 3
    resolver.close()


def test_name_that_does_not_exist_is_kept_for_a_shorter_time(clocked: Clocked, zone: Zone) -> None:
    resolver = Resolver(1, ttl_seconds=100, negative_ttl_seconds=2)
    raised = []
    for _ in range(3):
        with pytest.raises(socket.gaierror) as caught:
            looked_up(clocked, resolver, "gone")
        assert caught.value.errno == socket.EAI_NONAME
        raised.append(caught.value)
    assert len(set(map(id, raised))) == 3  # no error is shared, nor the traces in it
    assert zone.asked == ["gone"]
    zone.names["gone"] = ["10.0.0.1"]
    clocked.offset += 3
    assert looked_up(clocked, resolver, "gone") == ["10.0.0.1"]
    resolver.close()


def test_failure_that_may_pass_is_not_kept(clocked: Clocked, zone: Zone) -> None:
    zone.names["a"] = socket.EAI_AGAIN
    resolver = Resolver(1)
    with pytest.raises(socket.gaierror):
        looked_up(clocked, resolver, "a")
    zone.names["a"] = ["10.0.0.1"]
    assert looked_up(clocked, resolver, "a") == ["10.0.0.1"]
    resolver.close()


def test_answers_that_are_kept_have_a_limit_and_the_least_used_goes(
    clocked: Clocked, zone: Zone
) -> None:
    resolver = Resolver(1, max_cached=2)
    for name in "abc":
        zone.names[name] = ["10.0.0.1"]
    for name in "abacab":
        looked_up(clocked, resolver, name)
    assert zone.asked == ["a", "b", "c", "b"]
    assert len(resolver._answers) == 2
    resolver.close()


def test_name_is_asked_for_once_however_many_want_it(patient: EventLoop, zone: Zone) -> None:
    zone.names["a"] = ["10.0.0.1"]
    zone.answers.clear()
    resolver = Resolver(8)

    async def main() -> None:
        tasks = [asyncio.ensure_future(resolver.resolve("a", port)) for port in range(1, 101)]
        while not zone.asked:  # noqa: ASYNC110 - it is a thread's
            await asyncio.sleep(0)
        for task in tasks[::2]:  # who gives up takes nothing from the others
            task.cancel()
        await passes()
        zone.answers.set()
        for port, task in enumerate(tasks, 1):
            if port % 2:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                assert (await task)[0].address == ("10.0.0.1", port)

    patient.run_until_complete(main())
    assert zone.asked == ["a"]
    resolver.close()


def test_name_that_hangs_takes_one_thread_however_often_it_is_asked_for(
    patient: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def getaddrinfo(host: str, *_: Any) -> list[Any]:
        if host == "hangs":
            go_on.wait(20)
        return [(V4, 1, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = Resolver(2)

    async def main() -> None:
        for _ in range(5):
            task = asyncio.ensure_future(resolver.resolve("hangs", 80))
            await passes()
            task.cancel()
            await asyncio.wait([task])
        assert len(await resolver.resolve("other", 80)) == 1

    patient.run_until_complete(main())
    go_on.set()
    patient.run_until_complete(resolver.resolve("hangs", 80))
    resolver.close()


def test_thousand_names_are_resolved_while_the_default_executor_is_stuck(
    patient: EventLoop, zone: Zone
) -> None:
    go_on = threading.Event()
    resolver = Resolver()
    for number in range(1000):
        zone.names[f"n{number}"] = [f"10.0.{number // 250}.{number % 250}"]

    async def main() -> None:
        stuck = [asyncio.ensure_future(asyncio.to_thread(go_on.wait, 20)) for _ in range(100)]
        await passes()
        found = await asyncio.gather(*(resolver.resolve(f"n{n}", 80) for n in range(1000)))
        assert [each[0].address[0] for each in found] == [
            f"10.0.{n // 250}.{n % 250}" for n in range(1000)
        ]
        assert not any(each.done() for each in stuck)
        go_on.set()
        await asyncio.gather(*stuck)
        await asyncio.get_running_loop().shutdown_default_executor()

    patient.run_until_complete(main())
    resolver.close()


@pytest.mark.parametrize(
    "options",
    [{"max_cached": 0}, {"ttl_seconds": -1}, {"negative_ttl_seconds": float("nan")}],
    ids=lambda options: next(iter(options)),
)
def test_bad_limit_of_what_is_kept_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Resolver(**options)


# -- addresses that failed ----------------------------------------------------------------------


def test_address_that_failed_is_tried_last_until_it_connects_or_time_passes(
    clocked: Clocked, zone: Zone
) -> None:
    first, second, third = addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    zone.names["a"] = addresses
    resolver = Resolver(1, ttl_seconds=1000)
    infos = clocked.run_until_complete(resolver.resolve("a", 80))

    async def note(at: int, connected: bool) -> None:
        resolver.note(infos[at], connected)

    clocked.run_until_complete(note(0, False))
    assert looked_up(clocked, resolver, "a", 443) == [second, third, first]
    clocked.run_until_complete(note(0, True))
    assert looked_up(clocked, resolver, "a") == [first, second, third]
    clocked.run_until_complete(note(1, False))
    assert looked_up(clocked, resolver, "a") == [first, third, second]
    clocked.offset += FAILED_ADDRESS_SECONDS + 1
    assert looked_up(clocked, resolver, "a") == [first, second, third]
    resolver.close()


def test_failures_that_are_remembered_have_a_limit(clocked: Clocked) -> None:
    resolver = Resolver()

    async def main() -> None:
        for number in range(MAX_FAILED_ADDRESSES + 10):
            resolver.note(info(number), False)

    clocked.run_until_complete(main())
    assert len(resolver._failures) == MAX_FAILED_ADDRESSES


# -- the race ---------------------------------------------------------------------------------


class Attempt:
    def __init__(self, number: int) -> None:
        self.number = number
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Track:
    """Attempts that the test ends as it likes; remembers when each was begun."""

    def __init__(self, refused: dict[int, BaseException] | None = None) -> None:
        self.attempts: dict[int, Attempt] = {}
        self.begun: list[tuple[int, float]] = []
        self.refused = refused or {}
        self.noted: dict[int, bool] = {}
        self.starts = asyncio.Semaphore(0)

    def start(self, address: AddressInfo) -> Attempt:
        number = int(address.address[0][1:])
        self.begun.append((number, asyncio.get_running_loop().time()))
        self.starts.release()
        if number in self.refused:
            raise self.refused[number]
        self.attempts[number] = Attempt(number)
        return self.attempts[number]

    def race(self, count: int, delay: float = 0.25) -> asyncio.Task[Attempt]:
        return asyncio.ensure_future(
            race([info(n) for n in range(count)], self.start, delay, self.note)
        )

    def note(self, address: AddressInfo, connected: bool) -> None:
        self.noted[int(address.address[0][1:])] = connected

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.begun]


async def passes(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def played(loop: EventLoop, game: Callable[[Track], Any], track: Track | None = None) -> None:
    async def main() -> None:
        await game(track or Track())

    loop.run_until_complete(main())
    gc.collect()  # the loop's fixture sees what was never retrieved


def test_first_address_that_answers_wins_alone(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(3)
        await passes()
        assert track.numbers == [0]
        track.attempts[0].future.set_result(None)
        assert await task is track.attempts[0]
        assert track.attempts[0].closed == 0

    played(loop, game)


def test_failure_starts_the_next_address_at_once(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(3)
        for number in (0, 1):
            await passes()
            assert track.numbers == list(range(number + 1))
            track.attempts[number].future.set_exception(OSError("no"))
        await passes()
        track.attempts[2].future.set_result(None)
        assert (await task).number == 2
        assert [track.attempts[n].closed for n in range(3)] == [1, 1, 0]
        assert track.begun[2][1] - track.begun[0][1] < 0.25

    played(loop, game)


def test_address_that_is_silent_is_joined_by_the_next_after_the_delay(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()

    async def game(track: Track) -> None:
        task = track.race(3)
        for _ in range(3):
            await track.starts.acquire()
        times = [when for _, when in track.begun]
        assert 0.25 <= times[1] - times[0] < 0.27
        assert 0.25 <= times[2] - times[1] < 0.27
        track.attempts[1].future.set_result(None)
        assert (await task).number == 1
        assert [track.attempts[n].closed for n in range(3)] == [1, 0, 1]
        assert all(track.attempts[n].future.cancelled() for n in (0, 2))

    played(loop, game)


def test_last_address_is_waited_for_without_a_limit(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()

    async def game(track: Track) -> None:
        task = track.race(1)
        await pass_time(100)
        assert not task.done()
        track.attempts[0].future.set_result(None)
        await task

    played(loop, game)


def test_when_all_fail_the_first_addresss_error_is_raised_with_the_others_as_notes(
    loop: EventLoop,
) -> None:
    errors = [OSError(f"e{n}") for n in range(4)]

    async def game(track: Track) -> None:
        task = track.race(4, 0)
        while len(track.attempts) < 3:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        for number in (3, 0, 2):  # not in the order of the addresses
            track.attempts[number].future.set_exception(errors[number])
            await passes()
        with pytest.raises(OSError, match="e0") as caught:
            await task
        assert caught.value.__notes__ == ["also tried: e1", "also tried: e2", "also tried: e3"]
        assert all(attempt.closed for attempt in track.attempts.values())

    played(loop, game, Track({1: errors[1]}))


def test_address_that_cannot_be_tried_is_skipped(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(3)
        await passes()
        assert track.numbers == [0, 1, 2]
        track.attempts[2].future.set_result(None)
        assert (await task).number == 2

    played(loop, game, Track({0: OSError("no"), 1: OSError("no")}))


def test_failure_in_the_pass_of_a_success_is_neither_raised_nor_reported(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(2, 0)
        while len(track.attempts) < 2:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        track.attempts[0].future.set_result(None)
        track.attempts[1].future.set_exception(OSError("too late"))
        assert (await task).number == 0
        assert (track.attempts[0].closed, track.attempts[1].closed) == (0, 1)
        track.attempts.clear()

    played(loop, game)


def test_of_two_that_answer_in_one_pass_the_earlier_address_wins(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(2, 0)
        while len(track.attempts) < 2:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        track.attempts[1].future.set_result(None)
        track.attempts[0].future.set_result(None)
        assert (await task).number == 0
        assert track.attempts[1].closed == 1

    played(loop, game)


@pytest.mark.parametrize("outcome", ["nothing", "success", "failure"])
def test_cancelled_race_closes_every_attempt(loop: EventLoop, outcome: str) -> None:
    async def game(track: Track) -> None:
        task = track.race(2, 0)
        while len(track.attempts) < 2:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        if outcome == "success":
            track.attempts[0].future.set_result(None)
        elif outcome == "failure":
            track.attempts[0].future.set_exception(OSError("at the same moment"))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert [attempt.closed for attempt in track.attempts.values()] == [1, 1]
        track.attempts.clear()

    played(loop, game)


def test_error_that_is_not_the_networks_ends_the_race(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        task = track.race(3, 0)
        while len(track.attempts) < 2:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        track.attempts[1].future.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await task
        assert all(attempt.closed for attempt in track.attempts.values())

    played(loop, game)


def test_race_notes_what_failed_and_what_was_overtaken_but_not_who_came_too_late(
    loop: EventLoop,
) -> None:
    async def game(track: Track) -> None:
        task = track.race(5, 0)
        while len(track.begun) < 5:  # noqa: ASYNC110 - the race has no event
            await asyncio.sleep(0)
        track.attempts[1].future.set_exception(OSError("no"))
        await passes()
        track.attempts[3].future.set_result(None)
        assert (await task).number == 3
        assert track.noted == {0: False, 1: False, 2: False, 3: True}

    played(loop, game, Track({0: OSError("no")}))


def test_race_that_all_lose_notes_them_all(loop: EventLoop) -> None:
    async def game(track: Track) -> None:
        with pytest.raises(OSError, match="no"):
            await track.race(2, 0)
        assert track.noted == {0: False, 1: False}

    played(loop, game, Track({0: OSError("no"), 1: OSError("no")}))

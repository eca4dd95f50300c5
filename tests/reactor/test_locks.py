"""Methods that hold a lock: ``reactor.locks``."""

from __future__ import annotations

import inspect
import signal
import threading
import time

import pytest

from reactor.locks import Mutex, synchronized


class Interrupted(Exception):
    """What the signal handler here raises."""


class Counter:
    def __init__(self) -> None:
        self.lock = Mutex()
        self.count = 0

    @synchronized("lock")
    def add(self, number: int = 1, *, twice: bool = False) -> int:
        """Add a number."""
        assert self.lock.is_held
        self.count += number * (2 if twice else 1)
        return self.count

    @synchronized("lock")
    def fail(self) -> None:
        raise LookupError("on purpose")

    @synchronized("lock")
    def nest(self) -> None:
        self.add()

    @synchronized("missing")
    def lack(self) -> None:
        pytest.fail("it ran without its lock")


def test_method_is_as_it_was_and_the_lock_is_held_while_it_runs() -> None:
    counter = Counter()
    assert counter.add() == 1
    assert counter.add(2, twice=True) == 5
    assert not counter.lock.is_held
    assert (Counter.add.__name__, Counter.add.__doc__) == ("add", "Add a number.")
    assert list(inspect.signature(Counter.add).parameters) == ["self", "number", "twice"]


def test_what_the_method_raises_comes_out_and_the_lock_is_free() -> None:
    counter = Counter()
    with pytest.raises(LookupError, match="on purpose"):
        counter.fail()
    assert not counter.lock.is_held


def test_without_the_lock_nothing_runs() -> None:
    with pytest.raises(AttributeError, match="missing"):
        Counter().lack()
    counter = Counter()
    counter.lock = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="lock is no Mutex, but None"):
        counter.add()
    with pytest.raises(TypeError):
        Counter.add()  # type: ignore[call-arg]
    assert Counter.add(self=Counter(), number=3) == 3
    with pytest.raises(TypeError):
        synchronized(None)  # type: ignore[arg-type]


def test_a_thread_that_holds_it_is_told_so_and_does_not_wait_for_itself() -> None:
    """As a signal handler that calls what the signal has interrupted."""
    counter = Counter()
    with pytest.raises(RuntimeError, match=r"Counter\.add was called by what it has interrupted"):
        counter.nest()
    assert not counter.lock.is_held
    assert counter.add() == 1


def test_threads_wait_for_each_other() -> None:
    counter = Counter()

    def add_many() -> None:
        for _ in range(10_000):
            counter.add()

    threads = [threading.Thread(target=add_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.count == 80_000


# A handler may raise within a finalizer, too, where it is told and goes nowhere.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals come at random times here")
def test_no_signal_leaves_the_lock_held() -> None:
    """Of ``with lock``, on CPython 3.14, every second signal does."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    counter = Counter()
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    until = time.monotonic() + 20
    try:
        while interrupted < 2_000 and time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                for _ in range(10_000):  # a finalizer's exception goes nowhere
                    counter.add()
            except Interrupted:
                interrupted += 1
            assert not counter.lock.is_held, interrupted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 2_000

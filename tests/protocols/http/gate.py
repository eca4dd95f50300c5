"""A server whose answers the test lets out, and what is true of a blocking client at rest.

For the tests of the blocking client, which happen in several threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protocols.http import Client
from tests.peers.scripted import Conversation, Server, answer


class Gate:
    """A server whose answers the test lets out: to ``/now`` at once, to others on ``open``."""

    def __init__(self) -> None:
        self.server: Server
        self.loop: asyncio.AbstractEventLoop
        self._waiting: dict[bytes, asyncio.Event] = {}
        self._arrived = threading.Condition()
        self.paths: list[bytes] = []

    async def script(self, peer: Conversation) -> None:
        self.loop = asyncio.get_running_loop()
        while (head := await peer.request()) is not None:
            path = head.split(b" ")[1]
            event = self._waiting.setdefault(path, asyncio.Event())
            with self._arrived:
                self.paths.append(path)
                self._arrived.notify_all()
            if path != b"/now":
                await event.wait()
            await peer.send(answer(path))

    def await_requests(self, *paths: str) -> None:
        """Wait until all of *paths* were asked for."""
        wanted = {path.encode() for path in paths}
        with self._arrived:
            assert self._arrived.wait_for(lambda: wanted <= set(self.paths), 20)

    def open(self, *paths: str) -> None:
        """Answer *paths*."""
        events = [self._waiting.setdefault(path.encode(), asyncio.Event()) for path in paths]
        for event in events:
            self.loop.call_soon_threadsafe(event.set)

    def shut(self, *paths: str) -> None:
        """Let the next requests for *paths* wait again, and forget that there were any."""
        for path in paths:
            self.loop.call_soon_threadsafe(self._waiting[path.encode()].clear)
        with self._arrived:
            self.paths.clear()


class Handover:
    """What a script waits for until a client's thread, which was alone, has its loop run."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._is_over = False

    def watch(self, client: Any) -> None:
        """Be over when the thread of *client* is alone no more."""
        go_on = client._continue

        def watched(begun: Any) -> Any:
            self.end()
            return go_on(begun)

        client._continue = watched

    def end(self) -> None:
        """Let the script go on, whatever the client does."""
        self._is_over = True
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        if not self._is_over:
            await event.wait()


def counts(client: Client) -> dict[str, int]:
    stats = client._async.manager.stats()
    return {name: stats[name] for name in ("leased", "idle", "opening", "waiting")}


def check_quiet(client: Client) -> None:
    """Assert that nobody leads, nothing is under way and nothing is leased."""
    assert (client._leader, client._calls, client._interrupt) == (None, {}, None)
    stats = counts(client)
    assert (stats["leased"], stats["opening"], stats["waiting"]) == (0, 0, 0)


@contextlib.contextmanager
def interrupted_by(action: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread once *action* has returned in another.

    A signal that comes just before a lock or the kernel is waited for does not end that wait,
    in CPython as everywhere; so it is sent until it has been seen, and seen once.  On Windows it
    is raised in the other thread, as a console's Ctrl-C is.
    """
    main = threading.main_thread().ident
    assert main is not None
    seen = threading.Event()

    def handler(*_: object) -> None:
        if not seen.is_set():
            seen.set()
            raise KeyboardInterrupt

    def run() -> None:
        action()
        while not seen.wait(0.01):
            if sys.platform == "win32":
                signal.raise_signal(signal.SIGINT)
            else:
                signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        seen.set()
        thread.join()
        signal.signal(signal.SIGINT, before)

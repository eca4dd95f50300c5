"""Client.close beside calls and other closes, and what an interrupt then leaves to others."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from protocols.http import Client, ClientClosedError
from protocols.http.sync_client import _Call
from reactor import ConnectRefusedError
from tests.peers.scripted import Conversation, answer, refusing_port, serving_in_thread


async def says_the_path(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        await peer.send(answer(head.split(b" ")[1]))


def test_close_ends_a_call_that_has_the_lead_and_has_not_begun(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    run_loop, leads, listed = client._run_loop, threading.Event(), threading.Event()

    def late(call: _Call) -> None:
        leads.set()
        assert listed.wait(20)
        run_loop(call)

    monkeypatch.setattr(client, "_run_loop", late)
    with refusing_port() as port:
        leader = threads.submit(client.get, f"http://127.0.0.1:{port}/", headers={})
        assert leads.wait(20)
        closer = threads.submit(client.close)
        while not client._closed:
            assert not closer.done()
        listed.set()
        with pytest.raises((ClientClosedError, ConnectRefusedError)):
            leader.result(20)
        closer.result(20)
    assert client._loop.is_closed()


def test_interrupt_as_the_leader_leaves_costs_who_closes_no_wake_up(
    threads: ThreadPoolExecutor,
) -> None:
    async def leads() -> None:
        entered.set()
        await asyncio.Event().wait()

    async def finish() -> None:
        """Be done before the leader is."""

    client, entered = Client(), threading.Event()
    interrupted: list[str] = []
    client._finish = finish  # type: ignore[method-assign]

    def look(_: Any, event: str, called: Any) -> None:
        if event == "c_return" and getattr(called, "__self__", None) in (client._waking, *wakes):
            interrupted.append(called.__name__)
            raise KeyboardInterrupt

    def lead() -> None:
        try:
            client._run(leads)
        finally:
            sys.setprofile(None)

    leader = threads.submit(lead)
    assert entered.wait(20)
    closer = threads.submit(client.close)
    while not client._waking:
        assert not closer.done()
    wakes = list(client._waking)
    (call,) = client._calls

    def interrupt() -> None:
        sys.setprofile(look)
        call.task.cancel()

    client._loop.call_soon_threadsafe(interrupt)
    with pytest.raises((KeyboardInterrupt, ClientClosedError)):
        leader.result(20)
    closer.result(20)
    assert interrupted
    assert client._loop.is_closed()


def test_close_within_close_is_told_so_and_does_not_wait_for_itself() -> None:
    """As in a handler of a signal that comes meanwhile."""
    client = Client()
    finish = client._finish

    async def closes_again() -> None:
        with pytest.raises(RuntimeError, match="called by what itself is calling"):
            client.close()
        await finish()

    client._finish = closes_again  # type: ignore[method-assign]
    client.close()
    assert client._loop.is_closed()


def test_thread_that_was_alone_wakes_who_waits_to_close() -> None:
    with serving_in_thread(says_the_path) as server, Client() as client:
        client.get(server.url())
        wake = threading.Lock()
        wake.acquire()
        client._waking.append(wake)
        client.get(server.url())
        assert wake.acquire(timeout=20)
        assert client._waking == []


def test_close_that_is_interrupted_is_done_by_who_waits_for_it(
    threads: ThreadPoolExecutor,
) -> None:
    client, begun, tries = Client(), threading.Event(), 0
    real = client._finish

    async def finish() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            begun.set()
            while not client._waking:  # noqa: ASYNC110 - it is a thread's
                await asyncio.sleep(0)
            raise KeyboardInterrupt
        await real()

    client._finish = finish  # type: ignore[method-assign]
    first = threads.submit(client.close)
    assert begun.wait(20)
    second = threads.submit(client.close)
    with pytest.raises(KeyboardInterrupt):
        first.result(20)
    second.result(20)
    assert client._loop.is_closed()
    assert client.is_closed
    with pytest.raises(ClientClosedError):
        client.get("http://127.0.0.1/")


@pytest.mark.parametrize("at", ["_leader_leaves", "_free"])
def test_close_that_was_interrupted_at_its_end_is_done_by_the_next(at: str) -> None:
    client = Client()

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == at:
            raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.close()
    finally:
        sys.setprofile(None)
    assert not client._loop.is_closed()
    client.close()
    assert client._loop.is_closed()
    with pytest.raises(ClientClosedError):
        client.get("http://127.0.0.1/")

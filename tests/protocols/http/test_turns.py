"""A lone thread's request runs no loop; whatever happens, the lead and the connection are free."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import reactor
from protocols.http import Client, ClientClosedError, CookieJar, IncompleteResponseError
from protocols.http.calls import Call
from reactor import EndpointTimeoutError
from tests.peers.scripted import OK, Conversation, answer, serving_in_thread
from tests.protocols.http.gate import Gate, Handover, check_quiet, interrupted_by


async def says_the_path(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        method, path, _ = head.split(b" ", 2)
        whole = answer(path)
        await peer.send(whole[: -len(path)] if method == b"HEAD" else whole)


def warm(client: Client, gate: Gate, *paths: str) -> None:
    """Let the client know the requests for *paths*, and have one idle connection."""
    client.get(gate.server.url("/now"))
    for path in paths:
        gate.open(path)
        client.get(gate.server.url(path))
    gate.shut(*paths)


def refuse(*_: Any) -> Any:
    raise AssertionError("the loop was run")


# -- the short way, and when it is left --------------------------------------------------------


def test_second_request_runs_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_in_thread(says_the_path) as server, Client() as client:
        first = client.get(server.url("/a"))
        client.head(server.url("/a"))
        with monkeypatch.context() as patch:
            patch.setattr(client, "_run", refuse)
            patch.setattr(client, "_continue", refuse)
            for _ in range(3):
                response = client.get(server.url("/a"))
                assert (response.status_code, response.content) == (200, b"/a")
                assert client.head(server.url("/a")).request.method == "HEAD"
            assert response.request is first.request
        check_quiet(client)
        assert client._async.manager.stats()["idle"] == server.connections == 1


def test_answer_that_takes_its_time_is_waited_for_by_the_loop(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client() as client:
        warm(client, gate, "/late")
        go_on, begun = client._continue, []

        def watched(call: Call) -> Any:
            begun.append(call)
            gate.open("/late")
            return go_on(call)

        monkeypatch.setattr(client, "_continue", watched)
        assert client.get(gate.server.url("/late")).content == b"/late"
        assert len(begun) == 1
        check_quiet(client)


def test_redirect_that_comes_the_short_way_is_followed() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if b" /there " in head:
                await peer.send(answer(b"there"))
            else:
                await peer.send(answer(b"", "Location: /there", status="302 Found"))

    with serving_in_thread(script) as server:
        with Client(follow_redirects=True) as client:
            for _ in range(3):
                assert client.get(server.url("/here")).content == b"there"
                check_quiet(client)
            assert server.connections == 1
        with Client() as client:
            for _ in range(3):
                assert client.get(server.url("/here")).status_code == 302


def test_stale_connection_is_replaced() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        peer.close()

    with serving_in_thread(script) as server, Client() as client:
        for number in range(1, 4):
            assert client.get(server.url()).content == b"ok"
            assert server.connections == number
            check_quiet(client)


@pytest.mark.parametrize(
    ("method", "options", "times"),
    [
        ("GET", {"params": {"a": "b"}}, 2),
        ("GET", {"content": b"asks", "headers": {"X-A": "b"}}, 2),
        ("POST", {"json": 1}, 1),
        ("DELETE", {"headers": {"X-A": "b"}}, 1),
    ],
)
@pytest.mark.parametrize("is_slow", [False, True], ids=["alone", "loop"])
def test_request_with_options_over_a_stale_connection_is_repeated_where_it_is_safe(
    method: str, options: dict[str, Any], times: int, is_slow: bool
) -> None:
    """Once, over a new connection, whether its thread is alone by then or has the loop run."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            await peer.reader.readexactly(int(length or 0))
            if head.startswith(b"HEAD"):
                await peer.send(OK[:-2])
                continue
            asked.append(peer.number)
            if peer.number == 0:
                if is_slow:
                    await handover.wait()
                return
            await peer.send(OK)

    asked: list[int] = []
    handover = Handover()
    with serving_in_thread(script) as server, Client() as client:
        handover.watch(client)
        client.head(server.url())
        if times == 2:
            assert client.request(method, server.url(), **options).content == b"ok"
        else:
            with pytest.raises(IncompleteResponseError):
                client.request(method, server.url(), **options)
        assert asked == list(range(times))
        check_quiet(client)


def test_cookies_are_kept_and_sent_the_short_way() -> None:
    async def script(peer: Conversation) -> None:
        number = 0
        while (head := await peer.request()) is not None:
            number += 1
            sent = head.partition(b"Cookie: ")[2].partition(b"\r\n")[0]
            await peer.send(answer(sent, f"Set-Cookie: n={number}"))

    with serving_in_thread(script) as server, Client() as client:
        said = [client.get(server.url()).content for _ in range(4)]
        assert said == [b"", b"n=1", b"n=2", b"n=3"]


def test_deadline_ends_the_wait(gate: Gate) -> None:
    with Client(timeout=1.0, max_per_host=1) as client:
        warm(client, gate, "/never")
        for _ in range(2):
            with pytest.raises(EndpointTimeoutError):
                client.get(gate.server.url("/never"))
            check_quiet(client)
            client.get(gate.server.url("/now"))


@pytest.mark.parametrize("run", [asyncio.run, reactor.run])
def test_call_inside_another_running_loop_leaves_that_one_running(run: Callable[..., Any]) -> None:
    async def main() -> None:
        before = asyncio.get_running_loop()
        for _ in range(3):
            assert client.get(server.url("/in")).content == b"/in"
            assert asyncio.get_running_loop() is before
        await asyncio.sleep(0)

    with serving_in_thread(says_the_path) as server, Client() as client:
        run(main())
        check_quiet(client)


# -- other threads -----------------------------------------------------------------------------


def test_thread_that_comes_while_another_waits_alone_gets_its_answer(
    gate: Gate, threads: ThreadPoolExecutor
) -> None:
    with Client() as client:
        warm(client, gate, "/a", "/b")
        for first, second in (("/a", "/b"), ("/b", "/a")) * 3:
            one = threads.submit(client.get, gate.server.url(first))
            gate.await_requests(first)
            other = threads.submit(client.get, gate.server.url(second))
            gate.await_requests(second)
            gate.open(first)
            assert one.result(20).content == first.encode()
            gate.open(second)
            assert other.result(20).content == second.encode()
            gate.shut(first, second)
            check_quiet(client)


def test_threads_that_meet_at_odd_moments_all_end(threads: ThreadPoolExecutor) -> None:
    with serving_in_thread(says_the_path) as server, Client(max_per_host=2) as client:

        def work(worker: int) -> None:
            path = f"/{worker}"
            for number in range(200):
                assert client.get(server.url(path)).content == path.encode()
                if number % 8 == worker:
                    time.sleep(0)  # lets others be alone now and then

        list(threads.map(work, range(4)))
        check_quiet(client)


def test_threads_with_options_content_and_streams_that_meet_get_each_its_own(
    threads: ThreadPoolExecutor,
) -> None:
    """One of them from within a loop of its own, which it is in again after each request."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            content = await peer.reader.readexactly(int(length or 0))
            if content:
                seen.append(content)
            await peer.send(answer(content or head.split(b" ")[1]))

    seen: list[bytes] = []
    sent: list[bytes] = []
    with serving_in_thread(script) as server, Client(max_per_host=2) as client:

        def work(worker: int) -> None:
            for number in range(60):
                each = f"{worker}.{number}"
                url = server.url()
                assert client.get(url, params={"a": each}).content == f"/?a={each}".encode()
                assert client.post(url, json=each, timeout=20).json() == each
                large = each.encode() * 20_000
                fields = (pair for pair in [("X-Once", each)])
                assert client.put(url, content=large, headers=fields).content == large
                assert client.get(server.url(f"/{each}")).content == f"/{each}".encode()
                with client.stream("GET", server.url("/stream"), headers={"X-A": each}) as response:
                    if number % 2:
                        assert response.read() == b"/stream"
                sent.extend([f'"{each}"'.encode(), large])

        async def within(worker: int) -> None:
            work(worker)
            assert asyncio.current_task() is not None
            await asyncio.sleep(0)

        def work_within(worker: int) -> None:
            asyncio.run(within(worker))

        others = [threads.submit(work, worker) for worker in range(3)]
        threads.submit(work_within, 3).result(60)
        for other in others:
            other.result(60)
        client.head(server.url())  # what was left for the loop is done
        check_quiet(client)
    assert sorted(seen) == sorted(sent)


def test_close_while_a_thread_waits_alone(gate: Gate, threads: ThreadPoolExecutor) -> None:
    client = Client()
    warm(client, gate, "/a")
    future = threads.submit(client.get, gate.server.url("/a"))
    gate.await_requests("/a")
    closing = threads.submit(client.close)
    gate.open("/a")
    assert future.result(20).content == b"/a"
    closing.result(20)
    assert client._loop.is_closed()
    with pytest.raises(ClientClosedError):
        client.get(gate.server.url("/a"))


# -- interrupts --------------------------------------------------------------------------------


@pytest.mark.raises_in_signal_handler
def test_interrupt_while_waiting_alone_leaves_nothing_behind(gate: Gate) -> None:
    with Client(max_per_host=1) as client:
        warm(client, gate, "/only")
        with interrupted_by(lambda: gate.await_requests("/only")):
            client.get(gate.server.url("/only"))
        assert (client._leader, client._alone) == (None, False)
        # the one connection is given up, or this would wait for ever
        assert client.get(gate.server.url("/now"), timeout=20).content == b"/now"
        check_quiet(client)


@pytest.mark.raises_in_signal_handler
def test_signal_handler_may_not_call_the_client_that_waits(gate: Gate) -> None:
    told: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            client.get(gate.server.url("/now"))
        except RuntimeError as error:
            told.append(error)
        gate.open("/only")

    def send() -> None:
        gate.await_requests("/only")
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with Client() as client:
            warm(client, gate, "/only")
            thread = threading.Thread(target=send)
            thread.start()
            assert client.get(gate.server.url("/only")).content == b"/only"
            thread.join()
            assert "by what itself is calling" in str(told[0])
            check_quiet(client)
    finally:
        signal.signal(signal.SIGUSR1, before)


class Interrupted(CookieJar):
    """A jar in whose look-up a signal comes."""

    comes = False

    def header_for(self, *args: Any) -> str | None:
        if self.comes:
            self.comes = False
            raise KeyboardInterrupt
        return super().header_for(*args)


def test_interrupt_before_anything_was_sent_frees_the_lead(gate: Gate) -> None:
    jar = Interrupted({"a": "b"})
    with Client(cookies=jar, max_per_host=1) as client:
        warm(client, gate)
        jar._barren.clear()
        jar.comes = True
        with pytest.raises(KeyboardInterrupt):
            client.get(gate.server.url("/now"))
        check_quiet(client)
        assert not client._alone
        assert client.get(gate.server.url("/now"), timeout=20).content == b"/now"


@pytest.mark.parametrize("where", ["_continue", "_lead", "_begin"])
def test_interrupt_while_the_lead_is_handed_over_frees_lead_and_connection(
    where: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with Client(max_per_host=1) as client:
        warm(client, gate, "/late")
        with monkeypatch.context() as patch:
            patch.setattr(client, where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.get(gate.server.url("/late"))
        assert (client._leader, client._alone, client._calls) == (None, False, {})
        assert client.get(gate.server.url("/now"), timeout=20).content == b"/now"
        check_quiet(client)


class Late(CookieJar):
    """A jar that is told something when the lone thread's answer is there."""

    arrives: Callable[[], None] | None = None

    def store(self, *args: Any) -> None:
        super().store(*args)
        if self.arrives is not None:
            arrives, self.arrives = self.arrives, None
            arrives()


def test_interrupts_while_a_lone_thread_resigns_leave_no_thread_asleep(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(answer(b"ok", "Set-Cookie: a=b"))

    jar, times = Late(), 2
    with serving_in_thread(script) as server, Client(cookies=jar) as client:
        client.get(server.url())
        resign = client._resign
        others: list[Any] = []

        def interrupted(call: Any) -> None:
            nonlocal times
            if call is None and times:
                times -= 1
                raise KeyboardInterrupt
            resign(call)

        def arrives() -> None:
            others.append(threads.submit(client.get, server.url()))
            while not client._calls:
                time.sleep(0)  # until the other has left its call with this thread

        monkeypatch.setattr(client, "_resign", interrupted)
        jar.arrives = arrives
        with pytest.raises(KeyboardInterrupt):
            client.get(server.url())
        assert times == 0
        assert others[0].result(20).content == b"ok"
        check_quiet(client)

"""Client: one thread, many threads, and every way in which a leader can leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import reactor
from protocols.http import (
    AsyncClient,
    Client,
    ClientClosedError,
    InvalidURL,
    RequestInterruptedError,
    Response,
)
from protocols.http.request import Request
from protocols.http.sync_client import _Call
from reactor import ConnectRefusedError, EndpointTimeoutError
from reactor.locks import synchronized
from tests.peers.scripted import OK, Conversation, answer, refusing_port, serving_in_thread
from tests.protocols.http.gate import Gate, check_quiet, counts, interrupted_by


async def says_the_path(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        await peer.send(answer(head.split(b" ")[1]))


# -- one thread ------------------------------------------------------------------------------


def test_get_and_head_from_one_thread_reuse_a_connection() -> None:
    with serving_in_thread(says_the_path) as server, Client() as client:
        for number in range(20):
            assert client.get(server.url(f"/{number}")).content == b"/%d" % number
        assert server.connections == 1
        check_quiet(client)


def test_head_has_no_body() -> None:
    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    with serving_in_thread(script) as server, Client() as client:
        assert client.head(server.url()).content == b""
        assert client.head(server.url()).headers["content-length"] == "5"


def test_errors_reach_the_caller() -> None:
    with Client() as client, refusing_port() as port:
        for _ in range(3):
            with pytest.raises(ConnectRefusedError, match=f":{port}"):
                client.get(f"http://127.0.0.1:{port}/")
        with pytest.raises(InvalidURL):
            client.get("nonsense")
        with pytest.raises(ValueError, match="timeout"):
            client.get("http://127.0.0.1/", timeout=0)
        check_quiet(client)


def test_connection_closed_between_two_calls_is_not_used() -> None:
    closed = threading.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        peer.close()
        await peer.writer.wait_closed()
        closed.set()

    with serving_in_thread(script) as server, Client() as client:
        for number in (1, 2, 3):
            closed.clear()
            assert client.get(server.url()).content == b"ok"
            assert server.connections == number
            assert closed.wait(20)


def test_bytes_that_came_between_two_calls_are_no_answer() -> None:
    sent = threading.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 0:
            await asyncio.sleep(0)
            await peer.send(answer(b"poison"))
        sent.set()
        await peer.until_closed()

    with serving_in_thread(script) as server, Client() as client:
        assert client.get(server.url()).content == b"ok"
        assert sent.wait(20)
        assert client.get(server.url()).content == b"ok"


def test_call_from_inside_a_running_loop_blocks_and_works() -> None:
    async def main() -> tuple[Any, ...]:
        before = asyncio.current_task(), asyncio.get_running_loop()
        body = client.get(server.url("/in")).content
        assert (asyncio.current_task(), asyncio.get_running_loop()) == before
        await asyncio.sleep(0)
        return (body,)

    with serving_in_thread(says_the_path) as server, Client() as client:
        assert asyncio.run(main()) == (b"/in",)
        assert reactor.run(main()) == (b"/in",)


# -- many threads ----------------------------------------------------------------------------


def test_thirty_two_threads_get_each_its_own_bodies(threads: ThreadPoolExecutor) -> None:
    with serving_in_thread(says_the_path) as server, Client(max_per_host=8) as client:

        def work(worker: int) -> None:
            for number in range(25):
                path = f"/{worker}.{number}"
                assert client.get(server.url(path)).content == path.encode()

        list(threads.map(work, range(32)))
        check_quiet(client)
        assert server.connections <= 8


def test_threads_that_come_and_go_at_odd_moments_lose_no_wake_up(
    threads: ThreadPoolExecutor,
) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with serving_in_thread(says_the_path) as server, Client() as client:

            def work(worker: int) -> None:
                for number in range(40):
                    path = f"/{worker}.{number}"
                    if number % 7 == worker % 7:
                        with pytest.raises(InvalidURL):  # ends in its first step
                            client.get("nonsense")
                    if number % 11 == worker % 11:
                        with contextlib.suppress(EndpointTimeoutError):
                            client.get(server.url("/t"), timeout=1e-4)
                    assert client.get(server.url(path)).content == path.encode()

            list(threads.map(work, range(8)))
            check_quiet(client)
    finally:
        sys.setswitchinterval(interval)


def test_leader_that_is_done_first_hands_over(gate: Gate, threads: ThreadPoolExecutor) -> None:
    with Client() as client:
        leader = threads.submit(client.get, gate.server.url("/leader"))
        gate.await_requests("/leader")
        followers = [threads.submit(client.get, gate.server.url(f"/{n}")) for n in range(4)]
        gate.await_requests(*(f"/{n}" for n in range(4)))
        gate.open("/leader")
        assert leader.result(20).content == b"/leader"
        assert client.get(gate.server.url("/now")).content == b"/now"  # a late follower
        for number in (3, 0, 2, 1):
            gate.open(f"/{number}")
            assert followers[number].result(20).content == b"/%d" % number
        check_quiet(client)


def test_leader_that_times_out_hands_over(gate: Gate, threads: ThreadPoolExecutor) -> None:
    with Client() as client:
        leader = threads.submit(client.get, gate.server.url("/leader"), timeout=1)
        gate.await_requests("/leader")
        follower = threads.submit(client.get, gate.server.url("/follower"))
        gate.await_requests("/follower")
        with pytest.raises(EndpointTimeoutError):
            leader.result(20)
        gate.open("/follower")
        assert follower.result(20).content == b"/follower"
        check_quiet(client)


def test_follower_times_out_while_another_leads(gate: Gate, threads: ThreadPoolExecutor) -> None:
    with Client() as client:
        leader = threads.submit(client.get, gate.server.url("/leader"))
        gate.await_requests("/leader")
        with pytest.raises(EndpointTimeoutError):
            client.get(gate.server.url("/follower"), timeout=0.05)
        gate.open("/leader")
        assert leader.result(20).content == b"/leader"
        check_quiet(client)


def test_leader_and_follower_done_in_neighbouring_passes_both_wake() -> None:
    """The follower's task ends in the pass at whose end the loop stops for the leader."""
    with Client() as client:
        for extra_passes in range(6):
            entered = threading.Event()
            release = threading.Event()

            async def lead(entered: Any = entered, release: Any = release) -> str:
                entered.set()
                while not release.is_set():  # noqa: ASYNC110 - passes are what this is about
                    await asyncio.sleep(0)
                return "leader"

            async def follow(release: Any = release, passes: int = extra_passes) -> str:
                release.set()
                for _ in range(passes):
                    await asyncio.sleep(0)
                return "follower"

            with ThreadPoolExecutor(1) as threads:
                leader = threads.submit(client._run, lead)
                assert entered.wait(20)
                assert client._run(follow) == "follower"
                assert leader.result(20) == "leader"
            check_quiet(client)


# -- interrupts ------------------------------------------------------------------------------


@pytest.mark.raises_in_signal_handler
def test_interrupted_leader_hands_over(gate: Gate, threads: ThreadPoolExecutor) -> None:
    with Client() as client:
        followers: list[Future[Any]] = []

        def action() -> None:
            gate.await_requests("/leader")
            followers.extend(threads.submit(client.get, gate.server.url(f"/{n}")) for n in "01")
            gate.await_requests("/0", "/1")

        with interrupted_by(action):
            client.get(gate.server.url("/leader"))
        gate.open("/0", "/1")
        assert [each.result(20).content for each in followers] == [b"/0", b"/1"]
        assert client.get(gate.server.url("/now")).content == b"/now"
        check_quiet(client)


@pytest.mark.raises_in_signal_handler
def test_interrupted_follower_leaves_the_leader_alone(
    gate: Gate, threads: ThreadPoolExecutor
) -> None:
    with Client() as client:
        leader = threads.submit(client.get, gate.server.url("/leader"))
        gate.await_requests("/leader")
        with interrupted_by(lambda: gate.await_requests("/follower")):
            client.get(gate.server.url("/follower"))
        assert client.get(gate.server.url("/now")).content == b"/now"
        gate.open("/leader")
        assert leader.result(20).content == b"/leader"
        check_quiet(client)
        assert counts(client)["idle"] == 2


@pytest.mark.raises_in_signal_handler
def test_interrupted_lone_caller_leaves_nothing_behind(gate: Gate) -> None:
    with Client(max_per_host=1) as client:
        with interrupted_by(lambda: gate.await_requests("/only")):
            client.get(gate.server.url("/only"))
        # the one connection is given up, or this would wait for ever
        assert client.get(gate.server.url("/now"), timeout=20).content == b"/now"
        check_quiet(client)


@pytest.mark.raises_in_signal_handler
def test_close_after_an_interrupt_ends_what_was_left(gate: Gate) -> None:
    client = Client()
    with interrupted_by(lambda: gate.await_requests("/only")):
        client.get(gate.server.url("/only"))
    client.close()
    assert counts(client) == {"leased": 0, "idle": 0, "opening": 0, "waiting": 0}


class Interrupting(dict[Any, None]):
    """The calls of a client, during whose search a signal comes, and another one."""

    times = 0

    def __iter__(self) -> Iterator[Any]:
        if self.times:
            self.times -= 1
            raise KeyboardInterrupt
        return super().__iter__()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_interrupts_while_the_next_leader_is_looked_for_leave_no_thread_asleep(
    times: int, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    with Client() as client:
        calls = client._calls = Interrupting()
        leader = threads.submit(client.get, gate.server.url("/leader"))
        gate.await_requests("/leader")
        follower = threads.submit(client.get, gate.server.url("/follower"))
        gate.await_requests("/follower")
        calls.times = times
        gate.open("/leader")
        with pytest.raises(KeyboardInterrupt):
            leader.result(20)
        assert calls.times == 0
        gate.open("/follower")
        assert follower.result(20).content == b"/follower"
        check_quiet(client)


@pytest.mark.parametrize("when", ["call", "c_return"])
def test_interrupt_as_a_followers_call_begins_or_ends_leaves_no_thread_asleep(
    when: str, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    interrupted = 0

    def interrupt(frame: Any, event: str, _: Any) -> None:
        nonlocal interrupted
        if event != when or frame.f_code.co_name != "_perform" or interrupted:
            return
        if frame.f_locals["call"].thread != threading.get_ident():
            interrupted += 1
            raise KeyboardInterrupt  # as a signal handler does, once something was called

    def lead() -> None:
        sys.setprofile(interrupt)
        try:
            client.get(gate.server.url("/leader"))
        finally:
            sys.setprofile(None)

    with Client() as client:
        leader = threads.submit(lead)
        gate.await_requests("/leader")
        follower = threads.submit(client.get, gate.server.url("/follower"))
        if when == "c_return":
            gate.await_requests("/follower")
        gate.open("/follower")
        with pytest.raises(KeyboardInterrupt):
            leader.result(20)
        assert follower.result(20).content == b"/follower"
        assert interrupted == 1
        client.get(gate.server.url("/now"))
        check_quiet(client)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("again", [True, False])
def test_interrupt_out_of_anothers_call_is_the_leaders_and_the_call_begins_anew_if_it_may(
    kind: type[BaseException], again: bool, threads: ThreadPoolExecutor
) -> None:
    entered, tries = threading.Event(), 0

    async def lead() -> None:
        entered.set()
        await asyncio.Event().wait()

    async def follow() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise kind
        return "second try"

    with Client() as client:
        leader = threads.submit(client._run, lead)
        assert entered.wait(20)
        if again:
            assert client._run(follow, again=True) == "second try"
        else:
            with pytest.raises(RequestInterruptedError):
                client._run(follow)
        with pytest.raises(kind):
            leader.result(20)
        assert tries == 1 + again
        client._run(lambda: asyncio.sleep(0))
        check_quiet(client)


@pytest.mark.parametrize(
    ("again", "ask"),
    [
        (True, lambda client: client.get("http://127.0.0.1/", headers={"a": "b"})),
        (True, lambda client: client.request("options", "http://127.0.0.1/")),
        (True, lambda client: client.send(Request("GET", "http://127.0.0.1/"))),
        (True, lambda client: client.get("http://127.0.0.1/", params=[("a", "b")])),
        (False, lambda client: client.get("http://127.0.0.1/", params=iter([("a", "b")]))),
        (False, lambda client: client.request("GET", "http://127.0.0.1/", headers=iter([]))),
        (False, lambda client: client.request("GET", "http://127.0.0.1/", content=[b"once"])),
        (False, lambda client: client.post("http://127.0.0.1/")),
        (False, lambda client: client.send(Request("PUT", "http://127.0.0.1/", content=b"a"))),
        (False, lambda client: client.stream("GET", "http://127.0.0.1/").__enter__()),
    ],
)
def test_what_is_asked_once_more_is_safe_and_has_no_content(
    again: bool, ask: Callable[[Client], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def see(call: _Call, closes: bool) -> None:
        raise Seen(call.again)

    with Client() as client, monkeypatch.context() as patched:
        patched.setattr(client, "_see_through", see)
        with pytest.raises(Seen, match=str(again)):
            ask(client)


def test_post_that_another_threads_interrupt_ends_is_not_sent_twice(
    threads: ThreadPoolExecutor, gate: Gate
) -> None:
    """It is being answered, on the other thread's loop, when the signal comes."""

    def interrupt(response: Response) -> None:
        if response.request.method == "POST":
            raise KeyboardInterrupt

    with Client(event_hooks={"response": [interrupt]}) as client:
        url = gate.server.url
        leader = threads.submit(client.get, url("/leader"))
        gate.await_requests("/leader")
        follower = threads.submit(client.post, url("/now"))
        with pytest.raises(RequestInterruptedError):
            follower.result(20)
        with pytest.raises(KeyboardInterrupt):
            leader.result(20)
        assert gate.paths.count(b"/now") == 1


def test_signal_as_a_call_is_entered_costs_no_answer() -> None:
    """Its handler raises an Exception, and the task dies before its first line."""
    with serving_in_thread(says_the_path) as server, Client() as client:
        interrupts = 0

        def look(frame: Any, event: str, _: Any) -> None:  # which is not asked any more, then
            nonlocal interrupts
            if event == "call" and frame.f_code.co_name == "_perform":
                interrupts += 1
                raise TimeoutError("the alarm")

        sys.setprofile(look)
        try:
            response = client.delete(server.url("/a"), timeout=20)
        finally:
            sys.setprofile(None)
        assert (response.content, interrupts) == (b"/a", 1)
        check_quiet(client)


def test_error_of_a_call_is_no_cycle() -> None:
    with Client() as client, refusing_port() as port:
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(ConnectRefusedError) as caught:
                client.post(f"http://127.0.0.1:{port}/")
            error = weakref.ref(caught.value)
            del caught
            assert error() is None
        finally:
            gc.enable()


def test_handler_of_a_signal_that_raises_as_a_call_begins_costs_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that raises an ``Exception``, which a loop tells of and goes on."""
    told: list[BaseException] = []
    asked: list[Any] = []
    hooks = {"request": [asked.append]}
    with serving_in_thread(says_the_path) as server, Client(event_hooks=hooks) as client:
        create_task = client._loop.create_task

        def interrupted(coroutine: Any) -> Any:
            monkeypatch.undo()
            if moments.pop() == "before":
                coroutine.close()
            else:
                create_task(coroutine)
            raise TimeoutError("the alarm")

        client._loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        moments = ["after", "before"]
        while moments:
            monkeypatch.setattr(client._loop, "create_task", interrupted)
            assert client.delete(server.url("/a")).content == b"/a"
        assert [str(error) for error in told] == ["the alarm"] * 2
        check_quiet(client)
        assert len(asked) == 2


def test_exception_of_one_call_is_nobody_elses(threads: ThreadPoolExecutor) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def succeed() -> int:
        await asyncio.sleep(0)
        return 7

    with Client() as client:
        futures = [threads.submit(client._run, (fail, succeed)[n % 2]) for n in range(40)]
        for number, future in enumerate(futures):
            if number % 2:
                assert future.result(20) == 7
            else:
                with pytest.raises(ZeroDivisionError):
                    future.result(20)
        check_quiet(client)


def test_call_out_of_the_clients_own_loop_raises_instead_of_hanging() -> None:
    with Client() as client:

        async def inner() -> None:
            with pytest.raises(RuntimeError, match="by what itself is calling"):
                client.get("http://127.0.0.1/")

        client._run(inner)
        check_quiet(client)


def test_abandoned_call_whose_task_has_not_begun_never_begins() -> None:
    with Client() as client:
        begun: list[bool] = []

        async def work() -> None:
            begun.append(True)

        call = _Call(work)
        client._begin(call)  # not among the calls any more
        client._run(lambda: asyncio.sleep(0))
        assert not begun


# -- closing ---------------------------------------------------------------------------------


def test_stream_that_is_left_after_the_client_was_closed_says_nothing() -> None:
    with serving_in_thread(says_the_path) as server:
        client = Client()
        with client.stream("GET", server.url("/path")):
            client.close()


def test_use_after_close_raises_and_a_second_close_does_nothing() -> None:
    with serving_in_thread(says_the_path) as server:
        client = Client()
        client.get(server.url())
        client.close()
        client.close()
        with pytest.raises(ClientClosedError):
            client.get(server.url())
        assert "closed" in repr(client)


def test_client_that_was_never_used_closes() -> None:
    client = Client()
    client.close()
    with Client() as other:
        pass
    assert client._loop.is_closed()
    assert other._loop.is_closed()


def test_close_with_others_under_way_ends_them(
    gate: Gate, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(max_per_host=2)
    manager = client._async.manager
    close = manager.close
    monkeypatch.setattr(manager, "close", lambda: close(timeout=0.05))
    futures = [threads.submit(client.get, gate.server.url(f"/{n}")) for n in range(5)]
    for _ in range(2):
        with gate._arrived:
            assert gate._arrived.wait_for(lambda: len(gate.paths) == 2, 20)
    client.close()
    for future in futures:
        assert isinstance(future.exception(20), ConnectionError | RuntimeError)
    assert client._loop.is_closed()


def test_close_waits_for_answers_that_come_in_time(gate: Gate, threads: ThreadPoolExecutor) -> None:
    client = Client()
    future = threads.submit(client.get, gate.server.url("/a"))
    gate.await_requests("/a")
    closing = threads.submit(client.close)
    gate.open("/a")
    assert future.result(20).content == b"/a"
    closing.result(20)
    assert client._loop.is_closed()


def test_close_from_many_threads_while_others_call() -> None:
    with serving_in_thread(says_the_path) as server:
        for _ in range(20):
            client = Client()
            barrier = threading.Barrier(8)

            def work(client: Client = client, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(20)
                with contextlib.suppress(ClientClosedError):
                    while True:
                        assert client.get(server.url("/x")).content == b"/x"

            def close(client: Client = client, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(20)
                client.close()

            with ThreadPoolExecutor(8) as threads:
                jobs = [threads.submit(work) for _ in range(6)]
                jobs += [threads.submit(close) for _ in range(2)]
                for job in jobs:
                    job.result(20)
            assert client._loop.is_closed()


def test_unclosed_client_warns_and_frees_what_it_holds() -> None:
    with serving_in_thread(says_the_path) as server:
        client = Client()
        client.get(server.url())
        with pytest.warns(ResourceWarning, match="unclosed <Client open") as caught:
            del client
        assert len(caught) == 1
        caught.clear()  # a warning holds its source


def test_client_that_could_not_be_made_says_nothing_more() -> None:
    with pytest.raises(ValueError, match="timeout"):
        Client(timeout=-1)
    gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_client_refuses_to_work_in_a_forked_child_and_the_parents_goes_on() -> None:
    class Holder:
        """Forks with the client's mutex held, as another thread might hold it."""

        def __init__(self, client: Client) -> None:
            self.client = client
            self.mutex = client._mutex

        @synchronized("mutex")
        def fork(self, url: str) -> int:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    self.client.get(url)
                except RuntimeError as error:
                    status = 0 if "fork" in str(error) else 2
                finally:
                    self.client.close()
                    os._exit(status)
            return pid

    with serving_in_thread(says_the_path) as server, Client() as client:
        client.get(server.url())
        pid = Holder(client).fork(server.url())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for number in range(3):
            assert client.get(server.url(f"/{number}")).content == b"/%d" % number
        assert server.connections == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_client_that_is_dropped_in_a_forked_child_does_not_harm_the_parents() -> None:
    with serving_in_thread(says_the_path) as server:
        client = Client()
        client.get(server.url())
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                warnings.simplefilter("ignore")
                del client
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for number in range(3):
            assert client.get(server.url(f"/{number}"), timeout=5).content == b"/%d" % number
        assert server.connections == 1
        client.close()


def test_async_client_is_refused_while_a_blocking_call_runs_within_its_loop() -> None:
    refused: list[str] = []

    async def main(url: str) -> None:
        async with AsyncClient() as client:
            await client.get(url)

            async def hook(_: Request) -> None:
                with pytest.raises(RuntimeError, match="belongs to another event loop") as told:
                    await client.post(url, content=b"x")
                refused.append(str(told.value))

            with Client(event_hooks={"request": [hook]}) as blocking:
                assert blocking.get(url).status_code == 200
            assert (await client.get(url)).status_code == 200
            assert client.manager.stats()["opened"] == 1

    with serving_in_thread(says_the_path) as server:
        reactor.run(main(server.url()))
    assert len(refused) == 1

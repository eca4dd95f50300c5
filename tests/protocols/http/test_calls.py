"""A request that goes the short way is a coroutine to asyncio, and never loses a connection."""

import asyncio
import collections.abc
import gc
import weakref
from typing import Any

import pytest

from protocols.http import AsyncClient, CookieJar, HTTPError
from protocols.http.calls import Call
from reactor import EndpointTimeoutError, new_event_loop
from tests.peers.scripted import (
    OK,
    Conversation,
    answer,
    on_reactor,
    serving,
    serving_in_thread,
)

COOKIE = answer(b"ok", "Set-Cookie: a=1")


async def answers(peer: Conversation) -> None:
    while await peer.request() is not None:
        await peer.send(OK)


class Silent:
    """A script that answers the first request of a connection and leaves the next one waiting."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self, peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        if await peer.request() is not None:
            self.asked.set()
            await peer.request()


@on_reactor
async def test_a_call_is_a_coroutine_for_asyncio() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        for _ in range(2):
            call = client.get(server.url())
            assert type(call) is Call
            assert isinstance(call, collections.abc.Coroutine)
            assert asyncio.iscoroutine(call)
            assert not asyncio.isfuture(call)
            task: asyncio.Task[Any] = asyncio.create_task(call)
            assert "AsyncClient.get" in repr(task)
            assert (await task).status_code == 200
        assert client.manager.stats()["reused"] == 1


@on_reactor
async def test_gather_wait_for_and_timeout_take_a_call() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        for _ in range(2):
            calls = [client.get(server.url()) for _ in range(5)]
            assert [response.text for response in await asyncio.gather(*calls)] == ["ok"] * 5
        assert (await asyncio.wait_for(client.head(server.url("/h")), 10)).status_code == 200
        async with asyncio.timeout(10):
            assert (await client.get(server.url())).text == "ok"
        assert client.manager.stats()["reused"] >= 5


@on_reactor
async def test_cancelled_call_discards_its_connection() -> None:
    script = Silent()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        task = asyncio.create_task(client.get(server.url()))
        await script.asked.wait()
        assert client.manager.stats()["leased"] == 1
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        stats = client.manager.stats()
        assert (stats["leased"], stats["idle"], stats["reused"]) == (0, 0, 1)


@on_reactor
async def test_call_cancelled_when_its_response_is_there_gives_the_connection_back() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        await client.get(server.url())
        call = client.get(server.url())
        outcome = call.send(None)
        woken = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(woken.set_result)
        await woken
        with pytest.raises(KeyError):
            call.throw(KeyError("late"))
        stats = client.manager.stats()
        assert (stats["leased"], stats["idle"]) == (0, 1)


@on_reactor
async def test_wait_for_that_runs_out_discards_the_connection() -> None:
    script = Silent()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get(server.url()), 0.01)
        assert client.manager.stats()["leased"] == 0


@on_reactor
async def test_deadline_of_the_client_ends_a_call() -> None:
    script = Silent()
    async with serving(script) as server, AsyncClient(timeout=0.2) as client:
        await client.get(server.url())
        with pytest.raises(EndpointTimeoutError):
            await client.get(server.url())
        assert client.manager.stats()["leased"] == 0


@on_reactor
async def test_dropped_call_discards_its_connection() -> None:
    script = Silent()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        call = client.get(server.url())
        call.send(None)
        await script.asked.wait()
        assert client.manager.stats()["leased"] == 1
        del call
        gc.collect()
        assert client.manager.stats()["leased"] == 0


@on_reactor
async def test_task_is_woken_though_its_call_was_closed_and_its_connection_is_wanted() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        await client.get(server.url())
        call = client.get(server.url())
        task: Any = asyncio.create_task(call)
        await asyncio.sleep(0)
        outcome = task._fut_waiter
        while not outcome.done():  # noqa: ASYNC110 - then its wake is in the queue, behind this
            await asyncio.sleep(0)
        call.close()
        assert (await client.get(server.url())).text == "ok"
        await asyncio.wait({task}, timeout=10)
        with pytest.raises(RuntimeError):
            task.result()


@on_reactor
async def test_calls_over_one_connection_work_in_debug_mode() -> None:
    async with serving(answers) as server, AsyncClient(max_per_host=1) as client:
        asyncio.get_running_loop().set_debug(True)
        for _ in range(2):  # by one task, and by one after the other
            for _ in range(3):
                assert (await client.get(server.url())).text == "ok"
            for _ in range(3):
                assert (await asyncio.create_task(client.get(server.url()))).text == "ok"
        assert client.manager.stats()["opened"] == 1


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_call_that_waits_when_its_loop_is_closed_is_garbage(
    wrapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    script = Silent()
    gone: list[weakref.ref[Any]] = []

    async def main() -> None:
        client = AsyncClient()
        await client.get(server.url())

        async def wait() -> None:
            await client.get(server.url())

        task: Any = asyncio.create_task(wait() if wrapped else client.get(server.url()))
        await asyncio.sleep(0)
        gone.extend(weakref.ref(each) for each in (task, client, asyncio.get_running_loop()))

    with serving_in_thread(script) as server:
        loops = [new_event_loop()]
        loops[0].run_until_complete(main())
        loops.pop().close()
        for _ in range(3):
            gc.collect()
    assert [each() for each in gone] == [None] * 3
    assert "destroyed but it is pending" in caplog.text


@pytest.mark.parametrize("method", ["get", "head"])
@on_reactor
async def test_call_that_nobody_awaited_is_told(method: str) -> None:
    async with AsyncClient() as client:
        call: Any = getattr(client, method)("http://127.0.0.1/")
        with pytest.warns(RuntimeWarning, match=rf"'AsyncClient\.{method}' was never awaited"):
            del call
        getattr(client, method)("http://127.0.0.1/").close()  # says nothing


@on_reactor
async def test_call_that_just_began_takes_no_value() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        for _ in range(2):  # without an idle connection, and with one
            call: Any = client.get(server.url())
            with pytest.raises(TypeError, match="non-None value to a just-started"):
                call.send(5)
            assert (await call).text == "ok"  # as a coroutine, it has not begun yet


@on_reactor
async def test_call_is_awaited_once() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        for _ in range(2):
            call = client.get(server.url())
            await call
            with pytest.raises(RuntimeError, match="already awaited"):
                await call


@on_reactor
async def test_call_that_another_task_awaits_is_refused() -> None:
    script = Silent()

    async def wait_for_it(call: Any) -> None:
        await call

    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        call = client.get(server.url())
        first = asyncio.create_task(wait_for_it(call))
        await script.asked.wait()
        second = asyncio.create_task(wait_for_it(call))
        await asyncio.wait([second], timeout=5)
        assert "awaited already" in str(second.exception())
        assert client.manager.stats()["leased"] == 1  # the first one's
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert client.manager.stats()["leased"] == 0


@on_reactor
async def test_call_speaks_the_language_of_generators() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        await client.get(server.url())
        call: Any = client.get(server.url())
        outcome = next(call)
        assert (outcome.done(), outcome.cancelled()) == (False, False)
        with pytest.raises(asyncio.InvalidStateError):
            outcome.result()
        assert call.send(None) is outcome
        woken = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(woken.set_result)
        with pytest.raises(RuntimeError, match="waited for by somebody else"):
            outcome.add_done_callback(print)
        await woken
        assert outcome.result() is None
        with pytest.raises(StopIteration) as caught:
            call.send(None)
        assert caught.value.value.text == "ok"
        assert client.manager.stats()["leased"] == 0


@on_reactor
async def test_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async def once(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async with serving(once) as server, AsyncClient() as client:
        await client.get(server.url())
        for _ in range(2):  # the server closes instead of a second answer
            assert (await client.get(server.url())).text == "ok"
        assert client.manager.stats()["opened"] == 3


@on_reactor
async def test_cookies_come_and_go_on_the_short_way() -> None:
    heads: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            await peer.send(OK if len(heads) == 1 else COOKIE)

    async with serving(script) as server, AsyncClient(cookies=CookieJar()) as client:
        for _ in range(4):
            await client.get(server.url())
        assert client.manager.stats()["reused"] == 3
        assert [b"Cookie: a=1\r\n" in head for head in heads] == [False, False, True, True]
        client.cookies.clear()
        await client.get(server.url())
        assert b"Cookie:" not in heads[4]


@on_reactor
async def test_call_on_another_loop_than_the_clients_is_refused() -> None:
    async with serving(answers) as server, AsyncClient() as client:
        await client.get(server.url())
        call = client.get(server.url())
        await client.aclose()
        with pytest.raises(HTTPError):
            await call

"""Requests that wait for a connection: each is sent once, in its turn, or not at all."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from protocols.http import AsyncClient, ClientClosedError, Timeout
from reactor import EndpointTimeoutError, PoolFullError, new_event_loop
from tests.peers.scripted import OK, Conversation, answer, on_reactor, serving, serving_in_thread
from tests.protocols.http.client_checks import NOTHING, check_failure, counts, passes, until


class Gated:
    """A script that notes each request line, and answers where the gate is open.

    Attributes:
        seen: the request lines, in the order in which they came.
        heads: the requests' heads.
    """

    def __init__(self, response: bytes = OK) -> None:
        self.response = response
        self.seen: list[str] = []
        self.heads: list[bytes] = []
        self.gate = asyncio.Event()

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            self.heads.append(head)
            self.seen.append(head.partition(b" HTTP")[0].decode())
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await peer.reader.readexactly(int(length or 0))
            await self.gate.wait()
            await peer.send(self.response)


async def line_up(script: Gated, client: AsyncClient, *calls: Any) -> list[asyncio.Task[Any]]:
    """Return tasks of which the first has the only connection, and the others wait for it."""
    tasks = [asyncio.create_task(call) for call in calls]
    await until(lambda: len(script.seen) >= 1)
    await until(lambda: counts(client)["waiting"] == len(calls) - 1)
    return tasks


@on_reactor
async def test_lined_up_requests_are_sent_once_each_in_turn() -> None:
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        calls: list[Any] = [client.get(server.url("/0"))]
        for number in range(1, 10):
            url = server.url(f"/{number}")
            calls.append(client.post(url, json=number) if number % 2 else client.get(url))
        tasks = await line_up(script, client, *calls)
        script.gate.set()
        assert [response.text for response in await asyncio.gather(*tasks)] == ["ok"] * 10
        assert script.seen == [f"{'POST' if n % 2 else 'GET'} /{n}" for n in range(10)]
        assert server.connections == 1
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_client_closed_in_the_pass_in_which_a_request_was_served() -> None:
    """It has its connection by then: its client need not have a loop any more."""
    script = Gated()
    script.gate.set()
    async with serving(script) as server:
        client = AsyncClient(max_per_host=1)
        await client.get(server.url())
        first = client.get(server.url())

        async def close_after_first() -> None:
            await first
            await client.aclose()

        results = await asyncio.gather(
            close_after_first(), client.get(server.url()), return_exceptions=True
        )
        assert results[0] is None
        second: Any = results[1]
        assert isinstance(second, ClientClosedError) or second.text == "ok"
        assert counts(client) == NOTHING


@on_reactor
async def test_client_closed_while_requests_are_lined_up() -> None:
    script = Gated()
    async with serving(script) as server:
        client = AsyncClient(max_per_host=1)
        calls = [client.get(server.url(f"/{number}")) for number in range(100)]
        tasks = await line_up(script, client, *calls)
        closing = asyncio.create_task(client.aclose())
        await passes(2)
        script.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await closing
        assert getattr(results[0], "text", None) == "ok"
        assert {type(result) for result in results[1:]} == {ClientClosedError}
        assert script.seen == ["GET /0"]
        assert counts(client) == NOTHING


@on_reactor
@pytest.mark.parametrize("timeout", [0.02, Timeout(5, pool=0.02)])
async def test_lined_up_request_gives_up_at_its_deadline(timeout: Any) -> None:
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1, timeout=timeout) as client:
        first = asyncio.create_task(client.get(server.url(), timeout=Timeout(10, pool=10)))
        await until(lambda: len(script.seen) == 1)
        with pytest.raises(EndpointTimeoutError) as caught:
            await client.get(server.url())
        check_failure(caught.value, server.port, "pool", TimeoutError)
        assert counts(client) == {**NOTHING, "leased": 1}
        script.gate.set()
        assert (await first).text == "ok"
        assert script.seen == ["GET /"]


@on_reactor
async def test_one_request_too_many_is_refused() -> None:
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        manager: Any = client.manager
        tasks = await line_up(script, client, *(client.get(server.url()) for _ in range(3)))
        del tasks[2:]
        extra = [client.get(server.url()) for _ in range(manager._max_waiting - 2)]
        for call in extra:
            call.send(None)
        with pytest.raises(PoolFullError):
            await client.get(server.url())
        for call in extra:
            call.close()
        assert counts(client) == {**NOTHING, "leased": 1, "waiting": 2}
        script.gate.set()
        await asyncio.gather(*tasks)
        await until(lambda: counts(client) == {**NOTHING, "idle": 1})


@on_reactor
@pytest.mark.parametrize("how", ["close", "throw", "drop"])
async def test_lined_up_call_driven_by_hand_leaves_the_queue(how: str) -> None:
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        (first,) = await line_up(script, client, client.get(server.url()))
        call: Any = client.get(server.url("/second"), timeout=1_000)
        future = call.send(None)
        assert call.send(None) is future
        assert counts(client) == {**NOTHING, "leased": 1, "waiting": 1}
        if how == "close":
            call.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                call.throw(KeyError("no more"))
        else:
            del call
        assert counts(client) == {**NOTHING, "leased": 1}
        if how != "drop":
            with pytest.raises(RuntimeError, match="already awaited"):
                call.send(None)
        script.gate.set()
        assert (await first).text == "ok"
        assert script.seen == ["GET /"]


@on_reactor
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_call_that_was_served_when_it_is_cancelled_passes_the_connection_on(
    how: str,
) -> None:
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        (first,) = await line_up(script, client, client.get(server.url("/0")))
        call: Any = client.get(server.url("/1"))
        future = call.send(None)
        third = asyncio.create_task(client.get(server.url("/2")))
        await until(lambda: counts(client)["waiting"] == 2)
        script.gate.set()
        await first
        assert future.done()
        with pytest.raises(asyncio.CancelledError if how == "cancel" else TimeoutError):
            call.throw(asyncio.CancelledError() if how == "cancel" else TimeoutError())
        assert (await third).text == "ok"
        assert script.seen == ["GET /0", "GET /2"]
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_request_that_is_served_a_slot_opens_a_connection() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await release.wait()
        await peer.send(answer(b"bye", "Connection: close"))

    release = asyncio.Event()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        tasks = [asyncio.create_task(client.post(server.url(), json=1)) for _ in range(5)]
        await until(lambda: counts(client)["waiting"] == 4)
        release.set()
        assert [response.text for response in await asyncio.gather(*tasks)] == ["bye"] * 5
        assert server.connections == 5
        await until(lambda: counts(client) == NOTHING)


@pytest.mark.parametrize(
    "first_time",
    [
        False,
        True,
    ],
)
@on_reactor
async def test_cookies_that_came_while_a_request_was_lined_up_go_out(first_time: bool) -> None:
    """With *first_time* the client knows the URL of a request without options not yet."""
    script = Gated()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        if not first_time:
            script.gate.set()
            await client.get(server.url("/1"))
            script.gate.clear()
            script.heads.clear()
            script.seen.clear()
        script.response = answer(b"ok", "Set-Cookie: a=1")
        tasks = await line_up(
            script,
            client,
            client.get(server.url("/0")),
            client.get(server.url("/1")),
            client.get(server.url("/2"), headers={"X": "y"}),
            client.get(server.url("/3"), headers={"Cookie": "own=1"}),
        )
        script.gate.set()
        await asyncio.gather(*tasks)
        assert [b"Cookie: a=1" in head for head in script.heads] == [False, True, True, False]
        assert b"Cookie: own=1" in script.heads[3]


@on_reactor
async def test_redirect_of_a_lined_up_request_is_followed_with_its_content() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append((head.split(b" HTTP")[0], await peer.reader.readexactly(3)))
            await release.wait()
            if head.startswith(b"POST /to"):
                await peer.send(OK)
            else:
                await peer.send(answer(b"", "Location: /to", status="307 Temporary Redirect"))

    seen: list[Any] = []
    release = asyncio.Event()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        follow: Any = {"content": b"abc", "follow_redirects": True}
        tasks = [
            asyncio.create_task(client.post(server.url("/a"), **follow)),
            asyncio.create_task(client.post(server.url("/b"), **follow)),
            asyncio.create_task(client.post(server.url("/c"), content=b"abc")),
        ]
        await until(lambda: counts(client)["waiting"] == 2)
        release.set()
        assert [response.status_code for response in await asyncio.gather(*tasks)] == [
            200,
            200,
            307,
        ]
        assert sorted(seen) == sorted(
            [(b"POST /a", b"abc"), (b"POST /b", b"abc"), (b"POST /c", b"abc")]
            + [(b"POST /to", b"abc")] * 2
        )
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_lined_up_request_whose_connection_turns_out_stale(method: str) -> None:
    """It is handed on as good and dies under the request: only a safe method is repeated."""

    async def script(peer: Conversation) -> None:
        head = await peer.request()
        if peer.number == 0:
            await release.wait()
            await peer.send(OK)
            seen.append(await peer.request())
            peer.reset()
            return
        seen.append(head)
        await peer.send(OK)
        await peer.until_closed()

    seen: list[Any] = []
    release = asyncio.Event()
    async with serving(script) as server, AsyncClient(max_per_host=1) as client:
        first = asyncio.create_task(client.get(server.url()))
        second = asyncio.create_task(client.request(method, server.url("/2")))
        await until(lambda: counts(client)["waiting"] == 1)
        release.set()
        await first
        if method == "GET":
            assert (await second).text == "ok"
        else:
            with pytest.raises(ConnectionError):
                await second
        assert len(seen) == (2 if method == "GET" else 1)
        assert counts(client)["leased"] == 0


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize("closes_first", [True, False])
def test_lined_up_calls_are_garbage_with_their_client_and_loop(closes_first: bool) -> None:
    async def script(peer: Conversation) -> None:
        await peer.until_closed()
        peer.close()
        await peer.writer.wait_closed()
        over.set()

    async def main() -> None:
        client.ring = [asyncio.ensure_future(client.get(server.url())) for _ in range(5)]
        await until(lambda: counts(client)["opening"] == 0 and counts(client)["waiting"] == 4)
        for task in client.ring:
            task._log_destroy_pending = False

    over = threading.Event()
    with serving_in_thread(script) as server:
        loop = new_event_loop()
        client: Any = AsyncClient(max_per_host=1, timeout=1_000)
        loop.run_until_complete(main())
        gone = weakref.ref(client)
        if closes_first:
            loop.close()
            del client
        else:
            del client
            gc.collect()
            loop.close()
        del loop
        gc.collect()
        assert gone() is None
        assert over.wait(10)

"""The next piece of a body is a coroutine to asyncio, and no piece is lost on its way."""

import asyncio
import collections.abc
import contextlib
import copy
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protocols.http import AsyncClient, IncompleteResponseError
from protocols.http.body_stream import BodyStream, HeldPieces, NextPiece
from protocols.http.outcome import Outcome
from reactor import new_event_loop
from tests.peers.scripted import Conversation, on_reactor, serving, serving_in_thread
from tests.protocols.http.client_checks import passes

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Dosed:
    """A script that sends a piece when it is told to, and ends the body with an empty one."""

    def __init__(self) -> None:
        self._doses: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._doses.put_nowait(piece)

    def break_off(self) -> None:
        self._doses.put_nowait(None)

    async def __call__(self, peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(HEAD)
            while piece := await self._doses.get():
                await peer.send(chunk(piece))
            if piece is None:
                return
            await peer.send(LAST)


@contextlib.asynccontextmanager
async def streamed() -> AsyncIterator[tuple[Dosed, Any]]:
    """Give the script of a server and the pieces of a body that it streams."""
    script = Dosed()
    async with (
        serving(script) as server,
        AsyncClient() as client,
        client.stream("GET", server.url()) as response,
    ):
        yield script, response.aiter_bytes()


@on_reactor
async def test_the_next_piece_is_a_coroutine_for_asyncio() -> None:
    async with streamed() as (script, pieces):
        first = pieces.__anext__()
        assert type(first) is NextPiece
        assert isinstance(first, collections.abc.Coroutine)
        assert asyncio.iscoroutine(first)
        task: asyncio.Task[Any] = asyncio.create_task(first)
        assert "BodyStream.__anext__" in repr(task)
        await passes(5)
        script.send(b"one")
        assert await task == b"one"
        script.send(b"two")
        assert await asyncio.wait_for(anext(pieces), 10) == b"two"
        script.send(b"three")
        async with asyncio.timeout(10):
            assert await anext(pieces) == b"three"
        script.send(b"")
        assert await anext(pieces, b"no more") == b"no more"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


@pytest.mark.parametrize("how", ["wait_for", "timeout", "cancel"])
@on_reactor
async def test_no_piece_is_lost_by_a_reader_that_gives_up(how: str) -> None:
    async with streamed() as (script, pieces):
        for piece in (b"one", b"two"):
            if how == "cancel":
                task: asyncio.Task[Any] = asyncio.ensure_future(anext(pieces))
                await passes(3)
                task.cancel("enough")
                with pytest.raises(asyncio.CancelledError, match="enough"):
                    await task
            elif how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(pieces)
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(pieces), 0.01)
            script.send(piece)
            assert await anext(pieces) == piece


@on_reactor
async def test_no_piece_is_lost_by_a_reader_cancelled_when_it_had_come() -> None:
    loop = asyncio.get_running_loop()
    async with streamed() as (script, pieces):
        for piece in (b"one", b"two", b"three"):
            awaited = pieces.__anext__()
            outcome = awaited.send(None)
            came = loop.create_future()
            outcome.add_done_callback(came.set_result)
            script.send(piece)
            await came
            with pytest.raises(asyncio.CancelledError):
                awaited.throw(asyncio.CancelledError())
            task: asyncio.Task[Any] = asyncio.ensure_future(anext(pieces))  # woken at once
            await asyncio.sleep(0)
            assert task.done()
            assert task.result() == piece


@on_reactor
async def test_one_reader_waits_and_another_is_told_so() -> None:
    async with streamed() as (script, pieces):
        task: asyncio.Task[Any] = asyncio.ensure_future(anext(pieces))
        await passes(3)
        with pytest.raises(RuntimeError, match="read by somebody else"):
            await anext(pieces)
        script.send(b"one")
        assert await task == b"one"
        dropped = pieces.__anext__()
        dropped.send(None)
        del dropped
        script.send(b"two")
        assert await anext(pieces) == b"two"


@on_reactor
async def test_a_piece_is_awaited_once_and_by_the_rules_of_coroutines() -> None:
    async with streamed() as (script, pieces):
        awaited = pieces.__anext__()
        with pytest.raises(TypeError, match="non-None value"):
            awaited.send(1)
        outcome = awaited.send(None)
        assert outcome.get_loop() is asyncio.get_running_loop()
        assert not outcome.done()
        woken = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(woken.set_result)
        with pytest.raises(RuntimeError, match="being awaited already"):
            awaited.send(None)
        script.send(b"one")
        await woken
        with pytest.raises(StopIteration) as ended:
            awaited.send(None)
        assert ended.value.value == b"one"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            awaited.send(None)
        assert next(iter(pieces.__anext__().__await__())) is outcome
        for argument in (KeyError, KeyError("it")):
            with pytest.raises(KeyError):
                pieces.__anext__().throw(argument)
        with pytest.raises(TypeError, match=r"anext\(\) of a body"):
            NextPiece()
        with pytest.warns(RuntimeWarning, match="never awaited"):
            pieces.__anext__()
        pieces.__anext__().close()


@on_reactor
async def test_a_task_is_woken_though_the_coroutine_that_it_waits_in_was_closed() -> None:
    async with streamed() as (script, pieces):
        awaited = pieces.__anext__()
        task: asyncio.Task[Any] = asyncio.create_task(awaited)
        await passes(3)
        awaited.close()
        script.send(b"one")
        assert await anext(pieces) == b"one"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await task


class Dropping:
    """An awaitable that drives a piece itself, and drops it when it is closed."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __await__(self) -> Any:
        awaited, self._awaited = self._awaited, None
        while True:
            try:
                outcome = awaited.send(None)
            except StopIteration as end:
                return end.value
            yield outcome


@on_reactor
async def test_a_task_is_woken_though_the_piece_that_it_waits_for_was_dropped() -> None:
    async with streamed() as (script, pieces):

        async def wait() -> Any:
            return await Dropping(pieces.__anext__())

        waiting = wait()
        task: asyncio.Task[Any] = asyncio.create_task(waiting)
        await passes(3)
        waiting.close()
        script.send(b"one")
        assert await anext(pieces) == b"one"
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await task


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((KeyError, ValueError()), KeyError),
        ((KeyError, ("a", "b")), KeyError),
        ((LookupError, KeyError("a")), KeyError),
        ((StopIteration(3),), RuntimeError),
        ((KeyError(), 5), TypeError),
        ((1,), TypeError),
        ((int,), TypeError),
    ],
)
@on_reactor
async def test_what_is_thrown_is_what_a_coroutine_would_raise(
    arguments: Any, kind: type[BaseException]
) -> None:
    async with streamed() as (_, pieces):
        awaited = pieces.__anext__()
        awaited.send(None)
        with pytest.raises(kind):
            awaited.throw(*arguments)
        if kind is not TypeError:
            with pytest.raises(RuntimeError, match="cannot reuse"):
                awaited.throw(KeyError)
        awaited.close()


def test_what_its_users_make_does_not_crash() -> None:
    for kind in (NextPiece, HeldPieces, BodyStream):
        empty: Any = kind.__new__(kind)
        with pytest.raises(TypeError, match="pickle"):
            copy.copy(empty)
    piece: Any = NextPiece.__new__(NextPiece)
    with pytest.raises(RuntimeError, match="comes from anext"):
        piece.send(None)
    held: Any = HeldPieces.__new__(HeldPieces)
    assert not held.is_complete
    with pytest.raises(RuntimeError, match="comes from anext"):
        held.__anext__().send(None)
    outcome = Outcome()
    with pytest.raises(RuntimeError, match="comes with a connection"):
        outcome.add_done_callback(print)
    assert outcome.cancel()


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken-off"])
@on_reactor
async def test_the_end_wakes_who_waits_and_gives_the_connection_back(whole: bool) -> None:
    script = Dosed()
    async with serving(script) as server, AsyncClient() as client:
        request = client.build_request("GET", server.url())
        response = await client.send(request, stream=True)
        pieces: Any = response.aiter_bytes()
        task: asyncio.Task[Any] = asyncio.ensure_future(anext(pieces, b"no more"))
        await passes(3)
        assert client.manager.stats()["leased"] == 1
        if whole:
            script.send(b"")
            assert await task == b"no more"
        else:
            script.break_off()
            with pytest.raises(IncompleteResponseError):
                await task
        stats = client.manager.stats()
        assert (stats["leased"], stats["idle"]) == (0, int(whole))


@on_reactor
async def test_closing_the_response_ends_the_wait_of_another_task() -> None:
    async with serving(Dosed()) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            task: asyncio.Task[Any] = asyncio.ensure_future(anext(response.aiter_bytes()))
            await passes(3)
        with pytest.raises(RuntimeError, match="closed before its end"):
            await task
        assert client.manager.stats()["leased"] == 0


class Application:
    """What a loop knows of, by its exception handler, and who has what."""

    response: Any

    def handle(self, *_: Any) -> None: ...


async def soon(peer: Conversation) -> None:
    await peer.request()
    await peer.send(HEAD)
    await passes(20)
    await peer.send(chunk(b"one") + LAST)
    await peer.until_closed()


def test_a_response_that_was_read_keeps_no_loop() -> None:
    gone: list[weakref.ref[Any]] = []

    async def main(application: Application) -> None:
        async with AsyncClient() as client, client.stream("GET", server.url()) as response:
            assert [piece async for piece in response.aiter_bytes()] == [b"one"]
        application.response = response

    def run() -> None:
        loop, application = new_event_loop(), Application()
        loop.set_exception_handler(application.handle)
        loop.run_until_complete(main(application))
        loop.close()
        gone.extend((weakref.ref(loop), weakref.ref(application)))

    with serving_in_thread(soon) as server:
        run()
        for _ in range(3):
            gc.collect()
    assert [each() for each in gone] == [None] * 2


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_a_task_that_waits_when_its_loop_is_closed_is_garbage() -> None:
    gone: list[weakref.ref[Any]] = []
    told: list[str] = []

    async def main() -> None:
        client = AsyncClient()
        response = await client.send(client.build_request("GET", server.url()), stream=True)

        async def read() -> None:
            # the loop, which is closed then, leads to who waits
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context, has=response: told.append(context["message"])  # type: ignore[misc]
            )
            async for _ in response.aiter_bytes():
                pass

        task: asyncio.Task[Any] = asyncio.create_task(read())
        await passes(3)
        gone.extend(weakref.ref(each) for each in (task, client, asyncio.get_running_loop()))

    with serving_in_thread(Dosed()) as server:
        loops = [new_event_loop()]
        loops[0].run_until_complete(main())
        loops.pop().close()
        for _ in range(3):
            gc.collect()
    assert [each() for each in gone] == [None] * 3
    assert told == ["Task was destroyed but it is pending!"]

"""An exception out of a signal handler, at every point of a call: nothing is left behind.

A handler runs where Python code is entered and where a function in C has returned.  A profile
function is called in the same places and may raise there too, so that each point is met in its
turn and none is left to chance.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any, TypeAlias

import pytest

from protocols.http import AsyncClient, Client, RequestInterruptedError, Response, Timeout
from protocols.http.sync_client import _is_interrupt
from reactor import new_event_loop
from tests.effort import effort
from tests.peers.scripted import Conversation, Server, answer, serving_in_thread
from tests.protocols.http.gate import Handover, check_quiet

STEP = effort(4, 1)
# Where the client's own code runs, and what it stands on while it holds a connection; a dataclass
# is made in a file called <string>.
OURS = ("/protocols/", "/reactor/", "asyncio/timeouts.py", "contextlib.py", "<string>")
# And what renders the content and the query of a request.
PLANNING = ("json/encoder.py", "urllib/parse.py")


async def answers() -> str:
    return "answer"


async def redirects_once(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        method, path, _ = head.split(b" ", 2)
        if method == b"POST":
            await peer.reader.readexactly(4)
        if path == b"/from":
            await peer.send(answer(b"", "Location: /to", status="302 Found"))
        elif path == b"/large":
            await peer.send(answer(bytes(1 << 20)))
        elif path == b"/cookie":
            await peer.send(answer(head.partition(b"Cookie: ")[2].partition(b"\r\n")[0]))
        else:
            await peer.send(answer(path))


def take_its_place(client: Client, server: Server) -> None:
    """Find the only place taken, and wait until the connection that has it is evicted."""
    client.get(server.url("/"))
    client.get(server.url("/other").replace("127.0.0.1", "localhost"))


def reads_a_stream(client: Client, server: Server) -> None:
    with client.stream("GET", server.url("/stream")) as response:
        response.read()


KEPT: list[Response] = []  # by somebody, so that nothing ends because nobody has them any more


def leaves_a_stream(client: Client, server: Server) -> None:
    with client.stream("GET", server.url("/large")) as response:
        KEPT[:] = [response]


def sends_a_stream(client: Client, server: Server) -> None:
    response = client.send(client.build_request("GET", server.url("/large")), stream=True)
    next(response.iter_bytes())
    response.close()


async def reads_and_leaves(client: AsyncClient, server: Server) -> None:
    async with client.stream("GET", server.url("/stream")) as response:
        await response.aread()
    async with client.stream("GET", server.url("/large")) as response:
        KEPT[:] = [response]


# Where an interrupt comes in the caller's own code, behind what it has called of ours.
CALLERS = (reads_a_stream, leaves_a_stream, sends_a_stream, reads_and_leaves)

WAYS: dict[str, tuple[dict[str, Any], Callable[[Client, Server], object]]] = {
    "get": ({}, lambda client, server: client.get(server.url("/"))),
    "post": ({}, lambda client, server: client.post(server.url("/"), content=b"four")),
    "pieces": (
        {},
        lambda client, server: client.post(
            server.url("/"), content=[b"fo", b"ur"], headers={"Content-Length": "4"}
        ),
    ),
    "redirect": (
        {"follow_redirects": True},
        lambda client, server: client.get(server.url("/from")),
    ),
    "phases": (
        {"timeout": Timeout(20, pool=20, connect=20, read=20)},
        lambda client, server: client.get(server.url("/")),
    ),
    "hooks": (
        {"event_hooks": {"response": [lambda response: None]}},
        lambda client, server: client.get(server.url("/")),
    ),
    "wait": ({"max_connections": 1}, take_its_place),
    "stream": ({}, reads_a_stream),
    "left": ({}, leaves_a_stream),
    "sent": ({}, sends_a_stream),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving_in_thread(redirects_once) as server:
        yield server
    KEPT.clear()


class Alarm(Exception):
    """What a limit on the time of a call raises, out of its handler."""


def alarm(number: int, frame: FrameType | None) -> None:
    raise Alarm


@pytest.fixture
def alarms() -> Iterator[None]:
    """A handler of signals that raises an ordinary exception."""
    previous = signal.signal(signal.SIGTERM, alarm)
    yield
    signal.signal(signal.SIGTERM, previous)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


Handler: TypeAlias = Callable[[int, FrameType | None], None]
HANDLERS = (interrupt, alarm)


def of_ours(file: str, more: tuple[str, ...]) -> bool:
    return any(each in file.replace("\\", "/") for each in OURS + more)


def interrupted_at(
    point: int,
    work: Callable[[], object],
    handler: Handler = interrupt,
    more: tuple[str, ...] = (),
) -> str | None:
    """Do *work*, interrupted at its nth point.  Return where that was, ``None`` if never.

    Points are in files of ``OURS`` and *more*.
    """
    passed = 0
    where: str | None = None

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal passed, where
        code = frame.f_code
        if event not in ("call", "c_return") or not of_ours(code.co_filename, more):
            return
        if code.co_filename == __file__ and code not in [each.__code__ for each in CALLERS]:
            return
        if code.co_name == "__del__":
            return  # what is raised there goes nowhere
        passed += 1
        if passed > point:
            returned = f", {argument!r} returned" if event == "c_return" else ""
            where = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}{returned}"
            handler(signal.SIGTERM, frame)

    gc.disable()  # what it calls would be a point too, and what is raised there is lost
    sys.setprofile(look)
    try:
        work()
        assert where is None, f"swallowed at {where}"
    except (KeyboardInterrupt, Alarm):
        assert where is not None
    finally:
        sys.setprofile(None)
        gc.enable()
    return where


# What was made and not begun yet is told, as of any coroutine; and what was opened and nobody has
# yet is closed by the loop's end.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("is_used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("way", WAYS)
def test_interrupted_anywhere_the_client_holds_nothing_and_goes_on(
    way: str, is_used: bool, handler: Handler, server: Server, alarms: None
) -> None:
    options, work = WAYS[way]
    for point in range(len(way) % STEP, 10_000, STEP):
        with Client(trust_env=False, **options) as client:
            if is_used:
                client.get(server.url("/before"))
            where = interrupted_at(point, partial(work, client, server), handler)
            if way == "sent":
                # without a block it is given back with the response, which is in the exception
                client.get(server.url("/after"))
                gc.collect()
            assert client.get(server.url("/after")).content == b"/after", where
            try:
                check_quiet(client)
            except AssertionError as error:
                raise AssertionError(f"interrupted at {where}") from error
        if where is None:
            break
    assert point > 10


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_interrupted_anywhere_in_an_asynchronous_stream_its_connection_is_given_back(
    server: Server,
) -> None:
    for point in range(10_000):
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            loop = runner.get_loop()
            client = AsyncClient(trust_env=False)
            task = loop.create_task(reads_and_leaves(client, server))
            where = interrupted_at(point, partial(loop.run_until_complete, task))
            task.cancel()
            loop.stop()  # which it may have been already
            loop.run_forever()
            runner.run(asyncio.wait([task]))
            del task
            assert runner.run(client.get(server.url("/after"))).content == b"/after", where
            assert client.manager.stats()["leased"] == 0, f"interrupted at {where}"
            runner.run(client.aclose())
        if where is None:
            break
    assert point > 20


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("path", ["/again", "/from"])
def test_interrupted_anywhere_on_the_short_way_the_client_holds_nothing_and_goes_on(
    path: str, server: Server
) -> None:
    """The request is known and a connection there; a redirect has the loop run after all."""
    for point in range(10_000):
        with Client(
            trust_env=False, follow_redirects=True, max_connections=1, cookies={"a": "b"}
        ) as client:
            client.get(server.url(path))
            client._async._cookies._forget_hosts()
            where = interrupted_at(point, lambda client=client: client.get(server.url(path)))  # type: ignore[misc]
            assert client.get(server.url("/after"), timeout=20).content == b"/after", where
            try:
                check_quiet(client)
                assert not client._alone
            except AssertionError as error:
                raise AssertionError(f"interrupted at {where}") from error
        if where is None:
            break
    assert point > 3


def forms_and_fields() -> dict[str, Any]:
    return {"data": {"a": "b c"}, "params": {"q": "\u00e9"}, "headers": {"X-One": "1"}}


# Requests with options, all of them planned before the lead is taken; the last two are not made
# twice: their generators are empty after the first time, and they go the long way at once.
TOLD: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
    "get": ("GET", "/", lambda: {"params": [("a", "b c")], "headers": {"X-One": "1"}}),
    "json": ("POST", "/", lambda: {"json": {"a": [1, "\u00e9"]}, "timeout": 20}),
    "form": ("PUT", "/", forms_and_fields),
    "large": ("POST", "/", lambda: {"content": bytes(100_000)}),
    "moved": ("POST", "/moved", lambda: {"json": 1}),
    "slow": ("POST", "/slow", lambda: {"content": "text", "headers": {"X-One": "1"}}),
    "once": ("GET", "/", lambda: {"headers": (pair for pair in [("X-One", "1")])}),
    "pieces": (
        "POST",
        "/",
        lambda: {"content": iter([b"fo", b"ur"]), "headers": {"Content-Length": "4"}},
    ),
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("is_used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("told", TOLD)
def test_interrupted_anywhere_a_request_with_options_is_sent_once_or_not_at_all(
    told: str, is_used: bool, handler: Handler, alarms: None
) -> None:
    """A *used* client has a connection and goes alone, until it has its loop run for a slow one."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            method, path, _ = head.split(b" ", 2)
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                await peer.reader.readexactly(int(length or 0))
                seen.append((method, path.partition(b"?")[0]))
            if path == b"/slow":
                await handover.wait()
            where_to = "Location: /to" if path == b"/moved" else "X: y"
            status = "307 Temporary Redirect" if path == b"/moved" else "200 OK"
            await peer.send(answer(path, where_to, status=status))

    method, path, options = TOLD[told]
    seen: list[tuple[bytes, bytes]] = []
    step = STEP * 2 if told == "slow" or not is_used else STEP
    with serving_in_thread(script) as server:
        for point in range(len(told) % step, 10_000, step):
            seen.clear()
            handover = Handover()
            with Client(trust_env=False, follow_redirects=True, max_connections=1) as client:
                if is_used:
                    handover.watch(client)
                    client.get(server.url("/before"))
                else:  # its loop runs from the beginning
                    handover.end()
                ask = partial(client.request, method, server.url(path), **options())
                where = interrupted_at(point, ask, handler, PLANNING)
                handover.end()
                for after in (client.get, client.post):  # which may go alone, and do
                    assert after(server.url("/after"), timeout=20).content == b"/after", where
                    try:
                        check_quiet(client)
                        assert not client._alone
                    except AssertionError as error:
                        raise AssertionError(f"interrupted at {where}") from error
            assert len(seen) == len(set(seen)), f"interrupted at {where}"
            if where is None:
                break
    assert point > 20
    assert (method.encode(), path.encode()) in seen


class Over:
    """A call of somebody's that is done and still counts: nobody is alone."""

    done = True


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("alone", [True, False])
def test_interrupted_anywhere_a_reader_of_a_stream_goes_on_and_has_lost_nothing(
    alone: bool, server: Server
) -> None:
    for point in range(0, 10_000, 1 if alone else STEP):
        with Client(trust_env=False) as client:
            if not alone:
                client._calls[Over()] = None
            with client.stream("GET", server.url("/large")) as response:
                pieces = response.iter_bytes()
                got: list[bytes] = []
                where = interrupted_at(point, partial(got.extend, pieces))
                got.extend(pieces)
                assert len(b"".join(got)) == 1 << 20, where
            client._calls.clear()
            check_quiet(client)
        if where is None:
            break
    assert point > (2 if alone else 20)


def test_interrupted_while_cookies_are_rendered_the_next_request_has_them(server: Server) -> None:
    for point in range(10_000):
        with Client(trust_env=False, timeout=20) as client:
            client.cookies.set("a", "1", "127.0.0.1")
            client.get(server.url("/cookie"))
            client.cookies.set("a", "2", "127.0.0.1")
            where = interrupted_at(point, lambda client=client: client.get(server.url("/cookie")))  # type: ignore[misc]
            assert client.get(server.url("/cookie")).text == "a=2", where
        if where is None:
            break
    assert point > 3


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("handler", HANDLERS)
def test_interrupted_anywhere_a_close_is_done_by_the_next(
    handler: Handler, server: Server, alarms: None
) -> None:
    async def lasts() -> None:
        await asyncio.get_running_loop().create_future()

    for point in range(10_000):
        client = Client(trust_env=False)
        client.get(server.url("/before"))
        task = client._loop.create_task(lasts())
        where = interrupted_at(point, client.close, handler, ("asyncio/tasks.py",))
        client.close()
        assert client._loop.is_closed(), where
        assert task.cancelled(), where
        if where is None:
            break
    assert point > 20


def check_that_one_thread_is_told(
    threads: ThreadPoolExecutor,
    strike: Callable[[], Coroutine[Any, Any, None]],
    kind: type[BaseException],
    again: bool,
) -> None:
    """Have this thread lead as another one's call is struck: it is told, and the other goes on."""
    tries = 0
    followers: list[Future[str]] = []

    async def follow() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await strike()
        return "done"

    async def lead() -> None:
        followers.append(threads.submit(client._run, follow, again=again))
        await asyncio.get_running_loop().create_future()

    with Client() as client:
        with pytest.raises(kind):
            client._run(lead)
        if again:
            assert followers[0].result(20) == "done"
        else:
            with pytest.raises(RequestInterruptedError):
                followers[0].result(20)
        assert tries == 1 + again
        check_quiet(client)


@pytest.mark.parametrize("again", [True, False])
def test_alarm_within_anothers_call_is_raised_by_who_runs_the_loop(
    again: bool, alarms: None, threads: ThreadPoolExecutor
) -> None:
    async def strike() -> None:
        signal.raise_signal(signal.SIGTERM)

    check_that_one_thread_is_told(threads, strike, Alarm, again)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_that_was_raised_is_not_raised_by_the_next_leader_too(
    again: bool, kind: type[BaseException], threads: ThreadPoolExecutor
) -> None:
    """It is met again as the result of a task that it ended, as of one that opens a connection."""

    async def opens() -> None:
        raise kind

    async def strike() -> None:
        await asyncio.get_running_loop().create_task(opens())

    check_that_one_thread_is_told(threads, strike, kind, again)


def test_alarm_within_a_callback_of_the_loop_ends_the_call(
    alarms: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Another exception there ends nothing and is logged, as any loop's."""

    def fails() -> None:
        raise LookupError("on purpose")

    async def lasts() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(fails)
        loop.call_later(0.001, signal.raise_signal, signal.SIGTERM)
        await loop.create_future()

    with Client() as client:
        with pytest.raises(Alarm):
            client._run(lasts)
        assert client._run(answers) == "answer"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


def test_what_is_raised_after_an_alarm_was_caught_is_no_interrupt(alarms: None) -> None:
    def fails() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Alarm:
            raise LookupError  # noqa: B904 - that has the alarm as its context

    with pytest.raises(LookupError) as raised:
        fails()
    assert isinstance(raised.value.__context__, Alarm)
    assert _is_interrupt(raised.value.__context__)
    assert not _is_interrupt(raised.value)


def test_alarm_that_nobody_can_raise_is_logged_and_strikes_no_later_call(
    alarms: None, threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """No thread runs the loop: it comes out of the collector, say; or another than the main one."""
    with pytest.raises(Alarm) as raised:
        signal.raise_signal(signal.SIGTERM)
    context = {"message": "on purpose", "exception": raised.value}

    async def meets_it() -> str:
        asyncio.get_running_loop().call_exception_handler(context)
        return "answer"

    with Client() as client:
        client._loop.call_exception_handler(context)
        assert client._run(answers) == "answer"
        assert threads.submit(client._run, meets_it).result(20) == "answer"
        assert client._run(answers) == "answer"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Alarm] * 2


@pytest.mark.parametrize("kind", ["function", "method", "object", "partial", "standard"])
def test_handlers_of_every_kind_are_known(kind: str) -> None:
    class Raises:
        def method(self, number: int, frame: FrameType | None) -> None:
            raise Alarm

        def __call__(self, number: int, frame: FrameType | None) -> None:
            raise Alarm

    handlers: dict[str, Handler] = {
        "function": alarm,
        "method": Raises().method,
        "object": Raises(),
        "partial": partial(partial(alarm)),
        "standard": signal.default_int_handler,
    }
    previous = signal.signal(signal.SIGTERM, handlers[kind])
    try:
        with pytest.raises((Alarm, KeyboardInterrupt)) as raised:
            signal.raise_signal(signal.SIGTERM)
        assert _is_interrupt(raised.value)
        assert not _is_interrupt(Alarm())
    finally:
        signal.signal(signal.SIGTERM, previous)

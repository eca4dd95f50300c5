"""A lone thread that reads a streamed body runs no loop for it, and loses no piece."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import queue
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from protocols.http import Client, IncompleteResponseError, Response, Timeout
from reactor import EndpointTimeoutError
from tests.peers.scripted import Conversation, answer, serving_in_thread
from tests.protocols.http.gate import Gate, check_quiet, counts, interrupted_by

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = random.Random(7).randbytes(700_000)
TEXT = b"".join(b"line %d\r\n" % number for number in range(20_000))


async def says_the_body(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        path = head.split(b" ")[1]
        if path == b"/text":
            await peer.send(answer(gzip.compress(TEXT), "Content-Encoding: gzip"))
        elif path == b"/last":
            await peer.send(answer(BODY, "Connection: close"))
        elif path == b"/short":
            await peer.send(answer(BODY)[:-1])
            return
        else:
            await peer.send(answer(BODY))


class Dosed:
    """A script that sends a piece when another thread says so; the body ends with an empty one."""

    def __init__(self) -> None:
        self.doses: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    async def __call__(self, peer: Conversation) -> None:
        await peer.request()
        await peer.send(HEAD)
        while piece := await asyncio.to_thread(self.doses.get):
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await peer.send(b"0\r\n\r\n")
        await peer.until_closed()


@contextlib.contextmanager
def streamed() -> Iterator[tuple[Dosed, Client, Iterator[bytes]]]:
    """Give the script of a server, a client, and the pieces of a body that the two stream."""
    script = Dosed()
    with (
        serving_in_thread(script) as server,
        Client() as client,
        client.stream("GET", server.url()) as response,
    ):
        yield script, client, response.iter_bytes()


def refuse(*_: Any) -> Any:
    raise AssertionError("the loop was run")


def lines(response: Response) -> Iterator[bytes]:
    return (line.encode() + b"\r\n" for line in response.iter_lines())


@pytest.mark.parametrize(
    ("path", "read", "body"),
    [
        ("/", Response.iter_bytes, BODY),
        ("/", Response.iter_raw, BODY),
        ("/", lambda response: response.iter_bytes(1_000), BODY),
        ("/", lambda response: [response.read()], BODY),
        ("/text", Response.iter_bytes, TEXT),
        ("/text", lambda response: map(str.encode, response.iter_text()), TEXT),
        ("/text", lines, TEXT),
    ],
    ids=["bytes", "raw", "chunks", "read", "decoded", "text", "lines"],
)
def test_body_is_read_without_the_loop(
    monkeypatch: pytest.MonkeyPatch, path: str, read: Callable[[Response], Any], body: bytes
) -> None:
    """Twenty milliseconds without a byte are a reason to run it: a busy machine may need more."""
    runs: list[int] = []
    with serving_in_thread(says_the_body) as server, Client() as client:
        while 0 not in runs and len(runs) < 20:
            with client.stream("GET", server.url(path)) as response:
                with monkeypatch.context() as patch:
                    patch.setattr(client, "_run", counted := Counted(client._run))
                    assert b"".join(read(response)) == body
                runs.append(counted.calls)
                check_quiet(client)
        assert server.connections == 1
    assert 0 in runs


class Counted:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self._function(*args, **options)


def test_block_of_a_body_that_was_read_ends_without_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving_in_thread(says_the_body) as server, Client() as client:
        with client.stream("GET", server.url()) as response:
            response.read()
            monkeypatch.setattr(client, "_run", refuse)
        monkeypatch.undo()
        assert counts(client)["idle"] == 1


def test_connection_that_is_to_be_closed_is_closed_with_its_body() -> None:
    with (
        serving_in_thread(says_the_body) as server,
        Client() as client,
        client.stream("GET", server.url("/last")) as response,
    ):
        assert response.read() == BODY
        check_quiet(client)
        assert counts(client)["idle"] == 0
        assert (client._loop.poller.live_ops, client._loop.ready_count) == (0, 0)


def test_body_that_breaks_off_raises_and_costs_the_connection() -> None:
    with serving_in_thread(says_the_body) as server, Client() as client:
        for _ in range(3):
            got: list[bytes] = []
            with client.stream("GET", server.url("/short")) as response:
                with pytest.raises(IncompleteResponseError):
                    got.extend(response.iter_bytes())
                check_quiet(client)
            assert b"".join(got) == BODY[:-1]
        assert counts(client)["idle"] == 0


def test_piece_that_takes_its_time_is_waited_for_by_the_loop() -> None:
    with streamed() as (script, client, pieces):
        run, begun = client._run, threading.Event()

        def watched(*args: Any, **options: Any) -> Any:
            script.doses.put(b"late")
            begun.set()
            return run(*args, **options)

        client._run = watched  # type: ignore[method-assign]
        assert next(pieces) == b"late"
        assert begun.is_set()
        client._run = run  # type: ignore[method-assign]
        script.doses.put(b"")
        assert list(pieces) == []
        check_quiet(client)


@pytest.mark.parametrize("timeout", [Timeout(20, read=0.1), Timeout(0.3)], ids=["read", "total"])
def test_timeouts_end_the_wait_for_a_piece(timeout: Timeout) -> None:
    script = Dosed()
    with serving_in_thread(script) as server, Client() as client:
        with client.stream("GET", server.url(), timeout=timeout) as response:
            pieces = response.iter_bytes()
            script.doses.put(b"one")
            assert next(pieces) == b"one"
            with pytest.raises(EndpointTimeoutError):
                next(pieces)
            check_quiet(client)
        script.doses.put(b"")


@pytest.mark.raises_in_signal_handler
def test_no_piece_is_lost_by_an_interrupt_while_nothing_comes() -> None:
    with streamed() as (script, client, pieces):
        for piece in (b"one", b"two", b"three"):
            with interrupted_by(lambda: None):
                next(pieces)
            assert client._leader is None
            script.doses.put(piece)
            assert next(pieces) == piece
        script.doses.put(b"")
        assert list(pieces) == []
        check_quiet(client)


def test_other_threads_get_their_answers_while_a_piece_is_waited_for(
    gate: Gate, threads: ThreadPoolExecutor
) -> None:
    script = Dosed()
    with serving_in_thread(script) as server, Client() as client:
        with client.stream("GET", server.url()) as response:
            pieces = response.iter_bytes()
            for number in range(20):
                reading = threads.submit(next, pieces)
                assert client.get(gate.server.url("/now")).content == b"/now"
                script.doses.put(b"%d" % number)
                assert reading.result(20) == b"%d" % number
            script.doses.put(b"")
            assert threads.submit(list, pieces).result(20) == []
        check_quiet(client)


def test_threads_that_stream_at_once_get_each_its_own(threads: ThreadPoolExecutor) -> None:
    with serving_in_thread(says_the_body) as server, Client() as client:

        def work(worker: int) -> None:
            for number in range(10):
                with client.stream("GET", server.url("/text" if worker % 2 else "/")) as response:
                    pieces = response.iter_bytes(1 << (10 + number % 3))
                    assert b"".join(pieces) == (TEXT if worker % 2 else BODY)

        list(threads.map(work, range(4)))
        check_quiet(client)
        assert server.connections <= 4


def test_closing_by_another_thread_ends_the_wait_for_a_piece(threads: ThreadPoolExecutor) -> None:
    script = Dosed()
    with serving_in_thread(script) as server, Client() as client:
        response = client.send(client.build_request("GET", server.url()), stream=True)
        pieces = response.iter_bytes()
        script.doses.put(b"one")
        assert next(pieces) == b"one"
        reading = threads.submit(list, pieces)
        response.close()
        with pytest.raises(RuntimeError):
            reading.result(20)
        script.doses.put(b"")
        check_quiet(client)

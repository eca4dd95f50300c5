"""HTTPProtocol: call-backs in order, over TCP and TLS, whatever they do to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import http
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import reactor
from protocols.http import Headers, HTTPProtocol, InvalidHeader, RemoteProtocolError, ResponseLimits
from protocols.http.errors import ResponseLimitError
from reactor import ConnectionLostError, EndpointTimeoutError, client_context, new_event_loop
from tests.peers.scripted import OK, Authority, Conversation, Server, answer, run, serving, settle

CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n"
)


class Recorder(HTTPProtocol):
    """Writes down each call-back, and in each does what the test wants."""

    def __init__(self, does: dict[str, Callable[[Any], None]] | None = None) -> None:
        super().__init__("peer.example", 80)
        self.does = does or {}
        self.seen: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, name: str, *what: Any) -> None:
        self.seen.append((name, *what))
        if name in self.does:
            self.does[name](self)

    @property
    def names(self) -> list[str]:
        return [each[0] for each in self.seen]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.note("connection_made")

    def informational_received(self, status_code: int, headers: Any) -> None:
        self.note("informational", status_code)

    def head_received(self, status_code: int, headers: Any) -> None:
        self.note("head", status_code)

    def body_received(self, data: bytes) -> None:
        self.note("body", data)

    def response_complete(self) -> None:
        self.note("complete", self.reusable)

    def request_failed(self, error: Any) -> None:
        self.note("failed", type(error))
        self.error = error

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            super().connection_lost(exc)
        finally:
            self.lost.set_result(None)


async def meet(server: Server, does: dict[str, Any], tls: Any = None) -> Recorder:
    """Connect a recorder and return it once its connection is lost."""
    _, protocol = await reactor.connect(lambda: Recorder(does), "127.0.0.1", server.port, tls=tls)
    await protocol.lost
    return protocol


def ask(protocol: HTTPProtocol) -> None:
    protocol.request("GET", "/")


@pytest.fixture(params=["tcp", "tls"])
def contexts(request: pytest.FixtureRequest, authority: Authority) -> tuple[Any, Any]:
    """Return the server's and the client's context, or twice nothing."""
    if request.param == "tcp":
        return (None, None)
    return (authority.server(), client_context(ca_pem=authority.pem))


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


def repeats(data: bytes, split: bool = False) -> Callable[[Conversation], Awaitable[None]]:
    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            await (peer.send_slowly(data) if split else peer.send(data))

    return script


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_several_requests_in_a_row_from_response_complete(contexts: Contexts, split: bool) -> None:
    def again(protocol: Recorder) -> None:
        if protocol.exchanges < 5:
            ask(protocol)
        else:
            protocol.transport.close()

    async def main() -> None:
        async with serving(repeats(CHUNKED, split), tls=contexts[0]) as server:
            does = {"connection_made": ask, "complete": again}
            protocol = await meet(server, does, contexts[1])
            assert [each for each in protocol.seen if each[0] != "body"] == [
                ("connection_made",),
                *[("informational", 103), ("head", 200), ("complete", True)] * 5,
            ]
            assert b"".join(each[1] for each in protocol.seen if each[0] == "body") == b"ok!" * 5
            assert server.connections == 1

    run(main())


def close(protocol: HTTPProtocol) -> None:
    protocol.transport.close()


def abort(protocol: HTTPProtocol) -> None:
    protocol.transport.abort()


FULL = ["connection_made", "informational", "head", "body", "complete"]


@pytest.mark.parametrize("end", [close, abort])
@pytest.mark.parametrize("where", FULL)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_close_in_a_callback_is_the_last_that_is_told(
    contexts: Contexts, end: Callable[[HTTPProtocol], None], where: str, split: bool
) -> None:
    """However the segments were cut: nothing after the close, but that the request failed."""

    def begin(protocol: Recorder) -> None:
        ask(protocol)
        if where == "connection_made":
            end(protocol)

    async def main() -> None:
        async with serving(repeats(CHUNKED, split), tls=contexts[0]) as server:
            does = {where: end, "connection_made": begin}
            protocol = await meet(server, does, contexts[1])
            expected = FULL[: FULL.index(where) + 1]
            if where == "complete":
                assert list(dict.fromkeys(protocol.names)) == expected
            else:
                assert protocol.names == [*expected, "failed"]
                assert isinstance(protocol.error, ConnectionLostError)
                assert "read peer.example:80" in str(protocol.error)
            with pytest.raises(RuntimeError, match="cannot carry"):
                ask(protocol)

    run(main())


class Mine(Exception):
    pass


def fail(_: Any) -> None:
    raise Mine


def reported_by(main: Any) -> list[BaseException | None]:
    """Run *main* and return the exceptions that reached the loop's handler."""
    loop = new_event_loop()
    reported: list[BaseException | None] = []
    loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
    try:
        loop.run_until_complete(main)
        settle(loop)
        assert not any(loop.stats().values()), loop.stats()
    finally:
        loop.close()
    return reported


@pytest.mark.parametrize("where", ["informational", "head", "body", "complete"])
def test_exception_in_a_callback_is_reported_and_ends_the_connection(
    contexts: Contexts, where: str
) -> None:
    async def main() -> None:
        async with serving(repeats(CHUNKED), tls=contexts[0]) as server:
            does = {"connection_made": ask, where: fail}
            protocol = await meet(server, does, contexts[1])
            assert protocol.names[-1] == ("complete" if where == "complete" else "failed")
            assert protocol.names.count(where) == 1
            if where != "complete":
                assert isinstance(protocol.error.__cause__, Mine)

    assert [type(each) for each in reported_by(main())] == [Mine]


def test_exception_in_connection_made_is_reported(contexts: Contexts) -> None:
    async def main() -> None:
        async with serving(repeats(OK), tls=contexts[0]) as server:
            _, protocol = await reactor.connect(
                lambda: Recorder({"connection_made": fail}), "127.0.0.1", server.port,
                tls=contexts[1],
            )  # fmt: skip
            ask(protocol)  # the connection stands
            protocol.does["complete"] = close
            await protocol.lost
            assert protocol.names == ["connection_made", "head", "body", "complete"]

    assert [type(each) for each in reported_by(main())] == [Mine]


@pytest.mark.parametrize("cause", ["garbage", "deadline", "eof", "reset"])
def test_exception_in_request_failed_is_reported_and_the_loop_goes_on(
    contexts: Contexts, cause: str
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        if cause == "garbage":
            await peer.send(b"garbage\r\n")
        elif cause == "reset":
            peer.reset()
        if cause != "eof":
            await peer.until_closed()

    def begin(protocol: Recorder) -> None:
        protocol.request("GET", "/", timeout=0.02 if cause == "deadline" else 20)

    async def main() -> None:
        async with serving(script, tls=contexts[0]) as server:
            protocol = await meet(server, {"connection_made": begin, "failed": fail}, contexts[1])
            assert protocol.names == ["connection_made", "failed"]

    assert [type(each) for each in reported_by(main())] == [Mine]


@pytest.mark.parametrize("where", ["informational", "head", "body"])
def test_second_request_while_one_is_under_way_raises(where: str) -> None:
    refused = []

    def ask_again(protocol: HTTPProtocol) -> None:
        with pytest.raises(RuntimeError, match="under way"):
            ask(protocol)
        refused.append(where)

    def begin(protocol: HTTPProtocol) -> None:
        ask(protocol)
        ask_again(protocol)

    async def main() -> None:
        async with serving(repeats(CHUNKED)) as server:
            does = {"connection_made": begin, where: ask_again, "complete": close}
            protocol = await meet(server, does)
            assert ("complete", True) in protocol.seen

    run(main())
    assert len(refused) >= 2


@pytest.mark.parametrize(
    "data", [OK + b"x", OK + OK, answer(b"", "Connection: close"), b"HTTP/1.0 204 No\r\n\r\n"]
)
def test_connection_that_may_not_be_reused_says_so_and_closes(data: bytes) -> None:
    def again(protocol: HTTPProtocol) -> None:
        with pytest.raises(RuntimeError, match="cannot carry"):
            ask(protocol)

    async def main() -> None:
        async with serving(repeats(data)) as server:
            protocol = await meet(server, {"connection_made": ask, "complete": again})
            assert protocol.seen[-1] == ("complete", False)

    run(main())


def test_method_of_the_standard_library_is_a_method() -> None:
    seen: list[bytes | None] = []

    def begin(protocol: HTTPProtocol) -> None:
        protocol.request(http.HTTPMethod.OPTIONS, "/x")

    async def script(peer: Conversation) -> None:
        seen.append(await peer.request())
        await peer.send(OK)

    async def main() -> None:
        async with serving(script) as server:
            await meet(server, {"connection_made": begin})

    run(main())
    assert seen[0] is not None
    assert seen[0].startswith(b"OPTIONS /x HTTP/1.1\r\n")


def test_deadline_fails_the_request_and_closes(contexts: Contexts) -> None:
    def begin(protocol: HTTPProtocol) -> None:
        protocol.request("GET", "/", timeout=0.02)

    async def main() -> None:
        async with serving(repeats(b"HTTP/1.1 200 OK\r\n"), tls=contexts[0]) as server:
            protocol = await meet(server, {"connection_made": begin}, contexts[1])
            assert isinstance(protocol.error, EndpointTimeoutError)
            assert "read peer.example:80" in str(protocol.error)

    run(main())


def test_deadline_of_one_request_does_not_end_the_next() -> None:
    def begin(protocol: HTTPProtocol) -> None:
        protocol.request("GET", "/", timeout=20)

    def again(protocol: HTTPProtocol) -> None:
        loop: Any = asyncio.get_running_loop()
        assert loop.stats()["timers"] == 0
        close(protocol)

    async def main() -> None:
        async with serving(repeats(OK)) as server:
            await meet(server, {"connection_made": begin, "complete": again})

    run(main())


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 1e10])
def test_long_timeout_is_no_limit(timeout: float) -> None:
    def begin(protocol: HTTPProtocol) -> None:
        protocol.request("GET", "/", timeout=timeout)

    async def main() -> None:
        async with serving(repeats(OK)) as server:
            protocol = await meet(server, {"connection_made": begin, "complete": close})
            assert ("complete", True) in protocol.seen

    run(main())


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_bad_timeout_raises(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        HTTPProtocol("h", 80).request("GET", "/", timeout=timeout)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [("GET X", "/", {}), ("", "/", {}), ("GET", "/ x", {}), ("GET", "/\r\n", {}),
     ("GET", "/", {"X": "a\r\nb"}), ("GET", "/", {"X\n": "a"}), ("GET", "", {})],
)  # fmt: skip
def test_string_that_may_not_be_sent_raises(method: str, target: str, headers: Any) -> None:
    with pytest.raises(InvalidHeader):
        HTTPProtocol("h", 80).request(method, target, headers)


def test_request_before_and_after_the_connection_raises() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot carry"):
            ask(Recorder())
        async with serving(repeats(OK)) as server:
            protocol = await meet(server, {"connection_made": ask, "complete": close})
            with pytest.raises(RuntimeError, match="cannot carry"):
                ask(protocol)

    run(main())


def test_subclass_that_forgets_its_base_class_cannot_crash() -> None:
    class Forgetful(HTTPProtocol):
        def __init__(self, name: str, *, lost: Any) -> None:  # no super().__init__
            self.name = name
            self.lost = lost

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

    async def main() -> None:
        lost = asyncio.get_running_loop().create_future()
        async with serving(repeats(OK)) as server:
            transport, protocol = await reactor.connect(
                lambda: Forgetful("x", lost=lost), "127.0.0.1", server.port
            )
            assert (protocol.host, protocol.port, protocol.name) == ("", 0, "x")
            transport.abort()
            await lost
            with pytest.raises(RuntimeError, match="cannot carry"):
                protocol.request("GET", "/", host="x")

    run(main())


def test_host_field_names_the_port_and_brackets_ipv6() -> None:
    assert HTTPProtocol("example.com", 8080).host_field() == "example.com:8080"
    assert HTTPProtocol("::1", 80).host_field() == "[::1]:80"
    assert HTTPProtocol("example.com").host_field() == "example.com"


def test_limits_are_the_protocols_own() -> None:
    class Strict(Recorder):
        def __init__(self) -> None:
            super().__init__({"connection_made": ask})
            HTTPProtocol.__init__(self, "peer.example", 80, ResponseLimits(max_headers=1))

    async def main() -> None:
        async with serving(repeats(answer(b"", "A: b"))) as server:
            _, protocol = await reactor.connect(Strict, "127.0.0.1", server.port)
            await protocol.lost
            assert isinstance(protocol.error, ResponseLimitError)
            assert isinstance(protocol.error, RemoteProtocolError)

    run(main())


def test_protocol_that_is_garbage_with_its_deadline_armed_leaves_no_timer() -> None:
    """Reading is paused, so that no op holds the connection: it goes as a cycle."""

    class Dropped(HTTPProtocol):
        def head_received(self, status_code: int, headers: Any) -> None:
            self.transport.pause_reading()
            arrived.set()

    arrived = asyncio.Event()

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with serving(repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as server:
            transport, protocol = await reactor.connect(Dropped, "127.0.0.1", server.port)
            protocol.request("GET", "/", host="x", timeout=20)
            await arrived.wait()
            await asyncio.sleep(0)
            assert loop.stats()["timers"] == 1
            del transport, protocol
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            assert loop.stats()["timers"] == 0

    run(main())


def test_stock_event_loop_is_refused() -> None:
    factory: Any = lambda: HTTPProtocol("h", 80)  # noqa: E731 - not asyncio's base class

    async def main() -> list[BaseException | None]:
        reported: list[BaseException | None] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        async with serving(repeats(OK)) as server:
            transport, protocol = await loop.create_connection(factory, "127.0.0.1", server.port)
            with pytest.raises(RuntimeError, match="cannot carry"):
                ask(protocol)
            transport.abort()
            await asyncio.sleep(0)
        return reported

    assert [type(each) for each in asyncio.run(main())] == [TypeError]


# -- the head that is kept -----------------------------------------------------------------------


def test_head_is_the_last_ones_only_for_the_same_request() -> None:
    fields = {"X": "1"}
    same = Headers(fields)
    requests: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("GET", "/"), {}),
        (("GET", "/"), {}),
        (("HEAD", "/"), {}),
        (("HEAD", "/b"), {}),
        (("HEAD", "/b"), {"host": "other.example"}),
        (("HEAD", "/b"), {}),
        (("HEAD", "/b", same), {}),
        (("HEAD", "/b", same), {}),
        (("HEAD", "/b", fields), {}),
        (("HEAD", "/b", fields), {}),
        (("HEAD", "/b"), {"content": b""}),
        (("HEAD", "/b"), {}),
    ]
    left = iter(requests)
    heads: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            await peer.send(OK if head.startswith(b"GET") else OK[:-2])

    def go_on(protocol: Recorder) -> None:
        try:
            args, options = next(left)
        except StopIteration:
            protocol.transport.close()
            return
        fields["X"] += "1"
        protocol.request(*args, **options)

    async def main() -> None:
        async with serving(script) as server:
            await meet(server, {"connection_made": go_on, "complete": go_on})

    run(main())
    host = b"Host: peer.example:80\r\n"
    assert heads == [
        b"GET / HTTP/1.1\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"\r\n",
        b"HEAD / HTTP/1.1\r\n" + host + b"\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"\r\n",
        b"HEAD /b HTTP/1.1\r\nHost: other.example\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"X: 1\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"X: 1\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"X: 1111111111\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"X: 11111111111\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n",
        b"HEAD /b HTTP/1.1\r\n" + host + b"\r\n",
    ]


def test_head_that_is_kept_does_not_hide_a_string_that_must_not_be_sent() -> None:
    def twice(protocol: Recorder) -> None:
        ask(protocol)

    def bad(protocol: Recorder) -> None:
        for target in ("/ x", "/\r\nX: y"):
            with pytest.raises(InvalidHeader):
                protocol.request("GET", target)
        with pytest.raises(InvalidHeader):
            protocol.request("GET", "/", {"Content-Length": "1"})
        protocol.transport.close()

    async def main() -> None:
        async with serving(repeats(OK)) as server:
            protocol = await meet(server, {"connection_made": twice, "complete": bad})
            assert protocol.names == ["connection_made", "head", "body", "complete"]

    run(main())


def test_call_backs_may_be_given_to_the_object_before_its_connection_is_made() -> None:
    async def main() -> None:
        seen: list[Any] = []

        class Plain(HTTPProtocol):
            def response_complete(self) -> None:
                self.transport.close()

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.set_result(None)

            def itself(self) -> Any:
                return self

        async with serving(repeats(OK)) as server:
            for hears in (True, False):
                lost = asyncio.get_running_loop().create_future()
                plain: Any = Plain("peer.example")
                if hears:
                    plain.head_received = lambda status, headers: seen.append(status)
                    plain.body_received = seen.append
                await reactor.connect(plain.itself, "127.0.0.1", server.port)
                plain.request("GET", "/")
                await lost
        assert seen == [200, b"ok"]

    run(main())


def test_segment_that_ends_in_an_exception_leaves_the_connections_context() -> None:
    def fail(protocol: Recorder) -> None:
        SEEN.set("mine")
        raise ZeroDivisionError

    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with serving(repeats(OK)) as server:
            protocol = await meet(server, {"connection_made": ask, "head": fail})
            assert protocol.names == ["connection_made", "head", "failed"]
            assert SEEN.get() == "unset"
            assert [type(each["exception"]) for each in told] == [ZeroDivisionError]

    run(main())


# -- context, exits, misuse ---------------------------------------------------------------------

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="unset")

WAYS = {
    "complete": CHUNKED,
    "read to the close": b"HTTP/1.0 200 OK\r\n\r\nbody",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbody",
    "malformed": b"nonsense\r\n\r\n",
    "reset": b"HTTP/1.1 200 OK\r\nContent-Length: 98\r\n\r\nbody",
    "timeout": b"HTTP/1.1 200 OK\r\nContent-Length: 97\r\n\r\nbody",
}


@pytest.mark.parametrize("way", WAYS)
def test_every_call_back_runs_in_the_connections_context(contexts: Contexts, way: str) -> None:
    seen: list[tuple[str, str]] = []

    class Contextual(Recorder):
        def connection_made(self, transport: Any) -> None:
            SEEN.set("mine")
            super().connection_made(transport)
            self.request("GET", "/", timeout=0.05 if way == "timeout" else 20)

        def note(self, name: str, *what: Any) -> None:
            super().note(name, *what)
            seen.append((name, SEEN.get()))
            if name == "complete":
                self.transport.close()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(WAYS[way])
        if way == "reset":
            peer.reset()
        elif way in ("complete", "timeout"):
            await peer.until_closed()

    async def main() -> None:
        async with serving(script, tls=contexts[0]) as server:
            _, protocol = await reactor.connect(
                Contextual, "127.0.0.1", server.port, tls=contexts[1]
            )
            await protocol.lost
        assert [each for _, each in seen] == ["mine"] * len(seen), seen
        assert ("complete", "mine") in seen or ("failed", "mine") in seen
        assert SEEN.get() == "unset"

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["informational", "head", "body"])
def test_exit_out_of_a_call_back_fails_the_exchange_whose_bytes_are_lost(
    where: str, kind: type[BaseException]
) -> None:
    def leave(protocol: Recorder) -> None:
        raise kind

    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder({"connection_made": ask, where: leave}))
        return made[0]

    async def main() -> None:
        await loop.create_connection(factory, sock=ours)
        theirs.send(CHUNKED)
        await made[0].lost

    with contextlib.closing(loop), theirs:
        with pytest.raises(kind):
            loop.run_until_complete(main())
        settle(loop)
        assert made[0].names[-2:] == [where, "failed"]
        assert isinstance(made[0].error, ConnectionLostError)
        assert made[0].lost.done()


def test_transport_that_is_none_of_ours_raises_instead_of_crashing() -> None:
    async def main() -> None:
        async with serving(repeats(OK)) as server:
            transport, protocol = await reactor.connect(HTTPProtocol, "127.0.0.1", server.port)
            protocol.transport = object()
            with pytest.raises(TypeError, match="Transport"):
                protocol.request("GET", "/", host="x")
            assert protocol.is_idle
            transport.abort()
            await asyncio.sleep(0)

    run(main())


def test_connection_made_that_was_not_called_raises_instead_of_crashing() -> None:
    class Forgetful(HTTPProtocol):
        def connection_made(self, transport: Any) -> None:
            pass

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    lost: list[Exception | None] = []
    reported: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        async with serving(lambda peer: peer.send(b"x" * 100_000)) as server:
            await reactor.connect(Forgetful, "127.0.0.1", server.port)
            while not lost:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        loop.set_exception_handler(None)

    run(main())
    assert len(reported) == 1
    assert "connection_made" in str(reported[0]["exception"])

"""What AsyncClient raises when the peer, the network or a certificate is at fault."""

from __future__ import annotations

import datetime as dt
import gc
import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Client,
    IncompleteResponseError,
    PasswordAuth,
    RemoteProtocolError,
    ResponseError,
    Retry,
    Timeout,
)
from protocols.http.errors import DecodingError, MalformedContent
from reactor import (
    ConnectionLostError,
    ConnectRefusedError,
    ResolveError,
    TLSCertificateError,
    TLSError,
    TLSTruncatedError,
)
from tests.peers.scripted import (
    OK,
    Authority,
    Conversation,
    answer,
    on_reactor,
    refusing_port,
    run,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import always_ok, ends, says, says_and_closes
from tests.protocols.http.client_checks import (
    NOTHING,
    check_failure,
    check_no_cycle,
    counts,
    failure_of,
    passes,
)
from tests.protocols.http.corpus import BEYOND_A_LIMIT, REFUSED, Case

pytestmark = pytest.mark.usefixtures("nothing_is_told")


@on_reactor
async def test_unknown_host() -> None:
    error = await failure_of("http://does-not-exist.invalid:81/")
    check_failure(error, 81, "resolve", ResolveError, socket.gaierror, OSError)
    assert "does-not-exist.invalid" in str(error)
    assert isinstance(error.__cause__, socket.gaierror)


@on_reactor
async def test_refused_port() -> None:
    with refusing_port() as port:
        error = await failure_of(f"http://127.0.0.1:{port}/")
        check_failure(error, port, "connect", ConnectRefusedError, ConnectionRefusedError)
        assert isinstance(error.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("fault", ["untrusted", "wrong name", "expired"])
def test_certificate_that_does_not_verify(
    fault: str, authority: Authority, trusting: ssl.SSLContext
) -> None:
    names = ("elsewhere.example",) if fault == "wrong name" else ()
    options: dict[str, Any] = {}
    if fault == "expired":
        options["not_after"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        options["not_before"] = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    context = authority.server(*names, **options)
    tls: dict[str, Any] = {} if fault == "untrusted" else {"tls": trusting}

    async def main() -> None:
        async with serving(always_ok, tls=context) as server:
            error = await failure_of(server.url(), **tls)
            check_failure(
                error, server.port, "tls", TLSCertificateError, ssl.SSLCertVerificationError
            )
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)

    run(main())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("garbage", b"\0\1\2garbage, and more of it than a record's head"),
        ("http", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ("alert", b"\x15\x03\x03\x00\x02\x02\x28"),
    ],
)
def test_tls_port_that_does_not_speak_tls(name: str, data: bytes, trusting: ssl.SSLContext) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(data)
        await peer.until_closed()

    async def main() -> None:
        async with serving(script) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, tls=trusting)
            check_failure(error, server.port, "tls", TLSError, ssl.SSLError)
            assert isinstance(error.__cause__, ssl.SSLError)

    run(main())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_tls_port_that_closes_in_the_handshake(how: str, trusting: ssl.SSLContext) -> None:
    async def script(peer: Conversation) -> None:
        await peer.reader.read(10)
        ends(peer, how)

    async def main() -> None:
        async with serving(script) as server:
            url = f"https://127.0.0.1:{server.port}/"
            error = await failure_of(url, tls=trusting)
            check_failure(error, server.port, "tls", TLSError, ssl.SSLError)
            assert isinstance(error.__cause__, ConnectionError)

    run(main())


GARBAGE = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "version": b"HTTP/2.0 200 OK\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
@on_reactor
async def test_answer_that_is_not_http(name: str) -> None:
    async with serving(says(GARBAGE[name])) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", RemoteProtocolError, ConnectionError)
        assert error.__cause__ is not None


CUT = {
    "head": b"HTTP/1.1 200 OK\r\nConte",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nsome",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
}


@pytest.mark.parametrize("where", CUT)
@on_reactor
async def test_end_in_the_middle_of_a_response(where: str) -> None:
    async with serving(says_and_closes(CUT[where])) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", IncompleteResponseError, ConnectionError)
        assert isinstance(error, IncompleteResponseError)
        if where == "body":
            assert (error.received, error.expected) == (4, 9)


@pytest.mark.parametrize("where", [*CUT, "until close"])
@on_reactor
async def test_reset_in_the_middle_of_a_response(where: str) -> None:
    data = CUT.get(where, b"HTTP/1.1 200 OK\r\n\r\nsome")

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(data)
        await passes(5)
        peer.reset()

    async with serving(script) as server:
        error = await failure_of(server.url())
        check_failure(error, server.port, "read", ConnectionLostError, ConnectionResetError)
        assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize("where", [*CUT, "until close"])
def test_tls_that_ends_without_close_notify_in_a_response(
    where: str, authority: Authority, trusting: ssl.SSLContext
) -> None:
    data = CUT.get(where, b"HTTP/1.1 200 OK\r\n\r\nsome")

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(data)
        await passes(5)
        peer.cut()
        await peer.until_closed()

    async def main() -> None:
        async with serving(script, tls=authority.server()) as server:
            error = await failure_of(server.url(), tls=trusting)
            check_failure(error, server.port, "read", TLSTruncatedError, ssl.SSLEOFError)
            assert isinstance(error.__cause__, ssl.SSLEOFError)

    run(main())


@pytest.mark.parametrize(
    "case",
    # a used connection that is closed without a byte is stale, and the request sent again
    [each for each in REFUSED + BEYOND_A_LIMIT if each.data and each.request in ("GET", "HEAD")],
    ids=str,
)
@on_reactor
async def test_no_connection_outlives_what_the_parser_refuses(case: Case) -> None:
    script = says_and_closes if case.eof else says
    async with (
        serving(script(OK, case.data)) as server,
        AsyncClient(limits=case.limits, timeout=20) as client,
    ):
        await client.get(server.url())
        assert counts(client) == {**NOTHING, "idle": 1}
        with pytest.raises(ResponseError) as caught:
            await client.request(case.request, server.url())
        assert case.error in str(caught.value)
        assert counts(client) == NOTHING
        assert server.connections == 1


# -- a body that does not decode --------------------------------------------------------------

BAD_GZIP = ("Content-Encoding: gzip", "WWW-Authenticate: Basic realm=r")

# What a request may have to it, none of which may keep what it failed with.
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "hooks": lambda: {"event_hooks": {"response": [lambda _: None]}},
    "credentials": lambda: {"auth": ("me", "secret")},
    "challenge": lambda: {"auth": PasswordAuth("me", "secret")},
    "progress": lambda: {"on_receive": lambda *_: None},
    "retry": lambda: {"retry": Retry(attempts=1)},
    "phases": lambda: {"timeout": Timeout(10, read=10)},
    "redirect": lambda: {"follow_redirects": True},
}


async def no_gzip(peer: Conversation) -> None:
    """Answer what does not decode, with a challenge on /401 and a redirect on /302."""
    while (head := await peer.request()) is not None:
        status = "200 OK"
        if b" /401 " in head and b"Authorization" not in head:
            status = "401 No"
        elif b" /302 " in head:
            status = "302 Found"
        await peer.send(answer(b"no gzip", *BAD_GZIP, "Location: /401", status=status))


class Held:
    """What a frame holds that an error leads to."""


@pytest.mark.parametrize("path", ["/", "/401", "/302"])
@pytest.mark.parametrize("kind", KINDS)
@on_reactor
async def test_error_of_a_body_that_does_not_decode_is_no_cycle(kind: str, path: str) -> None:
    async def fail(client: AsyncClient, method: str, url: str) -> weakref.ref[Held]:
        held = Held()
        with pytest.raises(DecodingError):
            await client.request(method, url)
        return weakref.ref(held)

    async with serving(no_gzip) as server, AsyncClient(**KINDS[kind]()) as client:
        for method in ("GET", "POST") * 2:  # the first of which makes the connection
            gc.collect()
            gc.disable()
            try:
                assert (await fail(client, method, server.url(path)))() is None
                assert gc.collect() == 0
            finally:
                gc.enable()


@pytest.mark.parametrize("path", ["/", "/401", "/302"])
@pytest.mark.parametrize("kind", KINDS)
def test_error_of_a_blocking_call_that_does_not_decode_is_no_cycle(kind: str, path: str) -> None:
    def fail(client: Client, method: str, url: str) -> weakref.ref[Held]:
        held = Held()
        with pytest.raises(DecodingError):
            client.request(method, url)
        return weakref.ref(held)

    with serving_in_thread(no_gzip) as server, Client(**KINDS[kind]()) as client:
        for method in ("GET", "POST") * 2:
            gc.collect()
            gc.disable()
            try:
                assert fail(client, method, server.url(path))() is None
            finally:
                gc.enable()


@on_reactor
async def test_refusal_that_does_not_decode_is_no_cycle_when_what_follows_fails() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(answer(b"no gzip", *BAD_GZIP, status="401 No"))
        await peer.request()
        await peer.send(CUT["body"])

    async def fail(client: AsyncClient, url: str) -> weakref.ref[PasswordAuth]:
        held = PasswordAuth("me", "secret")
        with pytest.raises(IncompleteResponseError):
            await client.get(url, auth=held)
        return weakref.ref(held)

    async with serving(script) as server, AsyncClient() as client:
        await check_no_cycle(fail(client, server.url()))


@on_reactor
async def test_streamed_body_that_breaks_off_is_no_cycle_and_fails_again() -> None:
    async def fail(client: AsyncClient, url: str) -> weakref.ref[Held]:
        held = Held()
        async with client.stream("GET", url) as response:
            with pytest.raises(IncompleteResponseError) as first:
                await response.aread()
            with pytest.raises(IncompleteResponseError) as second:
                await response.aread()
        assert str(first.value) == str(second.value)
        assert (first.value.host, first.value.port) == (second.value.host, second.value.port)
        del first, second  # their tracebacks have this frame
        return weakref.ref(held)

    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"
    async with serving(says_and_closes(said)) as server, AsyncClient() as client:
        await check_no_cycle(fail(client, server.url()))


@on_reactor
async def test_body_that_does_not_decode_raises_anew_whenever_it_is_asked_for() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            refusal = answer(b"no gzip", *BAD_GZIP, status="401 No")
            await peer.send(OK if b"Authorization" in head else refusal)

    errors: list[BaseException] = []
    auth = PasswordAuth("me", "secret")
    async with serving(script) as server, AsyncClient(auth=auth) as client:
        response = await client.get(server.url())
        for _ in range(3):
            with pytest.raises(DecodingError, match="gzip") as caught:
                _ = response.history[0].content
            errors.append(caught.value)
    for error in errors:
        check_failure(error, server.port, "read", DecodingError, ConnectionError)
        assert isinstance(error.__cause__, MalformedContent)
        assert error.__cause__.coding == "gzip"
    assert len(set(map(id, errors))) == 3

"""Content through the client: its forms, its pieces, and what goes wrong on its way."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from protocols.http import AsyncClient, Client, InvalidHeader
from protocols.http.errors import BodySizeError
from reactor import ConnectionLostError, EndpointTimeoutError
from tests.peers.scripted import OK, Conversation, answer, on_reactor, serving, serving_in_thread
from tests.peers.scripts import says
from tests.protocols.http.client_checks import NOTHING, counts, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")


async def content_of(peer: Conversation, head: bytes) -> bytes:
    """Read a request's content, without its framing."""
    if b"chunked" not in head:
        size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return await peer.reader.readexactly(size)
    content = b""
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        content += await peer.reader.readexactly(size)
        await peer.reader.readexactly(2)
    await peer.reader.readexactly(2)
    return content


async def echo(peer: Conversation) -> None:
    """Answer each request with its head, an empty line and its content."""
    with contextlib.suppress(asyncio.IncompleteReadError):  # the client has given up
        while (head := await peer.request()) is not None:
            await peer.send(answer(head + await content_of(peer, head)))


async def spelled(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def counted() -> Iterator[bytes]:
    yield b"one"
    yield b""
    yield b"two"


KINDS: dict[str, tuple[dict[str, Any], bytes, bytes]] = {
    "bytes": ({"content": b"some"}, b"Content-Length: 4", b"some"),
    "str": ({"content": "s\u00f6me"}, b"Content-Length: 5", "s\u00f6me".encode()),
    "empty": ({"content": b""}, b"Content-Length: 0", b""),
    "file": ({"content": io.BytesIO(b"x" * 100_000)}, b"Content-Length: 100000", b"x" * 100_000),
    "iterator": ({"content": counted()}, b"Transfer-Encoding: chunked", b"onetwo"),
    "async": ({"content": spelled(b"a", b"b")}, b"Transfer-Encoding: chunked", b"ab"),
    "form": ({"data": {"a": ["1", "2"]}}, b"application/x-www-form-urlencoded", b"a=1&a=2"),
    "json": ({"json": {"a": [1, None]}}, b"application/json", b'{"a":[1,null]}'),
    "declared": (
        {"content": iter([b"ab", b"c"]), "headers": {"Content-Length": "3"}},
        b"Content-Length: 3", b"abc",
    ),
    "typed": (
        {"json": 1, "headers": {"Content-Type": "application/x-mine"}},
        b"application/x-mine", b"1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@on_reactor
async def test_content_of_every_kind_arrives(kind: str) -> None:
    options, field, content = KINDS[kind]
    async with serving(echo) as server, AsyncClient() as client:
        response = await client.post(server.url(), **options)
        head, _, echoed = response.content.partition(b"\r\n\r\n")
        assert field in head
        assert echoed == content
        assert counts(client) == {**NOTHING, "idle": 1}


def test_blocking_client_sends_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"y" * 300_000)
    with serving_in_thread(echo) as server, Client() as client, path.open("rb") as file:
        echoed = client.put(server.url(), content=file).content
        assert echoed.endswith(b"\r\n\r\n" + b"y" * 300_000)
        files = {"upload": ("name.txt", path.read_bytes(), "text/plain")}
        form = client.post(server.url(), data={"field": "value"}, files=files).content
    assert b"multipart/form-data; boundary=" in form
    assert b'name="field"\r\n\r\nvalue\r\n' in form
    assert b'filename="name.txt"\r\nContent-Type: text/plain\r\n\r\nyyy' in form


def test_clients_own_content_type_goes_for_every_content() -> None:
    client = AsyncClient(headers={"Content-Type": "application/x-mine"})
    request = client.build_request("POST", "http://a.example/", json=1)
    assert request.headers.get_list("content-type") == ["application/x-mine"]
    with pytest.raises(InvalidHeader, match="boundary"):
        client.build_request("POST", "http://a.example/", files={"f": b"x"})


@on_reactor
async def test_fields_that_can_be_read_once_go_out_with_content() -> None:
    async with serving(echo) as server, AsyncClient() as client:
        fields = iter([("X-Once", "here"), ("Content-Type", "text/plain")])
        response = await client.post(server.url(), content=b"x", headers=fields)
        assert response.request.headers["x-once"] == "here"
        assert response.request.headers.get_list("content-type") == ["text/plain"]


@on_reactor
async def test_iterator_that_raises_ends_the_request_and_its_connection() -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    async with serving(echo) as server, AsyncClient() as client:
        with pytest.raises(ZeroDivisionError):
            await client.post(server.url(), content=broken())
        assert counts(client) == NOTHING
        with pytest.raises(TypeError, match="str"):
            await client.post(server.url(), content=cast("Any", iter(["text"])))
        assert counts(client) == NOTHING


@pytest.mark.parametrize("size", ["2", "4"])
@on_reactor
async def test_content_that_breaks_its_own_framing_is_an_error(size: str) -> None:
    async with serving(echo) as server, AsyncClient() as client:
        with pytest.raises(BodySizeError):
            await client.post(
                server.url(), content=iter([b"ab", b"c"]), headers={"Content-Length": size}
            )
        assert counts(client) == NOTHING


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"content": b"x", "headers": {"Content-Length": "2"}}, ValueError),
        ({"content": b"x", "headers": {"Content-Length": "+1"}}, InvalidHeader),
        ({"content": b"x", "headers": {"Transfer-Encoding": "chunked"}}, InvalidHeader),
        ({"content": b"x", "json": 1}, TypeError),
        ({"json": float("nan")}, ValueError),
        ({"content": 1}, TypeError),
    ],
)
@on_reactor
async def test_content_that_cannot_be_sent_raises_before_any_io(
    options: dict[str, Any], error: type[Exception]
) -> None:
    async with serving(echo) as server, AsyncClient() as client:
        with pytest.raises(error):
            await client.post(server.url(), **options)
        assert server.connections == 0


@on_reactor
async def test_answer_before_the_content_ends_is_the_answer() -> None:
    refused = OK.replace(b"200 OK", b"413 Content Too Large")
    closed = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(refused)
        await peer.until_closed()
        closed.set()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    async with serving(script) as server, AsyncClient() as client:
        assert (await client.post(server.url(), content=endless())).status_code == 413
        assert counts(client) == NOTHING
        await closed.wait()


@on_reactor
async def test_streamed_answer_may_begin_before_the_content_ends() -> None:
    begun = asyncio.Event()

    async def script(peer: Conversation) -> None:
        head = await peer.request()
        assert head is not None
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        begun.set()
        content = await content_of(peer, head)
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))

    async def content() -> AsyncIterator[bytes]:
        yield b"first"
        await begun.wait()
        yield b"second"

    async with serving(script) as server, AsyncClient() as client:
        async with client.stream("POST", server.url(), content=content()) as response:
            assert await response.aread() == b"firstsecond"
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_cancelled_upload_leaves_nothing() -> None:
    started = asyncio.Event()
    ended = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        try:
            yield b"some"
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(echo) as server, AsyncClient() as client:
        request = asyncio.ensure_future(client.post(server.url(), content=content()))
        await started.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert counts(client) == NOTHING
        await ended.wait()


@on_reactor
async def test_timeout_ends_an_upload_that_nobody_takes() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    async with serving(script) as server, AsyncClient() as client:
        with pytest.raises(EndpointTimeoutError):
            await client.post(server.url(), content=endless(), timeout=0.2)
        assert counts(client) == NOTHING


@on_reactor
async def test_post_on_a_stale_connection_is_not_sent_twice() -> None:
    heads: list[bytes] = []

    async def script(peer: Conversation) -> None:
        head = await peer.request()
        assert head is not None
        heads.append(head)
        if peer.number == 0:
            await peer.send(OK)
            heads.append(await peer.reader.readuntil(b"\r\n\r\n"))
            peer.reset()
        else:
            await peer.send(OK)

    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(ConnectionLostError):
            await client.post(server.url(), content=b"once")
        assert [head.split()[0] for head in heads] == [b"GET", b"POST"]


@on_reactor
async def test_json_goes_both_ways() -> None:
    value = {"text": "\u20ac\n", "list": [1, 2.5, True, None]}
    page = answer(json.dumps(value).encode())
    async with serving(says(page)) as server, AsyncClient() as client:
        assert (await client.post(server.url(), json=value)).json() == value


@pytest.mark.parametrize("verdict", ["100 Continue", "417 Expectation Failed"])
@on_reactor
async def test_rfc9110_10_1_1_bytes_wait_for_the_100_that_they_asked_for(verdict: str) -> None:
    got: list[bytes] = []

    async def script(peer: Conversation) -> None:
        await peer.request()
        if verdict.startswith("417"):
            await peer.send(answer(b"no", status=verdict))
            got.append(await peer.until_closed())
            return
        await peer.send(f"HTTP/1.1 {verdict}\r\n\r\n".encode())
        got.append(await peer.reader.readexactly(4))
        await peer.send(OK)
        await peer.until_closed()

    async with serving(script) as server:
        async with AsyncClient() as client:
            expects = {"Expect": "100-continue"}
            response = await client.post(server.url(), content=b"data", headers=expects)
            assert response.status_code == (417 if verdict.startswith("417") else 200)
        await until(lambda: bool(got))
    assert got == [b"" if verdict.startswith("417") else b"data"]


def test_what_the_caller_makes_meanwhile_is_sent_as_it_comes() -> None:
    """Though it is small, and its size is known."""
    seen = threading.Event()

    async def script(peer: Conversation) -> None:
        while await peer.request() is not None:
            assert await peer.reader.readexactly(1) == b"1"
            seen.set()
            assert await peer.reader.readexactly(1) == b"2"
            await peer.send(OK)

    def pieces() -> Iterator[bytes]:
        yield b"1"
        assert seen.wait(10)
        yield b"2"

    with serving_in_thread(script) as server, Client() as client:
        for _ in range(2):
            seen.clear()
            response = client.post(server.url(), content=pieces(), headers={"Content-Length": "2"})
            assert response.content == b"ok"

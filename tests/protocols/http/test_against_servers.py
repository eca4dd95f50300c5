"""The client against Apache and HAProxy: what real servers do with a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.http import AsyncClient, PasswordAuth
from reactor import client_context
from tests.peers import apache as apache_peer
from tests.peers import haproxy as haproxy_peer
from tests.peers.absent import absent
from tests.peers.apache import Apache
from tests.peers.echo import content_of
from tests.peers.haproxy import HAProxy
from tests.peers.scripted import Conversation, answer, run, serving_in_thread

SCHEMES = ("http", "https")
TEXT = b"text and more text " * 1_000
BIG = bytes(range(256)) * 8_192


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    if apache_peer.executable() is None:
        absent("Apache", "apache2")
    with Apache() as server:
        yield server


async def origin(peer: Conversation) -> None:
    """What stands behind HAProxy."""
    while (head := await peer.request()) is not None:
        content = await content_of(peer, head)
        path = head.split(b" ")[1]
        if path == b"/echo":
            await peer.send(answer(content, "Content-Type: application/octet-stream"))
        elif path == b"/chunked":
            await peer.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
                b"3\r\nabc\r\n",
                b"4;x=y\r\ndefg\r\n",
                b"0\r\nX-Sum: 7\r\n\r\n",
            )
        elif path == b"/cut":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
            return
        elif head.startswith(b"HEAD"):
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 19000\r\n\r\n")
        else:
            await peer.send(answer(TEXT, "Content-Type: text/plain"))


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[HAProxy]:
    """Return a proxy of the test's own: what it keeps open to its server is in this process."""
    if haproxy_peer.executable() is None:
        absent("HAProxy", "haproxy")
    with serving_in_thread(origin) as server, HAProxy(tmp_path, server.port) as proxy:
        yield proxy


def client_of(server: Apache | HAProxy, scheme: str) -> AsyncClient:
    tls = client_context(ca_pem=server.ca_pem, alpn=("http/1.1",))
    return AsyncClient(tls=tls, base_url=server.url("/", scheme=scheme), trust_env=False)


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(BIG), 100_000):
        await asyncio.sleep(0)
        yield BIG[at : at + 100_000]


# -- Apache -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_apache_keeps_one_connection_for_everything(apache: Apache, scheme: str) -> None:
    async def main() -> None:
        async with client_of(apache, scheme) as client:
            for _ in range(50):
                assert (await client.get("/64")).content == bytes(range(64))
            head = await client.head("/64")
            assert (head.headers["content-length"], head.content) == ("64", b"")
            assert (await client.get("/none")).status_code == 404
            tag = (await client.get("/64")).headers["etag"]
            unchanged = await client.get("/64", headers={"If-None-Match": tag})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            part = await client.get("/64", headers={"Range": "bytes=10-19"})
            assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
            assert (await client.options("/64")).status_code == 200
            assert client.manager.stats()["opened"] == 1

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_apache_compresses_in_chunks(apache: Apache, scheme: str) -> None:
    async def main() -> None:
        async with client_of(apache, scheme) as client:
            response = await client.get("/zipped/text")
            assert response.headers["content-encoding"] == "gzip"
            assert response.content == TEXT
            async with client.stream("GET", "/zipped/text") as streamed:
                assert await streamed.aread() == TEXT
            assert client.manager.stats()["opened"] == 1

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_apache_takes_content_of_every_framing(apache: Apache, scheme: str) -> None:
    async def main() -> None:
        async with client_of(apache, scheme) as client:
            response = await client.post("/cgi/echo", content=BIG)
            assert response.headers["x-method"] == "POST"
            assert response.content == BIG
            assert (await client.put("/cgi/echo", content=pieces())).content == BIG
            expecting: dict[str, Any] = {"headers": {"Expect": "100-continue"}}
            response = await client.post("/cgi/echo", content=pieces(), **expecting)
            assert response.content == BIG
            assert [status for status, _ in response.informational_responses] == [100]
            # a refusal in place of the 100: nothing of the content is taken
            taken = pieces()
            response = await client.post("/none", content=taken, **expecting)
            assert response.status_code == 404
            await taken.aclose()  # type: ignore[attr-defined]

    run(main())


def test_apache_is_answered_with_digest(apache: Apache) -> None:
    async def main() -> None:
        async with client_of(apache, "http") as client:
            assert (await client.get("/private/it")).status_code == 401
            auth = PasswordAuth("ann", "secret")
            assert (await client.get("/private/it", auth=auth)).content == b"it"
            wrong = PasswordAuth("ann", "wrong")
            assert (await client.get("/private/it", auth=wrong)).status_code == 401

    run(main())


# -- HAProxy ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_haproxy_keeps_one_connection_for_everything(haproxy: HAProxy, scheme: str) -> None:
    async def main() -> None:
        async with client_of(haproxy, scheme) as client:
            for _ in range(50):
                assert (await client.get("/own")).content == b"of its own"
            assert (await client.head("/text")).headers["content-length"] == "19000"
            assert (await client.post("/echo", content=BIG)).content == BIG
            assert (await client.post("/echo", content=pieces())).content == BIG
            assert client.manager.stats()["opened"] == 1

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_haproxy_hands_on_chunks_and_trailers(haproxy: HAProxy, scheme: str) -> None:
    async def main() -> None:
        async with client_of(haproxy, scheme) as client:
            for _ in range(2):
                response = await client.get("/chunked")
                assert response.content == b"abcdefg"
                assert response.trailers is not None
                assert response.trailers["x-sum"] == "7"
            assert client.manager.stats()["opened"] == 1

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_haproxy_hints_early_and_compresses(haproxy: HAProxy, scheme: str) -> None:
    async def main() -> None:
        async with client_of(haproxy, scheme) as client:
            response = await client.get("/hinted/text")
            [(status, fields)] = response.informational_responses
            assert (status, fields["link"]) == (103, "</style.css>; rel=preload")
            assert response.headers["content-encoding"] == "gzip"
            assert response.content == TEXT

    run(main())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_haproxy_cuts_where_its_server_did(haproxy: HAProxy, scheme: str) -> None:
    async def main() -> None:
        async with client_of(haproxy, scheme) as client:
            with pytest.raises(ConnectionError):
                await client.get("/cut")
            assert (await client.get("/text")).content == TEXT

    run(main())

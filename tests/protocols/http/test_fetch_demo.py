"""The embedded server: right answers to a client of its own and to a blunt socket."""

from __future__ import annotations

import asyncio

import pytest

import reactor
from protocols.http import AsyncClient
from protocols.http.fetch_demo import MAX_HEAD_BYTES, PAGES, Verify, WrongBodyError, serve_demo
from protocols.http.url import URL


def test_every_page_is_served_as_it_is() -> None:
    async def test() -> None:
        async with serve_demo() as root, AsyncClient() as client:
            for path, (body, chunked) in PAGES.items():
                response = await client.get(root + path)
                assert response.status_code == 200
                assert response.content == body
                assert ("transfer-encoding" in response.headers) == chunked
                assert (await client.head(root + path)).content == b""
            assert client.manager.stats()["opened"] == 1

    reactor.run(test())


async def exchange(root: str, data: bytes) -> bytes:
    """Send *data* and return everything that comes until the server closes."""
    url = URL(root)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(data)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n", b"404 Not Found"),
        (b"GET /64 HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /chunked HTTP/1.0\r\n\r\n", b"200 OK\r\nContent-Length: 20000"),
        (b"POST / HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"x" * (MAX_HEAD_BYTES + 1), b"431 Request Header Fields Too Large"),
    ],
)
def test_blunt_request_is_answered_and_the_connection_closed(data: bytes, status: bytes) -> None:
    async def test() -> None:
        async with serve_demo() as root:
            assert (await exchange(root, data)).startswith(b"HTTP/1.1 " + status)

    reactor.run(test())


def test_pipelined_requests_are_answered_in_order_however_slowly_they_are_read() -> None:
    async def test() -> None:
        async with serve_demo() as root:
            requests = b"GET /100k HTTP/1.1\r\n\r\n" * 500 + b"GET /64 HTTP/1.0\r\n\r\n"
            received = await exchange(root, requests)
        assert received.count(PAGES["/100k"][0]) == 500
        assert received.endswith(PAGES["/64"][0])

    reactor.run(test())


def verify(body: bytes) -> None:
    with Verify().target(URL("http://host/1k")) as target:
        target.write(body[:500])
        target.write(body[500:])
        target.commit()


def test_body_that_is_not_the_page_is_found() -> None:
    body = PAGES["/1k"][0]
    verify(body)
    for wrong in (b"x" + body[1:], body[:-1] + b"x", body[:-1], body + b"x", b""):
        with pytest.raises(WrongBodyError):
            verify(wrong)

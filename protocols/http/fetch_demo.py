"""The fetcher's own server, for a run without URLs: what is fetched, and that it came right.

Owns: a small HTTP/1.1 server on 127.0.0.1, on the reactor's transports, and its pages.  May
not touch: how they are fetched.
Invariant: every body that is counted as fetched has the bytes that the server has.

An honest server as far as it goes (GET and HEAD, keep-alive, pipelining, chunked coding,
back-pressure), and no more than that: it is for one client that is known.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from protocols.http.errors import HTTPError
from protocols.http.fetch_run import WholeTarget
from protocols.http.url import URL
from reactor import Protocol

__all__ = ["PAGES", "DemoServer", "Verify", "WrongBodyError", "demo_urls", "serve_demo"]

MAX_HEAD_BYTES = 16_384
CHUNK_BYTES = 8_192

# How often each path is fetched, beside what it is called.
ROUNDS = 1_000


def _page(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


_INDEX = b"""<!doctype html>
<title>cyfetch</title>
<h1>It works</h1>
<p>This page comes from the server that cyfetch starts when it is given no URL.
"""

# Path to (body, whether it is sent in chunks).
PAGES = {
    "/": (_INDEX, False),
    "/64": (_page(64), False),
    "/1k": (_page(1 << 10), False),
    "/chunked": (_page(20_000), True),
    "/100k": (_page(100 << 10), False),
}


class DemoServer(Protocol):
    """One connection of the server."""

    def __init__(self) -> None:
        self._received = b""
        self._writable = True

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole, unless the client does not read."""
        self._received += data
        self._answer()

    def pause_writing(self) -> None:
        """Answer no more for now: the client is slow."""
        self._writable = False
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with what was asked meanwhile."""
        self._writable = True
        self.transport.resume_reading()
        self._answer()

    def _answer(self) -> None:
        while self._writable and not self.transport.is_closing():
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                if len(head) > MAX_HEAD_BYTES:
                    self._refuse(b"431 Request Header Fields Too Large")
                return
            self._received = rest
            self._answer_one(head)

    def _answer_one(self, head: bytes) -> None:
        line, *fields = head.split(b"\r\n")
        words = line.split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            self._refuse(b"400 Bad Request")
            return
        if words[0] not in (b"GET", b"HEAD"):
            # It may have a body, which is not read: the connection ends here.
            self._refuse(b"405 Method Not Allowed", b"Allow: GET, HEAD\r\n")
            return
        page = PAGES.get(words[1].partition(b"?")[0].decode("latin-1"))
        body, chunked = page if page is not None else (b"no such page\n", False)
        status = b"404 Not Found" if page is None else b"200 OK"
        closes = words[2] == b"HTTP/1.0" or any(
            name.lower() == b"connection" and b"close" in value.lower()
            for name, _, value in (field.partition(b":") for field in fields)
        )
        chunked = chunked and words[2] == b"HTTP/1.1"
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        connection = b"Connection: close\r\n" if closes else b""
        pieces = [b"HTTP/1.1 ", status, b"\r\n", framing, b"\r\n", connection, b"\r\n"]
        if words[0] == b"GET":
            pieces += _chunks(body) if chunked else [body]
        self.transport.write(b"".join(pieces))
        if closes:
            self.transport.close()

    def _refuse(self, status: bytes, fields: bytes = b"") -> None:
        self.transport.write(
            b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n" % (status, fields)
        )
        self.transport.close()


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        chunk = body[start : start + CHUNK_BYTES]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


@asynccontextmanager
async def serve_demo() -> AsyncIterator[str]:
    """Serve for an ``async with`` block on a free port; yield the URL of the root."""
    loop: Any = asyncio.get_running_loop()
    server = await loop.create_server(DemoServer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def demo_urls(root: str) -> tuple[Iterator[str], int]:
    """Return the URLs that the demonstration fetches, and how many they are."""
    urls = [root + path for path in PAGES]
    return itertools.chain.from_iterable(itertools.repeat(urls, ROUNDS)), ROUNDS * len(urls)


class WrongBodyError(HTTPError):
    """A body came whole and is not the one that was served."""


class Verify:
    """A sink that compares each body with the page."""

    def target(self, url: URL) -> _Verifying:
        """Return the target for *url*."""
        return _Verifying(PAGES[url.path][0])


class _Verifying(WholeTarget):
    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._position = 0

    def write(self, data: bytes) -> None:
        if not self._expected.startswith(data, self._position):
            raise WrongBodyError(f"the body differs after byte {self._position}")
        self._position += len(data)

    def commit(self) -> None:
        if self._position != len(self._expected):
            raise WrongBodyError(f"the body ends after {self._position} bytes")

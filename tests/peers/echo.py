"""A scripted server that tells what it was asked: for adapters and documentation.

Owns: nothing beyond its connection.
Invariant: each answer is JSON with method, target, fields and content (as latin-1) of the
request, unless the path asks for something else::

    /status/404      an answer with that status
    /redirect        302 to /elsewhere
    /cookie          sets one, and says which came
    /gzip            the answer is compressed
    /cut             nine bytes announced, four sent
    /drip            a piece, then nothing more: until the client closes
    /silence         no answer at all
    /large           ten megabytes
    /basic           401 unless the user is "ann" with "secret"
"""

from __future__ import annotations

import asyncio
import gzip
import json

from tests.peers.scripted import Conversation, answer

LARGE = bytes(range(256)) * 40_960


async def content_of(peer: Conversation, head: bytes) -> bytes:
    """Read the content of a request, chunked or of a known length."""
    lines = head.decode("latin-1").lower().split("\r\n")[1:]
    fields = dict(line.split(": ", 1) for line in lines if line)
    if "chunked" in fields.get("transfer-encoding", ""):
        pieces: list[bytes] = []
        while True:
            size = int(await peer.reader.readuntil(b"\r\n"), 16)
            data = await peer.reader.readexactly(size + 2)
            if not size:
                return b"".join(pieces)
            pieces.append(data[:-2])
    return await peer.reader.readexactly(int(fields.get("content-length", "0")))


async def echo(peer: Conversation) -> None:
    while (head := await peer.request()) is not None:
        content = await content_of(peer, head)
        await respond(peer, head, content)


async def respond(peer: Conversation, head: bytes, content: bytes) -> None:
    line, *rest = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    fields = [each.split(": ", 1) for each in rest]
    told = json.dumps(
        {
            "method": method,
            "target": target,
            "fields": fields,
            "content": content.decode("latin-1"),
        }
    ).encode()
    kind = "Content-Type: application/json"
    path = target.partition("?")[0]
    if path.startswith("/status/"):
        await peer.send(answer(told, kind, status=f"{path[8:]} Said So"))
    elif path == "/redirect":
        await peer.send(answer(b"", "Location: /elsewhere", status="302 Found"))
    elif path == "/cookie":
        await peer.send(answer(told, kind, "Set-Cookie: a=1", "Set-Cookie: b=2; Path=/"))
    elif path == "/gzip":
        await peer.send(answer(gzip.compress(told), kind, "Content-Encoding: gzip"))
    elif path == "/cut":
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        peer.close()
    elif path == "/drip":
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        await peer.until_closed()
    elif path == "/silence":
        await peer.until_closed()
    elif path == "/large":
        await peer.send(answer(LARGE))
    elif path == "/basic" and "Basic YW5uOnNlY3JldA==" not in [each[1] for each in fields]:
        await peer.send(answer(b"", 'WWW-Authenticate: Basic realm="x"', status="401 No"))
    elif method == "HEAD":
        await peer.send(answer(told, kind).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    else:
        await peer.send(answer(told, kind))
    await asyncio.sleep(0)

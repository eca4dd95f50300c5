"""The soak's server, a process of its own: honest, slow, truncated and reset answers.

Owns its listeners.  It writes their ports to standard output, one line, and ends when its
standard input does.

    /SIZE            that many bytes, with a Content-Length
    /chunked/SIZE    the same in chunks
    /slow/SIZE       the head, and some milliseconds later the body
    /late/SIZE       nothing for some milliseconds
    /cut/SIZE        all but the last byte, then the end
    /reset           no answer but a reset
    /half/SIZE       half of the body, then a reset
    /silence         no answer
    /close/SIZE      Connection: close, and so it does
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

from reactor import Protocol, run

BODY = bytes(range(256)) * 4_096
LATE_SECONDS = 0.003


class Connection(Protocol):
    """One connection; requests have no content."""

    def __init__(self) -> None:
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, target: str) -> None:
        *kinds, text = target[1:].split("/")
        kind = kinds[0] if kinds else "plain"
        if text == "silence":
            return
        if text == "reset":
            self._reset()
            return
        size = int(text)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        body = BODY[:size]
        loop = asyncio.get_running_loop()
        if kind == "plain":
            self._send(head + body)
        elif kind == "chunked":
            self._send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 5_000):
                piece = body[at : at + 5_000]
                self._send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._send(b"0\r\n\r\n")
        elif kind == "slow":
            self._send(head)
            loop.call_later(LATE_SECONDS, self._send, body)
        elif kind == "late":
            loop.call_later(LATE_SECONDS, self._send, head + body)
        elif kind == "cut":
            self._send(head + body[:-1])
            self.transport.close()
        elif kind == "half":
            self._send(head + body[: size // 2])
            loop.call_soon(self._reset)
        elif kind == "close":
            self._send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head[17:] + body)
            self.transport.close()

    def _send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _reset(self) -> None:
        if self.transport is None:
            return
        with contextlib.suppress(OSError):
            sock: Any = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def main() -> None:
    """Serve until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(sys.argv[1]))
    loop: Any = asyncio.get_running_loop()
    servers = [
        await loop.create_server(Connection, "127.0.0.1", 0, ssl=tls, backlog=1_024)
        for tls in (None, context)
    ]
    print(*[each.sockets[0].getsockname()[1] for each in servers], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    for each in servers:
        each.close()
        each.abort_clients()


if __name__ == "__main__":
    run(main())

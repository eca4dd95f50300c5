"""A SOCKS5 server in the test's own loop (RFC 1928, RFC 1929), which notes what it is asked.

Owns its listener and both halves of each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator


class SocksServer:
    """A running server.

    Attributes:
        port: where it listens, on 127.0.0.1.
        asked: (kind of address, address, port) of each request.
        logins: (user, password) of each that came.
        reply: the code of its answer; 0 to connect.
    """

    def __init__(self, login: tuple[bytes, bytes] | None) -> None:
        self._login = login
        self.port = 0
        self.asked: list[tuple[int, str, int]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.reply = 0
        self.surplus = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, scheme: str = "socks5", login: str = "") -> str:
        return f"{scheme}://{login}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if await self._agreed(reader, writer):
                await self._relay(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _agreed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version, count = await reader.readexactly(2)
        assert version == 5
        offered = await reader.readexactly(count)
        wanted = 0 if self._login is None else 2
        if wanted not in offered:
            writer.write(b"\x05\xff")
            return False
        writer.write(bytes([5, wanted]))
        if wanted == 2:
            assert (await reader.readexactly(1)) == b"\x01"
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.logins.append((user, password))
            right = (user, password) == self._login
            writer.write(b"\x01\x00" if right else b"\x01\x01")
            return right
        return True

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(4)
        assert head[:3] == b"\x05\x01\x00"
        if head[3] == 1:
            host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
        elif head[3] == 4:
            host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append((head[3], host, port))
        if self.reply:
            writer.write(bytes([5, self.reply, 0, 1]) + bytes(6))
            return
        # whatever the name is, the test's peers are here
        there, away = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x05\x00\x00\x03\x04name\x00\x01" + self.surplus)
        back = asyncio.ensure_future(_copy(there, writer))
        try:
            await _copy(reader, away)
        finally:
            away.close()
            back.cancel()
            await asyncio.wait([back])

    async def finish(self) -> None:
        """End what is going on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.write_eof() if target.can_write_eof() else target.close()


@contextlib.asynccontextmanager
async def socks_server(login: tuple[bytes, bytes] | None = None) -> AsyncIterator[SocksServer]:
    """Serve on the running loop for an ``async with`` block, for *login* alone if there is one."""
    server = SocksServer(login)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.finish()
        await listener.wait_closed()

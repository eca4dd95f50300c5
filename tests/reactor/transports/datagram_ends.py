"""Endpoints of datagrams for tests: a protocol that keeps what it is told, and how to make one."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from reactor.eventloop import EventLoop

HERE = "127.0.0.1"
UNIX = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Python has no UNIX sockets here")


class Recorder(asyncio.DatagramProtocol):
    """Keeps what it is told, in order."""

    transport: Any

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.heard = asyncio.Event()

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.heard.set()

    async def after(self, count: int) -> list[tuple[Any, ...]]:
        """Return the calls, once there are *count* of them."""
        async with asyncio.timeout(10):
            while len(self.calls) < count:
                self.heard.clear()
                await self.heard.wait()
        return self.calls

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.note(data, addr)

    def error_received(self, exc: Exception) -> None:
        self.note("error", type(exc))

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("lost", exc)


async def endpoint(loop: EventLoop, protocol: Any = None, **options: Any) -> Any:
    if not options:
        options = {"local_addr": (HERE, 0)}
    _, made = await loop.create_datagram_endpoint(protocol or Recorder, **options)
    return made


def name_of(protocol: Any) -> Any:
    return protocol.transport.get_extra_info("sockname")


async def ended(*protocols: Recorder) -> None:
    for protocol in protocols:
        count = len(protocol.calls)
        protocol.transport.close()
        assert (await protocol.after(count + 1))[-1] == ("lost", None)

"""``loop.sendfile`` while its connection ends, or its caller gives up."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.protocol import Protocol

HERE = "127.0.0.1"


class Sender(Protocol):
    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.is_lost = asyncio.Event()

    def connection_lost(self, exc: Any) -> None:
        self.lost.append(exc)
        self.is_lost.set()


async def under_way(loop: EventLoop, path: Path, port: int, *, full: bool) -> tuple[Any, Any, Any]:
    """Return (transport, protocol, task) of a sendfile to a peer that reads nothing.

    It waits for the socket; or, if that is *full*, for what was written before.
    """
    transport, protocol = await loop.create_connection(Sender, HERE, port)
    if full:
        transport.write(bytes(16_000_000))

    async def send() -> int:
        with path.open("rb") as file:
            return await loop.sendfile(transport, file, fallback=False)

    task = asyncio.ensure_future(send())
    fd = transport.get_extra_info("socket").fileno()
    while not full and not is_watched(loop, fd):  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return transport, protocol, task


def is_watched(loop: EventLoop, fd: int) -> bool:
    watchers = (loop._readers.get(fd), loop._writers.get(fd))
    return any(watcher is not None and watcher.handle is not None for watcher in watchers)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64_000_000)
    return path


class Silent(asyncio.Protocol):
    """A peer that reads nothing."""

    def connection_made(self, transport: Any) -> None:
        transport.pause_reading()
        self.transport = transport
        PEERS.append(transport)

    def connection_lost(self, exc: Any) -> None:
        PEERS.remove(self.transport)


PEERS: list[Any] = []


async def no_peers() -> None:
    """End those that are left, and wait until they are gone."""
    for each in PEERS:
        each.abort()
    while PEERS:  # noqa: ASYNC110 - within a few passes
        await asyncio.sleep(0)


@pytest.mark.parametrize("full", [False, True], ids=["sending", "draining"])
@pytest.mark.parametrize("how", ["abort", "close", "peer", "cancel"])
def test_end_while_a_file_is_sent_is_told_and_leaves_nothing(
    real: EventLoop, path: Path, how: str, full: bool
) -> None:
    async def main() -> None:
        server = await real.create_server(Silent, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol, task = await under_way(real, path, port, full=full)
        fd = transport.get_extra_info("socket").fileno()
        if how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not is_watched(real, fd)
            transport.write(b"goes on")
            transport.abort()
        else:
            if how == "peer":
                PEERS[-1].abort()
            elif full and how == "close":
                transport.close()
                transport.abort()  # as it would wait for the peer, else
            else:
                getattr(transport, how)()
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(task, 20)
        if how == "peer":
            transport.abort()
        await asyncio.wait_for(protocol.is_lost.wait(), 20)
        await asyncio.sleep(0)
        assert len(protocol.lost) == 1
        assert not is_watched(real, fd)
        # whoever has the number next is not disturbed
        others = [await real.create_connection(Sender, HERE, port) for _ in range(3)]
        assert fd in [each.get_extra_info("socket").fileno() for each, _ in others]
        for each, sender in others:
            each.write(b"undisturbed")
            await asyncio.sleep(0)
            assert not each.is_closing()
            each.abort()
            await sender.is_lost.wait()
        server.close()
        await no_peers()

    reports: list[Any] = []
    real.set_exception_handler(lambda _, context: reports.append(context))
    real.run_until_complete(main())
    gc.collect()
    assert reports == []


def test_loop_that_is_closed_while_a_file_is_sent_frees_the_descriptor(
    real: EventLoop, path: Path
) -> None:
    async def main() -> tuple[Any, Any]:
        server = await real.create_server(Silent, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        transport, _, task = await under_way(real, path, port, full=False)
        task._log_destroy_pending = False
        server.close()
        return transport, transport.get_extra_info("socket")

    transport, sock = real.run_until_complete(main())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        real.close()
    assert sock.fileno() == -1
    assert transport.is_closing()
    PEERS.clear()

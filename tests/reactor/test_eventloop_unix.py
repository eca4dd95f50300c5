"""Client connections of the event loop over UNIX sockets."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.transports.stream import StreamTransport

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sockets of POSIX systems")


async def gone(transport: Any) -> None:
    """Abort a connection and let its loop see to it."""
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_unix_connection_has_our_own_transport(real: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            link, _ = await real.create_unix_connection(asyncio.Protocol, path)  # type: ignore[arg-type]
            assert type(link) is StreamTransport
            peer, _ = listener.accept()
            with peer:
                link.write(b"hello")
                assert peer.recv(5) == b"hello"
            assert link.get_extra_info("peername") == str(path)
            await gone(link)
        with pytest.raises(ConnectionRefusedError):
            await real.create_unix_connection(asyncio.Protocol, str(path))
        with pytest.raises(FileNotFoundError):
            await real.create_unix_connection(asyncio.Protocol, str(tmp_path / "none"))
        with pytest.raises(ValueError, match="no path and sock"):
            await real.create_unix_connection(asyncio.Protocol)

    real.run_until_complete(main())


def test_unix_connection_waits_for_room_in_the_queue_of_its_server(
    real: EventLoop, tmp_path: Path
) -> None:
    """connect(2) says EAGAIN there, and the socket is not connected, though it looks writable."""
    path = str(tmp_path / "socket")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(path)
            listener.listen(0)
            first.connect(path)
            opening = asyncio.ensure_future(real.create_unix_connection(asyncio.Protocol, path))
            given_up = asyncio.ensure_future(real.create_unix_connection(asyncio.Protocol, path))
            while real.stats()["timers"] < 2:  # noqa: ASYNC110 - the loop has no event for that
                await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert not opening.done()
            listener.accept()[0].close()
            link, _ = await opening
            peer, _ = listener.accept()
            with peer:
                link.write(b"hello")
                assert peer.recv(5) == b"hello"
            await gone(link)

    real.run_until_complete(main())


def test_unix_connection_takes_a_connected_socket(real: EventLoop) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with two:
            link, _ = await real.create_unix_connection(asyncio.Protocol, sock=one)
            link.write(b"hello")
            assert two.recv(5) == b"hello"
            await gone(link)

    real.run_until_complete(main())

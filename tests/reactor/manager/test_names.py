"""Names under a manager: a first address that swallows everything, and a thousand names."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from reactor import ConnectionManager, ConnectRefusedError, Endpoint, Resolver, run
from reactor.eventloop import EventLoop
from reactor.resolver import AddressInfo
from reactor.testing import listen
from tests.reactor.manager.peer import NOTHING, Asker, Echo, Peer, counts, play, settle


class Book(Resolver):
    """A resolver that knows addresses by heart."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.addresses = addresses

    def _ask(self, host: str, family: int) -> None:
        rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in self.addresses]
        self._answered(host, family, rows)


def test_second_address_serves_in_time_where_the_first_swallows_everything(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated(latency_seconds=0.01)

    async def scenario(peer: Peer) -> None:
        network = loop.poller.network  # type: ignore[attr-defined]
        port = peer.endpoint.port
        network.black_hole(("10.0.0.1", port))
        manager = ConnectionManager(resolver=Book("10.0.0.1", "127.0.0.1"))
        before = len(network.sockets)
        began = loop.time()
        asker = await manager.acquire(Asker, "name", port)
        assert 0.25 <= loop.time() - began < 0.35
        assert asker.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert await asker.ask(b"x") == b"x"
        await settle()
        assert len(network.sockets) == before + 2  # both ends of the winner: the loser is closed
        # the next one does not pay again: what failed is tried last
        began = loop.time()
        other = await manager.acquire(Asker, "name", port)
        assert loop.time() - began < 0.1
        for each in (asker, other):
            manager.release(each)
        await manager.close()

    play(loop, scenario)


def test_real_address_that_swallows_everything_is_overtaken() -> None:
    """A listener whose queue is full: Linux drops what would be one connection too many."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transports: list[Any] = []
        server = await listen(loop, lambda: Echo(transports))
        port = server.sockets[0].getsockname()[1]
        hole = socket.socket()
        hole.bind(("127.0.0.2", port))
        hole.listen(0)
        filling = []
        for _ in range(4):
            filling.append(socket.socket())
            filling[-1].setblocking(False)
            filling[-1].connect_ex(("127.0.0.2", port))
        manager = ConnectionManager(resolver=Book("127.0.0.2", "127.0.0.1"))
        before = loop.stats()["live_ops"]
        asker = await manager.acquire(Asker, "name", port, deadline=loop.time() + 20)
        assert asker.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert await asker.ask(b"x") == b"x"
        assert loop.stats()["live_ops"] == before + 2  # the winner's two ends receive
        manager.release(asker)
        await manager.close()
        server.close()
        for each in (*transports, hole, *filling):
            (each.close if isinstance(each, socket.socket) else each.abort)()
        await settle()

    run(main())


def test_address_that_refuses_is_tried_last_the_next_time(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        resolver = Book("127.0.0.9", "127.0.0.1")
        manager = ConnectionManager(resolver=resolver)
        infos: list[AddressInfo] = await resolver.resolve("name", peer.endpoint.port)
        assert [each.address[0] for each in infos] == ["127.0.0.9", "127.0.0.1"]
        async with manager.lease(Asker, "name", peer.endpoint.port):
            pass
        infos = await resolver.resolve("name", peer.endpoint.port)
        assert [each.address[0] for each in infos] == ["127.0.0.1", "127.0.0.9"]
        with pytest.raises(ConnectRefusedError):
            await manager.acquire(Asker, "name", 1)
        assert counts(manager) == {**NOTHING, "idle": 1}
        await manager.close()

    play(loop, scenario)


def test_thousand_names_connect_while_the_executor_is_saturated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No time is measured: while the executor is stuck, whoever needed it would wait for ever."""
    go_on = threading.Event()

    def getaddrinfo(host: str, port: int, *_: Any) -> list[Any]:
        assert host.endswith(".test")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transports: list[Any] = []
        server = await listen(loop, lambda: Echo(transports), backlog=2048)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        stuck = [asyncio.ensure_future(asyncio.to_thread(go_on.wait, 30)) for _ in range(100)]
        manager = ConnectionManager(max_connections=400)

        async def use(number: int) -> None:
            endpoint = Endpoint("s", f"n{number}.test", port)
            async with manager.lease(Asker, endpoint) as asker:
                assert await asker.ask(b"%d" % number) == b"%d" % number

        await asyncio.gather(*map(use, range(1000)))
        assert not any(each.done() for each in stuck)
        assert manager.stats()["opened"] == 1000
        go_on.set()
        await asyncio.gather(*stuck)
        await manager.close()
        server.close()
        for each in transports:
            each.abort()
        await settle()

    run(main())

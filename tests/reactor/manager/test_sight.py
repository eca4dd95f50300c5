"""What can be seen of a manager: counters, histograms, events, its repr."""

from __future__ import annotations

from reactor import (
    ConnectionManager,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    Asker,
    Peer,
    play,
)


def test_repr_tells_the_whole_state(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        asker = await manager.acquire(Asker, peer.endpoint)
        assert f"1 of 2 connections: <{peer.endpoint}: 1 leased, 0 idle" in repr(manager)
        assert "0 opening, 0 closing, 0 waiting>" in repr(manager)
        manager.release(asker)
        await manager.close()
        assert "closed" in repr(manager)

    play(loop, scenario)

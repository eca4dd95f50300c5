"""Limits, and who is served when they are reached."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest
import trustme

from reactor import (
    ConnectionManager,
    ConnectRefusedError,
    Endpoint,
    EndpointTimeoutError,
    PoolFullError,
    client_context,
    run,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Peer,
    check,
    counts,
    play,
    settle,
    until,
)


def test_waiters_of_an_endpoint_are_served_first_come_first_served(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        order = []

        async def use(number: int) -> None:
            async with manager.lease(Asker, peer.endpoint) as asker:
                order.append(number)
                await asker.ask(b"x")
                assert peer.open <= 1
                check(manager)

        await asyncio.gather(*map(use, range(10)))
        assert order == list(range(10))
        assert manager.stats()["opened"] == 1
        await manager.close()

    play(loop, scenario)


def test_limits_hold_for_all_and_for_each_endpoint(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=5, max_per_endpoint=2)
        highest = 0

        async def use(number: int) -> None:
            nonlocal highest
            async with manager.lease(Asker, peer.endpoints[number % 4]) as asker:
                check(manager)
                await asker.ask(b"x")
                highest = max(highest, manager._policy.total)

        await asyncio.gather(*map(use, range(60)))
        assert highest == 5
        await manager.close()

    play(loop, scenario)


def test_idle_connection_of_another_endpoint_is_closed_to_make_room(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        for endpoint in peer.endpoints:
            async with manager.lease(Asker, endpoint) as asker:
                await asker.ask(b"x")
            check(manager)
        await settle()
        assert counts(manager) == {**NOTHING, "idle": 2}
        assert [pool.scheme for pool in manager._policy.pools] == ["s2", "s3"]
        await manager.close()

    play(loop, scenario)


def test_connection_that_comes_free_makes_room_for_who_waits_elsewhere(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoints[0])
        other = asyncio.ensure_future(manager.acquire(Asker, peer.endpoints[1]))
        await settle()
        assert counts(manager) == {**NOTHING, "leased": 1, "waiting": 1}
        manager.release(asker)
        manager.release(await other)
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_busy_endpoint_does_not_starve_a_quiet_one(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        turns = 0
        turns_of_others = 0
        served = False

        async def busy() -> None:
            nonlocal turns
            while not served:
                async with manager.lease(Asker, peer.endpoints[0]) as asker:
                    turns += 1
                    assert turns < 10_000
                    await asker.ask(b"x")

        async def quiet() -> None:
            nonlocal served, turns, turns_of_others
            turns = 0
            async with manager.lease(Asker, peer.endpoints[1]) as asker:
                served = True
                turns_of_others = turns
                await asker.ask(b"x")

        crowd = [asyncio.ensure_future(busy()) for _ in range(8)]
        await until(lambda: turns > 10)
        await asyncio.gather(quiet(), *crowd)
        # six waited already, and some more turns pass while the new connection is made
        assert turns_of_others < 100
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_wait_has_a_deadline(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        for endpoint in peer.endpoints[:2]:
            with pytest.raises(EndpointTimeoutError, match=r"pool 127\.0\.0\.1") as caught:
                await manager.acquire(Asker, endpoint, deadline=loop.time() + 0.01)
            assert caught.value.phase == "pool"
        assert counts(manager) == {**NOTHING, "leased": 1}
        assert len(manager._policy.pools) == 1
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_one_caller_too_many_is_turned_away(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1, max_waiting=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        for endpoint in peer.endpoints[:2]:
            with pytest.raises(PoolFullError, match="1 callers wait"):
                await manager.acquire(Asker, endpoint)
        assert len(manager._policy.pools) == 1
        manager.release(asker)
        assert await waiting is asker
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_failure_to_open_lets_the_next_caller_try(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        endpoint = peer.endpoint._replace(port=1)
        tasks = [asyncio.ensure_future(manager.acquire(Asker, endpoint)) for _ in range(3)]
        for task in tasks:
            with pytest.raises(ConnectRefusedError):
                await task
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


def test_closing_connections_count_and_are_aborted_when_somebody_waits() -> None:
    """The server never answers a close_notify, which may take it half a minute."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    accepted: list[ssl.SSLSocket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(context.wrap_socket(connection, server_side=True))

    async def main() -> None:
        endpoint = Endpoint(
            "s",
            "127.0.0.1",
            listener.getsockname()[1],
            client_context(ca_pem=authority.cert_pem.bytes()),
        )
        manager = ConnectionManager(max_connections=2, behavior="create_and_destroy")
        transports = []
        for number in range(6):
            asker = await manager.acquire(Asker, endpoint)
            transports.append(asker.transport)
            manager.release(asker)
            check(manager)
            assert manager.stats()["closing"] == min(number + 1, 2)
            await settle()
            alive = [each for each in transports if each.get_protocol() is not None]
            assert alive == transports[-2:]
        assert "2 closing" in repr(manager)
        await manager.close(timeout=0.01)
        assert manager.stats()["closing"] == 0
        check(manager)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        run(main())
        with contextlib.suppress(OSError):  # Windows knows no shutdown of a listener
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in accepted:
            connection.close()

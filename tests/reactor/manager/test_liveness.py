"""No dead or dirty connection is handed out."""

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
    Endpoint,
    client_context,
    run,
)
from reactor.eventloop import EventLoop
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Peer,
    Strict,
    check,
    counts,
    play,
    settle,
    until,
)


def test_connection_lost_on_its_way_to_a_waiter_is_replaced(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        manager.release(asker)
        asker.transport.abort()
        fresh = await waiting
        assert fresh is not asker
        assert await fresh.ask(b"x") == b"x"
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(fresh)
        await manager.close()
        check(manager)

    play(loop, scenario)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_connection_lost_while_idle_is_not_handed_out(loop: EventLoop, how: str) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        manager.release(asker)
        await settle()
        getattr(peer.transports[0], how)()
        await until(lambda: counts(manager)["idle"] == 0)
        assert not manager._policy.pools
        assert manager.take(peer.endpoint) is None
        await manager.close()

    play(loop, scenario)


def test_connection_that_is_closing_while_idle_is_not_handed_out(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        manager.release(asker)
        asker.transport.close()
        assert manager.take(peer.endpoint) is None
        assert counts(manager) == NOTHING
        await manager.close()
        check(manager)

    play(loop, scenario)


@pytest.fixture
def prompt(loop: EventLoop, request: pytest.FixtureRequest) -> EventLoop:
    """Return a loop on a poller that sends in line, so that no pass is needed for it."""
    if request.node.callspec.params["loop"] in ("deferred", "posted"):
        pytest.skip("this poller sends in the next pass")
    return loop


def arrive(asker: Asker) -> None:
    """Wait until the system has brought what was sent to *asker*, without a pass."""
    while asker.transport.is_quiet():
        pass


@pytest.mark.parametrize("what", ["bytes", "end"])
def test_what_came_unasked_and_unread_costs_an_idle_connection(
    prompt: EventLoop, what: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Strict, peer.endpoint)
        assert await asker.ask(b"x") == b"x"
        await settle()
        manager.release(asker)
        if what == "bytes":
            peer.transports[0].write(b"poison")
        else:
            peer.transports[0].write_eof()
        arrive(asker)
        assert manager.take(peer.endpoint) is None  # no pass was made: nothing was read
        other = await manager.acquire(Strict, peer.endpoint)
        assert other is not asker
        assert manager.stats()["reused"] == 0
        manager.release(other)
        await manager.close()
        check(manager)

    play(prompt, scenario)


def test_what_came_unasked_costs_a_connection_on_its_way_to_a_waiter(prompt: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(Strict, peer.endpoint)
        await until(lambda: len(peer.transports) == 1)
        waiting = asyncio.ensure_future(manager.acquire(Strict, peer.endpoint))
        await settle()
        asker.transport.pause_reading()  # so that the loop's next pass does not read it
        peer.transports[0].write(b"poison")
        manager.release(asker)
        other = await waiting
        assert other is not asker
        manager.release(other)
        await manager.close()
        check(manager)

    play(prompt, scenario)


def test_protocol_that_can_place_what_came_keeps_its_connection(prompt: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        await until(lambda: len(peer.transports) == 1)
        manager.release(asker)
        peer.transports[0].write(b"a greeting")
        arrive(asker)
        assert manager.take(peer.endpoint) is None
        assert await manager.acquire(Asker, peer.endpoint) is asker
        assert asker.got == b"a greeting"
        manager.release(asker)
        await manager.close()
        check(manager)

    play(prompt, scenario)


def test_session_tickets_that_came_while_idle_do_not_cost_a_tls_connection() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert("127.0.0.1").configure_cert(context)
    go, sent = threading.Event(), threading.Event()

    def serve() -> None:
        """Finish the handshake, and so send the tickets, when the client is idle."""
        connection, _ = listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_side=True)
        with connection:
            while True:
                data = connection.recv(65_536)
                if not data:
                    return
                if outgoing_sent:
                    go.wait()
                incoming.write(data)
                with contextlib.suppress(ssl.SSLWantReadError):
                    if sent.is_set():
                        end.read(100)
                    else:
                        end.do_handshake()
                        connection.sendall(outgoing.read())
                        sent.set()
                if outgoing.pending:
                    connection.sendall(outgoing.read())
                    outgoing_sent.append(True)

    async def main() -> None:
        endpoint = Endpoint(
            "s",
            "127.0.0.1",
            listener.getsockname()[1],
            client_context(ca_pem=authority.cert_pem.bytes()),
        )
        manager = ConnectionManager()
        asker = await manager.acquire(Strict, endpoint)
        manager.release(asker)
        go.set()
        sent.wait()
        assert not asker.transport.is_quiet()
        assert manager.take(endpoint) is None
        assert await manager.acquire(Strict, endpoint) is asker
        assert asker.transport.is_quiet()
        assert manager.stats()["reused"] == 1
        manager.discard(asker)
        await manager.close()

    outgoing_sent: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        run(main())
        thread.join()


@pytest.mark.parametrize("give", ["release", "discard"])
def test_connection_lost_while_leased_frees_its_slot_and_may_be_given_back(
    loop: EventLoop, give: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(Asker, peer.endpoint)
        waiting = asyncio.ensure_future(manager.acquire(Asker, peer.endpoint))
        await settle()
        peer.transports[0].abort()
        other = await waiting
        assert other is not asker
        getattr(manager, give)(asker)
        with pytest.raises(ValueError, match="not leased"):
            getattr(manager, give)(asker)
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(other)
        await manager.close()
        assert not manager._all()

    play(loop, scenario)


def test_caller_that_is_cancelled_while_the_loop_reads_leaves_nothing_leased(
    prompt: EventLoop,
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(Asker, peer.endpoint)
        await until(lambda: len(peer.transports) == 1)
        manager.release(asker)
        peer.transports[0].write(b"x")
        arrive(asker)
        caller = manager.acquire(Asker, peer.endpoint)
        caller.send(None)  # as a task does, but now
        assert counts(manager)["leased"] == 1
        with pytest.raises(asyncio.CancelledError):
            caller.throw(asyncio.CancelledError())
        assert counts(manager)["leased"] == 0
        await manager.close()
        check(manager)

    play(prompt, scenario)

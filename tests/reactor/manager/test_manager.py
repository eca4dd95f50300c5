"""The connection manager over real connections, on every poller."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme

from reactor import (
    ConnectionLostError,
    ConnectionManager,
    ConnectRefusedError,
    Endpoint,
    EndpointTimeoutError,
    PoolFullError,
    Protocol,
    client_context,
    run,
)
from reactor.eventloop import EventLoop
from reactor.testing import listen

NOTHING = {"leased": 0, "idle": 0, "opening": 0, "waiting": 0}
QUIET = {**NOTHING, "closing": 0}


class Echo(asyncio.Protocol):
    """The server: sends back what comes, and remembers its connections."""

    transports: list[Any]

    def __init__(self, transports: list[Any]) -> None:
        self.transports = transports

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transports.append(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """The client: sends bytes and waits for as many; nothing of HTTP."""

    def __init__(self) -> None:
        self.got = b""
        self.waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def ask(self, data: bytes) -> bytes:
        self.got = b""
        self.transport.write(data)
        while len(self.got) < len(data):
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.got


class Peer:
    """A running echo server; ``endpoints`` are names for it that are different keys."""

    def __init__(self, port: int, transports: list[Any]) -> None:
        self.transports = transports
        self.endpoints = [Endpoint(f"s{n}", "127.0.0.1", port) for n in range(4)]
        self.endpoint = self.endpoints[0]

    @property
    def open(self) -> int:
        return sum(not transport.is_closing() for transport in self.transports)


@contextlib.asynccontextmanager
async def echoing(loop: EventLoop) -> AsyncIterator[Peer]:
    transports: list[Any] = []
    server = await listen(loop, lambda: Echo(transports))
    try:
        yield Peer(server.sockets[0].getsockname()[1], transports)
    finally:
        server.close()
        for transport in transports:
            transport.abort()
        await settle()


async def settle() -> None:
    """Let happen what is under way; a simulated poller reports late, on its own clock."""
    loop: Any = asyncio.get_running_loop()
    if hasattr(loop.poller, "advance"):
        await asyncio.sleep(0.005)
    for _ in range(8):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is the manager's state and has no event
        await asyncio.sleep(0)


def counts(manager: ConnectionManager) -> dict[str, int]:
    stats = manager.stats()
    return {name: stats[name] for name in NOTHING}


def check(manager: ConnectionManager) -> None:
    """Assert that the books are in order."""
    manager._policy.check()
    stats = manager.stats()
    assert manager._policy.total == stats["leased"] + stats["idle"] + (
        stats["opening"] + stats["closing"]
    )


Scenario = Callable[[Peer], Awaitable[None]]


def play(loop: EventLoop, scenario: Scenario) -> None:
    async def main() -> None:
        async with echoing(loop) as peer:
            await scenario(peer)

    loop.run_until_complete(main())


# -- leasing ---------------------------------------------------------------------------------


def test_any_protocol_is_pooled_and_reused(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        protocols = set()
        for number in range(5):
            async with manager.lease(peer.endpoint, Asker) as asker:
                assert await asker.ask(b"%d" % number) == b"%d" % number
                protocols.add(asker)
                assert counts(manager) == {**NOTHING, "leased": 1}
        assert len(protocols) == 1
        assert manager.stats() == {**QUIET, "idle": 1, "opened": 1, "reused": 4}
        await manager.close()
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_protocol_of_the_standard_library_is_pooled_as_well(loop: EventLoop) -> None:
    @dataclasses.dataclass  # which makes it equal to its like, and not hashable
    class Stock(asyncio.Protocol):
        name: str = "stock"

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        one = await manager.acquire(peer.endpoint, Stock)
        two = await manager.acquire(peer.endpoint, Stock)
        assert one == two
        assert one is not two
        manager.release(one)
        manager.release(two)
        assert await manager.acquire(peer.endpoint, Stock) is two
        await until(lambda: len(peer.transports) == 2)
        peer.transports[1].abort()
        await until(lambda: counts(manager)["leased"] == 0)
        manager.release(two)  # lost meanwhile
        with pytest.raises(ValueError, match="not leased"):
            manager.release(two)
        await manager.close()

    play(loop, scenario)


def test_factory_that_returns_the_same_protocol_twice_is_refused(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        shared = asyncio.Protocol()
        await manager.acquire(peer.endpoint, lambda: shared)
        with pytest.raises(ValueError, match="second connection"):
            await manager.acquire(peer.endpoint, lambda: shared)
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(shared)
        await manager.close()
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_lease_that_raises_discards(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(ZeroDivisionError):
            async with manager.lease(peer.endpoint, Asker):
                raise ZeroDivisionError
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_create_and_destroy_uses_each_connection_once(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(behavior="create_and_destroy", max_connections=1)
        for _ in range(3):
            async with manager.lease(peer.endpoint, Asker) as asker:
                await asker.ask(b"x")
            with pytest.raises(ValueError, match="not leased"):
                manager.release(asker)
        assert manager.stats() == {**QUIET, "closing": 1, "opened": 3, "reused": 0}
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("give", ["release", "discard"])
def test_giving_back_twice_or_what_is_not_leased_raises_and_changes_nothing(
    loop: EventLoop, give: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager, other = ConnectionManager(), ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Asker)
        for foreign in (Asker(), asyncio.Protocol(), None, object()):
            with pytest.raises(ValueError, match="not leased"):
                getattr(manager, give)(foreign)
        with pytest.raises(ValueError, match="not leased"):
            getattr(other, give)(asker)
        assert counts(manager) == {**NOTHING, "leased": 1}
        getattr(manager, give)(asker)
        before = counts(manager)
        for again in ("release", "discard"):
            with pytest.raises(ValueError, match="not leased"):
                getattr(manager, again)(asker)
        assert counts(manager) == before
        await settle()
        with pytest.raises(ValueError, match="not leased"):
            getattr(manager, give)(asker)
        await manager.close()
        check(manager)

    play(loop, scenario)


@pytest.mark.parametrize(
    "field",
    [
        {"scheme": "other"},
        {"host": "localhost"},
        {"server_hostname": "name"},
        {"local_address": ("127.0.0.1", 0)},
    ],
    ids=lambda field: next(iter(field)),
)
def test_no_connection_is_shared_where_a_field_of_the_key_differs(
    loop: EventLoop, field: dict[str, Any]
) -> None:
    class Fixed:
        async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
            found: list[Any] = await loop.resolver.resolve("127.0.0.1", port)
            return found

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(resolver=Fixed())  # type: ignore[arg-type]
        one = await manager.acquire(peer.endpoint, Asker)
        manager.release(one)
        other = await manager.acquire(peer.endpoint._replace(**field), Asker)
        assert other is not one
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 1}
        manager.release(other)
        await manager.close()

    play(loop, scenario)


def test_no_connection_is_shared_between_ports_or_tls_contexts(loop: EventLoop) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = authority.cert_pem.bytes()

    async def main() -> None:
        transports: list[Any] = []
        manager = ConnectionManager()
        servers = [await listen(loop, lambda: Echo(transports)) for _ in range(2)]
        secure: list[Any] = []
        tls_server = None
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        keys = [Endpoint("s", "127.0.0.1", port) for port in ports]
        if type(loop.poller).__name__ != "SimulatedPoller":
            tls_server = await loop.create_server(lambda: Echo(secure), "127.0.0.1", 0, ssl=context)
            port = tls_server.sockets[0].getsockname()[1]
            contexts = [client_context(ca_pem=pem) for _ in range(2)]
            keys += [Endpoint("s", "127.0.0.1", port, context) for context in contexts]
        askers = []
        for key in keys:
            askers.append(await manager.acquire(key, Asker))
            assert await askers[-1].ask(b"x") == b"x"
            manager.release(askers[-1])
        assert len(set(askers)) == len(keys)
        assert counts(manager)["idle"] == len(keys)
        for key, asker in zip(keys, askers, strict=True):
            assert manager.take(key) is asker
            manager.release(asker)
        await manager.close()
        for server in [*servers, *filter(None, [tls_server])]:
            server.close()
        for transport in [*transports, *secure]:
            transport.abort()
        await settle()

    loop.run_until_complete(main())


# -- limits and waiting -------------------------------------------------------------------------


def test_waiters_of_an_endpoint_are_served_first_come_first_served(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        order = []

        async def use(number: int) -> None:
            async with manager.lease(peer.endpoint, Asker) as asker:
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
            async with manager.lease(peer.endpoints[number % 4], Asker) as asker:
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
            async with manager.lease(endpoint, Asker) as asker:
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
        asker = await manager.acquire(peer.endpoints[0], Asker)
        other = asyncio.ensure_future(manager.acquire(peer.endpoints[1], Asker))
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
                async with manager.lease(peer.endpoints[0], Asker) as asker:
                    turns += 1
                    assert turns < 10_000
                    await asker.ask(b"x")

        async def quiet() -> None:
            nonlocal served, turns, turns_of_others
            turns = 0
            async with manager.lease(peer.endpoints[1], Asker) as asker:
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
        asker = await manager.acquire(peer.endpoint, Asker)
        for endpoint in peer.endpoints[:2]:
            with pytest.raises(EndpointTimeoutError, match=r"pool 127\.0\.0\.1") as caught:
                await manager.acquire(endpoint, Asker, loop.time() + 0.01)
            assert caught.value.phase == "pool"
        assert counts(manager) == {**NOTHING, "leased": 1}
        assert len(manager._policy.pools) == 1
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_one_caller_too_many_is_turned_away(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1, max_waiting=1)
        asker = await manager.acquire(peer.endpoint, Asker)
        waiting = asyncio.ensure_future(manager.acquire(peer.endpoint, Asker))
        await settle()
        for endpoint in peer.endpoints[:2]:
            with pytest.raises(PoolFullError, match="1 callers wait"):
                await manager.acquire(endpoint, Asker)
        assert len(manager._policy.pools) == 1
        manager.release(asker)
        assert await waiting is asker
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


def test_waiter_that_is_cancelled_is_passed_over(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(peer.endpoint, Asker)
        tasks = [asyncio.ensure_future(manager.acquire(peer.endpoint, Asker)) for _ in range(3)]
        await settle()
        tasks[0].cancel()
        manager.release(asker)  # before the first has left the queue
        assert await tasks[1] is asker
        manager.release(asker)
        assert await tasks[2] is asker
        manager.release(asker)
        assert tasks[0].cancelled()
        check(manager)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_endpoint_whose_only_waiter_is_cancelled_when_its_turn_comes_is_forgotten(
    loop: EventLoop, serve: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=1)
        asker = await manager.acquire(peer.endpoints[0], Asker)
        task = asyncio.ensure_future(manager.acquire(peer.endpoints[1], Asker))
        await settle()
        task.cancel()
        getattr(manager, serve)(asker)
        await asyncio.wait([task])
        await settle()
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize("serve", ["release", "discard"])
def test_waiter_that_is_cancelled_when_it_was_just_served_passes_it_on(
    loop: EventLoop, serve: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(peer.endpoint, Asker)
        tasks = [asyncio.ensure_future(manager.acquire(peer.endpoint, Asker)) for _ in range(2)]
        await settle()
        getattr(manager, serve)(asker)
        tasks[0].cancel()
        manager.release(await tasks[1])
        assert tasks[0].cancelled()
        assert counts(manager) == {**NOTHING, "idle": 1}
        check(manager)
        await manager.close()

    play(loop, scenario)


def test_connection_lost_on_its_way_to_a_waiter_is_replaced(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(peer.endpoint, Asker)
        waiting = asyncio.ensure_future(manager.acquire(peer.endpoint, Asker))
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


def test_failure_to_open_lets_the_next_caller_try(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        endpoint = peer.endpoint._replace(port=1)
        tasks = [asyncio.ensure_future(manager.acquire(endpoint, Asker)) for _ in range(3)]
        for task in tasks:
            with pytest.raises(ConnectRefusedError):
                await task
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        await manager.close()

    play(loop, scenario)


def test_factory_that_raises_frees_the_slot(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        for error in (ZeroDivisionError, OSError, TimeoutError):

            def factory(error: type[Exception] = error) -> Any:
                raise error("mine")

            with pytest.raises(error, match=r"^mine$"):
                await manager.acquire(peer.endpoint, factory)
        assert counts(manager) == NOTHING
        await settle()
        assert peer.open == 0
        await manager.close()

    play(loop, scenario)


# -- the end of connections ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
def test_connection_lost_while_idle_is_not_handed_out(loop: EventLoop, how: str) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Asker)
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
        asker = await manager.acquire(peer.endpoint, Asker)
        manager.release(asker)
        asker.transport.close()
        assert manager.take(peer.endpoint) is None
        assert counts(manager) == NOTHING
        await manager.close()
        check(manager)

    play(loop, scenario)


# -- what came while the loop was busy ------------------------------------------------------------


@pytest.fixture
def prompt(loop: EventLoop, request: pytest.FixtureRequest) -> EventLoop:
    """Return a loop on a poller that sends in line, so that no pass is needed for it."""
    if request.node.callspec.params["loop"] in ("deferred", "posted"):
        pytest.skip("this poller sends in the next pass")
    return loop


class Strict(Asker):
    """Closes when something comes that it did not ask for, as ``HTTPProtocol`` does."""

    def data_received(self, data: bytes) -> None:
        if self.waiter is None or self.waiter.done():
            self.transport.abort()
        super().data_received(data)


@pytest.mark.parametrize("what", ["bytes", "end"])
def test_what_came_unasked_and_unread_costs_an_idle_connection(
    prompt: EventLoop, what: str
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Strict)
        assert await asker.ask(b"x") == b"x"
        await settle()
        manager.release(asker)
        if what == "bytes":
            peer.transports[0].write(b"poison")
        else:
            peer.transports[0].write_eof()
        assert not asker.transport.is_quiet()
        assert manager.take(peer.endpoint) is None  # no pass was made: nothing was read
        other = await manager.acquire(peer.endpoint, Strict)
        assert other is not asker
        assert manager.stats()["reused"] == 0
        manager.release(other)
        await manager.close()
        check(manager)

    play(prompt, scenario)


def test_what_came_unasked_costs_a_connection_on_its_way_to_a_waiter(prompt: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_per_endpoint=1)
        asker = await manager.acquire(peer.endpoint, Strict)
        await until(lambda: len(peer.transports) == 1)
        waiting = asyncio.ensure_future(manager.acquire(peer.endpoint, Strict))
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
        asker = await manager.acquire(peer.endpoint, Asker)
        await until(lambda: len(peer.transports) == 1)
        manager.release(asker)
        peer.transports[0].write(b"a greeting")
        assert manager.take(peer.endpoint) is None
        assert await manager.acquire(peer.endpoint, Asker) is asker
        assert asker.got == b"a greeting"
        manager.release(asker)
        await manager.close()
        check(manager)

    play(prompt, scenario)


def test_caller_that_is_cancelled_while_the_loop_reads_leaves_nothing_leased(
    prompt: EventLoop,
) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Asker)
        await until(lambda: len(peer.transports) == 1)
        manager.release(asker)
        peer.transports[0].write(b"x")
        caller = manager.acquire(peer.endpoint, Asker)
        caller.send(None)  # as a task does, but now
        assert counts(manager)["leased"] == 1
        with pytest.raises(asyncio.CancelledError):
            caller.throw(asyncio.CancelledError())
        assert counts(manager)["leased"] == 0
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
        asker = await manager.acquire(endpoint, Strict)
        manager.release(asker)
        go.set()
        sent.wait()
        assert not asker.transport.is_quiet()
        assert manager.take(endpoint) is None
        assert await manager.acquire(endpoint, Strict) is asker
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
        asker = await manager.acquire(peer.endpoint, Asker)
        waiting = asyncio.ensure_future(manager.acquire(peer.endpoint, Asker))
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
        assert not manager._connections

    play(loop, scenario)


def test_idle_connections_expire_by_the_loops_own_timer(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=0.05)
        askers = [await manager.acquire(peer.endpoint, Asker) for _ in range(3)]
        began = loop.time()
        for asker in askers:
            manager.release(asker)
            await asyncio.sleep(0.005)
        await until_idle_is(manager, 2)
        assert loop.time() - began >= 0.05
        assert manager.take(peer.endpoint) is askers[2]
        await until_idle_is(manager, 0)
        assert counts(manager) == {**NOTHING, "leased": 1}
        manager.release(askers[2])
        await until_idle_is(manager, 0)
        await settle()
        assert loop.stats()["timers"] == 0
        await manager.close()

    play(loop, scenario)


async def until_idle_is(manager: ConnectionManager, count: int) -> None:
    while counts(manager)["idle"] != count:  # noqa: ASYNC110 - the clock may be a virtual one
        await asyncio.sleep(0.001)


def test_expiry_of_zero_seconds_closes_in_the_next_pass(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(idle_seconds=0)
        async with manager.lease(peer.endpoint, Asker):
            pass
        await until(lambda: counts(manager) == NOTHING)
        await manager.close()

    play(loop, scenario)


# -- closing ------------------------------------------------------------------------------------


def test_close_ends_idle_waiting_and_leased(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        leased = await manager.acquire(peer.endpoints[0], Asker)
        idle = await manager.acquire(peer.endpoints[1], Asker)
        waiting = [
            asyncio.ensure_future(manager.acquire(endpoint, Asker)) for endpoint in peer.endpoints
        ]
        await settle()
        closing = asyncio.ensure_future(manager.close(timeout=0.01))
        again = asyncio.ensure_future(manager.close(timeout=0.01))
        await settle()
        manager.release(idle)
        for task in waiting:
            with pytest.raises(RuntimeError, match="closed"):
                await task
        assert manager.take(peer.endpoints[1]) is None
        with pytest.raises(RuntimeError, match="closed"):
            await manager.acquire(peer.endpoint, Asker)
        await closing
        await again
        assert counts(manager) == NOTHING
        assert leased.transport is None
        manager.discard(leased)
        await manager.close()
        check(manager)

    play(loop, scenario)


def test_close_waits_for_those_that_give_back_in_time(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Asker)
        closing = asyncio.ensure_future(manager.close())
        await settle()
        assert await asker.ask(b"still") == b"still"
        assert not closing.done()
        manager.release(asker)
        await closing
        assert counts(manager) == NOTHING

    play(loop, scenario)


def test_close_ends_what_is_being_opened_and_waits_for_it(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        class Hanging:
            async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
                await asyncio.Event().wait()
                return []

        manager = ConnectionManager(resolver=Hanging())  # type: ignore[arg-type]
        openings = [asyncio.ensure_future(manager.acquire(peer.endpoint, Asker)) for _ in range(3)]
        await settle()
        assert counts(manager) == {**NOTHING, "opening": 3}
        await manager.close()
        assert counts(manager) == NOTHING
        for opening in openings:
            with pytest.raises(RuntimeError, match="closed"):
                await opening
        check(manager)

    play(loop, scenario)


def test_close_ends_although_the_end_of_a_connection_was_swallowed(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        asker = await manager.acquire(peer.endpoint, Asker)
        asker.transport.lost_callback = None  # as when it was never reached
        await manager.close(timeout=0.01)
        assert asker.transport is None

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
            asker = await manager.acquire(endpoint, Asker)
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
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()


def test_connection_closed_in_connection_made_is_an_error_of_the_endpoint(
    loop: EventLoop,
) -> None:
    class Shy(Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.close()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(ConnectionLostError, match="before it could be used"):
            await manager.acquire(peer.endpoint, Shy)
        assert counts(manager) == NOTHING
        await manager.close()

    play(loop, scenario)


def test_manager_belongs_to_one_loop(loop: EventLoop) -> None:
    manager = ConnectionManager()

    async def scenario(peer: Peer) -> None:
        asker = await manager.acquire(peer.endpoint, Asker)

        def elsewhere() -> None:
            other = EventLoop()
            with contextlib.closing(other):
                with pytest.raises(RuntimeError, match="another event loop"):
                    other.run_until_complete(manager.acquire(peer.endpoint, Asker))
                with pytest.raises(RuntimeError, match="another event loop"):
                    other.run_until_complete(manager.close())

        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            elsewhere()
        finally:
            asyncio._set_running_loop(outer)
        manager.release(asker)
        await manager.close()

    play(loop, scenario)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_connections": 0}, ValueError),
        ({"max_per_endpoint": -1}, ValueError),
        ({"max_waiting": -1}, ValueError),
        ({"idle_seconds": -0.1}, ValueError),
        ({"idle_seconds": float("nan")}, ValueError),
        ({"behavior": "reuse"}, ValueError),
        ({"max_connections": "many"}, TypeError),
    ],
)
def test_bad_option_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ConnectionManager(**options)


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        (Endpoint("s", "", 80), ValueError),
        (Endpoint("s", "a\0b", 80), ValueError),
        (Endpoint("s", "127.0.0.1", 0), ValueError),
        (Endpoint("s", "127.0.0.1", 65536), ValueError),
        (Endpoint("s", 7, 80), TypeError),  # type: ignore[arg-type]
        (Endpoint("s", "127.0.0.1", "80"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_bad_endpoint_is_refused_and_costs_nothing(
    loop: EventLoop, endpoint: Endpoint, error: type[Exception]
) -> None:
    async def main() -> None:
        manager = ConnectionManager(max_connections=1)
        with pytest.raises(error):
            await manager.acquire(endpoint, Asker)
        assert counts(manager) == NOTHING
        assert not manager._policy.pools
        await manager.close()

    loop.run_until_complete(main())


def test_repr_tells_the_whole_state(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(max_connections=2)
        asker = await manager.acquire(peer.endpoint, Asker)
        assert f"1 of 2 connections: <{peer.endpoint}: 1 leased, 0 idle" in repr(manager)
        assert "0 opening, 0 closing, 0 waiting>" in repr(manager)
        manager.release(asker)
        await manager.close()
        assert "closed" in repr(manager)

    play(loop, scenario)


# -- at random -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(3, 2), (10, 3)])
def test_random_operations_lose_nothing(loop: EventLoop, limits: tuple[int, int]) -> None:
    """Callers at four endpoints that wait, time out, are cancelled, lose and give back."""
    dice = random.Random(4711)
    operations = 5_000

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(
            max_connections=limits[0], max_per_endpoint=limits[1], idle_seconds=0.001
        )
        held: list[Any] = []
        outcomes = {"kept": 0, "cancelled": 0, "timed out": 0}

        async def use() -> None:
            endpoint = dice.choice(peer.endpoints)
            deadline = loop.time() if dice.random() < 0.1 else None
            try:
                asker = await manager.acquire(endpoint, Asker, deadline, fresh=dice.random() < 0.05)
            except EndpointTimeoutError:
                outcomes["timed out"] += 1
                return
            held.append(asker)
            asks = False
            try:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
                if dice.random() < 0.2 and asker.transport and not asker.transport.is_closing():
                    asks = True
                    assert await asker.ask(b"x") == b"x"
                    asks = False
            finally:
                held.remove(asker)
                if asks or dice.random() < 0.2:
                    manager.discard(asker)
                else:
                    manager.release(asker)
                outcomes["kept"] += 1

        tasks: dict[asyncio.Task[None], None] = {}  # in order, so that the dice decide all
        for _ in range(operations):
            task = asyncio.ensure_future(use())
            tasks[task] = None
            task.add_done_callback(tasks.pop)
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            if tasks and dice.random() < 0.3:
                victim = dice.choice(list(tasks))
                if victim.cancel():
                    outcomes["cancelled"] += 1
            if peer.transports and dice.random() < 0.02 and not held:
                dice.choice(peer.transports).abort()
            check(manager)
            while len(tasks) > 30:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks:
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                assert result is None or isinstance(result, asyncio.CancelledError)
        check(manager)
        assert min(outcomes.values()) > operations // 200, outcomes
        stats = counts(manager)
        assert (stats["leased"], stats["opening"], stats["waiting"]) == (0, 0, 0)
        await manager.close()
        assert counts(manager) == NOTHING
        assert not manager._connections
        await settle()
        assert not manager._policy.pools
        assert peer.open == 0
        gc.collect()

    play(loop, scenario)

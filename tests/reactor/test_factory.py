"""Factories: what they make, how often they try, what they say when they give up."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import reactor
from reactor import (
    BufferedProtocol,
    ConnectError,
    ConnectRefusedError,
    EndpointError,
    EndpointTimeoutError,
    Factory,
    Protocol,
    ReconnectingFactory,
)
from reactor.eventloop import EventLoop
from reactor.testing import listen
from reactor.transports.tls import TLSProtocol
from tests.reactor.transports.tls_ends import HOST, client_default, server_default
from tests.virtual_time import pass_time

PORT = 4000
ADDRESS = ("127.0.0.1", PORT)


class Greeter(Protocol):
    """Notes what happens to it in its factory's list."""

    def connection_made(self, transport: Any) -> None:
        self.factory.events.append("made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.factory.events.append("lost")


class Client(ReconnectingFactory[Greeter]):
    """A factory that notes when it failed, without chance in its waits."""

    protocol = Greeter

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"jitter": 0, "first_delay": 1, "max_delay": 10, **options})
        self.events: list[str] = []
        self.failures: list[tuple[float, EndpointError]] = []
        self.end: Exception | None = None
        self.failed: asyncio.Queue[EndpointError] = asyncio.Queue()

    def attempt_failed(self, error: EndpointError) -> None:
        self.failures.append((asyncio.get_running_loop().time(), error))
        self.failed.put_nowait(error)

    def gave_up(self, error: Exception) -> None:
        self.end = error

    def times(self) -> list[float]:
        """Return when the attempts failed, in seconds from the first."""
        return [round(at - self.failures[0][0], 6) for at, _ in self.failures]


class Server:
    """A server that may go and come back."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.made: list[Protocol] = []
        self.server: asyncio.Server | None = None

    def factory(self) -> Protocol:
        self.made.append(Protocol())
        return self.made[-1]

    async def up(self) -> None:
        self.server = await listen(self.loop, self.factory, ADDRESS)

    def drop(self) -> None:
        for protocol in self.made:
            if protocol.transport is not None:
                protocol.transport.abort()

    def down(self) -> None:
        assert self.server is not None
        self.server.close()
        self.drop()


# -- Factory ---------------------------------------------------------------------------------


def test_factory_builds_protocols_that_know_it() -> None:
    class Mine(Factory[Protocol]):
        protocol = Protocol

    for factory in (Mine(), Factory(Protocol)):
        one, two = factory(), factory.build_protocol()
        assert type(one) is type(two) is Protocol
        assert one is not two
        assert one.factory is two.factory is factory
    assert Protocol().factory is None


def test_factory_sets_itself_on_every_kind_of_protocol() -> None:
    class Buffered(BufferedProtocol):
        __slots__ = ()

    class Plain(asyncio.Protocol):
        factory: Any

    assert isinstance(Factory(Buffered)().factory, Factory)
    assert isinstance(Factory(Plain)().factory, Factory)


def test_factory_without_a_protocol_is_refused() -> None:
    with pytest.raises(TypeError, match="Factory needs a protocol"):
        Factory()


def test_connections_of_a_server_share_their_factory(loop: EventLoop) -> None:
    class Counting(Factory[Protocol]):
        def __init__(self) -> None:
            super().__init__(Protocol)
            self.built: asyncio.Queue[Protocol] = asyncio.Queue()

        def build_protocol(self) -> Protocol:
            protocol = super().build_protocol()
            self.built.put_nowait(protocol)
            return protocol

    factory = Counting()

    async def main() -> None:
        server = await listen(loop, factory)
        host, port = server.sockets[0].getsockname()
        links = [(await reactor.connect(Protocol, host, port))[0] for _ in range(3)]
        built = [await factory.built.get() for _ in links]
        assert [protocol.factory for protocol in built] == [factory] * 3
        for link in links:
            link.abort()
        server.close()

    loop.run_until_complete(main())


# -- ReconnectingFactory: the waits -------------------------------------------------------------


def test_waits_grow_by_the_factor_up_to_the_longest(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client(max_retries=6)

    async def main() -> None:
        client.connect(*ADDRESS)
        with pytest.raises(ConnectRefusedError):
            await client.connected()

    loop.run_until_complete(main())
    waits = [after - before for before, after in pairwise(client.times())]
    assert waits == pytest.approx([1, 2, 4, 8, 10, 10], abs=0.01)


def test_jitter_shortens_each_wait_at_random(
    simulated: Callable[..., EventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([0.0, 0.5, 1.0])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    loop = simulated()
    client = Client(jitter=0.5, factor=1, max_retries=3)

    async def main() -> None:
        client.connect(*ADDRESS)
        await client.wait_closed()

    loop.run_until_complete(main())
    waits = [after - before for before, after in pairwise(client.times())]
    assert waits == pytest.approx([1, 0.75, 0.5], abs=0.01)


def test_default_waits_are_never_longer_than_the_longest() -> None:
    factory = ReconnectingFactory(Protocol, max_delay=8)
    waits = [factory._next_delay() for _ in range(5000)]
    assert max(waits) <= 8
    assert min(waits[10:]) >= 4
    assert len(set(waits)) > 100


def test_success_resets_the_wait_and_the_count(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client(max_retries=3)
    server = Server(loop)

    async def main() -> None:
        client.connect(*ADDRESS)
        for _ in range(3):
            await client.failed.get()
        await asyncio.sleep(0)
        assert (client.retries, client.delay) == (3, 8)
        await server.up()
        await client.connected()
        assert (client.retries, client.delay) == (0, 1)
        server.down()
        lost_at = loop.time() - client.failures[0][0]
        await client.wait_closed()
        times = [round(at - lost_at, 2) for at in client.times()[3:]]
        assert times == pytest.approx([1, 3, 7, 15], abs=0.05)  # one, and three retries

    loop.run_until_complete(main())
    assert isinstance(client.end, ConnectRefusedError)
    assert client.events == ["made", "lost"]


def test_lost_connection_is_replaced_after_the_first_wait(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    client = Client()
    server = Server(loop)

    async def main() -> None:
        await server.up()
        client.connect(*ADDRESS)
        first = await client.connected()
        assert await client.connected() is first
        began = loop.time()
        first.transport.close()  # however it was lost
        await pass_time(0)  # it hears of it
        assert client.events == ["made", "lost"]
        await pass_time(0.5)
        second = await client.connected()
        assert second is not first
        assert loop.time() - began == pytest.approx(1, abs=0.05)
        client.stop()
        await client.wait_closed()
        server.down()

    loop.run_until_complete(main())
    assert client.events == ["made", "lost", "made", "lost"]


def test_server_that_accepts_and_drops_at_once_is_not_hammered(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    client = Client()

    class Rude(Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.abort()

    async def main() -> None:
        server = await listen(loop, Rude, ADDRESS)
        client.connect(*ADDRESS)
        for _ in range(21):
            await pass_time(0.5)
        client.stop()
        await client.wait_closed()
        server.close()

    loop.run_until_complete(main())
    assert 9 <= client.events.count("made") <= 11


@pytest.mark.parametrize(
    "options",
    [
        {"first_delay": 0},
        {"first_delay": 2, "max_delay": 1},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"max_retries": -1},
        {"attempt_timeout": 0},
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ReconnectingFactory(Protocol, **options)


# -- ReconnectingFactory: failing and giving up ----------------------------------------------------


def test_no_retries_means_one_attempt(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client(max_retries=0)

    async def main() -> None:
        client.connect(*ADDRESS)
        with pytest.raises(ConnectRefusedError) as caught:
            await client.connected()
        assert (caught.value.host, caught.value.port) == ADDRESS
        assert caught.value is client.end
        with pytest.raises(ConnectRefusedError):  # who asks later is told as well
            await client.connected()

    loop.run_until_complete(main())
    assert len(client.failures) == 1


def test_attempt_that_takes_too_long_is_a_failure(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client(max_retries=1, attempt_timeout=5)

    async def main() -> None:
        loop.poller.network.black_hole(ADDRESS)  # type: ignore[attr-defined]
        client.connect(*ADDRESS)
        with pytest.raises(EndpointTimeoutError):
            await client.connected()

    loop.run_until_complete(main())
    assert client.times() == pytest.approx([0, 6], abs=0.01)


def test_giving_up_while_nobody_waits_is_reported(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    factory = ReconnectingFactory(Protocol, max_retries=0)

    async def main() -> None:
        factory.connect(*ADDRESS)
        await factory.wait_closed()

    loop.run_until_complete(main())
    (report,) = loop.reported  # type: ignore[attr-defined]
    loop.reported.clear()  # type: ignore[attr-defined]
    assert report["message"] == ("<ReconnectingFactory stopped: 127.0.0.1:4000, retries=1> gave up")
    assert isinstance(report["exception"], ConnectRefusedError)


def test_failure_to_build_a_protocol_is_not_tried_again(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    server = Server(loop)

    class Broken(Client):
        def build_protocol(self) -> Greeter:
            raise OSError("no protocol today")

    client = Broken()

    async def main() -> None:
        await server.up()
        client.connect(*ADDRESS)
        with pytest.raises(OSError, match="no protocol today"):
            await client.connected()
        server.down()

    loop.run_until_complete(main())
    assert client.failures == []


def test_factory_that_gave_up_may_connect_again(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    server = Server(loop)

    class Stubborn(Client):
        def gave_up(self, error: Exception) -> None:
            self.connect(*ADDRESS)

    client = Stubborn(max_retries=1)

    async def main() -> None:
        client.connect(*ADDRESS)
        with pytest.raises(ConnectRefusedError):
            await client.connected()
        await server.up()
        await client.connected()
        client.stop()
        await client.wait_closed()
        server.down()

    loop.run_until_complete(main())


# -- ReconnectingFactory: stopping -------------------------------------------------------------


def test_stop_in_a_wait_ends_it(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client()

    async def main() -> None:
        client.connect(*ADDRESS)
        asking = asyncio.ensure_future(client.connected())
        await pass_time(0.5)
        client.stop()
        with pytest.raises(ConnectError, match="the factory was stopped"):
            await asking
        await client.wait_closed()
        client.stop()  # which does nothing

    loop.run_until_complete(main())
    assert (len(client.failures), client.end) == (1, None)


@pytest.mark.parametrize("passes", range(4))
def test_stop_in_an_attempt_leaves_nothing_open(
    simulated: Callable[..., EventLoop], passes: int
) -> None:
    loop = simulated()
    client = Client()

    async def main() -> None:
        loop.poller.network.black_hole(ADDRESS)  # type: ignore[attr-defined]
        client.connect(*ADDRESS)
        for _ in range(passes):
            await asyncio.sleep(0)
        client.stop()
        await client.wait_closed()
        with pytest.raises(ConnectError, match="stopped"):
            await client.connected()

    loop.run_until_complete(main())
    assert client.failures == []


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("where", ["build", "made", "data", "lost"])
def test_stop_inside_a_callback_ends_the_connection_for_good(
    loop: EventLoop, where: str, tls: bool
) -> None:
    class Stopping(Protocol):
        def connection_made(self, transport: Any) -> None:
            if where == "made":
                self.factory.stop()

        def data_received(self, data: bytes) -> None:
            if where == "data":
                self.factory.stop()
            else:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            if where == "lost":
                self.factory.stop()

    class Mine(ReconnectingFactory[Stopping]):
        protocol = Stopping
        built = 0

        def build_protocol(self) -> Stopping:
            self.built += 1
            if where == "build":
                self.stop()
            return super().build_protocol()

    class Talker(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")

    factory = Mine(first_delay=0.001)

    def serve() -> asyncio.BaseProtocol:
        talker = Talker()
        return TLSProtocol(loop, talker, server_default(), server_side=True) if tls else talker

    async def main() -> None:
        server = await listen(loop, serve)
        options: dict[str, Any] = {"tls": client_default(), "server_hostname": HOST} if tls else {}
        factory.connect(*server.sockets[0].getsockname(), **options)
        await factory.wait_closed()
        server.close()

    loop.run_until_complete(main())
    assert factory.built == 1


def test_stopped_factory_may_connect_again_at_once(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client()
    server = Server(loop)

    async def main() -> None:
        await server.up()
        client.connect(*ADDRESS)
        with pytest.raises(RuntimeError, match="has an endpoint already"):
            client.connect(*ADDRESS)
        client.stop()
        client.connect(*ADDRESS)
        first = await client.connected()
        client.stop()
        client.connect(*ADDRESS)
        second = await client.connected()
        assert first is not second
        await pass_time(5)
        assert await client.connected() is second
        client.stop()
        await client.wait_closed()
        server.down()

    loop.run_until_complete(main())
    assert client.events.count("made") == client.events.count("lost") == 2


def test_cancelled_question_leaves_the_factory_alone(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client()
    server = Server(loop)

    async def main() -> None:
        client.connect(*ADDRESS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.connected()
        await server.up()
        await client.connected()
        client.stop()
        await client.wait_closed()
        server.down()

    loop.run_until_complete(main())


def test_bad_endpoint_is_refused_at_once(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    client = Client()

    async def main() -> None:
        with pytest.raises(ValueError, match="a port is 1 to 65535"):
            client.connect("localhost", 0)
        with pytest.raises(RuntimeError, match="was not called"):
            await client.connected()
        await client.wait_closed()

    loop.run_until_complete(main())
    assert repr(client) == "<Client idle: nowhere, retries=0>"


def test_end_of_the_run_stops_the_factory() -> None:
    client = Client()

    async def main() -> None:
        client.connect("127.0.0.1", 9)

    reactor.run(main())
    gc.collect()
    assert "stopped" in repr(client)

"""Connecting by name: the phases, their errors, and nothing left open by any of them."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from reactor import (
    ConnectError,
    ConnectRefusedError,
    EndpointTimeoutError,
    Protocol,
    ResolveError,
    Resolver,
    TLSCertificateError,
    TLSError,
    client_context,
    connect,
)
from reactor.eventloop import EventLoop
from reactor.resolver import AddressInfo
from reactor.testing import listen
from reactor.transports.tcp import Connector
from tests.virtual_time import pass_time


class Names(Resolver):
    """A resolver that knows what the test tells it."""

    def __init__(self, *addresses: str, error: BaseException | None = None) -> None:
        super().__init__()
        self.addresses = addresses
        self.error = error
        self.asked: list[tuple[str, int, int]] = []

    async def resolve(self, host: str, port: int, family: int = 0) -> list[AddressInfo]:
        self.asked.append((host, port, family))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return [
            AddressInfo(
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                (each, port, 0, 0) if ":" in each else (each, port),
            )
            for each in self.addresses
        ]


class Quiet(asyncio.Protocol):
    """A server that holds on to its connections for the test to end them."""

    transports: list[Any]

    def __init__(self, transports: list[Any]) -> None:
        self.transports = transports

    def connection_made(self, transport: Any) -> None:
        self.transports.append(transport)

    def eof_received(self) -> bool:
        return False


class Site:
    """A listener, its port, and the connections it accepted."""

    def __init__(self, server: asyncio.Server, transports: list[Any]) -> None:
        self.server = server
        self.transports = transports
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.server.close()
        for transport in self.transports:
            transport.abort()
        await rest()


async def rest() -> None:
    loop: Any = asyncio.get_running_loop()
    if hasattr(loop.poller, "advance"):
        await pass_time(0.01)
        return
    for _ in range(8):
        await asyncio.sleep(0)


async def site(loop: EventLoop, address: Any = ("127.0.0.1", 0)) -> Site:
    transports: list[Any] = []
    return Site(await listen(loop, lambda: Quiet(transports), address), transports)


def test_connect_returns_transport_and_protocol(loop: EventLoop) -> None:
    async def main() -> None:
        there = await site(loop)
        names = Names("127.0.0.1")
        transport, protocol = await connect(
            Protocol,
            "name.example",
            there.port,
            resolver=names,
            family=socket.AF_INET,
        )
        assert protocol.transport is transport
        assert transport.get_extra_info("peername") == ("127.0.0.1", there.port)
        assert names.asked == [("name.example", there.port, socket.AF_INET)]
        transport.abort()
        await there.close()

    loop.run_until_complete(main())


def test_connect_from_a_local_address(loop: EventLoop) -> None:
    async def main() -> None:
        there = await site(loop)
        transport, _ = await connect(
            Protocol, "127.0.0.1", there.port, local_address=("127.0.0.1", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
        transport.abort()
        await there.close()

    loop.run_until_complete(main())


def test_address_that_is_refused_is_followed_by_the_next(loop: EventLoop) -> None:
    async def main() -> None:
        there = await site(loop)
        transport, _ = await connect(
            Protocol,
            "name",
            there.port,
            resolver=Names("::1", "127.0.0.1"),
        )
        assert transport.get_extra_info("peername")[0] == "127.0.0.1"
        transport.abort()
        await there.close()

    loop.run_until_complete(main())


def test_black_holed_first_address_costs_a_quarter_of_a_second_and_is_closed(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()

    async def main() -> None:
        there = await site(loop)
        network = loop.poller.network  # type: ignore[attr-defined]
        network.black_hole(("10.0.0.1", there.port))
        before = len(network.sockets)
        began = loop.time()
        transport, _ = await connect(
            Protocol,
            "name",
            there.port,
            resolver=Names("10.0.0.1", "127.0.0.1"),
        )
        assert 0.25 <= loop.time() - began < 0.35
        await rest()
        assert len(network.sockets) == before + 2  # the winner's two ends
        transport.abort()
        await there.close()

    loop.run_until_complete(main())


def test_loser_that_connects_in_the_same_moment_is_closed(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated(latency_seconds=0.3)

    async def main() -> None:
        there = await site(loop, ("0.0.0.0", 0))
        network = loop.poller.network  # type: ignore[attr-defined]
        network.link(("10.0.0.1", there.port), 0.425)
        transport, _ = await connect(
            Protocol,
            "name",
            there.port,
            resolver=Names("10.0.0.1", "10.0.0.2"),
        )
        await pass_time(3)
        clients = [each for each in network.connections if each.remote[1] == there.port]
        assert len(clients) == 1
        transport.abort()
        await pass_time(1)
        await there.close()

    loop.run_until_complete(main())


# -- failures -----------------------------------------------------------------------------------


def failure(loop: EventLoop, work: Any) -> Any:
    """Return what *work* raises, after making sure that it left nothing open."""
    try:
        loop.run_until_complete(work)
    except Exception as error:
        gc.collect()
        return error
    raise AssertionError("it did not fail")


def garbage_of(loop: EventLoop, scenario: Callable[[], Any]) -> list[Any]:
    """Return what of a connection the collector alone can free once *scenario* is over."""
    loop.run_until_complete(scenario())  # what only the first one makes
    gc.collect()
    gc.disable()
    try:
        loop.run_until_complete(scenario())
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = (BaseException, asyncio.Future, asyncio.BaseTransport, Connector)
        return [each for each in gc.garbage if isinstance(each, kinds)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_name_without_an_address(loop: EventLoop) -> None:
    cause = socket.gaierror(socket.EAI_NONAME, "no such name")
    error = failure(loop, connect(Protocol, "no.example", 80, resolver=Names(error=cause)))
    assert isinstance(error, ResolveError)
    assert isinstance(error, socket.gaierror)
    assert (str(error), error.errno) == ("resolve no.example:80: no such name", socket.EAI_NONAME)
    assert error.__cause__ is cause


def test_all_addresses_refused_names_the_others(loop: EventLoop) -> None:
    error = failure(loop, connect(Protocol, "name", 1, resolver=Names("127.0.0.1", "127.0.0.2")))
    assert isinstance(error, ConnectRefusedError)
    assert str(error).startswith("connect name:1: ")
    assert error.errno == errno.ECONNREFUSED
    cause: Any = error.__cause__
    assert len(cause.__notes__) == 1


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2")])
def test_failure_that_is_forgotten_is_freed_without_the_collector(
    loop: EventLoop, addresses: tuple[str, ...]
) -> None:
    async def main() -> None:
        with pytest.raises(ConnectRefusedError):
            await connect(Protocol, "name", 1, resolver=Names(*addresses))

    assert not garbage_of(loop, main)


def test_connection_that_is_over_is_freed_without_the_collector(loop: EventLoop) -> None:
    async def main() -> None:
        place = await site(loop)
        transport, _ = await connect(Protocol, "name", place.port, resolver=Names("127.0.0.1"))
        transport.abort()
        await place.close()

    assert not garbage_of(loop, main)


def test_local_address_that_is_not_ours() -> None:
    loop = EventLoop()  # a simulated network has no addresses that are not ours
    error = failure(loop, connect(Protocol, "127.0.0.1", 1, local_address=("192.0.2.1", 0)))
    assert isinstance(error, ConnectError)
    assert error.errno == errno.EADDRNOTAVAIL
    assert not any(loop.stats().values())
    loop.close()


def test_no_descriptor_left(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    loop.poller.network.fail("open", errno.EMFILE)  # type: ignore[attr-defined]
    error = failure(loop, connect(Protocol, "127.0.0.1", 80))
    assert isinstance(error, ConnectError)
    assert error.errno == errno.EMFILE


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_errno_of_the_system_is_kept(simulated: Callable[..., EventLoop], number: int) -> None:
    loop = simulated()
    loop.poller.network.fail("connect", number)  # type: ignore[attr-defined]
    error = failure(loop, connect(Protocol, "127.0.0.1", 80))
    expected = EndpointTimeoutError if number == errno.ETIMEDOUT else ConnectError
    assert isinstance(error, expected)
    cause: Any = error.__cause__
    assert cause.errno == number
    assert "deadline" not in str(error)


def test_deadline_passes_in_every_phase(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()

    class Stuck(Names):
        async def resolve(self, host: str, port: int, family: int = 0) -> list[AddressInfo]:
            await asyncio.Event().wait()
            return []

    async def main() -> None:
        there = await site(loop)
        loop.poller.network.black_hole(("10.0.0.1", 80))  # type: ignore[attr-defined]
        context = client_context()
        cases: list[tuple[str, dict[str, Any]]] = [
            ("resolve", {"host": "name", "port": 80, "resolver": Stuck()}),
            ("connect", {"host": "10.0.0.1", "port": 80}),
            ("tls", {"host": "127.0.0.1", "port": there.port, "tls": context}),
        ]
        for phase, arguments in cases:
            began = loop.time()
            with pytest.raises(EndpointTimeoutError, match="the deadline passed") as caught:
                await connect(Protocol, **arguments, deadline=began + 5)
            assert caught.value.phase == phase
            assert isinstance(caught.value, TimeoutError)
            assert 5 <= loop.time() - began < 5.1
        await there.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [ZeroDivisionError, OSError, TimeoutError, ConnectionResetError])
@pytest.mark.parametrize("secure", [False, True])
def test_what_the_factory_raises_is_raised_as_it_is(
    loop: EventLoop, kind: type[Exception], secure: bool
) -> None:
    def factory() -> Protocol:
        raise kind("mine")

    async def main() -> None:
        there = await site(loop)
        with pytest.raises(kind, match=r"^mine$") as caught:
            await connect(
                factory, "127.0.0.1", there.port, tls=client_context() if secure else None
            )
        assert type(caught.value) is kind
        await there.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    ("host", "port", "kind"),
    [("", 80, ValueError), ("a\0b", 80, ValueError), (None, 80, TypeError), (b"x", 80, TypeError),
     ("x", 0, ValueError), ("x", 65536, ValueError), ("x", -1, ValueError), ("x", "80", TypeError)],
)  # fmt: skip
def test_bad_host_or_port_raises_before_any_work(
    loop: EventLoop, host: Any, port: Any, kind: type[Exception]
) -> None:
    names = Names("127.0.0.1")
    error = failure(loop, connect(Protocol, host, port, resolver=names))
    assert type(error) is kind
    assert names.asked == []


def test_stock_event_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reactor event loop"):
        asyncio.run(connect(Protocol, "127.0.0.1", 80))


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_cancelled_in_any_pass_nothing_is_left_open(loop: EventLoop, secure: bool) -> None:
    if secure and hasattr(loop.poller, "network"):
        pytest.skip("the server's side of TLS takes a real socket here")
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    context = client_context(ca_pem=authority.cert_pem.bytes()) if secure else None

    async def main() -> None:
        transports: list[Any] = []
        if secure:
            server = await loop.create_server(
                lambda: Quiet(transports), "127.0.0.1", 0, ssl=server_side
            )
            there = Site(server, transports)
        else:
            there = await site(loop)
        steps, done = 0, False
        while not done:
            task = asyncio.ensure_future(
                connect(Protocol, "name", there.port, tls=context, server_hostname="127.0.0.1",
                        resolver=Names("::1", "127.0.0.1"))
            )  # fmt: skip
            for _ in range(steps):
                await asyncio.sleep(0)
                if task.done():
                    break
            done = task.done()
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()[0].abort()
            await rest()
            assert all(each.is_closing() for each in there.transports)
            steps += 1
            assert steps < 5_000
        await there.close()

    loop.run_until_complete(main())


# -- TLS ----------------------------------------------------------------------------------


def test_tls_verifies_the_host_or_the_name_that_was_given() -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("service.example").configure_cert(server_side)
    context = client_context(ca_pem=authority.cert_pem.bytes())
    loop = EventLoop()

    async def main() -> None:
        transports: list[Any] = []
        server = await loop.create_server(
            lambda: Quiet(transports), "127.0.0.1", 0, ssl=server_side
        )
        there = Site(server, transports)
        transport, protocol = await connect(
            Protocol, "127.0.0.1", there.port, tls=context, server_hostname="service.example"
        )
        assert transport.get_extra_info("ssl_object") is not None
        assert protocol.transport is transport
        transport.abort()
        with pytest.raises(TLSCertificateError) as caught:
            await connect(Protocol, "127.0.0.1", there.port, tls=context)
        assert (caught.value.phase, caught.value.host) == ("tls", "127.0.0.1")
        assert isinstance(caught.value, TLSError | ssl.SSLCertVerificationError)
        await there.close()

    loop.run_until_complete(main())
    loop.close()

"""The connector: one attempt, taken or closed exactly once."""

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from reactor.eventloop import EventLoop, new_event_loop
from reactor.pollers.simulated import SimulatedPoller
from reactor.testing import connect, listen
from reactor.transports.tcp import Connector
from tests.reactor.recorder import Recorder, finish, settle, turn, until

STREAM = socket.SOCK_STREAM
HOLE = ("192.0.2.1", 80)


def connector(loop: EventLoop, address: Any, **options: Any) -> Connector:
    return Connector(loop, socket.AF_INET, STREAM, 0, address, **options)


def refused_address(loop: EventLoop) -> Any:
    if isinstance(loop.poller, SimulatedPoller):
        return ("127.0.0.1", 9)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


def serve(loop: EventLoop) -> tuple[asyncio.Server, Any, list[Recorder]]:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = loop.run_until_complete(listen(loop, factory))
    return server, server.sockets[0].getsockname(), made


def test_connected_socket_is_taken_once(loop: EventLoop) -> None:
    server, address, made = serve(loop)
    attempt = connector(loop, address)

    async def main() -> Any:
        assert await attempt.start() is attempt
        return attempt.transport(Recorder())

    link = loop.run_until_complete(main())
    with pytest.raises(RuntimeError, match="no connected socket"):
        attempt.transport(Recorder())
    attempt.close()
    client = link.get_protocol()
    assert client.events == ["connection_made"]
    server.close()
    settle(loop)
    finish(loop, client, *made)


def test_transport_before_the_connection_raises(loop: EventLoop) -> None:
    attempt = connector(loop, refused_address(loop))
    settle(loop)
    attempt.close()
    with pytest.raises(RuntimeError, match="no connected socket"):
        attempt.transport(Recorder())


def test_refused_connection_is_connection_refused(loop: EventLoop) -> None:
    with pytest.raises(ConnectionRefusedError) as raised:
        loop.run_until_complete(connect(loop, Recorder, refused_address(loop)))
    assert raised.value.errno == errno.ECONNREFUSED


def test_local_address_is_bound(loop: EventLoop) -> None:
    server, address, made = serve(loop)
    local = refused_address(loop)[1] + 1 if isinstance(loop.poller, SimulatedPoller) else 0
    attempt = connector(loop, address, local=("127.0.0.1", local))
    client = Recorder()
    link = loop.run_until_complete(attempt.start()).transport(client)
    host, port = link.get_extra_info("sockname")
    assert host == "127.0.0.1"
    assert local in {0, port}
    settle(loop)
    server.close()
    finish(loop, client, *made)


def test_local_address_in_use_raises_and_leaks_nothing(loop: EventLoop) -> None:
    server, address, _ = serve(loop)
    with pytest.raises(OSError, match="in use"):
        connector(loop, ("127.0.0.1", 1), local=address)
    gc.collect()
    server.close()
    settle(loop)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("localhost", 80), ValueError),
        (("127.0.0.1", 70000), ValueError),
        ("127.0.0.1:80", TypeError),
        (("127.0.0.1", "80"), TypeError),
    ],
)
def test_what_is_no_address_raises_before_a_socket_is_made(
    loop: EventLoop, address: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        connector(loop, address)
    with pytest.raises(error):
        connector(loop, ("127.0.0.1", 1), local=address)


def test_family_that_does_not_exist_raises(loop: EventLoop) -> None:
    with pytest.raises(ValueError, match="not supported"):
        Connector(loop, 999, STREAM, 0, ("127.0.0.1", 1))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_process_without_descriptors_says_so(
    simulated: Callable[..., EventLoop], number: int
) -> None:
    loop = simulated()
    loop.poller.network.fail("open", number)  # type: ignore[attr-defined]
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number is what counts
        connector(loop, ("127.0.0.1", 1))
    assert raised.value.errno == number


def test_closed_attempt_ends_with_ecanceled(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated(latency_seconds=0.01)
    loop.poller.network.black_hole(HOLE)  # type: ignore[attr-defined]
    attempt = connector(loop, HOLE)
    future = attempt.start()
    attempt.close()
    attempt.close()
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number is what counts
        loop.run_until_complete(future)
    assert raised.value.errno == errno.ECANCELED


def test_attempt_that_is_closed_when_it_is_connected_already_never_says_so(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated(latency_seconds=0.01, delay_seconds=0.05)
    server, address, made = serve(loop)
    attempt = connector(loop, address)
    future = attempt.start()
    loop.poller.advance(0.03)  # type: ignore[attr-defined]
    turn(loop, 1)
    attempt.close()
    settle(loop)
    if future.done() and future.exception() is None:
        assert not loop.poller.deferred  # type: ignore[attr-defined]
    else:
        with pytest.raises(OSError, match=str(errno.ECANCELED)):  # the words are the platform's
            loop.run_until_complete(future)
    with pytest.raises(RuntimeError, match="no connected socket"):
        attempt.transport(Recorder())
    server.close()
    settle(loop)
    finish(loop, *made)


def test_cancelled_task_closes_its_attempt(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    loop.poller.network.black_hole(HOLE)  # type: ignore[attr-defined]

    async def main() -> float:
        before = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await connect(loop, Recorder, HOLE)
        return loop.time() - before

    assert loop.run_until_complete(main()) == pytest.approx(3)
    settle(loop)
    assert loop.poller.network.sockets == {}  # type: ignore[attr-defined]


def test_black_hole_times_out(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    loop.poller.network.black_hole(HOLE)  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        loop.run_until_complete(connect(loop, Recorder, HOLE))


def test_forgotten_attempt_closes_its_socket(loop: EventLoop) -> None:
    attempt = connector(loop, ("127.0.0.1", 1))
    del attempt
    gc.collect()
    if isinstance(loop.poller, SimulatedPoller):
        assert loop.poller.network.sockets == {}


def test_closed_loop_ends_attempts_that_somebody_awaits(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    loop.poller.network.black_hole(HOLE)  # type: ignore[attr-defined]
    futures = []
    for _ in range(3):
        futures.append(connector(loop, HOLE).start())
        futures[-1].add_done_callback(print)
    turn(loop)
    network = loop.poller.network  # type: ignore[attr-defined]
    loop.close()
    assert not any(future.done() for future in futures)
    assert network.sockets == {}
    assert loop.stats()["live_ops"] == 0


# -- through asyncio's own create_connection: real sockets only -----------------------------


@pytest.fixture
def real() -> Any:
    loop = new_event_loop()
    yield loop
    loop.close()


def test_create_connection_and_create_server_talk(real: EventLoop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async def main() -> tuple[asyncio.Server, Any]:
        server = await real.create_server(cast("Any", factory), "127.0.0.1", 0)
        _, client = await real.create_connection(
            cast("Any", Recorder), *server.sockets[0].getsockname()
        )
        return server, client

    server, client = real.run_until_complete(main())
    client.link.write(b"x")
    until(real, lambda: made and made[0].data)
    sock = client.link.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server.close()
    finish(real, client, *made)


def test_failed_create_connections_leave_their_numbers_usable(real: EventLoop) -> None:
    """A socket that asyncio closes after a failure must not confuse the next of its number."""
    server, address, made = serve(real)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()

    async def main() -> list[Recorder]:
        clients = []
        for _ in range(5):
            with pytest.raises(ConnectionRefusedError):
                await real.create_connection(cast("Any", Recorder), *closed)
            _, client = await real.create_connection(cast("Any", Recorder), *address)
            client.link.write(b"ping")
            clients.append(client)
        return clients

    clients = real.run_until_complete(main())
    until(real, lambda: sum(end.data == b"ping" for end in made) == 5)
    server.close()
    finish(real, *clients, *made)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses after two seconds only")
def test_cancelled_sock_connect_leaves_the_socket_to_its_owner(real: EventLoop) -> None:
    async def main() -> None:
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            task = asyncio.ensure_future(real.sock_connect(sock, HOLE))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, OSError)):
                await task
            assert sock.fileno() >= 0
            sock.close()

    real.run_until_complete(main())
    settle(real)
    assert real.stats()["live_ops"] == 0

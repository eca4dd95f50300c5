"""The listener: accepting, failing, resting, closing."""

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.limits import ACCEPTS_PER_PASS
from reactor.testing import VirtualSocket, connect, listen
from reactor.transports.listener import Listener
from tests.reactor.recorder import Recorder, finish, settle, turn, until


def take_reports(loop: EventLoop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = list(loop.reported)  # type: ignore[attr-defined]
    loop.reported.clear()  # type: ignore[attr-defined]
    return reports


class Served:
    """A server and the protocols that it made."""

    def __init__(self, loop: EventLoop, make: Callable[[], Any] = Recorder, **options: Any) -> None:
        self.loop = loop
        self.made: list[Any] = []
        self.make = make
        self.server = loop.run_until_complete(listen(loop, self.factory, **options))
        self.address = self.server.sockets[0].getsockname()

    def factory(self) -> Any:
        protocol = self.make()
        self.made.append(protocol)
        return protocol

    def connect(self) -> Recorder:
        _, protocol = self.loop.run_until_complete(connect(self.loop, Recorder, self.address))
        return protocol

    def close(self, *clients: Recorder) -> None:
        self.server.close()
        ends = [*clients, *(end for end in self.made if end.events)]
        finish(self.loop, *ends)
        self.loop.run_until_complete(self.server.wait_closed())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connection_is_made_on_both_ends(loop: EventLoop, host: str) -> None:
    try:
        served = Served(loop, address=(host, 0))
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")
    client = served.connect()
    client.link.write(b"hello")
    until(loop, lambda: served.made and served.made[0].data == b"hello")
    (server,) = served.made
    assert server.link.get_extra_info("peername") == client.link.get_extra_info("sockname")
    assert server.link.get_extra_info("sockname") == client.link.get_extra_info("peername")
    assert client.link.get_extra_info("peername") == served.address
    served.close(client)


def test_data_that_came_with_the_connection_is_received(loop: EventLoop) -> None:
    served = Served(loop)
    clients = [served.connect() for _ in range(5)]
    for at, client in enumerate(clients):
        client.link.write(b"%d" % at)
        client.link.write_eof()
    until(loop, lambda: sum(bool(end.lost) for end in served.made) == 5)
    assert sorted(bytes(end.data) for end in served.made) == [b"0", b"1", b"2", b"3", b"4"]
    served.close(*clients)


def test_storm_of_connections_is_accepted_whole(loop: EventLoop) -> None:
    served = Served(loop, backlog=300)
    count = 3 * ACCEPTS_PER_PASS

    async def storm() -> list[Recorder]:
        return [
            protocol
            for _, protocol in await asyncio.gather(
                *(connect(loop, Recorder, served.address) for _ in range(count))
            )
        ]

    clients = loop.run_until_complete(storm())
    until(loop, lambda: len(served.made) == count)
    served.close(*clients)


def test_small_backlog_only_delays(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated(latency_seconds=0.01)
    served = Served(loop, backlog=1)

    async def storm() -> Any:
        return await asyncio.gather(*(connect(loop, Recorder, served.address) for _ in range(20)))

    clients = [protocol for _, protocol in loop.run_until_complete(storm())]
    until(loop, lambda: len(served.made) == 20)
    served.close(*clients)


NO_BUFFERS = pytest.param(
    errno.ENOBUFS,
    marks=pytest.mark.skipif(sys.platform == "win32", reason="it is Winsock's number there"),
)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, NO_BUFFERS, errno.ENOMEM])
def test_listener_without_resources_rests_and_recovers(
    simulated: Callable[..., EventLoop], number: int
) -> None:
    loop = simulated()
    served = Served(loop)
    loop.poller.network.fail("accept", number, times=2)  # type: ignore[attr-defined]
    before = loop.time()
    client = served.connect()
    until(loop, lambda: served.made)
    assert 2 <= loop.time() - before < 2.5
    reports = take_reports(loop)
    assert [report["message"] for report in reports] == [
        "socket.accept() out of system resource"
    ] * 2
    assert {report["exception"].errno for report in reports} == {number}
    served.close(client)


def test_listener_that_rests_wakes_the_loop_for_nobody(
    simulated: Callable[..., EventLoop],
) -> None:
    loop = simulated()
    served = Served(loop)
    loop.poller.network.fail("accept", errno.EMFILE)  # type: ignore[attr-defined]
    client = served.connect()
    until(loop, lambda: loop.reported)  # type: ignore[attr-defined]
    before = loop.poller.waits  # type: ignore[attr-defined]
    until(loop, lambda: served.made)
    assert loop.poller.waits - before < 10  # type: ignore[attr-defined]
    take_reports(loop)
    served.close(client)


def test_resting_listener_may_be_closed(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    served = Served(loop)
    loop.poller.network.fail("accept", errno.EMFILE)  # type: ignore[attr-defined]
    client = served.connect()
    while not loop.reported:  # type: ignore[attr-defined]
        turn(loop)
    assert loop.stats()["timers"] == 1
    take_reports(loop)
    served.server.close()
    assert loop.stats()["timers"] == 0
    until(loop, lambda: client.lost)
    assert isinstance(client.lost[0], ConnectionResetError)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
def test_connection_that_failed_before_it_was_accepted_does_not_end_the_listener(
    simulated: Callable[..., EventLoop], number: int
) -> None:
    loop = simulated()
    served = Served(loop)
    loop.poller.network.fail("accept", number, times=3)  # type: ignore[attr-defined]
    client = served.connect()
    until(loop, lambda: served.made)
    take_reports(loop)
    served.close(client)


def test_failing_factory_closes_the_connection_and_is_reported(loop: EventLoop) -> None:
    def oops() -> Any:
        raise RuntimeError("no protocol")

    served = Served(loop, oops)
    client = served.connect()
    until(loop, lambda: client.lost)
    (report,) = take_reports(loop)
    assert str(report["exception"]) == "no protocol"
    served.make = Recorder
    again = served.connect()
    until(loop, lambda: served.made)
    served.close(client, again)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["factory", "connection_made"])
def test_exit_while_accepting_leaves_the_loop_and_the_listener_goes_on(
    loop: EventLoop, kind: type[BaseException], where: str
) -> None:
    leaves = [True]

    def leave(_: Any = None) -> Any:
        if leaves:
            leaves.clear()
            raise kind
        return Recorder()

    def hooked() -> Any:
        return Recorder(connection_made=leave)

    served = Served(loop, leave if where == "factory" else hooked)

    async def knock() -> Any:
        return await asyncio.gather(*(connect(loop, Recorder, served.address) for _ in range(4)))

    task = loop.create_task(knock())
    left = 0
    wanted = 3 if where == "factory" else 4
    task.add_done_callback(lambda _: loop.stop())

    def all_here() -> bool:
        return task.done() and sum(bool(end.events) for end in served.made) >= wanted

    while not all_here():
        try:
            until(loop, all_here)
        except kind:
            left += 1
    assert left == 1
    clients = [protocol for _, protocol in task.result()]
    served.close(*clients)


def test_closed_listener_refuses_and_its_connections_go_on(loop: EventLoop) -> None:
    served = Served(loop)
    client = served.connect()
    until(loop, lambda: served.made)
    served.server.close()
    settle(loop)
    with pytest.raises(ConnectionRefusedError):
        served.connect()
    client.link.write(b"still here")
    until(loop, lambda: served.made[0].data)
    served.close(client)


def test_closed_address_may_be_listened_on_again(loop: EventLoop) -> None:
    served = Served(loop)
    served.close()
    settle(loop)
    again = Served(loop, address=served.address)
    assert again.address == served.address
    again.close()


def test_listener_closed_by_a_connection_of_the_same_batch(loop: EventLoop) -> None:
    served = Served(loop)

    def close(_: Any) -> None:
        served.server.close()

    served.make = lambda: Recorder(connection_made=close)

    async def storm() -> Any:
        return await asyncio.gather(
            *(connect(loop, Recorder, served.address) for _ in range(10)), return_exceptions=True
        )

    found = loop.run_until_complete(storm())
    clients = [one[1] for one in found if not isinstance(one, BaseException)]
    settle(loop)
    assert not served.server.is_serving()
    assert served.made
    made = sum(bool(end.events) for end in served.made)
    until(loop, lambda: sum(not client.lost for client in clients) == made)
    served.close(*clients)


def test_loop_closes_its_listeners(loop: EventLoop) -> None:
    served = Served(loop)
    sock: Any = served.server.sockets[0]._sock  # type: ignore[attr-defined]
    if isinstance(sock, VirtualSocket):
        loop.close()
        assert sock.fileno() == -1
    else:
        loop.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(served.address)


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_closed_loop_drops_connections_that_nobody_accepted(loop: EventLoop) -> None:
    served = Served(loop)

    async def knock() -> None:
        task = asyncio.ensure_future(connect(loop, Recorder, served.address))
        await asyncio.sleep(0)
        task.cancel()

    loop.run_until_complete(knock())
    loop.close()
    assert loop.stats()["live_ops"] == 0
    gc.collect()


def test_server_counts_its_connections(loop: EventLoop) -> None:
    served = Served(loop)
    client = served.connect()
    until(loop, lambda: served.made)
    if sys.version_info >= (3, 13):
        served.server.close_clients()
        until(loop, lambda: client.lost)
    elif sys.version_info < (3, 12):
        assert served.server._active_count == 1  # type: ignore[attr-defined]
    served.close(client)
    settle(loop)
    if sys.version_info < (3, 12):
        assert served.server._active_count == 0  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
def test_unix_socket_listens_in_memory(simulated: Callable[..., EventLoop]) -> None:
    loop = simulated()
    served = Served(loop, address="/run/simulated.sock")
    client = served.connect()
    client.link.write(b"x")
    until(loop, lambda: served.made and served.made[0].data)
    assert client.link.get_extra_info("peername") == "/run/simulated.sock"
    served.close(client)


def test_listener_of_a_closed_loop_closes_its_socket() -> None:
    loop = EventLoop()
    loop.close()
    sock = socket.create_server(("127.0.0.1", 0))
    Listener(loop, sock, Recorder, None, None).start()
    assert sock.fileno() == -1

"""Bytes through TLS: order, water marks, pauses, and how they leave."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from random import Random

import pytest

from reactor.eventloop import EventLoop
from reactor.pollers.simulated import SimulatedPoller
from reactor.transports.tls import TLSProtocol
from tests.reactor.transports.tls_ends import (
    HOST,
    LARGE,
    End,
    Recorder,
    Wire,
    Wires,
    client_default,
    closed,
    opened,
    server_default,
)


@pytest.fixture
def plain_loop() -> Iterator[EventLoop]:
    """Return a loop that is only there to be named."""
    loop = EventLoop()
    yield loop
    assert not any(loop.stats().values())
    loop.close()


def test_large_transfers_both_ways_at_once_are_byte_exact(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.write(LARGE)
        server.transport.writelines([LARGE[::-1][:300_000], memoryview(LARGE)[:200_000], b"end"])
        assert await server.protocol.receive(len(LARGE)) == LARGE
        expected = LARGE[::-1][:300_000] + LARGE[:200_000] + b"end"
        assert await client.protocol.receive(len(expected)) == expected
        await closed(client, server)

    loop.run_until_complete(main())


def test_everything_written_is_sent_before_close_notify(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.write(LARGE)
        client.transport.close()
        assert client.transport.is_closing()
        client.transport.write(b"dropped")
        assert await server.protocol.receive(len(LARGE)) == LARGE
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None

    loop.run_until_complete(main())


def test_writer_is_paused_above_the_high_mark_and_resumed_at_the_low_one(loop: EventLoop) -> None:
    class Writer(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            assert self.transport.get_write_buffer_size() > 50_000

        def resume_writing(self) -> None:
            super().resume_writing()
            assert self.transport.get_write_buffer_size() <= 10_000

    async def main() -> None:
        client, server = await opened(loop, client=Writer(loop))
        client.transport.set_write_buffer_limits(high=50_000, low=10_000)
        assert client.transport.get_write_buffer_limits() == (10_000, 50_000)
        server.transport.pause_reading()
        sent = 0
        while "pause" not in client.protocol.calls:
            client.transport.write(LARGE[:100_000])
            sent += 100_000
            await asyncio.sleep(0)
        server.transport.resume_reading()
        assert len(await server.protocol.receive(sent)) == sent
        await client.protocol.resumed.wait()
        assert client.protocol.calls == ["made", "pause", "resume"]
        await closed(client, server)

    loop.run_until_complete(main())


def narrow(loop: EventLoop, *ends: End) -> None:
    """Let the system hold less than ``LARGE`` between two ends; else it may take as it likes."""
    if not isinstance(loop.poller, SimulatedPoller):
        for end in ends:
            sock = end.raw.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)


@pytest.mark.parametrize("high", [0, 1, 1_000])
def test_writer_with_small_marks_is_always_resumed(loop: EventLoop, high: int) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        narrow(loop, client, server)
        client.transport.set_write_buffer_limits(high=high)
        for _ in range(5):
            client.transport.write(LARGE)
            await server.protocol.receive(len(LARGE))
            await client.protocol.resumed.wait()
            client.protocol.resumed.clear()
        assert client.protocol.calls == ["made"] + 5 * ["pause", "resume"]
        await closed(client, server)

    loop.run_until_complete(main())


def test_paused_protocol_receives_nothing_and_then_everything(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.write(LARGE)
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.protocol.calls == ["made"]
        server.transport.resume_reading()
        assert await server.protocol.receive(len(LARGE)) == LARGE
        await closed(client, server)

    loop.run_until_complete(main())


def test_bytes_that_came_before_the_pause_are_delivered_upon_resume(plain_loop: EventLoop) -> None:
    """No byte comes from below after the pause: what is pending must not wait for one."""

    class OneAtATime(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    wires = Wires.__new__(Wires)
    wires.client_wire, wires.server_wire = Wire(), Wire()
    wires.client_app, wires.server_app = Recorder(plain_loop), OneAtATime(plain_loop)
    wires.client = TLSProtocol(plain_loop, wires.client_app, client_default(), server_hostname=HOST)
    wires.server = TLSProtocol(plain_loop, wires.server_app, server_default(), server_side=True)
    wires.server.connection_made(wires.server_wire)
    wires.client.connection_made(wires.client_wire)
    wires.carry()
    wires.client.app_transport.write(LARGE[:400_000])
    wires.client.app_transport.close()
    wires.carry()
    assert 0 < len(wires.server_app.data) < 400_000
    assert not wires.server_wire.reading
    for _ in range(100):
        wires.server.app_transport.resume_reading()
        assert wires.server_wire.reading
        plain_loop.call_soon(plain_loop.stop)
        plain_loop.run_forever()
    assert bytes(wires.server_app.data) == LARGE[:400_000]
    assert wires.server_app.calls[-1] == "eof"
    wires.carry()
    wires.lose()


def test_all_that_a_callback_writes_leaves_in_one_send(plain_loop: EventLoop) -> None:
    class Chatty(Recorder):
        def data_received(self, data: bytes) -> None:
            for _ in range(10):
                self.transport.write(b"part ")

    wires = Wires(plain_loop)
    wires.server.app_transport.set_protocol(Chatty(plain_loop))
    wires.carry()
    before = wires.server_wire.writes
    wires.client.app_transport.write(b"?")
    wires.carry()
    assert bytes(wires.client_app.data) == b"part " * 10
    assert wires.server_wire.writes == before + 1
    wires.lose()


def test_data_that_is_not_bytes_is_refused(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        with pytest.raises(TypeError, match="bytes-like"):
            client.transport.write("text")
        client.transport.write(b"")
        assert not client.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()
        await closed(client, server)

    loop.run_until_complete(main())


def test_random_writes_pauses_and_faults_lose_no_byte(
    simulated: Callable[..., EventLoop],
) -> None:
    async def act(loop: EventLoop, end: End, random: Random) -> bytes:
        sent = bytearray()
        for _ in range(random.randrange(20)):
            action = random.randrange(5)
            at = random.randrange(len(LARGE) - 100_000)
            size = int(100_000 ** random.random())
            if action <= 1:
                end.transport.write(LARGE[at : at + size])
                sent += LARGE[at : at + size]
            elif action == 2:
                end.transport.writelines([LARGE[at : at + size], b"", LARGE[:7]])
                sent += LARGE[at : at + size] + LARGE[:7]
            elif action == 3:
                end.transport.pause_reading()
            else:
                end.transport.resume_reading()
            end.transport.set_write_buffer_limits(high=random.choice([0, 100, 65_536]))
            for _ in range(random.randrange(5)):
                await asyncio.sleep(0)
        end.transport.resume_reading()
        return bytes(sent)

    for seed in range(20):
        loop = simulated(seed=seed, segment_bytes=20_000, short_bytes=9_000)

        async def main(loop: EventLoop = loop, seed: int = seed) -> None:
            client, server = await opened(loop)
            sent = await asyncio.gather(
                act(loop, client, Random(seed)), act(loop, server, Random(-1 - seed))
            )
            assert await server.protocol.receive(len(sent[0])) == sent[0]
            assert await client.protocol.receive(len(sent[1])) == sent[1]
            for end in (client, server):
                calls = end.protocol.calls
                assert 0 <= calls.count("pause") - calls.count("resume") <= 1
            await closed(client, server)

        loop.run_until_complete(main())

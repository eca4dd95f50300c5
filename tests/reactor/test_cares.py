"""Names by c-ares, against a name server that the test runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reactor import CaresResolver
from reactor.eventloop import EventLoop

pycares = pytest.importorskip("pycares")
pycares.Channel().close()  # the thread that frees channels runs from now on, for good

A, AAAA = 1, 28
REFUSED, NO_SUCH_NAME, SERVER_FAILED = 5, 3, 2


class NameServer(asyncio.DatagramProtocol):
    """Answers as much of RFC 1035 as c-ares asks; silent about names that it does not know.

    Attributes:
        names: by name, the addresses, or the RCODE of a failure.
        ttl_seconds: of each answer.
        asked: (name, type) of each question.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str] | int] = {}
        self.ttl_seconds = 60
        self.asked: list[tuple[str, int]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name, end = "", 12
        while data[end]:
            name += data[end + 1 : end + 1 + data[end]].decode() + "."
            end += 1 + data[end]
        kind = struct.unpack_from("!H", data, end + 1)[0]
        end += 5
        name = name.rstrip(".")
        self.asked.append((name, kind))
        found = self.names.get(name)
        if found is None:
            return
        code, addresses = (found, []) if isinstance(found, int) else (0, found)
        family = socket.AF_INET6 if kind == AAAA else socket.AF_INET
        packed = [
            socket.inet_pton(family, each) for each in addresses if (":" in each) == (kind == AAAA)
        ]
        answer = struct.pack("!2sHHHHH", data[:2], 0x8180 | code, 1, len(packed), 0, 0)
        answer += data[12:end]
        for each in packed:
            answer += struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl_seconds, len(each)) + each
        self.transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[NameServer, CaresResolver]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    resolver = CaresResolver(servers=["127.0.0.1"], port=port, **options)
    try:
        yield server, resolver
    finally:
        resolver.close()
        resolver.close()
        transport.close()
        await asyncio.sleep(0)


@pytest.fixture
def patient() -> Any:
    loop = EventLoop()
    yield loop
    loop.close()


def test_addresses_of_both_families_come_interleaved(patient: EventLoop) -> None:
    async def main() -> None:
        async with serving() as (server, resolver):
            server.names["both.test"] = ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
            infos = await resolver.resolve("both.test", 80)
            assert sorted(each.address[:2] for each in infos) == [
                ("10.0.0.1", 80),
                ("10.0.0.2", 80),
                ("2001:db8::1", 80),
            ]
            assert infos[0].family != infos[1].family
            assert {each.kind for each in infos} == {socket.SOCK_STREAM}
            only = await resolver.resolve("both.test", 80, socket.AF_INET6)
            assert [each.address for each in only] == [("2001:db8::1", 80, 0, 0)]
            assert set(server.asked) == {("both.test", A), ("both.test", AAAA)}
            server.asked.clear()
            await resolver.resolve("both.test", 443)
            assert server.asked == []

    patient.run_until_complete(main())


def test_time_to_live_of_the_zone_counts(patient: EventLoop) -> None:
    async def main() -> None:
        async with serving() as (server, resolver):
            server.ttl_seconds = 0
            server.names["short.test"] = ["10.0.0.1"]
            for _ in range(2):
                await resolver.resolve("short.test", 80, socket.AF_INET)
            assert server.asked == [("short.test", A)] * 2

    patient.run_until_complete(main())


@pytest.mark.parametrize(
    ("code", "expected", "is_kept"),
    [(NO_SUCH_NAME, socket.EAI_NONAME, True), (SERVER_FAILED, socket.EAI_AGAIN, False)],
)
def test_failures_are_those_of_getaddrinfo(
    patient: EventLoop, code: int, expected: int, is_kept: bool
) -> None:
    async def main() -> None:
        async with serving(tries=1) as (server, resolver):
            server.names["gone.test"] = code
            for _ in range(2):
                with pytest.raises(socket.gaierror) as caught:
                    await resolver.resolve("gone.test", 80, socket.AF_INET)
                assert caught.value.errno == expected
            assert (len(server.asked) == 1) == is_kept

    patient.run_until_complete(main())


def test_name_server_that_is_silent_times_out(patient: EventLoop) -> None:
    async def main() -> None:
        async with serving(timeout=0.05, tries=1) as (server, resolver):
            with pytest.raises(socket.gaierror) as caught:
                await resolver.resolve("silent.test", 80, socket.AF_INET)
            assert caught.value.errno == socket.EAI_AGAIN
            assert server.asked

    patient.run_until_complete(main())


def test_close_ends_a_look_up_and_the_next_one_is_refused(patient: EventLoop) -> None:
    async def main() -> None:
        async with serving() as (server, resolver):
            task = asyncio.ensure_future(resolver.resolve("silent.test", 80))
            while not server.asked:  # noqa: ASYNC110 - it is the kernel's
                await asyncio.sleep(0)
            resolver.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(RuntimeError, match="closed"):
                await resolver.resolve("other.test", 80)

    patient.run_until_complete(main())


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..b"])
def test_name_that_cannot_be_encoded_has_no_address(patient: EventLoop, host: str) -> None:
    async def main() -> None:
        async with serving() as (_, resolver):
            with pytest.raises(socket.gaierror):
                await resolver.resolve(host, 80)

    patient.run_until_complete(main())

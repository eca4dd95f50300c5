"""Both kinds of TLS engine: on OpenSSL itself, and on ``ssl``'s memory BIOs."""

import asyncio
import gc
import itertools
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

import reactor
from reactor.eventloop import EventLoop
from reactor.transports.tls import TLSProtocol
from tests.reactor.transports.tls_ends import (
    FORGED,
    LARGE,
    VERSIONS,
    End,
    Recorder,
    Wires,
    closed,
    for_client,
    for_server,
    opened,
    up_to,
)

KINDS = ["direct", "memory"]
BEST = KINDS[0]


def of_kind(kind: str, context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a context be used with an engine of that kind."""
    if kind == "memory":
        # what this raises is kept where only _ssl's own functions look
        context._msg_callback = lambda *facts: None  # type: ignore[attr-defined]
    return context


async def opened_of(
    loop: EventLoop, client_kind: str, server_kind: str, version: Any = VERSIONS[-1]
) -> tuple[End, End]:
    """Return both ends of an open connection."""
    client, server = await opened(
        loop,
        client_tls=of_kind(client_kind, up_to(version, for_client())),
        server_tls=of_kind(server_kind, for_server()),
    )
    assert client.layer.direct == (client_kind == "direct")
    assert server.layer.direct == (server_kind == "direct")
    return client, server


def named(make: Any, name: Any) -> Any:
    """Return the name that the server is told, or the type of the error."""
    try:
        return make(name)
    except (ValueError, TypeError) as error:
        return type(error)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "peer.example",
            "PEER.Example",
            "peer.example.",
            "127.0.0.1",
            "::1",
            "b\u00fccher.example",
        ),
        *(
            "a" * 63,
            "a" * 64,
            f"{'a' * 40}.{'b' * 40}",
            f"{'a' * 63}.example",
            f"{'a' * 64}.example",
        ),
        *(".peer.example", "peer..example", ".", "..", "peer_1.example", "peer example", b"peer"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_name_is_taken_as_the_ssl_module_takes_it(kind: str, name: str | bytes) -> None:
    made = []

    class Kept(ssl.SSLObject):
        @classmethod
        def _create(cls, *arguments: Any, **options: Any) -> Any:
            made.append(super()._create(*arguments, **options))  # type: ignore[misc]
            return made[-1]

    context = of_kind(kind, for_client())
    context.sslobject_class = Kept
    loop = EventLoop()

    def ours(name: Any) -> Any:
        layer = TLSProtocol(loop, Recorder(loop), context, server_hostname=name)
        assert layer.direct == (kind == "direct")
        return made[-1].server_hostname

    def theirs(name: Any) -> Any:
        one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
        return context.wrap_bio(one, two, server_hostname=name).server_hostname

    try:
        assert named(ours, name) == named(theirs, name)
    finally:
        loop.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["peer.example", "b\u00fccher.example"])
def test_context_of_ones_own_is_handed_the_name_as_text(kind: str, name: str) -> None:
    names = []

    class Context(ssl.SSLContext):
        def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
            names.append(options["server_hostname"])
            return super().wrap_bio(*arguments, **options)

    context = of_kind(kind, Context(ssl.PROTOCOL_TLS_CLIENT))
    loop = EventLoop()
    try:
        TLSProtocol(loop, Recorder(loop), context, server_hostname=name)
        assert names == [name]
    finally:
        loop.close()


def shares_openssl() -> bool:
    """Return whether this interpreter's OpenSSL is a library of its own."""
    import _ssl

    if sys.platform == "win32":
        return any(Path(_ssl.__file__).parent.glob("libssl-*.dll"))
    tell = ["otool", "-L"] if sys.platform == "darwin" else ["ldd"]
    told = subprocess.run([*tell, _ssl.__file__], capture_output=True, text=True, check=False)
    return "libssl" in told.stdout


IN_A_STRANGE_PLACE = """
import _ssl, asyncio, ssl, reactor

async def main():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(
            asyncio.Protocol, host, port, ssl=ssl.create_default_context()
        )
    except OSError:
        print("no handshake")
    server.close()

_ssl.__file__ = "/\\udcff" + _ssl.__file__
reactor.run(main())
"""


def test_place_of_the_ssl_module_need_not_be_text() -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-c", IN_A_STRANGE_PLACE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("no handshake\n", "")


@pytest.mark.skipif(not shares_openssl(), reason="OpenSSL is linked statically")
def test_an_interpreter_with_a_shared_openssl_has_the_direct_engine(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        assert client.layer.direct
        assert server.layer.direct
        await closed(client, server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("client_kind", "server_kind"), [*itertools.product(KINDS, KINDS)])
def test_all_kinds_understand_each_other(
    loop: EventLoop, client_kind: str, server_kind: str, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        client, server = await opened_of(loop, client_kind, server_kind, version)
        server.protocol.echoes = True
        random = Random(5)
        for size in [1, 100, 8_000, 9_000, 16_384, 16_385, 102_400, 111_000, 300_000]:
            message = random.randbytes(size)
            client.transport.write(message)
            assert await client.protocol.receive(size) == message
            server.protocol.data.clear()
        client.transport.write(LARGE)
        client.transport.close()
        assert await server.protocol.receive(len(LARGE)) == LARGE
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None
        assert "eof" in server.protocol.calls

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 3, 1_000, 9_000, 20_000, 100_000])
def test_records_may_be_cut_anywhere(loop: EventLoop, kind: str, piece: int) -> None:
    """What is received ends within a header, a body, a ticket: the rest comes later."""

    async def main() -> None:
        wires = Wires(
            loop,
            client_tls=of_kind(kind, for_client()),
            server_tls=of_kind(kind, for_server()),
        )
        wires.carry(piece)
        message = LARGE[: 3_000 if piece < 1_000 else 250_000]
        for sender, receiver in [
            (wires.client, wires.server_app),
            (wires.server, wires.client_app),
        ]:
            sender.app_transport.write(message)
            wires.carry(piece)
            assert bytes(receiver.data) == message
        wires.client.app_transport.close()
        wires.carry(piece)
        assert "eof" in wires.server_app.calls
        wires.lose()

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_pause_keeps_back_is_kept_after_its_memory_is_another_s(
    loop: EventLoop, kind: str
) -> None:
    async def main() -> None:
        client, server = await opened_of(loop, BEST, kind)
        got: list[bytes] = []

        def take(data: bytes) -> None:
            got.append(data)
            server.transport.pause_reading()

        server.protocol.data_received = take
        random = Random(7)
        messages = [random.randbytes(20_000) for _ in range(20)]
        for message in messages:
            client.transport.write(message)
        expected = b"".join(messages)
        while sum(map(len, got)) < len(expected):
            server.transport.resume_reading()
            await asyncio.sleep(0)
        assert b"".join(got) == expected
        server.transport.resume_reading()
        await closed(client, server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_buffered_protocol_may_hand_over_to_another_between_records(
    loop: EventLoop, kind: str
) -> None:
    """What came together with the record in which it did so goes to the new one, and at once."""

    class First(asyncio.BufferedProtocol):
        data = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            self.buffer = bytearray(100)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]
            self.transport.set_protocol(second)

    second = Recorder(loop)

    async def main() -> None:
        wires = Wires(
            loop,
            client_tls=of_kind(kind, for_client()),
            server_tls=of_kind(kind, for_server()),
        )
        wires.carry()
        first = First()
        first.connection_made(wires.server.app_transport)
        wires.server.app_transport.set_protocol(first)
        for part in [b"one", b"two", b"three"]:
            wires.client.app_transport.write(part)
        wires.carry()
        assert bytes(first.data) == b"one"
        assert bytes(second.data) == b"twothree"
        wires.lose()

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_leaves_although_an_exit_leaves_the_loop(loop: EventLoop, kind: str) -> None:
    async def main() -> None:
        client, server = await opened_of(loop, BEST, kind)

        def answer(data: bytes) -> None:
            server.transport.write(b"answer")
            raise SystemExit

        server.protocol.data_received = answer
        both.extend([client, server])
        client.transport.write(b"question")
        await server.protocol.lost

    both: list[End] = []
    waiting = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(waiting)
    assert loop.run_until_complete(both[0].protocol.receive(6)) == b"answer"
    loop.run_until_complete(closed(*both))
    loop.run_until_complete(waiting)


@pytest.mark.parametrize("client_kind", KINDS)
def test_a_handshake_is_over_although_an_exit_leaves_the_loop(
    loop: EventLoop, client_kind: str
) -> None:
    class Leaving(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise SystemExit

    opening = loop.create_task(
        opened(loop, client=Leaving(loop), client_tls=of_kind(client_kind, for_client()))
    )
    with pytest.raises(SystemExit):
        loop.run_until_complete(opening)
    client, server = loop.run_until_complete(asyncio.wait_for(opening, 5))
    loop.run_until_complete(closed(client, server))


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_record_ends_the_connection_with_openssl_s_reason(
    loop: EventLoop, kind: str
) -> None:
    async def main() -> None:
        client, server = await opened_of(loop, BEST, kind)
        record = b"\x17\x03\x03\x00\x40" + bytes(64)
        server.layer.data_received(record)
        error = await server.protocol.lost
        assert isinstance(error, ssl.SSLError)
        assert error.reason in FORGED
        assert error.reason.lower().replace("_", " ") in str(error)
        alert = await client.protocol.lost
        assert isinstance(alert, ssl.SSLError)
        assert "ALERT_BAD_RECORD_MAC" in alert.reason

    loop.run_until_complete(main())


def test_the_ssl_object_outlives_the_connection(loop: EventLoop) -> None:
    async def main() -> ssl.SSLObject:
        client, server = await opened_of(loop, BEST, BEST)
        kept = client.transport.get_extra_info("ssl_object")
        await closed(client, server)
        assert isinstance(kept, ssl.SSLObject)
        return kept

    kept = loop.run_until_complete(main())
    gc.collect()
    assert kept.version() == "TLSv1.3"
    assert kept.getpeercert()
    with pytest.raises(ssl.SSLError):
        kept.read(10)
    with pytest.raises(ssl.SSLError):
        kept.write(b"nowhere")


@pytest.mark.parametrize("kind", KINDS)
def test_rfc6066_4_a_peer_may_ask_for_short_fragments(kind: str) -> None:
    """Then one call seals less than it is offered, and the rest is not lost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl program")

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        protocol = Recorder(loop)
        server = await loop.create_server(
            lambda: protocol, "127.0.0.1", 0, ssl=of_kind(kind, for_server())
        )
        port = server.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            openssl,
            *["s_client", "-connect", f"127.0.0.1:{port}", "-maxfraglen", "512", "-quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"x")
        await protocol.receive(1)
        protocol.transport.write(LARGE)
        received = await client.stdout.readexactly(len(LARGE))
        protocol.transport.close()
        client.stdin.close()
        await client.wait()
        server.close()
        await server.wait_closed()
        return received

    assert reactor.run(main()) == LARGE

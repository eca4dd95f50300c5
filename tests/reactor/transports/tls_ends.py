"""Both ends of a TLS connection, for the tests of several files."""

import asyncio
import functools
import ssl
from dataclasses import dataclass
from typing import Any

import trustme

from reactor.eventloop import EventLoop
from reactor.protocol import Protocol
from reactor.testing import pair
from reactor.transports.certificates import client_context, server_context
from reactor.transports.tls import TLSProtocol

HOST = "peer.example"
CA = trustme.CA()
CERTIFICATE = CA.issue_cert(HOST, "127.0.0.1")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
LARGE = bytes(range(256)) * 4096  # 1 MiB
# What OpenSSL says of a record that was not sealed by its peer: up to 3.1, and from 3.2 on.
FORGED = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")


def pem(certificate: trustme.LeafCert = CERTIFICATE) -> bytes:
    return certificate.private_key_and_cert_chain_pem.bytes()


def for_server(**options: Any) -> ssl.SSLContext:
    return server_context(certificate_pem=pem(), **options)


def for_client(**options: Any) -> ssl.SSLContext:
    return client_context(**{"ca_pem": CA.cert_pem.bytes(), **options})


@functools.cache
def server_default() -> ssl.SSLContext:
    return for_server()


@functools.cache
def client_default() -> ssl.SSLContext:
    return for_client()


def up_to(version: ssl.TLSVersion, context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = version
    return context


class Recorder(Protocol):
    """Keeps what happened; ``lost`` is done at the end."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.calls: list[str] = []
        self.data = bytearray()
        self.echoes = False
        self.resumed = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()
        self._expected: tuple[int, asyncio.Future[None]] | None = None

    def connection_made(self, transport: Any) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.data += data
        if self.echoes:
            self.transport.write(data)
        if self._expected is not None and len(self.data) >= self._expected[0]:
            self._expected[1].set_result(None)
            self._expected = None

    def eof_received(self) -> bool | None:
        self.calls.append("eof")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")
        self.resumed.set()

    async def receive(self, size: int) -> bytes:
        """Wait until *size* bytes are there, and take all."""
        if len(self.data) < size:
            self._expected = (size, self.loop.create_future())
            await self._expected[1]
        data = bytes(self.data)
        self.data.clear()
        return data


@dataclass
class End:
    """One end of a connection, from the application's protocol down to the raw transport."""

    protocol: Any
    layer: TLSProtocol
    raw: Any
    ready: "asyncio.Future[None]"

    @property
    def transport(self) -> Any:
        return self.layer.app_transport


def ends(
    loop: EventLoop,
    *,
    client: Any = None,
    server: Any = None,
    client_tls: ssl.SSLContext | None = None,
    server_tls: ssl.SSLContext | None = None,
    client_options: dict[str, Any] | None = None,
    server_options: dict[str, Any] | None = None,
) -> tuple[End, End]:
    """Return both ends of a connection whose handshake is about to begin."""
    made = []
    for protocol, context, options in [
        (
            client,
            client_tls or client_default(),
            {"server_hostname": HOST, **(client_options or {})},
        ),
        (server, server_tls or server_default(), {"server_side": True, **(server_options or {})}),
    ]:
        app = Recorder(loop) if protocol is None else protocol
        ready = loop.create_future()
        made.append((app, TLSProtocol(loop, app, context, waiter=ready, **options), ready))
    raws = pair(loop, made[0][1], made[1][1])
    one, two = (
        End(app, layer, raw, ready) for (app, layer, ready), raw in zip(made, raws, strict=True)
    )
    return one, two


async def opened(loop: EventLoop, **options: Any) -> tuple[End, End]:
    """Return both ends of a connection after the handshake."""
    client, server = ends(loop, **options)
    await client.ready
    await server.ready
    return client, server


async def closed(*both: End) -> None:
    """Close the first end in good order and wait until all are lost."""
    both[0].transport.close()
    for end in both:
        assert await end.protocol.lost is None


class Wire(asyncio.Transport):
    """A transport that is none of ours: what is written is kept for the test to hand over."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.writes = 0
        self.closing = False
        self.limits = (16_384, 65_536)
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += data
        self.writes += 1

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.limits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        high = 65_536 if high is None else high
        self.limits = (high // 4 if low is None else low, high)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Wires:
    """A client and a server whose bytes the test carries to and fro."""

    def __init__(self, loop: EventLoop, **options: Any) -> None:
        self.client_wire, self.server_wire = Wire(), Wire()
        self.client_app, self.server_app = Recorder(loop), Recorder(loop)
        self.client = TLSProtocol(
            loop,
            self.client_app,
            options.get("client_tls") or client_default(),
            server_hostname=HOST,
        )
        self.server = TLSProtocol(
            loop, self.server_app, options.get("server_tls") or server_default(), server_side=True
        )
        self.server.connection_made(self.server_wire)
        self.client.connection_made(self.client_wire)

    def carry(self, chunk: int = 1 << 20) -> None:
        """Carry *chunk* bytes at a time until neither end has more to say."""
        while self.client_wire.sent or self.server_wire.sent:
            for wire, other in [
                (self.client_wire, self.server),
                (self.server_wire, self.client),
            ]:
                data = bytes(wire.sent)
                wire.sent.clear()
                for at in range(0, len(data), chunk):
                    other.data_received(data[at : at + chunk])

    def lose(self) -> None:
        self.client.connection_lost(None)
        self.server.connection_lost(None)

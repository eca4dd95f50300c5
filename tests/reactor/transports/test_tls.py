"""The handshake and its failures, the end of the stream, and what call-backs may do."""

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from reactor.errors import TLSTruncatedError, endpoint_error
from reactor.eventloop import EventLoop
from reactor.protocol import BufferedProtocol
from reactor.testing import pair
from reactor.transports.tls import TLSProtocol
from tests.reactor.transports.tls_ends import (
    CA,
    FORGED,
    HOST,
    LARGE,
    VERSIONS,
    Recorder,
    Wire,
    Wires,
    client_default,
    closed,
    ends,
    for_client,
    for_server,
    opened,
    pem,
    server_default,
    up_to,
)


@pytest.fixture
def plain_loop() -> Iterator[EventLoop]:
    """Return a loop that is only there to be named."""
    loop = EventLoop()
    yield loop
    assert not any(loop.stats().values())
    loop.close()


# -- handshake -------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_data_goes_both_ways_after_the_handshake(loop: EventLoop, version: Any) -> None:
    async def main() -> None:
        client, server = await opened(loop, client_tls=up_to(version, for_client()))
        client.transport.write(b"question")
        assert await server.protocol.receive(8) == b"question"
        server.transport.write(bytearray(b"answer"))
        assert await client.protocol.receive(6) == b"answer"
        assert client.transport.get_extra_info("ssl_object").version() == version.name.replace(
            "v1_", "v1."
        )
        await closed(client, server)
        assert client.protocol.calls == ["made", "data", "lost"]
        assert server.protocol.calls == ["made", "data", "eof", "lost"]

    loop.run_until_complete(main())


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_and_data_arrive_split_at_every_byte(
    plain_loop: EventLoop, chunk: int, version: Any
) -> None:
    wires = Wires(plain_loop, client_tls=up_to(version, for_client()))
    wires.carry(chunk)
    assert wires.client_app.calls == wires.server_app.calls == ["made"]
    message = bytes(range(256)) * 100
    wires.client.app_transport.write(message)
    wires.client.app_transport.write(b"more")
    wires.carry(chunk)
    assert bytes(wires.server_app.data) == message + b"more"
    wires.server.app_transport.close()
    wires.carry(chunk)
    assert wires.client_wire.closing
    assert wires.server_wire.closing
    wires.lose()
    assert wires.client_app.calls[-2:] == ["eof", "lost"]
    assert wires.client_app.lost.result() is None
    assert wires.server_app.lost.result() is None


def test_whole_flights_survive_a_network_that_splits_at_random(
    simulated: Callable[..., EventLoop],
) -> None:
    for seed in range(3):
        loop = simulated(seed=seed, segment_bytes=40, short_bytes=11)

        async def main(loop: EventLoop = loop) -> None:
            client, server = await opened(loop)
            client.transport.write(LARGE[:35_000])
            assert await server.protocol.receive(35_000) == LARGE[:35_000]
            await closed(server, client)

        loop.run_until_complete(main())


def test_server_sees_sni_and_both_see_alpn(loop: EventLoop) -> None:
    """RFC 6066 section 3, RFC 7301 section 3."""
    names: list[str | None] = []
    server_tls = for_server(alpn=["h2", "http/1.1"])
    server_tls.sni_callback = lambda _object, name, _context: names.append(name)

    async def main() -> None:
        client, server = await opened(
            loop, server_tls=server_tls, client_tls=for_client(alpn=["http/1.1"])
        )
        assert names == [HOST]
        for end in (client, server):
            selected = end.transport.get_extra_info("ssl_object").selected_alpn_protocol()
            assert selected == "http/1.1"
        await closed(client, server)

    loop.run_until_complete(main())


def test_client_certificate_is_seen_by_the_server(loop: EventLoop) -> None:
    """RFC 8446 section 4.4.2."""
    own = CA.issue_cert("someone@client.example")

    async def main() -> None:
        client, server = await opened(
            loop,
            server_tls=for_server(ca_pem=CA.cert_pem.bytes()),
            client_tls=for_client(certificate_pem=pem(own)),
        )
        seen = server.transport.get_extra_info("peercert")
        assert ("email", "someone@client.example") in seen["subjectAltName"]
        await closed(client, server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_client_certificate_fails_the_connection(loop: EventLoop, version: Any) -> None:
    """In TLS 1.3 the client hears of it after its handshake (RFC 8446 section 4.4.2.4)."""

    async def main() -> None:
        client, server = ends(
            loop,
            server_tls=for_server(ca_pem=CA.cert_pem.bytes()),
            client_tls=up_to(version, for_client()),
        )
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            await server.ready
        if version is ssl.TLSVersion.TLSv1_3:
            await client.ready
            error = await client.protocol.lost
            assert client.protocol.calls == ["made", "lost"]
        else:
            with pytest.raises(ssl.SSLError) as caught:
                await client.ready
            error = caught.value
        assert isinstance(error, ssl.SSLError)
        assert "ALERT" in str(error)

    loop.run_until_complete(main())


def test_facts_of_both_layers_are_told(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        told = client.transport.get_extra_info
        assert told("sslcontext") is client_default()
        assert told("cipher")[1] == "TLSv1.3"
        assert told("compression") is None
        assert ("DNS", HOST) in told("peercert")["subjectAltName"]
        assert told("peername") == client.raw.get_extra_info("peername")
        assert told("nothing", "default") == "default"
        assert server.transport.get_extra_info("ssl_object").server_side
        assert "open" in repr(client.transport)
        await closed(client, server)

    loop.run_until_complete(main())


def test_facts_are_told_until_connection_lost_returns(loop: EventLoop) -> None:
    class Curious(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            self.cipher = self.transport.get_extra_info("cipher")
            super().connection_lost(exc)

    async def main() -> None:
        client, server = await opened(loop, client=Curious(loop))
        transport = client.transport
        await closed(client, server)
        assert client.protocol.cipher[1] == "TLSv1.3"
        assert transport.get_extra_info("cipher") is None
        assert client.protocol.transport is None

    loop.run_until_complete(main())


def test_session_is_resumed(loop: EventLoop) -> None:
    """RFC 8446 section 2.2: the ticket comes after the handshake."""

    async def once(session: Any) -> tuple[bool, Any]:
        client, server = await opened(loop, client_options={"session": session})
        server.transport.write(b"x")
        await client.protocol.receive(1)
        ssl_object = client.transport.get_extra_info("ssl_object")
        found = (ssl_object.session_reused, ssl_object.session)
        await closed(client, server)
        return found

    async def main() -> None:
        reused, session = await once(None)
        assert not reused
        reused, _ = await once(session)
        assert reused

    loop.run_until_complete(main())


def test_what_connection_made_writes_leaves_with_the_last_flight(plain_loop: EventLoop) -> None:
    class Eager(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"first")
            transport.write(b"second")

    wires = Wires.__new__(Wires)
    wires.client_wire, wires.server_wire = Wire(), Wire()
    wires.client_app, wires.server_app = Eager(plain_loop), Recorder(plain_loop)
    wires.client = TLSProtocol(plain_loop, wires.client_app, client_default(), server_hostname=HOST)
    wires.server = TLSProtocol(plain_loop, wires.server_app, server_default(), server_side=True)
    wires.server.connection_made(wires.server_wire)
    wires.client.connection_made(wires.client_wire)
    wires.carry()
    assert bytes(wires.server_app.data) == b"firstsecond"
    assert wires.client_wire.writes == 2
    wires.lose()


# -- handshakes that fail ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_tls", "hostname", "kind"),
    [
        (lambda: for_client(ca_pem=trustme.CA().cert_pem.bytes()), HOST, "unable to get local"),
        (for_client, "other.example", "Hostname mismatch"),
    ],
)
def test_certificate_that_does_not_verify_fails_the_handshake(
    loop: EventLoop, client_tls: Any, hostname: str, kind: str
) -> None:
    """RFC 8446 section 6.2: the peer gets an alert."""

    async def main() -> None:
        client, server = ends(
            loop, client_tls=client_tls(), client_options={"server_hostname": hostname}
        )
        with pytest.raises(ssl.SSLCertVerificationError, match=kind):
            await client.ready
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await server.ready
        assert client.raw._sock_fd == server.raw._sock_fd == -1
        assert client.protocol.calls == server.protocol.calls == []
        assert client.protocol.transport is None

    loop.run_until_complete(main())


def test_no_common_version_fails_the_handshake(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = ends(
            loop,
            client_tls=up_to(ssl.TLSVersion.TLSv1_2, for_client()),
            server_tls=for_server(minimum_version=ssl.TLSVersion.TLSv1_3),
        )
        for end in (client, server):
            with pytest.raises(ssl.SSLError):
                await end.ready

    loop.run_until_complete(main())


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 40, b"HTTP/1.1 400 \r\n"])
def test_peer_that_does_not_speak_tls_fails_the_handshake(loop: EventLoop, garbage: bytes) -> None:
    async def main() -> None:
        app, peer = Recorder(loop), Recorder(loop)
        ready = loop.create_future()
        layer = TLSProtocol(loop, app, client_default(), server_hostname=HOST, waiter=ready)
        _, other = pair(loop, layer, peer)
        await peer.receive(1)
        other.write(garbage)
        with pytest.raises(ssl.SSLError):
            await ready
        await peer.lost
        assert app.calls == []

    loop.run_until_complete(main())


def test_end_of_stream_in_the_handshake_is_a_reset(loop: EventLoop) -> None:
    async def main() -> None:
        app, peer = Recorder(loop), Recorder(loop)
        ready = loop.create_future()
        layer = TLSProtocol(loop, app, client_default(), server_hostname=HOST, waiter=ready)
        _, other = pair(loop, layer, peer)
        await peer.receive(1)
        other.close()
        with pytest.raises(ConnectionResetError, match="during the TLS handshake"):
            await ready
        await peer.lost
        assert app.calls == []

    loop.run_until_complete(main())


def test_handshake_that_takes_too_long_is_given_up(loop: EventLoop) -> None:
    async def main() -> None:
        app, peer = Recorder(loop), Recorder(loop)
        ready = loop.create_future()
        layer = TLSProtocol(
            loop,
            app,
            client_default(),
            server_hostname=HOST,
            waiter=ready,
            ssl_handshake_timeout=0.02,
        )
        pair(loop, layer, peer)
        with pytest.raises(TimeoutError) as caught:
            await ready
        assert isinstance(caught.value, ConnectionAbortedError)
        await peer.lost

    loop.run_until_complete(main())


def test_cancelled_handshake_closes_the_connection(loop: EventLoop) -> None:
    async def main() -> None:
        app, peer = Recorder(loop), Recorder(loop)
        ready = loop.create_future()
        layer = TLSProtocol(loop, app, client_default(), server_hostname=HOST, waiter=ready)
        raw, _ = pair(loop, layer, peer)
        await peer.receive(1)
        ready.cancel()
        await peer.lost
        assert raw._sock_fd == -1
        assert app.calls == []

    loop.run_until_complete(main())


def test_close_in_the_handshake_aborts_it(loop: EventLoop) -> None:
    async def main() -> None:
        app, peer = Recorder(loop), Recorder(loop)
        ready = loop.create_future()
        layer = TLSProtocol(loop, app, client_default(), server_hostname=HOST, waiter=ready)
        pair(loop, layer, peer)
        await peer.receive(1)
        layer.app_transport.close()
        with pytest.raises(ConnectionAbortedError, match="during the TLS handshake"):
            await ready
        await peer.lost
        assert app.calls == []

    loop.run_until_complete(main())


def test_arguments_that_cannot_work_are_refused_at_once(plain_loop: EventLoop) -> None:
    app = Recorder(plain_loop)

    def make(*args: Any, **options: Any) -> None:
        TLSProtocol(plain_loop, app, *args, **options)

    with pytest.raises(TypeError, match="sslcontext"):
        make("context")
    with pytest.raises(ValueError, match="needs a valid SSLContext"):
        make(None, server_side=True)
    with pytest.raises(ValueError, match="server_hostname"):
        make(server_default(), server_side=True, server_hostname=HOST)
    with pytest.raises(ValueError, match="server_hostname"):
        make(client_default())  # it checks names
    with pytest.raises(ValueError, match="ssl_handshake_timeout"):
        make(client_default(), server_hostname=HOST, ssl_handshake_timeout=0)
    with pytest.raises(ValueError, match="ssl_shutdown_timeout"):
        make(client_default(), server_hostname=HOST, ssl_shutdown_timeout=-1)


# -- the end of the stream ---------------------------------------------------------------


def test_close_notify_is_an_end_in_good_order(loop: EventLoop) -> None:
    """RFC 8446 section 6.1."""

    async def main() -> None:
        client, server = await opened(loop)
        server.transport.write(b"bye")
        server.transport.close()
        assert await client.protocol.lost is None
        assert client.protocol.calls == ["made", "data", "eof", "lost"]
        assert await server.protocol.lost is None
        assert server.protocol.calls == ["made", "lost"]

    loop.run_until_complete(main())


def test_end_without_close_notify_is_an_error(loop: EventLoop) -> None:
    """RFC 8446 section 6.1: a truncation attack looks like this."""

    async def main() -> None:
        client, server = await opened(loop)
        server.transport.write(b"half of")
        server.raw.close()
        error = await client.protocol.lost
        assert isinstance(error, ssl.SSLEOFError)
        assert client.protocol.calls == ["made", "data", "lost"]
        typed = endpoint_error(error, host=HOST, port=443, phase="read")
        assert isinstance(typed, TLSTruncatedError)
        await server.protocol.lost

    loop.run_until_complete(main())


def test_end_without_close_notify_is_an_end_for_who_is_not_strict(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop, client_options={"strict_end": False})
        server.transport.write(b"half of")
        server.raw.close()
        assert await client.protocol.lost is None
        assert client.protocol.calls == ["made", "data", "eof", "lost"]
        await server.protocol.lost

    loop.run_until_complete(main())


def test_truncation_while_reading_is_paused_is_told_after_the_data(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.pause_reading()
        server.transport.write(LARGE[:30_000])
        server.raw.close()
        await server.protocol.lost
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.protocol.calls == ["made"]
        client.transport.resume_reading()
        assert isinstance(await client.protocol.lost, ssl.SSLEOFError)
        assert bytes(client.protocol.data) == LARGE[:30_000]

    loop.run_until_complete(main())


def test_end_in_the_middle_of_a_paused_block_waits_for_resume(plain_loop: EventLoop) -> None:
    wires = Wires(plain_loop)
    wires.carry()
    wires.client.app_transport.write(b"data")
    record = bytes(wires.client_wire.sent)
    wires.client_wire.sent.clear()
    wires.server.app_transport.pause_reading()
    wires.server.data_received(record)
    assert wires.server.eof_received() is True
    assert wires.server_app.calls == ["made"]
    wires.server.app_transport.resume_reading()
    plain_loop.call_soon(plain_loop.stop)
    plain_loop.run_forever()
    assert bytes(wires.server_app.data) == b"data"
    assert wires.server_wire.closing
    wires.lose()
    assert isinstance(wires.server_app.lost.result(), ssl.SSLEOFError)


def test_peer_that_just_closes_after_our_close_notify_is_no_error(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.close()
        server.raw.abort()
        assert await client.protocol.lost is None
        await server.protocol.lost

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [BrokenPipeError, ConnectionResetError])
def test_broken_connection_after_both_close_notify_is_no_error(
    plain_loop: EventLoop, kind: type[Exception]
) -> None:
    wires = Wires(plain_loop)
    wires.carry()
    wires.client.app_transport.close()
    wires.carry()
    assert wires.client_wire.closing
    wires.client.connection_lost(kind())
    assert wires.client_app.lost.result() is None
    wires.lose()


def test_connection_that_breaks_before_all_is_sent_is_an_error(plain_loop: EventLoop) -> None:
    wires = Wires(plain_loop)
    wires.carry()
    wires.client.pause_writing()
    wires.client.app_transport.write(b"stuck")
    wires.client.app_transport.close()
    wires.client.connection_lost(ConnectionResetError())
    assert isinstance(wires.client_app.lost.result(), ConnectionResetError)
    wires.lose()


def test_peer_that_does_not_answer_close_notify_is_given_up(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop, client_options={"ssl_shutdown_timeout": 0.02})
        server.raw.pause_reading()
        client.transport.close()
        assert isinstance(await client.protocol.lost, TimeoutError)
        server.transport.abort()
        await server.protocol.lost

    loop.run_until_complete(main())


def test_data_that_crosses_our_close_notify_is_dropped(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.close()
        server.transport.write(LARGE[:50_000])
        server.transport.close()
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None
        assert client.protocol.calls == ["made", "lost"]

    loop.run_until_complete(main())


def test_close_while_reading_is_paused_completes(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.pause_reading()
        server.transport.write(LARGE[:200_000])
        for _ in range(5):
            await asyncio.sleep(0)
        client.transport.close()
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None

    loop.run_until_complete(main())


def test_abort_discards_and_loses(loop: EventLoop) -> None:
    async def main() -> None:
        client, server = await opened(loop)
        client.transport.write(LARGE)
        client.transport.abort()
        client.transport.abort()
        assert await client.protocol.lost is None
        assert await server.protocol.lost is not None
        client.layer.app_transport.write(b"dropped")
        client.layer.app_transport.close()
        assert client.layer.app_transport.is_closing()

    loop.run_until_complete(main())


def test_damaged_record_ends_the_connection_with_an_alert(plain_loop: EventLoop) -> None:
    """RFC 8446 section 5.2: bad_record_mac."""
    wires = Wires(plain_loop)
    wires.carry()
    wires.client.app_transport.write(b"good")
    wires.client.app_transport.write(b"bad")
    damaged = bytearray(wires.client_wire.sent)
    wires.client_wire.sent.clear()
    damaged[-1] ^= 1
    wires.server.data_received(bytes(damaged))
    assert bytes(wires.server_app.data) == b"good"
    assert wires.server_wire.closing
    wires.carry()
    wires.lose()
    assert any(name in str(wires.server_app.lost.result()) for name in FORGED)
    assert "ALERT" in str(wires.client_app.lost.result())


@pytest.mark.parametrize("garbage", [b"\x17\x03\x03\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_after_the_handshake_is_refused_at_once(
    plain_loop: EventLoop, garbage: bytes
) -> None:
    """RFC 8446 section 5.2: a record is not longer than 2^14 + 256."""
    wires = Wires(plain_loop)
    wires.carry()
    wires.server.data_received(garbage)
    assert wires.server_wire.closing
    wires.lose()
    assert isinstance(wires.server_app.lost.result(), ssl.SSLError)


# -- call-backs that do things -----------------------------------------------------------


@pytest.mark.parametrize("action", ["close", "abort", "pause_reading"])
def test_callback_may_end_or_pause_its_connection(loop: EventLoop, action: str) -> None:
    class Acting(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"last")
            getattr(self.transport, action)()

    async def main() -> None:
        client, server = await opened(loop, server=Acting(loop))
        client.transport.write(LARGE[:200_000])
        if action == "pause_reading":
            assert await client.protocol.receive(4) == b"last"
            assert server.protocol.calls == ["made", "data"]
            server.transport.abort()
        await server.protocol.lost
        await client.protocol.lost
        assert server.protocol.calls == ["made", "data", "lost"]
        if action == "close":
            assert bytes(client.protocol.data) == b"last"

    loop.run_until_complete(main())


@pytest.mark.parametrize("callback", ["connection_made", "eof_received", "pause_writing"])
def test_close_in_any_callback_ends_in_good_order(loop: EventLoop, callback: str) -> None:
    class Closing(Recorder):
        pass

    def close_there(self: Closing, *args: Any) -> None:
        getattr(Recorder, callback)(self, *args)
        self.transport.close()

    setattr(Closing, callback, close_there)

    async def main() -> None:
        client, server = await opened(loop, client=Closing(loop))
        if callback == "eof_received":
            server.transport.close()
        elif callback == "pause_writing":
            client.transport.write(LARGE * 8)
            assert len(await server.protocol.receive(8 * len(LARGE))) == 8 * len(LARGE)
        assert await client.protocol.lost is None
        assert await server.protocol.lost is None

    loop.run_until_complete(main())


def test_callback_that_raises_aborts_its_connection() -> None:
    loop = EventLoop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))

    class Raising(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("mine")

    async def main() -> None:
        client, server = await opened(loop, server=Raising(loop))
        client.transport.write(b"x")
        error = await server.protocol.lost
        assert isinstance(error, RuntimeError)
        assert isinstance(await client.protocol.lost, Exception)

    try:
        loop.run_until_complete(main())
        assert [str(context["exception"]) for context in reported] == ["mine"]
    finally:
        loop.close()


def test_buffered_protocol_works_over_tls(loop: EventLoop) -> None:
    class Buffered(BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(1000)
            self.data = bytearray()
            self.lost = loop.create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        client, server = await opened(loop, server=Buffered())
        client.transport.write(LARGE)
        client.transport.close()
        assert await server.protocol.lost is None
        assert bytes(server.protocol.data) == LARGE
        await client.protocol.lost

    loop.run_until_complete(main())


def test_lost_connection_is_freed_without_the_collector(loop: EventLoop) -> None:
    async def main() -> list[Any]:
        client, server = await opened(loop)
        watched = [weakref.ref(client.transport), weakref.ref(server.transport)]
        await closed(client, server)
        return watched

    gc.collect()
    gc.disable()
    try:
        watched = loop.run_until_complete(main())
        loop.run_until_complete(asyncio.sleep(0))
        assert [ref() for ref in watched] == [None, None]
    finally:
        gc.enable()


def test_unfinished_handshake_is_garbage_together_with_its_loop() -> None:
    """The collector clears what it likes first; the timer's heap must still be there."""
    loop = EventLoop()
    layer = TLSProtocol(loop, Recorder(loop), client_default(), server_hostname=HOST)
    layer.connection_made(Wire())
    loop.layer = layer  # type: ignore[attr-defined]
    assert loop.stats()["timers"] == 1
    loop.close()
    del loop, layer
    gc.collect()

"""Sessions of TLS are resumed where nothing is different, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme

from reactor.errors import EndpointError
from reactor.eventloop import EventLoop
from reactor.limits import (
    MAX_TLS_SESSIONS_PER_PEER,
    TLS_SESSION_SECONDS,
)
from reactor.protocol import Protocol
from reactor.resolver import AddressInfo, Resolver
from reactor.testing import listen, simulated_loop
from reactor.transports.connect import connect, secure
from reactor.transports.tls import TLSProtocol
from reactor.transports.tls_sessions import Resumption, TLSSession, TLSSessions, resumption
from tests.reactor.transports.tls_ends import (
    CA,
    HOST,
    VERSIONS,
    for_client,
    for_server,
    pem,
    up_to,
)

NEWEST = ssl.TLSVersion.TLSv1_3


class Here(Resolver):
    """Leads every name to the test's server."""

    async def resolve(self, host: str, port: int, family: int = 0) -> list[AddressInfo]:
        return await super().resolve("127.0.0.1", port, family)


class Server(asyncio.Protocol):
    """Echoes, and notes of each connection whether its session was resumed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.peer.transports.append(transport)
        self.peer.resumed.append(transport.get_extra_info("ssl_object").session_reused)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """Sends a byte, and waits for it and for the end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self.lost: asyncio.Future[Exception | None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        self.answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Peer:
    """A server, and connections to it with the sessions of a manager."""

    def __init__(self, loop: EventLoop, context: ssl.SSLContext) -> None:
        self.loop = loop
        self.context = context
        self.sessions = TLSSessions()
        self.transports: list[Any] = []
        self.resumed: list[bool] = []
        self.port = 0
        self.greeter: Callable[[], Any] = self.server

    def server(self) -> TLSProtocol:
        return TLSProtocol(self.loop, Server(self), self.context, server_side=True)

    async def open(self, tls: ssl.SSLContext, **options: Any) -> Asker:
        """Connect, and ask one thing; after that its tickets are here."""
        endpoint = options.pop("endpoint", "endpoint")
        with self.sessions.used_for(endpoint):
            _, asker = await connect(
                Asker,
                options.pop("host", HOST),
                self.port,
                tls=tls,
                resolver=Here(),
                **options,
            )
        asker.transport.write(b"x")
        assert await asker.answer == b"x"
        return asker

    async def visit(self, tls: ssl.SSLContext, **options: Any) -> bool:
        """Connect, ask and close; return whether the server resumed a session."""
        asker = await self.open(tls, **options)
        asker.transport.close()
        assert await asker.lost is None
        return self.resumed[-1]


@contextlib.asynccontextmanager
async def serving(loop: EventLoop, **options: Any) -> AsyncIterator[Peer]:
    """A server with *options* of ``server_context``, and ``tickets`` for a handshake."""
    tickets = options.pop("tickets", 2)
    context = for_server(**options)
    context.num_tickets = tickets
    peer = Peer(loop, context)
    listener = await listen(loop, lambda: peer.greeter())  # noqa: PLW0108 - which one, at each
    peer.port = listener.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        listener.close()
        for transport in peer.transports:
            transport.abort()
        for _ in range(8):
            await asyncio.sleep(0)


def play(loop: EventLoop, scenario: Callable[[Peer], Any], **options: Any) -> None:
    async def main() -> None:
        async with serving(loop, **options) as peer:
            await scenario(peer)

    loop.run_until_complete(main())


def with_certificate(name: str) -> ssl.SSLContext:
    return for_client(certificate_pem=pem(CA.issue_cert(name)))


# -- what is resumed ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_each_connection_after_the_first_resumes_the_session(
    loop: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(version, for_client())
        assert [await peer.visit(tls) for _ in range(4)] == [False, True, True, True]
        assert (peer.sessions.handshakes, peer.sessions.resumed) == (4, 3)
        assert len(peer.sessions) == 1

    play(loop, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_certificate_of_a_resumed_connection_is_known(
    real: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(version, for_client())
        askers = [await peer.open(tls) for _ in range(2)]
        full, resumed = [each.transport.get_extra_info("ssl_object") for each in askers]
        assert (full.session_reused, resumed.session_reused) == (False, True)
        assert resumed.getpeercert() == full.getpeercert()
        assert resumed.getpeercert()["subjectAltName"][0] == ("DNS", HOST)
        for asker in askers:
            asker.transport.close()
            assert await asker.lost is None

    play(real, scenario)


def test_rfc8446_appendix_c_4_a_ticket_serves_one_connection(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        await peer.visit(tls)
        peer.context.num_tickets = 0
        assert [await peer.visit(tls) for _ in range(3)] == [True, False, False]
        assert len(peer.sessions) == 0

    play(real, scenario)


def test_a_session_of_tls_1_2_serves_many_at_a_time(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(ssl.TLSVersion.TLSv1_2, for_client())
        await peer.visit(tls)
        askers = await asyncio.gather(*(peer.open(tls) for _ in range(4)))
        assert peer.resumed == [False, True, True, True, True]
        for asker in askers:
            asker.transport.close()
            assert await asker.lost is None

    play(real, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_that_was_aborted_has_not_spoilt_its_session(
    loop: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(version, for_client())
        asker = await peer.open(tls)
        asker.transport.abort()
        assert await asker.lost is None
        del asker
        assert await peer.visit(tls)

    play(loop, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_refuses_a_session_makes_a_full_handshake(
    loop: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(version, for_client())
        await peer.visit(tls)
        peer.context = for_server()  # which has other keys for its tickets
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]

    play(loop, scenario)


def test_a_server_without_tickets_is_asked_for_none(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        assert [await peer.visit(tls) for _ in range(3)] == [False, False, False]
        assert len(peer.sessions) == 0

    play(real, scenario, tickets=0)


def test_without_a_manager_nothing_is_resumed(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        for _ in range(2):
            _, asker = await connect(Asker, HOST, peer.port, tls=tls, resolver=Here())
            asker.transport.write(b"x")
            assert await asker.answer == b"x"
            asker.transport.close()
            assert await asker.lost is None
        assert peer.resumed == [False, False]
        assert resumption(real, HOST, 1, tls, HOST) is None

    play(real, scenario)


# -- what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"endpoint": "other"}, {"host": "127.0.0.1"}, {"server_hostname": "127.0.0.1"}]
)
def test_no_session_goes_where_a_part_of_the_key_differs(
    real: EventLoop, change: dict[str, str]
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]
        assert [await peer.visit(tls, **change) for _ in range(2)] == [False, True]
        assert await peer.visit(tls)

    play(real, scenario)


def test_no_session_goes_to_another_context(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        contexts = [for_client(), for_client(), with_certificate("a@test"), for_client(alpn=["x"])]
        assert [await peer.visit(each) for each in contexts] == [False] * 4
        assert [await peer.visit(each) for each in contexts] == [True] * 4

    play(real, scenario)


def test_curl_cve_2021_22890_no_session_of_a_proxy_goes_to_an_origin(real: EventLoop) -> None:
    """Not even where both have one name and one port."""

    async def scenario(peer: Peer) -> None:
        tls = for_client()

        async def visit_within() -> bool:
            transport, _ = await connect(Protocol, HOST, peer.port, resolver=Here())
            with peer.sessions.used_for("endpoint"):
                _, asker = await secure(transport, Asker(), HOST, peer.port, tls=tls)
            asker.transport.write(b"x")
            assert await asker.answer == b"x"
            asker.transport.close()
            assert await asker.lost is None
            return peer.resumed[-1]

        assert [await peer.visit(tls) for _ in range(2)] == [False, True]
        assert [await visit_within() for _ in range(2)] == [False, True]

    play(real, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_was_not_verified_is_not_taken_for_one_that_was(
    real: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(version, for_client())
        tls.check_hostname = False
        assert [await peer.visit(tls, host="wrong.test") for _ in range(2)] == [False, True]
        tls.check_hostname = True
        with pytest.raises(EndpointError, match=r"wrong\.test") as caught:
            await peer.visit(tls, host="wrong.test")
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    play(real, scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_that_was_not_verified_is_when_the_context_changes(
    real: EventLoop, version: ssl.TLSVersion
) -> None:
    async def scenario(peer: Peer) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        up_to(version, tls)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]
        tls.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(EndpointError):
            await peer.visit(tls)
        assert len(peer.sessions) == 0

    play(real, scenario)


def change_flags(tls: ssl.SSLContext) -> None:
    tls.verify_flags ^= ssl.VERIFY_X509_STRICT  # which 3.13 sets by itself


def load_root(tls: ssl.SSLContext) -> None:
    tls.load_verify_locations(cadata=trustme.CA().cert_pem.bytes().decode())


def load_certificate(tls: ssl.SSLContext) -> None:
    certificate = CA.issue_cert("b@test")
    with certificate.private_key_and_cert_chain_pem.tempfile() as path:
        tls.load_cert_chain(path)


def leave_common_names(tls: ssl.SSLContext) -> None:
    tls.hostname_checks_common_name = False


def raise_level(tls: ssl.SSLContext) -> None:
    tls.set_ciphers(f"DEFAULT:@SECLEVEL={tls.security_level + 1}")


def change_options(tls: ssl.SSLContext) -> None:
    tls.options ^= ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "change",
    [
        *(change_flags, load_root, load_certificate, leave_common_names, raise_level),
        change_options,
    ],
)
def test_a_context_that_was_changed_begins_anew(
    real: EventLoop, version: ssl.TLSVersion, change: Callable[[ssl.SSLContext], None]
) -> None:
    """Such as with another client certificate: curl CVE-2016-5420."""

    async def scenario(peer: Peer) -> None:
        tls = up_to(version, with_certificate("a@test"))
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]
        change(tls)
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]

    play(real, scenario)


class OwnContext(ssl.SSLContext):
    """May verify in a way of its own."""


class FeignedContext(OwnContext):
    """As truststore's is."""

    __class__ = ssl.SSLContext  # type: ignore[assignment]


class OwnObject(ssl.SSLObject):
    """The same."""


WITH_A_FUNCTION_IN_ITS_PLACE = """
import ssl

context = ssl.SSLContext

def make(*arguments):
    return context(*arguments)

ssl.SSLContext = make
import reactor
from reactor.transports.tls_sessions import resumption
"""


def test_class_of_contexts_that_was_replaced_is_no_obstacle() -> None:
    subprocess.run([sys.executable, "-P", "-c", WITH_A_FUNCTION_IN_ITS_PLACE], check=True)


def test_a_context_that_may_verify_in_its_own_way_resumes_nothing(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        plain = for_client()
        plain.sslobject_class = OwnObject
        contexts: list[ssl.SSLContext] = [plain]
        for kind in (OwnContext, FeignedContext):
            own = kind(ssl.PROTOCOL_TLS_CLIENT)
            CA.configure_trust(own)
            contexts.append(own)
        for context in contexts:
            assert [await peer.visit(context) for _ in range(2)] == [False, False]
        assert len(peer.sessions) == peer.sessions.handshakes == 0

    play(real, scenario)


def test_a_session_that_failed_is_not_offered_again(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = up_to(ssl.TLSVersion.TLSv1_2, for_client())
        await peer.visit(tls)
        peer.context = up_to(ssl.TLSVersion.TLSv1_2, for_server())
        peer.context.set_alpn_protocols(["x"])
        peer.context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")  # it has no such key
        with pytest.raises(EndpointError):
            await peer.visit(tls)
        assert len(peer.sessions) == 0

    play(real, scenario)


def test_a_session_whose_cipher_is_no_longer_taken_is_not_offered(real: EventLoop) -> None:
    """An OpenSSL server ends such a handshake (RFC 5246 section 7.4.1.2)."""

    async def scenario(peer: Peer) -> None:
        tls = up_to(ssl.TLSVersion.TLSv1_2, for_client())
        tls.set_ciphers("ECDHE+AESGCM")
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]
        tls.set_ciphers("ECDHE+CHACHA20")
        assert [await peer.visit(tls) for _ in range(2)] == [False, True]

    play(real, scenario)


def test_a_peer_that_hangs_up_at_the_offer_of_a_session_is_offered_none_next(
    real: EventLoop,
) -> None:
    class HangsUp(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.close()

    async def scenario(peer: Peer) -> None:
        tls = up_to(ssl.TLSVersion.TLSv1_2, for_client())
        await peer.visit(tls)
        peer.greeter = HangsUp
        with pytest.raises(EndpointError):
            await peer.visit(tls)
        assert len(peer.sessions) == 0
        peer.greeter = peer.server
        assert not await peer.visit(tls)

    play(real, scenario)


# -- what sessions keep -------------------------------------------------------------------------


def test_sessions_do_not_keep_the_contexts_that_they_are_of(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        contexts = []
        for _ in range(3):
            tls = up_to(ssl.TLSVersion.TLSv1_2, for_client())
            await peer.visit(tls)
            contexts.append(weakref.ref(tls))
            del tls
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        assert [context() for context in contexts] == [None] * 3
        assert len(peer.sessions) == 3  # of which none will be asked for

    play(real, scenario)


def test_a_connection_that_a_call_back_opens_is_not_the_managers(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        seen: list[bool] = []

        async def own() -> None:
            _, asker = await connect(Asker, HOST, peer.port, tls=tls, resolver=Here())
            asker.transport.write(b"x")
            await asker.answer
            seen.append(peer.resumed[-1])
            asker.transport.close()
            await asker.lost

        class Opener(Asker):
            def connection_made(self, transport: Any) -> None:
                self.tasks = [asyncio.ensure_future(own())]

        await peer.visit(tls)
        with peer.sessions.used_for("endpoint"):
            _, opener = await connect(Opener, HOST, peer.port, tls=tls, resolver=Here())
        opener.transport.write(b"x")
        await opener.answer
        await asyncio.gather(*opener.tasks)
        for _ in range(3):
            await own()
        assert seen == [False] * 4
        assert peer.sessions.handshakes == 2
        opener.transport.close()
        await opener.lost

    play(real, scenario)


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_ends(version: ssl.TLSVersion) -> None:
    loop = simulated_loop()
    try:

        async def scenario(peer: Peer) -> None:
            tls = up_to(version, for_client())
            assert [await peer.visit(tls) for _ in range(2)] == [False, True]
            simulated: Any = loop.poller
            simulated.advance(TLS_SESSION_SECONDS - 60)
            assert await peer.visit(tls)
            simulated.advance(TLS_SESSION_SECONDS + 1)
            assert not await peer.visit(tls)

        play(loop, scenario)
    finally:
        loop.close()


def test_the_peer_that_was_not_asked_for_longest_is_forgotten_first(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        peer.sessions = TLSSessions(2)
        tls = for_client()
        for name in ("one", "two", "one", "three"):
            await peer.visit(tls, endpoint=name)
        assert len(peer.sessions) == 2
        assert await peer.visit(tls, endpoint="one")
        assert not await peer.visit(tls, endpoint="two")

    play(real, scenario)


def test_the_sessions_of_one_peer_are_limited(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        count = MAX_TLS_SESSIONS_PER_PEER + 3
        askers = await asyncio.gather(*(peer.open(tls) for _ in range(count)))
        assert len(peer.sessions) == MAX_TLS_SESSIONS_PER_PEER
        for asker in askers:
            asker.transport.close()
            assert await asker.lost is None

    play(real, scenario)


def test_a_limit_of_none_keeps_none_and_counts(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        peer.sessions = TLSSessions(0)
        tls = for_client()
        assert [await peer.visit(tls) for _ in range(2)] == [False, False]
        assert (peer.sessions.handshakes, peer.sessions.resumed, len(peer.sessions)) == (2, 0, 0)

    play(real, scenario)


def test_sessions_can_be_forgotten(real: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        tls = for_client()
        await peer.visit(tls)
        assert repr(peer.sessions) == (
            "<TLSSessions, 1 of 256 for 1 peers, 0 of 1 handshakes resumed one>"
        )
        peer.sessions.clear()
        assert len(peer.sessions) == 0
        assert not await peer.visit(tls)

    play(real, scenario)


def test_nobody_else_makes_a_session() -> None:
    for kind in (TLSSession, Resumption):
        with pytest.raises(TypeError):
            kind()

"""What a TLS connection keeps: certificates that many were sent, and memory for records."""

import ctypes
import gc
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from reactor.eventloop import EventLoop
from reactor.limits import MAX_SHARED_CERTIFICATES
from reactor.transports.certificates import server_context
from reactor.transports.tls_chains import SharedCertificate, count_shared
from tests.reactor.transports.tls_ends import (
    HOST,
    VERSIONS,
    Wires,
    for_client,
    for_server,
    up_to,
)

CONNECTIONS = 16
BETWEEN = 4  # authorities between the root and the peer


class Counts(ctypes.Structure):
    """``struct mallinfo2`` of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated_bytes() -> int:
    """Return what malloc(3) has given out to this thread; OpenSSL has all of its memory from it."""
    mallinfo2: Any = None
    if sys.platform == "linux":
        mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        pytest.skip("no mallinfo2(3)")
    mallinfo2.restype = Counts
    counts = mallinfo2()
    return int(counts.uordblks + counts.hblkhd)


def bytes_for_each(make: Callable[[], Wires]) -> float:
    """Return what a connection and its peer take of malloc's memory.

    The second time counts: tables and free lists grow while there are more of them than ever.
    """
    each = 0.0
    for _ in range(2):
        kept = [make()]  # what is there once
        if not kept[0].client.direct:
            pytest.skip("OpenSSL cannot be called directly")
        gc.collect()
        before = allocated_bytes()
        kept += [make() for _ in range(CONNECTIONS)]
        gc.collect()
        each = (allocated_bytes() - before) / CONNECTIONS
        for wires in kept:
            wires.lose()
    return each


def authorities() -> tuple[trustme.CA, trustme.CA]:
    """Return a root, and an authority at the end of a long chain from there."""
    root = last = trustme.CA()
    for _ in range(BETWEEN):
        last = last.create_child_ca()
    return root, last


def server_of(authority: trustme.CA) -> ssl.SSLContext:
    certificate = authority.issue_cert(HOST)
    return server_context(certificate_pem=certificate.private_key_and_cert_chain_pem.bytes())


@pytest.mark.parametrize("with_data", [False, True])
def test_a_ticket_leaves_no_memory_for_a_record_behind(real: EventLoop, with_data: bool) -> None:
    def make(tickets: int) -> Callable[[], Wires]:
        context = for_server()
        context.num_tickets = tickets

        def open_one() -> Wires:
            wires = Wires(real, server_tls=context)
            if with_data:
                wires.server_app.connection_made = (  # type: ignore[method-assign]
                    lambda transport: transport.write(b"with the tickets")
                )
            wires.carry()
            assert bytes(wires.client_app.data) == (b"with the tickets" if with_data else b"")
            return wires

        return open_one

    assert bytes_for_each(make(2)) < bytes_for_each(make(0)) + 4_096


@pytest.mark.parametrize("version", VERSIONS)
def test_certificates_of_authorities_are_kept_once(
    real: EventLoop, version: ssl.TLSVersion
) -> None:
    root, last = authorities()
    client_tls = up_to(version, for_client(ca_pem=root.cert_pem.bytes()))

    def make(authority: trustme.CA) -> Callable[[], Wires]:
        server_tls = server_of(authority)

        def open_one() -> Wires:
            wires = Wires(real, client_tls=client_tls, server_tls=server_tls)
            wires.carry()
            assert wires.client_app.calls == ["made"]
            return wires

        return open_one

    assert bytes_for_each(make(last)) < bytes_for_each(make(root)) + 2_048


def chain_of(wires: Wires) -> tuple[list[bytes], list[bytes]]:
    """Return the DER of what the server sent and of what was verified."""
    link = wires.client.app_transport.get_extra_info("ssl_object")._sslobj
    return (
        [each.public_bytes(2) for each in link.get_unverified_chain()],
        [each.public_bytes(2) for each in link.get_verified_chain()],
    )


def test_a_chain_is_what_was_sent_to_each_connection(real: EventLoop) -> None:
    root, last = authorities()
    others = authorities()
    client_tls = for_client(ca_pem=root.cert_pem.bytes() + others[0].cert_pem.bytes())
    seen = []
    for server_tls in [server_of(last), server_of(others[1])] * 2:
        wires = Wires(real, client_tls=client_tls, server_tls=server_tls)
        wires.carry()
        sent, verified = chain_of(wires)
        assert len(sent) == 1 + BETWEEN
        assert verified[: 1 + BETWEEN] == sent
        assert len(verified) == 2 + BETWEEN
        own = wires.client.app_transport.get_extra_info("ssl_object").getpeercert(True)
        assert own == sent[0]
        seen.append((sent, verified))
        wires.lose()
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert not set(seen[0][0]) & set(seen[1][0])


def test_a_chain_is_there_after_its_connection_and_those_that_shared_it(real: EventLoop) -> None:
    root, last = authorities()
    client_tls = for_client(ca_pem=root.cert_pem.bytes())
    server_tls = server_of(last)
    first = Wires(real, client_tls=client_tls, server_tls=server_tls)
    first.carry()
    second = Wires(real, client_tls=client_tls, server_tls=server_tls)
    second.carry()
    expected = chain_of(first)
    link = second.client.app_transport.get_extra_info("ssl_object")
    for wires in (first, second):
        wires.lose()
    del first, second, wires
    gc.collect()
    assert [each.public_bytes(2) for each in link._sslobj.get_unverified_chain()] == expected[0]
    assert [each.public_bytes(2) for each in link._sslobj.get_verified_chain()] == expected[1]


def test_certificates_that_are_kept_have_a_limit(real: EventLoop) -> None:
    client_tls = for_client()
    client_tls.check_hostname = False
    client_tls.verify_mode = ssl.CERT_NONE
    root = trustme.CA()
    for _ in range(MAX_SHARED_CERTIFICATES + 1):
        wires = Wires(real, client_tls=client_tls, server_tls=server_of(root.create_child_ca()))
        wires.carry()
        assert wires.client_app.calls == ["made"]
        wires.lose()
        if not wires.client.direct:
            pytest.skip("OpenSSL cannot be called directly")
    assert count_shared() == MAX_SHARED_CERTIFICATES


def test_a_peer_without_certificates_has_no_chain(real: EventLoop) -> None:
    server_tls, client_tls = for_server(), for_client()
    client_tls.check_hostname = False
    client_tls.verify_mode = ssl.CERT_NONE
    for context in (server_tls, client_tls):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL@SECLEVEL=0")
    wires = Wires(real, client_tls=client_tls, server_tls=server_tls)
    wires.carry()
    assert wires.client_app.calls == ["made"]
    assert wires.client.app_transport.get_extra_info("peercert") is None
    wires.lose()


def test_nobody_else_makes_a_shared_certificate() -> None:
    with pytest.raises(TypeError, match="made by a connection"):
        SharedCertificate()

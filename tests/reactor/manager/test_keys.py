"""What tells two connections apart: no field of the key may be left out."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from reactor import (
    ConnectError,
    ConnectionManager,
    Endpoint,
    EndpointError,
    EndpointTimeoutError,
    Resolver,
    UnixOpener,
    client_context,
    connect,
    run,
)
from reactor.eventloop import EventLoop
from reactor.resolver import AddressInfo
from reactor.testing import listen
from tests.reactor.manager.peer import (
    NOTHING,
    Asker,
    Echo,
    Peer,
    counts,
    play,
    settle,
)


class Fixed(Resolver):
    """Leads every name to the test's server."""

    async def resolve(self, host: str, port: int, family: int = 0) -> list[AddressInfo]:
        return await super().resolve("127.0.0.1", port, family)


@dataclasses.dataclass(frozen=True)
class Proxy:
    """An opener that goes to a proxy in place of the host, with credentials; like HTTP's."""

    address: tuple[str, int]
    credentials: str = ""

    async def __call__(
        self, factory: Any, endpoint: Endpoint, deadline: float | None, resolver: Resolver | None
    ) -> tuple[Any, Any]:
        return await connect(factory, *self.address, deadline=deadline, resolver=resolver)


@pytest.mark.parametrize(
    "field",
    [
        {"scheme": "other"},
        {"host": "localhost"},
        {"server_hostname": "name"},
        {"local_address": ("127.0.0.1", 0)},
        {"opener": "proxy"},
    ],
    ids=lambda field: next(iter(field)),
)
def test_no_connection_is_shared_where_a_field_of_the_key_differs(
    loop: EventLoop, field: dict[str, Any]
) -> None:
    async def scenario(peer: Peer) -> None:
        if "opener" in field:
            field["opener"] = Proxy(("127.0.0.1", peer.endpoint.port))
        manager = ConnectionManager(resolver=Fixed())
        one = await manager.acquire(Asker, peer.endpoint)
        manager.release(one)
        changed = peer.endpoint._replace(**field)
        other = await manager.acquire(Asker, changed)
        assert other is not one
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 1}
        manager.release(other)
        assert manager.take(changed) is other
        manager.release(other)
        assert manager.take(peer.endpoint) is one
        manager.release(one)
        await manager.close()

    play(loop, scenario)


def test_no_connection_is_shared_between_proxies_or_their_credentials(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(resolver=Fixed())
        port = peer.endpoint.port
        ways = [
            None,
            Proxy(("127.0.0.1", port)),
            Proxy(("proxy.test", port)),
            Proxy(("127.0.0.1", port), "one:secret"),
            Proxy(("127.0.0.1", port), "two:secret"),
        ]
        askers = []
        for way in ways:
            askers.append(await manager.acquire(Asker, peer.endpoint._replace(opener=way)))
            manager.release(askers[-1])
        assert len(set(askers)) == len(ways)
        again = peer.endpoint._replace(opener=Proxy(("127.0.0.1", port), "two:secret"))
        assert await manager.acquire(Asker, again) is askers[-1]
        manager.release(askers[-1])
        await manager.close()

    play(loop, scenario)


def test_no_connection_is_shared_between_alpn_lists_client_certificates_and_names() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("one.test", "two.test").configure_cert(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server)
    server.set_alpn_protocols(["h2", "http/1.1"])
    pem = authority.cert_pem.bytes()
    certificates = [authority.issue_cert(f"client{n}@test") for n in range(2)]
    contexts = [
        client_context(ca_pem=pem),
        client_context(ca_pem=pem, alpn=["h2"]),
        client_context(ca_pem=pem, alpn=["http/1.1"]),
        *(
            client_context(
                ca_pem=pem,
                certificate_pem=each.cert_chain_pems[0].bytes(),
                key_pem=each.private_key_pem.bytes(),
            )
            for each in certificates
        ),
    ]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transports: list[Any] = []
        listener = await loop.create_server(lambda: Echo(transports), "127.0.0.1", 0, ssl=server)
        port = listener.sockets[0].getsockname()[1]
        manager = ConnectionManager(resolver=Fixed())
        keys = [Endpoint("s", "one.test", port, context) for context in contexts]
        keys.append(keys[0]._replace(server_hostname="two.test"))
        seen = []
        for key in [*keys, *keys]:
            async with manager.lease(Asker, key) as asker:
                assert await asker.ask(b"x") == b"x"
                tls = asker.transport.get_extra_info("ssl_object")
                seen.append((asker, tls.selected_alpn_protocol(), tls.server_hostname))
        assert seen[: len(keys)] == seen[len(keys) :]
        assert len({asker for asker, *_ in seen}) == len(keys)
        assert [each[1] for each in seen[:3]] == [None, "h2", "http/1.1"]
        assert seen[-1][2] == "two.test"
        peers = [each.get_extra_info("peercert") for each in transports]
        assert [bool(each) for each in peers] == [False, False, False, True, True, False]
        assert peers[3]["serialNumber"] != peers[4]["serialNumber"]
        await manager.close()
        listener.close()
        for transport in transports:
            transport.abort()
        await settle()

    run(main())


def test_no_connection_is_shared_between_unix_paths(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transports: list[Any] = []
        paths = [str(tmp_path / name) for name in ("one", "two")]
        servers = [await loop.create_unix_server(lambda: Echo(transports), path) for path in paths]
        manager = ConnectionManager()
        keys = [Endpoint("s", "localhost", 80, opener=UnixOpener(path)) for path in paths]
        askers = []
        for key in keys:
            askers.append(await manager.acquire(Asker, key))
            assert await askers[-1].ask(b"x") == b"x"
            manager.release(askers[-1])
        assert askers[0] is not askers[1]
        assert manager.take(keys[0]) is askers[0]
        manager.release(askers[0])
        assert f"s://localhost:80 by unix:{paths[0]}" in repr(manager)
        await manager.close()
        for server in servers:
            server.close()
        for transport in transports:
            transport.abort()
        await settle()

    run(main())


def test_unix_path_where_nobody_listens_is_refused_by_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody")

    async def main() -> None:
        manager = ConnectionManager()
        with pytest.raises(ConnectError, match=r"connect .*nobody") as caught:
            await manager.acquire(Asker, "localhost", 80, opener=UnixOpener(path))
        assert (caught.value.host, caught.value.port) == (path, None)
        assert counts(manager) == NOTHING
        await manager.close()

    run(main())


def test_unix_path_keeps_the_factorys_own_errors_and_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transports: list[Any] = []
        server = await loop.create_unix_server(lambda: Echo(transports), path)
        manager = ConnectionManager()
        endpoint = Endpoint("s", "localhost", 80, opener=UnixOpener(path))
        for error in (ZeroDivisionError, OSError, TimeoutError):

            def factory(error: type[Exception] = error) -> Any:
                raise error("mine")

            with pytest.raises(error, match=r"^mine$"):
                await manager.acquire(factory, endpoint)
        silent = endpoint._replace(tls=client_context())  # the echo ends no handshake
        with pytest.raises(EndpointError) as caught:
            await manager.acquire(Asker, silent, deadline=loop.time() + 0.5)
        assert (caught.value.phase, caught.value.host) == ("tls", path)
        full = socket.socket(socket.AF_UNIX)
        full.bind(str(tmp_path / "full"))
        full.listen(0)
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(tmp_path / "full"))
        busy = endpoint._replace(opener=UnixOpener(str(tmp_path / "full")), tls=silent.tls)
        with pytest.raises(EndpointTimeoutError) as late:
            await manager.acquire(Asker, busy, deadline=loop.time() + 0.05)
        assert late.value.phase == "connect"
        for each in (full, one):
            each.close()
        assert counts(manager) == NOTHING
        await manager.close()
        server.close()
        for transport in transports:
            transport.abort()
        await settle()

    run(main())


def test_unix_path_is_refused_where_there_are_no_such_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(NotImplementedError, match="no UNIX sockets on this platform"):
        UnixOpener("/run/peer")


def test_opener_that_returns_no_transport_of_ours_is_refused_and_its_connection_ended(
    loop: EventLoop,
) -> None:
    class Foreign:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    foreign = Foreign()

    async def opener(*_: Any) -> tuple[Any, Any]:
        return foreign, Asker()

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        with pytest.raises(TypeError, match="Transport"):
            await manager.acquire(Asker, peer.endpoint._replace(opener=opener))
        assert foreign.aborted
        assert counts(manager) == NOTHING
        assert manager.stats()["failed"] == 1
        await manager.close()

    play(loop, scenario)


def test_host_and_port_name_the_same_endpoint_as_an_endpoint_does(loop: EventLoop) -> None:
    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager()
        port = peer.endpoint.port
        one = await manager.acquire(Asker, "127.0.0.1", port)
        manager.release(one)
        assert await manager.acquire(Asker, Endpoint("tcp", "127.0.0.1", port)) is one
        manager.release(one)
        async with manager.lease(Asker, "127.0.0.1", port, scheme="other") as other:
            assert other is not one
        for wrong in (("127.0.0.1",), (peer.endpoint, port)):
            with pytest.raises(TypeError, match="port"):
                await manager.acquire(Asker, *wrong)
        with pytest.raises(TypeError, match="unexpected"):
            await manager.acquire(Asker, "127.0.0.1", port, colour="red")
        await manager.close()

    play(loop, scenario)


def test_no_connection_is_shared_between_ports_or_tls_contexts(loop: EventLoop) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    pem = authority.cert_pem.bytes()

    async def main() -> None:
        transports: list[Any] = []
        manager = ConnectionManager()
        servers = [await listen(loop, lambda: Echo(transports)) for _ in range(2)]
        secure: list[Any] = []
        tls_server = None
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        keys = [Endpoint("s", "127.0.0.1", port) for port in ports]
        if type(loop.poller).__name__ != "SimulatedPoller":
            tls_server = await loop.create_server(lambda: Echo(secure), "127.0.0.1", 0, ssl=context)
            port = tls_server.sockets[0].getsockname()[1]
            contexts = [client_context(ca_pem=pem) for _ in range(2)]
            keys += [Endpoint("s", "127.0.0.1", port, context) for context in contexts]
        askers = []
        for key in keys:
            askers.append(await manager.acquire(Asker, key))
            assert await askers[-1].ask(b"x") == b"x"
            manager.release(askers[-1])
        assert len(set(askers)) == len(keys)
        assert counts(manager)["idle"] == len(keys)
        for key, asker in zip(keys, askers, strict=True):
            assert manager.take(key) is asker
            manager.release(asker)
        await manager.close()
        for server in [*servers, *filter(None, [tls_server])]:
            server.close()
        for transport in [*transports, *secure]:
            transport.abort()
        await settle()

    loop.run_until_complete(main())

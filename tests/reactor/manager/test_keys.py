"""What tells two connections apart: no field of the key may be left out."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

from reactor import (
    ConnectionManager,
    Endpoint,
    client_context,
)
from reactor.eventloop import EventLoop
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


@pytest.mark.parametrize(
    "field",
    [
        {"scheme": "other"},
        {"host": "localhost"},
        {"server_hostname": "name"},
        {"local_address": ("127.0.0.1", 0)},
    ],
    ids=lambda field: next(iter(field)),
)
def test_no_connection_is_shared_where_a_field_of_the_key_differs(
    loop: EventLoop, field: dict[str, Any]
) -> None:
    class Fixed:
        async def resolve(self, host: str, port: int, family: int = 0) -> list[Any]:
            found: list[Any] = await loop.resolver.resolve("127.0.0.1", port)
            return found

    async def scenario(peer: Peer) -> None:
        manager = ConnectionManager(resolver=Fixed())  # type: ignore[arg-type]
        one = await manager.acquire(Asker, peer.endpoint)
        manager.release(one)
        other = await manager.acquire(Asker, peer.endpoint._replace(**field))
        assert other is not one
        assert counts(manager) == {**NOTHING, "leased": 1, "idle": 1}
        manager.release(other)
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

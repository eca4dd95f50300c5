"""The clients resume TLS sessions: nginx says of each connection whether it was."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient, Client
from tests.peers.absent import absent
from tests.peers.nginx import CONFIGURATION, Nginx, executable

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
CLOSE = {"Connection": "close"}

# What nginx says of a connection: "." for a full handshake, "r" for a session that was resumed.
TELLS = "location = /reused {{ return 200 $ssl_session_reused; }}\n        location /private/"
WAYS = {
    "tickets and a cache": "ssl_session_tickets on; ssl_session_cache shared:tls:1m;",
    "tickets": "ssl_session_tickets on; ssl_session_cache off;",
    "a cache": "ssl_session_tickets off; ssl_session_cache shared:tls:1m;",
}


@pytest.fixture(scope="module", params=list(WAYS))
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Nginx]:
    """Return an nginx that keeps its sessions in that way."""
    if executable() is None:
        absent("nginx", "nginx-light")
    made = Nginx(tmp_path_factory.mktemp("nginx"))
    made.configuration = CONFIGURATION.replace(
        "ssl_session_cache shared:tls:1m;", WAYS[request.param]
    ).replace("location /private/", TELLS)
    with made as running:
        yield running


def context(server: Nginx, version: ssl.TLSVersion) -> ssl.SSLContext:
    made = reactor.client_context(ca_file=server.ca_pem)
    made.maximum_version = version
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_after_the_first_are_resumed(server: Nginx, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        async with AsyncClient(tls=context(server, version)) as client:
            url = server.url("reused", scheme="https")
            told = [(await client.get(url, headers=CLOSE)).text for _ in range(5)]
            assert told == [".", "r", "r", "r", "r"]
            stats = client.manager.stats()
            assert (stats["opened"], stats["tls_handshakes"], stats["tls_resumed"]) == (5, 5, 4)
            other = server.url("reused", scheme="https", host="127.0.0.1")
            assert (await client.get(other, headers=CLOSE)).text == "."

    reactor.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_resumption_can_be_switched_off(server: Nginx, version: ssl.TLSVersion) -> None:
    with Client(tls=context(server, version), resume_tls=False) as client:
        url = server.url("reused", scheme="https")
        assert [client.get(url, headers=CLOSE).text for _ in range(3)] == [".", ".", "."]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_client_has_sessions_of_its_own(server: Nginx, version: ssl.TLSVersion) -> None:
    tls = context(server, version)
    url = server.url("reused", scheme="https")
    for _ in range(2):
        with Client(tls=tls) as client:
            assert [client.get(url, headers=CLOSE).text for _ in range(2)] == [".", "r"]

"""Requests through proxies: a real squid, a real microsocks, and a SOCKS5 server that notes."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator

import pytest

from protocols.http import (
    URL,
    AsyncClient,
    Client,
    DigestAuth,
    PasswordAuth,
    PasswordQuestion,
    Proxy,
    ProxyAuthenticationError,
    ProxyError,
    Timeout,
)
from protocols.http.auth import Auth
from protocols.http.limits import MAX_AUTH_ANSWERS
from reactor import ConnectRefusedError, EndpointTimeoutError, TLSCertificateError, client_context
from tests.peers.absent import absent
from tests.peers.microsocks import executable as microsocks_executable
from tests.peers.microsocks import microsocks
from tests.peers.nginx import Nginx
from tests.peers.scripted import (
    OK,
    Authority,
    Conversation,
    answer,
    on_reactor,
    refusing_port,
    run,
    serving,
)
from tests.peers.scripts import always_ok, says, says_and_closes, says_nothing
from tests.peers.socks import socks_server
from tests.peers.squid import Squid
from tests.peers.squid import executable as squid_executable
from tests.protocols.http.client_checks import NOTHING, counts

pytestmark = pytest.mark.usefixtures("nothing_is_told")

LOGIN = b"Proxy-Authorization: Basic " + b64encode(b"me:secret")


@pytest.fixture(scope="module")
def squid() -> Iterator[Squid]:
    if squid_executable() is None:
        absent("squid", "squid")
    with Squid() as server:
        yield server


# -- a real one ------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_leads_to_nginx(squid: Squid, nginx: Nginx, scheme: str, proxy_scheme: str) -> None:
    port = squid.http_port if proxy_scheme == "http" else squid.https_port
    proxy = Proxy(
        f"{proxy_scheme}://127.0.0.1:{port}",
        auth=("me", "secret"),
        tls=client_context(ca_pem=squid.ca_pem) if proxy_scheme == "https" else None,
    )
    tls = client_context(ca_file=nginx.ca_pem, alpn=("http/1.1",))
    url = nginx.url("100k", scheme=scheme, host="127.0.0.1")
    with Client(proxy=proxy, tls=tls) as client:
        for _ in range(2):
            response = client.get(url)
            assert (response.status_code, len(response.content)) == (200, 100 << 10)
        with client.stream("GET", url) as streamed:
            assert len(streamed.read()) == 100 << 10
        assert client._async.manager.stats()["opened"] == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_squid_without_the_password(squid: Squid, nginx: Nginx, scheme: str) -> None:
    tls = client_context(ca_file=nginx.ca_pem, alpn=("http/1.1",))
    url = nginx.url("64", scheme=scheme, host="127.0.0.1")
    asked: list[PasswordQuestion] = []

    def ask(question: PasswordQuestion) -> tuple[str, str]:
        asked.append(question)
        return "me", "secret" if question.attempt == 2 else "mistyped"

    for proxy in (f"127.0.0.1:{squid.http_port}", f"http://me:wrong@127.0.0.1:{squid.http_port}"):
        with Client(proxy=proxy, tls=tls) as client:
            if scheme == "http":
                assert client.get(url).status_code == 407
            else:
                with pytest.raises(ProxyAuthenticationError, match="credentials") as caught:
                    client.get(url)
                assert (caught.value.status_code, caught.value.port) == (407, squid.http_port)
    with Client(proxy=f"127.0.0.1:{squid.http_port}", tls=tls, on_password=ask) as client:
        assert len(client.get(url).content) == 64
        assert len(client.get(url).content) == 64
    assert [(each.is_proxy, each.realm, each.url.port) for each in asked] == [
        (True, "squid", squid.http_port)
    ] * 2


def test_squid_refuses_a_tunnel(squid: Squid) -> None:
    with Client(proxy=f"http://127.0.0.1:{squid.open_port}") as client:
        assert client.get("http://refused.example/").status_code == 403
        with pytest.raises(ProxyError, match=r"refused\.example:443 with 403") as caught:
            client.get("https://refused.example/")
        assert caught.value.status_code == 403


def test_environment_names_the_proxy(
    squid: Squid, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = nginx.url("64", host="127.0.0.1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{squid.http_port}")
    with Client() as client:
        assert client.get(url).status_code == 407
    with Client(trust_env=False) as client:
        assert client.get(url).status_code == 200
    monkeypatch.setenv("NO_PROXY", "example.com, 127.0.0.0/8")
    with Client() as client:
        assert client.get(url).status_code == 200


# -- what the proxy and the origin are told ----------------------------------------------------


@on_reactor
async def test_http_is_asked_in_absolute_form_over_one_connection_for_all_origins() -> None:
    seen: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            await peer.send(OK)

    async with serving(script) as server:
        proxy = Proxy(server.url().replace("//", "//me:secret@"), headers={"X-Proxy": "1"})
        async with AsyncClient(proxy=proxy) as client:
            await client.get("http://a.example/x?y=z")
            await client.get("http://b.example:8080", headers={"Proxy-Authorization": "mine"})
        assert server.connections == 1
    assert seen[0].startswith(b"GET http://a.example/x?y=z HTTP/1.1\r\nHost: a.example\r\n")
    assert seen[1].startswith(b"GET http://b.example:8080/ HTTP/1.1\r\nHost: b.example:8080\r\n")
    for head in seen:
        assert LOGIN in head
        assert head.count(b"Proxy-Authorization") == 1
        assert b"X-Proxy: 1" in head


class Tunnels:
    """A proxy whose every CONNECT leads to one server; a script for ``serving``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: list[bytes] = []
        self.surplus = b""

    async def __call__(self, peer: Conversation) -> None:
        head = await peer.request()
        if head is None:
            return
        self.seen.append(head)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await peer.send(b"HTTP/1.1 200 Yes\r\nX: y\r\n\r\n" + self.surplus)

        async def back() -> None:
            while data := await reader.read(65_536):
                await peer.send(data)
            peer.close()

        task = asyncio.ensure_future(back())
        try:
            while data := await peer.reader.read(65_536):
                writer.write(data)
        finally:
            writer.close()
            task.cancel()
            await asyncio.wait([task])


def test_origin_behind_a_tunnel_sees_nothing_of_the_proxy(
    authority: Authority, trusting: ssl.SSLContext
) -> None:
    seen: list[bytes] = []

    async def origin(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            await peer.send(OK)

    async def main() -> None:
        async with (
            serving(origin, tls=authority.server("secret.example")) as server,
            serving(tunnels := Tunnels(server.port)) as proxy_server,
        ):
            url = proxy_server.url().replace("//", "//me:secret@")
            async with AsyncClient(proxy=url, tls=trusting) as client:
                for _ in range(2):
                    response = await client.get(
                        "https://secret.example/x", headers={"Proxy-Authorization": "Bearer mine"}
                    )
                    assert response.content == b"ok"
                assert counts(client) == {**NOTHING, "idle": 1}
            assert proxy_server.connections == 1
            (head,) = tunnels.seen
            assert head.startswith(
                b"CONNECT secret.example:443 HTTP/1.1\r\nHost: secret.example:443\r\n"
            )
            assert LOGIN in head
            assert b"Bearer" not in head
            assert all(
                each.startswith(b"GET /x HTTP/1.1\r\nHost: secret.example\r\n") for each in seen
            )
            assert not any(b"roxy" in each for each in seen)

    run(main())


def test_certificate_behind_a_tunnel_is_the_origins(
    authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with (
            serving(always_ok, tls=authority.server("other.example")) as server,
            serving(Tunnels(server.port)) as proxy,
            AsyncClient(proxy=proxy.url(), tls=trusting) as client,
        ):
            with pytest.raises(TLSCertificateError) as caught:
                await client.get("https://secret.example/")
            assert (caught.value.host, caught.value.phase) == ("secret.example", "tls")
            assert counts(client) == NOTHING

    run(main())


@on_reactor
async def test_each_proxy_and_each_login_has_connections_of_its_own() -> None:
    async with serving(always_ok) as server:
        bare = server.url()
        proxies = [bare, bare.replace("//", "//a:b@"), bare.replace("//", "//a:c@")]
        keys = set()
        for each in proxies:
            async with AsyncClient(proxy=each) as client:
                keys.add(client._endpoint(URL("http://a.example/")))
                keys.add(client._endpoint(URL("http://b.example/")))
        assert len(keys) == len(proxies)
        assert "a:b" not in str(keys)
        assert "'b'" not in repr(keys)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "more than its answer"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "with 502 Bad Gateway"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (b"220 smtp\r\n", "not HTTP"),
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\n", "closed"),
        (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 403 No\r\n\r\n", "with 403 No"),
    ],
)
@on_reactor
async def test_proxy_that_opens_no_tunnel_is_a_typed_error(said: bytes, words: str) -> None:
    async with serving(says_and_closes(said)) as server, AsyncClient(proxy=server.url()) as client:
        with pytest.raises(ProxyError, match=words) as caught:
            await client.get("https://a.example/")
        error = caught.value
        assert (error.host, error.port, error.phase) == ("127.0.0.1", server.port, "connect")
        assert counts(client) == NOTHING


@pytest.mark.parametrize("url", ["http://a.example/", "https://a.example/"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@on_reactor
async def test_proxy_that_is_not_there_or_silent_is_a_typed_error(scheme: str, url: str) -> None:
    with refusing_port() as port:
        async with AsyncClient(proxy=f"{scheme}://127.0.0.1:{port}") as client:
            with pytest.raises(ConnectRefusedError) as refused:
                await client.get(url)
            assert refused.value.port == port
    async with serving(says_nothing) as server:
        proxy = server.url().replace("http", scheme, 1)
        async with AsyncClient(proxy=proxy, timeout=0.05) as client:
            with pytest.raises(EndpointTimeoutError) as late:
                await client.get(url)
            assert late.value.port == server.port
            assert counts(client) == NOTHING
        if url.startswith("https") or scheme == "socks5h":
            async with AsyncClient(proxy=proxy, timeout=Timeout(20, connect=0.05)) as client:
                with pytest.raises(EndpointTimeoutError) as slow:
                    await client.get(url)
                assert slow.value.phase == "connect"
                assert counts(client) == NOTHING


@pytest.mark.parametrize("url", ["http://a.example/", "https://a.example/"])
@on_reactor
async def test_cancelled_behind_a_proxy_leaves_nothing(url: str) -> None:
    arrived = asyncio.Event()

    async def script(peer: Conversation) -> None:
        await peer.request()
        arrived.set()
        await peer.until_closed()

    async with serving(script) as server, AsyncClient(proxy=server.url()) as client:
        task = asyncio.ensure_future(client.get(url))
        await arrived.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert counts(client) == NOTHING


@on_reactor
async def test_digest_of_a_proxy_is_answered_in_both_forms() -> None:
    challenge = 'Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
    seen: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            if b"Proxy-Authorization: Digest" not in head:
                await peer.send(answer(b"", challenge, status="407 No"))
            elif head.startswith(b"CONNECT"):
                await peer.send(b"HTTP/1.1 418 Found it\r\n\r\n")
            else:
                await peer.send(OK)

    async with serving(script) as server:
        auth: Auth = DigestAuth("me", "secret")
        async with AsyncClient(proxy=Proxy(server.url(), auth=auth)) as client:
            response = await client.post("http://a.example/x", content=b"")
            assert response.content == b"ok"
            assert b'uri="http://a.example/x"' in seen[1]
            with pytest.raises(ProxyError, match="418"):
                await client.get("https://a.example/x")
            assert b'uri="a.example:443"' in seen[-1]
    assert not any(b"\r\nAuthorization" in head for head in seen)


@pytest.mark.parametrize("kind", [DigestAuth, PasswordAuth])
@on_reactor
async def test_challenge_of_a_proxy_is_learnt_where_the_request_cannot_be_repeated(
    kind: type[DigestAuth | PasswordAuth],
) -> None:
    challenge = 'Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            await peer.reader.readuntil(b"0\r\n\r\n")
            is_let_in = b"Proxy-Authorization: Digest" in head
            await peer.send(OK if is_let_in else answer(b"", challenge, status="407 No"))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"once"

    async with serving(script) as server:
        proxy = Proxy(server.url(), auth=kind("me", "secret"))
        async with AsyncClient(proxy=proxy) as client:
            for status in (407, 200, 200):
                response = await client.post("http://a.example/x", content=pieces())
                assert (response.status_code, response.history) == (status, [])


@on_reactor
async def test_newest_nonce_of_a_proxy_that_has_refused_a_tunnel_is_learnt() -> None:
    seen: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            field = f'Proxy-Authenticate: Digest realm=r, qop="auth", nonce="n{len(seen)}"'
            if len(seen) > MAX_AUTH_ANSWERS + 1:
                await peer.send(b"HTTP/1.1 418 Found it\r\n\r\n")
            else:
                await peer.send(answer(b"", field + ", stale=true", status="407 No"))

    async with serving(script) as server:
        proxy = Proxy(server.url(), auth=DigestAuth("me", "secret"))
        async with AsyncClient(proxy=proxy) as client:
            with pytest.raises(ProxyAuthenticationError):
                await client.get("https://a.example/x")
            with pytest.raises(ProxyError, match="418"):
                await client.get("https://a.example/x")
    assert f'nonce="n{MAX_AUTH_ANSWERS + 1}", nc=00000001'.encode() in seen[-1]


@on_reactor
async def test_407_of_an_origin_gets_no_password() -> None:
    asked: list[PasswordQuestion] = []
    said = answer(b"", 'Proxy-Authenticate: Basic realm="x"', status="407 No")
    async with serving(says(said)) as server, AsyncClient(on_password=asked.append) as client:
        assert (await client.get(server.url())).status_code == 407
        assert asked == []


# -- SOCKS5 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@on_reactor
async def test_socks5_resolves_here_and_socks5h_there(scheme: str) -> None:
    async with serving(always_ok) as server, socks_server() as socks:
        async with AsyncClient(proxy=socks.url(scheme)) as client:
            for _ in range(2):
                response = await client.get(server.url(host="localhost"))
                assert response.content == b"ok"
            await client.get(server.url())
            assert counts(client)["idle"] == 2
        expected = (3, "localhost", server.port)
        if scheme == "socks5":
            expected = (1, "127.0.0.1", server.port)
        assert socks.asked == [expected, (1, "127.0.0.1", server.port)]


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_real_socks_server_carries_http_and_tls_for_who_has_its_password(
    authority: Authority, trusting: ssl.SSLContext, scheme: str
) -> None:
    if microsocks_executable() is None:
        absent("microsocks", "microsocks")

    async def main(port: int) -> None:
        proxy = f"{scheme}://me:secret@127.0.0.1:{port}"
        async with (
            serving(always_ok) as plain,
            serving(always_ok, tls=authority.server("localhost")) as secure,
            AsyncClient(proxy=proxy, tls=trusting) as client,
        ):
            for _ in range(2):
                for url in (plain.url(host="localhost"), f"https://localhost:{secure.port}/"):
                    assert (await client.get(url)).content == b"ok"
            assert counts(client) == {**NOTHING, "idle": 2}
            with refusing_port() as refused, pytest.raises(ProxyError, match="connection refused"):
                await client.get(f"http://127.0.0.1:{refused}/")
            async with AsyncClient(proxy=f"{scheme}://me:wrong@127.0.0.1:{port}") as stranger:
                with pytest.raises(ProxyAuthenticationError, match="refuses the user"):
                    await stranger.get(plain.url())

    with microsocks("me", "secret") as port:
        run(main(port))


def test_tls_through_socks_verifies_the_origin(
    authority: Authority, trusting: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with (
            serving(always_ok, tls=authority.server("secret.example")) as server,
            socks_server((b"me", b"secret")) as socks,
            AsyncClient(proxy=socks.url("socks5h", "me:secret@"), tls=trusting) as client,
        ):
            url = f"https://secret.example:{server.port}/"
            assert (await client.get(url)).content == b"ok"
            assert socks.logins == [(b"me", b"secret")]
            assert socks.asked == [(3, "secret.example", server.port)]
            with pytest.raises(TLSCertificateError):
                await client.get(f"https://other.example:{server.port}/")
            assert counts(client) == {**NOTHING, "idle": 1}

    run(main())


@on_reactor
async def test_socks_refusals_are_typed_errors() -> None:
    async with serving(always_ok) as server, socks_server((b"me", b"secret")) as socks:
        async with AsyncClient(proxy=socks.url()) as client:
            with pytest.raises(ProxyAuthenticationError, match="asks for credentials"):
                await client.get(server.url())
        async with AsyncClient(proxy=socks.url(login="me:wrong@")) as client:
            with pytest.raises(ProxyAuthenticationError, match="refuses the user"):
                await client.get(server.url())
        async with AsyncClient(proxy=socks.url(login="me:secret@")) as client:
            socks.reply = 5
            with pytest.raises(ProxyError, match="connection refused") as caught:
                await client.get(server.url())
            assert (caught.value.port, caught.value.phase) == (socks.port, "connect")
            socks.reply, socks.surplus = 0, b"early"
            with pytest.raises(ProxyError, match="more than its answer"):
                await client.get(server.url())
            assert counts(client) == NOTHING


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad", "does not speak SOCKS5"),
        (b"\x05\x07", "method 7"),
        (b"\x05\x00\x05\x00\x00\x09", "unknown type"),
        (b"\x05\x00\x04\x00\x00\x01", "does not speak SOCKS5"),
        (b"\x05\x00\x05\x63\x00\x01", "reply 99"),
    ],
)
@on_reactor
async def test_what_is_not_socks5_is_a_typed_error(said: bytes, words: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.send(said)
        await peer.until_closed()

    async with (
        serving(script) as server,
        AsyncClient(proxy=f"socks5h://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(ProxyError, match=words):
            await client.get("http://a.example/")
        assert counts(client) == NOTHING

"""What never happens, whatever the caller gives and the server answers.

A client certificate does not follow a redirect to another origin, and no string of the caller's
with a control character comes as far as a socket.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme

from protocols.http import (
    AsyncClient,
    BearerAuth,
    CookieJar,
    InvalidHeader,
    NetrcAuth,
    NetrcError,
    Proxy,
)
from protocols.http.routes import without_certificate
from reactor import ConnectError, TLSCertificateError, client_context
from tests.peers.scripted import Conversation, answer, on_reactor, run, serving
from tests.peers.scripts import always_ok
from tests.protocols.http.client_checks import NOTHING, counts

pytestmark = pytest.mark.usefixtures("nothing_is_told")


class Certified:
    """An authority, servers that ask for certificates, and a client's context with one."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self._own = self._ca.issue_cert("me@client.example")

    def server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cadata=self._ca.cert_pem.bytes().decode()
        )
        context.verify_mode = ssl.CERT_OPTIONAL
        self._ca.issue_cert("127.0.0.1").configure_cert(context)
        return context

    def client(self, *, is_ours: bool) -> ssl.SSLContext:
        pem = self._ca.cert_pem.bytes()
        if is_ours:
            chain = b"".join(blob.bytes() for blob in self._own.cert_chain_pems)
            key = self._own.private_key_pem.bytes()
            return client_context(
                ca_pem=pem, certificate_pem=chain, key_pem=key, alpn=("http/1.1",)
            )
        context = ssl.create_default_context(cadata=pem.decode())
        self._own.configure_cert(context)
        return context


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_ours", [False, True])
def test_client_certificate_does_not_follow_a_redirect_to_another_origin(
    is_ours: bool, stream: bool
) -> None:
    certified = Certified()
    shown: list[tuple[str, bool]] = []

    def site(name: str, location: Callable[[bytes], str | None]) -> Any:
        async def script(peer: Conversation) -> None:
            while (head := await peer.request()) is not None:
                shown.append((name, bool(peer.writer.get_extra_info("peercert"))))
                target = location(head)
                if target is None:
                    await peer.send(answer(b"here"))
                else:
                    await peer.send(answer(b"", f"Location: {target}", status="302 Found"))

        return script

    async def main() -> None:
        back: list[str] = []
        async with (
            serving(
                site("there", lambda _: back.pop() if back else None), tls=certified.server()
            ) as other,
            serving(
                site("here", lambda head: None if b" /end " in head else other.url()),
                tls=certified.server(),
            ) as server,
            AsyncClient(tls=certified.client(is_ours=is_ours), follow_redirects=True) as client,
        ):
            if stream:
                async with client.stream("GET", server.url()) as response:
                    assert await response.aread() == b"here"
            else:
                assert (await client.get(server.url())).content == b"here"
            assert shown == [("here", True), ("there", False)]
            # nor does it come back after a detour, nor is the bare connection taken for another
            shown.clear()
            back.append(server.url("/end"))
            await client.get(server.url())
            assert [each for each in shown if each[0] == "here"][1:] == [("here", False)]
            shown.clear()
            await client.get(other.url())
            assert shown == [("there", True)]

    run(main())


def test_context_without_the_certificate_still_verifies(trusting: ssl.SSLContext) -> None:
    certified = Certified()

    async def main() -> None:
        stranger = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        stranger.issue_cert("127.0.0.1").configure_cert(context)

        async def leave(peer: Conversation) -> None:
            await peer.request()
            await peer.send(answer(b"", f"Location: {other.url()}", status="302 Found"))

        async with (
            serving(always_ok, tls=context) as other,
            serving(leave, tls=certified.server()) as server,
            AsyncClient(tls=certified.client(is_ours=True), follow_redirects=True) as client,
        ):
            with pytest.raises(TLSCertificateError):
                await client.get(server.url())

    run(main())


@pytest.mark.parametrize("ciphers", ["ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=1", "DEFAULT"])
def test_context_without_the_certificate_allows_what_the_other_allows(ciphers: str) -> None:
    context = ssl.create_default_context()
    context.set_ciphers(ciphers)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    bare = without_certificate(context)
    assert bare.get_ciphers() == context.get_ciphers()
    for name in ("security_level", "minimum_version", "options", "verify_flags", "verify_mode"):
        assert getattr(bare, name) == getattr(context, name)


CONTROLS = ["\r", "\n", "\r\n", "\0", "\x1b", "\x7f"]


@pytest.mark.parametrize("control", CONTROLS)
@on_reactor
async def test_control_characters_raise_before_a_byte_is_sent(control: str) -> None:
    bad = f"a{control}b"
    async with serving(always_ok) as server, AsyncClient() as client:
        url = server.url()
        root = url.rstrip("/")
        attempts: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            ("method", (bad, url), {}),
            ("scheme", ("GET", f"ht{control}tp://a.example/"), {}),
            ("target", ("GET", f"{url}{bad}"), {}),
            ("query", ("GET", f"{url}?{bad}"), {}),
            ("fragment", ("GET", f"{url}#{bad}"), {}),
            ("host", ("GET", f"http://{bad}.example/"), {}),
            ("port", ("GET", f"{root}{control}/"), {}),
            ("userinfo", ("GET", url.replace("//", f"//{bad}@")), {}),
            ("escaped userinfo", ("GET", url.replace("//", f"//a{quote(control)}b:c@")), {}),
            ("escaped password", ("GET", url.replace("//", f"//a:b{quote(control)}c@")), {}),
            ("header name", ("GET", url), {"headers": {bad: "x"}}),
            ("header value", ("GET", url), {"headers": {"X": bad}}),
            ("Host", ("GET", url), {"headers": {"Host": bad}}),
            ("Content-Type", ("POST", url), {"content": b"", "headers": {"Content-Type": bad}}),
            ("cookie name", ("GET", url), {"cookies": {bad: "x"}}),
            ("cookie value", ("GET", url), {"cookies": {"x": bad}}),
            ("user", ("GET", url), {"auth": (bad, "x")}),
            ("password", ("GET", url), {"auth": ("x", bad)}),
            ("part's type", ("POST", url), {"files": {"x": ("f", b"", bad)}}),
            ("part's header", ("POST", url), {"files": {"x": ("f", b"", None, {"X": bad})}}),
        ]
        for what, arguments, options in attempts:
            try:
                await client.request(*arguments, **options)
            except ValueError:
                continue
            pytest.fail(f"{what} with {control!r} was sent")
        assert counts(client) == NOTHING
        assert server.connections == 0


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_raise_where_objects_are_made(control: str, tmp_path: Path) -> None:
    bad = f"a{control}b"
    for make in (
        lambda: AsyncClient(headers={"X": bad}),
        lambda: AsyncClient(base_url=f"http://a.example/{bad}"),
        lambda: AsyncClient(auth=("x", bad)),
        lambda: AsyncClient(proxy=f"http://{bad}:x@a.example"),
        lambda: AsyncClient(proxy=f"http://{bad}.example"),
        lambda: BearerAuth(bad),
        lambda: Proxy("http://a.example", headers={"X": bad}),
        lambda: Proxy("socks5://a.example", auth=("x", bad)),
        lambda: CookieJar({bad: "x"}),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each names its own part
            make()
    if control not in ("\r", "\n", "\r\n"):  # which end a token there
        file = tmp_path / "netrc"
        file.write_text(f"machine a.example login {bad} password x\n", newline="")
        file.chmod(0o600)
        with pytest.raises(NetrcError):
            NetrcAuth(file)


@pytest.mark.parametrize("control", CONTROLS)
@on_reactor
async def test_multipart_name_with_a_control_character_raises_before_a_byte_is_sent(
    control: str,
) -> None:
    async with serving(always_ok) as server, AsyncClient() as client:
        name = f"a{control}X-Injected: b"
        forms: list[dict[str, Any]] = [
            {"files": {name: b"x"}},
            {"files": {"x": (name, b"x")}},
            {"files": {"x": b"x"}, "data": {name: "x"}},
        ]
        for form in forms:
            with pytest.raises(InvalidHeader):
                await client.post(server.url(), **form)
        assert server.connections == 0


# -- UNIX sockets ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/run/socket\0.of.another", "\0abstract\0name"])
def test_path_that_the_system_would_cut_raises(path: str) -> None:
    with pytest.raises(ValueError, match="UNIX socket"):
        AsyncClient(uds=path)


@on_reactor
async def test_unix_socket_answers_for_all_hosts(tmp_path: Path) -> None:
    import asyncio

    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_all = False
        while not with_all:
            try:
                seen.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            writer.write(answer(b"unix"))
        writer.close()

    path = tmp_path / "socket"
    server = await asyncio.start_unix_server(serve, path)
    async with AsyncClient(uds=path) as client:
        assert (await client.get("http://docker/info")).content == b"unix"
        assert (await client.get("http://docker/again", timeout=5)).content == b"unix"
        assert counts(client) == {**NOTHING, "idle": 1}
        assert f"http://docker:80 by unix:{path}" in repr(client)
    assert [head.split(b"\r\n")[:2] for head in seen] == [
        [b"GET /info HTTP/1.1", b"Host: docker"],
        [b"GET /again HTTP/1.1", b"Host: docker"],
    ]
    server.close()
    await server.wait_closed()
    async with AsyncClient(uds=str(tmp_path / "none")) as client:
        with pytest.raises(ConnectError, match="none"):
            await client.get("http://docker/")
    with pytest.raises(TypeError, match="exclude"):
        AsyncClient(uds=path, proxy="http://a.example")

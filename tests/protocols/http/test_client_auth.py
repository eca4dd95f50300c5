"""The client's credentials: which go where, what answers a challenge, who is asked."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Auth,
    BasicAuth,
    BearerAuth,
    Client,
    DigestAuth,
    InvalidHeader,
    NetrcAuth,
    PasswordAuth,
    PasswordQuestion,
    RemoteProtocolError,
)
from protocols.http.limits import MAX_AUTH_ANSWERS
from tests.peers.nginx import Nginx
from tests.peers.scripted import Conversation, answer, on_reactor, serving, serving_in_thread
from tests.protocols.http.client_checks import NOTHING, counts
from tests.protocols.http.digest_peer import DigestPeer

pytestmark = pytest.mark.usefixtures("nothing_is_told")


def basic(user: str, password: str) -> bytes:
    return b"Authorization: Basic " + b64encode(f"{user}:{password}".encode())


def guarded(seen: list[bytes], wanted: bytes, challenge: str = 'Basic realm="here"') -> Any:
    """Return a script that answers 401 unless a head has *wanted* in it."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            seen.append(head)
            if wanted in head:
                await peer.send(answer(b"in"))
            else:
                refusal = answer(b"out", f"WWW-Authenticate: {challenge}", status="401 No")
                await peer.send(refusal)

    return script


@on_reactor
async def test_basic_of_the_client_goes_to_one_origin() -> None:
    here: list[bytes] = []
    there: list[bytes] = []
    async with (
        serving(guarded(here, basic("me", "secret"))) as server,
        serving(guarded(there, b"nothing")) as other,
        AsyncClient(auth=("me", "secret")) as client,
    ):
        assert (await client.get(server.url())).content == b"in"
        assert (await client.get(other.url())).status_code == 401
    assert [b"uthorization" in head for head in here + there] == [True, False]


@on_reactor
async def test_challenge_is_answered_whose_body_cannot_be_decoded() -> None:
    asked: list[PasswordQuestion] = []

    def on_password(question: PasswordQuestion) -> tuple[str, str]:
        asked.append(question)
        return "me", "secret"

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            fields = ["WWW-Authenticate: Basic realm=here", "Content-Encoding: gzip"]
            no = answer(b"not gzip", *fields, status="401 No")
            await peer.send(answer(b"in") if basic("me", "secret") in head else no)

    async with serving(script) as server, AsyncClient() as client:
        response = await client.get(server.url(), on_password=on_password)
        assert (response.content, len(asked)) == (b"in", 1)
        with pytest.raises(RemoteProtocolError, match="gzip"):  # not the bytes as they came
            _ = response.history[0].content
        with pytest.raises(RemoteProtocolError, match="gzip"):
            await client.get(server.url("/"), auth=("me", "wrong"))
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_credentials_of_a_call_go_before_those_of_url_headers_and_client() -> None:
    seen: list[bytes] = []
    async with (
        serving(guarded(seen, b"")) as server,
        AsyncClient(auth=("client", "x")) as client,
    ):
        url = server.url().replace("//", "//url:x@")
        await client.get(url, auth=("call", "x"))
        await client.get(url)
        await client.get(server.url(), headers={"Authorization": "Bearer header"})
        await client.get(server.url())
        await client.get(server.url(), auth=None)
    sent = [
        line
        for head in seen
        for line in head.split(b"\r\n")
        if line.startswith(b"Authorization") or line == b""
    ]
    assert [line for line in sent if line] == [
        basic("call", "x"), basic("url", "x"), b"Authorization: Bearer header", basic("client", "x")
    ]  # fmt: skip
    assert len(seen) == 5


@pytest.mark.parametrize("auth", [("me", "secret"), BearerAuth("token"), DigestAuth("me", "x")])
@on_reactor
async def test_credentials_do_not_follow_a_redirect_to_another_origin(auth: Any) -> None:
    there: list[bytes] = []
    async with serving(guarded(there, b"no one", 'Digest realm="r", nonce="n"')) as other:

        async def script(peer: Conversation) -> None:
            while await peer.request() is not None:
                await peer.send(answer(b"", f"Location: {other.url()}", status="302 Found"))

        async with serving(script) as server, AsyncClient(follow_redirects=True) as client:
            response = await client.get(server.url(), auth=auth)
            assert response.status_code == 401
        # nor where the client's own meet the other origin first by way of the redirect
        headers = {"Authorization": "Bearer header"}
        async with (
            serving(script) as server,
            AsyncClient(follow_redirects=True, auth=("me", "secret")) as client,
        ):
            response = await client.get(server.url(), headers=headers)
            assert response.status_code == 401
    assert len(there) == 2
    assert not any(b"uthorization" in head for head in there)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "MD5-sess", "SHA-256-sess"])
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
@on_reactor
async def test_digest_is_challenged_once_and_counts_on(algorithm: str, qop: str) -> None:
    peer = DigestPeer("me", "secret", algorithm=algorithm, qop=qop)
    async with serving(peer) as server, AsyncClient(auth=DigestAuth("me", "secret")) as client:
        first = await client.get(server.url("/a?b=c"))
        assert (first.content, [each.status_code for each in first.history]) == (b"in", [401])
        second = await client.post(server.url("/d"), content=b"body")
        assert (second.content, second.history) == (b"in", [])
        assert peer.counts == [1, 2]
        peer.new_nonce()
        third = await client.get(server.url("/e"))
        assert (third.content, len(third.history)) == (b"in", 1)
        assert counts(client) == {**NOTHING, "idle": 1}


@on_reactor
async def test_wrong_password_is_not_tried_again() -> None:
    peer = DigestPeer("me", "secret")
    async with serving(peer) as server, AsyncClient() as client:
        response = await client.get(server.url(), auth=DigestAuth("me", "wrong"))
        assert (response.status_code, len(response.history)) == (401, 1)
        assert peer.refused == 1


@on_reactor
async def test_content_that_can_be_sent_only_once_is_not_sent_again() -> None:
    peer = DigestPeer("me", "secret")

    async def pieces() -> Any:
        yield b"once"

    async with serving(peer) as server, AsyncClient() as client:
        auth = DigestAuth("me", "secret")
        response = await client.post(server.url(), content=pieces(), auth=auth)
        assert (response.status_code, response.history) == (401, [])


async def once(client: AsyncClient, url: str) -> int:
    """Send content that cannot be sent again; return the status of its answer."""

    async def pieces() -> Any:
        yield b"once"

    response = await client.post(url, content=pieces())
    assert response.history == []
    return response.status_code


@pytest.mark.parametrize("kind", [DigestAuth, PasswordAuth])
@on_reactor
async def test_challenge_is_learnt_from_where_the_request_cannot_be_repeated(kind: Any) -> None:
    peer = DigestPeer("me", "secret")
    async with serving(peer) as server, AsyncClient(auth=kind("me", "secret")) as client:
        assert [await once(client, server.url()) for _ in range(3)] == [401, 200, 200]
        peer.new_nonce()
        assert [await once(client, server.url()) for _ in range(2)] == [401, 200]
        assert (peer.counts, peer.refused) == ([1, 2, 1], 0)


@on_reactor
async def test_basic_is_learnt_from_where_the_request_cannot_be_repeated() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            await peer.reader.readuntil(b"0\r\n\r\n")
            no = answer(b"", "WWW-Authenticate: Basic realm=here", status="401 No")
            await peer.send(answer(b"in") if basic("me", "secret") in head else no)

    auth = PasswordAuth("me", "secret")
    async with serving(script) as server, AsyncClient(auth=auth) as client:
        assert [await once(client, server.url()) for _ in range(2)] == [401, 200]


@on_reactor
async def test_auth_of_a_user_hears_of_no_challenge_that_it_cannot_answer() -> None:
    class Mine(Auth):
        def answer(self, *_: Any, **__: Any) -> str | None:
            raise AssertionError("what it said could not be sent")

    peer = DigestPeer("me", "secret")
    async with serving(peer) as server, AsyncClient(auth=Mine()) as client:
        assert await once(client, server.url()) == 401


@on_reactor
async def test_nonce_that_is_stale_when_it_is_first_used_is_replaced() -> None:
    seen: list[str] = []

    def stale_until(last: int) -> Any:
        async def script(peer: Conversation) -> None:
            while (head := await peer.request()) is not None:
                found = re.search(r'nonce="n(\d+)"', head.decode())
                number = int(found[1]) if found else 0
                seen.append(head.decode().partition("nc=")[2][:8])
                field = f'WWW-Authenticate: Digest realm=r, qop="auth", nonce="n{number + 1}"'
                no = answer(b"", field + ", stale=true" * (number > 0), status="401 No")
                await peer.send(answer(b"in") if number >= last else no)

        return script

    first = "00000001"
    async with (
        serving(stale_until(2)) as server,
        AsyncClient(auth=DigestAuth("me", "secret")) as client,
    ):
        assert (await client.get(server.url())).content == b"in"
        assert seen == ["", first, first]
    seen.clear()
    async with (
        serving(stale_until(4)) as server,
        AsyncClient(auth=DigestAuth("me", "secret")) as client,
    ):
        assert (await client.get(server.url())).status_code == 401
        assert seen == ["", *[first] * MAX_AUTH_ANSWERS]
        assert (await client.get(server.url())).history == []  # with the newest
        assert seen == ["", *[first] * (MAX_AUTH_ANSWERS + 1)]


@on_reactor
async def test_on_password_is_asked_once_and_remembered() -> None:
    seen: list[bytes] = []
    asked: list[PasswordQuestion] = []

    async def ask(question: PasswordQuestion) -> tuple[str, str]:
        asked.append(question)
        return "me", "secret" if question.attempt == 2 else "mistyped"

    async with (
        serving(guarded(seen, basic("me", "secret"))) as server,
        AsyncClient(on_password=ask) as client,
    ):
        response = await client.get(server.url("/a"))
        assert (response.content, len(response.history)) == (b"in", 2)
        question = asked[0]
        assert (question.realm, question.schemes, question.is_proxy) == ("here", ("basic",), False)
        assert [each.attempt for each in asked] == [1, 2]
        assert str(question.url) == server.url("/a")
        assert (await client.get(server.url("/b"))).history == []
        assert len(asked) == 2


@on_reactor
async def test_on_password_is_asked_once_where_the_clients_own_credentials_are_refused() -> None:
    seen: list[bytes] = []
    asked: list[PasswordQuestion] = []

    def ask(question: PasswordQuestion) -> tuple[str, str]:
        asked.append(question)
        return "me", "secret"

    async with (
        serving(guarded(seen, basic("me", "secret"))) as server,
        AsyncClient(auth=("me", "out of date"), on_password=ask) as client,
    ):
        for path in ("/a", "/b", "/c"):
            assert (await client.get(server.url(path))).content == b"in"
        assert (len(asked), len(seen)) == (1, 4)


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", "", "Basic realm=\x80"])
@on_reactor
async def test_on_password_that_knows_none_leaves_the_401(challenge: str) -> None:
    seen: list[bytes] = []
    asked: list[PasswordQuestion] = []
    async with serving(guarded(seen, b"no one", challenge)) as server, AsyncClient() as client:
        response = await client.get(server.url(), on_password=asked.append)
        assert (response.status_code, response.content, len(seen)) == (401, b"out", 1)
        assert len(asked) == ("realm=\x22" in challenge)


@on_reactor
async def test_netrc_is_read_when_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login me password secret\n")
    file.chmod(0o600)
    seen: list[bytes] = []
    async with serving(guarded(seen, basic("me", "secret"))) as server:
        async with AsyncClient(auth=NetrcAuth(file)) as client:
            assert (await client.get(server.url())).content == b"in"
        async with AsyncClient() as client:
            assert (await client.get(server.url())).status_code == 401


def test_nginx_lets_those_in_that_it_knows(nginx: Nginx) -> None:
    (nginx.root / "private").mkdir(exist_ok=True)
    (nginx.root / "private" / "page").write_bytes(b"sesame")
    url = nginx.url("private/page")
    with Client() as client:
        assert client.get(url).status_code == 401
        right = ("Aladdin", "open sesame")
        for auth in (right, BasicAuth(*right), PasswordAuth(*right)):
            assert client.get(url, auth=auth).content == b"sesame"
        assert client.get(url, on_password=lambda _: right).content == b"sesame"
        assert client.get(url, auth=("Aladdin", "wrong")).status_code == 401


def test_blocking_client_answers_a_digest() -> None:
    peer = DigestPeer("me", "secret")
    with serving_in_thread(peer) as server, Client(auth=DigestAuth("me", "secret")) as client:
        assert client.get(server.url()).content == b"in"
        with client.stream("GET", server.url("/b")) as response:
            assert response.read() == b"in"
        assert peer.counts == [1, 2]


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b", "a\x7fb", "a\x1bb"])
@on_reactor
async def test_control_character_in_credentials_raises_before_a_byte_is_sent(bad: str) -> None:
    async with serving(guarded([], b"")) as server, AsyncClient() as client:
        for auth in ((bad, "x"), ("x", bad)):
            with pytest.raises(InvalidHeader):
                await client.get(server.url(), auth=auth)
        assert server.connections == 0


@on_reactor
async def test_what_cannot_be_auth_raises() -> None:
    with pytest.raises(TypeError, match="auth is"):
        AsyncClient(auth="user:password")  # type: ignore[arg-type]
    async with AsyncClient() as client:
        with pytest.raises(TypeError, match="auth is"):
            await client.get("http://a.example/", auth=["u", "p"])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="on_password is callable"):
            await client.get("http://a.example/", on_password=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="no option 'auht'"):
            await client.get("http://a.example/", auht=None)  # type: ignore[call-arg]

"""Authentication: who gets which credentials, when, and how often."""

from __future__ import annotations

import threading
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient, Response
from protocols.http.auth import (
    Auth,
    BasicAuth,
    BearerAuth,
    DigestAuth,
    NetrcAuth,
    NetrcError,
    PasswordAuth,
    coerce_auth,
)
from protocols.http.challenges import Challenge, parse_challenges
from protocols.http.errors import HTTPError, InvalidHeader
from protocols.http.limits import MAX_LEARNT_NONCES
from protocols.http.url import URL
from tests.peers.nginx import Nginx

HERE = URL("https://example.com/dir/index.html?q")
ELSEWHERE = [
    URL("http://example.com/"),
    URL("https://example.com:8443/"),
    URL("https://www.example.com/"),
    URL("https://example.org/"),
]
BASIC = Challenge("basic", {"realm": "r"})
CONTROLS = [*map(chr, range(32)), "\x7f", "\x80", "\x9f"]


def challenge(nonce: str = "n1", **params: str) -> Challenge:
    return Challenge("digest", {"realm": "r", "qop": "auth", "nonce": nonce, **params})


def params(value: str | None) -> dict[str, str]:
    assert value is not None
    [found] = parse_challenges([value])
    assert found.scheme == "digest"
    return found.params


# What every kind has in common.


@pytest.fixture(params=["basic", "bearer", "digest", "password"])
def auth(request: pytest.FixtureRequest) -> Auth:
    kinds: dict[str, Auth] = {
        "basic": BasicAuth("me", "hunter2"),
        "bearer": BearerAuth("hunter2"),
        "digest": DigestAuth("me", "hunter2"),
        "password": PasswordAuth("me", "hunter2"),
    }
    return kinds[request.param]


def test_credentials_go_to_the_first_origin_and_to_no_other(auth: Auth) -> None:
    challenges = [challenge(), BASIC]
    auth.headers_for("GET", HERE)
    auth.answer("GET", HERE, challenges)
    assert auth.headers_for("GET", HERE.join("/other")) is not None
    for url in ELSEWHERE:
        assert auth.headers_for("GET", url) is None
        assert auth.answer("GET", url, challenges) is None
        assert not auth.bind(url)
    assert auth.bind(HERE)


def test_no_repr_shows_a_secret(auth: Auth) -> None:
    kind = type(auth).__name__
    assert repr(auth) == f"<{kind} for no origin yet>"
    auth.bind(HERE)
    assert repr(auth) == f"<{kind} for https://example.com:443>"


@pytest.mark.parametrize("kind", [BasicAuth, DigestAuth, PasswordAuth])
@pytest.mark.parametrize("character", CONTROLS)
def test_rfc7617_2_control_characters_are_refused(kind: Any, character: str) -> None:
    secret = f"hun{character}ter2"
    for user, password in ((secret, "x"), ("x", secret)):
        with pytest.raises(InvalidHeader, match="control character") as caught:
            kind(user, password)
        assert "ter2" not in str(caught.value)
        if character.isascii():
            with pytest.raises(InvalidHeader, match="control character"):
                kind(user.encode(), password.encode())


@pytest.mark.parametrize("kind", [BasicAuth, DigestAuth, PasswordAuth])
def test_what_is_no_text_is_refused_and_not_shown(kind: Any) -> None:
    with pytest.raises(TypeError, match="the password is neither str nor bytes: int"):
        kind("me", 12345)
    with pytest.raises(InvalidHeader, match="surrogate"):
        kind("me", "\ud800")


@pytest.mark.parametrize("kind", [BasicAuth, PasswordAuth])
def test_rfc7617_2_a_user_has_no_colon(kind: Any) -> None:
    for user in ("a:b", b"a:b"):
        with pytest.raises(InvalidHeader, match="colon"):
            kind(user, "x")
    kind("a", "b:c")


# Basic and Bearer.


def test_rfc7617_2_basic() -> None:
    basic = BasicAuth("Aladdin", "open sesame")
    assert basic.headers_for("GET", HERE) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert basic.answer("GET", HERE, [BASIC, challenge()], sent=None) is None


def test_rfc7617_2_1_basic_is_utf_8() -> None:
    assert BasicAuth("test", "123\xa3").headers_for("GET", HERE) == "Basic dGVzdDoxMjPCow=="
    latin = BasicAuth(b"test", b"123\xa3").headers_for("GET", HERE)
    assert latin is not None
    assert b64decode(latin[6:]) == b"test:123\xa3"


def test_rfc6750_2_1_bearer() -> None:
    assert BearerAuth("mF_9.B5f-4.1JqM").headers_for("GET", HERE) == "Bearer mF_9.B5f-4.1JqM"


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "\x7f", "\xe9", "a\n"])
def test_a_token_is_of_visible_ascii(token: str) -> None:
    with pytest.raises(InvalidHeader, match="visible"):
        BearerAuth(token)


def test_a_token_is_str() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        BearerAuth(b"hunter2")  # type: ignore[arg-type]


def test_coerce_auth_takes_a_pair_or_an_auth() -> None:
    bearer = BearerAuth("x")
    assert coerce_auth(bearer) is bearer
    assert coerce_auth(None) is None
    basic = coerce_auth(("Aladdin", b"open sesame"))
    assert isinstance(basic, BasicAuth)
    assert basic.headers_for("GET", HERE) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize("value", ["me:hunter2", ["me", "hunter2"], ("hunter2",), (1, 2, 3), b""])
def test_coerce_auth_refuses_anything_else_without_showing_it(value: Any) -> None:
    with pytest.raises(TypeError, match="auth is") as caught:
        coerce_auth(value)
    assert "hunter2" not in str(caught.value)


def test_the_base_class_has_nothing_to_say() -> None:
    assert Auth().headers_for("GET", HERE) is None
    assert Auth().answer("GET", HERE, [BASIC]) is None
    Auth().learn(HERE, [BASIC])


# Digest.


def test_rfc7616_3_9_1_the_first_request_is_challenged_and_the_next_is_not() -> None:
    digest = DigestAuth("Mufasa", "Circle of Life", cnonce=lambda: "c")
    url = URL("http://www.example.org/dir/index.html")
    assert digest.headers_for("GET", url) is None
    common = (
        'realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    offered = parse_challenges([f"Digest {common.format(name)}" for name in ("MD5", "SHA-256")])
    assert len(offered) == 2
    sent = params(digest.answer("GET", url, offered))
    assert (sent["algorithm"], sent["nc"], sent["cnonce"]) == ("SHA-256", "00000001", "c")
    assert params(digest.headers_for("GET", url))["nc"] == "00000002"
    assert params(digest.headers_for("POST", url))["nc"] == "00000003"


def test_rfc7616_3_7_the_strongest_algorithm_is_answered_whatever_the_order() -> None:
    offered = [
        challenge("m", algorithm="MD5"),
        challenge("?", algorithm="SHA3-512"),
        challenge("s", algorithm="SHA-256"),
        BASIC,
        challenge("s2", algorithm="SHA-256-sess"),
    ]
    for challenges in (offered, offered[:4], [offered[2], offered[0]]):
        sent = params(DigestAuth("me", "x").answer("GET", HERE, challenges))
        assert sent["nonce"] == "s"


@pytest.mark.parametrize(
    "challenges",
    [[], [BASIC], [challenge(algorithm="SHA3-512")], [challenge(qop="auth-conf"), BASIC]],
)
def test_what_cannot_be_answered_with_digest_is_given_up(challenges: list[Challenge]) -> None:
    digest = DigestAuth("me", "x")
    assert digest.answer("GET", HERE, challenges) is None
    assert digest.headers_for("GET", HERE) is None


def test_a_wrong_password_is_tried_once() -> None:
    digest = DigestAuth("me", "x")
    first = digest.answer("GET", HERE, [challenge("n1")])
    assert first is not None
    assert digest.answer("GET", HERE, [challenge("n2")], sent=first) is None
    assert digest.answer("GET", HERE, [challenge("n1", stale="true")], sent=first) is None


def test_rfc7616_3_3_a_nonce_that_was_stale_at_once_is_replaced() -> None:
    digest = DigestAuth("me", "x")
    first = digest.answer("GET", HERE, [challenge("n1")])
    second = digest.answer("GET", HERE, [challenge("n2", stale="true")], sent=first)
    assert (params(second)["nonce"], params(second)["nc"]) == ("n2", "00000001")
    assert digest.answer("GET", HERE, [challenge("n3")], sent=second) is None


def test_a_nonce_that_became_stale_is_replaced() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge("n1")])
    reused = digest.headers_for("GET", HERE)
    answer = params(digest.answer("GET", HERE, [challenge("n2", stale="true")], sent=reused))
    assert (answer["nonce"], answer["nc"]) == ("n2", "00000001")
    following = params(digest.headers_for("GET", HERE))
    assert (following["nonce"], following["nc"]) == ("n2", "00000002")


def test_a_nonce_that_a_server_forgot_without_saying_so_is_replaced_once() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge("n1")])
    reused = digest.headers_for("GET", HERE)
    answer = digest.answer("GET", HERE, [challenge("n2")], sent=reused)
    assert params(answer)["nonce"] == "n2"
    assert digest.answer("GET", HERE, [challenge("n3")], sent=answer) is None


def test_a_reused_nonce_that_is_asked_for_again_is_a_refusal() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge("n1")])
    reused = digest.headers_for("GET", HERE)
    assert digest.answer("GET", HERE, [challenge("n1")], sent=reused) is None
    assert digest.answer("GET", HERE, [challenge("n1", stale="true")], sent=reused) is not None


def test_a_nonce_that_was_learnt_is_used_from_its_first_count() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge("n1")])
    sent = digest.headers_for("POST", HERE)
    for _ in range(2):  # a second request that is given it is none that used it
        digest.learn(HERE, [BASIC, challenge("n2", stale="true")], sent=sent)
    counts = [params(digest.headers_for("POST", HERE)) for _ in range(2)]
    assert [(each["nonce"], each["nc"]) for each in counts] == [
        ("n2", "00000001"), ("n2", "00000002")
    ]  # fmt: skip


def test_a_nonce_that_was_learnt_and_forgotten_by_the_server_is_replaced_once() -> None:
    digest = DigestAuth("me", "x")
    digest.learn(HERE, [challenge("n1")])
    sent = digest.headers_for("GET", HERE)
    assert params(sent)["nc"] == "00000001"
    answer = digest.answer("GET", HERE, [challenge("n2")], sent=sent)
    assert params(answer)["nonce"] == "n2"
    assert digest.answer("GET", HERE, [challenge("n3")], sent=answer) is None


def test_a_learnt_nonce_is_known_as_old_though_another_has_been_taken_up_since() -> None:
    digest = DigestAuth("me", "x")
    digest.learn(HERE, [challenge("n1")])
    first, second = digest.headers_for("GET", HERE), digest.headers_for("GET", HERE)
    assert (params(first)["nc"], params(second)["nc"]) == ("00000001", "00000002")
    assert digest.answer("GET", HERE, [challenge("n2")], sent=second)
    again = digest.answer("GET", HERE, [challenge("n3")], sent=first)
    assert params(again)["nonce"] == "n3"
    assert digest.answer("GET", HERE, [challenge("n4")], sent=again) is None, "n3 was new"


def test_learnt_nonces_have_a_limit() -> None:
    digest = DigestAuth("me", "x")
    for number in range(MAX_LEARNT_NONCES + 1):
        digest.learn(HERE, [challenge(f"n{number}")])
        if number == 0:
            sent = digest.headers_for("GET", HERE)
    assert len(digest._learnt) == MAX_LEARNT_NONCES
    assert digest.answer("GET", HERE, [challenge("new")], sent=sent) is None


def test_content_that_cannot_be_hashed_teaches_no_basic_where_digest_is_to_be_had() -> None:
    password = PasswordAuth("me", "x")
    password.learn(HERE, [challenge(qop="auth-int"), BASIC])
    assert password.headers_for("GET", HERE) is None
    answer = password.answer("GET", HERE, [challenge(qop="auth-int"), BASIC], b"")
    assert params(answer)["qop"] == "auth-int"


def test_what_cannot_be_answered_is_not_learnt() -> None:
    digest = DigestAuth("me", "x")
    for challenges in ([], [BASIC], [challenge(qop="auth-int")], [challenge(algorithm="SHA3")]):
        digest.learn(HERE, challenges)
        assert digest.headers_for("GET", HERE, body=b"") is None
    digest.learn(HERE, [challenge()])
    digest.learn(ELSEWHERE[0], [challenge("n2")])
    assert params(digest.headers_for("GET", HERE))["nonce"] == "n1"


def test_credentials_of_another_scheme_do_not_count_as_a_try() -> None:
    sent = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert DigestAuth("me", "x").answer("GET", HERE, [challenge()], sent=sent) is not None


def test_two_requests_that_are_given_the_same_nonce_count_on() -> None:
    digest = DigestAuth("me", "x")
    counts = [params(digest.answer("GET", HERE, [challenge("n1")]))["nc"] for _ in range(3)]
    assert counts == ["00000001", "00000002", "00000003"]


def test_rfc7616_3_4_2_a_session_keeps_its_client_nonce_and_others_do_not() -> None:
    for algorithm, distinct in (("SHA-256-sess", 1), ("SHA-256", 3)):
        digest = DigestAuth("me", "x")
        values = [digest.answer("GET", HERE, [challenge(algorithm=algorithm)])]
        values += [digest.headers_for("GET", HERE) for _ in range(2)]
        assert len({params(value)["cnonce"] for value in values}) == distinct


def test_without_qop_every_request_is_challenged_and_refused_once() -> None:
    digest = DigestAuth("me", "x")
    legacy = Challenge("digest", {"realm": "r", "nonce": "n1"})
    sent = digest.answer("GET", HERE, [legacy])
    assert "nc" not in params(sent)
    assert digest.headers_for("GET", HERE) is None
    assert digest.answer("GET", HERE, [legacy], sent=sent) is None
    assert digest.answer("GET", HERE, [legacy]) is not None


def test_auth_int_is_for_bodies_that_are_known() -> None:
    digest = DigestAuth("me", "x")
    assert digest.answer("POST", HERE, [challenge(qop="auth-int")]) is None
    sent = params(digest.answer("POST", HERE, [challenge(qop="auth-int")], b"body"))
    assert sent["qop"] == "auth-int"
    assert digest.headers_for("POST", HERE) is None
    assert params(digest.headers_for("POST", HERE, body=b""))["nc"] == "00000002"


def test_the_target_is_what_is_sent() -> None:
    digest = DigestAuth("me", "x")
    assert params(digest.answer("GET", HERE, [challenge()]))["uri"] == "/dir/index.html?q"
    connect = digest.headers_for("CONNECT", HERE, target="example.org:443")
    assert params(connect)["uri"] == "example.org:443"
    other = digest.answer("CONNECT", HERE, [challenge()], target="example.org:444")
    assert params(other)["uri"] == "example.org:444"


def test_a_nonce_whose_counts_are_used_up_is_dropped() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge()])
    assert digest._session is not None
    digest._session.count = 0xFFFFFFFE
    assert params(digest.headers_for("GET", HERE))["nc"] == "ffffffff"
    assert digest.headers_for("GET", HERE) is None
    assert params(digest.answer("GET", HERE, [challenge()]))["nc"] == "00000001"


def test_threads_never_use_a_count_twice() -> None:
    digest = DigestAuth("me", "x")
    digest.answer("GET", HERE, [challenge()])
    start = threading.Barrier(4)
    counts: list[str] = []

    def work() -> None:
        start.wait()
        counts.extend(params(digest.headers_for("GET", HERE))["nc"] for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [f"{count:08x}" for count in range(2, 2002)]


# Whatever the server asks for.


def test_a_password_waits_for_a_challenge() -> None:
    password = PasswordAuth("Aladdin", "open sesame")
    assert password.headers_for("GET", HERE) is None
    assert password.answer("GET", HERE, [BASIC]) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert password.headers_for("GET", HERE) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_a_password_prefers_digest() -> None:
    password = PasswordAuth("me", "x")
    sent = password.answer("GET", HERE, [BASIC, challenge()])
    assert params(sent)["nonce"] == "n1"
    assert params(password.headers_for("GET", HERE))["nc"] == "00000002"
    assert password.answer("GET", HERE, [BASIC, challenge("n2")], sent=sent) is None
    assert password.answer("GET", HERE, [BASIC], sent=sent) is None, "no way down to Basic"


@pytest.mark.parametrize(
    "challenges",
    [
        [],
        [challenge(algorithm="SHA3-512")],
        [challenge(qop="auth-int")],
        [Challenge("negotiate")],
        parse_challenges(["Basic realm=a b"]),
        parse_challenges(['Digest realm="Basic", nonce=n, algorithm=x']),
    ],
)
def test_basic_is_never_the_answer_to_a_server_that_does_not_offer_it(
    challenges: list[Challenge],
) -> None:
    password = PasswordAuth("me", "x")
    assert password.answer("GET", HERE, challenges) is None
    assert password.headers_for("GET", HERE) is None


def test_a_password_learns_what_a_challenge_asks_for() -> None:
    password = PasswordAuth("me", "x")
    password.learn(HERE, [BASIC, challenge()])
    sent = password.headers_for("GET", HERE)
    assert params(sent)["nc"] == "00000001"
    password.learn(HERE, [BASIC], sent=sent)
    assert params(password.headers_for("GET", HERE))["nc"] == "00000002", "no way down to Basic"
    password = PasswordAuth("me", "x")
    password.learn(HERE, [challenge(algorithm="SHA3-512")])
    assert password.headers_for("GET", HERE) is None
    password.learn(HERE, [BASIC])
    assert password.headers_for("GET", HERE) == "Basic bWU6eA=="
    assert password.headers_for("GET", ELSEWHERE[0]) is None


def test_basic_stands_in_for_a_digest_that_is_not_understood() -> None:
    sent = PasswordAuth("me", "x").answer("GET", HERE, [challenge(algorithm="SHA3-512"), BASIC])
    assert sent == "Basic bWU6eA=="


def test_basic_is_tried_once() -> None:
    password = PasswordAuth("me", "x")
    sent = password.answer("GET", HERE, [BASIC])
    assert password.answer("GET", HERE, [BASIC], sent=sent) is None


def test_digest_follows_basic_where_another_part_of_the_server_wants_it() -> None:
    password = PasswordAuth("me", "x")
    sent = password.answer("GET", HERE, [BASIC])
    assert params(password.answer("GET", HERE, [challenge()], sent=sent))["nc"] == "00000001"


# netrc.

NETRC = """\
machine example.com login me password hunter2
machine Other.Example login you password secret
machine half.example login you
machine none.example password secret
default login anyone password secret
"""


def netrc_file(tmp_path: Path, text: str = NETRC, mode: int = 0o600) -> Path:
    path = tmp_path / "netrc"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_host_gets_its_own_login_and_no_other(tmp_path: Path) -> None:
    logins = NetrcAuth(netrc_file(tmp_path))
    assert logins.headers_for("GET", HERE) == "Basic bWU6aHVudGVyMg=="
    assert logins.headers_for("GET", URL("http://other.EXAMPLE/")) == "Basic eW91OnNlY3JldA=="
    for host in ("www.example.com", "com", "example.com.", "half.example", "none.example", "a"):
        url = URL(f"https://{host}/")
        assert logins.headers_for("GET", url) is None
        assert not logins.bind(url)
    assert logins.answer("GET", HERE, [BASIC]) is None


def test_a_login_is_for_one_origin_of_its_host(tmp_path: Path) -> None:
    logins = NetrcAuth(netrc_file(tmp_path))
    assert logins.headers_for("GET", HERE) is not None
    for url in ELSEWHERE:
        assert logins.headers_for("GET", url) is None
    assert logins.headers_for("GET", HERE) is not None


def test_a_host_in_the_user_information_is_not_the_host(tmp_path: Path) -> None:
    logins = NetrcAuth(netrc_file(tmp_path))
    assert logins.headers_for("GET", URL("http://example.com:@evil.example/")) is None


def test_the_default_is_the_file_in_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):  # Windows has the second one
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(FileNotFoundError):
        NetrcAuth()
    netrc_file(tmp_path).rename(tmp_path / ".netrc")
    assert NetrcAuth().headers_for("GET", HERE) == "Basic bWU6aHVudGVyMg=="


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(NetrcError, match="owner alone"):
        NetrcAuth(netrc_file(tmp_path, mode=mode))


@pytest.mark.parametrize(
    "text", ["hunter2", "machine example.com hunter2", "machine a login hunter2 hunter3 x"]
)
def test_a_malformed_file_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(NetrcError, match="line 1") as caught:
        NetrcAuth(netrc_file(tmp_path, text))
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, HTTPError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("login", ["me:you", "me\x01"])
def test_a_login_that_cannot_be_sent_is_refused_when_the_file_is_read(
    tmp_path: Path, login: str
) -> None:
    text = f"machine example.com login {login} password hunter2"
    with pytest.raises(NetrcError, match=r"example\.com") as caught:
        NetrcAuth(netrc_file(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_no_repr_shows_what_is_in_a_netrc_file(tmp_path: Path) -> None:
    assert repr(NetrcAuth(netrc_file(tmp_path))) == "<NetrcAuth, 2 hosts>"


# A real server.


@pytest.mark.parametrize("kind", [BasicAuth, PasswordAuth])
def test_nginx_lets_in_who_has_the_password(nginx: Nginx, kind: Any) -> None:
    url = URL(nginx.url("private/hello"))

    async def ask(auth: Auth) -> tuple[Response, bool]:
        """Return the last response, and whether there was a challenge."""
        async with AsyncClient() as client:
            sent = auth.headers_for("GET", url)
            fields = {} if sent is None else {"Authorization": sent}
            response = await client.get(url, headers=fields)
            if response.status_code != 401:
                return response, False
            challenges = parse_challenges(response.headers.get_list("www-authenticate"))
            assert challenges == [Challenge("basic", {"realm": "private"})]
            answer = auth.answer("GET", url, challenges, sent=sent)
            if answer is None:
                return response, True
            return await client.get(url, headers={"Authorization": answer}), True

    response, challenged = reactor.run(ask(kind("Aladdin", "open sesame")))
    assert (response.status_code, response.content) == (200, b"hello")
    assert challenged is (kind is PasswordAuth)
    response, challenged = reactor.run(ask(kind("Aladdin", "open barley")))
    assert (response.status_code, challenged) == (401, True)

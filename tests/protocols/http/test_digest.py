"""Digest credentials: the RFC's examples, and every variant as a server would check it."""

import hashlib
import re
from urllib.parse import unquote_to_bytes

import pytest

from protocols.http.challenges import Challenge, parse_challenges
from protocols.http.digest import Digest, digest_credentials, read_digest
from protocols.http.headers import Headers

MUFASA = {
    "realm": "http-auth@example.org",
    "qop": "auth, auth-int",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
}
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
HAS_SHA_512_256 = "sha512_256" in hashlib.algorithms_available
needs_sha_512_256 = pytest.mark.skipif(not HAS_SHA_512_256, reason="OpenSSL has no SHA-512/256")


def digest(**params: str) -> Digest:
    found = read_digest(Challenge("digest", params))
    assert found is not None
    return found


def answered(value: str) -> dict[str, str]:
    """Return the parameters of credentials; they must be a legal header."""
    [challenge] = parse_challenges(Headers([("Authorization", value)]).get_list("authorization"))
    assert challenge.scheme == "digest"
    return challenge.params


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc7616_3_9_1_md5_and_sha_256(algorithm: str, response: str) -> None:
    value = digest_credentials(
        digest(**MUFASA, algorithm=algorithm),
        b"Mufasa",
        b"Circle of Life",
        "GET",
        "/dir/index.html",
        qop="auth",
        count=1,
        cnonce=CNONCE,
    )
    assert value == (
        'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
        f'algorithm={algorithm}, nonce="{MUFASA["nonce"]}", nc=00000001, cnonce="{CNONCE}", '
        f'qop=auth, response="{response}", opaque="{MUFASA["opaque"]}"'
    )


@needs_sha_512_256
def test_rfc7616_3_9_2_sha_512_256_charset_and_userhash() -> None:
    # With SHA-512/256 in place of the truncated SHA-512 of the text: erratum 4897.
    value = digest_credentials(
        digest(
            realm="api@example.org",
            qop="auth",
            algorithm="SHA-512-256",
            nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
            charset="UTF-8",
            userhash="true",
        ),
        "J\xe4s\xf8n Doe".encode(),
        b"Secret, or not?",
        "GET",
        "/doe.json",
        qop="auth",
        count=1,
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    )
    params = answered(value)
    assert params["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert params["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert params["userhash"] == "true"


def test_rfc2617_3_5_without_algorithm_it_is_md5_and_none_is_sent() -> None:
    value = digest_credentials(
        digest(
            realm="testrealm@host.com",
            qop="auth,auth-int",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            opaque="5ccc069c403ebaf9f0171e9517f40e41",
        ),
        b"Mufasa",
        b"Circle Of Life",
        "GET",
        "/dir/index.html",
        qop="auth",
        count=1,
        cnonce="0a4f113b",
    )
    assert answered(value)["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in value


def test_rfc2069_2_4_without_qop_there_is_no_count() -> None:
    # The response is that of erratum 749.
    legacy = digest(realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093")
    assert legacy.qop_for(None) == ""
    value = digest_credentials(
        legacy,
        b"Mufasa",
        b"CircleOfLife",
        "GET",
        "/dir/index.html",
        qop="",
        count=1,
        cnonce="unused",
    )
    params = answered(value)
    assert params["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert not {"nc", "cnonce", "qop"} & params.keys()


# A server's view, written from RFC 7616 section 3.4 by itself.

HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def checks(value: str, password: str, method: str, body: bytes, first_cnonce: str) -> bool:
    """Return whether a server that knows the password lets the credentials in."""
    params = answered(value)
    algorithm = params.get("algorithm", "MD5")
    name = HASHES[algorithm.removesuffix("-sess")]

    def h(text: bytes) -> str:
        return hashlib.new(name, text).hexdigest()

    if "username*" in params:
        charset, _, encoded = params["username*"].split("'")
        assert charset == "UTF-8"
        user = unquote_to_bytes(encoded)
    else:
        user = params["username"].encode("latin-1")
    a1 = b"%b:%b:%b" % (user, params["realm"].encode("latin-1"), password.encode())
    if algorithm.endswith("-sess"):
        a1 = f"{h(a1)}:{params['nonce']}:{first_cnonce}".encode("latin-1")
    a2 = f"{method}:{params['uri']}".encode()
    if params["qop"] == "auth-int":
        a2 += f":{h(body)}".encode()
    middle = ":".join(params[key] for key in ("nonce", "nc", "cnonce", "qop"))
    return params["response"] == h(f"{h(a1)}:{middle}:{h(a2)}".encode("latin-1"))


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
@pytest.mark.parametrize("session", ["", "-sess"])
@pytest.mark.parametrize(
    "algorithm", ["MD5", "SHA-256", pytest.param("SHA-512-256", marks=needs_sha_512_256)]
)
def test_every_variant_is_what_a_server_computes(algorithm: str, session: str, qop: str) -> None:
    challenge = digest(realm="\xe9 r", nonce="n/\xe4", qop=qop, algorithm=algorithm + session)
    value = digest_credentials(
        challenge,
        b"me",
        "p\xe4ss".encode(),
        "POST",
        "/x?y",
        qop=qop,
        count=0x1F,
        cnonce="c",
        body=b"body",
    )
    assert checks(value, "p\xe4ss", "POST", b"body", "c")
    assert not checks(value, "pass", "POST", b"body", "c")
    assert not checks(value, "p\xe4ss", "GET", b"body", "c")
    assert checks(value, "p\xe4ss", "POST", b"other", "c") is (qop == "auth")
    assert "nc=0000001f," in value


def test_rfc7616_3_4_a_user_beyond_ascii_is_encoded_if_the_server_says_utf_8() -> None:
    for charset, field in (("utf-8", "username*=UTF-8''J%C3%A4s%20%22%27%2A"), ("", 'username="')):
        value = digest_credentials(
            digest(realm="r", nonce="n", qop="auth", charset=charset),
            "J\xe4s \"'*".encode(),
            b"p",
            "GET",
            "/",
            qop="auth",
            count=1,
            cnonce="c",
        )
        assert value.startswith(f"Digest {field}")
        assert checks(value, "p", "GET", b"", "c")


def test_what_a_server_or_a_user_put_into_a_value_stays_in_it() -> None:
    value = digest_credentials(
        digest(realm='a", nc=1\\', nonce="n", qop="auth", opaque='", x="'),
        b'me", realm="other',
        b"p",
        "GET",
        "/",
        qop="auth",
        count=1,
        cnonce="c",
    )
    params = answered(value)
    assert params["realm"] == 'a", nc=1\\'
    assert params["opaque"] == '", x="'
    assert params["username"] == 'me", realm="other'
    assert params["nc"] == "00000001"


@pytest.mark.parametrize(
    "params",
    [
        {"nonce": "n"},
        {"realm": "r"},
        {"algorithm": "SHA-1"},
        {"algorithm": "MD5-sess-sess"},
        {"algorithm": "-sess"},
        {"algorithm": "MD5-sess"},
        {"algorithm": "SHA-512"},
        {"qop": "auth-conf"},
        {"qop": ""},
    ],
)
def test_what_is_not_understood_is_not_answered(params: dict[str, str]) -> None:
    whole = params if params.keys() & {"realm", "nonce"} else {"realm": "r", "nonce": "n", **params}
    assert read_digest(Challenge("digest", whole)) is None


def test_another_scheme_is_not_digest() -> None:
    assert read_digest(Challenge("basic", {"realm": "r", "nonce": "n", "qop": "auth"})) is None


def test_flags_are_read_in_any_case() -> None:
    found = digest(
        realm="r", nonce="n", qop="AUTH", algorithm="sha-256-SESS", stale="TRUE", userhash="True"
    )
    assert found.is_stale
    assert found.wants_userhash
    assert found.is_session
    assert found.qops == ("auth",)
    assert not digest(realm="r", nonce="n", stale="yes", userhash="1").is_stale


def test_auth_int_needs_the_body() -> None:
    both = digest(realm="r", nonce="n", qop="auth-int,auth")
    assert both.qop_for(b"x") == both.qop_for(None) == "auth"
    one = digest(realm="r", nonce="n", qop="auth-int")
    assert one.qop_for(b"") == "auth-int"
    assert one.qop_for(None) is None


def test_a_response_is_hexadecimal_and_holds_no_secret() -> None:
    value = digest_credentials(
        digest(realm="r", nonce="n", qop="auth"),
        b"me",
        b"hunter2",
        "GET",
        "/",
        qop="auth",
        count=1,
        cnonce="c",
    )
    assert re.fullmatch("[0-9a-f]{32}", answered(value)["response"])
    assert "hunter2" not in value

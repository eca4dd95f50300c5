"""Contexts: what they verify, and credentials that come from memory."""

import os
import ssl
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from reactor.transports import certificates
from reactor.transports.certificates import (
    CredentialError,
    client_context,
    server_context,
    shared_client_context,
)

CA = trustme.CA()
LEAF = CA.issue_cert("peer.example")
CERTIFICATE = b"".join(blob.bytes() for blob in LEAF.cert_chain_pems)
KEY = LEAF.private_key_pem.bytes()


def encrypted(password: bytes) -> bytes:
    key = serialization.load_pem_private_key(KEY, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's end of a handshake in memory."""
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(one, two, server_hostname="peer.example"),
        server.wrap_bio(two, one, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0]


def trusted_subjects(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


# -- what is trusted ---------------------------------------------------------------------


def test_client_verifies_certificate_and_name_by_default() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert trusted_subjects(context) > 50


def test_default_context_is_built_once_for_each_alpn() -> None:
    assert shared_client_context() is shared_client_context()
    assert shared_client_context(("h2",)) is shared_client_context(("h2",))
    assert shared_client_context() is not shared_client_context(("h2",))
    assert client_context() is not client_context()


def test_environment_says_which_roots_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(CA.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert trusted_subjects(client_context()) == 1


@pytest.mark.parametrize("form", ["file", "str", "bytes", "both"])
def test_given_roots_replace_the_default_ones(form: str, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(CA.cert_pem.bytes())
    forms: dict[str, dict[str, Any]] = {
        "file": {"ca_file": roots},
        "str": {"ca_pem": CA.cert_pem.bytes().decode()},
        "bytes": {"ca_pem": CA.cert_pem.bytes()},
        "both": {"ca_file": roots, "ca_pem": trustme.CA().cert_pem.bytes()},
    }
    context = client_context(**forms[form])
    assert trusted_subjects(context) == (2 if form == "both" else 1)
    peer = handshake(context, server_context(certificate_pem=CERTIFICATE, key_pem=KEY))
    assert peer.version() == "TLSv1.3"


def test_peer_that_is_not_trusted_fails() -> None:
    server = server_context(certificate_pem=CERTIFICATE, key_pem=KEY)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(), server)


def test_verification_can_be_switched_off() -> None:
    context = client_context(verify=False)
    peer = handshake(context, server_context(certificate_pem=CERTIFICATE, key_pem=KEY))
    assert peer.version() == "TLSv1.3"


def test_server_asks_for_client_certificates_only_with_roots() -> None:
    server = server_context(certificate_pem=CERTIFICATE, key_pem=KEY)
    assert server.verify_mode is ssl.CERT_NONE
    server = server_context(certificate_pem=CERTIFICATE, key_pem=KEY, ca_pem=CA.cert_pem.bytes())
    assert server.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLError):
        handshake(client_context(ca_pem=CA.cert_pem.bytes()), server)
    own = client_context(ca_pem=CA.cert_pem.bytes(), certificate_pem=CERTIFICATE, key_pem=KEY)
    assert handshake(own, server).version() == "TLSv1.3"


def test_minimum_version_and_alpn_are_set() -> None:
    context = client_context(
        ca_pem=CA.cert_pem.bytes(), minimum_version=ssl.TLSVersion.TLSv1_3, alpn=["a", "b"]
    )
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    server = server_context(certificate_pem=CERTIFICATE, key_pem=KEY, alpn=("b",))
    assert handshake(context, server).selected_alpn_protocol() == "b"
    with pytest.raises(TypeError, match="several names"):
        client_context(alpn="h2")


@pytest.mark.parametrize("option", ["ca_pem", "ca_file"])
def test_roots_that_are_no_pem_are_refused(option: str, tmp_path: Path) -> None:
    value: Any = "no certificate"
    if option == "ca_file":
        value = tmp_path / "roots.pem"
        value.write_text("no certificate")
    with pytest.raises(CredentialError, match=option):
        client_context(**{option: value})


def test_missing_roots_are_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client_context(ca_file=tmp_path / "none.pem")


# -- credentials from memory ---------------------------------------------------------------


@pytest.fixture(params=["memory", "file"])
def _either_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the key pass through a file in memory, and through one on disk."""
    if request.param == "file":
        monkeypatch.setattr(certificates, "_memory_file", lambda: None)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("no files in memory here")


@pytest.mark.usefixtures("_either_file")
@pytest.mark.parametrize("password", [b"secret", "secret", lambda: "secret"])
def test_encrypted_key_is_decrypted_with_its_password(password: Any) -> None:
    server = server_context(
        certificate_pem=CERTIFICATE.decode(), key_pem=encrypted(b"secret"), password=password
    )
    assert handshake(client_context(ca_pem=CA.cert_pem.bytes()), server).version() == "TLSv1.3"


@pytest.mark.usefixtures("_either_file")
def test_key_is_looked_for_beside_the_certificate() -> None:
    trusting = client_context(ca_pem=CA.cert_pem.bytes())
    for pem in (CERTIFICATE + KEY, KEY + CERTIFICATE):
        server = server_context(certificate_pem=pem)
        assert handshake(trusting, server).version() == "TLSv1.3"


@pytest.mark.usefixtures("_either_file")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_pem": encrypted(b"secret"), "password": "wrong"}, "does not decrypt"),
        ({"key_pem": encrypted(b"secret"), "password": ""}, "does not decrypt"),
        ({"key_pem": encrypted(b"secret")}, "there is no password"),
        ({"key_pem": CA.issue_cert("x").private_key_pem.bytes()}, "does not belong"),
        ({"key_pem": b"no key"}, "no certificate and private key"),
        ({}, "no certificate and private key"),
        ({"certificate_pem": b"", "key_pem": KEY}, "no certificate and private key"),
    ],
)
def test_credentials_of_no_use_are_refused_with_the_reason(
    options: dict[str, Any], message: str
) -> None:
    """Nor is anybody asked for a password: standard input is not read."""
    with pytest.raises(CredentialError, match=message) as caught:
        server_context(**{"certificate_pem": CERTIFICATE, **options})
    assert isinstance(caught.value, ssl.SSLError)
    assert isinstance(caught.value, ValueError)


def test_key_without_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="certificate_pem"):
        client_context(key_pem=KEY)
    with pytest.raises(ValueError, match="certificate_pem"):
        client_context(password="secret")


@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_key_never_stays_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, password: str
) -> None:
    monkeypatch.setattr(certificates, "_memory_file", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []

    def answer() -> str:
        [file] = tmp_path.iterdir()
        seen.append(file.stat().st_mode & 0o777)
        return password

    with nullcontext() if password == "secret" else pytest.raises(CredentialError):
        server_context(certificate_pem=CERTIFICATE, key_pem=encrypted(b"secret"), password=answer)
    assert seen == [0o600 if os.name == "posix" else 0o666]  # Windows has no mode
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no files in memory here")
def test_key_stays_off_the_disk_where_there_are_files_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    server = server_context(certificate_pem=CERTIFICATE, key_pem=KEY)
    trusting = client_context(ca_pem=CA.cert_pem.bytes())
    assert handshake(trusting, server).version() == "TLSv1.3"
    assert list(tmp_path.iterdir()) == []


def test_message_of_a_credential_error_is_its_text() -> None:
    assert str(CredentialError("the password is wrong")) == "the password is wrong"

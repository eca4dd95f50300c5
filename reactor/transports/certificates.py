"""TLS contexts: verified by default, and made from PEM that is in memory.

Owns: the choice of trusted roots and of minimum versions.  May not touch: connections.
Invariant: a private key that comes from memory is never on a disk where the platform can
help it, and nobody is asked for a password on the terminal.

Which roots are trusted: *ca_file* and *ca_pem* where given, and nothing else; otherwise what
the environment's ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` say (OpenSSL's own convention);
otherwise certifi's, so that every machine trusts the same.  To trust the operating system's,
pass a context of ``truststore``'s instead.
"""

from __future__ import annotations

import functools
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi

__all__ = [
    "CredentialError",
    "client_context",
    "context_for",
    "server_context",
    "shared_client_context",
]

Password = str | bytes | Callable[[], str | bytes]


class CredentialError(ssl.SSLError, ValueError):
    """A certificate, key or password that is of no use."""

    def __str__(self) -> str:
        # SSLError's own shows a lone argument as a tuple.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


def client_context(
    *,
    ca_file: str | os.PathLike[str] | None = None,
    ca_pem: str | bytes | None = None,
    certificate_pem: str | bytes | None = None,
    key_pem: str | bytes | None = None,
    password: Password | None = None,
    alpn: Iterable[str] = (),
    verify: bool = True,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """Return a new context for clients; the peer's certificate and name are verified.

    Args:
        ca_file: a PEM file of the roots to trust, instead of the default ones.
        ca_pem: the same in memory; both may be given.
        certificate_pem: the client's own certificate and the chain above it.
        key_pem: its private key; by default it is looked for in *certificate_pem*.
        password: what decrypts the key, or a callable that returns it.
        alpn: names of protocols, the preferred one first (RFC 7301).
        verify: false to accept any certificate for any name: not secure.
        minimum_version: the lowest version of TLS to speak.

    Raises ``CredentialError`` for PEM or a password that is wrong, ``OSError`` for a file
    that cannot be read.
    """
    context = _trusting(ssl.Purpose.SERVER_AUTH, ca_file, ca_pem)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _finish(context, certificate_pem, key_pem, password, alpn, minimum_version)
    return context


def server_context(
    *,
    certificate_pem: str | bytes,
    key_pem: str | bytes | None = None,
    password: Password | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    ca_pem: str | bytes | None = None,
    alpn: Iterable[str] = (),
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """Return a new context for servers.

    With *ca_file* or *ca_pem* clients must show a certificate that these roots have signed;
    without, none is asked for.  The other arguments are ``client_context``'s.
    """
    if ca_file is None and ca_pem is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    else:
        context = _trusting(ssl.Purpose.CLIENT_AUTH, ca_file, ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
    _finish(context, certificate_pem, key_pem, password, alpn, minimum_version)
    return context


@functools.cache
def shared_client_context(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return the default client context for *alpn*, the same one each time.

    Loading the roots takes milliseconds and memory; this is done once.  Whoever changes the
    context changes it for all: make one with ``client_context`` instead.
    """
    return client_context(alpn=alpn)


def context_for(
    sslcontext: ssl.SSLContext | None, server_side: bool, server_hostname: str | None
) -> ssl.SSLContext:
    """Return the context for one end: *sslcontext*, or, in a client, the shared default one.

    Raises ``TypeError`` and ``ValueError`` for what cannot work.  A context that checks names
    needs a *server_hostname*; an empty one is asyncio's way to have no name checked.
    """
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is only meaningful with server_side=False")
    if sslcontext is None:
        if server_side:
            raise ValueError("Server side SSL needs a valid SSLContext")
        if server_hostname:
            return shared_client_context()
        sslcontext = client_context()
        sslcontext.check_hostname = False
    elif not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
        )
    if not server_side and server_hostname is None and sslcontext.check_hostname:
        # SSLSocket says the same; SSLObject would check no name.
        raise ValueError("check_hostname requires server_hostname")
    return sslcontext


def _trusting(
    purpose: ssl.Purpose, ca_file: str | os.PathLike[str] | None, ca_pem: str | bytes | None
) -> ssl.SSLContext:
    if ca_file is None and ca_pem is None:
        file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        if (file or folder) and sys.platform == "win32":
            # the default would be the system's store beside them
            return ssl.create_default_context(purpose, cafile=file or None, capath=folder or None)
        if file or folder:
            return ssl.create_default_context(purpose)
        return ssl.create_default_context(purpose, cafile=certifi.where())
    # A str is PEM to ssl, bytes are DER.
    text = ca_pem.decode("ascii") if isinstance(ca_pem, bytes) else ca_pem
    try:
        return ssl.create_default_context(purpose, cafile=ca_file, cadata=text)
    except ssl.SSLError as error:
        source = "ca_file" if ca_file is not None else "ca_pem"
        raise CredentialError(f"{source} holds no certificate in PEM: {_reason(error)}") from error


def _finish(
    context: ssl.SSLContext,
    certificate_pem: str | bytes | None,
    key_pem: str | bytes | None,
    password: Password | None,
    alpn: Iterable[str],
    minimum_version: ssl.TLSVersion,
) -> None:
    context.minimum_version = minimum_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    if isinstance(alpn, str):
        raise TypeError("alpn is several names, not a str")
    names = list(alpn)
    if names:
        context.set_alpn_protocols(names)
    if certificate_pem is not None:
        _load(context, _octets(certificate_pem), _octets(key_pem), password)
    elif key_pem is not None or password is not None:
        raise ValueError("a key or a password needs a certificate_pem")


def _load(
    context: ssl.SSLContext, certificate: bytes, key: bytes, password: Password | None
) -> None:
    """Give the context a certificate and key, which ``ssl`` can only read from files."""
    asked = False

    def answer() -> str | bytes:
        nonlocal asked
        asked = True
        if password is None:
            raise CredentialError("the private key is encrypted, and there is no password")
        return password() if callable(password) else password

    try:
        with _file_of(certificate + b"\n" + key) as path:
            context.load_cert_chain(path, password=answer)
    except CredentialError:
        raise
    except ssl.SSLError as error:
        raise CredentialError(_explain(error, asked=asked)) from error


def _explain(error: ssl.SSLError, *, asked: bool) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the private key does not belong to the certificate"
    if asked:
        return "the password does not decrypt the private key"
    return f"no certificate and private key in PEM: {_reason(error)}"


def _reason(error: ssl.SSLError) -> str:
    return error.reason or error.strerror or str(error)


def _octets(pem: str | bytes | None) -> bytes:
    if pem is None:
        return b""
    return pem.encode("ascii") if isinstance(pem, str) else bytes(pem)


@contextmanager
def _file_of(secret: bytes) -> Iterator[str]:
    """Yield the path of a private file with *secret* in it, in memory where that exists."""
    fd = _memory_file()
    if fd is not None:
        with os.fdopen(fd, "wb", buffering=0) as file:
            file.write(secret)
            yield f"/proc/self/fd/{fd}"
        return
    # ssl opens the file by its name, so it must have one for a moment; mkstemp(3): mode 0600
    with tempfile.NamedTemporaryFile(delete=False) as file:
        try:
            file.write(secret)
            file.close()
            yield file.name
        finally:
            Path(file.name).unlink()


def _memory_file() -> int | None:
    """Return the descriptor of an empty file in memory (memfd_create(2)), or ``None``."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        fd = os.memfd_create("credentials", os.MFD_CLOEXEC)
    except OSError:
        return None
    if not Path(f"/proc/self/fd/{fd}").exists():
        os.close(fd)
        return None
    os.fchmod(fd, 0o600)
    return fd

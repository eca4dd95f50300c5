"""What adapters have in common: TLS settings of the old kind, and a client that adds nothing.

Owns: the reading of *verify* and *cert*.  May not touch: httpx, requests.
Invariant: a setting that cannot be followed raises; none is ignored.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import Any

from reactor import client_context, shared_client_context

__all__ = ["Certificate", "Verify", "context_of"]

ALPN = ("http/1.1",)

Verify = bool | str | os.PathLike[str] | ssl.SSLContext
# A PEM file with both, or its names: certificate, key and (httpx) the key's password.
Certificate = str | os.PathLike[str] | tuple[str, str] | tuple[str, str, str | None]


def context_of(verify: Verify, cert: Certificate | None) -> ssl.SSLContext:
    """Return the TLS context that *verify* and *cert* ask for.

    Args:
        verify: ``True`` for the default roots, ``False`` for no verification, a context, or the
            name of a PEM file of roots or of a directory of them (``c_rehash(1)``).
        cert: the client's own certificate, or ``None``.

    Raises ``OSError`` for a file that cannot be read, ``ValueError`` for what is in it.
    """
    if isinstance(verify, ssl.SSLContext):
        if cert is not None:
            raise ValueError("cert goes into the ssl.SSLContext that verify is")
        return verify
    if verify is True and cert is None:
        return shared_client_context(ALPN)
    names = (cert,) if isinstance(cert, str | os.PathLike) else cert or ()
    options: dict[str, Any] = {}
    if names:
        options["certificate_pem"] = Path(names[0]).read_bytes()
        if len(names) > 1 and names[1]:
            options["key_pem"] = Path(names[1]).read_bytes()
        if len(names) > 2:
            options["password"] = names[2]
    directory = None
    if not isinstance(verify, bool):
        if stat.S_ISDIR(Path(verify).stat().st_mode):  # which names what is not there
            directory = verify
        else:
            options["ca_file"] = verify
    context = client_context(alpn=ALPN, verify=verify is not False, **options)
    if directory is not None:
        context.load_verify_locations(capath=directory)
    return context

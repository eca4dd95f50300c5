"""Digest credentials (RFC 7616): what a challenge asks for, and the value that answers it.

Owns: the computation.  May not touch: state; which nonce is used how often is `DigestAuth`'s.
Invariant: what is not understood in a challenge is not answered.

SHA-512-256 is SHA-512/256 of FIPS 180-4, not the first half of SHA-512, by which the RFC's own
example in section 3.9.2 was computed (erratum 4897).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from protocols.http.challenges import Challenge, quoted_string

__all__ = ["Digest", "digest_credentials", "read_digest"]

# The name of section 6.1, in lower case, to hashlib's; the stronger first.
_HASHES: Final = {
    "sha-512-256": "sha512_256",
    "sha-256": "sha256",
    "md5": "md5",
}
# RFC 8187 section 3.2.1: attr-char.
_ATTR_CHARS: Final = "!#$&+-.^_`|~"


@dataclass(frozen=True, slots=True)
class Digest:
    """A challenge that can be answered.

    Attributes:
        algorithm: as the challenge has it, ``""`` where it has none, which means MD5.
        hash_name: hashlib's name for it.
        is_session: the "-sess" variant (section 3.4.2).
        qops: ``"auth"``, ``"auth-int"`` or both; none in the form of RFC 2069.
        opaque: to be sent back, or None.
        wants_userhash, is_utf8: sections 3.4.4 and 3.4.
        is_stale: the nonce was too old, not the password wrong.
        rank: 0 for the strongest algorithm.
    """

    realm: str
    nonce: str
    algorithm: str
    hash_name: str
    is_session: bool
    qops: tuple[str, ...]
    opaque: str | None
    wants_userhash: bool
    is_utf8: bool
    is_stale: bool
    rank: int

    def qop_for(self, body: bytes | None) -> str | None:
        """Return the quality of protection to use, None where that needs a body unknown."""
        if not self.qops:
            return ""
        if "auth" in self.qops:
            return "auth"
        return None if body is None else "auth-int"


def read_digest(challenge: Challenge) -> Digest | None:
    """Return what *challenge* asks for, None where it is not Digest or not understood."""
    params = challenge.params
    if challenge.scheme != "digest" or not {"realm", "nonce"} <= params.keys():
        return None
    algorithm = params.get("algorithm", "")
    name = algorithm.lower() or "md5"
    is_session = name.endswith("-sess")
    name = name.removesuffix("-sess")
    hash_name = _HASHES.get(name)
    if hash_name is None or hash_name not in hashlib.algorithms_available:
        return None
    offered = [qop.strip(" \t").lower() for qop in params.get("qop", "").split(",")]
    qops = tuple(qop for qop in ("auth", "auth-int") if qop in offered)
    # Without qop there is no client nonce, which the session key needs.
    if not qops and ("qop" in params or is_session):
        return None
    return Digest(
        realm=params["realm"],
        nonce=params["nonce"],
        algorithm=algorithm,
        hash_name=hash_name,
        is_session=is_session,
        qops=qops,
        opaque=params.get("opaque"),
        wants_userhash=params.get("userhash", "").lower() == "true",
        is_utf8=params.get("charset", "").lower() == "utf-8",
        is_stale=params.get("stale", "").lower() == "true",
        rank=list(_HASHES).index(name),
    )


def digest_credentials(
    digest: Digest,
    user: bytes,
    password: bytes,
    method: str,
    target: str,
    *,
    qop: str,
    count: int,
    cnonce: str,
    body: bytes | None = None,
) -> str:
    """Return the value of the Authorization field (RFC 7616 section 3.4).

    Args:
        digest: the challenge.
        user: UTF-8.
        password: UTF-8.
        method: as it is sent.
        target: the request target as it is sent.
        qop: what ``digest.qop_for`` has chosen.
        count: how often the nonce has been used, this time included.
        cnonce: the client nonce; the same for a nonce's lifetime with "-sess".
        body: the whole body, for "auth-int".
    """

    def hashed(*parts: bytes) -> bytes:
        octets = b":".join(parts)
        return hashlib.new(digest.hash_name, octets, usedforsecurity=False).hexdigest().encode()

    realm, nonce = digest.realm.encode("latin-1"), digest.nonce.encode("latin-1")
    raw_cnonce, nc = cnonce.encode("ascii"), f"{count:08x}"
    secret = hashed(user, realm, password)
    if digest.is_session:
        secret = hashed(secret, nonce, raw_cnonce)
    request = [method.encode("ascii"), target.encode("ascii")]
    if qop == "auth-int":
        assert body is not None, "qop_for chooses auth-int only with a body"
        request.append(hashed(body))
    proof = [nonce]
    if qop:
        proof += [nc.encode("ascii"), raw_cnonce, qop.encode("ascii")]
    response = hashed(secret, *proof, hashed(*request)).decode("ascii")

    fields = [
        *_username(digest, user, hashed(user, realm).decode("ascii")),
        f"realm={quoted_string(digest.realm)}",
        f"uri={quoted_string(target)}",
        *([f"algorithm={digest.algorithm}"] if digest.algorithm else ()),
        f"nonce={quoted_string(digest.nonce)}",
        *([f"nc={nc}", f"cnonce={quoted_string(cnonce)}", f"qop={qop}"] if qop else ()),
        f'response="{response}"',
        *([] if digest.opaque is None else [f"opaque={quoted_string(digest.opaque)}"]),
        *(["userhash=true"] if digest.wants_userhash else ()),
    ]
    return "Digest " + ", ".join(fields)


def _username(digest: Digest, user: bytes, user_hash: str) -> list[str]:
    """Return the user name in the form that the challenge allows (RFC 7616 section 3.4)."""
    if digest.wants_userhash:
        return [f'username="{user_hash}"']
    if digest.is_utf8 and not user.isascii():
        return [f"username*=UTF-8''{quote(user, safe=_ATTR_CHARS)}"]
    return [f"username={quoted_string(user.decode('latin-1'))}"]

"""A server that wants Digest, checked by its own reading of RFC 7616, not the client's.

Owns: nonces and the counts that were used with them.  It is a script for
``tests.peers.scripted.serving``.
"""

from __future__ import annotations

import hashlib
import re
from urllib.request import parse_http_list, parse_keqv_list

from tests.peers.scripted import Conversation, answer


class DigestPeer:
    """Answers 401 until the digest is right; a nonce of before ``new_nonce`` is stale.

    Attributes:
        counts: of each request that was let in.
        refused: answers that were wrong, not stale.
    """

    def __init__(
        self, user: str, password: str, *, algorithm: str = "SHA-256", qop: str = "auth"
    ) -> None:
        self._user, self._password = user, password
        self._algorithm, self._qop = algorithm, qop
        self._number = 1
        self._session: dict[str, str] = {}
        self.counts: list[int] = []
        self.refused = 0

    def new_nonce(self) -> None:
        """Let the current nonce grow stale."""
        self._number += 1

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            text = head.decode()
            length = re.search(r"Content-Length: (\d+)", text)
            body = b""
            if length:
                body = await peer.reader.readexactly(int(length[1]))
            elif "chunked" in text:
                await peer.reader.readuntil(b"0\r\n\r\n")
            found = re.search(r"^Authorization: Digest (.*)\r$", text, re.MULTILINE)
            stale = False
            if found:
                params = parse_keqv_list(parse_http_list(found[1]))
                stale = params["nonce"] != self._nonce
                if not stale and params["response"] == self._expected(text, params, body):
                    self.counts.append(int(params["nc"], 16))
                    await peer.send(answer(b"in"))
                    continue
                self.refused += not stale
            challenge = (
                f'WWW-Authenticate: Digest realm="r", nonce="{self._nonce}", '
                f'qop="{self._qop}", algorithm={self._algorithm}, stale={str(stale).lower()}'
            )
            await peer.send(answer(b"out", challenge, status="401 No"))

    @property
    def _nonce(self) -> str:
        return f"nonce-{self._number}"

    def _expected(self, head: str, params: dict[str, str], body: bytes) -> str:
        name = self._algorithm.removesuffix("-sess").replace("-", "").lower()

        def hashed(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        method, target, _ = head.split(" ", 2)
        assert params["uri"] == target
        secret = hashed(f"{self._user}:r:{self._password}")
        if self._algorithm.endswith("-sess"):
            key = self._session.setdefault(self._nonce, params["cnonce"])
            secret = hashed(f"{secret}:{self._nonce}:{key}")
        request = f"{method}:{target}"
        if self._qop == "auth-int":
            request += f":{hashlib.new(name, body).hexdigest()}"
        assert params["qop"] == self._qop
        proof = f"{params['nonce']}:{params['nc']}:{params['cnonce']}:{params['qop']}"
        return hashed(f"{secret}:{proof}:{hashed(request)}")

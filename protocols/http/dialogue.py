"""What is said on a connection before HTTP: to a SOCKS server, or to a proxy about a tunnel.

Owns: the bytes until the way is open.  May not touch: what is said then.
Invariant: nothing that came before the protocol takes over is lost or handed on: it is an
error, since until then nobody asked the other end for anything.
"""

from __future__ import annotations

import asyncio
from typing import Any

from protocols.http.challenges import parse_challenges
from protocols.http.errors import MessageError, ProxyAuthenticationError, ProxyError
from protocols.http.headers import render_request_head
from protocols.http.parser import Head, ResponseParser
from protocols.http.proxies import Proxy
from reactor import Protocol

__all__ = ["Dialogue", "open_tunnel", "socks_connect"]

# Beyond what any of the two has to say: a CONNECT's answer is bounded by the parser.
_MAX_UNREAD_BYTES = 131_072

# RFC 1928 section 6.
_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class Dialogue(Protocol):
    """Reads and writes on a new connection, until another protocol takes over."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._unread = bytearray()
        self._ended: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Keep what came."""
        self._unread += data
        if len(self._unread) > _MAX_UNREAD_BYTES:
            self.transport.abort()
        self._wake()

    def eof_received(self) -> bool:
        """Note that nothing more comes."""
        self._end(None)
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that nothing more comes, and why."""
        self._end(exc)

    def _end(self, cause: BaseException | None) -> None:
        if self._ended is None:
            self._ended = self.error("it closed the connection")
            self._ended.__cause__ = cause
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def error(self, reason: str) -> ProxyError:
        """Return an error about the proxy."""
        return ProxyError(reason, host=self.proxy.host, port=self.proxy.port, phase="connect")

    def send(self, data: bytes) -> None:
        """Write *data*."""
        self.transport.write(data)

    async def some(self) -> bytes:
        """Return what has come, at least one byte.  Raises ``ProxyError`` at the end."""
        while not self._unread:
            if self._ended is not None:
                raise self._ended
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._unread)
        self._unread.clear()
        return data

    async def exactly(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        data = b""
        while len(data) < size:
            data += await self.some()
        self._unread[:0] = data[size:]
        return data[:size]

    def hand_over(self) -> Any:
        """Return the transport, for another protocol.  Raises ``ProxyError``."""
        if self._unread:
            raise self.error("it sent more than its answer")
        if self._ended is not None:
            raise self._ended
        return self.transport


async def open_tunnel(talk: Dialogue, authority: str, answered: str | None) -> None:
    """Have an HTTP proxy open a tunnel (RFC 9110 section 9.3.6).

    Args:
        talk: the connection to the proxy.
        authority: host and port of the origin.
        answered: the value of Proxy-Authorization; None to send none.

    Raises ``ProxyAuthenticationError`` for a 407 and ``ProxyError`` for anything else but a 2xx.
    """
    fields = talk.proxy.headers
    if answered is not None:
        fields = fields.merged_with((("Proxy-Authorization", answered),))
    talk.send(render_request_head("CONNECT", authority, authority, fields))
    parser = ResponseParser()
    parser.expect_response(connect=True)
    while True:
        try:
            events = list(parser.receive_data(await talk.some()))
        except MessageError as error:
            raise talk.error(f"its answer to CONNECT is not HTTP: {error}") from error
        heads = [event for event in events if isinstance(event, Head)]
        if heads:
            break
    head = heads[0]
    if head.status_code == 407:
        refused = ProxyAuthenticationError(
            "it asks for credentials", host=talk.proxy.host, port=talk.proxy.port, phase="connect"
        )
        refused.status_code = 407
        refused.challenges = parse_challenges(head.headers.get_list("Proxy-Authenticate"))
        raise refused
    if not 200 <= head.status_code <= 299:
        phrase = f" {head.reason_phrase}" if head.reason_phrase else ""
        failed = talk.error(f"it answered CONNECT {authority} with {head.status_code}{phrase}")
        failed.status_code = head.status_code
        raise failed
    if parser.surplus:
        raise talk.error("it sent more than its answer")


async def socks_connect(talk: Dialogue, kind: int, address: bytes, port: int) -> None:
    """Have a SOCKS5 server connect to an address (RFC 1928, RFC 1929).

    Args:
        talk: the connection to it.
        kind: 1 for IPv4, 3 for a name, 4 for IPv6.
        address: 4 or 16 bytes, or the name in ASCII.
        port: of the origin.

    Raises ``ProxyError``.
    """
    login = talk.proxy.login
    talk.send(b"\x05\x01\x00" if login is None else b"\x05\x02\x00\x02")
    version, method = await talk.exactly(2)
    if version != 5:
        raise talk.error("it does not speak SOCKS5")
    if method == 2 and login is not None:
        user, password = login
        talk.send(b"\x01%c%b%c%b" % (len(user), user, len(password), password))
        if (await talk.exactly(2))[1] != 0:
            raise ProxyAuthenticationError(
                "it refuses the user and the password",
                host=talk.proxy.host, port=talk.proxy.port, phase="connect",
            )  # fmt: skip
    elif method == 255:
        raise ProxyAuthenticationError(
            "it asks for credentials" if login is None else "it accepts no way to authenticate",
            host=talk.proxy.host, port=talk.proxy.port, phase="connect",
        )  # fmt: skip
    elif method != 0:
        raise talk.error(f"it chose the method {method}, which was not offered")
    length = bytes([len(address)]) if kind == 3 else b""
    talk.send(b"\x05\x01\x00%c%b%b%b" % (kind, length, address, port.to_bytes(2, "big")))
    version, reply, _, bound = await talk.exactly(4)
    if version != 5:
        raise talk.error("it does not speak SOCKS5")
    if reply != 0:
        raise talk.error(f"it cannot connect: {_REPLIES.get(reply, f'reply {reply}')}")
    sizes = {1: 4, 4: 16}
    if bound == 3:
        size = (await talk.exactly(1))[0]
    elif bound in sizes:
        size = sizes[bound]
    else:
        raise talk.error("its answer names an address of an unknown type")
    await talk.exactly(size + 2)

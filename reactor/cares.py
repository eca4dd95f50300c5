"""Names to addresses without a thread for each look-up: c-ares, by the pycares package.

Owns: a c-ares channel, and its sockets' place in the loop.  May not touch: what is kept of
answers (``reactor.resolver``).
Invariant: every call into c-ares is made on the loop's thread.

It asks the name servers of ``/etc/resolv.conf`` itself and reads ``/etc/hosts``; other sources
of ``/etc/nsswitch.conf`` (mDNS, LDAP) it does not know.  That is why it is not the default.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

from reactor.limits import NAME_SERVER_SECONDS, NAME_SERVER_TRIES
from reactor.resolver import Resolver, Rows

__all__ = ["CaresResolver"]

LONGEST_WAIT_SECONDS = 1.0  # c-ares' own figure for a channel without a time-out


class CaresResolver(Resolver):
    """Turns names into addresses with c-ares; needs the extra ``cares``.

    Args:
        servers: addresses of name servers; by default the system's.
        port: of the name servers.
        timeout: seconds for the first try at each; later ones have more.
        tries: at each name server.
        options: ``Resolver``'s own.  Answers are kept for the time that their zone allows, but
            no longer than *ttl_seconds*.

    Raises ``ModuleNotFoundError`` where pycares is not installed.
    """

    def __init__(
        self,
        *,
        servers: Iterable[str] | None = None,
        port: int | None = None,
        timeout: float = NAME_SERVER_SECONDS,
        tries: int = NAME_SERVER_TRIES,
        **options: Any,
    ) -> None:
        import pycares

        super().__init__(**options)
        self._pycares = pycares
        self._channel: Any = pycares.Channel(
            servers=None if servers is None else list(servers),
            udp_port=port,
            tcp_port=port,
            timeout=timeout,
            tries=tries,
            sock_state_cb=self._watch,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pending = 0

    def _ask(self, host: str, family: int) -> None:
        if self._channel is None:
            raise RuntimeError("the resolver is closed")
        self._loop = asyncio.get_running_loop()
        name = host.encode("idna").decode("ascii")
        self._pending += 1

        def done(result: Any, error: int | None) -> None:
            self._pending -= 1
            if error:
                self._answered(host, family, self._error(error))
            else:
                self._answered(host, family, *self._rows(result))

        self._channel.getaddrinfo(
            name,
            None,
            family=socket.AddressFamily(family),
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            callback=done,
        )
        self._schedule()

    def _rows(self, result: Any) -> tuple[Rows, float]:
        """Return c-ares' answer in getaddrinfo(3)'s shape, and how long it is good for."""
        rows: Rows = []
        ttl = self._ttl_seconds
        for node in result.nodes:
            address = node.addr[0]
            text = address.decode("ascii") if isinstance(address, bytes) else address
            rows.append((node.family, node.socktype, node.protocol, "", (text, *node.addr[1:])))
            ttl = min(ttl, node.ttl)
        return rows, ttl

    def _error(self, number: int) -> socket.gaierror:
        """Return what getaddrinfo(3) would have said."""
        errno = self._pycares.errno
        if number in (errno.ARES_ENOTFOUND, errno.ARES_ENODATA, errno.ARES_EBADNAME):
            code = socket.EAI_NONAME
        elif number in (errno.ARES_ETIMEOUT, errno.ARES_ESERVFAIL, errno.ARES_ECONNREFUSED):
            code = socket.EAI_AGAIN
        else:
            code = socket.EAI_FAIL
        return socket.gaierror(code, errno.strerror(number))

    # -- c-ares and the loop -----------------------------------------------------------

    def _watch(self, fd: int, reads: bool, writes: bool) -> None:
        """c-ares' call-back: watch one of its sockets for what it wants, or no longer."""
        loop = self._loop
        assert loop is not None
        if fd in self._watched:
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            self._watched.discard(fd)
        if reads:
            loop.add_reader(fd, self._process, fd, self._pycares.ARES_SOCKET_BAD)
        if writes:
            loop.add_writer(fd, self._process, self._pycares.ARES_SOCKET_BAD, fd)
        if reads or writes:
            self._watched.add(fd)

    def _process(self, readable: int, writable: int) -> None:
        if self._channel is not None:
            self._channel.process_fd(readable, writable)
            self._schedule()

    def _schedule(self) -> None:
        """Let c-ares look at its time-outs when the next one is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and self._loop is not None:
            due = self._channel.timeout(LONGEST_WAIT_SECONDS)
            nothing = self._pycares.ARES_SOCKET_BAD
            self._timer = self._loop.call_later(max(due, 0.001), self._process, nothing, nothing)

    def close(self) -> None:
        """End every look-up and close the sockets."""
        super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.cancel()  # calls back, and gives up its sockets
            for fd in list(self._watched):
                self._watch(fd, False, False)
            channel.close()

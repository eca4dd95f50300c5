"""Tools for testing what runs on a reactor: a loop in memory with faults on demand.

Owns: virtual sockets as Python objects, and the helpers that use them or real ones alike.
May not touch: what a user would not reach through the loop.
Invariant: a protocol cannot tell a simulated loop from a real one, but for its clock.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from reactor.errors import system_error
from reactor.eventloop import EventLoop
from reactor.limits import MAX_FREE_BLOCKS, RECEIVE_BLOCK_BYTES
from reactor.pollers.simulated import Deadlock, SimulatedPoller
from reactor.pool import BlockPool
from reactor.transports.tcp import Connector

__all__ = ["Deadlock", "VirtualSocket", "connect", "listen", "pair", "simulated_loop"]

P = TypeVar("P")

PAIR_BUFFER_BYTES = 200_000  # about what a pair of UNIX sockets has


def simulated_loop(**faults: Any) -> EventLoop:
    """Return an event loop on a ``SimulatedPoller``, which takes *faults* as its arguments.

    ``loop.poller.network`` injects more while the loop runs, ``loop.poller.advance`` moves
    the clock, and ``loop.poller.violations`` names what broke the contract.
    """
    return EventLoop(SimulatedPoller(BlockPool(RECEIVE_BLOCK_BYTES, MAX_FREE_BLOCKS), **faults))


class VirtualSocket:
    """A simulated socket that passes for a ``socket.socket`` where a loop wants one.

    Args:
        poller: whose network it is in.
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        fd: an open descriptor of that network; by default a new one.
    """

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(
        self, poller: SimulatedPoller, family: int = socket.AF_INET, fd: int | None = None
    ) -> None:
        self.family = family
        self._network = poller.network
        self._fd = check(self._network.open(family, self.type)) if fd is None else fd

    def fileno(self) -> int:
        """Return the descriptor, -1 once it is closed."""
        return self._fd

    def bind(self, address: Any) -> None:
        """Bind to *address*, port 0 for any."""
        check(self._network.bind(self._fd, address))

    def listen(self, backlog: int = 100) -> None:
        """Accept connections, of which *backlog* may wait."""
        check(self._network.listen(self._fd, backlog))

    def getsockname(self) -> Any:
        """Return this end's address."""
        return self._network.sockets[self._fd].local

    def getpeername(self) -> Any:
        """Return the other end's address."""
        return self._network.sockets[self._fd].remote

    def setblocking(self, flag: bool) -> None:
        """Do nothing unless *flag* is true, which a simulated socket cannot be."""
        if flag:
            raise ValueError("a simulated socket never blocks")

    def gettimeout(self) -> float:
        """Return 0: a simulated socket never blocks."""
        return 0.0

    def close(self) -> None:
        """Close the socket."""
        if self._fd >= 0:
            self._network.close(self._fd)
            self._fd = -1


def check(result: int) -> int:
    """Return *result*, or raise the ``OSError`` that a negative one stands for."""
    if result < 0:
        raise system_error(-result)
    return result


def family_of(address: Any) -> int:
    """Return the address family that *address* belongs to."""
    if isinstance(address, tuple):
        return socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.AF_UNIX


async def listen(
    loop: EventLoop,
    factory: Callable[[], Any],
    address: Any = ("127.0.0.1", 0),
    *,
    backlog: int = 100,
) -> asyncio.Server:
    """Return a server at *address*, on real or simulated sockets as the loop's poller has."""
    sock: Any
    if isinstance(loop.poller, SimulatedPoller):
        sock = VirtualSocket(loop.poller, family_of(address))
    else:
        sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        sock.bind(address)
        return await loop.create_server(factory, sock=sock, backlog=backlog)
    except BaseException:
        sock.close()
        raise


async def connect(loop: EventLoop, factory: Callable[[], P], address: Any) -> tuple[Any, P]:
    """Connect to *address*, which is numeric; return the transport and its protocol."""
    connector = Connector(loop, family_of(address), socket.SOCK_STREAM, 0, address)
    try:
        await connector.start()
        protocol = factory()
        return connector.transport(protocol), protocol
    finally:
        connector.close()


def pair(loop: EventLoop, one: Any, two: Any) -> tuple[Any, Any]:
    """Return two connected transports for the protocols *one* and *two*.

    ``connection_made`` is called in the loop's next pass.
    """
    near: Any
    far: Any
    if isinstance(loop.poller, SimulatedPoller):
        fds = loop.poller.network.pair()
        near, far = (VirtualSocket(loop.poller, fd=fd) for fd in fds)
    else:
        near, far = socket.socketpair()
        for sock in (near, far):
            if sys.platform == "win32":  # over TCP, with buffers that would take megabytes
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BUFFER_BYTES)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PAIR_BUFFER_BYTES)
            sock.setblocking(False)
    return loop._make_socket_transport(near, one), loop._make_socket_transport(far, two)

"""Where a connection leads, and how it gets there: the pool's key and its opener.

Owns: what tells two connections apart.  May not touch: pools.
Invariant: two equal endpoints lead to connections that neither side can tell apart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from reactor.errors import EndpointError, EndpointTimeoutError, endpoint_error
from reactor.resolver import Resolver
from reactor.transports.connect import connect

__all__ = ["Endpoint", "Opener", "UnixOpener"]


class Endpoint(NamedTuple):
    """Everything that changes what either side of a connection sees: the pool's key.

    A manager compares endpoints and hands them to their openers; it reads no field but
    *opener*, and *host* and *port* to name them in an error.

    Attributes:
        scheme: what is spoken, so that two protocols on one port stay apart.
        host, port: whom to connect to.
        tls: the ``ssl.SSLContext``, compared by identity, or ``None``.  It holds the trusted
            roots, the client certificate and the ALPN list.
        server_hostname: the name that is verified and sent as SNI, if not *host*.
        local_address: where to connect from.
        opener: how to get there if not directly: a UNIX path, a proxy with its credentials.
            Hashable; two that are equal lead the same way.  Its ``str`` names the way; one that
            is empty is not shown.
    """

    scheme: str
    host: str
    port: int
    tls: Any = None
    server_hostname: str | None = None
    local_address: tuple[str, int] | None = None
    opener: Opener | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        by = "" if self.opener is None else str(self.opener)
        return f"{self.scheme}://{host}:{self.port}{' by ' if by else ''}{by}"


# Awaited with the protocol's factory, the endpoint, the deadline on the loop's clock (or None)
# and the manager's resolver (or None, for the loop's own); returns the transport and the
# protocol.  When it raises, cancellation included, it has left nothing open.
Opener: TypeAlias = Callable[
    [Callable[[], Any], Endpoint, float | None, Resolver | None], Awaitable[tuple[Any, Any]]
]


def as_endpoint(host: str | Endpoint, port: int | None, key: dict[str, Any]) -> Endpoint:
    """Return the endpoint that a caller named; ``TypeError`` where it named none."""
    if isinstance(host, Endpoint):
        if port is None and not key:
            return host
        raise TypeError("an endpoint is everything: no port and no other field beside it")
    if port is None:
        raise TypeError("a host needs a port")
    return Endpoint(key.pop("scheme", "tcp"), host, port, **key)


async def open_directly(
    factory: Callable[[], Any],
    endpoint: Endpoint,
    deadline: float | None,
    resolver: Resolver | None,
) -> tuple[Any, Any]:
    """Connect to the endpoint's host and port: the opener of who names none."""
    return await connect(
        factory,
        endpoint.host,
        endpoint.port,
        tls=endpoint.tls,
        server_hostname=endpoint.server_hostname,
        local_address=endpoint.local_address,
        deadline=deadline,
        resolver=resolver,
    )


@dataclass(frozen=True)
class UnixOpener:
    """Opens a connection to a UNIX socket; the endpoint's host is then only a name.

    Attributes:
        path: of the socket; one that begins with a null byte is in Linux's abstract namespace.

    Raises ``ValueError`` for an empty path and for any other null byte, ``NotImplementedError``
    where there are no such sockets (Windows).
    """

    path: str

    def __post_init__(self) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise NotImplementedError("there are no UNIX sockets on this platform")
        if not self.path or "\0" in self.path[1:]:
            # the system would end the name at the null byte, and connect to another socket
            raise ValueError(f"not the path of a UNIX socket: {self.path!r}")

    def __str__(self) -> str:
        return f"unix:{self.path}"

    async def __call__(
        self,
        factory: Callable[[], Any],
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        """Connect, with TLS inside if the endpoint has a context."""
        phase = "connect"
        loop = asyncio.get_running_loop()

        def make() -> Any:
            nonlocal phase
            phase = "factory"
            try:
                protocol = factory()
            except BaseException:
                sock.close()  # no transport is there to do it
                raise
            phase = "connect" if endpoint.tls is None else "tls"
            return protocol

        name = None
        if endpoint.tls is not None:
            name = endpoint.server_hostname or endpoint.host
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            async with asyncio.timeout_at(deadline):
                try:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, self.path)
                except BaseException:
                    sock.close()
                    raise
                return await loop.create_unix_connection(
                    make, sock=sock, ssl=endpoint.tls, server_hostname=name
                )
        except OSError as error:
            if phase == "factory" or isinstance(error, EndpointError):
                raise  # the caller's own
            if isinstance(error, TimeoutError) and error.errno is None:
                raise EndpointTimeoutError(
                    "the deadline passed", host=self.path, port=None, phase=phase
                ) from error
            raise endpoint_error(error, host=self.path, port=None, phase=phase) from error

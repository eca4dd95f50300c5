"""Connecting by name: resolve, race the addresses, do TLS, all under one deadline.

Owns: the order of the phases and the typed error of each.  May not touch: descriptors.
Invariant: when ``connect`` raises, in whatever phase and for whatever reason, cancellation
included, nothing of the attempt is left open.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from reactor.core import Reactor
from reactor.errors import EndpointError, EndpointTimeoutError, endpoint_error
from reactor.resolver import AddressInfo, Resolver, race
from reactor.transports.tcp import Connector
from reactor.transports.tls import TLSProtocol
from reactor.transports.tls_sessions import Resumption, resumption

__all__ = ["check_endpoint", "connect", "secure"]

ProtocolT = TypeVar("ProtocolT")


async def connect(
    factory: Callable[[], ProtocolT],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    local_address: tuple[str, int] | None = None,
    family: int = 0,
    deadline: float | None = None,
    resolver: Resolver | None = None,
) -> tuple[Any, ProtocolT]:
    """Connect to an endpoint and return ``(transport, protocol)``.

    Args:
        factory: makes the protocol, once, when the connection stands.
        host: a name or a numeric address.
        port: 1 to 65535.
        tls: the context of a TLS connection, or ``None`` for plain TCP.
        server_hostname: the name to verify and to send as SNI; by default *host*.
        local_address: the address and port to connect from.
        family: ``socket.AF_INET`` or ``AF_INET6`` to have only that one.
        deadline: when to give up, on the loop's clock in seconds.
        resolver: who turns names into addresses; by default the loop's own.

    Raises the ``EndpointError`` of the phase in which it failed; ``ValueError`` and
    ``TypeError`` at once for a bad host or port.  Must run on a ``reactor`` event loop.
    """
    check_endpoint(host, port)
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Reactor):
        raise RuntimeError(f"connect needs a reactor event loop, not {loop!r}")
    phase = "resolve"
    if resolver is None:
        resolver = loop.resolver
    try:
        async with asyncio.timeout_at(deadline):
            infos = await resolver.resolve(host, port, family)
            phase = "connect"

            def start(info: AddressInfo) -> Connector:
                connector = Connector(
                    loop, info.family, info.kind, info.protocol, info.address, local_address
                )
                connector.start()
                return connector

            connector = await race(infos, start, note=resolver.note)
            try:
                phase = "factory"
                protocol = factory()
                if tls is None:
                    return connector.transport(protocol), protocol
                phase = "tls"
                name = server_hostname or host
                session = resumption(loop, host, port, tls, name)
                return await _secure(loop, connector, protocol, tls, name, session)
            finally:
                connector.close()
    except OSError as error:
        if phase == "factory":
            raise  # the caller's own
        if isinstance(error, EndpointError):
            raise
        if isinstance(error, TimeoutError):
            reason = "the deadline passed" if error.errno is None else str(error.strerror)
            raise EndpointTimeoutError(reason, host=host, port=port, phase=phase) from error
        raise endpoint_error(error, host=host, port=port, phase=phase) from error


async def _secure(
    loop: Reactor,
    connector: Connector,
    protocol: ProtocolT,
    tls: ssl.SSLContext,
    server_hostname: str,
    session: Resumption | None,
) -> tuple[Any, ProtocolT]:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    layer = TLSProtocol(
        loop, protocol, tls, server_hostname=server_hostname, session=session, waiter=ready
    )
    raw = connector.transport(layer)
    try:
        await ready
    except BaseException:
        raw.abort()
        raise
    return layer.app_transport, protocol


async def secure(
    transport: Any,
    protocol: ProtocolT,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext,
    server_hostname: str | None = None,
    deadline: float | None = None,
) -> tuple[Any, ProtocolT]:
    """Put TLS on a connection that leads to an endpoint by another way than ``connect``'s.

    Such as a proxy's tunnel, which may have TLS of its own.  As on a connection of
    ``connect``'s, an end without close_notify is an error.

    *transport* is one of this loop's, connected; its protocol gets no more call-backs.  The
    ``connection_made`` of *protocol* is called when the handshake is over.  *host* and *port* are
    the endpoint's, for errors, and to be verified unless there is a *server_hostname*; the others
    are as for ``connect``.

    Returns the new transport and the protocol.  Raises an ``EndpointError`` of the phase "tls",
    after which *transport* is aborted.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Reactor):
        raise RuntimeError(f"secure needs a reactor event loop, not {loop!r}")
    ready: asyncio.Future[None] = loop.create_future()
    try:
        async with asyncio.timeout_at(deadline):
            name = server_hostname or host
            session = resumption(loop, host, port, tls, name, within=True)
            layer = TLSProtocol(
                loop, protocol, tls, server_hostname=name, session=session, waiter=ready
            )
            transport.set_protocol(layer)
            layer.connection_made(transport)
            transport.resume_reading()
            await ready
    except BaseException as error:
        transport.abort()
        if not isinstance(error, OSError) or isinstance(error, EndpointError):
            raise
        if isinstance(error, TimeoutError) and error.errno is None:
            raise EndpointTimeoutError(
                "the deadline passed", host=host, port=port, phase="tls"
            ) from error
        raise endpoint_error(error, host=host, port=port, phase="tls") from error
    return layer.app_transport, protocol


def check_endpoint(host: str, port: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what is not a host or not a port."""
    if not isinstance(host, str):
        raise TypeError(f"a host is a str, not {type(host).__name__}")
    if not host or "\0" in host:
        raise ValueError(f"not a host: {host!r}")
    if not isinstance(port, int):
        raise TypeError(f"a port is an int, not {type(port).__name__}")
    if not 1 <= port <= 65535:
        raise ValueError(f"a port is 1 to 65535, not {port}")

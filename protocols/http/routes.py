"""Routes: how a connection gets to an origin: straight, by a UNIX socket, or through a proxy.

Owns: the openers of connections (``reactor.Endpoint.opener``) and the choice among them.  May
not touch: requests and pools.
Invariant: an endpoint holds everything that changes the way: the proxy, its credentials, the
context of its TLS; so no connection is taken for one that leads there in another way.

    to            through            the connection                      carries
    http          an HTTP proxy      to the proxy, for all origins       absolute-form
    https         an HTTP proxy      a tunnel (CONNECT), TLS inside      origin-form
    both          a SOCKS5 proxy     to the origin, by the proxy         origin-form
    both          a UNIX socket      to who listens there                origin-form
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from protocols.http.dialogue import Dialogue, open_tunnel, socks_connect
from protocols.http.errors import ProxyAuthenticationError
from protocols.http.limits import MAX_AUTH_ANSWERS, PREPARED_REQUESTS
from protocols.http.proxies import Proxies, Proxy
from protocols.http.timeouts import PHASES
from protocols.http.url import URL
from reactor import (
    Endpoint,
    EndpointTimeoutError,
    Resolver,
    UnixOpener,
    connect,
    secure,
    shared_client_context,
)

__all__ = ["Forward", "Opener", "Routes", "SocksOpener", "TunnelOpener"]

Factory = Callable[[], Any]
Opener = Callable[[Factory, Endpoint, float | None, Resolver | None], Awaitable[tuple[Any, Any]]]


class _Straight:
    """Opens a connection to the endpoint itself, and tells in which phase that is."""

    def __str__(self) -> str:
        return ""

    async def __call__(
        self,
        factory: Factory,
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        phases = PHASES.get()
        if phases is not None:
            phases.enter("connect")
            if endpoint.tls is not None:
                factory = phases.before("tls", factory)
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


STRAIGHT: Final = _Straight()


@dataclass(frozen=True)
class _Unix(UnixOpener):
    """Opens a connection to a UNIX socket, and tells in which phase that is."""

    def __str__(self) -> str:
        return f"unix:{self.path}"

    async def __call__(
        self,
        factory: Factory,
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        phases = PHASES.get()
        if phases is not None:
            phases.enter("connect")
            if endpoint.tls is not None:
                factory = phases.before("tls", factory)
        return await UnixOpener.__call__(self, factory, endpoint, deadline, resolver)


@dataclass(frozen=True)
class _ByProxy:
    """What the openers have in common: the connection to the proxy."""

    proxy: Proxy

    def __str__(self) -> str:
        return str(self.proxy)

    async def _reach(
        self, factory: Factory, deadline: float | None, resolver: Resolver | None
    ) -> tuple[Any, Any]:
        proxy = self.proxy
        phases = PHASES.get()
        if phases is not None:
            phases.enter("connect")
        tls = None
        if proxy.scheme == "https":
            tls = shared_client_context(("http/1.1",)) if proxy.tls is None else proxy.tls
        return await connect(
            factory, proxy.host, proxy.port, tls=tls, deadline=deadline, resolver=resolver
        )

    async def _talked(
        self,
        say: Callable[[Dialogue], Any],
        deadline: float | None,
        resolver: Resolver | None,
    ) -> Any:
        """Connect to the proxy, say what there is to say, and return the transport."""
        _, talk = await self._reach(lambda: Dialogue(self.proxy), deadline, resolver)
        transport = talk.transport
        try:
            async with asyncio.timeout_at(deadline) as scope:
                await say(talk)
            return talk.hand_over()
        except BaseException as error:
            if transport is not None:
                transport.abort()
            if isinstance(error, TimeoutError) and scope.expired():
                raise EndpointTimeoutError(
                    "the deadline passed",
                    host=self.proxy.host, port=self.proxy.port, phase="connect",
                ) from error  # fmt: skip
            raise

    async def _handed_over(
        self, transport: Any, factory: Factory, endpoint: Endpoint, deadline: float | None
    ) -> tuple[Any, Any]:
        """Give a connection that leads to the origin to the protocol, with TLS if there is to be.

        Whatever is raised, nothing is left open.
        """
        phases = PHASES.get()
        try:
            if phases is not None and endpoint.tls is not None:
                phases.enter("tls")
            protocol = factory()
            if endpoint.tls is None:
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
                return transport, protocol
        except BaseException:
            transport.abort()
            raise
        return await secure(
            transport,
            protocol,
            endpoint.host,
            endpoint.port,
            tls=endpoint.tls,
            server_hostname=endpoint.server_hostname,
            deadline=deadline,
        )


@dataclass(frozen=True)
class Forward(_ByProxy):
    """Opens a connection to an HTTP proxy, which is told with each request where it goes."""

    async def __call__(
        self,
        factory: Factory,
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        """Connect to the proxy."""
        return await self._reach(factory, deadline, resolver)


@dataclass(frozen=True)
class TunnelOpener(_ByProxy):
    """Opens a tunnel through an HTTP proxy."""

    async def __call__(
        self,
        factory: Factory,
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        """Have the proxy connect, answering its challenges; then TLS inside."""
        auth, url = self.proxy.auth, self.proxy.url
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        authority = f"{host}:{endpoint.port}"
        value = None
        if auth is not None:
            value = auth.headers_for("CONNECT", url, target=authority, body=b"")
        answers = 0
        while True:
            try:
                transport = await self._talked(
                    lambda talk, sent=value: open_tunnel(talk, authority, sent),  # type: ignore[misc]
                    deadline,
                    resolver,
                )
                break
            except ProxyAuthenticationError as error:
                answer = None
                if auth is not None and answers < MAX_AUTH_ANSWERS:
                    answer = auth.answer(
                        "CONNECT", url, error.challenges, b"", target=authority, sent=value
                    )
                elif auth is not None:
                    auth.learn(url, error.challenges, b"", sent=value)
                if answer is None:
                    raise
                value = answer
                answers += 1
        return await self._handed_over(transport, factory, endpoint, deadline)


@dataclass(frozen=True)
class SocksOpener(_ByProxy):
    """Opens a connection through a SOCKS5 proxy; for ``socks5`` names are resolved here."""

    async def __call__(
        self,
        factory: Factory,
        endpoint: Endpoint,
        deadline: float | None,
        resolver: Resolver | None,
    ) -> tuple[Any, Any]:
        """Have the proxy connect, to an address or to a name."""
        kind, address = await self._address(endpoint, deadline, resolver)
        transport = await self._talked(
            lambda talk: socks_connect(talk, kind, address, endpoint.port), deadline, resolver
        )
        return await self._handed_over(transport, factory, endpoint, deadline)

    async def _address(
        self, endpoint: Endpoint, deadline: float | None, resolver: Resolver | None
    ) -> tuple[int, bytes]:
        """Return what the proxy is told of the origin: the kind of an address, and it."""
        host = endpoint.host
        try:
            return _packed(host)
        except ValueError:
            pass
        if self.proxy.scheme == "socks5h":
            return 3, host.encode("ascii")
        phases = PHASES.get()
        if phases is not None:
            phases.enter("connect")
        if resolver is None:
            loop: Any = asyncio.get_running_loop()
            resolver = loop.resolver
        try:
            async with asyncio.timeout_at(deadline):
                infos = await resolver.resolve(host, endpoint.port)
        except TimeoutError as error:
            raise EndpointTimeoutError(
                "the deadline passed", host=host, port=endpoint.port, phase="resolve"
            ) from error
        # the proxy tries one address; most that it cannot reach are IPv6
        addresses = sorted((_packed(info.address[0]) for info in infos), key=lambda each: each[0])
        return addresses[0]


def _packed(host: str) -> tuple[int, bytes]:
    address = ipaddress.ip_address(host)
    return (1 if address.version == 4 else 4), address.packed


class Routes:
    """How a client's connections get to where its requests go.

    Args:
        proxies: those of the client.
        uds: the path of a UNIX socket, which answers for all hosts; or None.
        tls: the client's own context, or None for the shared one.
        transport: an opener in place of all others, or None.
    """

    def __init__(
        self,
        proxies: Proxies,
        uds: str | None,
        tls: ssl.SSLContext | None,
        transport: Opener | None = None,
    ) -> None:
        self.proxies = proxies
        self._transport = transport
        self._uds = None if uds is None else _Unix(uds)
        self._tls = tls
        self._bare: ssl.SSLContext | None = None
        # where nothing stands in between, and the network is not replaced
        self._is_straight = not proxies and uds is None and transport is None
        self._known: dict[tuple[str, str, int], Endpoint] = {}

    def endpoint(self, url: URL, *, bare: bool = False) -> Endpoint:
        """Return where a request goes.

        Args:
            url: the request's.
            bare: without the client's certificate, as after a redirect to another origin.
        """
        if self._is_straight:
            tls = self._context(bare) if url.scheme == "https" else None
            known = self._known.get(url.origin)
            if known is not None and known.tls is tls:
                return known
            if len(self._known) >= PREPARED_REQUESTS:
                self._known.clear()
            known = self._known[url.origin] = Endpoint(*url.origin, tls, opener=STRAIGHT)
            return known
        if self._transport is not None:
            return Endpoint(url.scheme, url.host, url.port, opener=self._transport)
        tls = None
        if url.scheme == "https":
            tls = self._context(bare)
        if self._uds is not None:
            return Endpoint(url.scheme, url.host, url.port, tls, opener=self._uds)
        proxy = self.proxies.proxy_for(url)
        if proxy is None:
            return Endpoint(url.scheme, url.host, url.port, tls, opener=STRAIGHT)
        opener: Any
        if proxy.is_socks:
            opener = SocksOpener(proxy)
        elif url.scheme == "https":
            opener = TunnelOpener(proxy)
        else:
            return Endpoint("http-proxy", proxy.host, proxy.port, opener=Forward(proxy))
        return Endpoint(url.scheme, url.host, url.port, tls, opener=opener)

    def _context(self, bare: bool) -> ssl.SSLContext:
        if self._tls is None:
            return shared_client_context(("http/1.1",))
        if not bare:
            return self._tls
        if self._bare is None:
            self._bare = without_certificate(self._tls)
        return self._bare


def without_certificate(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return a context that trusts as *context* does and shows no certificate of its own.

    There is no way to ask a context whether it has one, nor to take it away.  Roots that are
    looked up in a directory when they are needed are not among those that it tells; so the
    system's directory is added where *context* tells none at all.
    """
    bare = type(context)(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False  # or the mode cannot be set
    bare.verify_mode = context.verify_mode
    bare.check_hostname = context.check_hostname
    bare.options = context.options
    bare.verify_flags = context.verify_flags
    bare.minimum_version = context.minimum_version
    bare.maximum_version = context.maximum_version
    ciphers = [each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"]
    if ciphers:
        bare.set_ciphers(":".join([*ciphers, f"@SECLEVEL={context.security_level}"]))
    roots = context.get_ca_certs(binary_form=True)
    if roots:
        bare.load_verify_locations(cadata=b"".join(roots))
    elif context.verify_mode is not ssl.CERT_NONE:
        bare.load_default_certs()
    bare.set_alpn_protocols(["http/1.1"])
    return bare

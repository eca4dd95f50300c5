"""Proxies: which one a request goes through, and what is known about it.

Owns: the reading of a proxy's URL, of ``NO_PROXY`` and of the environment's other variables.
May not touch: connections (``protocols.http.routes`` opens them).
Invariant: two equal proxies get the same credentials and headers in the same way, so that a
connection through one is as good as through the other; no credentials are in a ``repr``.

The environment is read as curl reads it:

    http_proxy, HTTP_PROXY      for http; the upper-case one not in a CGI program, where a client
                                sets it with a header "Proxy:" (CVE-2016-5385)
    https_proxy, HTTPS_PROXY    for https
    all_proxy, ALL_PROXY        for what the others leave
    no_proxy, NO_PROXY          names, with all below them, addresses and networks, each
                                maybe with a port, between commas or spaces; "*" for all

Lower case wins; an empty variable is one that is not set.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from protocols.http.auth import Auth, AuthSource, coerce_auth
from protocols.http.errors import InvalidHeader, InvalidURL
from protocols.http.headers import Headers
from protocols.http.request import HeaderSource
from protocols.http.url import URL

__all__ = ["NoProxy", "Proxies", "Proxy", "ProxySource"]

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_HAS_PORT = re.compile(r":[0-9]+/?\Z")


class Proxy:
    """A proxy server; immutable and hashable.

    Args:
        url: ``http://``, ``https://``, ``socks5://`` (names are resolved here) or ``socks5h://``
            (by the proxy); without a scheme it is http.  User information in it is what the
            proxy gets for Basic, or as RFC 1929 has it.
        auth: in place of that: a (user, password) tuple, or for an HTTP proxy any ``Auth``.
        headers: sent to an HTTP proxy, with CONNECT or with each request for http.
        tls: the ``ssl.SSLContext`` for an https proxy; by default one that verifies.

    Raises ``InvalidURL``, ``InvalidHeader``, ``TypeError`` before any I/O.

    Attributes:
        scheme, host, port: as the URL has them.
        url: without the user information, to which an ``Auth`` is bound.
    """

    __slots__ = ("_key", "auth", "headers", "host", "login", "port", "scheme", "tls", "url")

    def __init__(
        self,
        url: str | URL,
        *,
        auth: AuthSource | None = None,
        headers: HeaderSource | Headers | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        text = str(url) if "://" in str(url) else f"http://{url}"
        scheme, _, rest = text.partition("://")
        self.scheme = scheme.lower()
        if self.scheme not in _PORTS:
            raise InvalidURL("scheme", f"a proxy is {', '.join(_PORTS)}, not {scheme[:40]!r}")
        parsed = URL(f"{'https' if self.scheme == 'https' else 'http'}://{rest}")
        if parsed.target != "/":
            raise InvalidURL("path", "the URL of a proxy has none")
        self.host = parsed.host
        self.port = parsed.port if _HAS_PORT.search(rest) else _PORTS[self.scheme]
        bare = f"[{self.host}]" if ":" in self.host else self.host
        self.url = URL(f"{parsed.scheme}://{bare}:{self.port}")
        self.headers = Headers(headers)
        if "Proxy-Authorization" in self.headers:
            raise InvalidHeader("Proxy-Authorization", "for a proxy's credentials there is auth")
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls is an ssl.SSLContext, not {type(tls).__name__}")
        self.tls = tls
        self.login: tuple[bytes, bytes] | None = None
        given: object = auth
        if auth is None and parsed.userinfo:
            user, _, password = parsed.userinfo.partition(":")
            auth = given = (unquote_to_bytes(user), unquote_to_bytes(password))
        self.auth: Auth | None
        if self.is_socks:
            self.auth = None
            if isinstance(auth, Auth):
                raise TypeError("a SOCKS proxy takes a (user, password) tuple")
            if auth is not None:
                coerce_auth(auth)
                self.login = (_octets(auth[0]), _octets(auth[1]))
                for part in self.login:
                    if not 1 <= len(part) <= 255:
                        raise InvalidHeader("user or password", "1 to 255 bytes (RFC 1929)")
        else:
            self.auth = coerce_auth(auth)
        secret: object = id(self.auth) if isinstance(given, Auth) else given
        self._key = (
            self.scheme, self.host, self.port, secret, tuple(self.headers.raw), id(self.tls)
        )  # fmt: skip

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5 (RFC 1928), not HTTP."""
        return self.scheme.startswith("socks")

    def with_auth(self, auth: Auth) -> Proxy:
        """Return the same proxy with other credentials."""
        named = f"{self.scheme}://{self.url.authority}"
        return Proxy(named, auth=auth, headers=self.headers, tls=self.tls)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Proxy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.url.authority}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


ProxySource = str | URL | Proxy | Mapping[str, str | URL | Proxy | None]


class NoProxy:
    """The hosts that are asked without a proxy.

    Args:
        text: what ``NO_PROXY`` holds.
    """

    def __init__(self, text: str) -> None:
        self._all = False
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        for entry in re.split(r"[\s,]+", text.strip().lower()):
            if entry:
                self._add(entry)

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._all = True
            return
        host, port = entry, None
        found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?", entry)
        if found is not None:
            host, port = found[1], int(found[2]) if found[2] else None
        address, slash, size = host.partition("/")
        address = address.removeprefix("[").removesuffix("]")
        try:
            network = ipaddress.ip_network(f"{address}{slash}{size}", strict=False)
        except ValueError:
            name = host.removeprefix("*").lstrip(".").rstrip(".")
            if name:
                self._names.add((name, port))
        else:
            self._networks.append((network, port))

    def covers(self, url: URL) -> bool:
        """Return whether a URL is asked for without a proxy."""
        if self._all:
            return True
        if self._networks:
            try:
                address = ipaddress.ip_address(url.host)
            except ValueError:
                pass
            else:
                return any(
                    address in network and port in (None, url.port)
                    for network, port in self._networks
                )
        if not self._names:
            return False
        labels = url.host.removesuffix(".").split(".")
        return any(
            (name, port) in self._names
            for name in (".".join(labels[at:]) for at in range(len(labels)))
            for port in (None, url.port)
        )


class Proxies:
    """The proxies of a client.

    Args:
        source: one for all, or by scheme: ``{"http": ..., "https": ..., "all": ...}``, where
            None means none.  httpx's ``"http://"`` is read as ``"http"``.
        environment: what is asked where *source* is None; None to ask nothing.
    """

    def __init__(self, source: ProxySource | None, environment: Mapping[str, str] | None) -> None:
        self._by_scheme: dict[str, Proxy | None] = {}
        self._exempt = NoProxy("")
        if isinstance(source, Mapping):
            for key, value in source.items():
                scheme = key.removesuffix("://")
                if scheme not in ("http", "https", "all"):
                    raise ValueError(f"proxies are for http, https or all, not {key!r}")
                self._by_scheme[scheme] = None if value is None else _proxy(value)
        elif source is not None:
            self._by_scheme["all"] = _proxy(source)
        elif environment is not None:
            self._read(environment)

    def _read(self, environment: Mapping[str, str]) -> None:
        for scheme in ("http", "https", "all"):
            value = environment.get(f"{scheme}_proxy", "").strip()
            if not value and not (scheme == "http" and "REQUEST_METHOD" in environment):
                value = environment.get(f"{scheme}_proxy".upper(), "").strip()
            if value:
                self._by_scheme[scheme] = Proxy(value)
        exempt = environment.get("no_proxy", "") or environment.get("NO_PROXY", "")
        self._exempt = NoProxy(exempt)

    def proxy_for(self, url: URL) -> Proxy | None:
        """Return the proxy for a URL, None for none."""
        found = self._by_scheme.get(url.scheme, self._by_scheme.get("all"))
        return None if found is None or self._exempt.covers(url) else found

    def replace(self, old: Proxy, new: Proxy) -> None:
        """Have *new* in the place of *old* from now on."""
        for scheme, proxy in self._by_scheme.items():
            if proxy == old:
                self._by_scheme[scheme] = new

    def __bool__(self) -> bool:
        return any(proxy is not None for proxy in self._by_scheme.values())


def _proxy(source: str | URL | Proxy) -> Proxy:
    return source if isinstance(source, Proxy) else Proxy(source)


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text

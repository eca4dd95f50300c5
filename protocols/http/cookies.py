"""The cookie jar: what servers asked to be sent back, and to whom that is done.

Owns: stored cookies (draft-ietf-httpbis-rfc6265bis sections 5.7 and 5.8, called RFC 6265bis
here).  Touches: a file, in `CookieJar.save` and `CookieJar.load` (``cookie_file``); nothing
else.  May not touch: requests; the client asks `CookieJar.header_for` for each hop.
Invariant: a `Cookie` is legal or does not exist, so a header is joined without a check.

Where the draft leaves a choice, the safe one:

    Domain              A public suffix is refused, or means the host itself where that is the
                        suffix.  Without a list of public suffixes (``publicsuffixlist``, or
                        the jar's argument) nobody knows where a site ends, so no cookie that
                        a server sets goes to another host than that server.
    a caller's cookie   set without a domain goes to one origin (scheme, host and port): the
                        first that the jar is asked for.  httpx and requests send it to all.
    secure              means https, on loopback too
    a long header       cookies that do not fit into the limit are left out, the last first
    hosts with a dot    "example.com." and "example.com" are two hosts, and a Domain that ends
                        in a dot is refused
    SameSite            is kept, not applied: there are no sites here, every request is the
                        caller's own.  "None" without Secure is refused, as in the draft.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar, overload

from protocols.http.cookie import Cookie, canonical_host
from protocols.http.cookie_file import CookieFileError, read_records, write_records
from protocols.http.errors import HTTPError, InvalidURL
from protocols.http.headers import Headers
from protocols.http.limits import (
    COOKIE_HOSTS_INDEXED,
    COOKIES_KEPT,
    COOKIES_KEPT_PER_DOMAIN,
    COOKIES_STEADY_SECONDS,
    MAX_COOKIE_AGE_SECONDS,
    MAX_COOKIE_ATTRIBUTE_BYTES,
    MAX_COOKIE_HEADER_BYTES,
    MAX_COOKIES,
    MAX_COOKIES_PER_DOMAIN,
)
from protocols.http.set_cookie import (
    SetCookie,
    default_path,
    domain_matches,
    has_prefix,
    installed_public_suffixes,
    is_address,
    parse_set_cookie,
    path_matches,
)
from protocols.http.url import URL
from reactor.locks import Mutex, synchronized

__all__ = [
    "Cookie",
    "CookieConflictError",
    "CookieFileError",
    "CookieJar",
    "CookieSource",
    "NoCookies",
]

_Default = TypeVar("_Default")
_Key = tuple[str, str, bool]

_ROOM: Final = MAX_COOKIE_HEADER_BYTES - len("Cookie: ")


class CookieConflictError(HTTPError, LookupError):
    """Several cookies have the name that was asked for; name the domain or path too."""


CookieSource = Mapping[str, str] | Iterable[tuple[str, str] | Cookie]


class _Entry:
    """A cookie in a jar; times are the jar's clock."""

    __slots__ = ("accessed", "cookie", "created", "serial", "text")

    def __init__(self, cookie: Cookie, created: float, accessed: float, serial: int) -> None:
        self.created = created
        self.accessed = accessed
        # Of two cookies with one creation time this says which came first.
        self.serial = serial
        self.fill(cookie)

    def fill(self, cookie: Cookie) -> None:
        self.cookie = cookie
        self.text = f"{cookie.name}={cookie.value}" if cookie.name else cookie.value

    def is_changed_by(self, cookie: Cookie) -> bool:
        """Return whether *cookie* in its place makes a difference before it would expire."""
        old = self.cookie
        if (old.value, old.secure, old.origin) != (cookie.value, cookie.secure, cookie.origin):
            return True
        return cookie.expires is not None and (old.expires is None or cookie.expires < old.expires)

    def is_expired(self, now: float) -> bool:
        expires = self.cookie.expires
        return expires is not None and expires <= now


class CookieJar:
    """Cookies with their scope, for one client or several; any thread may call it.

    Args:
        cookies: what to begin with: a mapping, (name, value) pairs, `Cookie` objects, or
            another jar, whose cookies are copied.  Pairs are set without a domain (see `set`).
        public_suffix: tells whether a domain (lower case, A-labels) is a public suffix; by
            default the list of the package ``publicsuffixlist``, where that is installed.
        clock: seconds since 1970.

    Iteration gives `Cookie` objects, the oldest first, and ``len`` counts them;
    ``jar["name"]``, ``"name" in jar`` and ``dict(jar)`` are about names and values.  Cookies
    that have expired are in none of them.
    """

    def __init__(
        self,
        cookies: CookieSource | None = None,
        *,
        public_suffix: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._public_suffix = public_suffix
        self._clock = clock
        self._lock = Mutex()
        self._serial = 0
        # By domain, in the order in which they came.
        self._domains: dict[str, dict[_Key, _Entry]] = {}
        # Secure ones again, by name: what plain http must not lay a cookie over.
        self._secure: dict[str, list[_Entry]] = {}
        self._count = 0
        # What a caller set without a domain, until there is an origin for it.
        self._unbound: dict[_Key, _Entry] = {}
        # By host: what may concern it, in the order of the header; and the hosts which nothing
        # concerns.  Both are emptied when the set of cookies changes, and never filled while
        # there is an unbound cookie: so the second can be read without the lock.
        self._index: dict[str, list[_Entry]] = {}
        self._barren: set[str] = set()
        # One object, and another one after each change of what goes to anybody.
        self._state: list[object] = [object()]
        if cookies is not None:
            self._add_all(cookies)

    def _add_all(self, cookies: CookieSource) -> None:
        if isinstance(cookies, str | bytes):
            raise TypeError(f"cookies are a mapping or pairs, not {type(cookies).__name__}")
        source = cookies.items() if isinstance(cookies, Mapping) else cookies
        for item in source:
            cookie = item if isinstance(item, Cookie) else Cookie(name=item[0], value=item[1])
            self._add(cookie)

    @synchronized("_lock")
    def _add(self, cookie: Cookie) -> None:
        self._put(cookie, self._clock())

    # -- requests and responses --------------------------------------------------------

    def header_for(self, url: URL, also: CookieJar | None = None) -> str | None:
        """Return the value of the Cookie field of a request to *url*, None where there is none.

        Longest path first, then earliest creation (RFC 6265bis section 5.8.3).

        Args:
            url: of this hop: ask again after a redirect.
            also: the cookies of this request alone; they take the place of those of the same
                name, and are bound to an origin by the first of its hops.

        Raises ``InvalidHeader`` where a cookie without a domain cannot be bound to the origin
        of *url*: a ``__Host-`` or ``__Secure-`` cookie to http.
        """
        if also is None:
            if url.host in self._barren:
                return None
            entries = self._select(url)
        else:
            extra = also._select(url)
            names = {entry.cookie.name for entry in extra}
            entries = [e for e in self._select(url) if e.cookie.name not in names] + extra
        if len(entries) == 1:
            # One cookie always fits.
            return entries[0].text
        if not entries:
            return None
        room = _ROOM
        texts = []
        for entry in entries:
            room -= len(entry.text) + 2
            if room < -2:
                break
            texts.append(entry.text)
        return "; ".join(texts)

    def store(self, url: URL, headers: Headers) -> None:
        """Take the Set-Cookie fields of a response from *url*.

        What is malformed, or not this server's to set, is ignored (RFC 6265bis section 5.7).
        """
        fields = headers.get_list("set-cookie")
        if fields:
            self._receive_all(url, fields)

    @synchronized("_lock")
    def _receive_all(self, url: URL, fields: list[str]) -> None:
        now = self._clock()
        for text in fields:
            asked = parse_set_cookie(text)
            if asked is not None:
                self._receive(url, asked, now)

    @synchronized("_lock")
    def _select(self, url: URL) -> list[_Entry]:
        """Return what goes to *url* (RFC 6265bis section 5.8.3)."""
        known = self._index.get(url.host)
        if known is None:
            known = self._index_host(url)
        if not known:
            return []
        now = self._clock()
        secure = url.scheme == "https"
        path = url.path
        selected = []
        expired = []
        for entry in known:
            cookie = entry.cookie
            if cookie.secure and not secure:
                continue
            if cookie.path != "/" and not path_matches(path, cookie.path):
                continue
            if cookie.origin is not None and cookie.origin != url.origin:
                continue
            if cookie.expires is not None and cookie.expires <= now:
                expired.append(entry)
                continue
            entry.accessed = now
            selected.append(entry)
        for entry in expired:
            self._remove(entry)
        return selected

    def _index_host(self, url: URL) -> list[_Entry]:
        if self._unbound:
            self._bind(url)
        host = url.host
        found = list(self._domains.get(host, {}).values())
        if not is_address(host):
            _, dot, domain = host.partition(".")
            while dot:
                bucket = self._domains.get(domain)
                if bucket:
                    found += [entry for entry in bucket.values() if not entry.cookie.host_only]
                _, dot, domain = domain.partition(".")
        found.sort(key=lambda entry: (-len(entry.cookie.path), entry.created, entry.serial))
        if len(self._index) + len(self._barren) >= COOKIE_HOSTS_INDEXED:
            self._forget_hosts()
        if found:
            self._index[host] = found
        else:
            self._barren.add(host)
        return found

    def _forget_hosts(self) -> None:
        self._index.clear()
        self._barren.clear()
        self._state[0] = object()

    @synchronized("_lock")
    def _steady_seconds(self, url: URL) -> float:
        """Return how long `header_for` says the same of *url*, if the jar is not changed.

        No more than a second, so that it is known by and by which cookies are used.
        """
        if type(self).header_for is not CookieJar.header_for or self._clock is not time.time:
            return 0.0
        now = time.time()
        ends = now + COOKIES_STEADY_SECONDS
        for entry in self._index.get(url.host, ()):
            if entry.cookie.expires is not None:
                ends = min(ends, entry.cookie.expires)
        return max(ends - now, 0.0)

    def _bind(self, url: URL) -> None:
        """Give every unbound cookie the origin of *url*, or raise and leave all as they are."""
        secure = url.scheme == "https"
        bound = [
            (
                dataclasses.replace(
                    entry.cookie,
                    domain=url.host,
                    secure=secure or entry.cookie.secure,
                    origin=url.origin,
                ),
                entry,
            )
            for entry in self._unbound.values()
        ]
        self._unbound.clear()
        for cookie, entry in bound:
            self._put(cookie, entry.created)

    def _receive(self, url: URL, asked: SetCookie, now: float) -> None:
        """Store what a server asked for, if it may be (RFC 6265bis section 5.7)."""
        secure_origin = url.scheme == "https"
        if asked.secure and not secure_origin:
            return
        scope = self._scope(url.host, asked.domain)
        if scope is None:
            return
        domain, host_only = scope
        if has_prefix(asked.name, "__Host-") and (asked.domain or asked.path != "/"):
            return
        if not asked.secure and (has_prefix(asked.name) or asked.same_site == "None"):
            return
        path = default_path(url.path) if asked.path is None else asked.path
        # Only the default may be: one that was sent is within the limit of attributes.
        if len(path) > MAX_COOKIE_ATTRIBUTE_BYTES:
            return
        if not (asked.secure or secure_origin) and self._lies_over(asked.name, domain, path, now):
            return
        expires = None
        if asked.max_age is not None:
            expires = now + min(asked.max_age, MAX_COOKIE_AGE_SECONDS) if asked.max_age > 0 else 0
        elif asked.expires is not None:
            expires = min(asked.expires, now + MAX_COOKIE_AGE_SECONDS)
        cookie = Cookie(
            name=asked.name,
            value=asked.value,
            domain=domain,
            host_only=host_only,
            path=path,
            secure=asked.secure,
            http_only=asked.http_only,
            same_site=asked.same_site,
            expires=expires,
        )
        self._put(cookie, now)

    def _scope(self, host: str, asked: str) -> tuple[str, bool] | None:
        """Return (domain, host_only) of a cookie that *host* sets, or None where it may not."""
        if not asked:
            return host, True
        if asked == host and is_address(host):
            return host, True
        if asked.endswith(".") or not domain_matches(host, asked):
            return None
        public_suffix = self._public_suffix or installed_public_suffixes()
        if public_suffix is None:
            return host, True
        if public_suffix(asked):
            return (host, True) if asked == host else None
        return asked, False

    def _lies_over(self, name: str, domain: str, path: str, now: float) -> bool:
        """Return whether a cookie from plain http would hide a secure one.

        RFC 6265bis section 5.7 step 16: whoever is on the line can answer for http.
        """
        return any(
            (
                domain_matches(entry.cookie.domain, domain)
                or domain_matches(domain, entry.cookie.domain)
            )
            and path_matches(path, entry.cookie.path)
            and not entry.is_expired(now)
            for entry in self._secure.get(name, ())
        )

    # -- the caller --------------------------------------------------------------------

    def set(
        self,
        name: str,
        value: str,
        domain: str | None = None,
        path: str = "/",
        *,
        secure: bool = False,
        http_only: bool = False,
        same_site: str = "",
        expires: float | None = None,
    ) -> None:
        """Set a cookie, in place of one of the same name, domain and path.

        Args:
            name: latin-1, without "=", ";" and control characters.
            value: latin-1, without ";" and control characters.
            domain: a host; with a leading dot every host below it too, unless that is a
                public suffix.  Without one the cookie waits for the first URL that
                `header_for` is asked for and then goes to the origin of that alone; over
                https if that is, whatever *secure* says.
            path: the cookie goes to this path and those below it.
            secure: it goes over https only.
            http_only: kept for the caller.
            same_site: kept for the caller.
            expires: seconds since 1970; one in the past removes the cookie.

        Raises ``InvalidHeader`` and ``InvalidURL`` (``ValueError``).
        """
        host = ""
        host_only = True
        if domain:
            host_only = not domain.startswith(".")
            host = canonical_host(domain.removeprefix("."))
            if not host_only:
                public_suffix = self._public_suffix or installed_public_suffixes()
                if public_suffix is not None and public_suffix(host):
                    raise InvalidURL("host", f"{domain!r} is a public suffix")
        cookie = Cookie(
            name=name,
            value=value,
            domain=host,
            host_only=host_only,
            path=path,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
            expires=expires,
        )
        self._add(cookie)

    @overload
    def get(
        self, name: str, default: None = None, domain: str | None = None, path: str | None = None
    ) -> str | None: ...
    @overload
    def get(
        self, name: str, default: _Default, domain: str | None = None, path: str | None = None
    ) -> str | _Default: ...
    def get(
        self,
        name: str,
        default: object = None,
        domain: str | None = None,
        path: str | None = None,
    ) -> object:
        """Return the value of the cookie called *name*, or *default*.

        Raises ``CookieConflictError`` where several are meant.
        """
        found = self._find(name, domain, path)
        if len(found) > 1:
            scopes = ", ".join(f"{cookie.domain}{cookie.path}" for cookie in found[:4])
            raise CookieConflictError(f"{len(found)} cookies are called {name!r}: {scopes}")
        return found[0].value if found else default

    @synchronized("_lock")
    def delete(self, name: str, domain: str | None = None, path: str | None = None) -> None:
        """Remove every cookie called *name*, of that domain and path where they are given."""
        self._remove_matching(name, domain, path)

    @synchronized("_lock")
    def clear(self, domain: str | None = None, path: str | None = None) -> None:
        """Remove every cookie, or those of a domain, or of a path of it."""
        self._remove_matching(None, domain, path)

    def keys(self) -> list[str]:
        """Return the names, each once."""
        return list(dict.fromkeys(cookie.name for cookie in self))

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return any(cookie.name == name for cookie in self)

    def __iter__(self) -> Iterator[Cookie]:
        return iter([entry.cookie for entry in self._snapshot()])

    def __len__(self) -> int:
        return len(self._snapshot())

    def __bool__(self) -> bool:
        return len(self) > 0

    def __repr__(self) -> str:
        domains = {cookie.domain for cookie in self}
        return f"<CookieJar, {len(self)} cookies of {len(domains)} domains>"

    def _find(self, name: str, domain: str | None, path: str | None) -> list[Cookie]:
        return [cookie for cookie in self if _is_meant(cookie, name, domain, path)]

    @synchronized("_lock")
    def _snapshot(self) -> list[_Entry]:
        """Return what has not expired, the oldest first."""
        now = self._clock()
        entries = [entry for entry in self._all() if not entry.is_expired(now)]
        entries.sort(key=lambda entry: (entry.created, entry.serial))
        return entries

    # -- files -------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, session_cookies: bool = False) -> None:
        """Write the cookies to a file: JSON, for the owner alone (0600), whole or not at all.

        Cookies without an origin are left out, and so are session cookies unless asked for.
        Blocks; raises ``OSError``.
        """
        records = [
            dataclasses.asdict(entry.cookie)
            | {"created": entry.created, "accessed": entry.accessed}
            for entry in self._snapshot()
            if entry.cookie.domain and (session_cookies or entry.cookie.expires is not None)
        ]
        write_records(path, records)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Add the cookies of a file that `save` has written; those of the file take precedence.

        All are checked before one is added.  Left out are those that have expired and those
        of a domain that has become a public suffix (RFC 6265bis section 5.8.3).

        Blocks; raises ``OSError``, and ``CookieFileError`` (``ValueError``) where the file is
        not what `save` writes.
        """
        now = self._clock()
        loaded = []
        for number, record in enumerate(read_records(path), 1):
            origin = record["origin"]
            try:
                created = float(record.pop("created"))
                accessed = float(record.pop("accessed"))
                cookie = Cookie(**record | {"origin": origin and tuple(origin)})
            except ValueError as error:
                raise CookieFileError(f"cookie {number}: {error}") from None
            if not cookie.domain:
                raise CookieFileError(f"cookie {number}: it has no domain")
            if cookie.expires is not None:
                expires = min(cookie.expires, now + MAX_COOKIE_AGE_SECONDS)
                cookie = dataclasses.replace(cookie, expires=expires)
            loaded.append((cookie, min(created, now), min(accessed, now)))
        public_suffix = self._public_suffix or installed_public_suffixes()
        self._put_all(
            kept
            for kept in loaded
            if kept[0].host_only or public_suffix is None or not public_suffix(kept[0].domain)
        )

    @synchronized("_lock")
    def _put_all(self, cookies: Iterable[tuple[Cookie, float, float]]) -> None:
        for cookie, created, accessed in cookies:
            self._put(cookie, created, accessed)

    # -- storage: under the lock -------------------------------------------------------

    def _all(self) -> Iterator[_Entry]:
        for bucket in self._domains.values():
            yield from bucket.values()
        yield from self._unbound.values()

    def _put(self, cookie: Cookie, created: float, accessed: float | None = None) -> None:
        """Store a cookie, in place of one of the same scope, whose age it keeps.

        RFC 6265bis section 5.7.  One that has expired is removed instead.
        """
        now = self._clock()
        accessed = created if accessed is None else accessed
        key = cookie.name, cookie.path, cookie.host_only
        bucket = self._domains.get(cookie.domain, {}) if cookie.domain else self._unbound
        old = bucket.get(key)
        gone = cookie.expires is not None and cookie.expires <= now
        if old is not None and (gone or old.is_expired(now)):
            self._remove(old)
            old = None
        if gone:
            return
        if old is not None:
            self._forget_secure(old)
            if old.is_changed_by(cookie):
                self._state[0] = object()
            old.fill(cookie)
            old.accessed = accessed
            self._note_secure(old)
            return
        self._serial += 1
        entry = _Entry(cookie, created, accessed, self._serial)
        self._forget_hosts()
        if not cookie.domain:
            self._unbound[key] = entry
            return
        bucket = self._domains.setdefault(cookie.domain, {})
        bucket[key] = entry
        self._count += 1
        self._note_secure(entry)
        if len(bucket) > MAX_COOKIES_PER_DOMAIN:
            self._evict(list(bucket.values()), COOKIES_KEPT_PER_DOMAIN, now, secure_last=True)
        if self._count > MAX_COOKIES:
            every = [entry for bucket in self._domains.values() for entry in bucket.values()]
            self._evict(every, COOKIES_KEPT, now, secure_last=False)

    def _evict(self, entries: list[_Entry], kept: int, now: float, *, secure_last: bool) -> None:
        """Remove what has expired, then the longest unused, until *kept* are left.

        RFC 6265bis section 5.7: within one domain those that are not secure go first.
        """

        def priority(entry: _Entry) -> tuple[bool, float, int]:
            return secure_last and entry.cookie.secure, entry.accessed, entry.serial

        live = [entry for entry in entries if not entry.is_expired(now)]
        live.sort(key=priority)
        surplus = live[: max(len(live) - kept, 0)]
        for entry in [entry for entry in entries if entry.is_expired(now)] + surplus:
            self._remove(entry)

    def _remove(self, entry: _Entry) -> None:
        cookie = entry.cookie
        key = cookie.name, cookie.path, cookie.host_only
        self._forget_hosts()
        if not cookie.domain:
            del self._unbound[key]
            return
        bucket = self._domains[cookie.domain]
        del bucket[key]
        if not bucket:
            del self._domains[cookie.domain]
        self._count -= 1
        self._forget_secure(entry)

    def _remove_matching(self, name: str | None, domain: str | None, path: str | None) -> None:
        for entry in list(self._all()):
            if _is_meant(entry.cookie, name, domain, path):
                self._remove(entry)

    def _note_secure(self, entry: _Entry) -> None:
        if entry.cookie.secure:
            self._secure.setdefault(entry.cookie.name, []).append(entry)

    def _forget_secure(self, entry: _Entry) -> None:
        if entry.cookie.secure:
            entries = self._secure[entry.cookie.name]
            entries.remove(entry)
            if not entries:
                del self._secure[entry.cookie.name]


class NoCookies(CookieJar):
    """A jar that takes and gives nothing: for a client whose caller deals with cookies."""

    def header_for(self, url: URL, also: CookieJar | None = None) -> str | None:
        """Return ``None``: no cookie."""
        return None

    def _steady_seconds(self, url: URL) -> float:
        return COOKIES_STEADY_SECONDS if type(self) is NoCookies else 0.0

    def store(self, url: URL, headers: Headers) -> None:
        """Forget what a server sets."""


def _is_meant(cookie: Cookie, name: str | None, domain: str | None, path: str | None) -> bool:
    return (
        (name is None or cookie.name == name)
        and (domain is None or cookie.domain == domain.removeprefix(".").lower())
        and (path is None or cookie.path == path)
    )

"""Authentication: which credentials a request carries, and what answers a challenge.

Owns: the credentials and, for Digest, the state of a nonce.  Touches: a file, when a
`NetrcAuth` is made; nothing else.  May not touch: requests; the client asks.
Invariant: credentials go to one origin (scheme, host and port), the first for which they are
asked; any other gets None.  They are in no ``repr`` and in no message of an error.

How a client asks, for each request (and each hop of it) and its response:

    value = auth.headers_for(method, url)           Authorization, or none
    ... 401 ...
    value = auth.answer(method, url, parse_challenges(fields), sent=value)
    ... again, until that is None or the client has had enough, which calls
    auth.learn(url, parse_challenges(fields), sent=value)

as it does where the request cannot be sent again, so that the next one is not refused.
For a proxy it is the same with 407, Proxy-Authorization and Proxy-Authenticate, the proxy's
URL, and ``target`` as the proxy gets it.

Authentication-Info (RFC 7616 section 3.5) is ignored: its nextnonce serializes requests.
"""

from __future__ import annotations

import dataclasses
import netrc
import os
import re
import secrets
import stat
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from protocols.http.challenges import Challenge, parse_challenges
from protocols.http.digest import Digest, digest_credentials, read_digest
from protocols.http.errors import HTTPError, InvalidHeader
from protocols.http.limits import MAX_LEARNT_NONCES
from protocols.http.url import URL
from reactor.locks import Mutex, synchronized

__all__ = [
    "Auth",
    "AuthSource",
    "BasicAuth",
    "BearerAuth",
    "Challenge",
    "DigestAuth",
    "NetrcAuth",
    "NetrcError",
    "PasswordAuth",
    "basic_credentials",
    "coerce_auth",
    "is_constant",
    "parse_challenges",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BEARER = re.compile(r"[\x21-\x7e]+")
_LARGEST_COUNT = 0xFFFFFFFF


class Auth:
    """What a request authenticates with; the base of the others, and of a user's own.

    A subclass overrides `headers_for`, `answer` or both, and returns None wherever `bind` does
    not hold; `learn` where challenges bear on requests to come.  Several requests, in several
    threads, may use one object at once.
    """

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return the value of Authorization to send with a request at once, or None.

        Args:
            method: as it is sent.
            url: whom the credentials are for: the request's URL, or the proxy's.
            target: the request target, where it is not that of *url*.
            body: the whole body, ``b""`` for none, None where it is not known in advance.
        """
        return None

    def answer(
        self,
        method: str,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        target: str | None = None,
        sent: str | None = None,
    ) -> str | None:
        """Return the value of Authorization to try after a 401 or a 407, None to give up.

        Args:
            method: as for `headers_for`, and so are *url*, *body* and *target*.
            url: as for `headers_for`.
            challenges: those of the response.
            body: as for `headers_for`.
            target: as for `headers_for`.
            sent: the value that was refused, if there was one.

        A client bounds how often it asks for one request.
        """
        return None

    def learn(
        self,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        sent: str | None = None,
    ) -> None:
        """Note challenges, for requests to come, of a request that is not sent again.

        Arguments as for `answer`.
        """

    def bind(self, url: URL) -> bool:
        """Bind the credentials to the origin of *url* unless they are bound; tell if to that."""
        # One call that no other thread can come between.
        asked = url.origin
        origin: object = self.__dict__.setdefault("_origin", asked)
        return origin == asked

    def __repr__(self) -> str:
        origin = self.__dict__.get("_origin")
        where = "no origin yet" if origin is None else "{}://{}:{}".format(*origin)
        return f"<{type(self).__name__} for {where}>"


AuthSource = Auth | tuple[str | bytes, str | bytes]


def coerce_auth(value: AuthSource | None) -> Auth | None:
    """Return *value* as an `Auth`: a (user, password) tuple is Basic; None stays None.

    Raises ``TypeError`` for anything else, ``InvalidHeader`` as `BasicAuth` does.
    """
    if value is None or isinstance(value, Auth):
        return value
    given: object = value
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"auth is an Auth or a (user, password) tuple, not {type(given).__name__}")
    return BasicAuth(*value)


class BasicAuth(Auth):
    """User and password, sent with every request (RFC 7617), as UTF-8 where they are str.

    Raises:
        InvalidHeader: a control character in one of them, or a colon in the user.
    """

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._value = basic_credentials(user, password)

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return the credentials, whatever the request."""
        return self._value if self.bind(url) else None


class BearerAuth(Auth):
    """A token, sent with every request (RFC 6750 section 2.1).

    Raises:
        InvalidHeader: the token is empty, or not of visible ASCII characters alone.
    """

    def __init__(self, token: str) -> None:
        if not isinstance(token, str):
            raise TypeError(f"a token is str, not {type(token).__name__}")
        if not _BEARER.fullmatch(token):
            raise InvalidHeader("Authorization", "a token is of visible ASCII characters")
        self._value = f"Bearer {token}"

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return the token, whatever the request."""
        return self._value if self.bind(url) else None


class _Session:
    """The use of one nonce."""

    __slots__ = ("cnonce", "count", "digest", "qop")

    def __init__(self, digest: Digest, qop: str, cnonce: str) -> None:
        self.digest = digest
        self.qop = qop
        self.cnonce = cnonce
        self.count = 0


def is_constant(auth: Auth) -> bool:
    """Return whether what is sent to an origin is the same each time, and answers no challenge."""
    return type(auth) in (BasicAuth, BearerAuth)


class DigestAuth(Auth):
    """User and password, proven without being sent (RFC 7616).

    The first request is challenged; those after it use the same nonce, each with a count of
    its own, until the server wants another.  Of several challenges the one with the strongest
    algorithm is answered: SHA-512-256 (where OpenSSL has it), SHA-256, MD5, and their -sess
    variants; with qop auth, auth-int where the body is known, or neither (RFC 2069).

    Args:
        user: str is encoded as UTF-8.
        password: str is encoded as UTF-8.
        cnonce: makes a client nonce, of ASCII.

    Raises:
        InvalidHeader: a control character in one of them.
    """

    def __init__(
        self,
        user: str | bytes,
        password: str | bytes,
        *,
        cnonce: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        self._user, self._password = _octets("user", user), _octets("password", password)
        self._cnonce = cnonce
        self._lock = Mutex()
        self._session: _Session | None = None
        # Nonces that are not new when they are first used; the last ones, in order.
        self._learnt: dict[str, None] = {}

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return credentials for the nonce that the server gave before, None without one."""
        return self._continue(method, target or url.target, body) if self.bind(url) else None

    @synchronized("_lock")
    def _continue(self, method: str, target: str, body: bytes | None) -> str | None:
        session = self._session
        # The form of RFC 2069 has no count, so a refusal would not tell what was wrong.
        if session is None or not session.qop or session.digest.qop_for(body) is None:
            return None
        return self._credentials(session, method, target, body)

    def answer(
        self,
        method: str,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        target: str | None = None,
        sent: str | None = None,
    ) -> str | None:
        """Return credentials for the strongest challenge, None where none can be answered.

        What answered a challenge directly and was refused is not tried again, unless the nonce
        was stale even then (RFC 7616 section 3.3).
        """
        digest = _strongest(challenges, body)
        if digest is None or not self.bind(url):
            return None
        return self._begin(digest, method, target or url.target, body, sent)

    @synchronized("_lock")
    def _begin(
        self, digest: Digest, method: str, target: str, body: bytes | None, sent: str | None
    ) -> str | None:
        if sent is not None and not _may_retry(sent, digest, self._learnt):
            return None
        return self._credentials(self._take_up(digest, body, False), method, target, body)

    def learn(
        self,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        sent: str | None = None,
    ) -> None:
        """Use the nonce of the strongest challenge from the next request on."""
        digest = _strongest(challenges, body)
        if digest is not None and self.bind(url):
            self._note(digest, body)

    @synchronized("_lock")
    def _note(self, digest: Digest, body: bytes | None) -> None:
        self._take_up(digest, body, True)

    def _take_up(self, digest: Digest, body: bytes | None, is_learnt: bool) -> _Session:
        digest = dataclasses.replace(digest, is_stale=False)
        session = self._session
        # Another request may have been given the same nonce a moment ago.
        if session is None or session.digest != digest or session.count == 0:
            qop = digest.qop_for(body) or ""
            session = self._session = _Session(digest, qop, self._cnonce())
            self._learnt.pop(digest.nonce, None)
            if is_learnt:
                self._learnt[digest.nonce] = None
                if len(self._learnt) > MAX_LEARNT_NONCES:
                    del self._learnt[next(iter(self._learnt))]
        return session

    def _credentials(
        self, session: _Session, method: str, target: str, body: bytes | None
    ) -> str | None:
        if session.count == _LARGEST_COUNT:
            self._session = None
            return None
        session.count += 1
        return digest_credentials(
            session.digest,
            self._user,
            self._password,
            method,
            target,
            qop=session.qop,
            count=session.count,
            # The session key of -sess is made from the first, and servers use the current one.
            cnonce=session.cnonce if session.digest.is_session else self._cnonce(),
            body=body,
        )


def _strongest(challenges: Sequence[Challenge], body: bytes | None) -> Digest | None:
    """Return the challenge that is answered, None where none can be."""
    understood = [found for found in map(read_digest, challenges) if found is not None]
    usable = [digest for digest in understood if digest.qop_for(body) is not None]
    return min(usable, key=lambda digest: digest.rank, default=None)


def _may_retry(sent: str, digest: Digest, learnt: Collection[str]) -> bool:
    """Return whether refused credentials failed for their nonce rather than the password.

    A count of 1, or none, answered a challenge directly, unless the nonce is one of the
    *learnt*: all was in order then, but where the server says that the nonce was stale and has
    another.  Else the nonce came from an earlier response, and its time may have passed, which
    not every server says with stale=true.
    """
    found = parse_challenges([sent])
    if len(found) != 1:
        return False
    if found[0].scheme != "digest":
        return True
    params = found[0].params
    nonce = params.get("nonce")
    if params.get("nc", "00000001") == "00000001" and nonce not in learnt:
        return digest.is_stale and nonce != digest.nonce
    return digest.is_stale or nonce != digest.nonce


class PasswordAuth(Auth):
    """User and password for whatever the server asks for: Digest if it can be, else Basic.

    Nothing is sent before a challenge; after one, what it asked for is sent at once.  Basic is
    never the answer to Digest that was refused, nor to a server that does not offer it.

    Raises:
        InvalidHeader: as `BasicAuth`.
    """

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._basic = BasicAuth(user, password)
        self._digest = DigestAuth(user, password)
        self._is_basic = False

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return what the last challenge asked for."""
        if not self.bind(url):
            return None
        auth = self._basic if self._is_basic else self._digest
        return auth.headers_for(method, url, target=target, body=body)

    def answer(
        self,
        method: str,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        target: str | None = None,
        sent: str | None = None,
    ) -> str | None:
        """Return Digest credentials if a challenge can be answered with them, else Basic."""
        auth = self._choose(url, challenges, body, sent)
        if auth is self._digest:
            return auth.answer(method, url, challenges, body, target=target, sent=sent)
        return None if auth is None else auth.headers_for(method, url)

    def learn(
        self,
        url: URL,
        challenges: Sequence[Challenge],
        body: bytes | None = None,
        *,
        sent: str | None = None,
    ) -> None:
        """Send what the challenges ask for from the next request on."""
        if _strongest(challenges, body) is None and any(map(read_digest, challenges)):
            return  # content that can be hashed would not need Basic
        auth = self._choose(url, challenges, body, sent)
        if auth is not None:
            auth.learn(url, challenges, body, sent=sent)

    def _choose(
        self, url: URL, challenges: Sequence[Challenge], body: bytes | None, sent: str | None
    ) -> Auth | None:
        """Return what is used from now on, None where no challenge is for either."""
        if not self.bind(url):
            return None
        if _strongest(challenges, body) is not None:
            self._is_basic = False
            return self._digest
        if sent is not None or all(challenge.scheme != "basic" for challenge in challenges):
            return None
        self._is_basic = True
        return self._basic


class NetrcError(HTTPError, ValueError):
    """A netrc file that cannot be used; the message tells nothing of what stands in it."""


class NetrcAuth(Auth):
    """Basic credentials from a netrc file, read once, when the object is made.

    A host gets the login of the ``machine`` of exactly its name; ``default`` is not used, and
    neither is an entry without a login or a password.  Each login goes to one origin, the
    first of its host that is asked for, so not from https to http.

    Args:
        path: by default ``.netrc`` in the home directory.

    Raises:
        OSError: there is no such file, or it cannot be read.
        NetrcError: it is malformed, is another user's, or others than its owner may touch it.

    Blocks.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        file = Path.home() / ".netrc" if path is None else Path(path)
        if os.name == "posix":
            status = file.stat()
            if status.st_uid != os.getuid():
                raise NetrcError(f"{file} belongs to another user")
            if stat.S_IMODE(status.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                raise NetrcError(f"{file} may be for its owner alone (chmod 600)")
        self._logins: dict[str, BasicAuth] = {}
        try:
            hosts = netrc.netrc(file).hosts
        except netrc.NetrcParseError as error:
            raise NetrcError(f"{file} is malformed in line {error.lineno}") from None
        except ValueError:
            raise NetrcError(f"{file} is not text") from None
        for host, (login, _, password) in hosts.items():
            if host == "default" or not login or not password:
                continue
            try:
                self._logins.setdefault(host.lower(), BasicAuth(login, password))
            except InvalidHeader as error:
                raise NetrcError(f"{file}: {host}: {error.reason}") from None

    def bind(self, url: URL) -> bool:
        """Bind the login of the host of *url*; false where there is none."""
        login = self._logins.get(url.host)
        return login is not None and login.bind(url)

    def headers_for(
        self, method: str, url: URL, *, target: str | None = None, body: bytes | None = None
    ) -> str | None:
        """Return the login of the host, whatever the request."""
        login = self._logins.get(url.host)
        return None if login is None else login.headers_for(method, url)

    def __repr__(self) -> str:
        return f"<NetrcAuth, {len(self._logins)} hosts>"


def basic_credentials(user: str | bytes, password: str | bytes) -> str:
    """Return a user and a password as credentials (RFC 7617 section 2); see ``BasicAuth``."""
    raw_user, raw_password = _octets("user", user), _octets("password", password)
    if b":" in raw_user:
        raise InvalidHeader("Authorization", "a colon in the user (RFC 7617 section 2)")
    return "Basic " + b64encode(raw_user + b":" + raw_password).decode("ascii")


def _octets(what: str, text: str | bytes) -> bytes:
    """Return *text* in UTF-8, free of control characters."""
    if isinstance(text, bytes):
        has_control = _CONTROL.search(text.decode("ascii", "ignore"))
    elif isinstance(text, str):
        has_control = _CONTROL.search(text)
        try:
            text = text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidHeader("Authorization", f"a lone surrogate in the {what}") from None
    else:
        raise TypeError(f"the {what} is neither str nor bytes: {type(text).__name__}")
    if has_control:
        raise InvalidHeader("Authorization", f"a control character in the {what}")
    return text

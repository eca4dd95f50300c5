"""The URL of a request: parsed strictly, once, before any I/O (RFC 3986, RFC 9110 section 4).

Owns: what a URL means to the client: whom to connect to, what to ask for, what to call the
host.  Touches: the ``idna`` package, for non-ASCII hosts.  Most URLs hold nothing but what may
stand in one, and are cut up in one walk over their characters; the expressions do the others.
Invariant: every part of a `URL` is ASCII and legal where it will be written; ``target``
and ``host_header`` can go into a request head as they are.

What is accepted beyond RFC 3986, since people type it (nothing else is):

    non-ASCII in user information, path, query, fragment    percent-encoded as UTF-8
    printable ASCII that RFC 3986 does not allow there      percent-encoded
    "%" without two hexadecimal digits                      becomes "%25"
    a non-ASCII host                                        IDNA 2008 with UTS 46 mapping

What is refused although RFC 3986 allows it, since two parsers read it differently: more
than one "@", "%" in a host, a host that ends in a number and is not dotted IPv4 (``127.1``,
``0x7f000001``), sub-delims in a host, zone identifiers (RFC 6874), IPvFuture.  White space,
control characters and backslashes are refused everywhere; nothing is stripped.  Dot
segments are kept as they are, but for `URL.join`, where RFC 3986 section 5.2.4 removes them.
"""

cimport cython

import functools
import ipaddress
import re

import idna

from protocols.http.errors import InvalidURL
from protocols.http.limits import MAX_KEPT_HOSTS, MAX_URL_LENGTH

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text) noexcept
    const unsigned char* PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

__all__ = ["URL"]

cdef dict DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986 appendix B: never fails; the parts are checked one by one.
_SPLIT = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# C0, SP, DEL, C1, and the backslash, which WHATWG parsers take for a slash.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_UNRESERVED = r"A-Za-z0-9._~\-"
_SUB_DELIMS = "!$&'()*+,;="
_PERCENT = r"%(?![0-9A-Fa-f]{2})"
_NOT_USERINFO = re.compile(rf"{_PERCENT}|[^{_UNRESERVED}{_SUB_DELIMS}:%]")
_NOT_PATH = re.compile(rf"{_PERCENT}|[^{_UNRESERVED}{_SUB_DELIMS}:@/%]")
_NOT_QUERY = re.compile(rf"{_PERCENT}|[^{_UNRESERVED}{_SUB_DELIMS}:@/?%]")
# What names in the DNS and in hosts files are made of; the underscore is seen in both.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

cdef enum:
    IN_HOST = 1                     # small letters, digits, "-", ".", "_"
    IN_PATH = 2                     # and in a path; "%" is looked at by itself
    IN_QUERY = 4                    # in a query and in a fragment

cdef unsigned char KINDS[128]


cdef int fill_kinds() except -1:
    cdef int each
    cdef str letter
    for each in range(128):
        letter = chr(each)
        KINDS[each] = 0
        if re.fullmatch(r"[a-z0-9._-]", letter):
            KINDS[each] |= IN_HOST
        if not _NOT_PATH.search(letter):
            KINDS[each] |= IN_PATH
        if not _NOT_QUERY.search(letter):
            KINDS[each] |= IN_QUERY
    return 0


fill_kinds()


@cython.freelist(64)
cdef class URL:
    """An absolute http or https URL; immutable and hashable.

    Args:
        url: the URL.  A bytes URL is read as UTF-8; what is not UTF-8 in it is
            percent-encoded byte by byte.

    Raises:
        InvalidURL: it cannot be requested; ``part`` tells which part is at fault.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        userinfo: what stands before the "@", percent-encoded, or ``""``.
        host: lower case, A-labels, an IPv6 address without its brackets.
        port: 1 to 65535; the default of the scheme where the URL has none.
        path: percent-encoded; ``"/"`` where the URL has none.
        query: percent-encoded, or None where the URL has no "?".
        fragment: percent-encoded, or None; it is never sent.
        target: path and query, the origin-form of RFC 9112 section 3.2.1.
        host_header: host and, unless it is the default, port: what the Host field says.
        origin: (scheme, host, port), equal for URLs of one origin (RFC 6454 section 4).
    """

    def __init__(self, url):
        if type(url) is str and fill_plain(self, <str>url):
            return
        text = _text(url)
        scheme, authority, path, query, fragment = _split(text)
        if scheme is None:
            raise InvalidURL("scheme", "there is none; http:// or https:// is needed")
        if not _SCHEME.fullmatch(scheme) or scheme.lower() not in DEFAULT_PORTS:
            raise InvalidURL("scheme", f"{_shown(scheme)} is not http or https")
        scheme = scheme.lower()
        if not authority:
            raise InvalidURL("host", "there is none")
        userinfo, host, port = _authority(authority)
        fill(self, scheme, userinfo, host, port or DEFAULT_PORTS[scheme], path, query, fragment)

    def with_query(self, query):
        """Return the URL with another query; None for none.  Raises ``InvalidURL``."""
        cdef URL changed = URL.__new__(URL)
        if query is not None:
            if not isinstance(query, str):
                raise TypeError(f"a query is str, not {type(query).__name__}")
            query = _encode(str(query), _NOT_QUERY, "query")
        put(changed, self.scheme, self.userinfo, self.host, self.port, self.path, query,
            self.fragment)
        return changed

    @property
    def authority(self):
        """Host and port, always both, without user information: the target of CONNECT."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def join(self, reference):
        """Return the URL that *reference* means, relative to this one (RFC 3986 section 5.2).

        Args:
            reference: such as a Location field, which may be relative.  Spaces in it are
                percent-encoded, since servers send them; those around it are no part of
                it, or " //host" would be a path here and another host to browsers.  A
                header value that is not ASCII should come as bytes
                (``value.encode("latin-1")``): its octets are kept.

        Raises:
            InvalidURL: what it means cannot be requested.
        """
        text = _text(reference, spaces=True)
        scheme, authority, path, query, fragment = _split(text)
        if scheme is not None:
            if authority is None:
                raise InvalidURL("host", "there is none")
            path = _remove_dot_segments(path)
            return URL(_unsplit(scheme, authority, path, query, fragment))
        if authority is not None:
            path = _remove_dot_segments(path)
            return URL(_unsplit(self.scheme, authority, path, query, fragment))
        if not path:
            path = self.path
            if query is None:
                query = self.query
        elif path.startswith("/"):
            path = _remove_dot_segments(path)
        else:
            path = _remove_dot_segments(self.path[: self.path.rindex("/") + 1] + path)
        cdef URL joined = URL.__new__(URL)
        fill(joined, self.scheme, self.userinfo, self.host, self.port, path, query, fragment)
        return joined

    def below(self, reference):
        """Return the URL that *reference* means where this one is a base URL, as in httpx.

        A path goes behind this URL's own, with or without a slash at its beginning; the query
        and the fragment are its own.  An absolute URL stays as it is.

        Raises:
            InvalidURL: what it means cannot be requested, or names a host and no scheme.
        """
        scheme, authority, path, query, fragment = _split(_text(reference))
        if scheme is not None:
            return URL(reference)
        if authority is not None:
            raise InvalidURL("scheme", "there is none before a host; http:// or https:// is needed")
        path = _remove_dot_segments(f"{self.path.removesuffix('/')}/{path.removeprefix('/')}")
        cdef URL url = URL.__new__(URL)
        fill(url, self.scheme, self.userinfo, self.host, self.port, path, query, fragment)
        return url

    def __str__(self):
        userinfo = f"{self.userinfo}@" if self.userinfo else ""
        fragment = "" if self.fragment is None else f"#{self.fragment}"
        return f"{self.scheme}://{userinfo}{self.host_header}{self.target}{fragment}"

    def __repr__(self):
        shown = str(self)
        name, colon, _ = self.userinfo.partition(":")
        if colon:
            shown = shown.replace(f"{self.userinfo}@", f"{name}:[secure]@", 1)
        return f"URL({shown!r})"

    def __eq__(self, other):
        if not isinstance(other, URL):
            return NotImplemented
        return self is other or key_of(self) == key_of(<URL>other)

    def __hash__(self):
        if self.hashed == -1:           # no hash is
            self.hashed = hash(key_of(self))
        return self.hashed

    def __setattr__(self, name, value):
        raise AttributeError(f"URL is immutable: {name}")

    def __delattr__(self, name):
        raise AttributeError(f"URL is immutable: {name}")

    def __reduce__(self):
        return URL, (str(self),)


cdef tuple key_of(URL url):
    return (url.scheme, url.userinfo, url.host, url.port, url.path, url.query, url.fragment)


cdef int fill(URL url, str scheme, str userinfo, str host, int port, str path, str query,
              str fragment) except -1:
    """Fill in the parts, encoded where they must be."""
    path = _encode(path, _NOT_PATH, "path") or "/"
    if query is not None:
        query = _encode(query, _NOT_QUERY, "query")
    if fragment is not None:
        fragment = _encode(fragment, _NOT_QUERY, "fragment")
    return put(url, scheme, userinfo, host, port, path, query, fragment)


cdef int put(URL url, str scheme, str userinfo, str host, int port, str path, str query,
             str fragment) except -1:
    cdef str header = f"[{host}]" if ":" in host else host
    url.scheme = scheme
    url.userinfo = userinfo
    url.host = host
    url.port = port
    url.path = path
    url.query = query
    url.fragment = fragment
    url.target = path if query is None else f"{path}?{query}"
    url.host_header = header if port == <int>DEFAULT_PORTS[scheme] else f"{header}:{port}"
    url.origin = (scheme, host, port)
    url.hashed = -1
    return 0


cdef const unsigned char* walk(const unsigned char* p, const unsigned char* end,
                               int kind) noexcept:
    """The first character of [p, end) that is not of the kind, or end; "%" with two digits is."""
    while p < end:
        if KINDS[p[0]] & kind:
            p += 1
        elif p[0] == c'%' and kind != IN_HOST and end - p > 2 and is_hex(p[1]) and is_hex(p[2]):
            p += 3
        else:
            break
    return p


cdef inline bint is_hex(unsigned char c) noexcept:
    return c'0' <= c <= c'9' or c'a' <= (c | 0x20) <= c'f'


cdef bint fill_plain(URL url, str text) except -1:
    """Cut up a URL that holds nothing but what may stand in one; false where it is another.

    ``http[s]://host[:port][path][?query][#fragment]``, in small letters up to the path.
    """
    cdef const unsigned char* start
    cdef const unsigned char* p
    cdef const unsigned char* end
    cdef const unsigned char* begin
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef str scheme, host, path
    cdef str query = None
    cdef str fragment = None
    cdef int port = 0
    if not PyUnicode_IS_ASCII(text) or size > <Py_ssize_t>MAX_URL_LENGTH:
        return False
    start = PyUnicode_DATA(text)
    end = start + size
    if text.startswith("http://"):
        scheme = "http"
        begin = start + 7
    elif text.startswith("https://"):
        scheme = "https"
        begin = start + 8
    else:
        return False
    p = walk(begin, end, IN_HOST)
    if p == begin:
        return False
    host = text[begin - start:p - start]
    if p < end and p[0] == c':':
        p += 1
        begin = p
        while p < end and p - begin < 5 and c'0' <= p[0] <= c'9':
            port = 10 * port + p[0] - c'0'
            p += 1
        if not 1 <= port <= 65_535:
            return False
    begin = p
    if p < end and p[0] == c'/':
        p = walk(p, end, IN_PATH)
    path = text[begin - start:p - start] if p > begin else "/"
    if p < end and p[0] == c'?':
        begin = p + 1
        p = walk(begin, end, IN_QUERY)
        query = text[begin - start:p - start]
    if p < end and p[0] == c'#':
        begin = p + 1
        p = walk(begin, end, IN_QUERY)
        fragment = text[begin - start:p - start]
    if p < end:                         # whatever it is
        return False
    put(url, scheme, "", _name(host), port or <int>DEFAULT_PORTS[scheme], path, query, fragment)
    return True


def _shown(text):
    """Return *text* for a message: quoted, and short."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _text(url, *, spaces=False):
    if isinstance(url, bytes):
        url = url.decode("utf-8", "surrogateescape")
    elif not isinstance(url, str):
        raise TypeError(f"a URL is str or bytes, not {type(url).__name__}")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidURL("url", f"it is longer than {MAX_URL_LENGTH}")
    return url.strip(" ").replace(" ", "%20") if spaces else url


def _split(url):
    """Return (scheme, authority, path, query, fragment), each free of forbidden characters."""
    match = _SPLIT.fullmatch(url)
    assert match is not None, "the expression of RFC 3986 appendix B matches every string"
    parts = match.groups()
    for name, part in zip(("scheme", "host", "path", "query", "fragment"), parts, strict=True):
        bad = _FORBIDDEN.search(part) if part else None
        if bad:
            raise InvalidURL(name, f"it holds {bad.group()!r}")
    scheme, authority, path, query, fragment = parts
    return scheme, authority, path or "", query, fragment


def _unsplit(scheme, authority, path, query, fragment):
    """Return the URL of the parts (RFC 3986 section 5.3)."""
    url = f"{scheme}://{authority}{path}"
    if query is not None:
        url += f"?{query}"
    return url if fragment is None else f"{url}#{fragment}"


def _encode(text, illegal, part):
    """Percent-encode what *illegal* matches (RFC 3986 section 2.1)."""
    if not illegal.search(text):
        return text

    def encoded(match):
        octets = match.group().encode("utf-8", "surrogateescape")
        return "".join([f"%{octet:02X}" for octet in octets])

    try:
        return illegal.sub(encoded, text)
    except UnicodeEncodeError:
        raise InvalidURL(part, "it holds a lone surrogate") from None


def _authority(authority):
    """Return (userinfo, host, port) (RFC 3986 section 3.2)."""
    userinfo, at, host_port = authority.rpartition("@")
    if "@" in userinfo:
        raise InvalidURL("userinfo", 'it holds "@", which must be written %40')
    if at:
        userinfo = _encode(userinfo, _NOT_USERINFO, "userinfo")
    if host_port.startswith("["):
        host, bracket, rest = host_port[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidURL("host", "the brackets of an IPv6 address do not match")
        return userinfo, _ipv6(host), _port(rest[1:])
    host, _, port = host_port.partition(":")
    return userinfo, _name(host), _port(port)


def _port(port):
    """Return the port; None where it is empty (RFC 3986 section 3.2.3)."""
    if not port:
        return None
    if not (port.isascii() and port.isdigit()):
        raise InvalidURL("port", f"{_shown(port)} is not a number")
    # Not int() of whatever length: that is quadratic, and Python refuses it above a limit.
    number = int(port) if len(port) <= 16 else 65_536
    if not 1 <= number <= 65_535:
        raise InvalidURL("port", f"{_shown(port)} is not from 1 to 65535")
    return number


def _ipv6(host):
    if "%" in host:
        raise InvalidURL("host", "zone identifiers are not supported")
    try:
        return ipaddress.IPv6Address(host).compressed
    except ValueError:
        raise InvalidURL("host", f"{_shown(host)} is not an IPv6 address") from None


@functools.lru_cache(MAX_KEPT_HOSTS)
def _name(host):
    """Return a name or IPv4 address in the form in which it is resolved and compared."""
    if not host:
        raise InvalidURL("host", "there is none")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise InvalidURL("host", f"{_shown(host)} is not a valid IDN: {error}") from None
    host = host.lower()
    # One dot at the end makes a name absolute (RFC 1034 section 3.1).
    labels = host.removesuffix(".").split(".")
    if len(host.removesuffix(".")) > 253:
        raise InvalidURL("host", "it is longer than 253 characters")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise InvalidURL("host", f"{_shown(host)} has the bad label {_shown(label)}")
    if _NUMBER.fullmatch(labels[len(labels) - 1]):
        # inet_aton(3) would read 127.1 and 0x7f000001 as addresses too.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise InvalidURL("host", f"{_shown(host)} is not an IPv4 address") from None
    return host


def _remove_dot_segments(path):
    """Return *path* without "." and ".." (RFC 3986 section 5.2.4)."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            # The first is the empty one in front of the leading slash.
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[len(segments) - 1] in (".", ".."):
        kept.append("")
    return "/".join(kept)

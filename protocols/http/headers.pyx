"""Header fields over raw lines, and the head of a request (RFC 9110 section 5).

Owns: what may stand in a header, and how it is looked up.  Touches: nothing; a leaf.
Invariant: the block of a `Headers` is valid at all times: the parser has checked it, or
the constructor has.  So it can be sent, scanned and decoded without another check.

There is no dict: a response costs one bytes object, and a look-up walks its lines (some
five nanoseconds each), which is less than building a dict that nobody reads.

Values decode as latin-1, which never fails and loses nothing (RFC 9110 section 5.5 calls
the bytes above 127 opaque): ``value.encode("latin-1")`` gives the bytes back.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

from collections.abc import Mapping

from protocols.http.errors import InvalidHeader

cdef extern from "Python.h":
    # The characters of a str, where each of them takes one byte: it is latin-1 then.
    int PyUnicode_KIND(object text) noexcept
    int PyUnicode_1BYTE_KIND
    const char* PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

__all__ = ["Headers", "render_request_head"]

# What repr() hides, since it ends up in logs.
cdef frozenset SECRET = frozenset(
    ["authorization", "cookie", "proxy-authorization", "set-cookie"]
)


@cython.final
@cython.freelist(64)
cdef class Headers:
    """Read-only, case-insensitive, ordered mapping of header fields that may repeat.

    ``headers["name"]`` gives the values of every field of that name, joined by ``", "``
    (RFC 9110 section 5.3).  That holds for Set-Cookie too, as in httpx, although it cannot
    be split again: use ``get_list("set-cookie")``.

    Args:
        source: a mapping, an iterable of (name, value) pairs, Headers, or None.  Names and
            values are str or bytes; str values are encoded as latin-1.

    Raises:
        InvalidHeader: a name is not a token, or a value holds CR, LF, NUL or another control
            character but HTAB, begins or ends with white space, or is not latin-1.

    Immutable, so any thread may read it.
    """

    def __cinit__(self):
        self.block = b""

    def __init__(self, source=None):
        self.start = 0
        self.is_plain = True
        if source is None:
            return
        if isinstance(source, Headers):
            self.block = (<Headers> source).lines()
            self.is_plain = (<Headers> source).is_plain
            return
        pairs = source.items() if hasattr(source, "items") else source
        self.block = b"".join([render_field(name, value) for name, value in pairs])

    cdef bint next_field(
        self, const char** cursor, const char** name, Py_ssize_t* name_size,
        const char** value, Py_ssize_t* value_size,
    ) noexcept:
        cdef const char* base = PyBytes_AS_STRING(self.block)
        cdef const char* end = base + PyBytes_GET_SIZE(self.block)
        cdef const char* p = base + self.start if cursor[0] == NULL else cursor[0]
        cdef const char* last
        if p >= end:
            return False
        last = <const char*> memchr(p, c'\n', end - p)
        cursor[0] = last + 1
        last -= 1
        name[0] = p
        p = <const char*> memchr(p, c':', last - p)
        name_size[0] = p - name[0]
        p += 1
        value[0] = skip_space(p, last)
        value_size[0] = trim_space(value[0], last) - value[0]
        return True

    cdef bint find(
        self, const char* name, Py_ssize_t size,
        const char** value, Py_ssize_t* value_size,
    ) noexcept:
        cdef const char* p = PyBytes_AS_STRING(self.block) + self.start
        cdef const char* end = PyBytes_AS_STRING(self.block) + PyBytes_GET_SIZE(self.block)
        cdef const char* found
        cdef Py_ssize_t found_size
        while p < end:
            # The line has a colon and a CRLF, so what is compared lies inside the block.
            if end - p > size and p[size] == c':' and http_same(p, name, size):
                return self.next_field(&p, &found, &found_size, value, value_size)
            p = <const char*> memchr(p, c'\n', end - p) + 1
        return False

    cdef list values_of(self, object key):
        """Return the values (bytes) of the fields called *key*."""
        cdef bytes wanted
        cdef const char* cursor = NULL
        cdef const char* name
        cdef const char* value
        cdef Py_ssize_t name_size, value_size
        cdef list found = []
        if isinstance(key, str):
            if not (<str> key).isascii():
                return found
            wanted = (<str> key).encode("ascii")
        elif isinstance(key, bytes):
            wanted = key
        else:
            return found
        while self.next_field(&cursor, &name, &name_size, &value, &value_size):
            if name_size == len(wanted) and http_same(name, wanted, name_size):
                found.append(PyBytes_FromStringAndSize(value, value_size))
        return found

    cdef bytes lines(self):
        """Return the field lines, each with its CRLF."""
        return self.block[self.start:] if self.start else self.block

    # Mapping.

    def __getitem__(self, key):
        cdef list values = self.values_of(key)
        if not values:
            raise KeyError(key)
        return b", ".join(values).decode("latin-1")

    def __contains__(self, key):
        cdef const char* value
        cdef Py_ssize_t size
        cdef bytes name
        if not isinstance(key, (str, bytes)):
            return False
        name = key if isinstance(key, bytes) else (<str> key).encode("utf-8", "replace")
        if not name or not all_of(name, 1):
            return False
        return self.find(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &value, &size)

    def __iter__(self):
        return iter(self.keys())

    def __len__(self):
        return len(self.keys())

    def __bool__(self):
        return PyBytes_GET_SIZE(self.block) > self.start

    def get(self, key, default=None):
        """Return the values of *key* joined by ``", "``, or *default*."""
        cdef list values = self.values_of(key)
        return b", ".join(values).decode("latin-1") if values else default

    def get_list(self, key, bint split_commas=False):
        """Return each value of *key* by itself; with *split_commas*, split at commas too.

        Splitting knows no quoted strings: it is for lists of tokens (RFC 9110 section 5.6.1)
        and leaves empty elements out.
        """
        values = [value.decode("latin-1") for value in self.values_of(key)]
        if not split_commas:
            return values
        elements = [part.strip(" \t") for value in values for part in value.split(",")]
        return [element for element in elements if element]

    def keys(self):
        """Return the names in lower case, each once, in the order of their first field."""
        return list(dict.fromkeys([name for name, _ in self.multi_items()]))

    def values(self):
        """Return the joined values, in the order of `keys`."""
        return [value for _, value in self.items()]

    def items(self):
        """Return (name in lower case, values joined by ``", "``), each name once."""
        cdef dict joined = {}
        for name, value in self.multi_items():
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return list(joined.items())

    def multi_items(self):
        """Return (name in lower case, value) of every field, in order."""
        return [
            (name.lower().decode("ascii"), value.decode("latin-1")) for name, value in self.raw
        ]

    @property
    def raw(self):
        """Every field in order as (name, value), bytes, names as they were written."""
        cdef const char* cursor = NULL
        cdef const char* name
        cdef const char* value
        cdef Py_ssize_t name_size, value_size
        cdef list pairs = []
        while self.next_field(&cursor, &name, &name_size, &value, &value_size):
            pairs.append((
                PyBytes_FromStringAndSize(name, name_size),
                PyBytes_FromStringAndSize(value, value_size),
            ))
        return pairs

    def merged_with(self, other):
        """Return Headers in which the fields of *other* replace those of the same name.

        Args:
            other: whatever the constructor takes; raises what the constructor raises.
        """
        cdef Headers override = other if isinstance(other, Headers) else Headers(other)
        cdef const char* cursor = NULL
        cdef const char* name
        cdef const char* value
        cdef const char* its_value
        cdef Py_ssize_t name_size, value_size, its_size
        cdef list lines = []
        cdef const char* kept = NULL        # lines up to the cursor that go over as they are
        cdef const char* end = NULL
        cdef bint is_plain
        cdef Headers merged
        while self.next_field(&cursor, &name, &name_size, &value, &value_size):
            if override.find(name, name_size, &its_value, &its_size):
                continue
            is_plain = (name[name_size + 1] == c' ' and value == name + name_size + 2
                        and cursor == value + value_size + 2)
            if kept != NULL and not (is_plain and name == end):
                lines.append(PyBytes_FromStringAndSize(kept, end - kept))
                kept = NULL
            if not is_plain:                # a peer's, with other white space
                lines.append(render_field(name[:name_size], value[:value_size]))
                continue
            if kept == NULL:
                kept = name
            end = cursor
        if kept != NULL:
            lines.append(PyBytes_FromStringAndSize(kept, end - kept))
        lines.append(override.lines())
        merged = headers_over(b"".join(lines), 0)
        merged.is_plain = override.is_plain
        return merged

    def __eq__(self, other):
        if not isinstance(other, Headers):
            if not isinstance(other, (Mapping, list, tuple)):
                return NotImplemented
            try:
                other = Headers(other)
            except (TypeError, ValueError):
                return False
        return sorted(self.multi_items()) == sorted(other.multi_items())

    __hash__ = None

    def __repr__(self):
        shown = [
            (name, "[secure]" if name in SECRET else value)
            for name, value in self.multi_items()
        ]
        return f"Headers({shown!r})"

    def __reduce__(self):
        return Headers, (self.raw,)


Mapping.register(Headers)


cdef Headers headers_over(bytes block, Py_ssize_t start):
    cdef Headers headers = Headers.__new__(Headers)
    headers.block = block
    headers.start = start
    return headers


cdef bytes render_field(object name, object value):
    """Return "name: value CRLF", both checked."""
    cdef bytes raw_name, raw_value
    cdef const char* its_name
    cdef const char* its_value
    cdef Py_ssize_t name_size, value_size
    if (octets_of(name, &its_name, &name_size) and octets_of(value, &its_value, &value_size)
            and name_size and http_scan_token(its_name, its_name + name_size)
            == its_name + name_size and is_value(its_value, its_value + value_size)):
        return line_of(its_name, name_size, its_value, value_size)
    # there is something wrong, or unusual, about it
    shown = name if isinstance(name, str) else repr(name)
    raw_name = encoded(name, shown, "the name", "ascii")
    raw_value = encoded(value, shown, "the value", "latin-1")
    if not raw_name:
        raise InvalidHeader(shown, "the name is empty (RFC 9110 section 5.1)")
    if not all_of(raw_name, 1):
        raise InvalidHeader(shown, "the name is not a token (RFC 9110 section 5.1)")
    if not all_of(raw_value, 2):
        raise InvalidHeader(
            shown, "a control character in the value (RFC 9110 section 5.5)")
    if raw_value != raw_value.strip(b" \t"):
        raise InvalidHeader(
            shown, "white space around the value (RFC 9110 section 5.5)")
    return b"%b: %b\r\n" % (raw_name, raw_value)


cdef bint octets_of(object text, const char** octets, Py_ssize_t* size) noexcept:
    """Find the octets of bytes, or of a str that is latin-1; false for others."""
    if type(text) is bytes:
        octets[0] = PyBytes_AS_STRING(text)
        size[0] = PyBytes_GET_SIZE(text)
    elif type(text) is str and PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        octets[0] = PyUnicode_DATA(text)
        size[0] = PyUnicode_GET_LENGTH(text)
    else:
        return False
    return True


cdef bint is_value(const char* p, const char* end) noexcept:
    """Whether [p, end) may be the value of a field."""
    if p == end:
        return True
    return not is_space(p[0]) and not is_space((end - 1)[0]) and http_scan_field(p, end) == end


cdef bytes line_of(const char* name, Py_ssize_t name_size, const char* value,
                   Py_ssize_t value_size):
    cdef bytes line = PyBytes_FromStringAndSize(NULL, name_size + value_size + 4)
    cdef char* p = PyBytes_AS_STRING(line)
    memcpy(p, name, name_size)
    p += name_size
    p[0], p[1] = c':', c' '
    memcpy(p + 2, value, value_size)
    p += value_size + 2
    p[0], p[1] = c'\r', c'\n'
    return line


cdef bytes encoded(object text, str name, str what, str encoding):
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise InvalidHeader(name, f"{what} is neither str nor bytes: {type(text).__name__}")
    try:
        return (<str> text).encode("ascii") if (<str> text).isascii() else text.encode(encoding)
    except UnicodeEncodeError:
        raise InvalidHeader(name, f"{what} cannot be encoded as {encoding}") from None


cdef bint all_of(bytes text, int bit) noexcept:
    """Whether every byte of *text* is of the class *bit* (see headers.pxd)."""
    cdef const char* start = PyBytes_AS_STRING(text)
    cdef const char* end = start + PyBytes_GET_SIZE(text)
    return http_scan_class(start, end, bit) == end


cpdef bytes render_request_head(str method, str target, str host, Headers headers):
    """Return the head of a request, from the method to the empty line (RFC 9112 section 3).

    The result depends on nothing but the arguments: a client renders it once for each URL
    and set of headers, and sends the same bytes object each time.

    Args:
        method: a token, in the case it is sent in.
        target: the request target: origin-form, absolute-form, authority-form or "*".
        host: what the Host field says; None when *headers* has one.  Sent first.
        headers: the other fields.  A Host in them takes the place of *host*.

    Raises:
        InvalidHeader: a string holds what it must not, or the fields contradict each other:
            two Hosts, Content-Length that is not one number, or next to Transfer-Encoding.
    """
    cdef bytes raw_method = encoded(method, "method", "it", "ascii")
    cdef bint has_host
    cdef bytes raw_target = encoded(target, "target", "it", "ascii")
    cdef bytes raw_host = None
    cdef const char* found
    cdef Py_ssize_t size
    cdef list lengths
    if headers is None:
        raise TypeError("headers are Headers, not None")
    if not raw_method or not all_of(raw_method, 1):
        raise InvalidHeader("method", "it is not a token (RFC 9110 section 9.1)")
    if not raw_target or not all_of(raw_target, 4):
        raise InvalidHeader(
            "target", "it is empty, or holds white space or a control character "
            "(RFC 9112 section 3.2)")
    has_host = headers.find("host", 4, &found, &size)
    if has_host:
        raw_host = found[:size]
        if len(headers.values_of("host")) > 1:
            raise InvalidHeader("Host", "there are two (RFC 9112 section 3.2)")
    elif not host:
        raise InvalidHeader("Host", "there is none (RFC 9112 section 3.2)")
    else:
        raw_host = encoded(host, "Host", "the value", "ascii")
    if not raw_host or not all_of(raw_host, 4):
        raise InvalidHeader(
            "Host", "it is empty, or holds white space or a control character "
            "(RFC 9110 section 7.2)")
    if headers.find("content-length", 14, &found, &size):
        lengths = headers.values_of("content-length")
        if len(lengths) > 1 or not lengths[0].isdigit():
            raise InvalidHeader("Content-Length", "it is not one number (RFC 9110 section 8.6)")
        if headers.find("transfer-encoding", 17, &found, &size):
            raise InvalidHeader(
                "Content-Length", "it stands next to Transfer-Encoding (RFC 9112 section 6.2)")
    if has_host:
        return b"".join((raw_method, b" ", raw_target, b" HTTP/1.1\r\n", headers.lines(), b"\r\n"))
    return b"".join((raw_method, b" ", raw_target, b" HTTP/1.1\r\nHost: ", raw_host, b"\r\n",
                     headers.lines(), b"\r\n"))

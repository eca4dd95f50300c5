"""The HTTP/1.1 response parser of the client side (RFC 9110, RFC 9112).

Owns: what is a response and where it ends.  Touches: no socket, no clock, no call-back.
Invariant: the first byte at which the stream breaks a rule or a limit decides the outcome;
how the stream was cut into calls never does.

    IDLE --begin--> HEAD --1xx--> HEAD
                    HEAD --final head--> FIXED | CHUNK_... | UNTIL_CLOSE | END
                    FIXED, TRAILERS, UNTIL_CLOSE (end of stream) --> END --> COMPLETE
                    END --101, CONNECT 2xx--> SWITCHED
    COMPLETE --begin, when keep_alive--> HEAD          any --broken rule--> FAILED

A head that is whole in the caller's input is scanned where it lies and copied once, into
the bytes object that `Headers` decodes from.  A head that spans calls is gathered in a
buffer; the scan goes on where it stopped, so no byte is looked at twice.

Strictness, where the RFCs leave a choice:

    a bare LF is refused                              RFC 9112 section 2.2 (MAY accept)
    an empty line before the status line is refused   section 2.2 (for servers only)
    obs-fold is refused                               section 5.2 (or replace by spaces)
    white space before the colon is refused           section 5.1
    equal repeated Content-Length is one, also 5, 5   section 6.3, RFC 9110 section 8.6
    Content-Length with Transfer-Encoding is refused  section 6.3 (ought to be an error)
    Transfer-Encoding other than one "chunked"        refused: we never send TE with a
                                                      coding (section 7.4)
    Transfer-Encoding in HTTP/1.0 is refused          section 6.1 (faulty framing)
    a missing SP before an empty reason is accepted   section 4
    HTTP/1.2 to 1.9 are read as HTTP/1.1              RFC 9110 section 2.5
    status 600 to 999 is handed on                    RFC 9110 section 15
    a 205 is framed like any other                    RFC 9110 section 15.3.6
    chunk extensions are skipped, not interpreted     section 7.1.1
    a 101 that was not asked for is refused           RFC 9110 section 7.8
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport INT64_MAX
from libc.string cimport memcmp, memcpy

from collections import namedtuple

from protocols.http.errors import LimitExceeded, MalformedMessage, TruncatedMessage
from protocols.http.headers cimport (
    Headers,
    headers_over,
    hex_value,
    http_is,
    http_scan_field,
    http_scan_token,
    is_digit,
    is_space,
    skip_space,
    trim_space,
)
from protocols.http.limits import DEFAULT_LIMITS

__all__ = ["Body", "Head", "Informational", "MessageComplete", "ResponseParser"]

Informational = namedtuple("Informational", "status_code minor_version reason_phrase headers")
Head = namedtuple("Head", "status_code minor_version reason_phrase headers")
Body = namedtuple("Body", "data")
MessageComplete = namedtuple("MessageComplete", "trailers")


cdef enum:
    # What goes from the input into the buffer before the scan is asked again: small, so
    # that the body behind a head that spans calls is not copied with it.
    GATHER_BYTES = 1024
    # 16 digits hold every size up to 2**64 - 1; more can only be leading zeros or overflow.
    CHUNK_DIGITS = 16


cdef dict FAULTS = {
    FAULT_NOT_HTTP: ("the answer does not begin with HTTP/", "RFC 9112 section 4"),
    FAULT_VERSION: ("the version is not HTTP/1.x", "RFC 9112 section 2.3"),
    FAULT_STATUS_CODE: ("the status code is not from 100 to 999", "RFC 9112 section 4"),
    FAULT_REASON: ("a control character in the reason phrase", "RFC 9112 section 4"),
    FAULT_BARE_LF: ("a line ends with LF alone", "RFC 9112 section 2.2"),
    FAULT_BARE_CR: ("a CR is not followed by LF", "RFC 9112 section 2.2"),
    FAULT_OBS_FOLD: ("a header line begins with white space", "RFC 9112 section 5.2"),
    FAULT_EMPTY_NAME: ("a header has no name", "RFC 9110 section 5.1"),
    FAULT_SPACE_IN_NAME: ("white space in or after a header name", "RFC 9112 section 5.1"),
    FAULT_NAME: ("a header name is not a token", "RFC 9110 section 5.1"),
    FAULT_NO_COLON: ("a header line has no colon", "RFC 9112 section 5"),
    FAULT_VALUE: ("a control character in a header value", "RFC 9110 section 5.5"),
    FAULT_LENGTH_SYNTAX: ("Content-Length is not a number", "RFC 9110 section 8.6"),
    FAULT_LENGTH_OVERFLOW: ("Content-Length is above 2**63 - 1", "RFC 9110 section 8.6"),
    FAULT_LENGTH_DIFFERS: ("two Content-Lengths differ", "RFC 9112 section 6.3"),
    FAULT_LENGTH_AND_CODING: (
        "both Content-Length and Transfer-Encoding", "RFC 9112 section 6.3"),
    FAULT_CODING: ("Transfer-Encoding is not chunked, once", "RFC 9112 section 6.1"),
    FAULT_CODING_IN_HTTP10: ("Transfer-Encoding in HTTP/1.0", "RFC 9112 section 6.1"),
    FAULT_UNASKED_SWITCH: (
        "101 Switching Protocols was not asked for", "RFC 9110 section 7.8"),
    FAULT_CHUNK_SIZE: ("a chunk size is not a hexadecimal number", "RFC 9112 section 7.1"),
    FAULT_CHUNK_SIZE_DIGITS: ("a chunk size has too many digits", "RFC 9112 section 7.1"),
    FAULT_CHUNK_SIZE_OVERFLOW: ("a chunk size is above 2**63 - 1", "RFC 9112 section 7.1"),
    FAULT_CHUNK_LINE_END: ("a chunk size line does not end in CRLF", "RFC 9112 section 7.1"),
    FAULT_CHUNK_SPACE: ("white space after a chunk size", "RFC 9112 section 7.1.1"),
    FAULT_CHUNK_EXTENSION: (
        "a control character in a chunk extension", "RFC 9112 section 7.1.1"),
    FAULT_CHUNK_DATA_END: ("chunk data is not followed by CRLF", "RFC 9112 section 7.1"),
    FAULT_LIMIT_HEAD: "max_head_bytes",
    FAULT_LIMIT_LINE: "max_line_bytes",
    FAULT_LIMIT_HEADERS: "max_headers",
    FAULT_LIMIT_INFORMATIONAL: "max_informational",
    FAULT_LIMIT_EXTENSION: "max_chunk_extension_bytes",
    FAULT_LIMIT_OVERHEAD: "max_chunk_overhead_ratio",
    FAULT_LIMIT_TRAILER_BYTES: "max_trailer_bytes",
    FAULT_LIMIT_TRAILERS: "max_trailers",
}


cdef tuple STATE_NAMES = (
    "idle", "head", "fixed", "chunk-size", "chunk-space", "chunk-extension", "chunk-size-lf",
    "chunk-data", "chunk-data-cr", "chunk-data-lf", "trailers", "until-close", "end",
    "complete", "switched", "failed",
)


cdef inline int name_fault(char c) noexcept nogil:
    """Return why *c*, not a tchar, cannot stand where a header name or its colon should."""
    if is_space(c):
        return FAULT_SPACE_IN_NAME
    if c == c'\n' or c == c'\r':
        return FAULT_NO_COLON
    return FAULT_NAME


cdef int status_line_fault(const char* p, Py_ssize_t size) noexcept nogil:
    """Return the first fault in the fixed part "HTTP/1.d ddd" as far as it is there."""
    cdef Py_ssize_t i
    cdef const char* version = b"HTTP/1."
    for i in range(min(size, 12)):
        if i < 7:
            if p[i] != version[i]:
                return FAULT_NOT_HTTP if i < 5 else FAULT_VERSION
        elif i == 7:
            if not is_digit(p[i]):
                return FAULT_VERSION
        elif i == 8:
            if p[i] != c' ':
                return FAULT_VERSION
        elif not is_digit(p[i]) or (i == 9 and p[i] == c'0'):
            return FAULT_STATUS_CODE
    return FAULT_NONE


# No cycle can go through it: bytes, Headers over bytes, and limits, which are integers.
@cython.final
@cython.no_gc
cdef class ResponseParser:
    """Parse the responses of one HTTP/1.1 connection.

    From Cython: ``begin``, ``next_event``, ``feed_eof`` (see ``parser.pxd``).  From
    Python, the same as an iterator::

        parser.expect_response()
        for event in parser.receive_data(data):
            ...                    # Informational, Head, Body, MessageComplete

    Not thread-safe.  Makes no system call.  A `MessageError` is final: the connection
    cannot be used again, and any further call raises RuntimeError.
    """

    def __cinit__(self, limits=DEFAULT_LIMITS):
        self.state = STATE_IDLE
        self.content_length = -1
        self.limits = limits
        self.max_head_bytes = limits.max_head_bytes
        self.max_line_bytes = limits.max_line_bytes
        self.max_headers = limits.max_headers
        self.max_informational = limits.max_informational
        self.max_chunk_extension_bytes = limits.max_chunk_extension_bytes
        self.chunk_overhead_allowance_bytes = limits.chunk_overhead_allowance_bytes
        self.max_chunk_overhead_ratio = limits.max_chunk_overhead_ratio
        self.max_trailer_bytes = limits.max_trailer_bytes
        self.max_trailers = limits.max_trailers
        self.head = b""
        self.pending = b""

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    # From Cython.

    cdef int begin(self, bint head_request, bint connect, bint upgrade) except -1:
        if self.state != STATE_IDLE and not (
            self.state == STATE_COMPLETE and self.keep_alive
        ):
            raise RuntimeError("the connection cannot carry another response")
        self.state = STATE_HEAD
        self.head_request = head_request
        self.connect = connect
        self.upgrade = upgrade
        self.started = False
        self.keep_alive = False
        self.says_close = False
        self.informational_count = 0
        self.body_received = 0
        self.extension_bytes = 0
        self.overhead_bytes = 0
        self.trailers = None
        self._restart_block()
        return 0

    cdef Event next_event(self, const char** cursor, const char* end) except EVENT_ERROR:
        cdef const char* p = cursor[0]
        cdef Py_ssize_t size = end - p
        cdef bytes block
        if self.state == STATE_HEAD:
            if size == 0:
                return NEED_DATA
            self.started = True
            block = self._pull_block(cursor, end)
            if block is None:
                return NEED_DATA
            self.head = block
            return self._finish_head()
        if self.state == STATE_FIXED:
            if size == 0:
                return NEED_DATA
            if size > self.remaining:
                size = <Py_ssize_t> self.remaining
            self.remaining -= size
            if self.remaining == 0:
                self.state = STATE_END
        elif self.state == STATE_END:
            self.state = STATE_SWITCHED if self.switched else STATE_COMPLETE
            return MESSAGE_COMPLETE
        elif self.state == STATE_UNTIL_CLOSE:
            if size == 0:
                return NEED_DATA
        elif self.state == STATE_FAILED:
            raise RuntimeError("the response was refused already")
        elif self.state in (STATE_IDLE, STATE_COMPLETE, STATE_SWITCHED):
            return PAUSED
        else:
            return self._next_in_chunks(cursor, end)
        self.body = p
        self.body_size = size
        self.body_received += size
        cursor[0] = p + size
        return BODY

    cdef Event feed_eof(self) except EVENT_ERROR:
        cdef State state = self.state
        if state in (STATE_IDLE, STATE_COMPLETE, STATE_SWITCHED):
            return PAUSED
        if state == STATE_FAILED:
            raise RuntimeError("the response was refused already")
        if state == STATE_UNTIL_CLOSE or state == STATE_END:
            self.state = STATE_SWITCHED if self.switched else STATE_COMPLETE
            return MESSAGE_COMPLETE
        self.state = STATE_FAILED
        self.keep_alive = False
        if state == STATE_HEAD:
            where = "inside the head of a response" if self.started else "before a response came"
            raise TruncatedMessage(f"the connection was closed {where}")
        if state == STATE_FIXED:
            raise TruncatedMessage(
                f"the connection was closed after {self.body_received} of "
                f"{self.content_length} bytes of the body",
                self.body_received,
                self.content_length,
            )
        raise TruncatedMessage(
            f"the connection was closed after {self.body_received} bytes of a chunked body, "
            "before its end",
            self.body_received,
        )

    cdef Headers make_headers(self):
        return headers_over(self.head, self.fields_start)

    # Head and trailer blocks.

    cdef void _restart_block(self) noexcept:
        """Forget what was scanned: a head or trailer block begins with the next byte."""
        self.line = 0
        self.colon = 0
        self.scanned = 0
        self.field_count = 0
        self.buffer_size = 0
        if self.state == STATE_HEAD:
            self.notes = 0
            self.content_length = -1
            self.chunked = False
            self.switched = False
            self.framing_fault = FAULT_NONE
            self.has_transfer_encoding = False
            self.says_keep_alive = False

    cdef bytes _pull_block(self, const char** cursor, const char* end):
        """Return the block without its empty line, or None when the input has no end of it."""
        cdef const char* p = cursor[0]
        cdef Py_ssize_t take, before
        cdef bytes block
        cdef int result
        if self.buffer_size == 0:
            result = self._scan_block(p, end)
            if result == SCAN_DONE:
                cursor[0] = p + self.scanned
                return PyBytes_FromStringAndSize(p, self.scanned - 2)
            if result != SCAN_MORE:
                self._fail(result)
            self._append(p, end - p)
            cursor[0] = end
            return None
        while p < end:
            take = min(end - p, <Py_ssize_t> GATHER_BYTES)
            before = self.buffer_size
            self._append(p, take)
            result = self._scan_block(self.buffer, self.buffer + self.buffer_size)
            if result == SCAN_DONE:
                cursor[0] = p + (self.scanned - before)
                block = PyBytes_FromStringAndSize(self.buffer, self.scanned - 2)
                # An idle connection holds no buffer.
                PyMem_Free(self.buffer)
                self.buffer = NULL
                self.buffer_size = self.buffer_capacity = 0
                return block
            if result != SCAN_MORE:
                self._fail(result)
            p += take
        cursor[0] = end
        return None

    cdef int _append(self, const char* data, Py_ssize_t size) except -1:
        """Add to the buffer; the scan has refused what is above the limit already."""
        cdef Py_ssize_t needed = self.buffer_size + size
        cdef Py_ssize_t capacity
        cdef char* grown
        if needed > self.buffer_capacity:
            capacity = max(needed, 2 * self.buffer_capacity, <Py_ssize_t> GATHER_BYTES)
            grown = <char*> PyMem_Realloc(self.buffer, capacity)
            if grown == NULL:
                raise MemoryError
            self.buffer = grown
            self.buffer_capacity = capacity
        memcpy(self.buffer + self.buffer_size, data, size)
        self.buffer_size = needed
        return 0

    cdef int _suspend(
        self, const char* start, const char* line, const char* at, const char* stop
    ) noexcept nogil:
        """Remember *at* as the place to go on; at a limit there is nothing to wait for."""
        self.line = line - start
        self.scanned = at - start
        if stop - line == self.max_line_bytes:
            return FAULT_LIMIT_LINE
        if self.state == STATE_TRAILERS:
            if stop - start == self.max_trailer_bytes:
                return FAULT_LIMIT_TRAILER_BYTES
        elif stop - start == self.max_head_bytes:
            return FAULT_LIMIT_HEAD
        return SCAN_MORE

    cdef int _scan_status_line(self, const char* start, const char* end) noexcept nogil:
        """Scan "HTTP/1.d ddd[ reason]CRLF" up to *end*; sets scanned past it when whole."""
        cdef const char* p = start + 12
        cdef const char* stop = min(end, start + self.max_line_bytes)
        cdef int fault
        if stop - start < 13:
            fault = status_line_fault(start, stop - start)
            return fault if fault else self._suspend(start, start, start, stop)
        if self.scanned < 13:
            if not (
                memcmp(start, b"HTTP/1.", 7) == 0
                and is_digit(start[7])
                and start[8] == c' '
                and is_digit(start[9]) and start[9] != c'0'
                and is_digit(start[10])
                and is_digit(start[11])
            ):
                return status_line_fault(start, 12)
            self.minor_version = start[7] - c'0'
            self.status_code = (
                (start[9] - c'0') * 100 + (start[10] - c'0') * 10 + (start[11] - c'0')
            )
            if p[0] == c' ':
                p += 1
            elif p[0] != c'\r':
                return FAULT_BARE_LF if p[0] == c'\n' else FAULT_STATUS_CODE
        else:
            p = start + self.scanned
        p = http_scan_field(p, stop)
        if stop - p < 2:
            if p == stop or p[0] == c'\r':
                return self._suspend(start, start, p, stop)
        if p[0] != c'\r':
            return FAULT_BARE_LF if p[0] == c'\n' else FAULT_REASON
        if p[1] != c'\n':
            return FAULT_BARE_CR
        self.scanned = p + 2 - start
        self.fields_start = self.scanned
        return SCAN_DONE

    cdef int _scan_block(self, const char* start, const char* end) noexcept nogil:
        """Scan lines to the empty one, going on where the last call stopped.

        *start* is the first byte of the block, in the caller's input or in the buffer.
        Returns SCAN_DONE with scanned past the empty line, SCAN_MORE, or a Fault.
        """
        cdef bint trailers = self.state == STATE_TRAILERS
        cdef Py_ssize_t max_bytes = self.max_trailer_bytes if trailers else self.max_head_bytes
        cdef int max_fields = self.max_trailers if trailers else self.max_headers
        cdef const char* p
        cdef const char* line
        cdef const char* colon
        cdef const char* stop
        cdef Py_ssize_t size
        cdef int result
        if end - start > max_bytes:
            end = start + max_bytes
        if not trailers and self.line == 0:
            result = self._scan_status_line(start, end)
            if result != SCAN_DONE:
                return result
            self.line = self.scanned
        line = start + self.line
        p = start + self.scanned
        while True:
            stop = end if end - line <= self.max_line_bytes else line + self.max_line_bytes
            if self.colon == 0:
                p = http_scan_token(p, stop)
                if p == stop:
                    return self._suspend(start, line, p, stop)
                if p[0] != c':':
                    if p != line:
                        return name_fault(p[0])
                    if p[0] != c'\r':
                        return FAULT_OBS_FOLD if is_space(p[0]) else (
                            FAULT_BARE_LF if p[0] == c'\n' else FAULT_NAME)
                    # The empty line.
                    if stop - p < 2:
                        return self._suspend(start, line, p, stop)
                    if p[1] != c'\n':
                        return FAULT_BARE_CR
                    self.scanned = p + 2 - start
                    return SCAN_DONE
                if p == line:
                    return FAULT_EMPTY_NAME
                self.field_count += 1
                if self.field_count > max_fields:
                    return FAULT_LIMIT_TRAILERS if trailers else FAULT_LIMIT_HEADERS
                colon = p
                p += 1
            else:
                colon = start + self.colon
            p = http_scan_field(p, stop)
            if stop - p < 2 and (p == stop or p[0] == c'\r'):
                self.colon = colon - start
                return self._suspend(start, line, p, stop)
            if p[0] != c'\r':
                return FAULT_BARE_LF if p[0] == c'\n' else FAULT_VALUE
            if p[1] != c'\n':
                return FAULT_BARE_CR
            size = colon - line
            # The lengths of the fields that _note_field knows.
            if (size == 10 or size == 14 or size == 16 or size == 17) and not trailers:
                self._note_field(line, colon, p)
            self.colon = 0
            p += 2
            line = p

    # Framing fields.

    cdef void _note_field(
        self, const char* name, const char* colon, const char* end
    ) noexcept nogil:
        """Take note of a field that somebody acts on; *end* is the CR of its line."""
        cdef Py_ssize_t size = colon - name
        cdef char first = name[0] | 0x20
        cdef int fault = FAULT_NONE
        if size == 10:
            if first == c'c' and http_is(name, b"connection", 10):
                self._note_connection(colon + 1, end)
            elif first == c's' and http_is(name, b"set-cookie", 10):
                self.notes |= NOTE_SET_COOKIE
        elif size == 14 and first == c'c' and http_is(name, b"content-length", 14):
            fault = self._note_content_length(colon + 1, end)
        elif size == 16 and first == c'c' and http_is(name, b"content-encoding", 16):
            self.notes |= NOTE_CONTENT_ENCODING
        elif size == 17 and first == c't' and http_is(name, b"transfer-encoding", 17):
            fault = self._note_transfer_encoding(colon + 1, end)
        if fault and not self.framing_fault:
            self.framing_fault = fault

    cdef int _note_content_length(self, const char* p, const char* end) noexcept nogil:
        """Read 1*DIGIT, or a list of them that are all the same (RFC 9112 section 6.3)."""
        cdef int64_t value
        cdef int digit
        while True:
            p = skip_space(p, end)
            if p == end or not is_digit(p[0]):
                return FAULT_LENGTH_SYNTAX
            value = 0
            while p < end and is_digit(p[0]):
                digit = p[0] - c'0'
                if value >= INT64_MAX / 10 and (value > INT64_MAX / 10 or digit > INT64_MAX % 10):
                    return FAULT_LENGTH_OVERFLOW
                value = value * 10 + digit
                p += 1
            if self.content_length >= 0 and self.content_length != value:
                return FAULT_LENGTH_DIFFERS
            self.content_length = value
            p = skip_space(p, end)
            if p == end:
                return FAULT_NONE
            if p[0] != c',':
                return FAULT_LENGTH_SYNTAX
            p += 1

    cdef int _note_transfer_encoding(self, const char* p, const char* end) noexcept nogil:
        self.has_transfer_encoding = True
        p = skip_space(p, end)
        end = trim_space(p, end)
        if self.chunked or end - p != 7 or not http_is(p, b"chunked", 7):
            return FAULT_CODING
        self.chunked = True
        return FAULT_NONE

    cdef void _note_connection(self, const char* p, const char* end) noexcept nogil:
        """Look for close, or keep-alive before a comma or the end (RFC 9110 section 7.6.1)."""
        cdef const char* last
        cdef const char* after
        cdef bint first = True
        p = skip_space(p, end)
        end = trim_space(p, end)
        if end - p == 10 and http_is(p, b"keep-alive", 10):     # what it mostly is
            self.says_keep_alive = True
            return
        while p < end:
            last = p
            while last < end and last[0] != c',' and not is_space(last[0]):
                last += 1
            after = skip_space(last, end)
            if last - p == 5 and http_is(p, b"close", 5):
                self.says_close = True
            elif last - p == 10 and first and (after == end or after[0] == c','):
                self.says_keep_alive = self.says_keep_alive or http_is(p, b"keep-alive", 10)
            first = after < end and after[0] == c','
            p = skip_space(after + first, end)

    cdef Event _finish_head(self) except EVENT_ERROR:
        """Decide how the message is framed (RFC 9112 section 6.3)."""
        cdef int status = self.status_code
        if self.connect and 200 <= status < 300:
            # A tunnel: "MUST ignore any Content-Length or Transfer-Encoding".
            self.switched = True
            self.state = STATE_END
            return HEAD
        if self.framing_fault:
            return self._fail(self.framing_fault)
        if self.has_transfer_encoding:
            if self.minor_version == 0:
                return self._fail(FAULT_CODING_IN_HTTP10)
            if self.content_length >= 0:
                return self._fail(FAULT_LENGTH_AND_CODING)
        if status < 200:
            if status == 101:
                if not self.upgrade:
                    return self._fail(FAULT_UNASKED_SWITCH)
                self.switched = True
                self.state = STATE_END
                return HEAD
            self.informational_count += 1
            if self.informational_count > self.max_informational:
                return self._fail(FAULT_LIMIT_INFORMATIONAL)
            self._restart_block()
            return INFORMATIONAL
        # RFC 9112 section 9.3; close in a 1xx counts too (section 9.6).
        self.keep_alive = not self.says_close and (
            self.minor_version > 0 or self.says_keep_alive
        )
        if self.head_request or status == 204 or status == 304:
            self.state = STATE_END
        elif self.chunked:
            self.chunk_size = 0
            self.chunk_digits = 0
            self.state = STATE_CHUNK_SIZE
        elif self.content_length >= 0:
            self.remaining = self.content_length
            self.state = STATE_FIXED if self.remaining else STATE_END
        else:
            self.keep_alive = False
            self.state = STATE_UNTIL_CLOSE
        return HEAD

    # The chunked body.

    cdef Event _next_in_chunks(self, const char** cursor, const char* end) except EVENT_ERROR:
        cdef const char* p = cursor[0]
        cdef const char* stop
        cdef Py_ssize_t size
        cdef int digit
        cdef bytes block
        while p < end:
            if self.state == STATE_CHUNK_DATA:
                size = end - p
                if size > self.remaining:
                    size = <Py_ssize_t> self.remaining
                self.remaining -= size
                if self.remaining == 0:
                    self.state = STATE_CHUNK_DATA_CR
                self.body = p
                self.body_size = size
                self.body_received += size
                cursor[0] = p + size
                return BODY
            elif self.state == STATE_CHUNK_DATA_CR:
                if p[0] != c'\r':
                    return self._fail(FAULT_CHUNK_DATA_END)
                p += 1
                self.state = STATE_CHUNK_DATA_LF
            elif self.state == STATE_CHUNK_DATA_LF:
                if p[0] != c'\n':
                    return self._fail(FAULT_CHUNK_DATA_END)
                p += 1
                self.chunk_size = 0
                self.chunk_digits = 0
                self.state = STATE_CHUNK_SIZE
            elif self.state == STATE_CHUNK_SIZE:
                digit = hex_value(p[0])
                while digit >= 0:
                    if self.chunk_digits == CHUNK_DIGITS:
                        return self._fail(FAULT_CHUNK_SIZE_DIGITS)
                    self.chunk_digits += 1
                    self.chunk_size = (self.chunk_size << 4) | <uint64_t> digit
                    p += 1
                    if p == end:
                        break
                    digit = hex_value(p[0])
                if p == end:
                    break
                if self.chunk_digits == 0:
                    return self._fail(FAULT_CHUNK_SIZE)
                if self.chunk_size > <uint64_t> INT64_MAX:
                    return self._fail(FAULT_CHUNK_SIZE_OVERFLOW)
                if p[0] == c'\r':
                    p += 1
                    self.state = STATE_CHUNK_SIZE_LF
                elif p[0] == c';':
                    self.state = STATE_CHUNK_EXTENSION
                elif is_space(p[0]):
                    self.state = STATE_CHUNK_SPACE
                else:
                    return self._fail(
                        FAULT_CHUNK_LINE_END if p[0] == c'\n' else FAULT_CHUNK_SIZE)
            elif self.state == STATE_CHUNK_SPACE:
                if p[0] == c';':
                    self.state = STATE_CHUNK_EXTENSION
                    continue
                if not is_space(p[0]):
                    return self._fail(FAULT_CHUNK_SPACE)
                if self.extension_bytes == self.max_chunk_extension_bytes:
                    return self._fail(FAULT_LIMIT_EXTENSION)
                p += 1
                self.extension_bytes += 1
                self.overhead_bytes += 1
            elif self.state == STATE_CHUNK_EXTENSION:
                stop = end
                if end - p > self.max_chunk_extension_bytes - self.extension_bytes:
                    stop = p + (self.max_chunk_extension_bytes - self.extension_bytes)
                size = http_scan_field(p, stop) - p
                p += size
                self.extension_bytes += size
                self.overhead_bytes += size
                if p == end:
                    break
                if p[0] != c'\r':
                    if p == stop and http_scan_field(p, p + 1) != p:
                        return self._fail(FAULT_LIMIT_EXTENSION)
                    return self._fail(
                        FAULT_CHUNK_LINE_END if p[0] == c'\n' else FAULT_CHUNK_EXTENSION)
                p += 1
                self.state = STATE_CHUNK_SIZE_LF
            elif self.state == STATE_CHUNK_SIZE_LF:
                if p[0] != c'\n':
                    return self._fail(FAULT_CHUNK_LINE_END)
                p += 1
                # The size, the CRLF after it and the CRLF after the data.
                self.overhead_bytes += self.chunk_digits + 4
                if self.chunk_size == 0:
                    self.state = STATE_TRAILERS
                    self._restart_block()
                    continue
                # The data that came stands for the data allowed: what a chunk announces
                # may never come.
                if self.overhead_bytes > self.chunk_overhead_allowance_bytes and (
                    (self.overhead_bytes - self.chunk_overhead_allowance_bytes)
                    / self.max_chunk_overhead_ratio > self.body_received
                ):
                    return self._fail(FAULT_LIMIT_OVERHEAD)
                self.remaining = <int64_t> self.chunk_size
                self.state = STATE_CHUNK_DATA
            else:
                # STATE_TRAILERS
                cursor[0] = p
                block = self._pull_block(cursor, end)
                if block is None:
                    return NEED_DATA
                if PyBytes_GET_SIZE(block) != 0:
                    self.trailers = headers_over(block, 0)
                self.state = STATE_COMPLETE
                return MESSAGE_COMPLETE
        cursor[0] = p
        return NEED_DATA

    cdef Event _fail(self, int fault) except EVENT_ERROR:
        self.state = STATE_FAILED
        self.keep_alive = False
        PyMem_Free(self.buffer)
        self.buffer = NULL
        self.buffer_size = self.buffer_capacity = 0
        if fault < FAULT_LIMIT_HEAD:
            raise MalformedMessage(*FAULTS[fault])
        raise LimitExceeded(FAULTS[fault], getattr(self.limits, FAULTS[fault]))

    # From Python.

    def expect_response(self, *, bint head_request=False, bint connect=False, bint upgrade=False):
        """Expect the response to the next request.

        Args:
            head_request: the method was HEAD: the response has no body.
            connect: the method was CONNECT: a 2xx turns the connection into a tunnel.
            upgrade: the request asked to upgrade: a 101 is acceptable.

        Raises:
            RuntimeError: the last response is not complete, or the connection cannot
                carry another one.
        """
        self.begin(head_request, connect, upgrade)

    def receive_data(self, bytes data not None):
        """Add *data* to the input and return the parser, an iterator over its events.

        The iterator ends when it needs more input, or at the end of the message; what it
        has not consumed stays, and the next call of it goes on.
        """
        if self.eof:
            raise RuntimeError("the input has ended already")
        self.pending = self.surplus + data
        self.pending_start = 0
        return self

    def receive_eof(self):
        """Tell that the peer closed and return the parser, an iterator over its events."""
        self.eof = True
        return self

    def __iter__(self):
        return self

    def __next__(self):
        """Return the next event; raises `MessageError` where the input breaks a rule."""
        cdef const char* start = PyBytes_AS_STRING(self.pending)
        cdef const char* cursor = start + self.pending_start
        cdef Event event = self.next_event(&cursor, start + PyBytes_GET_SIZE(self.pending))
        self.pending_start = cursor - start
        if event == NEED_DATA and self.eof:
            event = self.feed_eof()
        if event == HEAD or event == INFORMATIONAL:
            kind = Head if event == HEAD else Informational
            return kind(self.status_code, self.minor_version, self.reason_phrase, self.headers)
        if event == BODY:
            return Body(PyBytes_FromStringAndSize(self.body, self.body_size))
        if event == MESSAGE_COMPLETE:
            return MessageComplete(self.trailers)
        raise StopIteration

    @property
    def surplus(self):
        """The input that no response consumed (bytes).

        After `MessageComplete` it should be empty: a peer that says more than it was asked
        is not to be trusted with another request.
        """
        return self.pending[self.pending_start:]

    @property
    def reason_phrase(self):
        """The reason phrase of the current head, latin-1 decoded (RFC 9112 section 4)."""
        return self.head[13:max(13, self.fields_start - 2)].decode("latin-1")

    @property
    def headers(self):
        """The fields of the current head, as `Headers`."""
        return self.make_headers()

    def __repr__(self):
        return (
            f"<ResponseParser state={STATE_NAMES[self.state]} status_code={self.status_code} "
            f"body_received={self.body_received} keep_alive={self.keep_alive}>"
        )

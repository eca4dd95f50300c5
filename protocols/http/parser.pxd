"""HTTP/1.1 responses in, events out: no I/O, no call-backs, no copy of a body.

Pull style.  The owner of the bytes asks for one event at a time:

    parser.begin(head_request, connect, upgrade)      once per request, in request order
    cursor = data; end = data + size
    while True:
        event = parser.next_event(&cursor, end)       raises MessageError
        if event == Event.NEED_DATA: break            cursor == end
        if event == Event.PAUSED: break               cursor < end: surplus, poison
        if event == Event.BODY: use parser.body[:parser.body_size]
        ...
    at the end of the stream: parser.feed_eof()

An event may be MESSAGE_COMPLETE without any input, so pull until NEED_DATA or PAUSED.
"""

from libc.stdint cimport int64_t, uint64_t

from protocols.http.headers cimport Headers


cdef enum Event:
    EVENT_ERROR = -1        # never returned to Python's side: an exception is set
    NEED_DATA = 0           # all input is consumed, the message is not at its end
    INFORMATIONAL = 1       # a 1xx head other than 101; the final head is still to come
    HEAD = 2                # the final head (also 101): the head fields are valid
    BODY = 3                # body, body_size: a slice of the caller's input
    MESSAGE_COMPLETE = 4    # trailers are valid; the next bytes belong to the next message
    PAUSED = 5              # no response is expected: nothing was consumed


cdef enum State:
    STATE_IDLE              # before the first begin()
    STATE_HEAD
    STATE_FIXED             # a body of `remaining` bytes
    STATE_CHUNK_SIZE
    STATE_CHUNK_SPACE       # white space after a chunk size, legal only before ";"
    STATE_CHUNK_EXTENSION
    STATE_CHUNK_SIZE_LF
    STATE_CHUNK_DATA
    STATE_CHUNK_DATA_CR
    STATE_CHUNK_DATA_LF
    STATE_TRAILERS
    STATE_UNTIL_CLOSE
    STATE_END               # everything came; MESSAGE_COMPLETE is still to be told
    STATE_COMPLETE          # told; begin() is allowed when keep_alive
    STATE_SWITCHED          # 101 or CONNECT 2xx: the bytes are no longer HTTP/1.1
    STATE_FAILED


cdef enum Scan:
    SCAN_MORE = 0
    SCAN_DONE = 1
    # Anything above is a Fault.


cdef enum Fault:
    FAULT_NONE = 0
    FAULT_NOT_HTTP = 2
    FAULT_VERSION
    FAULT_STATUS_CODE
    FAULT_REASON
    FAULT_BARE_LF
    FAULT_BARE_CR
    FAULT_OBS_FOLD
    FAULT_EMPTY_NAME
    FAULT_SPACE_IN_NAME
    FAULT_NAME
    FAULT_NO_COLON
    FAULT_VALUE
    FAULT_LENGTH_SYNTAX
    FAULT_LENGTH_OVERFLOW
    FAULT_LENGTH_DIFFERS
    FAULT_LENGTH_AND_CODING
    FAULT_CODING
    FAULT_CODING_IN_HTTP10
    FAULT_UNASKED_SWITCH
    FAULT_CHUNK_SIZE
    FAULT_CHUNK_SIZE_DIGITS
    FAULT_CHUNK_SIZE_OVERFLOW
    FAULT_CHUNK_LINE_END
    FAULT_CHUNK_SPACE
    FAULT_CHUNK_EXTENSION
    FAULT_CHUNK_DATA_END
    # Limits; the table names the field of ResponseLimits.
    FAULT_LIMIT_HEAD
    FAULT_LIMIT_LINE
    FAULT_LIMIT_HEADERS
    FAULT_LIMIT_INFORMATIONAL
    FAULT_LIMIT_EXTENSION
    FAULT_LIMIT_OVERHEAD
    FAULT_LIMIT_TRAILER_BYTES
    FAULT_LIMIT_TRAILERS


cdef enum Note:             # fields of the head that most clients act on
    NOTE_SET_COOKIE = 1
    NOTE_CONTENT_ENCODING = 2


cdef class ResponseParser:
    # The message; valid from HEAD (or INFORMATIONAL) to the next begin().
    cdef readonly int status_code           # 100 to 999
    cdef readonly int minor_version         # of HTTP/1.x; 0 to 9
    cdef readonly bytes head                # status line and fields, without the empty line
    cdef Py_ssize_t fields_start            # where the first field line begins in head
    cdef int notes                          # Notes of the head
    cdef readonly int64_t content_length    # as announced, also for HEAD and 304; -1 unknown
    cdef readonly bint chunked
    cdef readonly bint keep_alive           # the connection can carry another request after
                                            # this message, once it is complete
    cdef readonly bint switched             # 101 or CONNECT 2xx
    cdef readonly Headers trailers          # None when there were none
    cdef readonly int64_t body_received     # bytes of the body handed on so far

    # The slice of the last BODY event: into the caller's input, valid as long as that is.
    cdef const char* body
    cdef Py_ssize_t body_size

    # What begin() was told about the request.
    cdef bint head_request
    cdef bint connect
    cdef bint upgrade

    cdef State state
    cdef bint started                       # a byte of this response has come

    # A head or trailer block that spans calls: what came of it, and where the scan stopped.
    cdef char* buffer
    cdef Py_ssize_t buffer_size
    cdef Py_ssize_t buffer_capacity
    cdef Py_ssize_t line                    # offset of the line that is being scanned
    cdef Py_ssize_t colon                   # offset of its colon; 0 before it was met
    cdef Py_ssize_t scanned                 # offset of the first byte not yet scanned
    cdef int field_count

    # Framing fields of the head being scanned.
    cdef int framing_fault                  # a Fault that counts unless it is a tunnel
    cdef bint has_transfer_encoding
    cdef bint says_close
    cdef bint says_keep_alive

    # Body.
    cdef int64_t remaining                  # of the fixed body or of the chunk
    cdef uint64_t chunk_size
    cdef int chunk_digits
    cdef int64_t extension_bytes            # of the message
    cdef int64_t overhead_bytes             # of the message: what is not data
    cdef int informational_count

    # ResponseLimits, and copied from it at construction.
    cdef object limits
    cdef Py_ssize_t max_head_bytes
    cdef Py_ssize_t max_line_bytes
    cdef int max_headers
    cdef int max_informational
    cdef int64_t max_chunk_extension_bytes
    cdef int64_t chunk_overhead_allowance_bytes
    cdef int64_t max_chunk_overhead_ratio
    cdef Py_ssize_t max_trailer_bytes
    cdef int max_trailers

    # Input of the Python face.
    cdef bytes pending
    cdef Py_ssize_t pending_start
    cdef bint eof

    # A response to the next request is expected; the request was HEAD, CONNECT, or asked
    # to Upgrade.  RuntimeError unless the last message is complete and keep_alive.
    cdef int begin(self, bint head_request, bint connect, bint upgrade) except -1

    # The next event in [*cursor, end); advances *cursor past what was consumed.
    # Raises MalformedMessage or LimitExceeded; afterwards the parser stays failed.
    cdef Event next_event(self, const char** cursor, const char* end) except EVENT_ERROR

    # The peer closed: MESSAGE_COMPLETE when that ends a read-to-close body, PAUSED when no
    # response is expected, else raises TruncatedMessage.
    cdef Event feed_eof(self) except EVENT_ERROR

    # The fields of the current head, decoded on demand.
    cdef Headers make_headers(self)

    cdef int _scan_block(self, const char* start, const char* end) noexcept nogil
    cdef int _scan_status_line(self, const char* start, const char* end) noexcept nogil
    cdef int _suspend(
        self, const char* start, const char* line, const char* at, const char* stop
    ) noexcept nogil
    cdef void _note_field(
        self, const char* name, const char* colon, const char* end
    ) noexcept nogil
    cdef int _note_content_length(self, const char* p, const char* end) noexcept nogil
    cdef int _note_transfer_encoding(self, const char* p, const char* end) noexcept nogil
    cdef void _note_connection(self, const char* p, const char* end) noexcept nogil
    cdef bytes _pull_block(self, const char** cursor, const char* end)
    cdef int _append(self, const char* data, Py_ssize_t size) except -1
    cdef void _restart_block(self) noexcept
    cdef Event _finish_head(self) except EVENT_ERROR
    cdef Event _next_in_chunks(self, const char** cursor, const char* end) except EVENT_ERROR
    cdef Event _fail(self, int fault) except EVENT_ERROR

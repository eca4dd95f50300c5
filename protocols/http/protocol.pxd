"""One HTTP/1.1 connection, client side; its C face for those who subclass it in Cython."""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport int64_t

from reactor.core cimport Reactor
from reactor.protocol cimport Protocol
from reactor.timers cimport Timer, TimerHeap

from protocols.http.parser cimport Event, ResponseParser


cdef enum ExchangeState:
    EXCHANGE_NONE                   # no request is under way
    EXCHANGE_SENT                   # not one byte of the response has come
    EXCHANGE_HEAD                   # some of the head, or informational responses
    EXCHANGE_BODY                   # the final head was told
    EXCHANGE_CLOSED                 # a call-back closed the connection; request_failed is due
    EXCHANGE_FAILED                 # told; the connection is being closed


cdef enum UploadState:
    UPLOAD_NONE                     # all of the request was written
    UPLOAD_LENGTH                   # content of a declared length is being written
    UPLOAD_CHUNKED                  # content in chunks (RFC 9112 section 7.1)


cdef class HTTPProtocol(Protocol):
    cdef readonly ResponseParser parser
    cdef readonly str host          # for errors, as the caller gave it
    cdef readonly int port
    cdef readonly int exchanges     # requests begun on this connection
    cdef readonly bint reusable     # another request may be sent now or when this one ends
    cdef readonly bint unanswered   # the request failed before a byte of its response came
    cdef ExchangeState state
    cdef UploadState upload_state
    cdef bint has_content           # more of it than goes out with the head
    cdef int64_t upload_left        # bytes of the declared length not yet written
    cdef bint in_context            # within a call-back of the transport's, in its context
    cdef bint is_parsing            # within bytes_received,
    cdef object entered             # which leaves this context, or None
    cdef bytes received             # what is being parsed, where it is an object
    cdef bint hears_head            # head_received,
    cdef bint hears_body            # and body_received do something
    # what the last plain request was made of, and its head
    cdef str kept_method, kept_target
    cdef object kept_headers, kept_host
    cdef bytes kept_head
    cdef Reactor reactor            # from connection_made on
    cdef TimerHeap timers           # the reactor's, which it may outlive
    cdef Timer deadline

    # Write a rendered head, and content that it announces (or None), and expect the response.
    # deadline_ns on the reactor's clock, 0 for none. RuntimeError when a request is under way
    # or the connection is spent.
    cdef int send_request(self, bytes head, bytes content, bint head_request,
                          int64_t deadline_ns) except -1

    # Write content of the request under way, begun with begin_upload; ValueError when it is
    # more than was declared. What is written after the response came whole is dropped.
    cdef int begin_upload(self, int64_t size) except -1     # -1: in chunks
    cdef int write_content(self, bytes data) except -1
    cdef int finish_upload(self) except -1

    # -- what subclasses override; each may do anything to the connection ----------------
    cdef int on_informational(self) except -1
    cdef int on_head(self) except -1
    cdef int on_body(self, const char *data, Py_ssize_t size) except -1
    cdef int on_complete(self) except -1
    cdef int on_failed(self, object error) except -1

    cdef int on_deadline(self) except -1

    cdef int parse(self, const char *data, Py_ssize_t size) except -1
    cdef int call_back(self, str name, object first=*, object second=*) except -1
    cdef int parse_in_context(self, const char *data, Py_ssize_t size) except -1
    cdef bytes head_of(self, str method, str target, object headers, object host)
    cdef int finish(self, bint surplus) except -1
    cdef int fail(self, object error) except -1
    cdef int note_close(self) except -1


# A piece of the body as an object: the received one where it is just that.
cdef inline bytes piece_of(HTTPProtocol protocol, const char *data, Py_ssize_t size):
    cdef bytes received = protocol.received
    if (received is not None and size == PyBytes_GET_SIZE(received)
            and data == PyBytes_AS_STRING(received)):
        return received
    return PyBytes_FromStringAndSize(data, size)

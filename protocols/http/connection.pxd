"""The connection as the client uses it: futures in place of call-backs."""

from libc.stdint cimport int64_t

from protocols.http.protocol cimport HTTPProtocol
from protocols.http.response cimport Response


cdef class BodyStream:
    cdef ClientConnection connection    # None once the body is whole or failed
    cdef object pieces                  # deque of bytes that nobody has asked for yet
    cdef Py_ssize_t size_bytes          # of the pieces
    cdef object error                   # what ended the body early, or None
    cdef object waiter                  # who waits for the next piece, or None
    cdef bint complete

    cdef int push(self, bytes data) except -1
    cdef int end(self, object error) except -1
    cdef int wake(self) except -1


cdef class ClientConnection(HTTPProtocol):
    cdef object waiter                  # the exchange's future
    cdef Response response
    cdef object url
    cdef str method
    cdef bint streamed
    cdef bytes first                    # the collected body: its first piece,
    cdef list rest                      # the others, or None,
    cdef Py_ssize_t body_bytes          # their size together,
    cdef Py_ssize_t max_body_bytes      # and what it may not exceed
    cdef BodyStream stream
    cdef int64_t began_ns
    cdef object uploader                # what upload() waits for, or None
    cdef list informational             # (status, Headers) of 1xx responses, or None
    cdef public object observer         # protocols.http.watching's, for one exchange, or None

    cdef int observe(self, str what, object argument) except -1
    cdef int unobserve(self) except -1
    cdef int settle(self, object error) except -1

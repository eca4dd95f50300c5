"""The connection as the client uses it: futures in place of call-backs."""

from libc.stdint cimport int64_t

from protocols.http.body_stream cimport BodyStream
from protocols.http.outcome cimport Outcome
from protocols.http.protocol cimport HTTPProtocol
from protocols.http.response cimport Response


cdef class ClientConnection(HTTPProtocol):
    cdef Outcome outcome                # of exchanges that were begun with start(),
    cdef Response answer                # and what the last one ended with, or None,
    cdef object failure                 # or why there is none, or None
    cdef bint is_started                # with start(): settle() tells the outcome
    cdef object waiter                  # the future of one that was begun with exchange()
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
    cdef int64_t ended_ns               # when the last response was whole
    cdef object uploader                # what upload() waits for, or None
    cdef object ending                  # what over() has returned, or None
    # how long the peer may be silent in the exchange under way, 0 for as long as it likes,
    cdef int64_t silence_ns
    cdef object phases                  # whose limit that is, a Timeout,
    cdef int64_t heard_ns               # when it was heard last,
    cdef int64_t until_ns               # and the deadline, or 0
    cdef list informational             # (status, Headers) of 1xx responses, or None
    cdef public object observer         # protocols.http.watching's, for one exchange, or None

    cdef int end_upload(self) except -1
    cdef int observe(self, str what, object argument) except -1
    cdef int unobserve(self) except -1
    # Send a rendered head without content (is_head: of a request for no more than a head); the
    # outcome is told when the response is whole.
    # began_ns is now, deadline_ns on the reactor's clock or 0.  Errors as for exchange().
    cdef int start(self, bytes head, bint is_head, str method, object url, int64_t began_ns,
                   int64_t deadline_ns, bytes content) except -1
    # Of the exchange that start() has begun: fail it when the peer is silent for so long.
    cdef int limit_silence(self, object phases, int64_t silence_ns) except -1
    cdef int settle(self, object error) except -1

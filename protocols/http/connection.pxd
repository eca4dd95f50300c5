"""The connection as the client uses it: futures in place of call-backs."""

from libc.stdint cimport int64_t

from reactor.core cimport Handle

from protocols.http.headers cimport Headers
from protocols.http.protocol cimport HTTPProtocol
from protocols.http.response cimport Response


cdef class Outcome(Handle):
    """What the exchanges of a connection end with, one after the other."""

    cdef bint is_over
    cdef bint is_cancelled
    cdef public bint _asyncio_future_blocking   # asyncio's mark of what a task may wait for
    cdef object waker                   # the call-back of who waits, or None,
    cdef object waker_context           # and its context
    cdef object message                 # of who cancelled, or None
    cdef Response response              # of the exchange that is over, or None
    cdef object error                   # why there is none, or None
    cdef object adder, getter           # add_done_callback and get_loop, bound, while connected

    cdef int begin(self) except -1
    cdef int end(self) except -1


cdef class BodyStream:
    cdef ClientConnection connection    # None once the body is whole or failed
    cdef object pieces                  # deque of bytes that nobody has asked for yet
    cdef Py_ssize_t size_bytes          # of the pieces
    cdef object error                   # what ended the body early, or None
    cdef object waiter                  # who waits for the next piece, or None
    cdef bint complete
    cdef bint taken                     # a piece was handed out
    cdef readonly Headers trailers      # fields after a body in chunks, or None

    cdef bytes next_pieces(self)
    cdef int push(self, bytes data) except -1
    cdef int end(self, object error) except -1
    cdef int wake(self) except -1


cdef class ClientConnection(HTTPProtocol):
    cdef Outcome outcome                # of exchanges that were begun with start()
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
    cdef list informational             # (status, Headers) of 1xx responses, or None
    cdef public object observer         # protocols.http.watching's, for one exchange, or None

    cdef int observe(self, str what, object argument) except -1
    cdef int unobserve(self) except -1
    # Send a rendered head without content (is_head: of a request for no more than a head); the
    # outcome is told when the response is whole.
    # began_ns is now, deadline_ns on the reactor's clock or 0.  Errors as for exchange().
    cdef int start(self, bytes head, bint is_head, str method, object url, int64_t began_ns,
                   int64_t deadline_ns) except -1
    cdef int settle(self, object error) except -1

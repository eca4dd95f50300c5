"""The body of a streamed response; its C face."""

from protocols.http.headers cimport Headers
from protocols.http.outcome cimport Outcome
from protocols.http.protocol cimport HTTPProtocol


cdef class BodyStream:
    cdef HTTPProtocol connection        # None once the body is whole or failed
    cdef bytes first                    # of the pieces that nobody has asked for yet, or None,
    cdef object rest                    # a deque of the others, or None,
    cdef Py_ssize_t size_bytes          # and their size together
    cdef object error                   # what ended the body early, or None
    cdef Outcome outcome                # of the wait for a piece, or None
    cdef bint is_awaited                # somebody waits
    cdef bint is_paused                 # the transport, until there is room
    cdef bint complete
    cdef bint taken                     # a piece was handed out
    cdef readonly Headers trailers      # fields after a body in chunks, or None
    cdef public object reader           # who waits for a piece on the thread that asks, or None:
                                        # called with this and the hold; it returns the next
                                        # piece or raises what ended the body

    # For the connection: the next piece; the end, with what ended it early or None.
    cdef int push(self, bytes data) except -1
    cdef int end(self, object error) except -1

    # The next piece, which is there, taken on any thread. Before that, on the loop's: receive again
    # if that is needed.
    cdef bytes take(self)
    cdef int make_room(self) except -1
    cdef bytes with_more(self, bytes data)
    cdef int begin_wait(self) except -1
    cdef int read_on(self) except -1


cdef BodyStream new_stream(HTTPProtocol connection)


cdef class InTurn:
    cdef object pieces


cdef enum PieceState:
    PIECE_NEW                           # nobody has awaited it
    PIECE_WAITING
    PIECE_OVER


cdef class NextPiece:
    cdef BodyStream stream
    cdef object hold                    # a Hold to end with the body, or None
    cdef PieceState state
    cdef Outcome outcome                # while it waits
    cdef bint takes_nothing             # it waits until there is a piece, on the loop

    cdef int leave(self) except -1
    cdef int ended(self) except -1


cdef class HeldPieces:
    cdef BodyStream stream
    cdef object hold

"""The body of a streamed response, piece by piece, with back-pressure.

Owns: the pieces that nobody has asked for yet, and who waits for the next.  May not touch: the
bytes on the wire; when the connection is given back (``protocols.http.streams``), but for saying
that the body has ended.
Invariant: a piece is handed out once; a streamed body ends exactly once, whole or with an error;
the transport is paused from the high-water mark down to the low one of what nobody has asked for.

What ``anext`` gives is awaited like a coroutine, and is one for asyncio, but has no frame: a body
may come in pieces of one TLS record, and each costs its reader a turn.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from reactor.futures cimport (
    PYGEN_ERROR, PYGEN_RETURN, AwaitableType, PySendResult, at_once, send_to, thrown,
)

from protocols.http.outcome cimport new_outcome, wait_for
from protocols.http.protocol cimport HTTPProtocol

from collections import deque
from copy import copy

from protocols.http.limits import STREAM_HIGH_WATER_BYTES
from reactor import EndpointError

cdef Py_ssize_t HIGH_WATER = STREAM_HIGH_WATER_BYTES
cdef Py_ssize_t JOINED = STREAM_HIGH_WATER_BYTES // 4
cdef Py_ssize_t LOW_WATER = STREAM_HIGH_WATER_BYTES // 4


@cython.auto_pickle(False)
cdef class BodyStream:
    """The body of a streamed response: an async iterator of bytes with back-pressure.

    Made by ``ClientConnection``, never by its users.
    """

    def __init__(self):
        raise TypeError("a BodyStream comes with a streamed response")

    def __aiter__(self):
        return self

    def __anext__(self):
        return new_piece(self, None)

    @property
    def is_complete(self):
        """Whether the whole body has come, read or not."""
        return self.complete

    @property
    def is_taken(self):
        """Whether a piece was handed out, so that what is left is not all of the body."""
        return self.taken and self.error is None

    cdef bytes take(self):
        """Return the next piece; there is one.  On any thread."""
        cdef bytes data = self.first
        self.taken = True               # before: where joining them fails they are lost
        self.first = None
        if self.rest:
            data = self.with_more(data)
        self.size_bytes -= PyBytes_GET_SIZE(data)
        return data

    cdef int make_room(self) except -1:
        """Receive again if little is left when the next piece, which is there, was taken."""
        if self.is_paused and self.size_bytes - PyBytes_GET_SIZE(self.first) <= LOW_WATER:
            self.read_on()
        return 0

    cdef bytes with_more(self, bytes data):
        """Return data, or several small pieces in one: each costs its reader a turn."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef list several = [data]
        while self.rest:
            data = self.rest.popleft()
            size += PyBytes_GET_SIZE(data)
            if size > JOINED:
                self.first = data
                break
            several.append(data)
        return several[0] if len(several) == 1 else b"".join(several)

    cdef int begin_wait(self) except -1:
        """See that somebody may wait for a piece, which is not there."""
        cdef object error = self.error
        if error is not None:
            self.error = another(error)
            raise error
        if self.complete:
            raise StopAsyncIteration
        if self.connection is None:
            raise RuntimeError("a BodyStream comes with a streamed response")
        if self.is_awaited:
            raise RuntimeError("the body is being read by somebody else already")
        if self.outcome is None:
            self.outcome = new_outcome(self.connection.reactor)
        self.outcome.begin()
        self.is_awaited = True
        return 0

    cdef int push(self, bytes data) except -1:
        # another thread may be in take(), of a blocking client: the collector lets go of the GIL
        if self.first is None and not self.rest:
            self.first = data
        elif self.rest is None:
            self.rest = deque((data,))
        else:
            self.rest.append(data)
        self.size_bytes += PyBytes_GET_SIZE(data)
        if self.size_bytes > HIGH_WATER and not self.is_paused:
            self.is_paused = True
            self.connection.transport.pause_reading()
        if self.is_awaited:
            self.outcome.end()
        return 0

    cdef int end(self, object error) except -1:
        self.complete = error is None
        self.error = error
        if self.is_paused:
            self.read_on()              # for the next response
        self.connection = None
        if self.outcome is not None:
            if self.is_awaited:
                self.outcome.end()
            self.outcome = None
        return 0

    cdef int read_on(self) except -1:
        self.is_paused = False
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.resume_reading()
        return 0


cdef object another(object error):
    """Return what to raise the next time: the frames of a raised one have the response."""
    cdef object again
    try:
        again = copy(error)
    except Exception:                   # of a call-back of the caller's
        return error
    again.__cause__ = error.__cause__
    return again


cdef BodyStream new_stream(HTTPProtocol connection):
    cdef BodyStream stream = BodyStream.__new__(BodyStream)
    stream.connection = connection
    return stream


@cython.final
@cython.auto_pickle(False)
cdef class HeldPieces:
    """The pieces of a body, with what they hold; that is given back at their end, good or bad.

    Args:
        stream: the pieces, of which those are left that nobody has taken.
        hold: of the connection.
    """

    def __init__(self, BodyStream stream not None, hold):
        self.stream = stream
        self.hold = hold

    def __aiter__(self):
        return self

    def __anext__(self):
        return new_piece(self.stream, self.hold)

    @property
    def is_complete(self):
        """Whether the whole body has come, read or not."""
        return self.stream is not None and self.stream.complete


@cython.final
@cython.auto_pickle(False)
cdef class InTurn:
    """An iterator over what an asynchronous one gives that waits on the calling thread, if at all.

    Args:
        pieces: of bytes or of str; what ``anext`` of them gives never yields.
    """

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return at_once(self.pieces.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


cdef PySendResult advance(PyObject *self, PyObject *argument,
                          PyObject **result) except PYGEN_ERROR:
    """Go on: am_send, by which the interpreter awaits without an exception for the result."""
    cdef NextPiece awaited = <NextPiece>self
    cdef BodyStream stream = awaited.stream
    cdef object got = None
    if awaited.state == PIECE_WAITING:
        if awaited.outcome.waker is not None:
            raise RuntimeError("coroutine is being awaited already")
        awaited.outcome = None
        stream.is_awaited = False
    elif awaited.state == PIECE_OVER:
        raise RuntimeError("cannot reuse already awaited coroutine")
    elif argument != <PyObject *>None:
        raise TypeError("can't send non-None value to a just-started coroutine")
    elif stream is None:
        raise RuntimeError("a NextPiece comes from anext() of a body")
    awaited.state = PIECE_OVER          # for what raises
    if stream.reader is not None and not awaited.takes_nothing:
        got = stream.reader(stream, awaited.hold)
    elif stream.first is None:
        try:
            stream.begin_wait()
        except (StopAsyncIteration, EndpointError):
            awaited.ended()
            raise
        awaited.state = PIECE_WAITING
        awaited.outcome = stream.outcome
        return wait_for(stream.outcome, result)
    else:
        stream.make_room()
        if not awaited.takes_nothing:
            got = stream.take()
    Py_INCREF(got)
    result[0] = <PyObject *>got
    return PYGEN_RETURN


@cython.final
@cython.freelist(64)
@cython.no_gc_clear                     # __dealloc__ lets others wait
@cython.auto_pickle(False)
cdef class NextPiece:
    """The next piece of a body, when it is awaited; raises what ended the body before it.

    ``RuntimeError`` while somebody else waits for it.
    """

    def __init__(self):
        raise TypeError("a NextPiece comes from anext() of a body")

    def __dealloc__(self):
        if self.state == PIECE_WAITING:
            # with the loop goes who waits; what is garbage with it is empty already, maybe
            if self.outcome.loop is not None and not self.outcome.loop._closed:
                self.leave()
        elif self.state == PIECE_NEW and self.stream is not None:
            PyErr_WarnEx(RuntimeWarning, b"coroutine 'BodyStream.__anext__' was never awaited", 1)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return send_to(self, None)

    @property
    def __name__(self):
        return "__anext__"

    @property
    def __qualname__(self):
        return "BodyStream.__anext__"

    def send(self, value):
        """Go on, as ``coroutine.send`` does."""
        return send_to(self, value)

    def throw(self, kind, value=None, traceback=None):
        """Wait no more and raise, as ``coroutine.throw`` does."""
        value = thrown(kind, value, traceback)
        if self.state == PIECE_OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.close()
        raise value

    def close(self):
        """Wait no more, as ``coroutine.close`` does."""
        if self.state == PIECE_WAITING:
            self.leave()
        self.state = PIECE_OVER

    cdef int leave(self) except -1:
        cdef Outcome outcome = self.outcome
        self.outcome = None
        self.stream.is_awaited = False
        if outcome.waker is not None:
            # a task has yet to be woken, by an outcome that nobody else may begin anew
            if self.stream.outcome is outcome:
                self.stream.outcome = None
            outcome.end()
        return 0

    cdef int ended(self) except -1:
        """The body has: its connection may go back."""
        if self.hold is not None:
            self.hold.end()
        return 0


(<AwaitableType *>NextPiece).tp_as_async.am_send = advance


def until_piece(BodyStream stream not None, hold):
    """Return a coroutine for the loop to run until there is a piece, which it does not take."""
    cdef NextPiece awaited = new_piece(stream, hold)
    awaited.takes_nothing = True
    return awaited


cdef NextPiece new_piece(BodyStream stream, object hold):
    cdef NextPiece awaited = NextPiece.__new__(NextPiece)
    awaited.stream = stream
    awaited.hold = hold
    return awaited

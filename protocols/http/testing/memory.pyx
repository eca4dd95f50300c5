"""The transport of a mocked connection: what is written goes to an object, at once.

Owns: the pieces that wait while the protocol does not read.  May not touch: descriptors, the
meaning of the bytes.
Invariant: ``connection_lost`` is called once, from the loop, after ``close``, ``abort`` or the
peer's end; nothing is delivered after it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocols.http.protocol cimport HTTPProtocol
from reactor.transports.transport cimport Transport


cdef class MemoryTransport(Transport):
    """A transport for an ``HTTPProtocol`` whose peer is *peer*.

    Args:
        loop: the running ``reactor`` loop.
        protocol: the client's connection.
        peer: its ``data_received`` gets what the protocol writes, and its ``connection_lost``
            is called when the protocol has closed.
    """

    def __cinit__(self, loop, protocol, peer):
        self.peer = peer
        self.pieces = []

    def begin(self):
        """Tell the protocol that the connection stands."""
        self.call_connection_made()

    # -- from the peer -------------------------------------------------------------------

    def send(self, bytes data not None):
        """Give the protocol some bytes, now or when it reads again."""
        if data and not self.closing:
            self.pieces.append(data)
            self.flush()

    def end(self):
        """The peer sends no more, and has closed."""
        if not self.closing:
            self.peer_ended = True
            self.flush()

    def fail_exchange(self, error not None):
        """Let the request under way raise *error* as it is, whatever it is."""
        if self.protocol is not None:
            (<HTTPProtocol?>self.protocol).fail(error)

    async def drain(self):
        """Wait until the protocol has been given all that was sent, or has closed."""
        while self.pieces and not self.closing:
            self.room = self._loop.create_future()
            await self.room

    cdef int flush(self) except -1:
        cdef bytes data
        while self.pieces and not self.paused and not self.closing:
            data = self.pieces.pop(0)
            self.deliver(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if self.peer_ended and not self.pieces and not self.closing:
            self.deliver_eof()
            self.finish(None)
        return self.make_room()

    cdef int make_room(self) except -1:
        if self.room is not None and not (self.pieces or self.room.done()):
            self.room.set_result(None)
        return 0

    # -- from the protocol ---------------------------------------------------------------

    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1:
        if not self.closing and size:
            self.peer.data_received(PyBytes_FromStringAndSize(start, size))
        return 0

    cdef int abort_with(self, object error) except -1:
        return self.finish(error)

    cdef int finish(self, object error) except -1:
        cdef object peer = self.peer
        if self.closing:
            return 0
        self.closing = True
        self.peer = None
        self.pieces = []
        self.make_room()
        self._loop.call_soon(self._lost, error)
        if peer is not None:
            peer.connection_lost()
        return 0

    def _lost(self, error):
        self.call_connection_lost(error)

    cpdef bint is_quiet(self) except -1:
        """Return whether the protocol was given all that has come, and no end came."""
        return not (self.closing or self.peer_ended or self.pieces)

    def close(self):
        """Close; all that was written has arrived already."""
        self.finish(None)

    cpdef bint is_closing(self) except -1:
        """Return whether the transport is closing or closed."""
        return self.closing

    def is_reading(self):
        """Return whether what comes is delivered."""
        return not (self.paused or self.closing)

    def pause_reading(self):
        """Deliver no more until ``resume_reading``."""
        self.paused = True

    def resume_reading(self):
        """Deliver what came meanwhile, in a pass of the loop to come, and go on."""
        if self.paused:
            self.paused = False
            if self.pieces or self.peer_ended:
                self._loop.call_soon(self._resume)

    def _resume(self):
        self.flush()

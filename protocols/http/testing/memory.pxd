"""A transport whose other end is an object of this process; no descriptor, no system call."""

from reactor.transports.transport cimport Transport


cdef class MemoryTransport(Transport):
    cdef object peer                # has data_received(bytes) and connection_lost(); None: gone
    cdef list pieces                # what the peer sent while reading was paused
    cdef object room                # what drain() waits for, or None
    cdef bint paused
    cdef bint closing
    cdef bint peer_ended

    cdef int flush(self) except -1
    cdef int make_room(self) except -1
    cdef int finish(self, object error) except -1

"""A datagram socket; its C face."""

from libc.stdint cimport intptr_t

from reactor.addresses cimport Address
from reactor.transports.base cimport BaseTransport
from reactor.transports.watcher cimport Watcher


cdef enum DatagramState:
    DATAGRAM_OPEN
    DATAGRAM_CLOSING                # close: nothing is received, the queue drains
    DATAGRAM_ABORTED                # connection_lost comes in the next pass
    DATAGRAM_LOST                   # the socket is closed, the protocol is gone


cdef class DatagramTransport(BaseTransport):
    cdef DatagramState state
    cdef bint reading               # not paused
    cdef bint has_peer              # connect(2) was called: sent is without an address
    cdef int family
    cdef intptr_t fd
    cdef readonly object _sock      # None once it is closed
    cdef object address             # the only one to which is sent, or None
    cdef dict extra                 # facts for get_extra_info
    cdef Watcher reader
    cdef Watcher writer
    cdef object queue               # deque of (data, address) that the socket did not take
    cdef Py_ssize_t queued          # bytes in it, with headers
    # The last of each, so that who answers, or sends to one peer, needs no conversion.
    cdef Address sender
    cdef object sender_name
    cdef Address receiver
    cdef object receiver_name

    cdef int watch(self) except -1
    cdef bint is_ours(self) except -1
    # Receive one datagram into a block; whether there may be another.
    cdef bint receive(self, char *block, Py_ssize_t size) except -1
    # Send one datagram now; None, or the OSError that says why not.
    cdef object send(self, object data, const char *start, Py_ssize_t size, object addr)
    cdef object send_by_name(self, object data, object addr)
    # An address as the system has it; NULL, without an exception, for what Python must look at.
    cdef const Address *find(self, object addr)
    cdef int drop_all(self) except -1
    cdef int close_socket(self) except -1

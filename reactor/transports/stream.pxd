"""The transport of a connected stream socket; its C face."""

from libc.stdint cimport intptr_t

from reactor.addresses cimport Address
from reactor.buffers cimport WriteQueue
from reactor.core cimport LiveLink, Reactor
from reactor.pollers.contract cimport Op
from reactor.transports.transport cimport Transport


cdef enum StreamState:
    STREAM_OPEN                     # both directions
    STREAM_LENT                     # sendfile: the queue drains, then the file is sent
    STREAM_ENDING                   # write_eof: the queue drains, then the peer reads an end
    STREAM_CLOSING                  # close: nothing is read, the queue drains
    STREAM_ABORTED                  # ops are called back, then connection_lost
    STREAM_LOST                     # the descriptor is closed, the protocol is gone


cdef enum ReadState:
    READ_ON
    READ_PAUSED
    READ_ENDED                      # the peer's end was read


cdef class StreamTransport(Transport):
    cdef StreamState state
    cdef ReadState reading
    cdef bint holding               # bytes or the end came in before a pause could stop them
    cdef bint filling               # get_buffer is being called, and then the memory filled
    cdef intptr_t fd
    cdef bytes rest                 # received, and left by a protocol that paused; else None
    cdef Py_ssize_t object_bytes    # the next receive is into an object of this size; 0: a block
    cdef LiveLink link              # in the loop's list while there is a descriptor
    cdef Op receive_op
    cdef Op send_op
    cdef WriteQueue queue           # None until the socket once did not take everything
    cdef object error               # what connection_lost will be told
    cdef object sock                # the Python socket that owns the descriptor, or None
    cdef object socket_view         # what get_extra_info("socket") gave out
    # LENT: done when the queue is empty; then a second one, which fails when the end is near
    cdef object drain_waiter
    cdef readonly object server              # whose connection this is, or None
    cdef object extra               # dict of facts that the maker knew, or None
    cdef unsigned char peer[28]     # the peer's sockaddr_in or sockaddr_in6
    cdef int peer_size

    # Begin: connection_made is called, then bytes are received.
    cdef int begin(self) except -1
    cdef int made(self) except -1
    cdef int start(self) except -1
    cdef int let_socket_go(self) except -1
    cdef void set_peer(self, const void *address, int size) noexcept

    cdef int enter(self, StreamState state) except -1
    cdef int receive(self) except -1
    cdef int received(self) except -1
    cdef int go_on(self) except -1
    cdef int received_bytes(self) except -1
    cdef int drop_held(self) except -1
    cdef int received_end(self) except -1
    cdef int readable(self) except -1
    cdef int receive_into_buffer(self) except -1
    cdef int receive_into_object(self) except -1
    cdef Py_ssize_t receive_now(self, char *into, Py_ssize_t room) noexcept
    cdef int received_none(self, Py_ssize_t result) except -1
    cdef void expect_alike(self, Py_ssize_t count) noexcept
    cdef int send_queue(self, int flags) except -1
    cdef int sent(self) except -1
    cdef int drained(self) except -1
    cdef bint refuse_write(self) except -1
    cdef int call_loan_in(self) except -1
    cdef int lose_if_idle(self) except -1
    cdef int lose(self) except -1
    cdef int close_descriptor(self) except -1


# A transport over a connected descriptor that is attached to the loop's poller. It owns the
# descriptor, or, with sock, the socket object that does. Call begin() next.
cdef StreamTransport new_stream(Reactor loop, intptr_t fd, object protocol, object sock,
                                object extra, object server)

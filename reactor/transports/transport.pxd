"""What every stream transport has: its protocol above, its bytes below."""

from reactor.transports.base cimport BaseTransport


cdef enum Receiver:                 # how bytes reach the protocol
    RECEIVER_NATIVE                 # a Protocol that overrides bytes_received in Cython
    RECEIVER_BYTES                  # data_received(bytes)
    RECEIVER_BUFFER                 # get_buffer and buffer_updated


cdef class Transport(BaseTransport):
    cdef Receiver receiver
    cdef bint keeps_bytes           # the protocol has a use for bytes objects

    # -- up: the only places that give bytes to the protocol --------------------------
    # Give bytes to the protocol. False when it failed: the connection is aborted then.
    cdef bint deliver(self, const char *data, Py_ssize_t size) except -1
    # The same for a bytes object, which a protocol is given as it is.
    cdef bint deliver_bytes(self, bytes data) except -1
    # The peer's end. True when the protocol wants to go on writing.
    cdef bint deliver_eof(self) except -1

    # -- down: what a kind of transport supplies --------------------------------------
    # Send size bytes at start, which belong to the bytes object data, or (None) to the caller,
    # who need not keep them beyond the call. Dropped when closing.
    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1
    # Whether all that has come was given to the protocol and no end has come; true does not
    # mean that nothing is on its way.
    cpdef bint is_quiet(self) except -1

    cdef bint deliver_buffered(self, const char *data, Py_ssize_t size) except -1
    # Keep bytes that a BufferedProtocol, which has paused, is not to get before it resumes. False:
    # it has not paused.
    cdef bint keep_rest(self, const char *data, Py_ssize_t size) except -1
    # Zero copy: ask a BufferedProtocol for its memory (False when that failed: the connection
    # is aborted then), fill it, and tell how many bytes came. Whoever does not fill it after
    # all releases the view.
    cdef bint open_buffer(self, Py_buffer *view, Py_ssize_t hint) except -1
    cdef bint close_buffer(self, Py_buffer *view, Py_ssize_t count) except -1

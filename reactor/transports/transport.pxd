"""What every stream transport has: its protocol above, its bytes below."""

from reactor.core cimport Reactor
from reactor.pollers.contract cimport OpOwner


cdef enum Receiver:                 # how bytes reach the protocol
    RECEIVER_NATIVE                 # a Protocol that overrides bytes_received in Cython
    RECEIVER_BYTES                  # data_received(bytes)
    RECEIVER_BUFFER                 # get_buffer and buffer_updated


cdef class Transport(OpOwner):
    cdef readonly Reactor _loop
    cdef object __weakref__
    cdef object protocol            # None once connection_lost was called
    cdef public object lost_callback    # called with the transport after connection_lost
    cdef object context             # contextvars.Context of the call-backs
    cdef Receiver receiver
    cdef bint keeps_bytes           # the protocol has a use for bytes objects
    cdef readonly bint _protocol_paused
    cdef int ignored_writes
    cdef Py_ssize_t high_water      # bytes
    cdef Py_ssize_t low_water

    # -- up: the only places that call the protocol -----------------------------------
    cdef int call_connection_made(self) except -1
    # Give bytes to the protocol. False when it failed: the connection is aborted then.
    cdef bint deliver(self, const char *data, Py_ssize_t size) except -1
    # The same for a bytes object, which a protocol is given as it is.
    cdef bint deliver_bytes(self, bytes data) except -1
    # The peer's end. True when the protocol wants to go on writing.
    cdef bint deliver_eof(self) except -1
    # Call connection_lost and let the protocol go.
    cdef int call_connection_lost(self, object error) except -1
    # Tell the protocol when queued bytes pass a water mark.
    cdef int check_water(self, Py_ssize_t queued) except -1
    # The same when bytes were sent, from the loop: in the connection's context.
    cdef int check_low_water(self, Py_ssize_t queued) except -1
    cdef object call_protocol(self, str name, tuple args)

    # -- down: what a kind of transport supplies --------------------------------------
    # Send size bytes at start, which belong to the bytes object data, or (None) to the caller,
    # who need not keep them beyond the call. Dropped when closing.
    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1
    # Count a write to a lost connection; asyncio's users are warned from the fifth on.
    cdef int note_ignored_write(self, str message) except -1
    # End the connection because of an error, without flushing; None for a plain abort.
    cdef int abort_with(self, object error) except -1
    # Abort because of a failure in a call-back, which the loop's handler hears of.
    cdef int fail(self, object error, str message) except -1
    # Bytes written and not yet taken by the layer below.
    cdef Py_ssize_t queued_bytes(self) noexcept
    # Whether it was told to end, or has ended.
    cpdef bint is_closing(self) except -1
    # Whether all that has come was given to the protocol and no end has come; true does not
    # mean that nothing is on its way.
    cpdef bint is_quiet(self) except -1
    # A fact for get_extra_info, or None.
    cdef object extra_info(self, str name)

    cdef int adopt(self, object protocol) except -1
    # Let the protocol go without a word.
    cdef int release_protocol(self) except -1
    cdef bint deliver_buffered(self, const char *data, Py_ssize_t size) except -1
    # Keep bytes that a BufferedProtocol, which has paused, is not to get before it resumes. False:
    # it has not paused.
    cdef bint keep_rest(self, const char *data, Py_ssize_t size) except -1
    # Zero copy: ask a BufferedProtocol for its memory (False when that failed: the connection
    # is aborted then), fill it, and tell how many bytes came. Whoever does not fill it after
    # all releases the view.
    cdef bint open_buffer(self, Py_buffer *view, Py_ssize_t hint) except -1
    cdef bint close_buffer(self, Py_buffer *view, Py_ssize_t count) except -1

"""What every transport has: its protocol above, and the loop."""

from cpython.object cimport PyObject

from reactor.core cimport Reactor
from reactor.pollers.contract cimport OpOwner


cdef class BaseTransport(OpOwner):
    cdef readonly Reactor _loop
    cdef object __weakref__
    cdef object protocol            # None once connection_lost was called
    cdef public object lost_callback    # called with the transport after connection_lost
    cdef object context             # contextvars.Context of the call-backs
    cdef readonly bint _protocol_paused
    cdef int ignored_writes
    cdef Py_ssize_t high_water      # bytes
    cdef Py_ssize_t low_water

    # -- up --------------------------------------------------------------------------
    cdef int adopt(self, object protocol) except -1
    cdef int call_connection_made(self) except -1
    # Call connection_lost and let the protocol go.
    cdef int call_connection_lost(self, object error) except -1
    # Let the protocol go without a word.
    cdef int release_protocol(self) except -1
    # Tell the protocol when queued bytes pass a water mark.
    cdef int check_water(self, Py_ssize_t queued) except -1
    # The same when bytes were sent, from the loop: in the connection's context.
    cdef int check_low_water(self, Py_ssize_t queued) except -1
    cdef object call_protocol(self, str name, tuple args)

    # -- down: what a kind of transport supplies --------------------------------------
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
    # A fact for get_extra_info, or None.
    cdef object extra_info(self, str name)


# Call arguments[0].name(*arguments[1:]) in a context; return what it raised, or None. The same as
# call_protocol for what is called per event: it makes neither a tuple nor a bound method. The
# caller owns the arguments until it returns, whatever the callee replaces.
cdef object call_method(object context, str name, PyObject **arguments, size_t count)

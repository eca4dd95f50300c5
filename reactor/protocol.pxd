"""The protocol's C face: a driver in Cython receives bytes without a Python object."""


cdef class Protocol:
    """Base of drivers. The Python face is in ``reactor.protocol``."""

    cdef public object transport    # set before connection_made, dropped after connection_lost
    cdef public object factory      # the reactor.Factory that made it, or None
    # Set in __cinit__ by a Cython subclass that overrides bytes_received: it is then called
    # instead of data_received, in whatever context the reactor runs in.
    cdef bint native
    # Set likewise by one that overrides bytes_object_received as well.
    cdef bint keeps_bytes

    # size bytes at data, the transport's own, valid during the call only. May do anything to
    # the transport. What it raises aborts the connection and is its connection_lost's reason.
    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1
    # The same for bytes that came as an object, which may be kept: large receives do when
    # keeps_bytes is set.
    cdef int bytes_object_received(self, bytes data) except -1

"""The URL of a request; its C face."""

from libc.stdint cimport int64_t


cdef class URL:
    """An absolute http or https URL."""

    cdef readonly str scheme
    cdef readonly str userinfo
    cdef readonly str host
    cdef readonly int port
    cdef readonly str path
    cdef readonly str query         # or None
    cdef readonly str fragment      # or None
    cdef readonly str target
    cdef readonly str host_header
    cdef readonly tuple origin
    cdef Py_hash_t hashed           # -1 until somebody asks

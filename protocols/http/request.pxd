"""The request; its C face."""

from protocols.http.headers cimport Headers
from protocols.http.url cimport URL


cdef class Request:
    """A request as it is sent."""

    cdef readonly str method
    cdef readonly URL url
    cdef readonly Headers headers
    cdef readonly object body       # a Body, or None
    cdef bytes plain_head           # without anything more

    cdef bytes render(self, Headers fields, object target)

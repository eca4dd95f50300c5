"""The response as the client returns it; its C face."""

from protocols.http.headers cimport Headers


cdef class Response:
    cdef readonly int status_code
    cdef readonly object url                # protocols.http.url.URL
    cdef readonly str method                # of the request
    cdef bytes head                         # status line and fields as they came
    cdef Py_ssize_t fields_start
    cdef int minor_version
    cdef Headers decoded                    # made of head when first asked for
    cdef readonly Headers trailers          # None when there were none
    cdef bytes body                         # None while it has not been read
    cdef list informational                 # (status, Headers) of each 1xx, or None
    cdef object stream                      # a BodyStream while the body is streamed, or None

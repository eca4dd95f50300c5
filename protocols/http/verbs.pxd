"""The methods by which requests are made; their C face."""


cdef class Verbs:
    """Methods that ``ask`` for a response, or for what is awaited for one."""

    cdef bint is_derived            # a class below has its own request()

    cdef object verb(self, str method, object url, dict options)
    cdef object by_request(self, str method, object url, dict options)
    # What a client does: a response, or what is awaited for one.
    cdef object ask(self, str method, object url, dict options)

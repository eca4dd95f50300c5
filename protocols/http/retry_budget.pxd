"""What is left of a policy's budget; its C face."""

cdef class RetryBudget:
    cdef bint is_limited
    cdef double share               # of a retry, that each request earns
    cdef double reserve             # retries, at most
    cdef readonly double left       # the same

    cpdef int earn(self) except -1

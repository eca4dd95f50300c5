"""A queue of byte strings on their way out; the C face of ``reactor.buffers``."""

from reactor.pollers.contract cimport Vector

cdef enum:
    MAX_VECTORS = 32                # gathered by one call; more wait for the next


cdef class WriteQueue:
    cdef readonly Py_ssize_t size_bytes     # still to be sent
    cdef list chunks                        # bytes objects; None where already sent
    cdef Py_ssize_t head                    # index of the first unsent one
    cdef Py_ssize_t offset                  # bytes of it that are sent
    cdef Vector vectors[MAX_VECTORS]        # what gather() filled in

    # Append a bytes object; it is kept alive until it is sent.
    cdef int append(self, bytes data) except -1
    # Fill vectors from the front and return how many; they hold until the next consume.
    cdef int gather(self) noexcept
    # Drop size_bytes from the front.
    cdef int consume(self, Py_ssize_t size_bytes) except -1
    cdef void clear(self)

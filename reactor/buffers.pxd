"""A queue of byte strings on their way out; the C face of ``reactor.buffers``."""

cdef extern from *:
    """
    #ifndef CYR_VECTOR
    #define CYR_VECTOR
    #ifdef _WIN32
    #  include <winsock2.h>
    typedef WSABUF cyr_vector;
    #  define cyr_vector_set(v, p, n) ((v)->buf = (char *)(p), (v)->len = (ULONG)(n))
    #else
    #  include <sys/uio.h>
    typedef struct iovec cyr_vector;
    #  define cyr_vector_set(v, p, n) ((v)->iov_base = (void *)(p), (v)->iov_len = (size_t)(n))
    #endif
    #endif
    """
    ctypedef struct Vector "cyr_vector":            # what sendmsg(2) or WSASend gathers from
        pass
    void vector_set "cyr_vector_set"(Vector *vector, const char *data, size_t size) noexcept nogil


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

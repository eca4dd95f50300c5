"""The write queue of a transport: what the socket did not take at once.

Owns: references to the bytes objects until every byte of them is sent.  May not touch:
sockets.  Invariant: ``size_bytes`` is the sum of what is left in ``chunks``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    COMPACT_AT = 1024               # sent entries that are tolerated at the list's front


@cython.freelist(16)
cdef class WriteQueue:
    """Bytes objects, first in, first out, gathered without being joined."""

    def __cinit__(self):
        self.chunks = []

    def __len__(self):
        return self.size_bytes

    cdef int append(self, bytes data) except -1:
        if PyBytes_GET_SIZE(data):
            self.chunks.append(data)
            self.size_bytes += PyBytes_GET_SIZE(data)
        return 0

    cdef int gather(self) noexcept:
        cdef Py_ssize_t at = self.head
        cdef Py_ssize_t skip = self.offset
        cdef int count = 0
        cdef bytes chunk
        while count < MAX_VECTORS and at < len(self.chunks):
            chunk = <bytes>self.chunks[at]
            vector_set(&self.vectors[count], PyBytes_AS_STRING(chunk) + skip,
                       PyBytes_GET_SIZE(chunk) - skip)
            skip = 0
            count += 1
            at += 1
        return count

    cdef int consume(self, Py_ssize_t size_bytes) except -1:
        cdef Py_ssize_t left
        self.size_bytes -= size_bytes
        while size_bytes:
            left = PyBytes_GET_SIZE(<bytes>self.chunks[self.head]) - self.offset
            if size_bytes < left:
                self.offset += size_bytes
                break
            size_bytes -= left
            self.offset = 0
            self.chunks[self.head] = None
            self.head += 1
        if self.head == len(self.chunks):
            self.chunks.clear()
            self.head = 0
        elif self.head >= COMPACT_AT:
            del self.chunks[:self.head]
            self.head = 0
        return 0

    cdef void clear(self):
        self.chunks = []
        self.head = self.offset = self.size_bytes = 0

    # -- the same from Python, for the tests ------------------------------------------

    def push(self, bytes data not None):
        """Append *data*."""
        self.append(data)

    def pop(self, Py_ssize_t size_bytes):
        """Drop *size_bytes* from the front; ``ValueError`` when there are not so many."""
        if not 0 <= size_bytes <= self.size_bytes:
            raise ValueError(f"cannot drop {size_bytes} of {self.size_bytes} bytes")
        self.consume(size_bytes)

    def peek(self):
        """Return what one call would be given, as a list of bytes."""
        cdef Py_ssize_t skip = self.offset
        found = []
        for chunk in self.chunks[self.head:self.head + self.gather()]:
            found.append(chunk[skip:])
            skip = 0
        return found

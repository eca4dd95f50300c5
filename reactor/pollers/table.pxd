"""The table of what a poller knows of each descriptor, which grows with them.

Owns: nothing; the table is its poller's.  Invariant: an entry that nobody has used is all 0.
"""

from cpython.mem cimport PyMem_RawRealloc
from libc.errno cimport ENOMEM
from libc.string cimport memset

cdef enum:
    FIRST_ENTRIES = 64


cdef inline int make_entry(void **table, Py_ssize_t *count, size_t size, Py_ssize_t at) noexcept:
    """Let a table of *count* entries of *size* bytes have one at *at*; 0 or -ENOMEM."""
    cdef Py_ssize_t wanted = count[0] if count[0] else FIRST_ENTRIES
    cdef char *grown
    if at < count[0]:
        return 0
    while wanted <= at:
        wanted *= 2
    grown = <char *>PyMem_RawRealloc(table[0], wanted * size)
    if grown == NULL:
        return -ENOMEM
    memset(grown + count[0] * size, 0, (wanted - count[0]) * size)
    table[0] = grown
    count[0] = wanted
    return 0

"""A poller's C face, driven from Python."""

from reactor.buffers cimport MAX_VECTORS, Vector
from reactor.pollers.contract cimport Op, OpList, OpOwner, Poller


cdef class PollerProbe:
    cdef readonly Poller poller
    cdef OpList done                # ops that are done and not yet dispatched
    cdef readonly int returns       # how often a wait came back

    cdef ProbeOp prepare(self, int kind, object fd)


cdef class ProbeOp(OpOwner):
    cdef Op op
    cdef PollerProbe probe
    cdef bytearray own              # what the op's buffer points into, or None
    cdef list chunks                # what its vectors point into, or None
    cdef Vector vectors[MAX_VECTORS]
    cdef readonly list results      # one for each completion, in line or not
    cdef readonly bytearray data    # everything received
    cdef bint keeps                 # a lent block stays with the op until give_back
    cdef public object on_done      # called with this op once it is done, or None

    cdef int finished(self) except -1

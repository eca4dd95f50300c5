"""Connects a stream socket to one address; its C face."""

from libc.stdint cimport intptr_t

from reactor.addresses cimport Address
from reactor.core cimport Reactor
from reactor.pollers.contract cimport Op, OpOwner


cdef class Connector(OpOwner):
    cdef readonly Reactor _loop
    cdef readonly object future     # done when connected, failed or closed; None once taken
    cdef readonly object address    # the peer's, as getaddrinfo(3) gave it
    cdef Op op
    cdef Address peer
    cdef intptr_t fd                # -1 once taken or closed
    cdef bint closing

    cdef int finish(self) except -1
    # The connected descriptor, now the caller's; only after the future is done well.
    cdef intptr_t take(self) noexcept

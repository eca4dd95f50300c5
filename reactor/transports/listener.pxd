"""Accepts connections on one socket; its C face."""

from libc.stdint cimport intptr_t

from reactor.addresses cimport ADDRESS_MAX
from reactor.core cimport Reactor
from reactor.pollers.contract cimport Op, OpOwner
from reactor.timers cimport Timer


cdef enum ListenerState:
    LISTENER_ON                     # an accept is submitted
    LISTENER_RESTING                # accept failed: a timer will submit it again
    LISTENER_CLOSED


cdef class Listener(OpOwner):
    cdef Reactor _loop
    cdef ListenerState state
    cdef Op op
    cdef Timer rest
    cdef object sock                # owns the listening descriptor
    cdef object context             # of who began to serve; each connection has a copy
    cdef object factory             # makes a protocol for each connection
    cdef object server              # asyncio.Server, or None
    cdef object secure              # callable(protocol): the protocol that does TLS for it
    cdef bint nodelay               # TCP: send small writes at once
    cdef unsigned char peer[ADDRESS_MAX]    # where an accept writes who has connected

    cdef int accept(self) except -1
    cdef int accepted(self) except -1
    cdef int connected(self, intptr_t fd) except -1
    cdef int give_protocol(self, intptr_t fd) except -1
    cdef int rest_after(self, int error, str message) except -1
    cdef int close_socket(self) except -1

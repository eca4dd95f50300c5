"""Watches somebody else's descriptor for readiness; its C face."""

from libc.stdint cimport intptr_t

from reactor.core cimport Handle, Reactor
from reactor.pollers.contract cimport Op, OpOwner


cdef class Watcher(OpOwner):
    cdef Reactor _loop
    cdef readonly Handle handle     # what to call; None while closed
    cdef public object source       # what was watched by name of its descriptor, or None
    cdef Op op
    cdef bint leaving               # closed while the op was live, and it is not back yet

    cdef int submit(self) except -1
    cdef int again(self) except -1
    cdef int fail(self, object error) except -1


cdef class WatchHandle(Handle):
    cdef Watcher watcher            # whose op is submitted anew once the call-back was called

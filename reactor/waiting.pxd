"""Waiting for several futures; its C face."""

cimport cython


@cython.final
cdef class Countdown:
    """The call-backs of one who waits."""

    cdef object waiter                  # a future; its result says nothing
    cdef Py_ssize_t left                # how many have yet to end

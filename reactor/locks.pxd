"""Methods that hold a lock; its C face."""

cimport cython


@cython.final
cdef class Mutex:
    """A lock for ``synchronized``, which knows the thread that holds it."""

    cdef object lock
    cdef unsigned long owner            # whose it is, or was last
    cdef readonly bint is_held          # exact for who does not let go of the GIL meanwhile

    cdef object call(self, method, tuple args, dict kwargs)

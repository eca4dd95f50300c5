"""Counts of durations; the C face."""

from libc.stdint cimport int64_t

cdef enum:
    BOUNDS = 12


cdef class Histogram:
    """Counts of durations in fixed buckets."""

    cdef int64_t[BOUNDS + 1] counts     # the last one: above all bounds
    cdef double total                   # seconds

    cdef void count(self, double seconds) noexcept

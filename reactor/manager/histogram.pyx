"""Counts of durations in fixed buckets; one more costs some nanoseconds.

Owns: the bounds and the counts.  Touches: nothing; a leaf.
"""

# Upper ends in seconds, each about three times the one before: from a loop-back handshake to
# a name server that does not answer.
BOUNDS_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

cdef double[BOUNDS] UPPER = BOUNDS_SECONDS


cdef class Histogram:
    """Counts of durations in fixed buckets."""

    cdef void count(self, double seconds) noexcept:
        cdef int bucket = 0
        while bucket < BOUNDS and UPPER[bucket] < seconds:
            bucket += 1
        self.counts[bucket] += 1
        self.total += seconds

    def observe(self, double seconds):
        """Count one duration."""
        self.count(seconds)

    def snapshot(self):
        """Return the counts as plain data (``reactor.manager.sight.HistogramStats``)."""
        cdef dict buckets = {}
        cdef int64_t count = 0
        cdef int bucket
        for bucket in range(BOUNDS + 1):
            count += self.counts[bucket]
            buckets[UPPER[bucket] if bucket < BOUNDS else float("inf")] = count
        return {"count": count, "sum": self.total, "buckets": buckets}

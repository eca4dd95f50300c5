"""What is left of a policy's budget of retries (``protocols.http.retries``).

Owns: one number.  Touches: nothing; a leaf.
Invariant: it is never below 0, and never above the policy's reserve.
"""

cimport cython


@cython.final
cdef class RetryBudget:
    """What is left of the budget of *policy*, a ``Retry``; one for a client.

    Attributes:
        left: retries.
    """

    def __init__(self, policy):
        self.is_limited = policy.budget is not None
        self.share = policy.budget if self.is_limited else 0.0
        self.reserve = policy.reserve
        self.left = self.reserve

    cpdef int earn(self) except -1:
        """A request was made."""
        self.left = min(self.reserve, self.left + self.share)
        return 0

    def spend(self):
        """Take one retry; return whether there was one left."""
        if not self.is_limited:
            return True
        if self.left < 1:
            return False
        self.left -= 1
        return True

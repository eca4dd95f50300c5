"""Who runs the loop of a blocking client; its C face."""

from reactor.core cimport Reactor
from reactor.locks cimport Mutex

from protocols.http.body_stream cimport BodyStream
from protocols.http.calls cimport Call, Calls, Prepared
from protocols.http.response cimport Response
from protocols.http.verbs cimport Verbs


cdef class Turns(Verbs):
    """The part of a blocking client that every request goes through."""

    cdef readonly Calls _async
    cdef readonly Reactor _loop
    cdef readonly Mutex _mutex
    cdef public object _calls           # a dict: unfinished ones, in the order in which they came
    cdef public object _leader          # the thread that runs the loop or is to, or None
    cdef public bint _alone             # the leader runs no loop: it waits for its one exchange
    cdef public bint _closed
    cdef public list _waking            # locks on which closing threads sleep until nobody leads

    # Lead, and return the response; None when that cannot be, and nothing was sent.
    cdef Response go_alone(self, Prepared prepared, str method, object url, bint follows,
                           object timeout)
    # See that the next assignments may be those of the lead.
    cdef bint may_lead(self) except -1
    # Lead until there is a piece; false when the loop is to run for it. StopAsyncIteration at the
    # good end of the body, when *hold* was ended.
    cdef bint wait_alone(self, BodyStream stream, object hold) except -1
    # Wait for a short time.
    cdef bint attempt_piece(self, BodyStream stream) except -1
    # Send, and wait for a short time. None with the call over: nothing was sent; with the call
    # waiting or delegated: the loop is to run.
    cdef Response attempt(self, Call call, Prepared prepared)
    cdef int resign(self, object thread) except -1
    cdef int give_up(self, Call call, object thread) except -1

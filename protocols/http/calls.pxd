"""What is called for each request that is nothing special; its C face."""

from libc.stdint cimport int64_t

from reactor.manager.leases cimport Connection, EndpointPool, Leases, Waiter

from protocols.http.connection cimport ClientConnection
from protocols.http.response cimport Response
from protocols.http.retry_budget cimport RetryBudget
from protocols.http.verbs cimport Verbs


cdef class Prepared:
    """A request that was built and rendered, and where it goes."""

    cdef readonly object request
    cdef readonly object endpoint
    cdef readonly object url        # the request's
    cdef readonly str method        # the request's
    cdef bint is_head               # whether its response has no body
    cdef bint is_safe               # whether the method changes nothing
    cdef bytes content              # what is sent behind the head, or None
    cdef EndpointPool pool          # whence the last connection was taken, or None
    cdef readonly bint is_kept      # for the next of its kind
    cdef bytes head                 # as it goes over the wire without cookies
    cdef tuple more                 # what it has beside the request's fields: credentials
    cdef bint has_cookies           # of the caller's own, in place of the jar's
    cdef str cookie                 # the last ones, or None,
    cdef bytes cookie_head          # and the head with them
    cdef bytes current_head         # the one of these that goes out,
    cdef object jar_state           # while the jar is in this state,
    cdef int64_t current_until_ns   # and not for longer

    cdef bytes head_with(self, object cookie)


cdef enum CallState:
    CALL_NEW                        # nobody has awaited it
    CALL_LINED_UP                   # it waits for a connection
    CALL_WAITING                    # the exchange is under way, or who waits is being woken
    CALL_DELEGATED                  # a coroutine of the client's does the rest
    CALL_OVER


cdef class Call:
    """One request on its way."""

    cdef Calls client
    cdef str method
    cdef object url
    cdef dict options               # until it is awaited; or None
    cdef CallState state
    cdef Prepared prepared
    cdef bint follows               # redirects
    cdef object timeout             # in seconds, or None
    cdef int64_t timeout_ns         # the same, 0 for none
    cdef Waiter waiter              # while it is lined up
    cdef Connection lease           # while it waits
    cdef ClientConnection connection
    cdef int64_t deadline_ns        # on the loop's clock, 0 for none
    cdef object delegate            # the client's coroutine,
    cdef list answer                # and what it has yet to take over: a connection, a response

    # In place of the client's own: whether redirects are followed, and the seconds or None.
    cdef int limit(self, bint follows, object timeout) except -1
    cdef int begin(self) except -1
    # Send it over an idle connection; False when there is none.
    cdef bint launch(self, Prepared prepared) except -1
    cdef int leave_to(self, object coroutine) except -1
    cdef int line_up(self) except -1
    cdef int served(self) except -1
    cdef int start(self, Connection lease, int64_t now_ns) except -1
    cdef object rest(self, list answer, object waiter, int retries, list failures)
    cdef Response finish(self)
    cdef int fail(self, object error) except -1
    cdef int recover(self, object error) except -1
    cdef int let_go(self) except -1
    cdef int forget(self) except -1
    cdef int drop_answer(self) except -1


cdef class Calls(Verbs):
    """The part of a client that every request goes through."""

    cdef readonly Leases _manager
    cdef readonly object _cookies
    cdef public object _loop        # the one on which the client was first used, or None
    cdef public bint _is_direct     # requests without options need no look at anything else
    cdef readonly object _phases    # a Timeout: the limits of a request
    cdef readonly bint _has_phases  # whether more than the total is limited
    cdef bint watches               # whether sending or receiving is,
    cdef int64_t silence_ns         # and how long a peer may be silent, 0 for no limit
    cdef readonly bint _follow
    cdef readonly object _timeout   # of a request, in seconds, or None
    cdef frozenset retried          # statuses, where what fails may be sent again; or None
    cdef RetryBudget budget         # of these; None where there are none
    cdef list jar_state             # the jar's: one object, another one after each change
    cdef int64_t timeout_ns         # 0 for none
    cdef dict gets                  # URL to Prepared
    cdef dict others                # (method, URL) to Prepared

    cdef int watch(self, ClientConnection connection) except -1
    # See that the head is the one with the cookies of now.
    cdef inline int refresh(self, Prepared prepared, int64_t now_ns) except -1:
        if prepared.jar_state is not self.jar_state[0] or now_ns >= prepared.current_until_ns:
            self.ask_jar(prepared, now_ns)
        return 0

    # A request is made, which adds to the budget of retries.
    cdef inline int count_request(self) except -1:
        if self.budget is not None:
            self.budget.earn()
        return 0

    cdef int ask_jar(self, Prepared prepared, int64_t now_ns) except -1
    cdef Connection take(self, Prepared prepared)
    cdef Prepared recall(self, str method, object url)


cpdef int let_go(Leases manager, ClientConnection connection) except -1

# A call that nobody has awaited yet.
cdef Call new_call(Calls client, str method, object url)

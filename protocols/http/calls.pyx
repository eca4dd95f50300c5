"""What is called for each request: from the URL to the response, over an idle connection.

Owns: the way of a request that needs nothing but a connection (no hooks, credentials or streams),
finds an idle one or waits for one, and is answered.  May not touch: whatever else can happen,
which is ``protocols.http.client``'s: it makes the request, and a coroutine of its takes over where
this way ends.
Invariant: a connection that a call has taken is released, or discarded, on every way out.

::

    NEW --awaited--> WAITING --response, error, cancelled, dropped--> OVER
     | |                ^   |                                          ^ ^
     | +-- LINED_UP ----+   +----stale, redirected---+                 | |
     |         | |                                   v                 | |
     |         | +---------a slot to open one in---> DELEGATED --------+ |
     |         +-----------too late, cancelled-------------^-------------+
     +--none to be had, hooks------------------------------+

"Redirected" is any response that may not be the last: one whose status is retried, too; and
"stale" any failure after which the request may be sent again.

A ``Call`` is awaited like a coroutine, and is one for asyncio (``collections.abc.Coroutine``),
but has no frame.  While it waits for its response it yields its connection's ``Outcome``.
"""

cimport cython
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t

from reactor.core cimport Reactor, nanoseconds
from reactor.futures cimport (
    PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN, AwaitableType, PyIter_Send, PySendResult, send_to,
    thrown,
)
from reactor.manager.leases cimport Connection, Leases, Waiter
from reactor.transports.transport cimport Transport

from protocols.http.connection cimport ClientConnection
from protocols.http.outcome cimport Outcome, wait_for
from protocols.http.request cimport Request
from protocols.http.response cimport Response
from protocols.http.verbs cimport Verbs

from asyncio import CancelledError

from reactor import EndpointError, PoolClosedError
from protocols.http.errors import ClientClosedError
from protocols.http.limits import LONGEST_TIMEOUT_SECONDS, PREPARED_REQUESTS
from protocols.http.redirects import is_redirect
from protocols.http.request import SAFE_METHODS
from protocols.http.sending import is_stale

cdef extern from "Python.h":
    PyObject *look_up "PyDict_GetItemWithError"(object mapping, object key) except? NULL

cdef Py_ssize_t KEPT = PREPARED_REQUESTS


@cython.final
cdef class Prepared:
    """A request that was built and rendered, and where it goes.

    Attributes:
        request: the ``Request``.
        endpoint: where it goes.
        url, method: the request's own.
        credentials: the value of Authorization, where it is none of the request's fields.
    """

    def __init__(self, Request request not None, endpoint, credentials=None):
        self.request = request
        self.endpoint = endpoint
        self.url = request.url
        self.method = request.method
        self.is_head = self.method == "HEAD"
        self.is_safe = self.method in SAFE_METHODS
        if request.body is not None:
            self.content = request.body.whole
        self.head = request.plain_head
        self.more = ()
        if credentials is not None:
            self.more = (("Authorization", credentials),)
            self.head = request.head(self.more)
        self.has_cookies = "Cookie" in request.headers

    cdef bytes head_with(self, object cookie):
        """Return the head with the jar's cookies, or (None) without."""
        if cookie is None or self.has_cookies:
            return self.head
        if self.cookie is None or self.cookie != cookie:
            self.cookie_head = self.request.head((("Cookie", cookie), *self.more))
            self.cookie = cookie        # last: a signal handler may raise in the call
        return self.cookie_head


cdef PySendResult advance(PyObject *self, PyObject *argument,
                          PyObject **result) except PYGEN_ERROR:
    """Go on: am_send, by which the interpreter awaits without an exception for the result."""
    cdef Call call = <Call>self
    cdef Response response
    cdef object future
    if call.state == CALL_NEW:
        if argument != <PyObject *>None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        call.begin()
    elif call.state == CALL_WAITING:
        if call.connection.outcome.waker is not None:
            raise RuntimeError("coroutine is being awaited already")
        if call.connection.outcome.is_over:     # else woken by something else
            response = call.finish()
            if response is not None:
                Py_INCREF(response)
                result[0] = <PyObject *>response
                return PYGEN_RETURN
            argument = <PyObject *>None
    elif call.state == CALL_LINED_UP:
        if call.waiter.has_ended():
            call.served()
            argument = <PyObject *>None
        elif call.waiter.future._callbacks:
            raise RuntimeError("coroutine is being awaited already")
    elif call.state == CALL_OVER:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if call.state == CALL_WAITING:
        return wait_for(call.connection.outcome, result)
    if call.state == CALL_LINED_UP:
        future = call.waiter.awaited()
        Py_INCREF(future)
        result[0] = <PyObject *>future
        return PYGEN_NEXT
    try:
        return PyIter_Send(call.delegate, <object>argument, result)
    except BaseException:
        call.drop_answer()
        raise


@cython.final
@cython.freelist(256)
@cython.no_gc_clear                     # __dealloc__ gives the connection back
cdef class Call:
    """A request: when it is awaited it is sent, and gives the ``Response``."""

    def __init__(self):
        raise TypeError("a Call is made by an AsyncClient")

    def __dealloc__(self):
        if self.state == CALL_WAITING:
            # with the loop goes its connection; what is garbage with it is empty already, maybe
            if not self.connection.reactor._closed:
                self.let_go()
        elif self.state == CALL_LINED_UP:
            self.waiter.drop()
        elif self.state == CALL_DELEGATED:
            self.drop_answer()
        elif self.state == CALL_NEW and self.client is not None:
            PyErr_WarnEx(RuntimeWarning,
                         f"coroutine '{self.__qualname__}' was never awaited".encode(), 1)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return send_to(self, None)

    @property
    def __name__(self):
        return self.method.lower()

    @property
    def __qualname__(self):
        return f"AsyncClient.{self.method.lower()}"

    def send(self, value):
        """Go on, as ``coroutine.send`` does."""
        return send_to(self, value)

    def throw(self, kind, value=None, traceback=None):
        """Give the request up and raise, as ``coroutine.throw`` does."""
        if self.state == CALL_DELEGATED:
            try:
                if value is None and traceback is None:
                    return self.delegate.throw(kind)
                return self.delegate.throw(kind, value, traceback)
            except BaseException:
                self.drop_answer()
                raise
        value = thrown(kind, value, traceback)
        if self.state == CALL_OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.close()
        raise value

    def close(self):
        """Give the request up, as ``coroutine.close`` does."""
        cdef CallState state = self.state
        cdef Waiter waiter
        self.state = CALL_OVER
        if state == CALL_DELEGATED:
            try:
                self.delegate.close()
            finally:
                self.drop_answer()
        elif state == CALL_WAITING:
            self.let_go()
        elif state == CALL_LINED_UP:
            waiter = self.waiter
            self.waiter = None
            waiter.give_up()

    cdef int limit(self, bint follows, object timeout) except -1:
        self.follows = follows
        self.timeout = timeout
        self.timeout_ns = nanoseconds_of(timeout)
        return 0

    cdef int begin(self) except -1:
        """Send the request over an idle connection, line up, or leave it to a coroutine."""
        cdef Calls client = self.client
        cdef Prepared prepared = None
        cdef dict options = self.options
        cdef object planned
        self.state = CALL_OVER          # for what raises
        self.options = None
        if (client._loop is None or not (<Reactor>client._loop).runs_here()
                or not client._is_direct):
            planned = client._fetch(self.method, self.url, **(options or {}))
            return self.leave_to(planned)
        if options is None:
            prepared = client.recall(self.method, self.url)
        if prepared is None:
            planned = client._plan(self.method, self.url, **(options or {}))
            if type(planned) is not tuple:
                return self.leave_to(planned)
            if client._loop is None:    # by what the caller's own objects do when they are read
                raise ClientClosedError("the client is closed")
            prepared, follows, timeout = planned
            self.limit(follows, timeout)
        if not self.launch(prepared):
            self.line_up()
        return 0

    cdef int leave_to(self, object coroutine) except -1:
        self.delegate = coroutine
        self.state = CALL_DELEGATED
        return 0

    cdef bint launch(self, Prepared prepared) except -1:
        cdef Calls client = self.client
        cdef Connection lease
        cdef int64_t now_ns = (<Reactor>client._loop).now_ns()
        self.state = CALL_OVER          # for what raises
        self.prepared = prepared
        client.refresh(prepared, now_ns)
        if self.timeout_ns:
            self.deadline_ns = now_ns + self.timeout_ns
        lease = client.take(prepared)
        if lease is None:
            return False
        client.count_request()
        self.start(lease, now_ns)
        return True

    cdef int line_up(self) except -1:
        """Wait for a connection; or leave the rest to a coroutine."""
        cdef Calls client = self.client
        client.count_request()
        if not client._has_phases:
            try:
                self.waiter = client._manager.queue(self.prepared.endpoint, self.deadline_ns, False)
            except EndpointError as error:
                return self.recover(error)
        if self.waiter is None:
            return self.leave_to(self.rest([], None, 0, []))
        self.state = CALL_LINED_UP
        return 0

    cdef int served(self) except -1:
        """It was this one's turn: send the request, or leave the rest to a coroutine."""
        cdef Calls client = self.client
        cdef Prepared prepared = self.prepared
        cdef Waiter waiter = self.waiter
        cdef int64_t now_ns
        self.state = CALL_OVER          # for what raises
        self.waiter = None
        try:
            waiter.check()
        except PoolClosedError:
            raise ClientClosedError("the client was closed") from None
        except EndpointError as error:
            return self.recover(error)
        now_ns = client._manager._loop.now_ns()     # client._loop is None when it was closed
        client.refresh(prepared, now_ns)
        if waiter.is_good():
            return self.start(waiter.lease(), now_ns)
        return self.leave_to(self.rest([], waiter, 0, []))

    cdef int start(self, Connection lease, int64_t now_ns) except -1:
        cdef Prepared prepared = self.prepared
        cdef ClientConnection connection
        self.lease = lease
        self.connection = connection = <ClientConnection?>lease.protocol
        self.state = CALL_WAITING
        try:
            connection.start(prepared.current_head, prepared.is_head, prepared.method,
                             prepared.url, now_ns, self.deadline_ns, prepared.content)
            if self.client.watches:
                self.client.watch(connection)
        except BaseException:
            self.close()
            raise
        return 0

    cdef object rest(self, list answer, object waiter, int retries, list failures):
        """The client's coroutine that does the rest."""
        return self.client._go_on(self.prepared, self.deadline_ns, answer, self.follows,
                                  self.timeout, waiter, retries, failures)

    cdef Response finish(self):
        """The exchange is over: return its response, or leave the rest to a coroutine (None)."""
        cdef ClientConnection connection = self.connection
        cdef Outcome outcome = connection.outcome
        cdef Calls client = self.client
        cdef Response response = connection.answer
        cdef object error = connection.failure
        cdef bint leads_on = False      # it may not be the last: a redirect, a status retried
        if outcome.is_cancelled:        # and who waited went on all the same
            self.close()
            raise CancelledError
        connection.answer = None
        connection.failure = None
        if error is not None:
            self.fail(error)
            return None
        response.request = self.prepared.request
        try:
            if client.retried is not None:
                leads_on = response.status_code in client.retried
            if self.follows and 300 < response.status_code < 309 and is_redirect(
                    response.status_code, response.headers):
                leads_on = True
            if response.notes and not leads_on:
                client._take_note(self.prepared.request, response)
        except BaseException:
            self.close()
            raise
        if leads_on:
            self.state = CALL_DELEGATED
            self.answer = [(connection, response)]
            self.delegate = self.rest(self.answer, None, 0, [])
            self.forget()
            return None
        self.state = CALL_OVER
        client._manager.give_back(self.lease, connection.ended_ns)
        self.forget()
        return response

    cdef int forget(self) except -1:
        self.lease = None
        self.connection = None

    cdef int drop_answer(self) except -1:
        """The coroutine ended before it took the answer over."""
        cdef tuple answer
        if self.answer:
            answer = self.answer.pop()
            let_go(self.client._manager, answer[0])
        return 0

    cdef int fail(self, object error) except -1:
        """The exchange failed: a stale connection is a reason to try another."""
        cdef ClientConnection connection = self.connection
        cdef bint was_stale = (connection.exchanges > 1 and connection.unanswered
                               and self.prepared.is_safe)
        self.close()
        if was_stale and is_stale(error):
            return self.leave_to(self.rest([], None, 1, []))
        return self.recover(error)

    cdef int recover(self, object error) except -1:
        """Raise what happened, unless a policy may have the request sent again."""
        if self.client.retried is None or not isinstance(error, EndpointError):
            raise error
        return self.leave_to(self.rest([], None, 0, [error]))

    cdef int let_go(self) except -1:
        """Give the connection back, or up."""
        cdef ClientConnection connection = self.connection
        self.lease = None
        self.connection = None
        connection.answer = None
        connection.failure = None
        if connection.outcome.waker is not None:
            # A task has yet to be woken, by an outcome that no other exchange may begin anew.
            connection.abandon()
            connection.outcome.end()
        let_go(self.client._manager, connection)
        return 0


(<AwaitableType *>Call).tp_as_async.am_send = advance


cdef class Calls(Verbs):
    """The part of a client that every request goes through.

    Args:
        manager: the connections.
        cookies: the jar.
        phases: the ``Timeout`` of a request and its phases.
        follow: whether redirects are followed.
        retry: the policy for what fails, or ``None``, and *budget* what is left of its budget.

    ``_is_direct`` is for the client to set, when its requests need no look at anything else.
    """

    def __init__(self, Leases manager not None, cookies, *, phases, bint follow, retry, budget):
        self._manager = manager
        self._cookies = cookies
        self.jar_state = cookies._state
        self._phases = phases
        self._has_phases = phases.has_phases
        self.watches = phases.read is not None or phases.write is not None
        self.silence_ns = nanoseconds_of(phases.read)
        self._timeout = phases.total
        self.timeout_ns = nanoseconds_of(phases.total)
        self._follow = follow
        self.retried = None if retry is None else frozenset(retry.statuses)
        self.budget = budget
        self.gets = {}
        self.others = {}

    cdef object ask(self, str method, object url, dict options):
        cdef Call call = new_call(self, method, url)
        if options:
            call.options = options
        return call

    cdef int watch(self, ClientConnection connection) except -1:
        """Limit the phases of an exchange that has just begun."""
        if (<Transport?>connection.transport).queued_bytes():
            connection.observer = self._watcher(connection)
        elif self.silence_ns:
            connection.limit_silence(self._phases, self.silence_ns)
        return 0

    cdef int ask_jar(self, Prepared prepared, int64_t now_ns) except -1:
        """Ask the jar for the cookies of a request, and how long they are the same."""
        cdef object state = self.jar_state[0]       # before: a change that comes meanwhile counts
        prepared.jar_state = None
        prepared.current_head = prepared.head_with(self._cookies.header_for(prepared.url))
        if prepared.is_kept:
            prepared.current_until_ns = now_ns + <int64_t>(
                <double>self._cookies._steady_seconds(prepared.url) * 1e9)
            prepared.jar_state = state
        return 0

    cdef Connection take(self, Prepared prepared):
        """Take an idle connection; ``None`` when there is none."""
        cdef Connection lease = None
        if prepared.pool is not None:   # which may be forgotten, and is empty then
            lease = self._manager.take_from(prepared.pool)
        if lease is None:
            lease = self._manager.take_lease(prepared.endpoint)
            prepared.pool = None if lease is None else lease.pool
        return lease

    cdef Prepared recall(self, str method, object url):
        cdef PyObject *found
        if method == "GET":
            found = look_up(self.gets, url)
        else:
            found = look_up(self.others, (method, url))
        return None if found == NULL else <Prepared>found

    def _recall(self, method, url):
        """Return what ``_keep`` was given for a method and a URL, or ``None``."""
        return self.recall(method, url)

    def _forget(self):
        """Let go of all that was kept."""
        self.gets.clear()
        self.others.clear()

    def _keep(self, Prepared prepared not None, method, url):
        """Keep a request for the next of its kind."""
        cdef dict kept = self.gets if method == "GET" else self.others
        if len(kept) >= KEPT:
            del kept[next(iter(kept))]
        prepared.is_kept = True
        kept[url if method == "GET" else (method, url)] = prepared


cpdef int let_go(Leases manager, ClientConnection connection) except -1:
    """Give a connection back if its response was read to the end, or else up.

    No signal handler runs within.
    """
    if connection.is_idle:
        manager.release(connection)
    else:
        connection.abandon()
        manager.discard(connection)
    return 0


cdef Call new_call(Calls client, str method, object url):
    cdef Call call = Call.__new__(Call)
    call.client = client
    call.method = method
    call.url = url
    call.follows = client._follow
    call.timeout = client._timeout
    call.timeout_ns = client.timeout_ns
    return call


cdef int64_t nanoseconds_of(object seconds) except -1:
    """A timeout on the clock, 0 for none."""
    if seconds is None or seconds > LONGEST_TIMEOUT_SECONDS:
        return 0
    return nanoseconds(seconds)

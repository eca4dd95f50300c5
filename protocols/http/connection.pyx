"""The connection as the client uses it: one exchange is one future.

Owns: the collecting of a body, or its streaming with back-pressure.  May not touch: the
pool (the client gives the connection back).
Invariant: the future of an exchange is done exactly once; a streamed body ends exactly once,
whole or with an error.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t

from reactor.core cimport Handle, call_in_context

from protocols.http.protocol cimport (
    EXCHANGE_FAILED, EXCHANGE_NONE, UPLOAD_NONE, HTTPProtocol, piece_of,
)
from protocols.http.response cimport Response

from asyncio import CancelledError, Future, InvalidStateError
from collections import deque
from contextvars import copy_context

from protocols.http.errors import ResponseLimitError
from protocols.http.limits import MAX_BODY_BYTES, STREAM_HIGH_WATER_BYTES

cdef extern from "Python.h":
    ctypedef PyObject *(*getattrofunc)(PyObject *, PyObject *) noexcept
    ctypedef int (*setattrofunc)(PyObject *, PyObject *, PyObject *) noexcept
    ctypedef struct TypeObject "PyTypeObject":
        getattrofunc tp_getattro
        setattrofunc tp_setattro
    PyObject *generic_get "PyObject_GenericGetAttr"(PyObject *self, PyObject *name) noexcept
    int generic_set "PyObject_GenericSetAttr"(PyObject *self, PyObject *name,
                                              PyObject *value) noexcept

cdef Py_ssize_t HIGH_WATER = STREAM_HIGH_WATER_BYTES
cdef Py_ssize_t JOINED = STREAM_HIGH_WATER_BYTES // 4
cdef Py_ssize_t LOW_WATER = STREAM_HIGH_WATER_BYTES // 4


cdef class BodyStream:
    """The body of a streamed response: an async iterator of bytes with back-pressure.

    Made by ``ClientConnection``, never by its users.
    """

    def __cinit__(self):
        self.pieces = deque()

    def __init__(self):
        raise TypeError("a BodyStream comes with a streamed response")

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self.pieces:
            if self.error is not None:
                raise self.error
            if self.complete:
                raise StopAsyncIteration
            if self.connection is None:
                raise RuntimeError("a BodyStream comes with a streamed response")
            if self.waiter is not None:
                raise RuntimeError("the body is being read by somebody else already")
            self.waiter = self.connection.reactor.create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        self.taken = True               # first: where joining them fails they are lost
        data = self.next_pieces()
        self.size_bytes -= len(data)
        if self.size_bytes <= LOW_WATER and self.connection is not None:
            if self.connection.transport is not None:
                self.connection.transport.resume_reading()
        return data

    @property
    def is_complete(self):
        """Whether the whole body has come, read or not."""
        return self.complete

    @property
    def is_taken(self):
        """Whether a piece was handed out, so that what is left is not all of the body."""
        return self.taken and self.error is None

    cdef bytes next_pieces(self):
        """Return the next piece, or several small ones in one: each costs its reader a turn."""
        cdef bytes data = self.pieces.popleft()
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef list several
        if not self.pieces or size >= JOINED:
            return data
        several = [data]
        while self.pieces:
            data = self.pieces[0]
            size += PyBytes_GET_SIZE(data)
            if size > JOINED:
                break
            several.append(self.pieces.popleft())
        return several[0] if len(several) == 1 else b"".join(several)

    cdef int push(self, bytes data) except -1:
        self.pieces.append(data)
        self.size_bytes += PyBytes_GET_SIZE(data)
        if self.size_bytes > HIGH_WATER:
            self.connection.transport.pause_reading()
        return self.wake()

    cdef int end(self, object error) except -1:
        self.complete = error is None
        self.error = error
        if (self.size_bytes > LOW_WATER and self.connection is not None
                and self.connection.transport is not None):
            self.connection.transport.resume_reading()      # for the next response
        self.connection = None
        return self.wake()

    cdef int wake(self) except -1:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        return 0


class Everywhere:
    """A loop, as far as a future without a call-back needs one."""

    def get_debug(self):
        return False


# A task that is woken asks for the result of what woke it, which costs a microsecond of look-ups
# for anything but asyncio's own future; this one is asked instead.
cdef object awakened = Future(loop=Everywhere())
awakened.set_result(None)
cdef tuple WOKEN = (awakened,)


@cython.final
cdef class Outcome(Handle):
    """How an exchange ended; what a task waits for, with as much of a future as it needs.

    Every connection has one, which serves for one exchange after the other, so that waiting
    allocates nothing.  Nobody but the task that the exchange is for may hold on to it.

    Whom it wakes is its own to know, and not the handle's, which hides what it has from the
    collector: a task that waits when its loop is closed is garbage.
    """

    cdef int begin(self) except -1:
        self.is_over = False
        self.is_cancelled = False
        self.waker = None
        self._cancelled = False
        return 0

    cdef int end(self) except -1:
        """Wake who waits, in the next pass."""
        if not self.is_over:
            self.is_over = True
            if self.waker is not None and not self._loop._closed:
                self._loop.push(self)
        return 0

    cdef int run(self) except -1:
        cdef object callback = self.waker
        cdef object context = self.waker_context
        cdef object error
        self.waker = None
        self.waker_context = None
        if callback is not None:
            error = call_in_context(context, callback, (self,) if self.is_cancelled else WOKEN)
            if error is not None:
                self._loop.report("Exception in callback of an exchange", error, self, None,
                                  None)
        return 0

    cdef int spent(self) except -1:
        return 0                    # it serves on: the next exchange may have begun by now

    def add_done_callback(self, callback, *, context=None):
        """Call *callback* with this when the exchange is over; there is one at a time."""
        if self.waker is not None:
            raise RuntimeError("the exchange is waited for by somebody else already")
        self.waker = callback
        self.waker_context = copy_context() if context is None else context
        if self.is_over:
            self._loop.push(self)

    def get_loop(self):
        """Return the loop of the exchange."""
        return self._loop

    def remove_done_callback(self, callback):
        """Do not call *callback*.  Return how many there were."""
        if self.waker != callback:
            return 0
        self.waker = None
        return 1

    def cancel(self, msg=None):
        """Wake who waits with a ``CancelledError``, upon which it gives the exchange up."""
        if self.is_over:
            return False
        self.is_cancelled = True
        self.message = msg
        self.end()
        return True

    def cancelled(self):
        """Whether ``cancel`` came before the end of the exchange."""
        return self.is_cancelled

    def done(self):
        """Whether the exchange is over."""
        return self.is_over

    def result(self):
        """Raise ``CancelledError`` if this was cancelled; the response is not told here."""
        if self.is_cancelled:
            raise CancelledError() if self.message is None else CancelledError(self.message)
        if not self.is_over:
            raise InvalidStateError("the exchange is under way")

    def exception(self):
        """Like ``result``: what went wrong is not told here."""
        return self.result()


# What a task asks an outcome for each time that it waits, without a look at the type, its
# bases and the descriptor found there; all else takes the usual way.

cdef object BLOCKING = "_asyncio_future_blocking"
cdef object GET_LOOP = "get_loop"
cdef object ADD = "add_done_callback"
cdef object YES = True
cdef object NO = False


cdef PyObject *get_attribute(PyObject *self, PyObject *name) noexcept:
    cdef Outcome outcome = <Outcome>self
    cdef PyObject *found
    if name == <PyObject *>BLOCKING:
        found = <PyObject *>(YES if outcome._asyncio_future_blocking else NO)
    elif name == <PyObject *>GET_LOOP and outcome.getter is not None:
        found = <PyObject *>outcome.getter
    elif name == <PyObject *>ADD and outcome.adder is not None:
        found = <PyObject *>outcome.adder
    else:
        return generic_get(self, name)
    Py_INCREF(<object>found)
    return found


cdef int set_attribute(PyObject *self, PyObject *name, PyObject *value) noexcept:
    if name == <PyObject *>BLOCKING and value == <PyObject *>NO:
        (<Outcome>self)._asyncio_future_blocking = False
        return 0
    return generic_set(self, name, value)


(<TypeObject *>Outcome).tp_getattro = get_attribute
(<TypeObject *>Outcome).tp_setattro = set_attribute


cdef class ClientConnection(HTTPProtocol):
    """An ``HTTPProtocol`` for ``AsyncClient``: ``exchange`` in place of call-backs.

    Args:
        host, port, limits: as for ``HTTPProtocol``.
        max_body_bytes: what a collected body may not exceed.
    """

    def __init__(self, host="", port=0, limits=None, max_body_bytes=MAX_BODY_BYTES):
        HTTPProtocol.__init__(self, host, port, limits)
        self.max_body_bytes = max_body_bytes

    def connection_lost(self, exc):
        """See ``HTTPProtocol``."""
        HTTPProtocol.connection_lost(self, exc)
        if self.outcome is not None:
            self.outcome.adder = self.outcome.getter = None     # which refer to the outcome

    def exchange(self, bytes head not None, str method not None, url, int64_t deadline_ns,
                 bint stream, bytes content=None, int64_t upload_size=0):
        """Send a rendered request head; return a future for the ``Response``.

        Args:
            head: the request line and all fields with the empty line that ends them.
            method: the request's, which decides whether the response has a body.
            url: kept in the response.
            deadline_ns: on the reactor's clock, 0 for none.
            stream: the future is done when the head is there; the body is streamed.
            content: the request's content, sent behind the head; ``None`` without.
            upload_size: bytes that ``upload`` is going to send, -1 when nobody knows, 0
                when there are none.

        The future's exception is an ``EndpointError``.  ``RuntimeError`` when a request is
        under way or the connection is spent.
        """
        self.send_request(head, content, method == "HEAD", deadline_ns)
        if upload_size:
            self.begin_upload(upload_size)
        self.began_ns = self.reactor.now_ns()
        self.waiter = self.reactor.create_future()
        self.response = None
        self.method = method
        self.url = url
        self.streamed = stream
        self.first = None
        self.rest = None
        self.body_bytes = 0
        self.stream = None
        self.informational = None
        return self.waiter

    cdef int start(self, bytes head, bint is_head, str method, object url, int64_t began_ns,
                   int64_t deadline_ns) except -1:
        cdef Outcome outcome = self.outcome
        if outcome is None:
            outcome = self.outcome = Outcome.__new__(Outcome)
            outcome._loop = self.reactor
            outcome.adder = outcome.add_done_callback
            outcome.getter = outcome.get_loop
        outcome.begin()
        self.send_request(head, None, is_head, deadline_ns)
        self.is_started = True
        self.began_ns = began_ns
        self.response = None
        self.method = method
        self.url = url
        self.streamed = False
        self.first = None
        self.rest = None
        self.body_bytes = 0
        self.stream = None
        self.informational = None
        return 0

    async def upload(self, pieces, expects, continue_seconds):
        """Send the content of the request under way, as fast as the peer takes it.

        Args:
            pieces: an async iterable of bytes.
            expects: the head said ``Expect: 100-continue``; nothing is sent before the peer
                says so, or *continue_seconds* are over (RFC 9110 section 10.1.1).

        Returns when all was sent, or nothing more is wanted since the exchange is over.
        Raises what *pieces* raises, and ``ValueError`` when they are not of the declared size.
        """
        if expects:
            await self.continued(continue_seconds)
            if self.upload_state == UPLOAD_NONE:  # refused: nothing of *pieces* is taken
                return
        async for data in pieces:
            if self.upload_state == UPLOAD_NONE:
                return
            self.write_content(data)
            if self.transport is not None and self.transport._protocol_paused:
                self.uploader = self.reactor.create_future()
                try:
                    await self.uploader
                finally:
                    self.uploader = None
                if self.upload_state == UPLOAD_NONE:
                    return
        self.finish_upload()

    async def continued(self, seconds):
        """Wait for a 100 (Continue), for *seconds*, or for the end of the exchange."""
        waiter = self.uploader = self.reactor.create_future()
        timer = self.reactor.call_later(seconds, self.wake_uploader)
        try:
            await waiter
        finally:
            timer.cancel()
            self.uploader = None

    def wake_uploader(self):
        """Let ``upload`` look again."""
        if self.uploader is not None and not self.uploader.done():
            self.uploader.set_result(None)

    def resume_writing(self):
        """The peer has taken what was queued."""
        self.wake_uploader()

    def give_up(self, error not None):
        """Fail the exchange under way, if any, with *error*, and the connection with it."""
        if self.state != EXCHANGE_NONE and self.state != EXCHANGE_FAILED:
            self.fail(error)

    def abandon(self):
        """Give up the exchange under way, if any, and the connection with it."""
        self.unobserve()
        self.waiter = None
        self.is_started = False
        self.response = None
        if self.stream is not None:
            self.stream.end(RuntimeError("the response was closed before its end"))
            self.stream = None
        self.reusable = False
        if self.state != EXCHANGE_NONE:
            self.state = EXCHANGE_FAILED
            self.upload_state = UPLOAD_NONE
            self.timers.disarm(&self.deadline)
        self.wake_uploader()
        if self.transport is not None:
            self.transport.abort()

    cdef int observe(self, str what, object argument) except -1:
        """Tell who watches the exchange; what it raises ends that."""
        try:
            getattr(self.observer, what)(argument)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error)
        return 0

    cdef int unobserve(self) except -1:
        """The exchange is over: who watched it may let go."""
        cdef object observer = self.observer
        if observer is not None:
            self.observer = None
            observer.over()
        return 0

    cdef int on_informational(self) except -1:
        if self.informational is None:
            self.informational = []
        cdef tuple response = (self.parser.status_code, self.parser.make_headers())
        self.informational.append(response)
        if self.observer is not None:
            self.observe("informational_received", response)
        if self.parser.status_code == 100:
            self.wake_uploader()
        return 0

    cdef int on_head(self) except -1:
        cdef Response response = Response.__new__(Response)
        response.status_code = self.parser.status_code
        response.minor_version = self.parser.minor_version
        response.head = self.parser.head
        response.fields_start = self.parser.fields_start
        response.notes = self.parser.notes
        response.method = self.method
        response.url = self.url
        response.informational = self.informational
        self.response = response
        if self.observer is not None:
            self.observe("head_received", response)
            if self.state == EXCHANGE_FAILED:
                return 0
        if self.streamed:
            self.stream = response.stream = BodyStream.__new__(BodyStream)
            self.stream.connection = self
            response.elapsed_ns = self.reactor.now_ns() - self.began_ns
            self.settle(None)
            self.response = None    # it holds the connection, which must not hold it
        return 0

    cdef int on_body(self, const char *data, Py_ssize_t size) except -1:
        cdef bytes piece = piece_of(self, data, size)
        if self.observer is not None:
            self.observe("body_received", piece)
            if self.state == EXCHANGE_FAILED:
                return 0
        if self.streamed:
            if self.stream is not None:
                self.stream.push(piece)
            return 0
        self.body_bytes += size
        if self.body_bytes > self.max_body_bytes:
            return self.fail(ResponseLimitError(
                f"the body exceeds the limit of {self.max_body_bytes} bytes",
                host=self.host, port=self.port, phase="read"))
        if self.first is None:
            self.first = piece
        elif self.rest is None:
            self.rest = [self.first, piece]
        else:
            self.rest.append(piece)
        return 0

    cdef int on_complete(self) except -1:
        if self.observer is not None:
            self.unobserve()
        if self.uploader is not None:
            self.wake_uploader()
        if self.streamed:
            if self.stream is not None:
                self.stream.trailers = self.parser.trailers
                self.stream.end(None)
                self.stream = None
            return 0
        self.response.trailing = self.parser.trailers
        if self.rest is not None:
            self.response.body = b"".join(self.rest)
            self.rest = None
        else:
            self.response.body = b"" if self.first is None else self.first
        self.first = None
        self.ended_ns = self.reactor.now_ns()
        self.response.elapsed_ns = self.ended_ns - self.began_ns
        self.settle(None)
        self.response = None
        return 0

    cdef int on_failed(self, object error) except -1:
        if self.observer is not None:
            self.unobserve()
        self.first = self.rest = None
        self.wake_uploader()
        if self.stream is not None:
            self.stream.end(error)
            self.stream = None
            return 0
        return self.settle(error)

    cdef int settle(self, object error) except -1:
        """Tell how the exchange ended; who no longer waits is not disturbed."""
        cdef object waiter = self.waiter
        if self.is_started:
            self.is_started = False
            self.outcome.error = error
            if error is None:
                self.outcome.response = self.response
            return self.outcome.end()
        self.waiter = None
        if waiter is None or waiter.done():
            return 0
        if error is None:
            waiter.set_result(self.response)
        else:
            waiter.set_exception(error)
        return 0

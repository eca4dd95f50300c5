"""The connection as the client uses it: one exchange is one future.

Owns: the collecting of a body.  May not touch: the pool (the client gives the connection back);
who waits for the pieces of a streamed body (``protocols.http.body_stream``).
Invariant: the future of an exchange is done exactly once; a streamed body ends exactly once,
whole or with an error.
"""

from libc.stdint cimport int64_t

from protocols.http.body_stream cimport new_stream
from protocols.http.outcome cimport Outcome, new_outcome
from protocols.http.protocol cimport (
    EXCHANGE_FAILED, EXCHANGE_NONE, UPLOAD_NONE, HTTPProtocol, piece_of,
)
from protocols.http.response cimport Response

from protocols.http.errors import ResponseLimitError
from protocols.http.limits import MAX_BODY_BYTES
from protocols.http.timeouts import phase_timeout


cdef enum:
    # Bytes; pieces below this share an object: each of their own would cost 33 bytes more, and a
    # peer may send a body in chunks of two.
    SMALL_PIECE = 4_096


cdef class ClientConnection(HTTPProtocol):
    """An ``HTTPProtocol`` for ``AsyncClient``: ``exchange`` in place of call-backs.

    Args:
        host, port, limits: as for ``HTTPProtocol``.
        max_body_bytes: what a collected body may not exceed.
    """

    def __init__(self, host="", port=0, limits=None, max_body_bytes=MAX_BODY_BYTES):
        HTTPProtocol.__init__(self, host, port, limits)
        self.max_body_bytes = max_body_bytes

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
        self.silence_ns = 0
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
                   int64_t deadline_ns, bytes content) except -1:
        cdef Outcome outcome = self.outcome
        if outcome is None:
            outcome = self.outcome = new_outcome(self.reactor)
        outcome.begin()
        self.send_request(head, content, is_head, deadline_ns)
        self.is_started = True
        self.silence_ns = 0
        self.until_ns = deadline_ns
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

    cdef int limit_silence(self, object phases, int64_t silence_ns) except -1:
        self.phases = phases
        self.silence_ns = silence_ns
        self.heard_ns = self.began_ns
        self.on_deadline()
        return 0

    cdef int on_deadline(self) except -1:
        cdef int64_t due_ns
        if not self.silence_ns:
            return HTTPProtocol.on_deadline(self)
        due_ns = self.heard_ns + self.silence_ns
        if 0 < self.until_ns <= due_ns:
            due_ns = self.until_ns
        if self.reactor.now_ns() < due_ns:      # it has said something since, or begins
            self.timers.arm(&self.deadline, due_ns)
            return 0
        if due_ns == self.until_ns:
            return HTTPProtocol.on_deadline(self)
        return self.fail(phase_timeout(self.phases, "read", self.host, self.port))

    def over(self):
        """Return a future that is done when the exchange under way is over, however it ends.

        Once for each exchange, right behind ``exchange``.
        """
        self.ending = self.reactor.create_future()
        return self.ending

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

    cdef int end_upload(self) except -1:
        """The exchange is over: nothing more of its content is wanted."""
        cdef object ending = self.ending
        if ending is not None:
            self.ending = None
            if not ending.done():
                ending.set_result(None)
        self.wake_uploader()
        return 0

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
        self.end_upload()
        if self.transport is not None:
            self.transport.abort()

    cdef int observe(self, str what, object argument) except -1:
        """Tell who watches the exchange; what it raises ends that."""
        cdef object flaw
        try:
            getattr(self.observer, what)(argument)
        except (SystemExit, KeyboardInterrupt):
            raise
        except (StopIteration, StopAsyncIteration) as error:
            # to who awaits these would be a result, and not an error (PEP 479)
            flaw = RuntimeError(f"a call-back raised {type(error).__name__}")
            flaw.__cause__ = error
            self.fail(flaw)
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
        if self.silence_ns:
            self.heard_ns = self.reactor.now_ns()
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
        if self.silence_ns:
            self.heard_ns = self.reactor.now_ns()
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
            self.stream = response.stream = new_stream(self)
            response.elapsed_ns = self.reactor.now_ns() - self.began_ns
            self.settle(None)
            self.response = None    # it holds the connection, which must not hold it
        return 0

    cdef int on_body(self, const char *data, Py_ssize_t size) except -1:
        cdef bytes piece = piece_of(self, data, size)
        cdef object last
        if self.silence_ns:
            self.heard_ns = self.reactor.now_ns()
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
        elif size >= SMALL_PIECE:
            self.rest.append(piece)
        else:
            last = self.rest[len(self.rest) - 1]
            if type(last) is bytearray:
                last.extend(piece)
            else:
                self.rest.append(bytearray(piece))
        return 0

    cdef int on_complete(self) except -1:
        if self.observer is not None:
            self.unobserve()
        if self.uploader is not None or self.ending is not None:
            self.end_upload()
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
        self.end_upload()
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
            self.failure = error
            if error is None:
                self.answer = self.response
            return self.outcome.end()
        self.waiter = None
        if waiter is None or waiter.done():
            return 0
        if error is None:
            waiter.set_result(self.response)
        else:
            waiter.set_exception(error)
        return 0

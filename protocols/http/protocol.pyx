"""One HTTP/1.1 connection: requests out, one at a time, and the call-backs of the response.

Owns: the order of an exchange on a connection and its deadline.  May not touch: other
connections, pools, redirects.
Invariant: each request ends in exactly one ``response_complete`` or ``request_failed``, and a
connection on which anything was out of order never carries another request.

::

    NONE --request--> SENT --bytes--> HEAD --final head--> BODY --complete--> NONE
                        |               |                    |
                        |               +--closed by a call-back of it--> CLOSED
                        |               |                    |               | lost
                        +----- fault, deadline, lost --------+---------------+--> FAILED

Bytes that come when no request is under way, or after a whole response, belong to nobody;
a peer that sends them is broken or hostile, and the connection is closed.  They are never
read as the answer to the next request (RFC 9112 section 9.2).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memset

from reactor.core cimport Reactor
from reactor.protocol cimport Protocol
from reactor.timers cimport Timer
from reactor.transports.transport cimport Transport

from protocols.http.headers cimport Headers, render_request_head
from protocols.http.parser cimport STATE_FAILED, Event, ResponseParser

from reactor.errors import ConnectionLostError, EndpointTimeoutError, endpoint_error

from protocols.http.errors import InvalidHeader, MessageError, response_error
from protocols.http.limits import DEFAULT_LIMITS, LONGEST_TIMEOUT_SECONDS

cdef extern from "Python.h":
    object call_method "PyObject_VectorcallMethod"(object name, PyObject **args, size_t count,
                                                   PyObject *names)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef tuple NO_HEADERS = ()
cdef object NOTHING = object()      # an argument that is not given

cdef enum:
    JOINED_BYTES = 16_384       # content up to this leaves with its head in one segment


cdef Headers framed(Headers fields, object content, object size, bint chunked):
    """Return the fields of a request with those that frame its content (RFC 9112 section 6)."""
    if (content is not None) + (size is not None) + chunked > 1:
        raise TypeError("content, content_size and chunked exclude each other")
    for name in ("Content-Length", "Transfer-Encoding"):
        if name in fields:
            raise InvalidHeader(name, "it follows from the content")
    if content is not None:
        if not isinstance(content, bytes):
            raise TypeError(f"content is bytes, not {type(content).__name__}")
        size = len(content)
    if size is not None:
        if size < 0:
            raise ValueError(f"content_size must not be negative, not {size}")
        return fields.merged_with((("Content-Length", str(size)),))
    if chunked:
        return fields.merged_with((("Transfer-Encoding", "chunked"),))
    return fields


cdef int deadline_passed(void *owner) except -1:
    cdef HTTPProtocol connection = <HTTPProtocol>owner
    cdef Reactor reactor = connection.reactor
    if connection.state == EXCHANGE_NONE:
        return 0
    try:
        connection.on_deadline()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # from request_failed; nobody above a timer would report it
        reactor.report("Exception in callback request_failed", error, None,
                       connection.transport, connection)
    return 0


# No tp_clear: the heap must still be there when the timer is disarmed.
@cython.no_gc_clear
cdef class HTTPProtocol(Protocol):
    """An HTTP/1.1 client connection with call-backs, for those who write drivers.

    Subclass it and override ``head_received``, ``body_received``, ``response_complete`` and
    ``request_failed``; call ``request`` when the connection is made and again from
    ``response_complete`` while ``reusable``.

    Args:
        host, port: the endpoint, for error messages and the Host field.
        limits: a ``protocols.http.limits.ResponseLimits``.
    """

    def __cinit__(self, *args, **kwargs):
        # not the arguments: a subclass may have others in its own __init__
        memset(&self.deadline, 0, sizeof(Timer))
        self.native = self.keeps_bytes = True
        self.host = ""
        self.parser = ResponseParser(DEFAULT_LIMITS)
        self.deadline.fire = deadline_passed
        self.deadline.owner = <void *>self

    def __init__(self, host="", port=0, limits=None):
        self.host = host
        self.port = port
        self.kept_head = None
        if limits is not None:
            self.parser = ResponseParser(limits)

    def __dealloc__(self):
        if self.timers is not None:
            self.timers.disarm(&self.deadline)

    # -- requests ----------------------------------------------------------------------

    def request(self, method, target, headers=(), *, host=None, timeout=None, content=None,
                content_size=None, chunked=False):
        """Send a request.

        Args:
            method: a token, such as ``"GET"`` (RFC 9110 section 9.1).
            target: the origin-form, such as ``"/path?query"`` (RFC 9112 section 3.2.1).
            headers: a mapping or pairs, without Content-Length and Transfer-Encoding.
            host: what the Host field says; by default the connection's host and port.
            timeout: seconds from now to the last byte of the response, or ``None``.
            content: the request's content, as bytes.
            content_size: bytes that ``send_content`` is going to send.
            chunked: ``send_content`` is going to send; nobody knows how much.

        At most one of the last three.  Raises ``InvalidHeader`` (a ``ValueError``) for a
        string that must not be sent, and ``RuntimeError`` when a request is under way or the
        connection is spent.
        """
        cdef int64_t deadline_ns = 0
        cdef bytes head
        cdef Headers fields
        if type(method) is not str:     # http.HTTPMethod is one and is not
            method = str.__str__(method)
        if content is None and content_size is None and not chunked:
            head = self.head_of(method, target, headers, host)
        else:
            fields = framed(Headers(headers), content, content_size, chunked)
            head = render_request_head(
                method, target, self.host_field() if host is None else host, fields)
        if timeout is not None:
            if not timeout > 0:
                raise ValueError(f"a timeout must be more than 0 seconds, not {timeout}")
            if self.reactor is not None and timeout <= LONGEST_TIMEOUT_SECONDS:
                deadline_ns = self.reactor.now_ns() + <int64_t>(<double>timeout * 1e9)
        self.send_request(head, content, method == "HEAD", deadline_ns)
        if content_size is not None or chunked:
            self.begin_upload(-1 if chunked else content_size)

    cdef bytes head_of(self, str method, str target, object headers, object host):
        """Return the head of a request without content; the same one for the same again.

        Same headers are the same object, of a kind that does not change: none, or a Headers.
        """
        cdef bytes head
        if (self.kept_head is not None and headers is self.kept_headers
                and method == self.kept_method and target == self.kept_target
                and host == self.kept_host):
            return self.kept_head
        head = render_request_head(method, target, self.host_field() if host is None else host,
                                   framed(Headers(headers), None, None, False))
        if headers is NO_HEADERS or type(headers) is Headers:
            self.kept_method = method
            self.kept_target = target
            self.kept_headers = headers
            self.kept_host = host
            self.kept_head = head
        return head

    def send_content(self, data):
        """Send the next bytes of a request that was begun with *content_size* or *chunked*.

        What the socket does not take at once is queued: hold off between ``pause_writing`` and
        ``resume_writing``.  Raises ``ValueError`` for more than was declared, and
        ``RuntimeError`` when there is no such request; one whose response has come whole
        already, or that failed, wants no more and says nothing.
        """
        self.write_content(bytes(data))

    def end_content(self):
        """All of the content was sent.  ``ValueError`` when it is less than was declared."""
        self.finish_upload()

    cdef int begin_upload(self, int64_t size) except -1:
        if size != 0 and self.state != EXCHANGE_NONE:
            self.upload_state = UPLOAD_CHUNKED if size < 0 else UPLOAD_LENGTH
            self.has_content = True
            self.upload_left = size
        return 0

    cdef int write_content(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Transport transport
        if self.upload_state == UPLOAD_NONE:
            if self.state == EXCHANGE_NONE and self.reusable:
                raise RuntimeError("no request wants content")
            return 0
        if self.upload_state == UPLOAD_CHUNKED:
            if size:
                data = b"%x\r\n%b\r\n" % (size, data)
        elif size > self.upload_left:
            raise ValueError(f"the content is {size - self.upload_left} bytes longer than was "
                             "declared")
        else:
            self.upload_left -= size
        if size and self.transport is not None:
            transport = self.transport
            transport.write_chunk(data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0

    cdef int finish_upload(self) except -1:
        cdef UploadState upload = self.upload_state
        cdef Transport transport
        cdef bytes last = b"0\r\n\r\n"
        if upload == UPLOAD_LENGTH and self.upload_left:
            raise ValueError(f"the content is {self.upload_left} bytes shorter than was declared")
        self.upload_state = UPLOAD_NONE
        if upload == UPLOAD_CHUNKED and self.transport is not None:
            transport = self.transport
            transport.write_chunk(last, PyBytes_AS_STRING(last), PyBytes_GET_SIZE(last))
        return 0

    def host_field(self):
        """Return what the Host field says by default (RFC 9110 section 7.2).

        Asked for a request that differs from the last one.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    cdef int send_request(self, bytes head, bytes content, bint head_request,
                          int64_t deadline_ns) except -1:
        cdef Transport transport
        if self.state != EXCHANGE_NONE or not self.reusable or self.transport is None:
            raise RuntimeError("a request is under way, or the connection cannot carry another")
        transport = self.transport      # anybody may have set it: TypeError, not a crash
        self.parser.begin(head_request, False, False)
        self.state = EXCHANGE_SENT
        self.exchanges += 1
        if deadline_ns:
            self.timers.arm(&self.deadline, deadline_ns)
        if content is not None and PyBytes_GET_SIZE(content) <= JOINED_BYTES:
            head += content
            content = None
        self.has_content = content is not None
        transport.write_chunk(head, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        if content is not None:
            transport.write_chunk(content, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
        return 0

    @property
    def is_idle(self):
        """Whether no request is under way: the last one's response came whole."""
        return self.state == EXCHANGE_NONE

    # -- the connection ----------------------------------------------------------------

    def connection_made(self, transport):
        """Note the reactor; a subclass calls this first and may then send a request.

        Whether there is a ``head_received`` or a ``body_received`` is seen now.
        """
        self.reactor = (<Transport?>transport)._loop
        self.timers = self.reactor.timers
        self.reusable = True
        own = getattr(self, "__dict__", ())
        self.hears_head = (type(self).head_received is not HTTPProtocol.head_received
                           or "head_received" in own)
        self.hears_body = (type(self).body_received is not HTTPProtocol.body_received
                           or "body_received" in own)

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        if self.timers is None:
            raise RuntimeError("HTTPProtocol.connection_made was overridden and not called")
        try:
            return self.parse_in_context(data, size)
        except (SystemExit, KeyboardInterrupt):
            # The rest of the bytes is lost with the call: only what begins anew goes on.
            if self.state != EXCHANGE_NONE and self.state != EXCHANGE_SENT:
                self.reusable = False
                self.transport.abort()
            raise
        except MessageError as error:
            if self.parser.state != STATE_FAILED:   # a call-back's own
                raise
            return self.fail(response_error(error, host=self.host, port=self.port))

    cdef int bytes_object_received(self, bytes data) except -1:
        self.received = data
        try:
            return self.bytes_received(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        finally:
            self.received = None

    cdef int parse_in_context(self, const char *data, Py_ssize_t size) except -1:
        """Parse; the first call-back enters the connection's context, which is left here."""
        cdef object context
        if self.is_parsing:                 # a transport in memory delivers within a write
            return self.parse(data, size)
        self.is_parsing = True
        try:
            return self.parse(data, size)
        finally:
            self.is_parsing = False
            if self.entered is not None:
                context, self.entered = self.entered, None
                self.in_context = False
                PyContext_Exit(context)

    cdef int parse(self, const char *data, Py_ssize_t size) except -1:
        cdef const char *cursor = data
        cdef const char *end = data + size
        cdef Event event
        if self.state == EXCHANGE_SENT:
            self.state = EXCHANGE_HEAD
        while True:
            event = self.parser.next_event(&cursor, end)
            if event == Event.NEED_DATA:
                return 0
            if event == Event.BODY:
                self.on_body(self.parser.body, self.parser.body_size)
            elif event == Event.HEAD:
                self.state = EXCHANGE_BODY
                self.on_head()
            elif event == Event.MESSAGE_COMPLETE:
                return self.finish(cursor < end)
            elif event == Event.INFORMATIONAL:
                self.on_informational()
            else:
                self.reusable = False
                self.transport.abort()
                return 0
            if self.state == EXCHANGE_NONE or self.state >= EXCHANGE_CLOSED:
                return 0                    # a call-back ended it

    def eof_received(self):
        """The peer closed: that completes a body read to the end, or cuts the response."""
        cdef Event event
        self.reusable = False
        if self.state == EXCHANGE_NONE or self.state >= EXCHANGE_CLOSED:
            return False
        self.in_context = True
        try:
            event = self.parser.feed_eof()
            if event == Event.MESSAGE_COMPLETE:
                self.finish(False)
        except MessageError as error:
            self.fail(response_error(error, host=self.host, port=self.port))
        finally:
            self.in_context = False
        return False

    def connection_lost(self, exc):
        """The connection is gone: a request under way fails with the reason."""
        self.reusable = False
        if self.state != EXCHANGE_NONE and self.state != EXCHANGE_FAILED:
            if exc is None:
                error = ConnectionLostError("the connection was closed", host=self.host,
                                            port=self.port, phase="read")
            else:
                error = endpoint_error(exc, host=self.host, port=self.port, phase="read")
            self.in_context = True
            try:
                self.fail(error)
            finally:
                self.in_context = False

    cdef int finish(self, bint surplus) except -1:
        # an answer that did not wait for all of the content: the peer may never take the rest
        cdef bint is_early = self.upload_state != UPLOAD_NONE or (
            self.has_content and isinstance(self.transport, Transport)
            and (<Transport>self.transport).queued_bytes() > 0)
        self.timers.disarm(&self.deadline)
        self.state = EXCHANGE_NONE
        self.reusable = (self.reusable and self.parser.keep_alive and not surplus
                         and not is_early)
        try:
            self.on_complete()
        finally:
            if not self.reusable and self.state == EXCHANGE_NONE and self.transport is not None:
                self.upload_state = UPLOAD_NONE
                if is_early:
                    self.transport.abort()
                else:
                    self.transport.close()
        return 0

    cdef int on_deadline(self) except -1:
        return self.fail(EndpointTimeoutError(
            "the deadline passed", host=self.host, port=self.port, phase="read"))

    cdef int fail(self, object error) except -1:
        """End the exchange with an error and the connection with it."""
        self.timers.disarm(&self.deadline)
        self.unanswered = self.state == EXCHANGE_SENT
        self.state = EXCHANGE_FAILED
        self.upload_state = UPLOAD_NONE
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()
        return self.on_failed(error)

    # -- call-backs --------------------------------------------------------------------

    cdef int call_back(self, str name, object first=NOTHING, object second=NOTHING) except -1:
        """Call one of the methods below in the connection's context, like all call-backs."""
        cdef PyObject *arguments[3]
        cdef size_t count = 1
        cdef object context = None
        if not self.in_context and isinstance(self.transport, Transport):
            context = (<Transport>self.transport).context
            PyContext_Enter(context)
            if self.is_parsing:
                self.in_context = True
                self.entered = context      # until the segment was parsed
                context = None
        arguments[0] = <PyObject *>self
        if first is not NOTHING:
            arguments[1] = <PyObject *>first
            count = 2
            if second is not NOTHING:
                arguments[2] = <PyObject *>second
                count = 3
        try:
            call_method(name, arguments, count, NULL)
        finally:
            if context is not None:
                PyContext_Exit(context)
        return 0

    cdef int on_informational(self) except -1:
        self.call_back("informational_received",
                       self.parser.status_code, self.parser.make_headers())
        return self.note_close()

    cdef int on_head(self) except -1:
        if not self.hears_head:
            return 0
        self.call_back("head_received", self.parser.status_code, self.parser.make_headers())
        return self.note_close()

    cdef int on_body(self, const char *data, Py_ssize_t size) except -1:
        if not self.hears_body:
            return 0
        self.call_back("body_received", piece_of(self, data, size))
        return self.note_close()

    cdef int note_close(self) except -1:
        """After a call-back that closed: what came in the same segment is not told."""
        cdef object transport = self.transport
        cdef bint is_closing
        if transport is None:
            is_closing = True
        elif isinstance(transport, Transport):
            is_closing = (<Transport>transport).is_closing()
        else:
            is_closing = transport.is_closing()
        if is_closing:
            self.state = EXCHANGE_CLOSED
        return 0

    cdef int on_complete(self) except -1:
        return self.call_back("response_complete")

    cdef int on_failed(self, object error) except -1:
        return self.call_back("request_failed", error)

    def informational_received(self, status_code, headers):
        """Called for each 1xx response before the final one (RFC 9110 section 15.2)."""

    def head_received(self, status_code, headers):
        """Called once per request, when the final response's head is whole."""

    def body_received(self, data):
        """Called with each piece of the body, as it comes."""

    def response_complete(self):
        """Called when the response is whole; ``reusable`` tells whether to go on."""

    def request_failed(self, error):
        """Called instead of ``response_complete`` when the response will never be whole.

        *error* is an ``EndpointError``: ``RemoteProtocolError``, ``IncompleteResponseError``,
        ``ConnectionLostError``, ``EndpointTimeoutError``, ``TLSTruncatedError``.
        """

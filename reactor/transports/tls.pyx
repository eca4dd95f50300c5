"""TLS over any stream transport, with the standard library's ``ssl``.

Two objects for one connection::

    application's protocol        reactor.Protocol, asyncio.Protocol, ...
        TLSTransport              what the application writes to
        TLSProtocol               handshake, records, close_notify
    transport below               TCP, UNIX, or TLS again

The life of the connection::

    NEW --connection_made--> HANDSHAKING --done--> OPEN --close, close_notify--+
                                  |                 |                          v
                                  |                 |                      FLUSHING
                       failure, timeout, abort   truncated,                    | all is sealed
                                  |              bad record, abort             v
                                  |                 |                       NOTIFIED
                                  v                 v                          |
                                 ENDED <------------+--close_notify, EOF, timeout
                                  |
                                  +--the transport below is lost--> LOST (from any state)

Plaintext that came goes to the protocol from a block of the reactor's pool.  What is written is
sealed and leaves in one send: at once, or, for all that a call-back wrote while data was delivered,
when that is over; it waits in ``backlog`` while the transport below is above its high-water mark.

The end of a stream is authentic only with close_notify (RFC 8446 section 6.1).  A connection
that ends without one is told to the protocol as ``connection_lost(ssl.SSLEOFError)``, and
one that ends with it as ``eof_received()`` and ``connection_lost(None)``.  With ``strict_end``
false, as asyncio's own methods have it, both are told the second way.  Once we have sent
close_notify ourselves, a peer that closes its socket without an answer is no error.

Owns: the order of events and the deadlines of handshake and shutdown.  May not touch:
descriptors, records (``reactor.transports.tls_engine``).
Invariant: the application's ``connection_lost`` follows the lower transport's, once, and only
if its ``connection_made`` was called.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memset

from reactor.buffers cimport WriteQueue
from reactor.core cimport Reactor
from reactor.protocol cimport Protocol
from reactor.timers cimport Timer
from reactor.transports.records cimport RECORD_PLAIN_MAX, partial_record
from reactor.transports.stream cimport StreamTransport
from reactor.transports.openssl cimport hand_back, take_output
from reactor.transports.tls_engine cimport (
    LARGE_FROM, PIECE_BYTES, RECORD_END, RECORD_NONE, DirectEngine, has_output, new_engine,
)
from reactor.transports.transport cimport RECEIVER_BUFFER, Transport

import logging
import ssl
from asyncio import constants

from reactor.errors import TLSHandshakeTimeoutError
from reactor.limits import (
    TLS_FLUSH_BYTES, TLS_HANDSHAKE_TIMEOUT_SECONDS, TLS_SHUTDOWN_TIMEOUT_SECONDS,
)
from reactor.transports.certificates import context_for

cdef object logger = logging.getLogger("asyncio")
cdef Py_ssize_t FLUSH_AT = TLS_FLUSH_BYTES
cdef Py_ssize_t COPY_BELOW = 16_384     # a smaller remainder is copied, not referenced
cdef tuple BROKEN = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


cdef int fire(void *owner) except -1:
    return (<TLSProtocol>owner).timed_out()


cdef int64_t timeout_ns(timeout, str name, double default) except -1:
    """Return a timeout in nanoseconds; ``ValueError`` unless it is positive."""
    if timeout is None:
        timeout = default
    elif not timeout > 0:
        raise ValueError(f"{name} should be a positive number, got {timeout}")
    return <int64_t>(min(<double>timeout, 1e9) * 1e9)


cdef class TLSTransport(Transport):
    """A stream transport whose bytes are sealed, made by ``TLSProtocol``; as ``asyncio``'s."""

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __cinit__(self, Reactor loop not None, protocol, TLSProtocol tls not None):
        self.tls = tls

    # -- sending ---------------------------------------------------------------------

    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1:
        return 0 if self.tls is None else self.tls.write(data, start, size)

    def writelines(self, list_of_data):
        """Send several bytes-like objects in order; they leave together, in few records."""
        self.write(b"".join(list_of_data))

    cdef Py_ssize_t queued_bytes(self) noexcept:
        return 0 if self.tls is None else self.tls.queued_bytes()

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the water marks in bytes, here and below; see ``asyncio.WriteTransport``."""
        Transport.set_write_buffer_limits(self, high, low)
        if self.tls is not None:
            self.tls.match_lower_limits()

    def can_write_eof(self):
        """Return whether ``write_eof`` is possible: never, as TLS 1.2 has no half-close."""
        return False

    def write_eof(self):
        """Raise ``NotImplementedError``."""
        raise NotImplementedError("TLS cannot be half-closed")

    # -- receiving -------------------------------------------------------------------

    def is_reading(self):
        """Return whether bytes are received when they come."""
        return (self.tls is not None and self.tls.state < TLS_FLUSHING
                and self.tls.reading == TLS_READ_ON)

    def pause_reading(self):
        """Receive nothing until ``resume_reading``; the peer feels it through TCP's window."""
        if self.tls is not None:
            self.tls.pause()

    def resume_reading(self):
        """Receive again after ``pause_reading``."""
        if self.tls is not None:
            self.tls.resume()

    # -- the end ---------------------------------------------------------------------

    cpdef bint is_closing(self) except -1:
        """Return whether the transport is closing or closed."""
        return self.tls is None or self.tls.state >= TLS_FLUSHING

    def close(self):
        """Send what was written, then close_notify; wait for the peer's, then close.

        In a handshake this is ``abort``.
        """
        if self.tls is not None:
            self.tls.close()

    cpdef bint is_quiet(self) except -1:
        # Bytes below may be a session ticket: only when they were read is it known.
        cdef TLSProtocol tls = self.tls
        if (tls is None or tls.state != TLS_OPEN or tls.reading == TLS_READ_ENDED
                or tls.lower_ended or tls.engine.unread
                or partial_record(&tls.engine.records)):
            return False
        if isinstance(self.lower, Transport):
            return (<Transport>self.lower).is_quiet()
        return not self.lower.is_closing()

    cdef int abort_with(self, object error) except -1:
        if self.tls is not None:
            self.tls.abort_with(error)
        return 0

    # -- facts -----------------------------------------------------------------------

    cdef object extra_info(self, str name):
        cdef object value = None if self.tls is None else self.tls.fact(name)
        if value is None and self.lower is not None:
            value = self.lower.get_extra_info(name)
        return value

    def __repr__(self):
        return (f"<{type(self).__name__} {'lost' if self.tls is None else self.tls.shown()} "
                f"over {self.lower!r}>")


# No tp_clear: the heap must still be there when the timer is disarmed.  That is why it has
# an attribute of its own: a reactor that is garbage too may have been cleared before.
@cython.no_gc_clear
cdef class TLSProtocol(Protocol):
    """The protocol of a transport that shall carry TLS.

    Args:
        loop: the reactor.
        app_protocol: the application's protocol.  Its ``connection_made`` is called with the
            ``TLSTransport`` after the handshake.
        sslcontext: an ``ssl.SSLContext``; ``None`` in a client means a shared one that
            verifies.
        server_side: whether this end is the server.
        server_hostname: in a client the name to verify and to send as SNI.  A context that
            checks names needs one; with an empty one, asyncio's way to say so, none is
            checked: not secure.
        session: in a client an ``ssl.SSLSession`` to resume, or a ``Resumption``.
        waiter: a future that is done after the handshake.  When that fails, it has the
            exception once the transport below is closed.  Cancelling it aborts.
        call_connection_made: false when the application has had its ``connection_made``.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 by default.
        strict_end: whether an end without close_notify is an error.  False is asyncio's way:
            it is an end like any other, and nobody can tell whether something is missing.

    Raises ``TypeError`` and ``ValueError`` for arguments that cannot work.
    """

    def __cinit__(self, Reactor loop not None, app_protocol, sslcontext=None, *,
                  bint server_side=False, server_hostname=None, session=None, waiter=None,
                  bint call_connection_made=True, ssl_handshake_timeout=None,
                  ssl_shutdown_timeout=None, bint strict_end=True):
        memset(&self.timer, 0, sizeof(Timer))
        self.native = True
        self.loop = loop
        self.timers = loop.timers
        self.timer.fire = fire
        self.timer.owner = <void *>self
        self.handshake_timeout_ns = timeout_ns(
            ssl_handshake_timeout, "ssl_handshake_timeout", TLS_HANDSHAKE_TIMEOUT_SECONDS)
        self.shutdown_timeout_ns = timeout_ns(
            ssl_shutdown_timeout, "ssl_shutdown_timeout", TLS_SHUTDOWN_TIMEOUT_SECONDS)
        self.server_side = server_side
        self.strict_end = strict_end
        self.sslcontext = context_for(sslcontext, server_side, server_hostname)
        self.engine = new_engine(self.sslcontext, server_side, server_hostname or None, session)
        self.direct = isinstance(self.engine, DirectEngine)
        self.owes_lost = not call_connection_made
        self.app_transport = TLSTransport.__new__(TLSTransport, loop, app_protocol, self)
        if waiter is not None:
            self.waiter = waiter
            waiter.add_done_callback(self._waiter_done)

    def __dealloc__(self):
        if self.timers is not None:
            self.timers.disarm(&self.timer)

    cdef int enter(self, TLSState state) except -1:
        if state <= self.state:
            raise RuntimeError(f"TLS cannot go from state {self.state} back to {state}")
        self.state = state
        return 0

    cdef str shown(self):
        return "new handshaking open flushing notified ended lost".split()[<int>self.state]

    def __repr__(self):
        side = "server" if self.server_side else "client"
        return f"<{type(self).__name__} {side} {self.shown()} {self.queued_bytes()} bytes queued>"

    # -- the transport below speaks -----------------------------------------------------

    def connection_made(self, transport):
        """Begin the handshake over *transport*."""
        self.transport = self.lower = self.app_transport.lower = transport
        if isinstance(transport, StreamTransport):
            self.stream = transport
        if self.state != TLS_NEW or (self.waiter is not None and self.waiter.cancelled()):
            self.abort_with(None)
            return
        self.enter(TLS_HANDSHAKING)
        self.arm(self.handshake_timeout_ns)
        self.match_lower_limits()
        if self.owes_lost and getattr(transport, "_protocol_paused", False):
            # what was queued before TLS began keeps the application waiting
            self.lower_paused = True
            self.app_transport._protocol_paused = True
        if self.engine.unread or not self.server_side:
            self.corked = True
            try:
                self.handshake()
            finally:
                self.corked = False
            self.send_sealed()
            if self.engine.unread:
                self.bytes_received(NULL, 0)

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        self.corked = True
        try:
            self.receive(&data, &size)
            if self.waiting() and not self.lower_paused:
                self.send_backlog()
        except BaseException:
            self.keep_unread(data, size)
            self.send_sealed()          # an answer, or our end of the handshake
            raise
        finally:
            self.corked = False
            self.engine.settle()
        if has_output(self.engine):
            self.send_sealed()
            self.check_water()
        return 0

    def data_received(self, data):
        """Take bytes from a transport that is not one of ours."""
        cdef const unsigned char[::1] view = data
        if view.shape[0]:
            self.bytes_received(<const char *>&view[0], view.shape[0])

    def eof_received(self):
        """Deal with the end of the stream below."""
        self.lower_ended = True
        if self.state == TLS_HANDSHAKING:
            self.fail_with(ConnectionResetError(
                "the peer closed the connection during the TLS handshake"))
        elif self.state == TLS_OPEN:
            if self.engine.unread:
                return True             # paused with data still to come; see _resume
            self.truncated()
            return self.state == TLS_FLUSHING   # what was written is sent: the peer may read on
        elif self.state == TLS_FLUSHING:
            return True                 # the peer may read on
        elif self.state == TLS_NOTIFIED:
            self.finish()
        return False

    cdef int truncated(self) except -1:
        """The stream below ended without close_notify."""
        if not self.strict_end:
            return self.peer_ended()
        return self.fail_with(ssl.SSLEOFError(
            ssl.SSL_ERROR_EOF, "the connection ended without close_notify: it may be truncated"))

    def pause_writing(self):
        """Seal nothing until the transport below has sent more."""
        self.lower_paused = True

    def resume_writing(self):
        """Seal and send what has waited."""
        self.lower_paused = False
        if self.state <= TLS_FLUSHING:
            if self.state == TLS_FLUSHING:
                self.arm(self.shutdown_timeout_ns)      # the peer does read
            self.match_lower_limits()
            self.send_backlog()
        if self.state < TLS_FLUSHING:
            self.app_transport.check_low_water(self.queued_bytes())
        self.check_water()

    def connection_lost(self, exc):
        """Tell the application, and let go of everything."""
        cdef TLSTransport app_transport = self.app_transport
        cdef bint in_handshake = (self.waiter is not None if self.state == TLS_ENDED
                                  else self.state < TLS_OPEN)
        if self.state == TLS_LOST:
            return
        if self.error is None and not (
                # all was sent, and the peer need not stay for our close_notify
                self.state >= TLS_NOTIFIED and not self.lower_paused and isinstance(exc, BROKEN)):
            self.error = exc
        self.timers.disarm(&self.timer)
        self.enter(TLS_LOST)
        self.engine.lost()
        try:
            if self.owes_lost:
                app_transport.call_connection_lost(self.error)
            else:
                app_transport.release_protocol()
            if in_handshake and self.error is None:
                self.error = ConnectionAbortedError(
                    "the connection was closed during the TLS handshake")
            self.wake_waiter(self.error)
        finally:
            app_transport.tls = None
            self.lower = self.stream = None
            self.backlog = None
            self.error = None

    # -- deadlines -------------------------------------------------------------------

    cdef int arm(self, int64_t timeout_ns) except -1:
        return self.timers.arm(&self.timer, self.loop.now_ns() + timeout_ns)

    cdef int timed_out(self) except -1:
        if self.state == TLS_HANDSHAKING:
            error = TLSHandshakeTimeoutError(
                "SSL handshake is taking longer than "
                f"{self.handshake_timeout_ns / 1e9} seconds: aborting the connection")
        else:
            error = TimeoutError("SSL shutdown timed out")
        return self.abort_with(error)

    # -- the handshake ---------------------------------------------------------------

    cdef int handshake(self) except -1:
        try:
            if not self.engine.handshake():
                return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            return self.fail_with(error)
        return self.handshake_done()

    cdef int handshake_done(self) except -1:
        self.timers.disarm(&self.timer)
        self.enter(TLS_OPEN)
        if self.reading == TLS_READ_PAUSED:
            self.lower.pause_reading()
        try:
            if not self.owes_lost:
                self.owes_lost = True
                self.app_transport.call_connection_made()
        finally:                        # an exit leaves the loop, not the connection
            self.wake_waiter(None)
            if self.stream is not None and self.stream.sock is not None:
                self.loop.enqueue(self.stream._start, (), None)     # lets the socket object go
        return 0

    cdef int wake_waiter(self, object error) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        return 0

    def _waiter_done(self, waiter):
        if self.waiter is not None and waiter.cancelled():
            self.waiter = None
            self.abort_with(None)

    # -- receiving -------------------------------------------------------------------

    cdef int receive(self, const char **data, Py_ssize_t *size) except -1:
        """Take bytes from below and give their plaintext to the application.

        Several records go up together where they fit in a block.  What was taken is gone
        from data and size, also when this raises.
        """
        cdef Py_ssize_t count, filled = 0
        cdef Py_ssize_t block_size = self.loop.pool.block_size
        cdef char *block
        while self.state == TLS_HANDSHAKING and size[0]:
            self.engine.feed_part(data, size)
            self.handshake()
        if self.state != TLS_OPEN or not (size[0] or self.engine.unread):
            return self.receive_no_more(data, size)
        if self.app_transport.receiver == RECEIVER_BUFFER:
            return self.receive_into_buffers(data, size)
        if self.direct and size[0] >= LARGE_FROM and self.app_transport.keeps_bytes:
            self.engine.feed_part(data, size)
            self.receive_objects(<DirectEngine>self.engine)
        block = self.loop.pool.acquire()
        if block == NULL:
            return self.fail_with(MemoryError())
        try:
            while (self.state == TLS_OPEN and self.reading == TLS_READ_ON
                    and self.app_transport.receiver != RECEIVER_BUFFER):
                if self.engine.unread == 0:
                    if size[0] == 0:
                        break
                    self.engine.feed_part(data, size)
                    continue
                count = self.engine.open_record(block + filled, block_size - filled)
                if count == RECORD_NONE:
                    continue
                if count > 0:
                    filled += count
                    if block_size - filled > RECORD_PLAIN_MAX:
                        continue
                if filled:
                    # an end or a failure is found again after what came before it
                    count = filled
                    filled = 0
                    if not self.app_transport.deliver(block, count):
                        break
                elif count == RECORD_END:
                    self.peer_ended()
                else:
                    self.fail_with(self.engine.take_failure())
            if filled and self.state == TLS_OPEN:
                self.app_transport.deliver(block, filled)
        finally:
            self.loop.pool.release(block)
        if self.app_transport.receiver == RECEIVER_BUFFER:
            return self.receive_into_buffers(data, size)    # set_protocol was called meanwhile
        return self.receive_no_more(data, size)

    cdef int receive_objects(self, DirectEngine engine) except -1:
        """The same while there is much: what is opened is the object that the application gets."""
        cdef bytes plain
        while (engine.wire.input_size >= LARGE_FROM and self.state == TLS_OPEN
                and self.reading == TLS_READ_ON and self.app_transport.keeps_bytes):
            plain = engine.open_object()
            if plain is None or not self.app_transport.deliver_bytes(plain):
                break

    cdef int receive_into_buffers(self, const char **data, Py_ssize_t *size) except -1:
        """The same for a BufferedProtocol: records are opened into its own memory."""
        cdef Py_ssize_t count
        cdef Py_buffer view
        while (self.state == TLS_OPEN and self.reading == TLS_READ_ON
                and self.app_transport.receiver == RECEIVER_BUFFER):
            if self.engine.unread == 0:
                if size[0] == 0:
                    break
                self.engine.feed_part(data, size)
                continue
            if not self.app_transport.open_buffer(&view, -1):
                break
            if self.state != TLS_OPEN or self.reading != TLS_READ_ON:
                PyBuffer_Release(&view)
                break
            count = self.engine.open_record(<char *>view.buf, view.len)
            if count > 0:
                self.app_transport.close_buffer(&view, count)
                continue
            PyBuffer_Release(&view)
            if count == RECORD_END:
                self.peer_ended()
            elif count != RECORD_NONE:
                self.fail_with(self.engine.take_failure())
        if ((size[0] or self.engine.unread) and self.state == TLS_OPEN
                and self.reading == TLS_READ_ON):
            return self.receive(data, size)         # set_protocol was called meanwhile
        return self.receive_no_more(data, size)

    cdef int keep_unread(self, const char *data, Py_ssize_t size) except -1:
        """An exit leaves the loop, not the connection: what is unread is read afterwards."""
        if self.state == TLS_OPEN:
            if size:
                self.engine.feed(data, size)
            if self.engine.unread and not self.loop._closed:
                self.loop.enqueue(self._resume, (), None)
        return 0

    cdef int receive_no_more(self, const char **data, Py_ssize_t *size) except -1:
        """Deal with bytes that the application does not get, now or ever."""
        if self.state == TLS_OPEN or self.state == TLS_NEW:
            if size[0]:
                self.engine.feed(data[0], size[0])   # paused or early: for later
                size[0] = 0
        elif self.state < TLS_ENDED:
            while size[0]:
                self.engine.feed_part(data, size)
                self.discard()
        return 0

    cdef int discard(self) except -1:
        """Read what is whole and drop it, but for a close_notify."""
        cdef Py_ssize_t count
        cdef char *block
        if not self.engine.unread or self.reading == TLS_READ_ENDED:
            return 0
        block = self.loop.pool.acquire()
        if block == NULL:
            return self.fail_with(MemoryError())
        try:
            while self.engine.unread:
                count = self.engine.open_record(block, self.loop.pool.block_size)
                if count == RECORD_END:
                    self.reading = TLS_READ_ENDED
                    self.engine.unread = 0
                elif count != RECORD_NONE and count < 0:
                    return self.fail_with(self.engine.take_failure())
        finally:
            self.loop.pool.release(block)
        if self.state == TLS_NOTIFIED and self.reading == TLS_READ_ENDED:
            self.finish()
        return 0

    cdef int peer_ended(self) except -1:
        """The peer will send no more."""
        self.reading = TLS_READ_ENDED
        self.engine.unread = 0
        if self.app_transport.deliver_eof() and self.state == TLS_OPEN:
            logger.warning("returning true from eof_received() has no effect when using ssl")
        return self.close()

    cdef int pause(self) except -1:
        if self.state < TLS_FLUSHING and self.reading == TLS_READ_ON:
            self.reading = TLS_READ_PAUSED
            if self.state == TLS_OPEN:
                self.lower.pause_reading()
        return 0

    cdef int resume(self) except -1:
        if self.state < TLS_FLUSHING and self.reading == TLS_READ_PAUSED:
            self.reading = TLS_READ_ON
            if self.state == TLS_OPEN:
                if self.engine.unread or self.lower_ended:
                    self.loop.enqueue(self._resume, (), None)
                self.lower.resume_reading()
        return 0

    def _resume(self):
        """Deliver what came in before reading was paused."""
        if self.state == TLS_OPEN and self.reading == TLS_READ_ON:
            self.bytes_received(NULL, 0)
        if self.lower_ended and self.state == TLS_OPEN and self.reading == TLS_READ_ON:
            self.truncated()

    # -- sending ---------------------------------------------------------------------

    cdef int write(self, object data, const char *start, Py_ssize_t size) except -1:
        cdef Py_ssize_t part
        if self.state >= TLS_FLUSHING:
            return self.app_transport.note_ignored_write("SSL connection is closed")
        if self.state == TLS_OPEN and not self.lower_paused and self.waiting() == 0:
            while size:
                part = self.seal(data, start, min(size, <Py_ssize_t>PIECE_BYTES))
                if part == 0:
                    break
                start += part
                size -= part
                if self.engine.collected >= FLUSH_AT:
                    self.send_sealed()
                    if self.lower_paused or self.state != TLS_OPEN:
                        break
            if not self.corked:
                self.send_sealed()
        if size and self.state < TLS_FLUSHING:
            self.keep(data, start, size)
        return self.check_water()

    cdef Py_ssize_t seal(self, object data, const char *start, Py_ssize_t size) except -1:
        """Seal some of size bytes at start; 0 when that is not possible now or ever again."""
        try:
            return self.engine.seal(data, start, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail_with(error)
            return 0

    cdef int keep(self, object data, const char *start, Py_ssize_t size) except -1:
        """Queue plaintext, the last size bytes of data if that is not None."""
        cdef Py_ssize_t skip
        if self.backlog is None:
            self.backlog = WriteQueue()
        if data is None or (size < COPY_BELOW and size < PyBytes_GET_SIZE(data)):
            self.backlog.append(PyBytes_FromStringAndSize(start, size))
            return 0
        skip = PyBytes_GET_SIZE(data) - size
        self.backlog.append(data)
        if skip:                        # some of it was sealed, so the queue was empty
            self.backlog.offset += skip
            self.backlog.size_bytes -= skip
        return 0

    cdef int send_backlog(self) except -1:
        """Seal and send what waits, until the transport below has enough."""
        cdef Py_ssize_t part
        cdef bytes chunk
        while (self.waiting() and not self.lower_paused
                and (self.state == TLS_OPEN or self.state == TLS_FLUSHING)):
            chunk = <bytes>self.backlog.chunks[self.backlog.head]
            part = min(PyBytes_GET_SIZE(chunk) - self.backlog.offset, <Py_ssize_t>PIECE_BYTES)
            part = self.seal(chunk, PyBytes_AS_STRING(chunk) + self.backlog.offset, part)
            if part == 0:
                break
            self.backlog.consume(part)
            if self.engine.collected >= FLUSH_AT:
                self.send_sealed()
        if self.waiting() == 0:
            self.backlog = None         # most connections never need it again
        if not self.corked:
            self.send_sealed()
        if self.state == TLS_FLUSHING and self.waiting() == 0:
            self.notify()
        return 0

    cdef int send_sealed(self) except -1:
        """Hand what is sealed to the transport below, all at once."""
        cdef bytes chunk
        if self.lower is None or not has_output(self.engine):
            return 0
        if self.direct:
            return self.send_output(<DirectEngine>self.engine)
        if self.engine.collected:
            self.lower.writelines(self.engine.take_pieces())
            return 0
        chunk = self.engine.take()
        if PyBytes_GET_SIZE(chunk) == 0:
            return 0
        if self.stream is not None:
            return self.stream.write_chunk(chunk, PyBytes_AS_STRING(chunk),
                                           PyBytes_GET_SIZE(chunk))
        self.lower.write(chunk)
        return 0

    cdef int send_output(self, DirectEngine engine) except -1:
        cdef Py_ssize_t size, room
        cdef char *output = take_output(&engine.wire, &size, &room)
        engine.collected = 0
        try:
            if self.stream is not None:
                self.stream.write_chunk(None, output, size)
            else:
                self.lower.write(PyBytes_FromStringAndSize(output, size))
        finally:
            hand_back(output, room)
        return 0

    cdef Py_ssize_t waiting(self) noexcept:
        """Return how many bytes of plaintext wait to be sealed."""
        return 0 if self.backlog is None else self.backlog.size_bytes

    cdef Py_ssize_t queued_bytes(self) noexcept:
        cdef Py_ssize_t queued = self.waiting()
        if self.stream is not None:
            queued += self.stream.queued_bytes()
        elif isinstance(self.lower, Transport):
            queued += (<Transport>self.lower).queued_bytes()
        return queued

    cdef int check_water(self) except -1:
        """Tell the application when a water mark is passed.

        Its marks are the lower transport's too, so that above the high one that has paused
        us.  Between the two it would not tell us that the low one is reached; so it is given
        the low mark as the high one while the application waits.
        """
        cdef TLSTransport app = self.app_transport
        cdef Py_ssize_t queued
        if self.state >= TLS_FLUSHING:
            return 0
        if not (self.lower_paused or app._protocol_paused or self.waiting()):
            return 0
        queued = self.queued_bytes()
        app.check_water(queued)
        if app._protocol_paused and not self.lower_paused and self.waiting() == 0:
            self.lower.set_write_buffer_limits(high=app.low_water, low=app.low_water)
        return 0

    cdef int match_lower_limits(self) except -1:
        """Give the transport below the application's water marks."""
        if self.lower is not None and self.state < TLS_FLUSHING:
            limits = self.app_transport.get_write_buffer_limits()
            if self.lower.get_write_buffer_limits() != limits:
                self.lower.set_write_buffer_limits(high=limits[1], low=limits[0])
        return 0

    # -- the end ---------------------------------------------------------------------

    cdef int close(self) except -1:
        if self.state < TLS_OPEN:
            return self.abort_with(None)
        if self.state != TLS_OPEN:
            return 0
        self.enter(TLS_FLUSHING)
        self.arm(self.shutdown_timeout_ns)
        if self.waiting() == 0:
            self.notify()
        return 0

    cdef int notify(self) except -1:
        """Send close_notify; RFC 8446 section 6.1."""
        self.discard()                  # unwrap() takes data for an error
        if self.state != TLS_FLUSHING:
            return 0
        self.enter(TLS_NOTIFIED)
        self.engine.notify()
        # it pauses us now exactly while something is not sent
        self.lower.set_write_buffer_limits(high=0)
        if not self.corked:
            self.send_sealed()
        if self.reading == TLS_READ_ENDED or self.lower_ended:
            return self.finish()
        if self.reading == TLS_READ_PAUSED:
            self.lower.resume_reading()
        return 0

    cdef int finish(self) except -1:
        """All is said: close the transport below, which sends what it still has."""
        self.send_sealed()
        if self.state < TLS_ENDED:
            self.enter(TLS_ENDED)
            self.lower.close()
        return 0

    cdef int fail_with(self, object error) except -1:
        """End because of a fault in the stream; the alert that OpenSSL has made is sent."""
        if self.error is None:
            self.error = error
        if self.loop._debug:
            logger.debug("%r: TLS failed: %r", self, error)
        self.arm(self.shutdown_timeout_ns)
        return self.finish()

    cdef int abort_with(self, object error) except -1:
        if self.state == TLS_LOST:
            return 0
        if self.error is None:
            self.error = error
        if self.state < TLS_ENDED:
            self.enter(TLS_ENDED)
        if self.lower is not None:
            self.lower.abort()
        return 0

    # -- facts -----------------------------------------------------------------------

    cdef object fact(self, str name):
        if name == "sslcontext":
            return self.sslcontext
        return self.engine.fact(name) if self.state >= TLS_OPEN else None

"""The transport of a connected stream socket: TCP, UNIX, a socket pair.

::

    OPEN --write_eof--> ENDING --------+
     |                    |            |
     +------close---------+--> CLOSING | abort, error
     |                           |     |
     +--abort, error----+   queue empty|
                        v        v     v
                       ABORTED <-------+ --ops are back--> LOST

Two directions, two enums: ``state`` is the life and the sending side, ``reading`` the
receiving side.  A write goes to the socket at once; only what it does not take is queued.

Owns: one descriptor, one receive op, one send op, the write queue.  May not touch: names,
TLS, other connections.
Invariant: the descriptor is closed only when both ops are IDLE, and ``connection_lost`` is
called exactly once for each ``connection_made``, from the loop and never from inside a call
of the user's.
"""

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN
from libc.stdint cimport intptr_t
from libc.string cimport memcpy, memset

from reactor.addresses cimport ADDRESS_MAX, unpack_address
from reactor.buffers cimport WriteQueue
from reactor.core cimport Reactor, enlist, unlist
from reactor.pool cimport expect_large_objects
from reactor.pollers.contract cimport (
    OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING, OP_READABLE, OP_RECEIVE, OP_SEND, OP_TRY, Op,
)
from reactor.transports.transport cimport RECEIVER_BUFFER, Transport

import _socket
import logging
import socket
import warnings
import weakref
from asyncio import SendfileNotAvailableError, constants
from asyncio.trsock import TransportSocket

from reactor.errors import system_error

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *value)
    # declared without "except": there is a way without it
    PyObject *allocate_bytes "PyBytes_FromStringAndSize"(const char *start, Py_ssize_t size)
    int shrink_bytes "_PyBytes_Resize"(PyObject **data, Py_ssize_t size) except -1

cdef object logger = logging.getLogger("asyncio")
cdef object detach = _socket.socket.detach
cdef tuple QUIET = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)

cdef enum:
    KEEP_WHOLE = 16_384                 # below this a remainder is copied, not referenced
    OBJECT_FLOOR = 65_536               # below this a receive is copied out of a block


cdef StreamTransport new_stream(Reactor loop, intptr_t fd, object protocol, object sock,
                                object extra, object server):
    cdef StreamTransport transport = StreamTransport.__new__(StreamTransport, loop, protocol)
    transport.fd = fd
    transport.receive_op.fd = transport.send_op.fd = fd
    transport.sock = sock
    transport.extra = extra
    transport.server = server
    enlist(loop, &transport.link, <void *>transport)
    return transport


cdef object os_error(Py_ssize_t result):
    """Return the exception for a negative result of an op."""
    return system_error(-result)


cdef class StreamTransport(Transport):
    """A connected stream socket; see ``asyncio.Transport`` for the surface."""

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        memset(&self.receive_op, 0, sizeof(Op))
        memset(&self.send_op, 0, sizeof(Op))
        self.receive_op.kind = OP_RECEIVE
        self.send_op.kind = OP_SEND
        self.receive_op.owner = self.send_op.owner = <void *>self

    cdef void set_peer(self, const void *address, int size) noexcept:
        if 0 < size <= <int>sizeof(self.peer):
            memcpy(self.peer, address, size)
            self.peer_size = size

    cdef int begin(self) except -1:
        try:
            return self.made()
        finally:                        # an exit leaves the loop, not the connection
            self.start()

    cdef int made(self) except -1:
        if self.server is not None:
            self.server._attach(self)
        return self.call_connection_made()

    cdef int start(self) except -1:
        if self.state < STREAM_CLOSING and self.reading == READ_ON:
            self.receive()
        return 0

    def _begin(self, waiter):
        """Begin for whoever awaits *waiter*, and receive nothing before it has gone on."""
        try:
            self.made()
        finally:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)
            self._loop.enqueue(self._start, (), None)

    def _start(self):
        try:
            self.let_socket_go()
        finally:                        # an exit leaves the loop, not the connection
            self.start()

    cdef int let_socket_go(self) except -1:
        """Keep the descriptor without the Python socket, if nobody else has that by now.

        It is two fifths of what an idle connection takes.  Whoever asks for it gets another.
        """
        cdef object sock = self.sock
        if (type(sock) is socket.socket and self.fd >= 0
                and Py_REFCNT(<PyObject *>sock) == 2        # this attribute's and ours
                and not weakref.getweakrefcount(sock)):
            self._loop._forget(self.fd)                     # nobody knows it: nobody watches it
            detach(sock)                # in C, where no signal's handler closes the descriptor
            self.sock = None
        return 0

    cdef int enter(self, StreamState state) except -1:
        if state <= self.state:
            raise RuntimeError(f"stream cannot go from state {self.state} back to {state}")
        self.state = state
        return 0

    cdef int op_done(self, Op *op) except -1:
        if op == &self.receive_op:
            return self.received()
        return self.sent()

    # -- receiving -------------------------------------------------------------------

    cdef int receive(self) except -1:
        if self.receive_op.state != OP_IDLE or self.filling:
            return 0                    # a cancelled one is on its way; received() goes on
        if self.holding or self.rest is not None:
            self._loop.enqueue(self._release_held, (), None)
            return 0
        if self.receiver == RECEIVER_BUFFER or self.object_bytes:
            self.receive_op.kind = OP_READABLE
        else:
            self.receive_op.kind = OP_RECEIVE
        self.receive_op.buffer = NULL
        if self._loop.poller.submit(&self.receive_op) == OP_IDLE:
            self.received()             # could not be parked: the result says why
        return 0

    cdef int received(self) except -1:
        cdef Py_ssize_t count = self.receive_op.result
        if self.receive_op.kind == OP_READABLE:
            return self.readable()
        self.holding = count >= 0
        if self._loop.poller.closed:
            self.orphan()
            return 0
        if (self.holding and self.state < STREAM_CLOSING
                and (self.reading == READ_PAUSED or self.rest is not None)):
            if self.reading == READ_ON:
                self._loop.enqueue(self._release_held, (), None)
            return 0                    # _release_held() delivers it
        try:
            if self.state >= STREAM_CLOSING:
                self.drop_held()
            elif count > 0:
                self.received_bytes()
            elif count == 0:
                self.received_end()
            elif count != -ECANCELED:
                self.abort_with(os_error(count))
        finally:                        # an exit leaves the loop, not the connection
            self.go_on()
        return 0

    cdef int readable(self) except -1:
        """There is something: receive it into the memory that the protocol is going to have."""
        cdef Py_ssize_t result = self.receive_op.result
        if self._loop.poller.closed:
            self.orphan()
            return 0
        try:
            if self.state < STREAM_CLOSING and self.reading == READ_ON and self.rest is None:
                if result < 0:
                    if result != -ECANCELED:
                        self.abort_with(os_error(result))
                elif self.receiver == RECEIVER_BUFFER:
                    self.receive_into_buffer()
                elif self.object_bytes:
                    self.receive_into_object()
        finally:                        # an exit leaves the loop, not the connection
            self.go_on()
        return 0

    cdef int receive_into_buffer(self) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t count
        self.filling = True             # who pauses and resumes meanwhile submits nothing
        try:
            if not self.open_buffer(&view, -1):
                return 0
        finally:
            self.filling = False
        if self.state >= STREAM_CLOSING or self.reading != READ_ON:
            PyBuffer_Release(&view)
            return 0
        count = self.receive_now(<char *>view.buf, view.len)
        if count > 0:
            self.close_buffer(&view, count)
            return 0
        PyBuffer_Release(&view)
        return self.received_none(count)

    cdef Py_ssize_t receive_now(self, char *into, Py_ssize_t room) noexcept:
        """Receive what is there; the result of the op."""
        self.receive_op.kind = OP_RECEIVE
        self.receive_op.buffer = into
        self.receive_op.length = room
        self.receive_op.flags = OP_NOWAIT
        self._loop.poller.submit(&self.receive_op)
        self.receive_op.flags = 0
        self.receive_op.buffer = NULL
        return self.receive_op.result

    cdef int received_none(self, Py_ssize_t result) except -1:
        """Nothing has come but the end, or a failure; or it was not ready after all."""
        if result == 0:
            return self.received_end()
        if result != -EAGAIN:
            return self.abort_with(os_error(result))
        return 0

    cdef int receive_into_object(self) except -1:
        """Receive into a bytes object, which the protocol is given: nothing is copied."""
        cdef PyObject *data = allocate_bytes(NULL, self.object_bytes)
        cdef Py_ssize_t count
        cdef bytes received
        if data == NULL:
            PyErr_Clear()
            self.object_bytes = 0       # a block is there
            return 0
        count = self.receive_now(PyBytes_AS_STRING(<object>data), self.object_bytes)
        self.expect_alike(count)
        if count > 0:
            try:
                shrink_bytes(&data, count)
            except MemoryError as error:
                return self.abort_with(error)       # what came is lost: nothing may follow
            received = <bytes>data
            Py_DECREF(received)         # of two references
            self.deliver_bytes(received)
            return 0
        Py_DECREF(<object>data)
        return self.received_none(count)

    cdef void expect_alike(self, Py_ssize_t count) noexcept:
        """Choose the memory of the next receive: what comes next is mostly like the last.

        Where much comes at once, the copy out of a block is what receiving costs most after
        the system's own.  Where little does, a block is cheaper than an object of a size that
        is not known before.
        """
        if count < OBJECT_FLOOR or not self.keeps_bytes:
            self.object_bytes = 0
            return
        self.object_bytes = self._loop.pool.block_size      # the most that one receive takes
        expect_large_objects()

    cdef int go_on(self) except -1:
        """Receive what comes next, or let the connection go."""
        if self.state >= STREAM_CLOSING:
            return self.lose_if_idle()
        if self.reading == READ_ON:
            return self.receive()
        return 0

    cdef int received_bytes(self) except -1:
        cdef char *block = self.receive_op.buffer
        self.receive_op.buffer = NULL
        self.holding = False
        if self.receive_op.result >= OBJECT_FLOOR:
            self.expect_alike(self.receive_op.result)
        try:
            self.deliver(block, self.receive_op.result)
        finally:
            self._loop.poller.give_back(block)
        return 0

    cdef int received_end(self) except -1:
        cdef bint stays = False
        self.holding = False
        self.reading = READ_ENDED
        try:
            stays = self.deliver_eof()
        finally:
            if not stays and self.state < STREAM_CLOSING:
                self.close()
        return 0

    def _release_held(self):
        """Deliver what a pause held back."""
        cdef bytes rest = self.rest
        if self.reading != READ_ON or self.state >= STREAM_CLOSING:
            return
        if rest is not None:
            self.rest = None
            try:
                self.deliver(PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
            finally:
                self.go_on()
        elif self.holding:
            self.received()

    cdef bint keep_rest(self, const char *data, Py_ssize_t size) except -1:
        if self.reading != READ_PAUSED:
            return False
        try:
            self.rest = PyBytes_FromStringAndSize(data, size)
        except MemoryError as error:
            self.abort_with(error)      # what came is lost: nothing may follow
        return True

    cdef int drop_held(self) except -1:
        """Forget what was received and not delivered."""
        if self.holding and self.receive_op.result > 0:
            self._loop.poller.give_back(self.receive_op.buffer)
            self.receive_op.buffer = NULL
        self.holding = False
        self.rest = None
        return 0

    def is_reading(self):
        """Return whether bytes are received when they come."""
        return self.state < STREAM_CLOSING and self.reading == READ_ON

    def pause_reading(self):
        """Receive nothing until ``resume_reading``; the peer feels it through TCP's window."""
        if self.state >= STREAM_CLOSING or self.reading != READ_ON:
            return
        self.reading = READ_PAUSED
        if self.receive_op.state != OP_IDLE:
            self._loop.poller.cancel(&self.receive_op)

    def resume_reading(self):
        """Receive again after ``pause_reading``."""
        if self.state >= STREAM_CLOSING or self.reading != READ_PAUSED:
            return
        self.reading = READ_ON
        self.receive()

    # -- sending ---------------------------------------------------------------------

    def writelines(self, list_of_data):
        """Send several bytes-like objects in order, gathered into few system calls."""
        cdef list chunks = [
            chunk if type(chunk) is bytes else bytes(memoryview(chunk)) for chunk in list_of_data
        ]
        if not chunks or self.refuse_write():
            return
        if len(chunks) == 1:
            self.write(chunks[0])
            return
        if self.queue is None:
            self.queue = WriteQueue()
        for chunk in chunks:
            self.queue.append(chunk)
        if self.queue.size_bytes and self.send_op.state == OP_IDLE:
            self.send_queue(OP_TRY)
        self.check_water(self.queued_bytes())

    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1:
        cdef Py_ssize_t count = 0
        if self.state != STREAM_OPEN and self.refuse_write():
            return 0
        if size == 0:
            return 0
        if self.send_op.state == OP_IDLE:
            self.send_op.vector_count = 0
            self.send_op.buffer = <char *>start
            self.send_op.length = size
            self.send_op.flags = OP_NOWAIT
            self._loop.poller.submit(&self.send_op)
            count = self.send_op.result
            if count == size:
                return 0
            if count < 0:
                if count != -EAGAIN:
                    return self.abort_with(os_error(count))
                count = 0
        if self.queue is None:
            self.queue = WriteQueue()
        if data is not None and (count == 0 or size - count >= KEEP_WHOLE):
            self.queue.append(data)
            self.queue.offset += count
            self.queue.size_bytes -= count
        else:
            self.queue.append(PyBytes_FromStringAndSize(start + count, size - count))
        if self.send_op.state == OP_IDLE:
            self.send_queue(0)
        return self.check_water(self.queued_bytes())

    cdef bint refuse_write(self) except -1:
        """True when a write is to be dropped; raises when it is the caller's mistake."""
        if self.state == STREAM_OPEN:
            return False
        if self.state == STREAM_LENT:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self.state == STREAM_ENDING:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.state >= STREAM_ABORTED:
            self.note_ignored_write("socket.send() raised exception.")
        return True

    cdef int send_queue(self, int flags) except -1:
        """Submit the front of the queue; with OP_TRY what goes at once does."""
        while True:
            self.send_op.vector_count = self.queue.gather()
            self.send_op.vectors = self.queue.vectors
            self.send_op.flags = flags
            if self._loop.poller.submit(&self.send_op) == OP_PENDING:
                return 0
            if self.send_op.result < 0:
                return self.abort_with(os_error(self.send_op.result))
            self.queue.consume(self.send_op.result)
            if self.queue.size_bytes == 0:
                return self.drained()

    cdef int sent(self) except -1:
        cdef Py_ssize_t count = self.send_op.result
        if self._loop.poller.closed:
            self.orphan()
            return 0
        if self.state >= STREAM_ABORTED:
            return self.lose_if_idle()
        if count < 0:
            return self.abort_with(os_error(count))
        self.queue.consume(count)
        if self.queue.size_bytes:
            self.send_queue(0)
        else:
            self.drained()
        if self.state < STREAM_CLOSING:
            self.check_low_water(self.queued_bytes())
        return 0

    cdef int drained(self) except -1:
        """The queue is empty: what waited for that happens now."""
        self.queue = None               # most connections never need it again
        if self.state == STREAM_CLOSING:
            self.abort_with(None)
        elif self.state == STREAM_ENDING:
            self._loop.poller.shut_down(self.fd)
        elif self.state == STREAM_LENT and not self.drain_waiter.done():
            self.drain_waiter.set_result(None)
        return 0

    cdef Py_ssize_t queued_bytes(self) noexcept:
        return 0 if self.queue is None else self.queue.size_bytes

    def can_write_eof(self):
        """Return whether ``write_eof`` is possible: always."""
        return True

    def write_eof(self):
        """End the sending direction once everything written is sent (shutdown(2))."""
        if self.state > STREAM_LENT or self.refuse_write():
            return
        self.enter(STREAM_ENDING)
        if self.queued_bytes() == 0:
            self.drained()

    def _lend_socket(self):
        """Lend the socket to ``loop.sendfile``, which may use it when the future is done.

        Returns ``(socket, future)``.  Until ``_take_back_socket`` writes raise, and the descriptor
        stays open: that the connection is to end is told by the future, or by ``_loans_end``'s.
        """
        if self.state != STREAM_OPEN:
            raise RuntimeError("Transport is closing")
        if self.extra_info("socket") is None:
            raise SendfileNotAvailableError("not a socket of the system's")
        self.state = STREAM_LENT
        self.drain_waiter = self._loop.create_future()
        if self.queued_bytes() == 0:
            self.drain_waiter.set_result(None)
        return self.sock, self.drain_waiter

    def _loans_end(self):
        """Return a future that fails when the socket, which is in use by now, is wanted back."""
        self.drain_waiter = self._loop.create_future()
        if self.state == STREAM_ABORTED:
            self.call_loan_in()
        return self.drain_waiter

    cdef int call_loan_in(self) except -1:
        if not self.drain_waiter.done():
            self.drain_waiter.set_exception(ConnectionError("Connection is closed by peer"))
        return 0

    def _take_back_socket(self):
        self.drain_waiter = None
        if self.state == STREAM_LENT:
            self.state = STREAM_OPEN
        elif self.state == STREAM_ABORTED:
            self._loop.enqueue(self._lose, (), None)

    # -- the end ---------------------------------------------------------------------

    cpdef bint is_closing(self) except -1:
        """Return whether the transport is closing or closed."""
        return self.state >= STREAM_CLOSING

    def close(self):
        """Close once everything written is sent; nothing more is received."""
        if self.state >= STREAM_CLOSING:
            return
        self.enter(STREAM_CLOSING)
        self.drop_held()
        if self.queued_bytes() == 0:
            self.abort_with(None)
        elif self.receive_op.state != OP_IDLE:
            self._loop.poller.cancel(&self.receive_op)

    cpdef bint is_quiet(self) except -1:
        return (self.state < STREAM_CLOSING and self.reading != READ_ENDED and not self.holding
                and self.rest is None
                and self.receive_op.state != OP_DONE
                and self._loop.poller.peek(self.fd) == 0)

    cdef int abort_with(self, object error) except -1:
        if self.state >= STREAM_ABORTED:
            return 0
        self.enter(STREAM_ABORTED)
        self.drop_held()
        self.error = error
        if error is not None and self._loop._debug and not isinstance(error, QUIET):
            logger.debug("%r: connection lost: %r", self, error)
        if self.queue is not None and self.send_op.state == OP_IDLE:
            self.queue.clear()
        if self.drain_waiter is not None:
            self.call_loan_in()
        if self.receive_op.state == OP_IDLE and self.send_op.state == OP_IDLE:
            self._loop.enqueue(self._lose, (), None)
        else:
            self._loop.poller.cancel(&self.receive_op)
            self._loop.poller.cancel(&self.send_op)
        return 0

    cdef int lose_if_idle(self) except -1:
        if (self.state == STREAM_ABORTED and self.receive_op.state == OP_IDLE
                and self.send_op.state == OP_IDLE and self.drain_waiter is None):
            self.lose()
        return 0

    def _lose(self):
        self.lose_if_idle()

    cdef int lose(self) except -1:
        self.enter(STREAM_LOST)
        self.queue = None
        try:
            self.call_connection_lost(self.error)
        finally:
            self.error = None
            self.close_descriptor()
        return 0

    cdef int close_descriptor(self) except -1:
        cdef intptr_t fd = self.fd
        cdef object sock = self.sock
        cdef object server = self.server
        if fd < 0:
            return 0
        self.fd = -1
        unlist(&self.link)
        self.sock = self.server = None
        self.socket_view = None
        if sock is None:
            self._loop.poller.close_fd(fd)
        else:
            self._loop.poller.detach(fd)
            sock.close()
        if server is not None:
            server._detach(self)
        return 0

    def orphan(self):
        """The loop is closed: free the descriptor, call nobody, warn."""
        cdef str message = f"unclosed transport {self!r}"
        self.drop_held()
        if self.state == STREAM_LOST:
            return
        self.state = STREAM_LOST
        self.release_protocol()
        self.queue = None
        self.close_descriptor()
        warnings.warn(message, ResourceWarning, source=self)    # which may raise

    def __del__(self):
        if self.fd >= 0:
            self.orphan()

    def __dealloc__(self):
        unlist(&self.link)

    # -- facts -----------------------------------------------------------------------

    cdef object extra_info(self, str name):
        cdef unsigned char address[ADDRESS_MAX]
        if self.extra is not None and name in self.extra:
            return self.extra[name]
        if name == "peername":
            if self.peer_size == 0 and self.fd >= 0:
                self.set_peer(address, self._loop.poller.address_of(
                    self.fd, True, address, ADDRESS_MAX))
            if self.peer_size:
                return unpack_address(self.peer, self.peer_size)
        if self.fd < 0:
            return None
        if name == "sockname" or name == "peername":
            return unpack_address(address, self._loop.poller.address_of(
                self.fd, name == "peername", address, ADDRESS_MAX))
        if name == "socket":
            if self.sock is None:
                try:
                    self.sock = socket.socket(fileno=self.fd)   # which closes it from now on
                    self.sock.setblocking(False)                # it is; now the object knows
                except OSError:
                    return None                                 # simulated: not the system's
            if self.socket_view is None:
                self.socket_view = TransportSocket(self.sock)
                self._loop._transports[self.fd] = self      # known from now on: not to be watched
            return self.socket_view
        return None

    @property
    def _sock_fd(self):
        return self.fd

    def __repr__(self):
        cdef list info = [type(self).__name__, ("open", "lent", "ending", "closing", "aborted",
                                                "lost")[<int>self.state]]
        if self.fd >= 0:
            info.append(f"fd={self.fd}")
        info.append(("reading", "read paused", "read ended")[<int>self.reading])
        info.append(f"{self.queued_bytes()} bytes queued")
        return f"<{' '.join(info)}>"


def adopt_stream(Reactor loop, sock, protocol, waiter=None, extra=None, server=None):
    """Return a transport over *sock*, connected and non-blocking, which it owns from now on.

    ``connection_made`` is called in the next pass; then *waiter*, a future, is done.
    """
    cdef StreamTransport transport
    cdef unsigned char address[ADDRESS_MAX]
    cdef intptr_t fd = sock.fileno()
    cdef int error = loop.poller.attach(fd, True)
    if error < 0:
        raise os_error(error)
    transport = new_stream(loop, fd, protocol, sock, extra, server)
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        loop.poller.set_option(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # now: after a reset getpeername(2) fails
        transport.set_peer(address, loop.poller.address_of(fd, True, address, ADDRESS_MAX))
    loop.enqueue(transport._begin, (waiter,), None)
    return transport

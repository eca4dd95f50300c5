"""The transport of datagrams: UDP, and UNIX sockets that keep messages apart.

::

    OPEN --close--> CLOSING --queue empty--> ABORTED --next pass--> LOST
      |                                         ^
      +------abort, a socket that is none-------+

Owns: one socket, who watches it, and the queue of what it did not take.  May not touch: names,
but for those that a caller sends to, which Python's own ``sendto`` resolves, and blocks.
Invariant: ``connection_lost`` is called exactly once for each ``connection_made``, from the loop
and never from inside a call of the user's; then the socket is closed.

The surface is asyncio's, with these differences:

    what is not an address    raises from ``sendto``; asyncio's ends the endpoint
    an empty datagram         is sent in all versions; asyncio's sends it from Python 3.13 on
    what comes at once        is handed up in one pass, up to a limit, until a call-back makes
                              something ready, which may be a task that awaits the next datagram
    a call-back's context     is one for all of them; asyncio's copies it for each kind

A failed send or receive is the protocol's ``error_received`` and ends nothing, since it tells
mostly of one datagram (udp(7): a port where nobody listens).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EBADF
from libc.string cimport memcmp

from reactor.addresses cimport Address, pack_address, unpack_address
from reactor.core cimport Reactor
from reactor.pool cimport BlockPool
from reactor.transports.base cimport BaseTransport, call_method
from reactor.transports.watcher cimport Watcher

import asyncio
import collections
import socket
import warnings
from asyncio.trsock import TransportSocket

from reactor.errors import system_error
from reactor.limits import DATAGRAMS_PER_PASS

cdef enum:
    HEADER_BYTES = 8                    # of UDP: what an empty datagram counts in the queue

cdef int PER_PASS = DATAGRAMS_PER_PASS
cdef tuple MOST = (0, 0xFFFF, 0xFFFFF, 0xFFFFFFFF)      # of port, flow and scope

FAMILIES = frozenset((socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", -1)))


class AsyncioDatagramTransport(asyncio.transports._FlowControlMixin, asyncio.DatagramTransport):
    """What ``isinstance`` is told; see ``Transport.__class__``.

    With asyncio's flow control, which makes its own one an ``asyncio.Transport``, too.
    """


cdef bint is_plain(object addr) except -1:
    """Whether an address is of the types and in the range in which Python would take it.

    What is not, Python looks at itself: it may be the name of a host or of an interface.
    """
    cdef object part
    cdef Py_ssize_t at
    if type(addr) in (str, bytes):
        return True
    if type(addr) is not tuple or not 2 <= len(addr) <= 4 or type(addr[0]) is not str:
        return False
    for at in range(1, len(addr)):
        part = addr[at]
        if type(part) is not int or not 0 <= part <= MOST[at]:
            return False
    return "%" not in addr[0]


cdef class DatagramTransport(BaseTransport):
    """A datagram socket of one of `FAMILIES`; see ``asyncio.DatagramTransport``.

    Args:
        loop: the reactor, whose thread this belongs to.
        protocol: an ``asyncio.DatagramProtocol``.
        sock: non-blocking; the transport's from now on.
        address: the only one to which is sent, or ``None``.

    Raises ``OSError`` when the socket cannot be watched.
    """

    @property
    def __class__(self):
        return AsyncioDatagramTransport

    def __cinit__(self, Reactor loop, protocol, sock, address=None):
        cdef int error
        self.fd = sock.fileno()
        error = loop.poller.attach(self.fd, True)
        if error < 0:
            raise system_error(-error)
        self.family = sock.family
        self.address = address
        self.reading = True
        self.reader = Watcher(loop, self.fd, False)
        self.writer = Watcher(loop, self.fd, True)
        self.queue = collections.deque()
        self.extra = {"socket": TransportSocket(sock)}
        for fact, ask in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            try:
                self.extra[fact] = ask()
            except OSError:
                self.extra[fact] = None
        self.has_peer = bool(self.extra["peername"])
        self._sock = sock

    def begin(self, waiter):
        """Call ``connection_made``, receive from now on, and then end *waiter*, a future."""
        try:
            self.call_connection_made()
        finally:                        # an exit leaves the loop, not the endpoint
            self.watch()
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    # -- receiving -------------------------------------------------------------------

    cdef int watch(self) except -1:
        if self.state == DATAGRAM_OPEN and self.reading:
            try:
                self.reader.watch(self._readable, ())
            except OSError as error:
                self.abort_with(error)
        return 0

    def is_reading(self):
        """Return whether datagrams are received when they come."""
        return self.state == DATAGRAM_OPEN and self.reading

    def pause_reading(self):
        """Receive nothing until ``resume_reading``; the system drops what it has no room for."""
        self.reading = False
        self.reader.close()

    def resume_reading(self):
        """Receive again after ``pause_reading``."""
        if not self.reading:
            self.reading = True
            self.watch()

    def _readable(self):
        """Hand up what has come, until somebody else has something to do."""
        cdef Reactor loop = self._loop
        cdef BlockPool pool = loop.pool
        cdef char *block
        cdef int left = PER_PASS
        cdef Py_ssize_t ready = loop.ready_count
        if not self.is_ours():
            self.reader.close()         # as epoll forgets what is closed
            return
        block = pool.acquire()
        if block == NULL:
            raise MemoryError("no memory for a datagram")
        try:
            while (self.receive(block, pool.block_size) and self.state == DATAGRAM_OPEN
                    and self.reading and loop.ready_count == ready and not loop._stopping):
                left -= 1
                if left == 0:
                    break
        finally:
            pool.release(block)

    cdef bint is_ours(self) except -1:
        """Whether the number is the socket's still, which somebody may have closed."""
        return self._sock.fileno() == self.fd

    cdef bint receive(self, char *block, Py_ssize_t size) except -1:
        """Receive one datagram; return whether there may be another."""
        cdef object protocol = self.protocol    # which may be replaced meanwhile
        cdef object sender_name
        cdef Address sender
        cdef PyObject *arguments[3]
        cdef bytes data
        cdef object raised
        cdef Py_ssize_t count = self._loop.poller.receive_from(self.fd, block, size, &sender)
        if count == -EAGAIN:
            return False
        arguments[0] = <PyObject *>protocol
        if count < 0:
            error = system_error(-count)
            arguments[1] = <PyObject *>error
            raised = call_method(self.context, "error_received", arguments, 2)
        else:
            data = PyBytes_FromStringAndSize(block, count)
            if sender.size != self.sender.size or memcmp(sender.data, self.sender.data,
                                                         sender.size):
                self.sender_name = unpack_address(sender.data, sender.size)
                self.sender = sender
            sender_name = self.sender_name
            arguments[1] = <PyObject *>data
            arguments[2] = <PyObject *>sender_name
            raised = call_method(self.context, "datagram_received", arguments, 3)
        if raised is not None:
            method = "error_received" if count < 0 else "datagram_received"
            self._loop.report(f"Exception in callback {method}", raised, None, self, protocol)
        return count >= 0

    # -- sending ---------------------------------------------------------------------

    def sendto(self, data, addr=None):
        """Send one datagram, bytes-like, to *addr*; without one to the endpoint's own.

        What the socket does not take at once is queued; see ``set_write_buffer_limits``.  After
        a close it is dropped.  A host that is a name is resolved, which blocks.

        Raises ``TypeError`` and ``OverflowError`` for what is neither bytes nor an address,
        ``ValueError`` for another address than the endpoint's own.
        """
        cdef Py_buffer view
        cdef bytes copy
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("data argument must be a bytes-like object, "
                            f"not {type(data).__name__!r}")
        if self.address is not None:
            if addr is not None and addr != self.address:
                raise ValueError(f"Invalid address: must be None or {self.address}")
            addr = self.address
        if self.state != DATAGRAM_OPEN:
            self.note_ignored_write("socket.send() raised exception.")
            return
        if not self.queue:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                error = self.send(data, <const char *>view.buf, view.len, addr)
            finally:
                PyBuffer_Release(&view)
            if error is None:
                return
            if not isinstance(error, BlockingIOError):
                self.protocol.error_received(error)
                return
            self.writer.watch(self._writable, ())
        copy = bytes(data)
        if self.state != DATAGRAM_OPEN:         # by a subclass of bytes
            return
        self.queue.append((copy, addr))
        self.queued += len(copy) + HEADER_BYTES
        self.check_water(self.queued)

    cdef object send(self, object data, const char *start, Py_ssize_t size, object addr):
        """Send one datagram now; return None, or the ``OSError`` that says why not."""
        cdef const Address *receiver = NULL
        cdef Py_ssize_t count
        if not self.is_ours():
            return system_error(EBADF)
        if not self.has_peer:
            receiver = self.find(addr)
            if receiver == NULL:
                return self.send_by_name(data, addr)
        count = self._loop.poller.send_to(self.fd, start, size, receiver)
        return None if count >= 0 else system_error(-count)

    cdef const Address *find(self, object addr):
        """Return an address as the system has it, NULL for what Python must look at."""
        cdef Address receiver
        if addr is self.sender_name and self.sender.size:
            return &self.sender
        if addr is not self.receiver_name or addr is None:
            if not is_plain(addr):
                return NULL
            try:
                pack_address(self.family, addr, &receiver)
            except (TypeError, ValueError):
                return NULL
            self.receiver = receiver
            self.receiver_name = addr
        return &self.receiver

    cdef object send_by_name(self, object data, object addr):
        try:
            self._sock.sendto(data, addr)
        except OSError as error:
            return error
        return None

    def _writable(self):
        """Send what is queued."""
        cdef bytes data
        cdef Py_ssize_t left = len(self.queue)  # what is added meanwhile waits for the next pass
        while left and self.queue:
            left -= 1
            data, addr = self.queue[0]
            try:
                error = self.send(data, <const char *>data, len(data), addr)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as raised:     # not an address, found only now
                self._loop.report("sendto() failed", raised, None, self, self.protocol)
                error = None
            if self.state >= DATAGRAM_ABORTED:  # by who was told of it: the queue is gone
                return
            if isinstance(error, BlockingIOError):
                break
            self.queue.popleft()
            self.queued -= len(data) + HEADER_BYTES
            if error is not None:
                raised = self.call_protocol("error_received", (error,))
                if raised is not None:
                    self._loop.report("Exception in callback error_received", raised, None, self,
                                      self.protocol)
        if self.state >= DATAGRAM_ABORTED:
            return
        self.check_low_water(self.queued)
        if not self.queue:
            self.writer.close()
            if self.state == DATAGRAM_CLOSING:
                self.abort_with(None)

    cdef Py_ssize_t queued_bytes(self) noexcept:
        return self.queued

    # -- the end ---------------------------------------------------------------------

    cpdef bint is_closing(self) except -1:
        """Return whether the transport is closing or closed."""
        return self.state != DATAGRAM_OPEN

    def close(self):
        """Close once everything that is queued was sent; nothing more is received."""
        if self.state != DATAGRAM_OPEN:
            return
        self.state = DATAGRAM_CLOSING
        self.reader.close()
        if not self.queue:
            self.abort_with(None)

    cdef int abort_with(self, object error) except -1:
        if self.state >= DATAGRAM_ABORTED:
            return 0
        self.state = DATAGRAM_ABORTED
        self.drop_all()
        self._loop.enqueue(self._lose, (error,), None)
        return 0

    cdef int drop_all(self) except -1:
        self.queue.clear()
        self.queued = 0
        self.reader.close()
        self.writer.close()
        return 0

    def _lose(self, error):
        if self.state == DATAGRAM_LOST:
            return
        self.state = DATAGRAM_LOST
        try:
            self.call_connection_lost(error)
        finally:
            self.close_socket()

    cdef int close_socket(self) except -1:
        cdef object sock = self._sock
        self._sock = None
        self.fd = -1
        if sock is not None:
            sock.close()
        return 0

    def orphan(self):
        """The loop is closed: free the socket, call nobody, warn."""
        cdef str message
        if self._sock is None:
            return
        message = f"unclosed transport {self!r}"
        self.state = DATAGRAM_LOST
        self.drop_all()
        self.release_protocol()
        self.close_socket()
        warnings.warn(message, ResourceWarning, source=self)    # which may raise

    def __del__(self):
        if self._sock is not None:
            self.orphan()

    # -- facts -----------------------------------------------------------------------

    cdef object extra_info(self, str name):
        return self.extra.get(name)

    @property
    def _sock_fd(self):
        return self.fd

    def __repr__(self):
        cdef str state = ("open", "closing", "aborted", "lost")[<int>self.state]
        where = f" fd={self.fd}" if self.fd >= 0 else ""
        return f"<{type(self).__name__} {state}{where} {self.queued} bytes queued>"

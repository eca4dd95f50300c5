"""The listener: accepts connections and gives each a protocol.

Owns: a listening socket and one accept op.  May not touch: the connections that it made.
Invariant: in state ON the op is submitted, or its result is being looked at.

When the process is out of descriptors the pending connection stays in the kernel's queue and
would wake the loop for ever; the listener rests for a second instead and says so through the
exception handler, as asyncio does.  Only an error that says that the socket is none, or does
not listen, ends the listener.
"""

from cpython.contextvars cimport (
    PyContext_Copy, PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit,
)
from libc.errno cimport (
    EAGAIN, EBADF, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK, EOPNOTSUPP,
)
from libc.stdint cimport int64_t, intptr_t
from libc.string cimport memset

from reactor.core cimport Reactor
from reactor.pollers.contract cimport OP_ACCEPT, OP_IDLE, OP_PENDING, OP_TRY, Op, OpOwner
from reactor.timers cimport Timer
from reactor.transports.stream cimport StreamTransport, new_stream

import socket

from reactor.errors import system_error
from reactor.limits import ACCEPT_RETRY_SECONDS, ACCEPTS_PER_PASS

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED
        ECONNABORTED

cdef int PER_PASS = ACCEPTS_PER_PASS
cdef int64_t RETRY_NS = <int64_t>(ACCEPT_RETRY_SECONDS * 1e9)
cdef int TCP = socket.IPPROTO_TCP
cdef int NODELAY = socket.TCP_NODELAY


cdef int wake_up(void *owner) except -1:
    cdef Listener listener = <Listener>owner
    if listener.state == LISTENER_RESTING:
        listener.state = LISTENER_ON
        listener.accept()
    return 0


cdef class Listener(OpOwner):
    """Accepts on *sock*, which listens already and belongs to the listener from now on.

    *factory* makes a protocol for each connection; *secure*, where given, wraps it in the
    protocol that does TLS for it.
    """

    def __cinit__(self, Reactor loop not None, sock, factory, server, secure):
        memset(&self.op, 0, sizeof(Op))
        memset(&self.rest, 0, sizeof(Timer))
        self.op.kind = OP_ACCEPT
        self.op.fd = sock.fileno()
        self.op.owner = <void *>self
        self.rest.fire = wake_up
        self.rest.owner = <void *>self
        self._loop = loop
        self.sock = sock
        self.context = PyContext_CopyCurrent()
        self.factory = factory
        self.server = server
        self.secure = secure
        self.nodelay = sock.family in (socket.AF_INET, socket.AF_INET6)
        if self.nodelay:                # a UNIX socket's peer has no name, as a rule
            self.op.buffer = <char *>self.peer

    def __del__(self):
        # not __dealloc__: the collector may have cleared the loop by then
        if self._loop is not None:
            self._loop.timers.disarm(&self.rest)

    def start(self):
        """Begin to accept; ``OSError`` when the socket cannot be watched."""
        error = self._loop.poller.attach(self.op.fd, True)
        if error < 0:
            raise system_error(-error)
        self.accept()

    def close(self):
        """Stop accepting and close the socket; connections go on."""
        if self.state == LISTENER_CLOSED:
            return
        self.state = LISTENER_CLOSED
        self._loop.timers.disarm(&self.rest)
        self._loop.poller.cancel(&self.op)
        if self.op.state != OP_PENDING:
            self.close_socket()         # else once the op is back

    cdef int close_socket(self) except -1:
        cdef object sock = self.sock
        if sock is not None:
            self.sock = None
            if sock.fileno() == self.op.fd:     # else somebody closed it: the number is another's
                self._loop.poller.detach(self.op.fd)
            sock.close()
        return 0

    cdef int accept(self) except -1:
        """Accept what waits, up to a limit, and submit the op for what comes later."""
        cdef int left = PER_PASS
        try:
            while left and self.state == LISTENER_ON and self.op.state == OP_IDLE:
                left -= 1
                self.op.flags = OP_TRY
                if self._loop.poller.submit(&self.op) == OP_IDLE:
                    self.accepted()
        finally:                        # an exit leaves the loop, not the listener
            while self.state == LISTENER_ON and self.op.state == OP_IDLE:
                self.op.flags = 0
                if self._loop.poller.submit(&self.op) == OP_IDLE:
                    self.accepted()
        return 0

    cdef int op_done(self, Op *op) except -1:
        if self.state == LISTENER_CLOSED or self._loop.poller.closed:
            if op.result >= 0:
                self._loop.poller.close_fd(op.result)
            self.close_socket()
            return 0
        try:
            self.accepted()
        finally:
            self.accept()
        return 0

    cdef int accepted(self) except -1:
        """Look at the op's result."""
        cdef int error
        if self.op.result >= 0:
            return self.connected(self.op.result)
        error = <int>-self.op.result
        if self._loop.poller.closed:
            self.close()
            return 0
        if error in (EAGAIN, ECONNABORTED):
            return 0
        if error == ECANCELED:          # the number is another's: somebody closed our socket
            self.close()
            return 0
        if error in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
            return self.rest_after(error, "socket.accept() out of system resource")
        if error in (EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP):
            self.close()
            self._loop.report("listener failed", system_error(error), None, None,
                              None)
            return 0
        # what the network did to one connection (accept(2)), or nothing that is known here
        return self.rest_after(error, "socket.accept() failed")

    cdef int connected(self, intptr_t fd) except -1:
        cdef object context
        try:
            context = PyContext_Copy(self.context)
            PyContext_Enter(context)
        except MemoryError:
            self._loop.poller.close_fd(fd)
            raise
        try:
            return self.give_protocol(fd)
        finally:
            PyContext_Exit(context)

    cdef int give_protocol(self, intptr_t fd) except -1:
        cdef StreamTransport transport
        if self.nodelay:
            self._loop.poller.set_option(fd, TCP, NODELAY, 1)
        try:
            protocol = self.factory()
            if self.secure is not None:
                protocol = self.secure(protocol)
            transport = new_stream(self._loop, fd, protocol, None, None, self.server)
            # now: after a reset getpeername(2) fails
            transport.set_peer(self.peer, <int>self.op.length)
        except (SystemExit, KeyboardInterrupt):
            self._loop.poller.close_fd(fd)
            raise
        except BaseException as error:
            self._loop.poller.close_fd(fd)
            self._loop.report("Error on transport creation for incoming connection", error,
                              None, None, None)
            return 0
        return transport.begin()

    cdef int rest_after(self, int error, str message) except -1:
        self._loop.call_exception_handler({
            "message": message,
            "exception": system_error(error),
            "socket": self.sock,
        })
        if self.state == LISTENER_ON:
            self.state = LISTENER_RESTING
            self._loop.timers.arm(&self.rest, self._loop.now_ns() + RETRY_NS)
        return 0

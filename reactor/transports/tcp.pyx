"""Connecting: one attempt, to one address, on one socket.

Owns: a socket from its creation until it is connected and taken, or closed.  May not touch:
names, the choice among addresses (``reactor.resolver``), TLS.
Invariant: the descriptor is taken exactly once or closed exactly once.
"""

from libc.stdint cimport intptr_t
from libc.string cimport memset

from reactor.addresses cimport Address, pack_address
from reactor.core cimport Reactor
from reactor.pollers.contract cimport OP_CONNECT, OP_IDLE, OP_PENDING, Op, OpOwner
from reactor.transports.stream cimport StreamTransport, new_stream

import socket

from reactor.errors import system_error

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED

cdef int TCP = socket.IPPROTO_TCP
cdef int NODELAY = socket.TCP_NODELAY


cdef int check(Py_ssize_t result) except -1:
    """Raise the ``OSError`` of a negative result."""
    if result < 0:
        raise system_error(-result)
    return 0


cdef class Connector(OpOwner):
    """One attempt to connect.

    Args:
        loop: the reactor, whose thread this belongs to.
        family, kind, protocol: as ``socket.socket`` takes them.
        address: the peer, numeric, as ``getaddrinfo`` gives it.
        local: the address to bind to first, or ``None``.

    Raises ``OSError`` when no socket could be had or bound, ``ValueError`` and ``TypeError``
    for what is not an address.
    """

    def __cinit__(self, Reactor loop not None, int family, int kind, int protocol, address,
                  local=None):
        cdef Address bound
        cdef intptr_t fd
        memset(&self.op, 0, sizeof(Op))
        self.fd = -1
        self._loop = loop
        self.address = address
        pack_address(family, address, &self.peer)
        if local is not None:
            pack_address(family, local, &bound)
        self.op.kind = OP_CONNECT
        self.op.owner = <void *>self
        self.op.buffer = <char *>self.peer.data
        self.op.length = self.peer.size
        fd = loop.poller.open_socket(family, kind, protocol)
        check(fd)
        self.fd = self.op.fd = fd
        if kind & socket.SOCK_STREAM and family in (socket.AF_INET, socket.AF_INET6):
            loop.poller.set_option(fd, TCP, NODELAY, 1)
        if local is not None:
            check(loop.poller.bind_socket(fd, bound.data, bound.size))

    def __del__(self):
        # not __dealloc__: the collector may have cleared the loop by then; and never with the
        # op pending: the poller keeps its owner alive
        if self.fd >= 0:
            self._loop.poller.close_fd(self.fd)

    def start(self):
        """Begin to connect and return the future that tells the outcome.

        Its result is this connector; its exception the ``OSError`` of connect(2).
        """
        self.future = self._loop.create_future()
        if self._loop.poller.submit(&self.op) == OP_IDLE:
            self.finish()
        return self.future

    cdef int op_done(self, Op *op) except -1:
        return self.finish()

    cdef int finish(self) except -1:
        cdef Py_ssize_t result = -ECANCELED if self.closing else self.op.result
        if result < 0 or self._loop.poller.closed:
            self.close()
        if not self.future.done() and not self._loop.poller.closed:
            if result < 0:
                self.future.set_exception(system_error(-result))
            else:
                self.future.set_result(self)
        return 0

    cdef intptr_t take(self) noexcept:
        cdef intptr_t fd = self.fd
        self.fd = -1
        self.future = None              # we are its result: a cycle
        return fd

    def close(self):
        """Give the attempt up; its socket closes once the system has let the op go."""
        self.closing = True
        if self.op.state != OP_IDLE:
            self._loop.poller.cancel(&self.op)
        if self.fd >= 0 and self.op.state != OP_PENDING:
            self._loop.poller.close_fd(self.fd)
            self.fd = -1

    def transport(self, protocol):
        """Return a transport over the connected socket and start it.

        ``connection_made`` is called before this returns.  ``RuntimeError`` unless the
        future is done well and the socket was not taken yet.
        """
        cdef StreamTransport stream
        if self.fd < 0 or self.op.state != OP_IDLE:
            raise RuntimeError("the connector has no connected socket")
        stream = new_stream(self._loop, self.take(), protocol, None, None, None)
        stream.set_peer(self.peer.data, self.peer.size)
        stream.begin()
        return stream

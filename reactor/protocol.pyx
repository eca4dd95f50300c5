"""What a driver subclasses: call-backs in the manner of Twisted and asyncio.

Owns: the call-backs' names and order.  May not touch: sockets, the reactor.
Invariant: ``connection_made`` first and once; then any number of ``data_received`` and at
most one ``eof_received``; ``connection_lost`` last and once.

::

    connection_made(transport)
        { data_received(data) | pause_writing() resume_writing() }*
        [ eof_received() ]
    connection_lost(exc)

The same class serves TCP, TLS and UNIX sockets, client and server.  Classes written for
``asyncio.Protocol`` work unchanged; this one adds the ``transport`` attribute and a C face.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)


cdef class Protocol:
    """A byte stream's reader and writer.  All call-backs run on the reactor's thread.

    Attributes:
        transport: the connection's transport from just before ``connection_made`` until
            ``connection_lost`` has returned, else ``None``.
        factory: the ``reactor.Factory`` that made the protocol, else ``None``.
    """

    cdef int bytes_received(self, const char *data, Py_ssize_t size) except -1:
        self.data_received(PyBytes_FromStringAndSize(data, size))
        return 0

    cdef int bytes_object_received(self, bytes data) except -1:
        return self.bytes_received(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def connection_made(self, transport):
        """Called once when *transport* is ready to be written to."""

    def data_received(self, data):
        """Called with some bytes, as they came; never with none."""

    def eof_received(self):
        """Called when the peer will send no more.

        Return true to keep the connection open for writing (not over TLS); otherwise the
        transport closes itself.
        """

    def connection_lost(self, exc):
        """Called once at the very end; *exc* is ``None`` after a close in good order."""

    def pause_writing(self):
        """Called when more than the high-water mark waits to be sent."""

    def resume_writing(self):
        """Called when that has fallen to the low-water mark."""


class BufferedProtocol:
    """A protocol that says into which memory bytes are received; see asyncio's class.

    ``get_buffer(sizehint)`` returns a writable buffer of at least one byte, and
    ``buffer_updated(nbytes)`` tells that its first *nbytes* bytes were filled.
    """

    __slots__ = ("factory", "transport")

    def connection_made(self, transport):
        """Called once when *transport* is ready to be written to."""

    def get_buffer(self, sizehint):
        """Return a writable buffer; *sizehint* is a wish in bytes, -1 for none."""
        raise NotImplementedError(f"{type(self).__name__} has no get_buffer")

    def buffer_updated(self, nbytes):
        """Called when the buffer's first *nbytes* bytes were filled."""

    def eof_received(self):
        """Called when the peer will send no more; see ``Protocol.eof_received``."""

    def connection_lost(self, exc):
        """Called once at the very end; *exc* is ``None`` after a close in good order."""

    def pause_writing(self):
        """Called when more than the high-water mark waits to be sent."""

    def resume_writing(self):
        """Called when that has fallen to the low-water mark."""

"""The half of a stream transport that faces its protocol.

Owns: how bytes reach a protocol, in the form that it asks for.  May not touch: descriptors, TLS.
Invariant: bytes reach it in order and without a gap: what it raises when it is given some, or
asked for room, aborts the connection and goes to the loop's exception handler.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from libc.string cimport memcpy

from reactor.protocol cimport Protocol
from reactor.transports.base cimport BaseTransport, call_method

import asyncio

from reactor.protocol import BufferedProtocol

cdef tuple BUFFERED = (asyncio.BufferedProtocol, BufferedProtocol)


class AsyncioTransport(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """What ``isinstance`` is told; see ``Transport.__class__``."""


cdef class Transport(BaseTransport):
    """Base of the stream transports; the surface of ``asyncio.Transport``."""

    @property
    def __class__(self):
        """A subclass of ``asyncio.Transport``, for code that asks with ``isinstance``.

        An extension type cannot have that class among its bases (their layouts conflict), so
        this is answered in the way in which ``unittest.mock`` and ``weakref.proxy`` do it.
        ``type(transport)`` is what it is.
        """
        return AsyncioTransport

    _start_tls_compatible = True

    def __cinit__(self, loop, protocol, *args, **kwargs):
        self.adopt(protocol)

    # -- up --------------------------------------------------------------------------

    cdef int adopt(self, object protocol) except -1:
        self.protocol = protocol
        if isinstance(protocol, Protocol):
            (<Protocol>protocol).transport = self
            self.receiver = RECEIVER_NATIVE if (<Protocol>protocol).native else RECEIVER_BYTES
            self.keeps_bytes = not (<Protocol>protocol).native or (<Protocol>protocol).keeps_bytes
        elif isinstance(protocol, BUFFERED):
            self.receiver = RECEIVER_BUFFER
            self.keeps_bytes = False
            if isinstance(protocol, BufferedProtocol):
                protocol.transport = self
        else:
            self.receiver = RECEIVER_BYTES
            self.keeps_bytes = True
        return 0

    cdef bint deliver(self, const char *data, Py_ssize_t size) except -1:
        cdef object protocol = self.protocol    # which may be replaced meanwhile
        cdef object error
        cdef bytes copy
        if self.receiver == RECEIVER_NATIVE:
            try:
                (<Protocol>protocol).bytes_received(data, size)
                return True
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as raised:
                error = raised
        elif self.receiver == RECEIVER_BYTES:
            try:
                copy = PyBytes_FromStringAndSize(data, size)
            except MemoryError as raised:
                error = raised          # what came is lost: nothing may follow
            else:
                return self.deliver_bytes(copy)
        else:
            return self.deliver_buffered(data, size)
        self.fail(error, "Fatal error: protocol.data_received() call failed.")
        return False

    cdef bint deliver_bytes(self, bytes data) except -1:
        cdef object protocol = self.protocol    # which may be replaced meanwhile
        cdef object error
        cdef PyObject *arguments[2]
        if self.receiver == RECEIVER_BYTES:
            arguments[0] = <PyObject *>protocol
            arguments[1] = <PyObject *>data
            error = call_method(self.context, "data_received", arguments, 2)
        elif self.receiver == RECEIVER_NATIVE:
            try:
                (<Protocol>protocol).bytes_object_received(data)
                return True
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as raised:
                error = raised
        else:
            return self.deliver_buffered(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if error is not None:
            self.fail(error, "Fatal error: protocol.data_received() call failed.")
            return False
        return True

    cdef bint deliver_buffered(self, const char *data, Py_ssize_t size) except -1:
        """Copy bytes that are in a block already into the protocol's own buffers.

        An exit between two of them ends the connection: what is left has no place to wait, and
        nothing may come after a gap.
        """
        cdef Py_buffer view
        cdef Py_ssize_t part
        while size:
            part = 0
            try:
                if not self.open_buffer(&view, size):
                    return False
                part = min(view.len, size)
                memcpy(view.buf, data, part)
                if not self.close_buffer(&view, part):
                    return False
            except BaseException:
                if size > part:
                    self.abort_with(ConnectionAbortedError("the loop was left with bytes unread"))
                raise
            data += part
            size -= part
            if self.protocol is None or self.is_closing():
                return False
            if size and self.keep_rest(data, size):
                return True
            if size and self.receiver != RECEIVER_BUFFER:
                return self.deliver(data, size)     # set_protocol was called meanwhile
        return True

    cdef bint keep_rest(self, const char *data, Py_ssize_t size) except -1:
        return False

    cdef bint open_buffer(self, Py_buffer *view, Py_ssize_t hint) except -1:
        try:
            buffer = self.context.run(self.protocol.get_buffer, hint)
            PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE)
            if view.len:
                return True
            PyBuffer_Release(view)
            raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error, "Fatal error: protocol.get_buffer() call failed.")
            return False

    cdef bint close_buffer(self, Py_buffer *view, Py_ssize_t count) except -1:
        PyBuffer_Release(view)
        error = self.call_protocol("buffer_updated", (count,))
        if error is not None:
            self.fail(error, "Fatal error: protocol.buffer_updated() call failed.")
            return False
        return True

    cdef bint deliver_eof(self) except -1:
        try:
            return bool(self.context.run(self.protocol.eof_received))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error, "Fatal error: protocol.eof_received() call failed.")
            return False

    cdef int release_protocol(self) except -1:
        cdef object protocol = self.protocol
        self.protocol = None
        if isinstance(protocol, Protocol):
            (<Protocol>protocol).transport = None
        elif isinstance(protocol, BufferedProtocol):
            protocol.transport = None
        return 0

    # -- down ------------------------------------------------------------------------

    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1:
        raise NotImplementedError

    cpdef bint is_quiet(self) except -1:
        """Return whether the protocol was given all that has come, and no end came.

        What a pool asks before it lends an idle connection again.  Where the answer is no,
        one pass of the loop gives the protocol what is there, to judge for itself.
        """
        return not self.is_closing()

    # -- the surface that all kinds share ---------------------------------------------

    def write(self, data):
        """Send *data*, bytes-like, in order.

        What the layer below does not take at once is queued; see
        ``set_write_buffer_limits``.  Raises ``TypeError`` for anything else and
        ``RuntimeError`` after ``write_eof``.  After a close or a loss *data* is dropped, as
        with asyncio's transports.
        """
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            self.write_chunk(data, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("data argument must be a bytes-like object, "
                            f"not {type(data).__name__!r}")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.write_chunk(None, <const char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

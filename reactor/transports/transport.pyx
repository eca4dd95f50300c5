"""The half of a stream transport that faces its protocol.

Owns: the calls into protocols and the flow control that they see.  May not touch:
descriptors, TLS.  Invariant: after ``call_connection_lost`` the protocol is ``None``, which
breaks the cycle between the two.

Whatever a protocol raises ends in one of two ways: from ``connection_made`` and
``connection_lost``, ``pause_writing`` and ``resume_writing`` it goes to the loop's exception
handler; from the others it also aborts the connection.  SystemExit and KeyboardInterrupt
leave the loop; the connection goes on when it runs again.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memcpy

from reactor.core cimport Reactor, call_in_context
from reactor.pollers.contract cimport OpOwner
from reactor.protocol cimport Protocol

import asyncio
import contextvars
import logging

from reactor.limits import HIGH_WATER_BYTES
from reactor.protocol import BufferedProtocol

cdef Py_ssize_t DEFAULT_HIGH_WATER = HIGH_WATER_BYTES
cdef Py_ssize_t DEFAULT_LOW_WATER = HIGH_WATER_BYTES // 4
cdef object logger = logging.getLogger("asyncio")
cdef tuple BUFFERED = (asyncio.BufferedProtocol, BufferedProtocol)

cdef extern from "Python.h":
    PyObject *PyObject_VectorcallMethod(PyObject *name, PyObject **args, size_t count,
                                        PyObject *names)
    # declared without "except": a failure is looked at once, below
    int enter_context "PyContext_Enter"(PyObject *context)
    int leave_context "PyContext_Exit"(PyObject *context)

cdef enum:
    IGNORED_WRITES_LOGGED_AT = 5        # asyncio's own figure


cdef int raise_pending() except -1:
    """Raise the exception that a C call left behind."""
    return -1


cdef object call_method(object context, object target, str name, object argument):
    """Call target.name(argument) in a context; return what it raised, or None.

    The same as ``call_protocol`` for what is called per event: it makes neither a tuple nor
    a bound method.
    """
    cdef PyObject *arguments[2]
    cdef PyObject *result
    cdef bint entered = enter_context(<PyObject *>context) == 0
    if entered:
        arguments[0] = <PyObject *>target
        arguments[1] = <PyObject *>argument
        result = PyObject_VectorcallMethod(<PyObject *>name, arguments, 2, NULL)
        if result != NULL:
            Py_DECREF(<object>result)
            leave_context(<PyObject *>context)
            return None
    try:
        raise_pending()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return error
    finally:
        if entered:
            leave_context(<PyObject *>context)


class AsyncioTransport(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """What ``isinstance`` is told; see ``Transport.__class__``."""


cdef class Transport(OpOwner):
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

    def __cinit__(self, Reactor loop not None, protocol, *args, **kwargs):
        self._loop = loop
        self.context = contextvars.copy_context()
        self.high_water = DEFAULT_HIGH_WATER
        self.low_water = DEFAULT_LOW_WATER
        self.adopt(protocol)

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

    # -- up --------------------------------------------------------------------------

    cdef object call_protocol(self, str name, tuple args):
        """Call a call-back in the connection's context; return what it raised, or None."""
        cdef object callback
        try:
            callback = getattr(self.protocol, name)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            return error
        return call_in_context(self.context, callback, args)

    cdef int call_connection_made(self) except -1:
        error = self.call_protocol("connection_made", (self,))
        if error is not None:
            self._loop.report("Exception in callback connection_made", error, None, self,
                              self.protocol)
        return 0

    cdef bint deliver(self, const char *data, Py_ssize_t size) except -1:
        cdef object error
        cdef bytes copy
        if self.receiver == RECEIVER_NATIVE:
            try:
                (<Protocol>self.protocol).bytes_received(data, size)
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
        cdef object error
        if self.receiver == RECEIVER_BYTES:
            error = call_method(self.context, self.protocol, "data_received", data)
        elif self.receiver == RECEIVER_NATIVE:
            try:
                (<Protocol>self.protocol).bytes_object_received(data)
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

    cdef int call_connection_lost(self, object error) except -1:
        cdef object protocol = self.protocol
        try:
            if protocol is not None:
                raised = self.call_protocol("connection_lost", (error,))
                if raised is not None:
                    self._loop.report("Exception in callback connection_lost", raised, None,
                                      self, protocol)
        finally:
            self.release_protocol()
            if self.lost_callback is not None:
                callback, self.lost_callback = self.lost_callback, None
                callback(self)
        return 0

    cdef int release_protocol(self) except -1:
        cdef object protocol = self.protocol
        self.protocol = None
        if isinstance(protocol, Protocol):
            (<Protocol>protocol).transport = None
        elif isinstance(protocol, BufferedProtocol):
            protocol.transport = None
        return 0

    cdef int check_water(self, Py_ssize_t queued) except -1:
        cdef str method
        if self._protocol_paused:
            if queued > self.low_water:
                return 0
            method = "resume_writing"
        else:
            if queued <= self.high_water:
                return 0
            method = "pause_writing"
        if self.protocol is None:
            return 0
        self._protocol_paused = not self._protocol_paused
        try:
            # not call_protocol: whoever writes is in a context already, often in this one
            getattr(self.protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.report(f"protocol.{method}() failed", error, None, self, self.protocol)
        return 0

    cdef int check_low_water(self, Py_ssize_t queued) except -1:
        if not self._protocol_paused or queued > self.low_water or self.protocol is None:
            return 0
        self._protocol_paused = False
        error = self.call_protocol("resume_writing", ())
        if error is not None:
            self._loop.report("protocol.resume_writing() failed", error, None, self,
                              self.protocol)
        return 0

    # -- down ------------------------------------------------------------------------

    cdef int write_chunk(self, object data, const char *start, Py_ssize_t size) except -1:
        raise NotImplementedError

    cdef int note_ignored_write(self, str message) except -1:
        if self.ignored_writes >= IGNORED_WRITES_LOGGED_AT:
            logger.warning(message)
        self.ignored_writes += 1
        return 0

    cdef int abort_with(self, object error) except -1:
        raise NotImplementedError

    cdef int fail(self, object error, str message) except -1:
        cdef object protocol = self.protocol
        self.abort_with(error)          # first: the loop's handler may raise an exit
        return self._loop.report(message, error, None, self, protocol)

    cdef Py_ssize_t queued_bytes(self) noexcept:
        return 0

    cpdef bint is_quiet(self) except -1:
        """Return whether the protocol was given all that has come, and no end came.

        What a pool asks before it lends an idle connection again.  Where the answer is no,
        one pass of the loop gives the protocol what is there, to judge for itself.
        """
        return not self.is_closing()

    cdef object extra_info(self, str name):
        return None

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

    def get_protocol(self):
        """Return the protocol; ``None`` once the connection is lost."""
        return self.protocol

    def set_protocol(self, protocol):
        """Send what comes from now on to another protocol; nobody's call-backs are called.

        Nothing happens once the connection is lost.
        """
        if self.protocol is not None:
            self.adopt(protocol)

    def get_extra_info(self, name, default=None):
        """Return a fact about the connection; *default* where there is none.

        ``"socket"``, ``"sockname"``, ``"peername"`` and, over TLS, ``"ssl_object"``,
        ``"sslcontext"``, ``"peercert"``, ``"cipher"``, ``"compression"``.
        """
        value = self.extra_info(name)
        return default if value is None else value

    def get_write_buffer_size(self):
        """Return how many bytes were written and not yet taken by the layer below."""
        return self.queued_bytes()

    def get_write_buffer_limits(self):
        """Return the water marks in bytes, as ``(low, high)``."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set the water marks in bytes; ``ValueError`` unless ``high >= low >= 0``.

        ``pause_writing`` is called when more than *high* bytes wait, ``resume_writing`` when
        no more than *low* do.  *low* defaults to a quarter of *high*, *high* to four times
        *low*, and both to 64 KiB and 16 KiB.
        """
        if high is None:
            high = DEFAULT_HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high_water = high
        self.low_water = low
        self.check_water(self.queued_bytes())

    cpdef bint is_closing(self) except -1:
        """Return whether the transport is closing or closed."""
        raise NotImplementedError

    def abort(self):
        """Close at once; what was not sent is discarded."""
        self.abort_with(None)

"""What every transport has that talks to a protocol, of streams or of datagrams.

Owns: who the protocol is, the calls that all kinds make into it, and the flow control that it
sees.  May not touch: descriptors.  Invariant: after ``call_connection_lost`` the protocol is
``None``, which breaks the cycle between the two.

What a protocol raises in ``connection_made`` and ``connection_lost``, in ``pause_writing`` and
``resume_writing`` goes to the loop's exception handler; of the others each kind says itself.
SystemExit and KeyboardInterrupt leave the loop; the connection goes on when it runs again.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from reactor.core cimport Reactor, call_in_context, raise_pending
from reactor.pollers.contract cimport OpOwner

import contextvars
import logging

from reactor.limits import HIGH_WATER_BYTES

cdef Py_ssize_t DEFAULT_HIGH_WATER = HIGH_WATER_BYTES
cdef Py_ssize_t DEFAULT_LOW_WATER = HIGH_WATER_BYTES // 4
cdef object logger = logging.getLogger("asyncio")

cdef extern from "Python.h":
    PyObject *PyObject_VectorcallMethod(PyObject *name, PyObject **args, size_t count,
                                        PyObject *names)
    # declared without "except": a failure is looked at once, below
    int enter_context "PyContext_Enter"(PyObject *context)
    int leave_context "PyContext_Exit"(PyObject *context)

cdef enum:
    IGNORED_WRITES_LOGGED_AT = 5        # asyncio's own figure


cdef object call_method(object context, str name, PyObject **arguments, size_t count):
    cdef PyObject *result
    cdef bint entered = enter_context(<PyObject *>context) == 0
    if entered:
        result = PyObject_VectorcallMethod(<PyObject *>name, arguments, count, NULL)
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


cdef class BaseTransport(OpOwner):
    """Base of all transports; the surface of ``asyncio.BaseTransport`` and flow control."""

    def __cinit__(self, Reactor loop not None, protocol, *args, **kwargs):
        self._loop = loop
        self.context = contextvars.copy_context()
        self.high_water = DEFAULT_HIGH_WATER
        self.low_water = DEFAULT_LOW_WATER
        self.protocol = protocol

    # -- up --------------------------------------------------------------------------

    cdef int adopt(self, object protocol) except -1:
        self.protocol = protocol
        return 0

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
        self.protocol = None
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

    cdef object extra_info(self, str name):
        return None

    # -- the surface that all kinds share ---------------------------------------------

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

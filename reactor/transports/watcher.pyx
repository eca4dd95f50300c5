"""Watchers: ``add_reader`` and ``add_writer`` for descriptors that others own.

Owns: one readiness op for one direction of a descriptor.  May not touch: the descriptor.
Invariant: while the watcher is open its op is submitted, but for the time from its completion
to the end of its call-back; readiness is level-triggered, so a call-back that reads nothing is
called again.

The call-back goes through the ready queue, behind what was queued before the descriptor became
ready, as on asyncio's own loops: a task that was just made gets to its first ``await`` before
the datagram comes that it is about to await.

One watcher serves its direction of a number for good: who watches anew changes its handle, so
that there are never two ops, whatever the poller takes its time to cancel.
"""

from libc.stdint cimport intptr_t
from libc.string cimport memset

from reactor.core cimport Handle, Reactor, fill_handle
from reactor.pollers.contract cimport OP_IDLE, OP_READABLE, OP_WRITABLE, Op, OpOwner

from reactor.errors import system_error

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED


cdef class WatchHandle(Handle):
    """The call-back of a watcher, which watches on once it was called."""

    cdef int run(self) except -1:
        try:
            Handle.run(self)
        finally:                        # an exit leaves the loop, not the watcher
            if self.watcher.handle is self:
                self.watcher.again()
        return 0

    cdef int spent(self) except -1:
        if self._cancelled:             # else it will run again
            Handle.spent(self)
        return 0


cdef class Watcher(OpOwner):
    """Watches *fd* for readability, or with *writes* for writability."""

    def __cinit__(self, Reactor loop not None, intptr_t fd, bint writes):
        memset(&self.op, 0, sizeof(Op))
        self._loop = loop
        self.op.fd = fd
        self.op.kind = OP_WRITABLE if writes else OP_READABLE
        self.op.owner = <void *>self

    def watch(self, callback, tuple args not None):
        """Call *callback* from now on whenever the descriptor is ready, and none from before.

        Returns its handle.  Raises ``OSError`` when the descriptor cannot be watched: not open,
        or a regular file, or, ``FileExistsError``, of somebody who waits for the same already.
        """
        cdef WatchHandle handle = WatchHandle.__new__(WatchHandle)
        cdef int error
        fill_handle(handle, self._loop, callback, args, None)
        handle.watcher = self
        if self.handle is not None:
            self.handle.cancel()
        self.handle = handle
        try:
            error = self._loop.poller.attach(self.op.fd, False)
            if error < 0:
                raise system_error(-error)
            if self.op.state == OP_IDLE:
                self.submit()
        except OSError:
            self.close()
            raise
        return handle

    cdef int submit(self) except -1:
        if self._loop.poller.submit(&self.op) == OP_IDLE:
            raise system_error(-self.op.result)
        return 0

    cdef int again(self) except -1:
        """Watch on; when that fails, the loop's exception handler hears of it."""
        if self.op.state != OP_IDLE:
            return 0
        try:
            self.submit()
        except OSError as error:
            self.fail(error)
        return 0

    cdef int fail(self, object error) except -1:
        cdef object handle = self.handle
        self.close()
        return self._loop.report("A descriptor can no longer be watched", error, handle, None,
                                 None)

    cdef int op_done(self, Op *op) except -1:
        cdef bint late = self.leaving
        self.leaving = False
        if self.handle is None:
            return 0
        if self.handle._cancelled:      # by whoever holds it, and nobody removed it
            self.close()
        elif late:
            self.again()
        elif op.result == 0:
            self._loop.push(self.handle)
        elif op.result != -ECANCELED:
            self.fail(system_error(-op.result))     # where the system says so later
        return 0

    def close(self):
        """Stop watching; the call-back is not called any more."""
        if self.handle is not None:
            self.handle.cancel()
            self.handle = self.source = None
            if self.op.state != OP_IDLE:
                self.leaving = True
                self._loop.poller.cancel(&self.op)
            self._loop.poller.disarm(self.op.fd)

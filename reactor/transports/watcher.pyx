"""Watchers: ``add_reader`` and ``add_writer`` for descriptors that others own.

Owns: one readiness op for one direction of a descriptor.  May not touch: the descriptor.
Invariant: while the watcher is open its op is submitted, but for the time of its call-back;
readiness is level-triggered, so a call-back that reads nothing is called again.
"""

from libc.stdint cimport intptr_t
from libc.string cimport memset

from reactor.core cimport Handle, Reactor
from reactor.pollers.contract cimport OP_IDLE, OP_READABLE, OP_WRITABLE, Op, OpOwner

import os

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED


cdef class Watcher(OpOwner):
    """Calls *handle* whenever *fd* is readable, or writable with *writes*.

    Raises ``OSError`` when the descriptor cannot be watched: not open, or a regular file.
    """

    def __cinit__(self, Reactor loop not None, intptr_t fd, bint writes, Handle handle not None):
        memset(&self.op, 0, sizeof(Op))
        self._loop = loop
        self.handle = handle
        self.op.fd = fd
        self.op.kind = OP_WRITABLE if writes else OP_READABLE
        self.op.owner = <void *>self
        error = loop.poller.attach(fd)
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        self.submit()

    cdef int submit(self) except -1:
        if self._loop.poller.submit(&self.op) == OP_IDLE:
            raise OSError(-self.op.result, os.strerror(-self.op.result))
        return 0

    cdef int op_done(self, Op *op) except -1:
        if self.handle is None or op.result == -ECANCELED:
            return 0
        try:
            if op.result == 0 and not self.handle._cancelled:
                self.handle.run()
        finally:                        # an exit leaves the loop, not the watcher
            if self.handle is not None:
                self.submit()
        return 0

    def close(self):
        """Stop watching; the call-back is not called any more."""
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None
            self._loop.poller.cancel(&self.op)

"""The poller's base class: refuses everything with ``-ENOSYS``.

Owns: the count of live ops.  May not touch: anything else.
Invariant: ``live_ops`` is the number of ops whose owner is kept alive by a poller.

The contract itself is in ``contract.pxd``.
"""

from libc.errno cimport ENOSYS
from libc.stdint cimport int64_t, intptr_t

from reactor.addresses cimport Address


cdef class OpOwner:
    cdef int op_done(self, Op *op) except -1:
        raise NotImplementedError(f"{type(self).__name__} owns an op but has no op_done")


cdef class Poller:
    cdef OpState submit(self, Op *op) noexcept:
        op.result = -ENOSYS
        return OP_IDLE

    cdef void cancel(self, Op *op) noexcept:
        pass

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        raise NotImplementedError(f"{type(self).__name__} cannot wait")

    cdef bint complete(self, Op *op) noexcept:
        return True

    cdef void give_back(self, char *block) noexcept:
        self.pool.release(block)

    cdef void wake(self) noexcept nogil:
        pass

    cdef intptr_t wakeup_fd(self) noexcept:
        return -ENOSYS

    cdef int64_t now_ns(self) noexcept nogil:
        return 0

    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept:
        return -ENOSYS

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        return -ENOSYS

    cdef void detach(self, intptr_t fd) noexcept:
        pass

    cdef void disarm(self, intptr_t fd) noexcept:
        pass                            # where nothing is watched but for an op

    cdef int close_fd(self, intptr_t fd) noexcept:
        return -ENOSYS

    cdef int shut_down(self, intptr_t fd) noexcept:
        return -ENOSYS

    cdef int peek(self, intptr_t fd) noexcept:
        return -ENOSYS

    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept:
        return -ENOSYS

    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept:
        return -ENOSYS

    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept:
        return -ENOSYS

    cdef Py_ssize_t receive_from(self, intptr_t fd, char *buffer, Py_ssize_t size,
                                 Address *sender) noexcept:
        return -ENOSYS

    cdef Py_ssize_t send_to(self, intptr_t fd, const char *data, Py_ssize_t size,
                            const Address *receiver) noexcept:
        return -ENOSYS

    cdef void close(self, OpList *done) noexcept:
        self.closed = True

"""The poller of Linux.

Some facts about epoll, as measured and as used here:

* Level-triggered with one registration per descriptor is as fast as edge-triggered, as long
  as the registration is left alone. So interest is only ever added when an op must wait for
  it, and only taken away when an event comes that no op wants ("lazy disarm"): a client that
  sends a request and awaits the answer makes no epoll_ctl call at all.
* EPOLLHUP and EPOLLERR cannot be masked. A descriptor with such an event and no op to tell
  leaves the set altogether until an op is submitted again.
* The kernel drops a closed descriptor from the set by itself, but not when a duplicate (a
  child process, dup(2)) keeps the open file alive. ``detach`` therefore always removes it, and
  ``disarm`` what no op waits for, where the descriptor is another's to close. Each slot has a
  generation so that an event already fetched for an earlier user of the number is known as stale.
* epoll_wait counts milliseconds. Timeouts are rounded up: a timer may be late by less than
  one, never early.
* A forked child has the same epoll object, not a copy of it: what it says to epoll_ctl, it says
  to its parent's. So the child's copies of the descriptors are closed as it begins
  (os.register_at_fork), and whatever it does with the poller then fails with EBADF.
* Regular files cannot be watched: epoll_ctl says EPERM, and the op is done with it.

* A signal may be delivered to a thread that does not wait, or to the one that waits just
  before it does; EINTR ends neither wait. What CPython's handler writes to the wake-up
  descriptor does (``set_wakeup_fd`` in the signal module's documentation).

Owns: the epoll descriptor; an op's way is ``readiness.pyx``'s, what wakes is ``eventfd.pyx``'s.
May not touch: Python objects other than through an op's owner count; call-backs.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EEXIST, ENOENT, errno
from libc.stdint cimport INT32_MAX, int64_t, intptr_t, uint32_t, uint64_t

from reactor.pollers.contract cimport OpList, op_splice
from reactor.pollers.eventfd cimport EventfdPoller
from reactor.pollers.posix_sockets cimport close_descriptor
from reactor.pollers.readiness cimport Slot, become_ready
from reactor.pool cimport BlockPool

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLERR
        EPOLLHUP
        EPOLLIN
        EPOLLOUT
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef enum:
    BATCH = 1024                # events fetched at once; 12 KiB

cdef uint64_t WAKE_MARK = <uint64_t>-1
cdef uint64_t SIGNAL_MARK = <uint64_t>-2


@cython.profile(False)                  # a tracer would run the signal's handler in here, where
@cython.linetrace(False)                # what that raises is lost
cdef inline int wait_now(int epoll_fd, epoll_event *events, int timeout_ms) noexcept nogil:
    # errno is read before the GIL is taken back, which may change it
    cdef int count = epoll_wait(epoll_fd, events, BATCH, timeout_ms)
    return -errno if count < 0 else count


@cython.final
cdef class EpollPoller(EventfdPoller):
    """epoll(7) behind the completion contract.  Lends receives blocks of *pool*.

    Raises ``OSError`` when the process or the system is out of descriptors.
    """

    def __cinit__(self, BlockPool pool not None):
        self.epoll_fd = -1
        self.events = PyMem_RawMalloc(BATCH * sizeof(epoll_event))
        if self.events == NULL:
            raise MemoryError("no memory for epoll's events")
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            PyErr_SetFromErrno(OSError)
        self.open_wake_fd()
        if self.watch_wakeups(self.wake_fd, WAKE_MARK) < 0:
            PyErr_SetFromErrno(OSError)
        self.mind_forks()

    def __dealloc__(self):
        if self.events != NULL:         # else it was never made
            self.disown()
        PyMem_RawFree(self.events)

    # -- ops -------------------------------------------------------------------------

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        cdef epoll_event *events = <epoll_event *>self.events
        cdef int timeout_ms, count, at
        cdef uint64_t mark
        if timeout_ns == 0 or self.cancelled.first != NULL:
            count = wait_now(self.epoll_fd, events, 0)
        else:
            if timeout_ns < 0:
                timeout_ms = -1
            elif timeout_ns > <int64_t>INT32_MAX * 1_000_000 - 999_999:
                timeout_ms = INT32_MAX
            else:
                timeout_ms = <int>((timeout_ns + 999_999) // 1_000_000)
            with nogil:
                count = wait_now(self.epoll_fd, events, timeout_ms)
        count = self.waited(count)
        self.is_stirred = False
        op_splice(done, &self.cancelled)
        for at in range(count):
            mark = events[at].data.u64
            if mark == WAKE_MARK:
                self.drain(self.wake_fd)
            elif mark == SIGNAL_MARK:
                self.drain(self.signal_fds[0])
            else:
                self.ready(<intptr_t><uint32_t>mark, <uint32_t>(mark >> 32),
                           events[at].events, done)
        return 0

    # -- inside ----------------------------------------------------------------------

    cdef bint is_calm(self, intptr_t fd) noexcept:
        """True when epoll says that nothing has come for any descriptor, *fd* among them.

        That is half the price of asking the socket itself, which need not be touched for it;
        an answer for all of them.  Level-triggered, an event that is looked at here comes
        again.  Once something has come it is not asked again before the next wait.
        """
        cdef epoll_event event
        if (self.is_stirred or fd < 0 or fd >= self.slot_count or self.slots[fd].reader == NULL
                or not self.slots[fd].interest & EPOLLIN):
            return False
        self.is_stirred = epoll_wait(self.epoll_fd, &event, 1, 0) != 0
        return not self.is_stirred

    cdef void disown(self) noexcept:
        if self.epoll_fd >= 0:
            close_descriptor(self.epoll_fd)
        self.epoll_fd = -1
        EventfdPoller.disown(self)

    cdef int watch_signals(self) noexcept:
        return -errno if self.watch_wakeups(self.signal_fds[0], SIGNAL_MARK) < 0 else 0

    cdef int watch_wakeups(self, int fd, uint64_t mark) noexcept:
        cdef epoll_event event
        cdef int error = self.attach(fd, True)      # whoever had the number has it no more
        if error < 0:
            return error
        event.events = EPOLLIN
        event.data.u64 = mark
        return epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event)

    cdef int tell(self, intptr_t fd, Slot *slot, uint32_t wanted) noexcept:
        """Set the interest of a descriptor; 0 or -errno.

        The kernel's set and ours differ when somebody closed the descriptor behind our back
        and its number came to life again; then the other call is the right one.
        """
        cdef epoll_event event
        cdef int action
        event.events = wanted
        event.data.u64 = (<uint64_t>slot.generation << 32) | <uint64_t>fd
        if wanted == 0:
            action = EPOLL_CTL_DEL
        else:
            action = EPOLL_CTL_MOD if slot.interest else EPOLL_CTL_ADD
        if epoll_ctl(self.epoll_fd, action, <int>fd, &event) < 0:
            if action == EPOLL_CTL_MOD and errno == ENOENT:
                action = EPOLL_CTL_ADD
            elif action == EPOLL_CTL_ADD and errno == EEXIST:
                action = EPOLL_CTL_MOD
            else:
                return -errno
            if epoll_ctl(self.epoll_fd, action, <int>fd, &event) < 0:
                return -errno
        slot.interest = wanted
        return 0

    cdef void ready(self, intptr_t fd, uint32_t generation, uint32_t bits,
                    OpList *done) noexcept:
        """Move the ops that an event is for to the done list; disarm what nobody wants."""
        cdef Slot *slot = &self.slots[fd]
        cdef uint32_t unwanted = 0
        cdef bint told = False
        if slot.generation != generation:
            return
        if bits & ~<uint32_t>EPOLLOUT:
            if slot.reader != NULL:
                become_ready(&slot.reader, done)
                told = True
            else:
                unwanted = EPOLLIN
        if bits & <uint32_t>(EPOLLOUT | EPOLLERR | EPOLLHUP):
            if slot.writer != NULL:
                become_ready(&slot.writer, done)
                told = True
            else:
                unwanted |= EPOLLOUT
        if bits & <uint32_t>(EPOLLERR | EPOLLHUP) and not told:
            self.tell(fd, slot, 0)
            slot.interest = 0
        elif slot.interest & unwanted:
            self.tell(fd, slot, slot.interest & ~unwanted)

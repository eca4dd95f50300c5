"""Methods that hold a lock for as long as they run, whatever interrupts them.

Owns: ``Mutex`` and ``synchronized``.  Touches nothing; a leaf.

``with lock:`` is not safe from signals. CPython 3.14 calls ``__enter__`` as it calls anything
else, and looks for signals when that has returned and before the block counts as entered: a
KeyboardInterrupt raised there leaves the lock held for good, and the next who wants it asleep
(github.com/python/cpython/issues/148874; 3.14.8 still has it, and up to 3.13 nothing is looked
for in between). In a thread that takes a lock and gives it back all the time, more than half of
the signals that come at random do this. Compiled code looks for signals only where it asks to,
so here the lock is taken and given back by compiled code alone.
"""

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

import threading
from functools import wraps


cdef class Mutex:
    """A lock for ``synchronized``, which knows the thread that holds it."""

    def __cinit__(self):
        self.lock = threading.Lock()

    cdef object call(self, method, tuple args, dict kwargs):
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.owner == thread and self.is_held:
            shown = getattr(method, "__qualname__", method)
            raise RuntimeError(f"{shown} was called by what it has interrupted")
        self.lock.acquire()
        self.owner = thread
        self.is_held = True
        try:
            return method(*args, **kwargs)
        finally:
            self.is_held = False
            self.lock.release()


def synchronized(str name not None):
    """Return a decorator: the method runs while it holds the mutex that its object calls *name*.

    The method must not be a coroutine function or a generator function: what those return runs
    later, without the mutex. Waiting for it can be interrupted as ``Lock.acquire`` can.

    Args:
        name: the attribute, a `Mutex`.

    Raises:
        RuntimeError: in a call, when the thread holds the mutex: a signal handler that calls what
            the signal has interrupted would wait for itself.
        AttributeError, TypeError: in a call, when the object has no such attribute, or it is no
            `Mutex`.
    """
    def of(method):
        @cython.binding(True)       # a method, not a function of C's
        def holding_mutex(self, *args, **kwargs):
            cdef object mutex = getattr(self, name)
            if type(mutex) is not Mutex:
                raise TypeError(f"{name} is no Mutex, but {mutex!r}")
            return (<Mutex>mutex).call(method, (self, *args), kwargs)
        return wraps(method)(holding_mutex)
    return of

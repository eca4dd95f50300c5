"""Methods that hold a lock for as long as they run, whatever interrupts them.

Owns: ``synchronized``.  Touches nothing; a leaf.

A ``with lock:`` is not safe from signals. CPython 3.14 calls ``__enter__`` as it calls anything
else, and looks for signals when that has returned and before the block counts as entered: a
KeyboardInterrupt raised there leaves the lock held for good, and the next who wants it asleep
(github.com/python/cpython/issues/148874; 3.14.8 still has it, and up to 3.13 nothing is looked
for in between). In a thread that takes a lock and gives it back all the time, more than half of
the signals that come at random do this. Compiled code looks for signals only where it asks to,
so here the lock is taken and given back by compiled code alone.
"""

cimport cython

from functools import wraps


def synchronized(str name not None):
    """Return a decorator: the method runs while it holds the lock that its object calls *name*.

    The method must not be a coroutine function or a generator function: what those return runs
    later, without the lock. Waiting for the lock can be interrupted as ``Lock.acquire`` can.

    Args:
        name: the attribute, a ``threading.Lock`` or ``RLock``.

    Raises:
        AttributeError: in a call, when the object has no such attribute.
    """
    def of(method):
        @cython.binding(True)       # a method, not a function of C's
        def holding_lock(self, *args, **kwargs):
            with getattr(self, name):
                return method(self, *args, **kwargs)
        return wraps(method)(holding_lock)
    return of

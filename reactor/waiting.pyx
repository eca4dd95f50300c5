"""Waiting for several futures, though a signal handler may raise meanwhile.

Owns: ``wait``, and ``cancel_others`` by its means.  Touches nothing; a leaf.

``asyncio.wait`` counts in a call-back, and so in Python code, where a signal handler may raise: an
alarm's exception is reported by the loop like any call-back's, and whoever waits is never told (its
timer is cancelled by then).  In compiled code nobody looks for signals.
"""

import asyncio


cdef class Countdown:
    """The call-backs of one who waits."""

    def __cinit__(self, object waiter not None, Py_ssize_t left):
        self.waiter = waiter
        self.left = left

    def ended(self, object future):
        """A future is done."""
        self.left -= 1
        if self.left <= 0:
            self.expired()

    def expired(self):
        """Nobody is to wait any longer."""
        if not self.waiter.done():
            self.waiter.set_result(None)


async def wait(futures, *, timeout=None, bint first=False):
    """Wait until all *futures* are done, or until one is if *first* is set.

    They are neither cancelled nor asked for their results.  The loop makes a pass even if there is
    nothing to wait for any more, as with ``asyncio.wait``: others have their turn.

    Args:
        futures: futures or tasks of the running loop, one or more, each of them once.
        timeout: for how many seconds at most, or ``None``.

    Returns:
        Whether it came to that within *timeout*.

    Raises:
        ValueError: there are no futures.
    """
    cdef list awaited = list(futures)
    cdef Countdown countdown
    if not awaited:
        raise ValueError("nothing to wait for")
    loop = asyncio.get_running_loop()
    countdown = Countdown(loop.create_future(), 1 if first else len(awaited))
    timer = None
    try:
        if timeout is not None:
            timer = loop.call_later(timeout, countdown.expired)
        for each in awaited:
            each.add_done_callback(countdown.ended)
        await countdown.waiter
    finally:
        if timer is not None:
            timer.cancel()
        for each in awaited:
            each.remove_done_callback(countdown.ended)
    return countdown.left <= 0


async def cancel_others():
    """Cancel all other tasks of the running loop, and those that they make, until none is left."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await wait(others)

"""How an event loop takes the thread that runs it, and gives it back.

Owns: what is set while a loop runs: the running loop, the hooks of asynchronous generators, the
descriptor that signals are written to. May not touch: the order of a pass (``reactor.core``).
Invariant: whatever a signal handler raises, all of it is taken back. So it is compiled: a handler
runs within a pass, and never between taking and giving back. (A Python function looks for signals
as it is entered: interrupted there, what disarms signals would leave the number of a descriptor
behind that is closed and then somebody else's.)
"""

from cpython.pythread cimport PyThread_get_thread_ident

from reactor.core cimport Reactor

import signal
import sys
from asyncio import events
from asyncio.constants import DEBUG_STACK_DEPTH

cdef object get_hooks = sys.get_asyncgen_hooks
cdef object set_hooks = sys.set_asyncgen_hooks


def run_forever(Reactor loop not None):
    """Run *loop*, an ``EventLoop``, until it is stopped."""
    cdef tuple hooks = tuple(get_hooks())
    try:
        loop._thread_id = PyThread_get_thread_ident()
        set_hooks(
            firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook
        )
        events._set_running_loop(loop)
        track_origins(loop, loop._debug)
        arm_signals(loop)
        try:
            loop._run()
        finally:
            disarm_signals(loop)
    finally:
        loop._stopping = False
        loop._thread_id = None
        events._set_running_loop(None)
        set_hooks(*hooks)
        track_origins(loop, False)


cdef int track_origins(Reactor loop, bint enabled) except -1:
    """What ``BaseEventLoop._set_coroutine_origin_tracking`` does, and with its attributes."""
    if enabled == loop._coroutine_origin_tracking_enabled:
        return 0
    if enabled:
        loop._coroutine_origin_tracking_saved_depth = sys.get_coroutine_origin_tracking_depth()
        sys.set_coroutine_origin_tracking_depth(DEBUG_STACK_DEPTH)
    else:
        sys.set_coroutine_origin_tracking_depth(loop._coroutine_origin_tracking_saved_depth)
    loop._coroutine_origin_tracking_enabled = enabled
    return 0


def arm_signals(Reactor loop not None):
    """Let each signal wake the loop, whatever thread it is delivered to.

    Not when this is not the main thread, or another descriptor is there: asyncio's own after
    ``add_signal_handler``, or somebody else's. Where it is asyncio's it is left alone, as a signal
    that came while it is away would not be heard of.
    """
    cdef object wakeup_fd = loop._wakeup_fd()
    if wakeup_fd is None or handles_signals(loop):
        return
    try:
        previous = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    except ValueError:                  # not the main thread
        return
    if previous == -1 or previous == wakeup_fd:
        loop._signal_fd = wakeup_fd
    else:
        signal.set_wakeup_fd(previous)


cdef int disarm_signals(Reactor loop) except -1:
    """Take our descriptor back, unless another has taken its place."""
    cdef object wakeup_fd = loop._signal_fd
    loop._signal_fd = -1
    if wakeup_fd != -1 and not handles_signals(loop):
        present = signal.set_wakeup_fd(-1)
        if present != wakeup_fd:
            signal.set_wakeup_fd(present)
    return 0


cdef bint handles_signals(Reactor loop) except -1:
    return bool(getattr(loop, "_signal_handlers", None))    # Windows knows no handlers

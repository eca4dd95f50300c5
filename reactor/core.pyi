import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Self, TypeVarTuple, Unpack

from reactor.pollers.contract import Poller
from reactor.pool import BlockPool
from reactor.timers import TimerHeap

_Ts = TypeVarTuple("_Ts")

# What call_soon and call_later return has the surface of asyncio's classes, and is typed so.
class Handle:
    @property
    def _loop(self) -> Any: ...
    @property
    def _callback(self) -> Any: ...
    @property
    def _args(self) -> Any: ...
    @property
    def _context(self) -> Any: ...
    @property
    def _cancelled(self) -> bool: ...
    @property
    def _source_traceback(self) -> Any: ...
    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...
    def get_context(self) -> Context: ...

class TimerHandle(Handle):
    def when(self) -> float: ...

class Reactor:
    poller: Poller
    pool: BlockPool
    timers: TimerHeap
    resolver: Any
    ready_count: int
    _closed: bool
    _stopping: bool
    _debug: bool
    _thread_id: int | None
    def __new__(cls, poller: Poller | None = None, *args: Any, **kwargs: Any) -> Self: ...
    def time(self) -> float: ...
    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def stop(self) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def _run(self) -> None: ...
    def _run_once(self) -> None: ...
    def _wakeup_fd(self) -> int | None: ...
    def _close_reactor(self) -> None: ...
    def _check_thread(self) -> None: ...

def make_handle(
    loop: Reactor,
    callback: Callable[..., object],
    args: tuple[Any, ...],
    context: Context | None = None,
) -> Handle: ...
def describe_callback(callback: Any, args: tuple[Any, ...] | None) -> str: ...

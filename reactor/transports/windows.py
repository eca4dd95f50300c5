"""What asyncio has on completion ports of its own: named pipes, child processes.

Owns: asyncio's proactor, on the port of our poller, and what must happen to its transports when
their loop closes.  May not touch: stream sockets, which the poller has.
Invariant: the port is shared, never closed here; a packet that is not the poller's is the
proactor's.

The base of our loop is ``asyncio.SelectorEventLoop``, because the poller watches any socket for
readiness, with what ``asyncio.ProactorEventLoop`` has on top (docs/decisions).
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from reactor.limits import KILLED_SECONDS

__all__ = ["WindowsLoop"]

if TYPE_CHECKING or sys.platform != "win32":  # to be looked at on any platform
    windows: Any = None
    ColdLoop: Any = object
    ReadPipe: Any = object
    WritePipe: Any = object
    DuplexPipe: Any = object
    Subprocess: Any = object
    Proactor: Any = object
    close_handle: Any = None
else:
    import _winapi
    from asyncio import proactor_events, windows_events

    windows = windows_events
    close_handle = _winapi.CloseHandle
    ColdLoop = asyncio.SelectorEventLoop
    ReadPipe = proactor_events._ProactorReadPipeTransport
    WritePipe = proactor_events._ProactorWritePipeTransport
    DuplexPipe = proactor_events._ProactorDuplexPipeTransport
    Subprocess = windows_events._WindowsSubprocessTransport
    Proactor = windows_events.IocpProactor

GIVEN_BACK_SECONDS = 5.0  # how long a closing loop waits for what its pipes still have pending


class SharedProactor(Proactor):  # type: ignore[misc]
    """asyncio's proactor, whose packets come through our poller's port."""

    def __init__(self, loop: Any, poller: Any) -> None:
        super().__init__()
        close_handle(self._iocp)
        self._iocp: int | None = poller.share_port(self._came)
        self._poller = poller
        self.set_loop(loop)

    def _came(self, transferred: int, key: int, address: int) -> None:
        """End what a packet is for, as the method that we do without does."""
        entry = self._cache.pop(address, None)
        if entry is not None:
            future, overlapped, handle, finish = entry
            if handle in self._stopped_serving:
                future.cancel()
            elif not future.done():
                try:
                    future.set_result(finish(transferred, key, overlapped))
                except OSError as error:
                    future.set_exception(error)
        for overlapped in self._unregistered:
            self._cache.pop(overlapped.address, None)
        self._unregistered.clear()

    def close(self) -> None:
        """Cancel what is pending and wait until the system has given it back."""
        if self._iocp is None:
            return
        for future, *_ in list(self._cache.values()):
            if not future.cancelled() and not isinstance(future, windows._WaitCancelFuture):
                future.cancel()
        until = time.monotonic() + GIVEN_BACK_SECONDS
        while self._cache and time.monotonic() < until:
            for packet in self._poller.take_packets(0.1):
                self._came(*packet)
        self._iocp = None


class _Orphan:
    """A transport of the proactor's, which may be there when its loop is closed."""

    _sock: Any
    _read_fut: Any
    _write_fut: Any

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except ValueError:  # it has no number any more: its child's end closed it
            return f"<{type(self).__name__} of a closed pipe>"

    def orphan(self) -> None:
        """The loop is closed: close it, call nobody, warn."""
        if self._sock is None:
            return
        message = f"unclosed transport {self!r}"
        pipe, self._sock = self._sock, None
        for future in (self._read_fut, self._write_fut):
            if future is not None:
                future.cancel()
        self._closing = True
        self._protocol = None
        pipe.close()
        warnings.warn(message, ResourceWarning, 2, source=self)  # which may raise


class ReadPipeTransport(_Orphan, ReadPipe):  # type: ignore[misc]
    """The reading end of a pipe."""


class WritePipeTransport(_Orphan, WritePipe):  # type: ignore[misc]
    """The writing end of a pipe."""


class DuplexPipeTransport(_Orphan, DuplexPipe):  # type: ignore[misc]
    """A named pipe, both ways."""


class ProcessTransport(Subprocess):  # type: ignore[misc]
    """A child process."""

    _closed: bool
    _proc: Any

    def orphan(self) -> None:
        """The loop is closed: kill the child, wait for its end, call nobody, warn."""
        process: subprocess.Popen[bytes] | None = self._proc
        if process is None:
            return  # it had ended, and so had its pipes
        message = None if self._closed else f"unclosed transport {self!r}"
        self._closed = True
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        if process.poll() is None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)
        if message is not None:
            warnings.warn(message, ResourceWarning, 2, source=self)


class WindowsLoop(ColdLoop):  # type: ignore[misc]
    """The cold surface of our event loop on Windows."""

    _inherited: weakref.WeakSet[Any]
    _shared_proactor: SharedProactor | None = None

    @property
    def _proactor(self) -> SharedProactor:
        """The proactor of asyncio, made when the first pipe or child is."""
        if self._shared_proactor is None:
            self._shared_proactor = SharedProactor(self, self.poller)
        return self._shared_proactor

    def close(self) -> None:
        """Free what asyncio's part of the loop has."""
        try:
            if self._shared_proactor is not None:
                self._shared_proactor.close()
                self._shared_proactor = None
        finally:
            super().close()

    def _make_read_pipe_transport(self, *args: Any, **options: Any) -> Any:
        return self._inherit(ReadPipeTransport(self, *args, **options))

    def _make_write_pipe_transport(self, *args: Any, **options: Any) -> Any:
        return self._inherit(WritePipeTransport(self, *args, **options))

    def _make_duplex_pipe_transport(self, *args: Any, **options: Any) -> Any:
        return self._inherit(DuplexPipeTransport(self, *args, **options))

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        ready = self.create_future()
        transport = self._inherit(ProcessTransport(self, *args, waiter=ready, **options))
        try:
            await ready
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    if sys.platform == "win32":  # named pipes, as ProactorEventLoop has them
        create_pipe_connection = asyncio.ProactorEventLoop.create_pipe_connection
        start_serving_pipe = asyncio.ProactorEventLoop.start_serving_pipe

"""The reactor as an asyncio event loop.

Owns: asyncio's cold surface: running, closing, making transports for the standard library's
``create_connection`` and ``create_server``, and their servers.  May not touch: the order of a pass
(``reactor.core``), descriptors of live transports.
Invariant: the methods that are called per event are ``Reactor``'s; what is inherited from
``asyncio.BaseEventLoop`` is called per connection, per run or less.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import selectors
import socket
import ssl
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVarTuple, Unpack

from reactor import running
from reactor.core import Handle
from reactor.limits import UNIX_RETRY_SECONDS
from reactor.pollers import new_poller
from reactor.pollers.contract import Poller
from reactor.resolver import Resolver, numeric
from reactor.tasks import TaskReactor
from reactor.transports.datagram import FAMILIES, DatagramTransport
from reactor.transports.listener import Listener
from reactor.transports.server import Server
from reactor.transports.stock import StockDatagramTransport
from reactor.transports.stream import adopt_stream
from reactor.transports.tcp import Connector
from reactor.transports.tls import TLSProtocol
from reactor.transports.watcher import Watcher
from reactor.waiting import wait

if sys.platform != "win32":
    from reactor.transports.inherited import (
        ProcessTransport,
        ReadPipeTransport,
        WritePipeTransport,
    )

__all__ = ["EventLoop", "install", "new_event_loop"]

Ts = TypeVarTuple("Ts")


if TYPE_CHECKING:

    class _Cold(asyncio.SelectorEventLoop):
        """The base that supplies the cold surface, with what typeshed leaves out of it."""

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: Any) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: Any) -> None: ...

        async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any: ...

        _transports: weakref.WeakValueDictionary[int, Any]

        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _stop_serving(self, sock: socket.socket) -> None: ...
        async def _ensure_resolved(self, address: Any, **options: Any) -> Any: ...

elif sys.platform == "win32":
    from reactor.transports.windows import WindowsLoop as _Cold
else:
    _Cold = asyncio.SelectorEventLoop


class _Watched:
    """Stands where ``asyncio.SelectorEventLoop`` keeps its selector: shows who is watched.

    The reactor polls; asyncio's transports of pipes and datagrams look here for their repr.
    """

    def __init__(self, readers: dict[int, Watcher], writers: dict[int, Watcher]) -> None:
        self._readers = readers
        self._writers = writers

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Return what is watched of a descriptor; ``KeyError`` when nothing is."""
        fd = _descriptor(fileobj)
        watchers = (self._readers.get(fd), self._writers.get(fd))
        reader, writer = (watcher and watcher.handle for watcher in watchers)
        events = selectors.EVENT_READ if reader is not None else 0
        events |= selectors.EVENT_WRITE if writer is not None else 0
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fd, events, (reader, writer))

    def close(self) -> None:
        """Nothing to close."""


class EventLoop(TaskReactor, _Cold):
    """A complete asyncio event loop on a reactor.

    Args:
        poller: the poller to run on; by default the platform's best.

    Attributes:
        resolver: who turns names into addresses for ``reactor.connect``.
    """

    def __new__(cls, poller: Poller | None = None) -> Self:
        """Make the C half of the loop over *poller*."""
        return super().__new__(cls, new_poller() if poller is None else poller)

    def __init__(self, poller: Poller | None = None) -> None:
        self._ssock: socket.socket | None = None
        self._csock: socket.socket | None = None
        self._readers: dict[int, Watcher] = {}
        self._writers: dict[int, Watcher] = {}
        self._listeners: dict[socket.socket, Listener] = {}
        self._inherited: weakref.WeakSet[Any] = weakref.WeakSet()  # datagrams, pipes, children
        self._signal_fd = -1  # what signals are written to while the loop runs
        self.resolver = Resolver()
        _Cold.__init__(self, _Watched(self._readers, self._writers))  # type: ignore[arg-type]
        _loops.add(self)

    # -- running ---------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until ``stop`` is called."""
        self._check_closed()
        self._check_running()
        if self.poller.foreign:
            raise RuntimeError("an event loop cannot run in a child process: it is its parent's")
        running.run_forever(self)

    def close(self) -> None:
        """Free the loop: queued call-backs are dropped, live transports freed with a warning."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        for listener in list(self._listeners.values()):
            listener.close()
        self._listeners.clear()
        for watcher in (*self._readers.values(), *self._writers.values()):
            watcher.close()
        self._readers.clear()
        self._writers.clear()
        self.resolver.close()
        frees: list[Callable[[], object]] = [each.orphan for each in self._inherited]
        frees += [functools.partial(_Cold.close, self), self._close_reactor]
        failure = None
        for free in frees:  # all of them, though a warning be an error
            try:
                free()
            except BaseException as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            # Not with ExitStack, whose exceptions forget the one that ended the loop's work.
            raise failure

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
            if not self.is_running():
                self.close()

    # -- other people's descriptors ------------------------------------------------------

    def _watch(
        self,
        watchers: dict[int, Watcher],
        fd: Any,
        writes: bool,
        callback: Callable[..., object],
        args: tuple[Any, ...],
    ) -> Handle:
        self._check_closed()
        number = _descriptor(fd)
        watcher = watchers.get(number)
        if watcher is None:
            watcher = watchers[number] = Watcher(self, number, writes)
        try:
            handle = watcher.watch(callback, args)
            watcher.source = fd
            return handle
        except FileExistsError:
            raise RuntimeError(
                f"File descriptor {fd!r} is used by transport {self._transports.get(number)!r}"
            ) from None

    def _unwatch(self, watchers: dict[int, Watcher], fd: Any) -> bool:
        try:
            watcher = watchers.get(_descriptor(fd))
        except ValueError:  # it was closed, and is known still as what was watched
            watcher = next((each for each in watchers.values() if each.source is fd), None)
            if watcher is None:
                raise
        if watcher is None or watcher.handle is None:
            return False
        watcher.close()
        return True

    def _forget(self, fd: int) -> None:
        """Drop what was kept to watch a descriptor again, which is a transport's from now on."""
        self._transports.pop(fd, None)
        for watchers in (self._readers, self._writers):
            watcher = watchers.get(fd)
            if watcher is not None and watcher.handle is None:
                del watchers[fd]

    # SelectorEventLoop's own names: its sock_* methods, pipes and signals call these four.

    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> Handle:
        return self._watch(self._readers, fd, False, callback, args)

    def _remove_reader(self, fd: Any) -> bool:
        return self._unwatch(self._readers, fd)

    def _add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> Handle:
        return self._watch(self._writers, fd, True, callback, args)

    def _remove_writer(self, fd: Any) -> bool:
        return self._unwatch(self._writers, fd)

    # -- signals -------------------------------------------------------------------------

    def _make_self_pipe(self) -> None:
        """Make the pipe that signals are written to only once a handler is added."""

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            _Cold._close_self_pipe(self)

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[Ts]], object], *args: *Ts
    ) -> None:
        """Call *callback* on the loop's thread when signal *sig* comes; main thread only."""
        if self._ssock is None:
            _Cold._make_self_pipe(self)
        _Cold.add_signal_handler(self, sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Do not handle signal *sig* any more; return whether it was handled."""
        removed = _Cold.remove_signal_handler(self, sig)
        if removed and self.is_running():
            running.arm_signals(self)  # with the last handler asyncio takes the descriptor away
        return removed

    def _add_callback(self, handle: asyncio.Handle) -> None:
        if not handle._cancelled:
            self.call_soon(handle._run)

    def _write_to_self(self) -> None:
        self.call_soon_threadsafe(_nothing)

    # -- what create_connection and create_server call -----------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> Any:
        transport = adopt_stream(self, sock, protocol, waiter, extra, server)
        self._transports[sock.fileno()] = transport
        return transport

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        sock, drained = transp._lend_socket()
        reads = transp.is_reading()
        transp.pause_reading()
        self._transports.pop(sock.fileno(), None)  # so that the socket may be watched
        sending: asyncio.Task[int] | None = None
        try:
            await drained
            sending = self.create_task(
                self.sock_sendfile(sock, file, offset, count, fallback=False)
            )
            ended = transp._loans_end()
            failure: BaseException | None = None
            try:
                await wait([sending, ended], first=True)
            except asyncio.CancelledError as error:
                failure = error
            if sending.cancel():
                await wait([sending])  # until nobody watches the socket any more
            why = None if ended.cancel() else ended.exception()
            if failure is None:
                failure = why if sending.cancelled() else sending.exception()
            elif not sending.cancelled():
                sending.exception()  # of no interest beside the cancellation
            if failure is not None:
                try:
                    raise failure
                finally:
                    del failure, why  # whose traceback has this frame
            return sending.result()
        finally:
            if sending is not None and not self._closed:
                sending.cancel()  # it is done, but for an exit or the end of this coroutine
            transp._take_back_socket()
            if sock.fileno() >= 0:
                self._transports[sock.fileno()] = transp
            if reads:
                transp.resume_reading()

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        call_connection_made: bool = True,
    ) -> Any:
        layer = TLSProtocol(
            self,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=None if server_side else server_hostname,
            waiter=waiter,
            call_connection_made=call_connection_made,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            strict_end=False,
        )
        transport = adopt_stream(self, rawsock, layer, None, extra, server)
        self._transports[rawsock.fileno()] = transport
        return layer.app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade *transport* to TLS and return the transport to use from now on.

        *protocol* keeps its connection: ``connection_made`` is not called again.  Over a
        transport that has TLS already this puts TLS inside of TLS.

        A client that asks for TLS and begins it at once is heard: what a server's
        ``StreamReader`` has not been asked for goes to the handshake.  (A client's is left where
        it is, unsealed: RFC 3207 section 4.2 wants it thrown away, which is the caller's to do.)
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        if transport.is_closing():
            raise ConnectionAbortedError("Failed to start TLS: the transport is closing")
        waiter = self.create_future()
        layer = TLSProtocol(
            self,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            waiter=waiter,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            strict_end=False,
        )
        transport.set_protocol(layer)
        layer.connection_made(transport)
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            reader: Any = getattr(protocol, "_stream_reader", None)
            if reader is not None:
                _hand_over(reader, layer)
        transport.resume_reading()
        await waiter
        return layer.app_transport

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's own name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return what ``socket.getaddrinfo`` does; a thread asks it only if there is a name."""
        has_number = port is None or isinstance(port, int)
        if has_number and isinstance(host, str) and numeric(host, 0) is not None:
            flags |= socket.AI_NUMERICHOST
            return socket.getaddrinfo(host, port, family, type, proto, flags)
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Return ``(transport, protocol)``, connected; see ``loop.create_connection``.

        To an address, and without more, it takes a quarter less CPU than asyncio's own way.
        """
        info = None
        is_plain = not (options or self._debug or _is_overridden(self.sock_connect))
        if is_plain and isinstance(host, str) and type(port) is int and 0 <= port <= 65535:
            info = numeric(host, port)
        if info is None:
            made = await _Cold.create_connection(self, protocol_factory, host, port, **options)
            return made[0], made[1]
        connector = Connector(self, info.family, info.kind, info.protocol, info.address)
        try:
            try:
                await connector.start()
            except OSError as error:
                raise OSError(error.errno, f"Connect call failed {info.address}") from None
            protocol = protocol_factory()
            return connector.transport(protocol), protocol
        finally:
            connector.close()

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect *sock*, which must be non-blocking, to *address*."""
        if sock.family != getattr(socket, "AF_UNIX", None):
            await _Cold.sock_connect(self, sock, address)
            return
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        while True:
            try:
                sock.connect(address)
            except BlockingIOError:  # the server's queue is full (unix(7)); nothing tells when not
                await asyncio.sleep(UNIX_RETRY_SECONDS)
            else:
                return

    # create_server and create_unix_server return our own server, which can close its clients.

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        start_serving: bool = True,
        **options: Any,
    ) -> Server:
        """Return a server that listens on *host* and *port*; see ``loop.create_server``."""
        stock = await _Cold.create_server(
            self, protocol_factory, host, port, start_serving=False, **options
        )
        return await self._serve(stock, start_serving)

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        start_serving: bool = True,
        **options: Any,
    ) -> Server:
        """Return a server that listens on the UNIX socket *path*; see asyncio's method."""
        stock = await _Cold.create_unix_server(
            self, protocol_factory, path, start_serving=False, **options
        )
        return await self._serve(stock, start_serving)

    async def _serve(self, stock: Any, start_serving: bool) -> Server:
        server = Server(stock)
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:
                server.close()
                raise
        return server

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        secure = None
        if sslcontext is not None:
            secure = functools.partial(
                TLSProtocol,
                self,
                sslcontext=sslcontext,
                server_side=True,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
                strict_end=False,
            )
        listener = Listener(self, sock, protocol_factory, server, secure)
        self._listeners[sock] = listener
        listener.start()

    def _stop_serving(self, sock: socket.socket) -> None:
        # From 3.13 on asyncio removes the path of a UNIX socket if it still is that socket's.
        inode = getattr(self, "_unix_server_sockets", {}).pop(sock, None)
        path = None if inode is None or sock.fileno() < 0 else sock.getsockname()
        listener = self._listeners.pop(sock, None)
        if listener is None:  # it was never started
            sock.close()
        else:
            listener.close()  # which closes the socket, if need be once its op is back
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                if Path(path).stat().st_ino == inode:
                    Path(path).unlink()

    # -- datagrams, pipes and child processes: freed with the loop ---------------------------

    def _inherit(self, transport: Any) -> Any:
        self._inherited.add(transport)
        return transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: Any = None,
    ) -> Any:
        # A subclass, or what only looks like a socket, has ways of its own.
        if type(sock) is not socket.socket or sock.family not in FAMILIES:
            stock = StockDatagramTransport(self, sock, protocol, address, waiter, extra)
            return self._inherit(stock)
        transport = self._inherit(DatagramTransport(self, protocol, sock, address))
        self._transports[sock.fileno()] = transport
        self.call_soon(transport.begin, waiter)
        return transport

    if sys.platform != "win32":

        def _make_read_pipe_transport(self, *args: Any) -> Any:
            return self._inherit(ReadPipeTransport(self, *args))

        def _make_write_pipe_transport(self, *args: Any) -> Any:
            return self._inherit(WritePipeTransport(self, *args))

        async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
            if _has_child_watcher():
                return await _Cold._make_subprocess_transport(self, *args, **options)
            ready = self.create_future()
            transport = self._inherit(ProcessTransport(self, *args, waiter=ready, **options))
            transport.watch()
            try:
                await ready
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                transport.close()
                await transport._wait()
                raise
            return transport


def _descriptor(fd: Any) -> int:
    """Return the number of a descriptor or of an object that has one."""
    number = fd if isinstance(fd, int) else int(fd.fileno())
    if number < 0:
        raise ValueError(f"invalid file descriptor: {number}")
    return number


def _has_child_watcher() -> bool:
    """Return whether the program chose a child watcher that wants to reap every child."""
    if sys.version_info >= (3, 14):
        return False
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    needless = (type(None), asyncio.ThreadedChildWatcher, asyncio.PidfdChildWatcher)
    return not isinstance(watcher, needless)


def _is_overridden(sock_connect: Any) -> bool:
    """Return whether connections are to be made by somebody's own way."""
    return getattr(sock_connect, "__func__", None) is not EventLoop.sock_connect


def _hand_over(reader: Any, layer: TLSProtocol) -> None:
    """Let TLS have what a stream's reader has received and nobody has read."""
    unread = bytes(reader._buffer)
    reader._buffer.clear()
    reader._paused = False  # or it would never pause its new transport
    if unread:
        layer.data_received(unread)
    if reader.at_eof():
        layer.eof_received()


def _nothing() -> None:
    """Wake the loop and do nothing else."""


def new_event_loop() -> EventLoop:
    """Return a new event loop on the platform's best poller."""
    return EventLoop()


def install() -> None:
    """Make this loop the one that asyncio's event loop policy makes, from now on.

    For programs that leave no other way.  Where there is one, ``reactor.run(main())`` and
    ``asyncio.Runner(loop_factory=reactor.new_event_loop)`` need no policy.  Raises
    ``RuntimeError`` from Python 3.14 on, which deprecates policies.
    """
    if sys.version_info >= (3, 14):
        raise RuntimeError(
            "Python 3.14 deprecates event loop policies: use reactor.run(main()), or "
            "asyncio.run(main(), loop_factory=reactor.new_event_loop)"
        )

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> EventLoop:
            return new_event_loop()

    asyncio.set_event_loop_policy(EventLoopPolicy())


_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close the loops that were not, with a warning each.

    One that has timers or operations is not collected when it is dropped, so nothing else
    would say so (docs/decisions/0007).
    """
    for loop in list(_loops):
        if not loop.is_running() and not loop.poller.foreign:
            loop.__del__()

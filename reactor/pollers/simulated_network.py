"""The network inside a simulated poller: stream sockets in memory, a clock, faults.

Owns: virtual sockets, their descriptors and what is on its way between them.  May not touch:
ops (the poller's), the operating system.
Invariant: everything that happens later is one entry of ``_events``; two runs with the same
seed and the same calls do the same things at the same nanosecond.

What is modelled of TCP, after Linux: a send buffer and a receive buffer per socket, a window
between them, segments that take time and stay in order, FIN, RST (after a close with unread
bytes, and for bytes that reach a closed socket), a listen queue whose overflow makes the
client try again, and ETIMEDOUT for an address where nobody answers.  Not modelled: loss,
acknowledgements (a window opens at once), datagrams, out-of-band data.

Calls return what the contract's results are: a count, a descriptor or 0, and ``-errno``.
"""

from __future__ import annotations

import errno
import heapq
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Any, TypeAlias

__all__ = ["Connection", "Network"]

Address: TypeAlias = Any  # what the socket module has for the family: a tuple or a path

FIRST_FD = 1_000_000  # far above what RLIMIT_NOFILE lets the system hand out
FIRST_PORT = 49_152  # of those given to who asks for port 0 (RFC 6335 section 6)
LAST_PORT = 65_535
SYN_RETRY_NS = 1_000_000_000  # RFC 6298 section 2: the first retransmission
CONNECT_TIMEOUT_NS = 127_000_000_000  # tcp_syn_retries = 6 (tcp(7))
STREAM_FAMILIES = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", -1))
WILDCARDS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class State(Enum):
    """The life of an endpoint."""

    NEW = auto()
    LISTENING = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    CLOSED = auto()


@dataclass(frozen=True)
class Connection:
    """What one connected socket looks like at this moment; sizes in bytes.

    Attributes:
        fd: its descriptor, ``-1`` while it waits to be accepted or once it is closed.
        peer_fd: the other end's.
        local: its address.
        remote: the other end's address.
        unread: bytes that arrived and were not received.
        unsent: bytes that were sent and did not leave.
        broken: whether it was reset.
    """

    fd: int
    peer_fd: int
    local: Address
    remote: Address
    unread: int
    unsent: int
    broken: bool


class Endpoint:
    """One virtual socket; it outlives its descriptor until its last byte has arrived."""

    __slots__ = (
        "_peer",
        "arrival_ns",
        "arriving",
        "backlog",
        "backlog_limit",
        "broken",
        "end_arrived",
        "end_sent",
        "ended",
        "error",
        "family",
        "fd",
        "in_flight",
        "incoming",
        "latency_ns",
        "local",
        "outgoing",
        "remote",
        "reset_after",
        "state",
    )

    def __init__(self, family: int) -> None:
        self.fd = -1
        self.family = family
        self.state = State.NEW
        self.local: Address = None
        self.remote: Address = None
        self._peer: Endpoint | None = None
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.in_flight = 0  # bytes on their way to this endpoint
        self.arriving = 0  # events on their way to this endpoint
        self.arrival_ns = 0  # when the last of them is due
        self.latency_ns: int | None = None  # the link's own; None for the network's
        self.ended = False  # this end will send no more
        self.end_sent = False
        self.end_arrived = False
        self.error = 0  # an errno that the next call returns
        self.broken = False
        self.reset_after: int | None = None  # bytes that may arrive before a reset
        self.backlog: deque[Endpoint] = deque()
        self.backlog_limit = 0

    @property
    def peer(self) -> Endpoint:
        """The other end; only of a connected endpoint."""
        assert self._peer is not None
        return self._peer

    def join(self, other: Endpoint) -> None:
        """Make this and *other* the two ends of a connection."""
        self._peer, other._peer = other, self
        self.state = other.state = State.CONNECTED


class Network:
    """Virtual sockets and the faults between them.

    Args:
        seed: of every random choice.
        latency_seconds: how long a segment travels, one way.
        jitter_seconds: at most this much is added to it, at random; order is kept.
        segment_bytes: a segment carries 1 to this many bytes, at random; 0 for no limit.
        short_bytes: one receive or send does 1 to this many bytes, at random; 0 for no limit.
        send_buffer_bytes: what a socket takes before a send would block.
        receive_buffer_bytes: what a socket holds unread before its peer must wait.
        max_descriptors: sockets that may be open at once; more is EMFILE.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        latency_seconds: float = 0.0,
        jitter_seconds: float = 0.0,
        segment_bytes: int = 0,
        short_bytes: int = 0,
        send_buffer_bytes: int = 65_536,
        receive_buffer_bytes: int = 65_536,
        max_descriptors: int = 65_536,
    ) -> None:
        if min(latency_seconds, jitter_seconds, segment_bytes, short_bytes) < 0:
            raise ValueError("latency, jitter, segment and short counts must not be negative")
        if min(send_buffer_bytes, receive_buffer_bytes, max_descriptors) < 1:
            raise ValueError("buffers and descriptors must be at least 1")
        self.now_ns = 0
        self.random = Random(seed)
        self.sockets: dict[int, Endpoint] = {}
        self.touched: dict[Endpoint, None] = {}  # what an op may be waiting for, in order
        self._latency_ns = round(latency_seconds * 1e9)
        self._jitter_ns = round(jitter_seconds * 1e9)
        self._segment_bytes = segment_bytes
        self._short_bytes = short_bytes
        self._send_buffer_bytes = send_buffer_bytes
        self._receive_buffer_bytes = receive_buffer_bytes
        self.max_descriptors = max_descriptors
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._free_fds: list[int] = []
        self._next_port = FIRST_PORT
        self._bound: dict[Address, Endpoint] = {}
        self._links: dict[Address, int] = {}
        self._refused: set[Address] = set()
        self._black_holes: set[Address] = set()
        self._failures: dict[str, deque[int]] = {}

    # -- time ------------------------------------------------------------------------

    def next_ns(self) -> int | None:
        """When the next thing happens; ``None`` when nothing will by itself."""
        return self._events[0][0] if self._events else None

    def run_until(self, when_ns: int) -> None:
        """Let everything happen that is due by *when_ns*, and move the clock there."""
        while self._events and self._events[0][0] <= when_ns:
            due_ns, _, event = heapq.heappop(self._events)
            self.now_ns = max(self.now_ns, due_ns)
            event()
        self.now_ns = max(self.now_ns, when_ns)

    def at(self, when_ns: int, event: Callable[[], None]) -> None:
        """Let *event* happen at *when_ns*, after what was put there before."""
        self._sequence += 1
        heapq.heappush(self._events, (when_ns, self._sequence, event))

    def _travel_ns(self, endpoint: Endpoint) -> int:
        latency_ns = self._latency_ns if endpoint.latency_ns is None else endpoint.latency_ns
        return latency_ns + (self.random.randint(0, self._jitter_ns) if self._jitter_ns else 0)

    def _towards(self, endpoint: Endpoint, event: Callable[[], None]) -> None:
        """Let *event* reach *endpoint* after everything sent to it earlier."""
        delay_ns = self._travel_ns(endpoint)
        if delay_ns == 0 and endpoint.arriving == 0:
            event()
            return

        def arrive() -> None:
            endpoint.arriving -= 1
            event()

        endpoint.arriving += 1
        endpoint.arrival_ns = max(endpoint.arrival_ns, self.now_ns + delay_ns)
        self.at(endpoint.arrival_ns, arrive)

    # -- faults ----------------------------------------------------------------------

    def link(self, address: Address, latency_seconds: float) -> None:
        """Give connections to *address*, from now on, a latency of their own, one way."""
        self._links[key(address)] = round(latency_seconds * 1e9)

    def refuse(self, address: Address) -> None:
        """Answer connects to *address* with ECONNREFUSED, even if somebody listens."""
        self._refused.add(key(address))

    def black_hole(self, address: Address) -> None:
        """Never answer connects to *address*; they time out after 127 seconds."""
        self._black_holes.add(key(address))

    def restore(self, address: Address) -> None:
        """Undo ``refuse``, ``black_hole`` and ``link``."""
        self._refused.discard(key(address))
        self._black_holes.discard(key(address))
        self._links.pop(key(address), None)

    def fail(self, call: str, number: int, times: int = 1) -> None:
        """Let the next *times* calls of a kind fail with errno *number*.

        *call* is ``"open"``, ``"bind"``, ``"connect"``, ``"accept"``, ``"receive"``,
        ``"send"`` or ``"shutdown"``.
        """
        if call not in CALLS:
            raise ValueError(f"no call {call!r}; there is {', '.join(sorted(CALLS))}")
        self._failures.setdefault(call, deque()).extend([number] * times)

    def reset(self, fd: int) -> None:
        """Break a connection now: both ends see ECONNRESET."""
        endpoint = self.sockets[fd]
        if endpoint.state is not State.CONNECTED:
            raise ValueError(f"socket {fd} is not connected")
        self._break(endpoint.peer, errno.ECONNRESET)
        self._break(endpoint, errno.ECONNRESET)

    def reset_after(self, fd: int, size_bytes: int) -> None:
        """Break a connection once *size_bytes* more have arrived at *fd*, and not one more."""
        self.sockets[fd].reset_after = size_bytes

    @property
    def connections(self) -> list[Connection]:
        """Every connected socket that has a descriptor, by descriptor."""
        return [
            Connection(
                end.fd, end.peer.fd, end.local, end.remote,
                len(end.incoming), len(end.outgoing), end.broken,
            )
            for _, end in sorted(self.sockets.items())
            if end.state is State.CONNECTED
        ]  # fmt: skip

    def _failure(self, call: str) -> int:
        queue = self._failures.get(call)
        return -queue.popleft() if queue else 0

    # -- descriptors -----------------------------------------------------------------

    def open(self, family: int, kind: int) -> int:
        """Return the descriptor of a new stream socket."""
        failure = self._failure("open")
        if failure:
            return failure
        if family not in STREAM_FAMILIES:
            return -errno.EAFNOSUPPORT
        if kind & 0xF != socket.SOCK_STREAM:
            return -errno.EPROTONOSUPPORT
        return self._install(Endpoint(family))

    def _install(self, endpoint: Endpoint) -> int:
        if len(self.sockets) >= self.max_descriptors:
            return -errno.EMFILE
        # The lowest number that is free, as the system does (open(2)).
        fd = heapq.heappop(self._free_fds) if self._free_fds else FIRST_FD + len(self.sockets)
        endpoint.fd = fd
        self.sockets[fd] = endpoint
        return fd

    def pair(self, family: int = socket.AF_INET) -> tuple[int, int]:
        """Return the descriptors of two connected sockets (socketpair(2))."""
        one, two = Endpoint(family), Endpoint(family)
        one.local = two.remote = self._any_address(family)
        two.local = one.remote = self._any_address(family)
        one.join(two)
        fds = (self._install(one), self._install(two))
        if min(fds) < 0:
            raise OSError(errno.EMFILE, "too many virtual sockets")
        return fds

    def close(self, fd: int) -> int:
        """Close a socket: what was sent still arrives; unread bytes reset the peer, as on Linux."""
        endpoint = self.sockets.pop(fd, None)
        if endpoint is None:
            return -errno.EBADF
        heapq.heappush(self._free_fds, fd)
        endpoint.fd = -1
        self.touched.pop(endpoint, None)
        self._unbind(endpoint)
        state, endpoint.state = endpoint.state, State.CLOSED
        if state is State.LISTENING:
            for waiting in endpoint.backlog:
                waiting.state = State.CLOSED
                self._send_reset(waiting)
            endpoint.backlog.clear()
        elif endpoint._peer is not None and not endpoint.broken:
            if endpoint.incoming or state is State.CONNECTING:
                self._send_reset(endpoint)
            else:
                endpoint.ended = True
                self._pump(endpoint)
        return 0

    def _unbind(self, endpoint: Endpoint) -> None:
        for address in [name for name, bound in self._bound.items() if bound is endpoint]:
            del self._bound[address]

    def _any_address(self, family: int, host: str | None = None) -> Address:
        """An address of *host*, by default loopback, with a port that is free."""
        if family not in LOOPBACK:
            return ""
        host = host or LOOPBACK[socket.AddressFamily(family)]
        while True:
            port = self._next_port
            self._next_port = FIRST_PORT if port == LAST_PORT else port + 1
            address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
            if key(address) not in self._bound:
                return address

    def bind(self, fd: int, address: Address) -> int:
        """Give a socket an address of its own; port 0 for any."""
        failure = self._failure("bind")
        if failure:
            return failure
        endpoint = self.sockets[fd]
        if endpoint.local is not None or endpoint.state is not State.NEW:
            return -errno.EINVAL
        if isinstance(address, tuple) and address[1] == 0:
            address = self._any_address(endpoint.family, address[0])
        elif key(address) in self._bound:
            return -errno.EADDRINUSE
        endpoint.local = address
        self._bound[key(address)] = endpoint
        return 0

    def listen(self, fd: int, backlog: int) -> int:
        """Let a bound socket accept connections, of which *backlog* may wait."""
        endpoint = self.sockets[fd]
        if endpoint.local is None or endpoint.state not in {State.NEW, State.LISTENING}:
            return -errno.EINVAL
        endpoint.state = State.LISTENING
        endpoint.backlog_limit = max(1, backlog)
        return 0

    # -- connecting ------------------------------------------------------------------

    def connect(self, fd: int, address: Address) -> int:
        """Begin to connect: 0 when it is done at once, else ``-EINPROGRESS`` or the failure."""
        endpoint = self.sockets[fd]
        if endpoint.state is State.CONNECTED:
            return -errno.EISCONN
        if endpoint.state is not State.NEW:
            return -errno.EALREADY
        failure = self._failure("connect")
        if failure:
            return failure
        if endpoint.local is None:
            endpoint.local = self._any_address(endpoint.family)
        endpoint.remote = address
        endpoint.latency_ns = self._links.get(key(address))
        endpoint.state = State.CONNECTING
        endpoint.broken = False  # by an attempt that failed
        if key(address) in self._black_holes:
            self.at(
                self.now_ns + CONNECT_TIMEOUT_NS,
                lambda: self._connect_failed(endpoint, errno.ETIMEDOUT),
            )
        else:
            self._towards(endpoint, lambda: self._knock(endpoint))
        if endpoint.state is State.CONNECTING:
            return -errno.EINPROGRESS
        return self.connect_result(fd)

    def connect_result(self, fd: int) -> int:
        """How a connect ended: 0 or the failure, which is forgotten by that (SO_ERROR)."""
        endpoint = self.sockets[fd]
        number, endpoint.error = endpoint.error, 0
        return -number

    def _knock(self, client: Endpoint) -> None:
        """A connection request has arrived where it was sent to."""
        if client.state is not State.CONNECTING:
            return
        listener = self._listener_at(client.family, client.remote)
        if listener is None or key(client.remote) in self._refused:
            self._towards(client, lambda: self._connect_failed(client, errno.ECONNREFUSED))
            return
        if len(listener.backlog) >= listener.backlog_limit:
            self.at(self.now_ns + SYN_RETRY_NS, lambda: self._knock(client))
            return
        server = Endpoint(client.family)
        server.local, server.remote = client.remote, client.local
        server.latency_ns = client.latency_ns
        client.join(server)
        client.state = State.CONNECTING  # until it hears of it
        listener.backlog.append(server)
        self._touch(listener)
        self._towards(client, lambda: self._connected(client))

    def _listener_at(self, family: int, address: Address) -> Endpoint | None:
        found = self._bound.get(key(address))
        if found is None and family in WILDCARDS:
            host = WILDCARDS[socket.AddressFamily(family)]
            found = self._bound.get(key((host, address[1])))
        return found if found is not None and found.state is State.LISTENING else None

    def _connected(self, client: Endpoint) -> None:
        if client.state is State.CONNECTING:
            client.state = State.CONNECTED
            self._touch(client)

    def _connect_failed(self, client: Endpoint, number: int) -> None:
        if client.state is State.CONNECTING:
            client.state = State.NEW
            self._break(client, number)

    def accept(self, fd: int) -> int:
        """Return the descriptor of the connection that has waited longest."""
        endpoint = self.sockets[fd]
        if endpoint.state is not State.LISTENING:
            return -errno.EINVAL
        if not endpoint.backlog:
            return -errno.EAGAIN
        failure = self._failure("accept")
        if failure:
            return failure
        accepted = self._install(endpoint.backlog[0])
        if accepted >= 0:
            endpoint.backlog.popleft()
        return accepted

    # -- bytes -----------------------------------------------------------------------

    def receive(self, fd: int, size: int) -> bytes | int:
        """Return up to *size* bytes, none for the end, or ``-errno``."""
        endpoint = self.sockets[fd]
        failure = self._failure("receive")
        if failure:
            return failure
        if endpoint.incoming:
            if self._short_bytes:
                size = min(size, self.random.randint(1, self._short_bytes))
            data = bytes(endpoint.incoming[:size])
            del endpoint.incoming[:size]
            if not endpoint.broken:
                self._pump(endpoint.peer)
            return data
        failure = self.receive_failure(fd)
        if failure:
            return failure
        if endpoint.end_arrived or endpoint.broken:
            return b""
        return -errno.EAGAIN if endpoint.state is State.CONNECTED else -errno.ENOTCONN

    def peek(self, fd: int) -> int:
        """Return 1 when a receive would find bytes or the end, 0 for nothing, else ``-errno``."""
        endpoint = self.sockets[fd]
        if endpoint.incoming:
            return 1
        failure = self.receive_failure(fd)
        if failure:
            return failure
        if endpoint.end_arrived or endpoint.broken:
            return 1
        return 0 if endpoint.state is State.CONNECTED else -errno.ENOTCONN

    def receive_failure(self, fd: int) -> int:
        """Return why nothing can be received any more, ``-errno``, or 0."""
        endpoint = self.sockets[fd]
        return self.connect_result(fd) if endpoint.error and not endpoint.incoming else 0

    def send(self, fd: int, data: bytes) -> int:
        """Take as many bytes of *data* as fit and return how many."""
        endpoint = self.sockets[fd]
        failure = self._failure("send") or self.send_failure(fd)
        if failure:
            return failure
        if endpoint.state is State.CONNECTING:
            return -errno.EAGAIN
        size = min(len(data), self._send_buffer_bytes - len(endpoint.outgoing))
        if size <= 0:
            return -errno.EAGAIN if data else 0
        if self._short_bytes:
            size = min(size, self.random.randint(1, self._short_bytes))
        endpoint.outgoing += data[:size]
        self._pump(endpoint)
        return size

    def send_failure(self, fd: int) -> int:
        """Return why nothing can be sent, ``-errno``, or 0."""
        endpoint = self.sockets[fd]
        if endpoint.error:
            return self.connect_result(fd)
        if endpoint.ended or endpoint.broken:
            return -errno.EPIPE
        return -errno.ENOTCONN if endpoint.state is State.NEW else 0

    def shut_down(self, fd: int) -> int:
        """End the sending direction: the peer reads an end after everything that was sent."""
        endpoint = self.sockets[fd]
        failure = self._failure("shutdown")
        if failure:
            return failure
        if endpoint.state is not State.CONNECTED or endpoint.broken:
            return -errno.ENOTCONN
        endpoint.ended = True
        self._pump(endpoint)
        self._touch(endpoint)
        return 0

    def readable(self, fd: int) -> bool:
        """Return whether a receive or an accept would not block."""
        end = self.sockets[fd]
        return bool(end.incoming or end.end_arrived or end.error or end.broken or end.backlog)

    def writable(self, fd: int) -> bool:
        """Return whether a send would not block, or a connect has ended."""
        end = self.sockets[fd]
        if end.error or end.broken:
            return True
        if end.state is not State.CONNECTED:
            return False
        return end.ended or len(end.outgoing) < self._send_buffer_bytes

    def _pump(self, endpoint: Endpoint) -> None:
        """Send on what the peer has room for, and the end after the last byte."""
        if endpoint.broken or endpoint._peer is None:
            return
        peer = endpoint.peer
        moved = False
        while endpoint.outgoing:
            room = self._receive_buffer_bytes - len(peer.incoming) - peer.in_flight
            if room <= 0 and peer.state is not State.CLOSED:
                break
            size = len(endpoint.outgoing)
            if peer.state is not State.CLOSED:
                size = min(size, room)
            if self._segment_bytes:
                size = min(size, self.random.randint(1, self._segment_bytes))
            data = bytes(endpoint.outgoing[:size])
            del endpoint.outgoing[:size]
            moved = True
            peer.in_flight += size
            self._towards(peer, lambda data=data: self._arrive(peer, data))  # type: ignore[misc]
        if endpoint.ended and not endpoint.end_sent and not endpoint.outgoing:
            endpoint.end_sent = True
            self._towards(peer, lambda: self._arrive_end(peer))
        if moved:
            self._touch(endpoint)

    def _arrive(self, endpoint: Endpoint, data: bytes) -> None:
        endpoint.in_flight -= len(data)
        if endpoint.broken:
            return
        if endpoint.state is State.CLOSED:
            self._send_reset(endpoint)
            return
        if endpoint.reset_after is not None:
            data = data[: endpoint.reset_after]
            endpoint.reset_after -= len(data)
        endpoint.incoming += data
        if endpoint.reset_after == 0:
            self._break(endpoint.peer, errno.ECONNRESET)
            self._break(endpoint, errno.ECONNRESET)
        self._touch(endpoint)

    def _arrive_end(self, endpoint: Endpoint) -> None:
        if not endpoint.broken:
            endpoint.end_arrived = True
            self._touch(endpoint)

    def _send_reset(self, endpoint: Endpoint) -> None:
        """Tell the peer of *endpoint* that nobody is there any more."""
        endpoint.broken = True
        endpoint.outgoing.clear()
        peer = endpoint.peer
        self._towards(peer, lambda: self._break(peer, errno.ECONNRESET))

    def _break(self, endpoint: Endpoint, number: int) -> None:
        if not endpoint.broken:
            endpoint.broken = True
            endpoint.error = number
            endpoint.outgoing.clear()
            self._touch(endpoint)

    def _touch(self, endpoint: Endpoint) -> None:
        if endpoint.fd >= 0:
            self.touched[endpoint] = None


CALLS = frozenset({"open", "bind", "connect", "accept", "receive", "send", "shutdown"})


def key(address: Address) -> Address:
    """What two addresses have in common when they are the same: host and port, or a path."""
    return (address[0], address[1]) if isinstance(address, tuple) else address

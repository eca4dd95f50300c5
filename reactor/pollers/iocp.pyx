"""The poller of Windows.

Some facts about I/O completion ports, and how they are used here:

* An operation is given to the system with memory, its OVERLAPPED, which must stay until a
  packet says that it is over, also after a cancel and after closesocket. So that memory is not
  the op's but a ticket's: tickets are the poller's, and one that the system does not give back
  is leaked at the end, never freed.
* With FILE_SKIP_COMPLETION_PORT_ON_SUCCESS an operation that succeeds at once sends no packet:
  a send to a socket with room costs no trip through the port.
* An operation ignores that its socket is non-blocking; recv and send without an OVERLAPPED do
  not. So an op with OP_NOWAIT is a plain call, and so is the receive that follows a zero-byte
  WSARecv, which waits for bytes without taking them and so without a block of the pool. That is
  *scale*; in *speed* a WSARecv that waits has a block, which saves the second call.
* A send without waiting takes whatever it is given, be it gigabytes, as long as there was any
  room: nobody would hear that the peer is slow. So it is given so much and no more; the rest
  goes by a WSASend that is over when the peer has made room.
* A handle belongs to one port from its first association to its end. It is associated when it
  first waits, not when it is attached: sockets that are only watched never are.
* Readiness is not something that a port tells. The driver behind Winsock (AFD) does, for any
  socket, through a handle of its own; select() is a call of it, and so is every event loop for
  Windows that has readiness.
* CancelIoEx asks; the packet tells. An operation that was over before is over with its result.
  A cancelled WSASend may have sent a part.
* Closing a socket whose operations are out ends them with odd statuses (more so under Wine):
  the contract has owners wait for their ops first.
* ConnectEx wants a bound socket and leaves one that knows neither its peer nor shutdown until
  SO_UPDATE_CONNECT_CONTEXT; AcceptEx wants the new socket beforehand.
* A refused connection on loopback takes Windows two seconds, in which it tries again.
* A wait counts milliseconds in ticks of up to 15.6: it may end late, and, as the clocks differ,
  a little early, which is waited for here.
* Handles are multiples of four, and low: the table of sockets is indexed by a quarter of them.
* signal.set_wakeup_fd wants a socket on Windows: a pair over loopback, one end polled.

Owns: the port, the tickets, the table of sockets.  May not touch: Python objects other than
through an op's owner count; call-backs.
Invariant: a ticket is in ``out`` exactly while the system may write to it.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport EAGAIN, EBADF, EEXIST, EINVAL, EMFILE, ENOBUFS, ENOMEM
from libc.stdint cimport UINT32_MAX, int64_t, intptr_t
from libc.string cimport memset

from reactor.addresses cimport ADDRESS_MAX, Address
from reactor.buffers cimport Vector, vector_set
from reactor.pollers.contract cimport (
    OP_ACCEPT, OP_CANCELLED, OP_CONNECT, OP_DONE, OP_IDLE, OP_NOWAIT, OP_PENDING,
    OP_READABLE, OP_RECEIVE, OP_SEND, OP_TRY, OP_WRITABLE, Op, OpList, OpOwner, OpState, Poller,
    hold, op_append, op_splice,
)
from reactor.pollers.table cimport make_entry
from reactor.pollers.winsock cimport (
    ADDRESS_ROOM, AFD_ABORT, AFD_ACCEPT, AFD_CONNECT_FAIL, AFD_DISCONNECT, AFD_LOCAL_CLOSE,
    AFD_RECEIVE, AFD_SEND, AcceptEx, CancelIoEx, CloseHandle, ConnectEx, CreateIoCompletionPort,
    DWORD, ERROR_INVALID_PARAMETER, ERROR_IO_PENDING, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS,
    FILE_SKIP_SET_EVENT_ON_HANDLE, GetLastError, GetQueuedCompletionStatusEx, HANDLE, INFINITE,
    INVALID_HANDLE_VALUE, INVALID_SOCKET, InterlockedExchange, MSG_PEEK, OUR_KEY,
    OVERLAPPED_ENTRY, PostQueuedCompletionStatus, SD_SEND, SOCKET, SOCK_STREAM, SOL_SOCKET,
    SO_UPDATE_CONNECT_CONTEXT, STATUS_PENDING, SetFileCompletionNotificationModes, ULONG,
    WAIT_TIMEOUT, WSAECONNRESET, WSAGetLastError, WSARecv, WSASend, WSA_IO_PENDING, accept, bind,
    bind_wildcard, closesocket, connect, counter_ns, errno_of, failure_of, getpeername,
    getsockname, is_stream, load_calls, open_afd, open_socket_handle, prepare_accepted, recv,
    recvfrom, replace_port, send, sendto, setsockopt, shutdown, sockaddr, start_poll,
    vectors_within,
)
from reactor.pool cimport BlockPool

import ctypes
import socket                           # which starts Winsock

cdef extern from "errno.h" nogil:
    enum:
        ECANCELED
        ECONNABORTED

cdef enum:
    BATCH = 256                 # packets fetched at once; 8 KiB
    LAST_SLOT = 1 << 22         # a process has no more handles than 16 million
    MAX_SPARE = 1024            # tickets that are kept; half a MiB
    LENT = 0x100                # an op's flag: it gave no buffer, and has none while it waits
    POSTED = 0x200              # an op's flag: it gave no buffer, and its ticket has a block
    AT_ONCE = 256 * 1024        # bytes that a send without waiting gives to the system
    CLOSE_MS = 5_000            # how long the system may take to give tickets back


cdef inline bint reads(const Op *op) noexcept nogil:
    return op.kind == OP_RECEIVE or op.kind == OP_ACCEPT or op.kind == OP_READABLE


cdef inline Py_ssize_t receive_now(Op *op) noexcept nogil:
    cdef int count = recv(<SOCKET>op.fd, op.buffer, <int>min(op.length, 0x7FFFFFFF), 0)
    return count if count >= 0 else -errno_of(WSAGetLastError())


cdef inline int gather(const Op *op, Vector *single, Vector **vectors) noexcept nogil:
    """Point *vectors* at what the op sends; return how many there are."""
    if op.vector_count:
        vectors[0] = op.vectors
        return op.vector_count
    vector_set(single, op.buffer, min(op.length, 0x7FFFFFFF))
    vectors[0] = single
    return 1


cdef inline Py_ssize_t send_now(const Op *op) noexcept nogil:
    cdef Vector single
    cdef Vector *vectors
    cdef DWORD count = 0
    cdef int vector_count = gather(op, &single, &vectors)
    vector_count = vectors_within(vectors, vector_count, AT_ONCE, &single)
    if vector_count == 0:
        vectors = &single
        vector_count = 1
    if WSASend(<SOCKET>op.fd, vectors, vector_count, &count, 0, NULL, NULL) == 0:
        return count
    return -errno_of(WSAGetLastError())


cdef object windows_error(DWORD error):
    return ctypes.WinError(error)


cdef class PacketTaker(OpOwner):
    def __cinit__(self):
        memset(&self.op, 0, sizeof(Op))

    cdef int op_done(self, Op *op) except -1:
        cdef list packets = self.packets
        self.packets = []
        for packet in packets:
            self.callback(*packet)
        return 0


cdef class IocpPoller(Poller):
    """I/O completion ports behind the completion contract.  Lends receives blocks of *pool*.

    With *posted* a receive that waits has its block already: speed, for a block a connection.

    Raises ``OSError`` when the system has no port, or no driver to poll sockets with.
    """

    def __cinit__(self, BlockPool pool not None, bint posted=False):
        cdef int error = load_calls()
        self.pool = pool
        self.posted = posted
        if error:
            raise windows_error(error)
        self.entries = <OVERLAPPED_ENTRY *>PyMem_RawMalloc(BATCH * sizeof(OVERLAPPED_ENTRY))
        if self.entries == NULL:
            raise MemoryError("no memory for the port's packets")
        self.port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1)
        if self.port == NULL:
            raise windows_error(GetLastError())
        self.afd = open_afd(self.port)
        if self.afd == NULL:
            raise OSError("the driver behind Winsock (AFD) cannot be opened")

    def __dealloc__(self):
        cdef Ticket *ticket
        if self.afd != NULL:
            CloseHandle(self.afd)
        if self.port != NULL:
            CloseHandle(self.port)
        while self.spare != NULL:
            ticket = self.spare
            self.spare = ticket.next
            PyMem_RawFree(ticket)
        PyMem_RawFree(self.slots)       # and whatever is still out stays
        PyMem_RawFree(self.entries)

    # -- ops -------------------------------------------------------------------------

    cdef OpState submit(self, Op *op) noexcept:
        op.flags &= ~(OP_CANCELLED | LENT | POSTED)
        if self.closed:
            op.result = -ECANCELED
            return OP_IDLE
        if op.flags & OP_NOWAIT:
            self.call_now(op)
            return OP_IDLE
        if op.flags & OP_TRY and self.call_now(op):
            return OP_IDLE
        if op.kind == OP_RECEIVE and op.buffer == NULL:
            op.flags |= POSTED if self.posted else LENT
        if self.park(op) < 0:
            return OP_IDLE
        if op.state == OP_IDLE and (op.kind == OP_SEND or op.kind == OP_CONNECT):
            return OP_IDLE              # done in line; what was the ticket's is the result
        hold(self, op)
        if op.state == OP_IDLE:         # done in line, which must not be seen before a wait
            op.state = OP_DONE
            op_append(&self.arrived, op)
        return OP_PENDING

    cdef void cancel(self, Op *op) noexcept:
        cdef Ticket *ticket = <Ticket *>op.detail
        if op.state == OP_PENDING:
            op.flags |= OP_CANCELLED
            CancelIoEx(ticket.handle, &ticket.overlapped)
        elif op.state == OP_DONE:
            if op.result > 0 and not op.flags & LENT:
                return                  # bytes that were taken
            if op.result == 0 and op.kind == OP_ACCEPT:
                return
            op.flags |= OP_CANCELLED
            op.result = -ECANCELED

    cdef int wait(self, int64_t timeout_ns, OpList *done) except -1:
        cdef int64_t now, until = 0
        cdef DWORD timeout_ms
        cdef int error
        if self.arrived.first != NULL:
            timeout_ns = 0
        if timeout_ns > 0:
            now = counter_ns()
            until = now + timeout_ns
            if until < now:
                timeout_ns = -1
        while True:
            if timeout_ns < 0:
                timeout_ms = INFINITE
            elif timeout_ns >= <int64_t>(UINT32_MAX - 1) * 1_000_000:
                timeout_ms = UINT32_MAX - 1
            else:
                timeout_ms = <DWORD>((timeout_ns + 999_999) // 1_000_000)
            error = self.reap(timeout_ms, done)
            if error == 0:
                break
            if error != WAIT_TIMEOUT:
                raise windows_error(error)
            if timeout_ns <= 0:
                break
            timeout_ns = until - counter_ns()
            if timeout_ns <= 0:
                break
        op_splice(done, &self.arrived)
        return 0

    cdef bint complete(self, Op *op) noexcept:
        if op.flags & OP_CANCELLED or not op.flags & LENT or op.result < 0:
            return True
        self.receive_block(op)
        if op.result != -EAGAIN:
            return True
        # Somebody else took the bytes: wait again.
        op.state = OP_IDLE
        if self.park(op) < 0:
            op.state = OP_DONE
            return True
        if op.state == OP_IDLE:
            op.state = OP_DONE
            op_append(&self.arrived, op)
        return False

    cdef void wake(self) noexcept nogil:
        if InterlockedExchange(&self.woken, 1) == 0:
            PostQueuedCompletionStatus(self.port, 0, 0, NULL)

    cdef intptr_t wakeup_fd(self) noexcept:
        cdef int error
        try:
            if self.wakers is None:
                near, far = socket.socketpair()
                near.setblocking(False)
                far.setblocking(False)
                self.wakers = (near, far)
                error = self.watch_wakers()
                if error < 0:
                    self.close_wakers()
                    return error
            return self.wakers[1].fileno()
        except OSError:
            return -EMFILE

    cdef int64_t now_ns(self) noexcept nogil:
        return counter_ns()

    cdef void close(self, OpList *done) noexcept:
        cdef Ticket *ticket
        cdef Op *op
        cdef int64_t until
        if self.closed:
            return
        self.closed = True
        ticket = self.out
        while ticket != NULL:
            if ticket.op != NULL:
                ticket.op.flags |= OP_CANCELLED
            CancelIoEx(ticket.handle, &ticket.overlapped)
            ticket = ticket.next
        until = counter_ns() + <int64_t>CLOSE_MS * 1_000_000
        while self.out != NULL and counter_ns() < until:
            if self.reap(100, done) not in (0, WAIT_TIMEOUT):
                break
        op_splice(done, &self.arrived)
        op = done.first
        while op != NULL:
            self.cancel(op)
            op = op.next
        self.close_wakers()
        CloseHandle(self.afd)
        CloseHandle(self.port)
        self.afd = self.port = NULL

    # -- descriptors -----------------------------------------------------------------

    cdef intptr_t open_socket(self, int family, int kind, int protocol) noexcept:
        cdef SOCKET opened = open_socket_handle(family, kind, protocol)
        cdef int error
        if opened == INVALID_SOCKET:
            return -errno_of(WSAGetLastError())
        error = self.attach(<intptr_t>opened, True)
        if error < 0:
            closesocket(opened)
            return error
        return <intptr_t>opened

    cdef int attach(self, intptr_t fd, bint fresh) noexcept:
        cdef int error = self.make_room(fd)
        if error == 0 and fresh:
            self.abandon(self.slot_of(fd))
        return error

    cdef void detach(self, intptr_t fd) noexcept:
        cdef Slot *slot = self.slot_of(fd)
        if slot != NULL:
            self.abandon(slot)

    cdef int close_fd(self, intptr_t fd) noexcept:
        cdef Slot *slot = self.slot_of(fd)
        if slot != NULL:
            self.abandon(slot)
            slot.known = False
        return -errno_of(WSAGetLastError()) if closesocket(<SOCKET>fd) else 0

    cdef int shut_down(self, intptr_t fd) noexcept:
        return -errno_of(WSAGetLastError()) if shutdown(<SOCKET>fd, SD_SEND) else 0

    cdef int peek(self, intptr_t fd) noexcept:
        cdef char byte
        cdef int error
        if recv(<SOCKET>fd, &byte, 1, MSG_PEEK) >= 0:
            return 1
        error = errno_of(WSAGetLastError())
        if error != EAGAIN:
            return -error
        return self.has_come(self.slot_of(fd))

    cdef bint has_come(self, Slot *slot) noexcept:
        """Whether the receive that waits on a socket is over, and its packet on its way.

        It has taken what came, if it has a block: nobody else would see those bytes.
        """
        if slot == NULL or slot.reader == NULL:
            return False
        return (<Ticket *>slot.reader.detail).overlapped.Internal != <size_t>STATUS_PENDING

    cdef int set_option(self, intptr_t fd, int level, int name, int value) noexcept:
        if setsockopt(<SOCKET>fd, level, name, <const char *>&value, sizeof(value)):
            return -errno_of(WSAGetLastError())
        return 0

    cdef int bind_socket(self, intptr_t fd, const void *address, int size) noexcept:
        if bind(<SOCKET>fd, <const sockaddr *>address, size):
            return -errno_of(WSAGetLastError())
        return 0

    cdef int address_of(self, intptr_t fd, bint peer, void *address, int size) noexcept:
        cdef int failed
        if peer:
            failed = getpeername(<SOCKET>fd, <sockaddr *>address, &size)
        else:
            failed = getsockname(<SOCKET>fd, <sockaddr *>address, &size)
        return -errno_of(WSAGetLastError()) if failed else size

    cdef Py_ssize_t receive_from(self, intptr_t fd, char *buffer, Py_ssize_t size,
                                 Address *sender) noexcept:
        cdef int count
        sender.size = ADDRESS_MAX
        count = recvfrom(<SOCKET>fd, buffer, <int>size, 0, <sockaddr *>sender.data, &sender.size)
        return count if count >= 0 else -errno_of(WSAGetLastError())

    cdef Py_ssize_t send_to(self, intptr_t fd, const char *data, Py_ssize_t size,
                            const Address *receiver) noexcept:
        cdef int count
        if receiver == NULL:
            count = send(<SOCKET>fd, data, <int>size, 0)
        else:
            count = sendto(<SOCKET>fd, data, <int>size, 0, <const sockaddr *>receiver.data,
                           receiver.size)
        return count if count >= 0 else -errno_of(WSAGetLastError())

    # -- the tables ------------------------------------------------------------------

    cdef Slot *slot_of(self, intptr_t fd) noexcept:
        """Return what is known of a socket, or NULL."""
        return &self.slots[fd >> 2] if 0 <= fd >> 2 < self.slot_count else NULL

    cdef int make_room(self, intptr_t fd) noexcept:
        """Let the table have a slot for *fd*; 0 or -errno."""
        cdef Py_ssize_t at = fd >> 2
        if at < 0 or at > LAST_SLOT:
            return -EBADF
        return make_entry(<void **>&self.slots, &self.slot_count, sizeof(Slot), at)

    cdef void abandon(self, Slot *slot) noexcept:
        """Forget a user of a number; what it has pending comes back cancelled."""
        if slot.reader != NULL:
            self.cancel(slot.reader)
            slot.reader = NULL
        if slot.writer != NULL:
            self.cancel(slot.writer)
            slot.writer = NULL
        slot.associated = slot.skips = False

    cdef Ticket *take_ticket(self, Op *op) noexcept:
        """Return a clean ticket for *op* that is not out yet, or NULL."""
        cdef Ticket *ticket = self.spare
        if ticket != NULL:
            self.spare = ticket.next
            self.spare_count -= 1
            memset(ticket, 0, sizeof(Ticket))
        else:
            ticket = <Ticket *>PyMem_RawCalloc(1, sizeof(Ticket))
            if ticket == NULL:
                return NULL
        ticket.op = op
        ticket.accepted = INVALID_SOCKET
        return ticket

    cdef void return_ticket(self, Ticket *ticket) noexcept:
        if self.spare_count >= MAX_SPARE:
            PyMem_RawFree(ticket)
            return
        ticket.next = self.spare
        self.spare = ticket
        self.spare_count += 1

    cdef int associate(self, Slot *slot, intptr_t fd) noexcept:
        """See that packets of *fd* come to our port; 0 or -errno."""
        cdef DWORD error
        if slot.associated:
            return 0
        if CreateIoCompletionPort(<HANDLE>fd, self.port, OUR_KEY, 0) == NULL:
            error = GetLastError()
            if error != <DWORD>ERROR_INVALID_PARAMETER:
                return -errno_of(error)
            # It has a port already: ours from before, or another loop's.
            if not slot.known and not replace_port(<HANDLE>fd, self.port):
                return -EINVAL
        slot.associated = slot.known = True
        slot.skips = SetFileCompletionNotificationModes(
            <HANDLE>fd, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE)
        return 0

    # -- beginning -------------------------------------------------------------------

    cdef bint call_now(self, Op *op) noexcept:
        """Make the op's call without waiting; true unless it would block (-EAGAIN)."""
        cdef SOCKET accepted
        if op.kind == OP_RECEIVE:
            if op.buffer != NULL:
                op.result = receive_now(op)
            else:
                self.receive_block(op)
        elif op.kind == OP_SEND:
            op.result = send_now(op)
        elif op.kind == OP_ACCEPT:
            accepted = accept(<SOCKET>op.fd, NULL, NULL)
            if accepted == INVALID_SOCKET:
                op.result = -errno_of(WSAGetLastError())
                if op.result == -WSAECONNRESET:
                    op.result = -ECONNABORTED
            else:
                self.take_accepted(op, accepted, False)
        else:
            op.result = -EAGAIN
        return op.result != -EAGAIN

    cdef void receive_block(self, Op *op) noexcept:
        """Receive into a block of the pool; it stays with the op only if data came."""
        cdef char *block = self.pool.acquire()
        if block == NULL:
            op.result = -ENOBUFS
            return
        op.buffer = block
        op.length = self.pool.block_size
        op.result = receive_now(op)
        if op.result <= 0:
            op.buffer = NULL
            self.pool.release(block)

    cdef void take_accepted(self, Op *op, SOCKET accepted, bint update) noexcept:
        cdef int error
        prepare_accepted(accepted, <SOCKET>op.fd, update)
        error = self.attach(<intptr_t>accepted, True)
        if error < 0:
            closesocket(accepted)
        op.result = error if error < 0 else <intptr_t>accepted

    cdef int park(self, Op *op) noexcept:
        """Give the op to the system; -1, with the reason as its result, when that fails.

        Afterwards it is PENDING, or still as it was: then it is done in line.
        """
        cdef Slot *slot
        cdef Ticket *ticket
        cdef DWORD count = 0
        cdef int begun
        op.result = self.make_room(op.fd)
        if op.result < 0:
            return -1
        slot = self.slot_of(op.fd)
        if (slot.reader if reads(op) else slot.writer) != NULL:
            op.result = -EEXIST
            return -1
        ticket = self.take_ticket(op)
        if ticket == NULL:
            op.result = -ENOMEM
            return -1
        begun = self.begin(slot, ticket, &count)
        if begun < 0:
            op.result = begun
            self.revoke(ticket)
            self.return_ticket(ticket)
            return -1
        if begun > 0:
            self.finish(ticket, False, count)
            self.return_ticket(ticket)
            return 0
        if reads(op):
            slot.reader = op
        else:
            slot.writer = op
        op.state = OP_PENDING
        op.detail = ticket
        self.put_out(ticket)
        return 0

    cdef void put_out(self, Ticket *ticket) noexcept:
        ticket.next = self.out
        if self.out != NULL:
            self.out.before = ticket
        self.out = ticket

    cdef int begin(self, Slot *slot, Ticket *ticket, DWORD *count) noexcept:
        """Make the call: 1 when it is over, 0 when a packet will come, -errno."""
        cdef Op *op = ticket.op
        cdef SOCKET fd = <SOCKET>op.fd
        cdef Vector single
        cdef Vector *vectors
        cdef ULONG flags
        cdef int error, vector_count
        if op.kind == OP_READABLE or op.kind == OP_WRITABLE:
            ticket.handle = self.afd
            flags = AFD_LOCAL_CLOSE | AFD_ABORT
            if op.kind == OP_READABLE:
                flags |= AFD_RECEIVE | AFD_DISCONNECT | AFD_ACCEPT
            else:
                flags |= AFD_SEND | AFD_CONNECT_FAIL
            error = start_poll(self.afd, fd, flags, &ticket.poll, &ticket.overlapped)
            return -errno_of(error) if error else 0
        ticket.handle = <HANDLE>op.fd
        error = self.associate(slot, op.fd)
        if error < 0:
            return error
        if op.kind == OP_RECEIVE:
            error = self.begin_receive(ticket, count)
            if error == -ENOBUFS:
                return error
        elif op.kind == OP_SEND:
            vector_count = gather(op, &single, &vectors)
            error = WSASend(fd, vectors, vector_count, count, 0, &ticket.overlapped, NULL)
        elif op.kind == OP_ACCEPT:
            error = self.begin_accept(ticket, count)
        elif is_stream(fd):
            error = self.begin_connect(ticket, count)
        elif connect(fd, <const sockaddr *>op.buffer, <int>op.length) == 0:
            return 1
        else:
            return -errno_of(WSAGetLastError())
        if error == 0:
            return 1 if slot.skips else 0
        error = WSAGetLastError()
        if error == WSA_IO_PENDING or error == ERROR_IO_PENDING:
            return 0
        return -errno_of(error)

    cdef int begin_receive(self, Ticket *ticket, DWORD *count) noexcept:
        """WSARecv; 0, -1 with an error to be asked for, or -ENOBUFS."""
        cdef Op *op = ticket.op
        cdef Vector single
        cdef DWORD flags = 0
        if op.flags & POSTED:
            ticket.block = self.pool.acquire()
            if ticket.block == NULL:
                return -ENOBUFS
            vector_set(&single, ticket.block, self.pool.block_size)
        elif op.flags & LENT:
            vector_set(&single, <char *>ticket.addresses, 0)
        else:
            vector_set(&single, op.buffer, min(op.length, 0x7FFFFFFF))
        return WSARecv(<SOCKET>op.fd, &single, 1, count, &flags, &ticket.overlapped, NULL)

    cdef int begin_accept(self, Ticket *ticket, DWORD *count) noexcept:
        """AcceptEx; 0, or -1 with an error to be asked for."""
        cdef char address[ADDRESS_ROOM]
        cdef int size = sizeof(address)
        cdef SOCKET fd = <SOCKET>ticket.op.fd
        if getsockname(fd, <sockaddr *>address, &size):
            return -1
        ticket.accepted = open_socket_handle((<sockaddr *>address).sa_family, SOCK_STREAM, 0)
        if ticket.accepted == INVALID_SOCKET:
            return -1
        return 0 if AcceptEx(fd, ticket.accepted, ticket.addresses, 0, ADDRESS_ROOM,
                             ADDRESS_ROOM, count, &ticket.overlapped) else -1

    cdef int begin_connect(self, Ticket *ticket, DWORD *count) noexcept:
        """ConnectEx; 0, or -1 with an error to be asked for."""
        cdef Op *op = ticket.op
        cdef const sockaddr *address = <const sockaddr *>op.buffer
        bind_wildcard(<SOCKET>op.fd, address.sa_family)
        return 0 if ConnectEx(<SOCKET>op.fd, address, <int>op.length, NULL, 0, count,
                              &ticket.overlapped) else -1

    # -- ending ----------------------------------------------------------------------

    cdef void revoke(self, Ticket *ticket) noexcept:
        """Let go of what a ticket has that is not its op's."""
        if ticket.accepted != INVALID_SOCKET:
            closesocket(ticket.accepted)
        if ticket.block != NULL:
            self.pool.release(ticket.block)

    cdef void finish(self, Ticket *ticket, bint failed, DWORD count) noexcept:
        """Write the result of what a ticket was for into its op."""
        cdef Op *op = ticket.op
        cdef bint cancelled = op.flags & OP_CANCELLED
        if failed:
            op.result = -failure_of(<SOCKET>op.fd, &ticket.overlapped)
            if op.kind == OP_SEND and cancelled and count > 0:
                op.result = count               # a part went out
                op.flags &= ~OP_CANCELLED
            elif cancelled:
                op.result = -ECANCELED
            elif op.kind == OP_ACCEPT and op.result == -WSAECONNRESET:
                op.result = -ECONNABORTED
            self.revoke(ticket)
            return
        if op.kind == OP_ACCEPT:
            self.take_accepted(op, ticket.accepted, True)
        elif op.kind == OP_RECEIVE or op.kind == OP_SEND:
            op.result = count
            if count and ticket.block != NULL:
                op.buffer = ticket.block        # lent
                op.length = self.pool.block_size
            else:
                self.revoke(ticket)
        elif op.kind == OP_CONNECT:
            setsockopt(<SOCKET>op.fd, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0)
            op.result = 0
        elif ticket.poll.events & AFD_LOCAL_CLOSE:
            op.result = -ECANCELED              # somebody closed it
        else:
            op.result = 0
        if cancelled:
            if op.kind == OP_ACCEPT or (op.result > 0 and not op.flags & LENT):
                op.flags &= ~OP_CANCELLED       # it was over before: its result stands
            else:
                op.result = -ECANCELED

    cdef void came_back(self, Ticket *ticket, OpList *done) noexcept:
        """The system is through with a ticket."""
        cdef Op *op = ticket.op
        cdef Slot *slot
        if ticket.before != NULL:
            ticket.before.next = ticket.next
        else:
            self.out = ticket.next
        if ticket.next != NULL:
            ticket.next.before = ticket.before
        if op == NULL:
            self.drain_wakers()
        else:
            slot = self.slot_of(op.fd)
            if slot.reader == op:
                slot.reader = NULL
            elif slot.writer == op:
                slot.writer = NULL
            # Internal holds an NTSTATUS, whose sign says that it failed.
            self.finish(ticket, <int>ticket.overlapped.Internal < 0,
                        <DWORD>ticket.overlapped.InternalHigh)
            op.state = OP_DONE
            op.detail = NULL
            op_append(done, op)
        self.return_ticket(ticket)

    cdef int reap(self, DWORD timeout_ms, OpList *done) noexcept:
        """Wait for packets; 0, or the error of Windows, of which WAIT_TIMEOUT is one."""
        cdef ULONG count = 0
        cdef ULONG at
        cdef int error = 0
        cdef OVERLAPPED_ENTRY *entries = self.entries
        cdef HANDLE port = self.port
        if timeout_ms == 0:
            if not GetQueuedCompletionStatusEx(port, entries, BATCH, &count, 0, False):
                error = <int>GetLastError()
        else:
            with nogil:
                if not GetQueuedCompletionStatusEx(port, entries, BATCH, &count, timeout_ms,
                                                   False):
                    error = <int>GetLastError()
        if error:
            return error
        for at in range(count):
            if entries[at].lpCompletionKey == OUR_KEY:
                self.came_back(<Ticket *>entries[at].lpOverlapped, done)
            elif entries[at].lpOverlapped == NULL:
                InterlockedExchange(&self.woken, 0)
            elif self.taker is not None:
                self.taker.packets.append((
                    entries[at].dwNumberOfBytesTransferred, entries[at].lpCompletionKey,
                    <size_t>entries[at].lpOverlapped,
                ))
                if self.taker.op.state == OP_IDLE:
                    hold(self, &self.taker.op)
                    self.taker.op.state = OP_DONE
                    op_append(done, &self.taker.op)
        return 0

    # -- who shares the port ------------------------------------------------------------

    def share_port(self, callback):
        """Return the port's handle, for asyncio's proactor.

        *callback(bytes, key, address)* is called from the loop for each packet that is not of
        one of the poller's own operations; *address* is that of its OVERLAPPED.
        """
        cdef PacketTaker taker = PacketTaker.__new__(PacketTaker)
        taker.callback = callback
        taker.packets = []
        taker.op.owner = <void *>taker
        taker.op.fd = -1
        self.taker = taker
        return <size_t>self.port

    def take_packets(self, double timeout):
        """Wait *timeout* seconds for packets and return those that are not the poller's.

        For a loop that closes: ops that are done meanwhile come with the poller's next wait.
        """
        cdef list packets
        self.reap(<DWORD>(timeout * 1000), &self.arrived)
        packets, self.taker.packets = self.taker.packets, []
        return packets

    # -- signals ---------------------------------------------------------------------

    cdef int watch_wakers(self) noexcept:
        """Poll the near one of the wake-up sockets; 0 or -errno."""
        cdef Ticket *ticket = self.take_ticket(NULL)
        cdef int error
        if ticket == NULL:
            return -ENOMEM
        ticket.handle = self.afd
        error = start_poll(self.afd, <SOCKET><intptr_t>self.wakers[0].fileno(), AFD_RECEIVE,
                           &ticket.poll, &ticket.overlapped)
        if error:
            self.return_ticket(ticket)
            return -errno_of(error)
        self.put_out(ticket)
        return 0

    cdef void close_wakers(self) noexcept:
        if self.wakers is not None:
            self.wakers[0].close()
            self.wakers[1].close()
            self.wakers = None

    cdef void drain_wakers(self) noexcept:
        cdef char taken[64]             # what is left ends the next wait as well
        if self.wakers is None or self.closed:
            return
        recv(<SOCKET><intptr_t>self.wakers[0].fileno(), taken, sizeof(taken), 0)
        self.watch_wakers()

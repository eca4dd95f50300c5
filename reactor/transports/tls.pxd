"""TLS over a transport; its C face."""

from libc.stdint cimport int64_t

from reactor.buffers cimport WriteQueue
from reactor.core cimport Reactor
from reactor.protocol cimport Protocol
from reactor.timers cimport Timer, TimerHeap
from reactor.transports.stream cimport StreamTransport
from reactor.transports.tls_engine cimport DirectEngine, TLSEngine
from reactor.transports.transport cimport Transport


cdef enum TLSState:
    TLS_NEW                         # no transport below yet
    TLS_HANDSHAKING
    TLS_OPEN                        # both directions
    TLS_FLUSHING                    # close: what was written is still being sent
    TLS_NOTIFIED                    # our close_notify is sent, the peer's awaited
    TLS_ENDED                       # done with TLS; the transport below closes
    TLS_LOST                        # the transport below is gone


cdef enum TLSReading:
    TLS_READ_ON
    TLS_READ_PAUSED                 # by the application
    TLS_READ_ENDED                  # the peer's close_notify was read


cdef class TLSTransport(Transport):
    """What the application sees."""

    cdef TLSProtocol tls            # None once lost
    cdef object lower               # the transport below; None before there is one


cdef class TLSProtocol(Protocol):
    """What the transport below sees."""

    cdef readonly TLSTransport app_transport
    cdef Reactor loop
    cdef TLSState state
    cdef TLSReading reading
    cdef bint lower_ended           # the transport below read the peer's end
    cdef bint lower_paused          # it is above its high-water mark
    cdef bint corked                # what is sealed now leaves when the call-back is over
    cdef bint owes_lost             # connection_made was called, connection_lost is due
    cdef bint server_side
    cdef bint strict_end            # an end without close_notify is an error
    cdef object lower               # the transport below; None before and after
    cdef StreamTransport stream     # the same, when it is one
    cdef object sslcontext
    cdef TLSEngine engine
    cdef readonly bint direct       # it is a DirectEngine
    cdef WriteQueue backlog         # plaintext to be sealed later; None until first needed
    cdef object error               # what connection_lost will be told
    cdef object waiter              # a future to be done after the handshake, or None
    cdef TimerHeap timers           # the reactor's
    cdef Timer timer                # the handshake's deadline, then the shutdown's
    cdef int64_t handshake_timeout_ns
    cdef int64_t shutdown_timeout_ns

    # -- from the transport above ------------------------------------------------------
    # Seal and send size bytes at start, which belong to the bytes object data or to nobody.
    cdef int write(self, object data, const char *start, Py_ssize_t size) except -1
    cdef int close(self) except -1
    cdef int abort_with(self, object error) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef Py_ssize_t waiting(self) noexcept
    cdef Py_ssize_t queued_bytes(self) noexcept
    cdef object fact(self, str name)

    cdef int enter(self, TLSState state) except -1
    cdef str shown(self)
    cdef int arm(self, int64_t timeout_ns) except -1
    cdef int timed_out(self) except -1
    cdef int handshake(self) except -1
    cdef int handshake_done(self) except -1
    cdef int wake_waiter(self, object error) except -1

    cdef int receive(self, const char **data, Py_ssize_t *size) except -1
    cdef int receive_objects(self, DirectEngine engine) except -1
    cdef int receive_into_buffers(self, const char **data, Py_ssize_t *size) except -1
    cdef int keep_unread(self, const char *data, Py_ssize_t size) except -1
    cdef int receive_no_more(self, const char **data, Py_ssize_t *size) except -1
    cdef int discard(self) except -1
    cdef int peer_ended(self) except -1
    cdef int truncated(self) except -1

    cdef Py_ssize_t seal(self, object data, const char *start, Py_ssize_t size) except -1
    cdef int keep(self, object data, const char *start, Py_ssize_t size) except -1
    cdef int send_backlog(self) except -1
    cdef int send_sealed(self) except -1
    cdef int send_output(self, DirectEngine engine) except -1   # from where OpenSSL wrote it
    cdef int check_water(self) except -1
    cdef int match_lower_limits(self) except -1

    cdef int notify(self) except -1
    cdef int finish(self) except -1
    cdef int fail_with(self, object error) except -1

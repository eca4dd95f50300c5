"""Sessions of TLS that may be resumed; their C face."""

from libc.stdint cimport int64_t

from reactor.core cimport Reactor
from reactor.transports.openssl cimport Trust


cdef class TLSSession:
    """A session, and what was verified when it was made."""

    cdef void *session              # SSL_SESSION
    cdef Trust trust
    cdef bint is_ticket             # of TLS 1.3: it serves once
    cdef int64_t ends_ns            # on the loop's clock


cdef class TLSSessions:
    """The sessions of one connection manager."""

    cdef readonly Py_ssize_t limit
    cdef readonly int64_t handshakes
    cdef readonly int64_t resumed
    cdef object kept                # key to list of TLSSession; the peer last used is the last
    cdef Py_ssize_t count

    cdef TLSSession find(self, object key, Trust *trust, int64_t now_ns)
    cdef int add(self, object key, TLSSession session) except -1
    cdef int drop(self, object key, TLSSession session) except -1


cdef class Resumption:
    """What one connection, not yet made, has to do with the sessions of its peer."""

    cdef TLSSessions sessions
    cdef object key
    cdef Reactor loop
    cdef Trust trust
    cdef TLSSession offered         # or None
    cdef bint is_done               # the handshake is
    cdef int looks                  # that will still be taken for a ticket

    # Before the handshake: offer the SSL object a session.
    cdef int begin(self, void *connection) except -1
    # The handshake is over; connection is NULL where nobody knows it. Then it has failed.
    cdef int done(self, void *connection) except -1
    cdef int failed(self) except -1
    # The connection is lost: in its handshake, maybe.
    cdef int lost(self) except -1
    # Something was read: keep the session that may have come. Whether none is to be looked for
    # any longer.
    cdef bint look(self, void *connection) except -1


# Whether a context is of ssl's own class, so that no method of a user's looks at what it is given.
cdef bint is_plain(object sslcontext) noexcept

"""One end of TLS without a transport: bytes in, bytes out; its C face."""

from reactor.transports.openssl cimport Wire
from reactor.transports.records cimport RecordCounter
from reactor.transports.tls_sessions cimport Resumption

cdef enum:
    # What one full record of TLS 1.3 takes. Feeding no more at a time keeps the incoming BIO,
    # which never shrinks, at its size.
    FEED_BYTES = 16_384 + 256 + 5
    PIECE_BYTES = 16_384                # sealed by one call, into one record
    # From so much on, what is received is opened into the objects that a protocol is given.
    # Below, a copy is cheaper; a larger object than six records leaves the processor's nearer
    # caches (decision 13), and malloc would map memory for it.
    LARGE_FROM = 8_192
    OBJECT_BYTES = 6 * 16_384

# What open_record returns beside a number of bytes.
cdef enum:
    RECORD_NONE = -1                    # no record with data is whole
    RECORD_END = -2                     # close_notify
    RECORD_BAD = -3                     # take_failure() says why


cdef class Window:
    """Lends a piece of memory to a call that wants a bytes-like object."""

    cdef char *start
    cdef Py_ssize_t size


cdef class TLSEngine:
    cdef object ssl_object          # ssl.SSLObject
    cdef object session             # the C object that it wraps
    cdef object incoming            # ssl.MemoryBIO: bytes from the peer
    cdef object outgoing            # ssl.MemoryBIO: bytes for the peer
    cdef Window window
    cdef RecordCounter records
    cdef Py_ssize_t unread          # whole records in incoming, or more than there are
    cdef Py_ssize_t sealed          # bytes of plaintext in outgoing, or 1 for what is none
    cdef list pieces                # what was collected from outgoing, or None
    cdef Py_ssize_t collected       # bytes in pieces
    cdef object failure             # found while reading; what was read before comes first
    cdef Resumption resumption      # while there is something to do for it, or None

    # True once the handshake is done, false when it waits for the peer; raises when it fails.
    cdef bint handshake(self) except -1
    # The connection is lost.
    cdef int lost(self) except -1
    # Take bytes from the peer, at best no more than FEED_BYTES.
    cdef int feed(self, const char *data, Py_ssize_t size) except -1
    # Take up to FEED_BYTES from the front of what data and size name.
    cdef int feed_part(self, const char **data, Py_ssize_t *size) except -1
    # The bytes that were fed need not last beyond this call.
    cdef int settle(self) except -1
    # Decrypt one record into the room bytes there, which must be more than RECORD_PLAIN_MAX.
    cdef Py_ssize_t open_record(self, char *into, Py_ssize_t room) except -4
    cdef object take_failure(self)
    # Seal size bytes at start, at most PIECE_BYTES, which belong to the bytes object data or
    # to nobody. The number that was sealed, maybe fewer; 0 when none can be now: offer the
    # same ones again later.
    cdef Py_ssize_t seal(self, object data, const char *start, Py_ssize_t size) except -1
    # Make a close_notify.
    cdef int notify(self) except -1
    # Empty the outgoing BIO into pieces.
    cdef int collect(self) except -1
    # What is ready for the peer and in one piece, or empty; only while nothing is collected.
    cdef bytes take(self)
    # What is ready for the peer, if some was collected.
    cdef list take_pieces(self)
    # For get_extra_info, after the handshake.
    cdef object fact(self, str name)


cdef class DirectEngine(TLSEngine):
    """The same without MemoryBIOs: ``collected`` says how much is at wire.output."""

    cdef Wire wire
    cdef void *ssl                  # the SSL object beneath session, or NULL
    cdef void *bio                  # ours
    cdef bint is_client
    cdef bint ended                 # close_notify was read: what follows is dropped
    cdef bint resumes               # its session may be kept
    cdef bint broken                # the handshake or a record was bad

    # Open whole records of what was fed into one bytes object of OBJECT_BYTES at most; None
    # where there is none. While unread is not 0 there is more: an end, a failure, or a record.
    cdef bytes open_object(self)
    cdef int look_for_session(self) except -1


# The better one of the two that can be had. A session is an ssl.SSLSession, a Resumption, or None.
cdef TLSEngine new_engine(object sslcontext, bint server_side, object server_hostname,
                          object session)


# Whether there may be something for the peer.
cdef inline bint has_output(TLSEngine engine) noexcept:
    return engine.sealed != 0 or engine.collected != 0

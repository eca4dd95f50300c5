"""One end of TLS without a transport, over the standard library's ``ssl``.

Two kinds.  ``TLSEngine`` is on ``ssl``'s own surface alone: bytes from the peer go into a
memory BIO, and OpenSSL is asked for plaintext once the headers say that a record is whole
(``reactor.transports.records``): a read that finds none costs an exception.  Plaintext is
sealed record by record into a second BIO.  Both BIOs keep their largest size for as long as
they live, so neither is let grow much beyond one record.

``DirectEngine`` is the faster one, where OpenSSL's functions can be called
(``reactor.transports.openssl``): it reads records from where they were received and writes
them to where they are sent from.

Owns: the SSL object and its BIOs.  May not touch: transports, protocols, clocks; the
layout of ``_ssl``'s objects.
Invariant: while ``unread`` is 0, no whole record is left to be read.
"""

cimport cython

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.limits cimport INT_MAX
from libc.string cimport memset

from reactor.transports.openssl cimport (
    DIRECT_END, DIRECT_WANT_READ, available, begin_capture, end_capture, end_quietly,
    feed_wire, free_buffers, free_wire, lend_output, make_output_room, openssl_error, plug_in,
    read_plain, settle_wire, unplug, write_plain,
)
from reactor.transports.records cimport count_records, partial_record
from reactor.transports.tls_chains cimport share_chain
from reactor.transports.tls_sessions cimport Resumption, is_plain

import ssl

cdef object WantRead = ssl.SSLWantReadError
cdef object ZeroReturn = ssl.SSLZeroReturnError
cdef extern from "Python.h":
    # as pointers: a bytes object may be written to and cut while nobody else knows it
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    char *bytes_start "PyBytes_AS_STRING"(PyObject *data)
    int resize_bytes "_PyBytes_Resize"(PyObject **data, Py_ssize_t size) except -1
    void Py_XDECREF(PyObject *value)

cdef enum:
    SEALED_MORE = 512                   # what a record is longer than its plaintext, and more
    OPENED_MORE = 128                   # the same of one that is not padded, at most
    LABEL_BYTES = 63                    # of a name, between two dots, at most

cdef object ALL = 1 << 30               # more than any window has: read what fits


cdef class Window:
    """The buffer protocol over memory that is somebody else's; for one call at a time."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.start == NULL:
            raise BufferError("nothing is lent")
        PyBuffer_FillInfo(view, self, self.start, self.size, False, flags)


cdef object encoded(object sslcontext, object name):
    """Return a name as bytes where IDNA (RFC 3490) would leave it as it is, else as it is.

    ``ssl`` takes both, and encodes text with Python's codec, which takes its time.  A class of
    a user's may look at the name, which is text.
    """
    if (is_plain(sslcontext) and type(name) is str and (<str>name).isascii()
            and 0 < len(<str>name) <= LABEL_BYTES and ".." not in name
            and not (<str>name).startswith(".")):
        return (<str>name).encode("ascii")
    return name


cdef class TLSEngine:
    """One end of TLS; its arguments are those of ``ssl.SSLContext.wrap_bio``."""

    def __cinit__(self, sslcontext, bint server_side, server_hostname, session):
        memset(&self.records, 0, sizeof(self.records))
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.ssl_object = sslcontext.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=encoded(sslcontext, server_hostname), session=session)
        # SSLObject.read and write only hand on to this one; a Python frame for each is a
        # tenth of what a small record costs.
        self.session = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self.window = Window.__new__(Window)

    cdef bint handshake(self) except -1:
        self.sealed = 1
        try:
            self.ssl_object.do_handshake()
        except WantRead:
            self.unread = 0
            return False
        if self.incoming.pending <= partial_record(&self.records):
            self.unread = 0
        if self.resumption is not None:
            self.resumption.done(NULL)
            self.resumption = None
        return True

    cdef int lost(self) except -1:
        if self.resumption is not None:
            self.resumption.lost()
        return 0

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        self.unread += count_records(&self.records, data, size)
        self.window.start = <char *>data
        self.window.size = size
        try:
            self.incoming.write(self.window)
        finally:
            self.window.start = NULL
        return 0

    cdef int settle(self) except -1:
        return 0                        # feed made a copy

    cdef int feed_part(self, const char **data, Py_ssize_t *size) except -1:
        cdef Py_ssize_t part = min(size[0], <Py_ssize_t>FEED_BYTES)
        self.feed(data[0], part)
        data[0] += part
        size[0] -= part
        return 0

    cdef Py_ssize_t open_record(self, char *into, Py_ssize_t room) except -4:
        cdef Py_ssize_t count
        if self.failure is not None:
            return RECORD_BAD
        self.window.start = into
        self.window.size = room
        try:
            count = self.session.read(ALL, self.window)
        except WantRead:
            # what was there had no data in it: a ticket, a key update, an empty record;
            # OpenSSL may have answered
            self.unread = 0
            if self.outgoing.pending:
                self.sealed += 1
            return RECORD_NONE
        except ZeroReturn:
            return RECORD_END           # the peer's close_notify, after ours
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.failure = error
            self.sealed += 1            # an alert, maybe
            return RECORD_BAD
        finally:
            self.window.start = NULL
        if count == 0:
            return RECORD_END
        if count < room:
            self.unread -= 1            # else there may be more of it
        return count

    cdef object take_failure(self):
        cdef object failure = self.failure
        self.failure = None
        return failure

    cdef Py_ssize_t seal(self, object data, const char *start, Py_ssize_t size) except -1:
        cdef object plain = data
        cdef Py_ssize_t count
        if self.sealed and self.sealed + size > PIECE_BYTES:
            self.collect()
        if data is None or PyBytes_GET_SIZE(data) != size:
            plain = self.window
            self.window.start = <char *>start
            self.window.size = size
        try:
            count = self.session.write(plain)
            self.sealed += count
            return count
        except WantRead:
            self.sealed += 1            # a renegotiation
            return 0
        finally:
            self.window.start = NULL

    cdef int notify(self) except -1:
        self.sealed += 1
        try:
            self.ssl_object.unwrap()
        except ssl.SSLError:
            pass                        # the peer's is not here yet
        return 0

    cdef int collect(self) except -1:
        cdef bytes chunk = <bytes>self.outgoing.read()
        self.collected += PyBytes_GET_SIZE(chunk)
        self.sealed = 0
        if self.pieces is None:
            self.pieces = []
        self.pieces.append(chunk)
        return 0

    cdef bytes take(self):
        self.sealed = 0
        return <bytes>self.outgoing.read()

    cdef list take_pieces(self):
        cdef list pieces
        if self.sealed:
            self.collect()
        pieces = self.pieces
        self.pieces = None
        self.collected = 0
        return pieces

    cdef object fact(self, str name):
        if name == "ssl_object":
            return self.ssl_object
        if name == "peercert":
            return self.ssl_object.getpeercert()
        if name == "cipher":
            return self.ssl_object.cipher()
        if name == "compression":
            return self.ssl_object.compression()
        return None


# No tp_clear: the SSL object must still be there while the wire is.
@cython.no_gc_clear
cdef class DirectEngine(TLSEngine):
    """One end of TLS whose records do not pass through Python."""

    def __dealloc__(self):
        if self.bio != NULL:
            if self.resumes and not self.broken:
                end_quietly(self.ssl)
            unplug(self.bio)            # the SSL object may be somebody else's, too
        free_wire(&self.wire)

    cdef bint handshake(self) except -1:
        try:
            self.ssl_object.do_handshake()
        except WantRead:
            return False
        except BaseException:
            self.broken = True
            if self.resumption is not None:
                self.resumption.failed()
            raise
        finally:
            self.unread = self.wire.input_size > 0
            self.collected = self.wire.output_size
        if self.is_client:
            share_chain(self.ssl)
        if self.resumption is not None:
            self.resumption.done(self.ssl)
            self.look_for_session()     # of TLS 1.2, which has come with the handshake
        return True

    cdef int look_for_session(self) except -1:
        if self.resumption.look(self.ssl):
            self.resumption = None
        return 0

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        if self.ended or size == 0:
            return 0
        count_records(&self.records, data, size)
        if feed_wire(&self.wire, data, size) < 0:
            raise MemoryError("no memory for what came over TLS")
        self.unread = 1
        return 0

    cdef int settle(self) except -1:
        if settle_wire(&self.wire) < 0:
            self.wire.input_size = 0    # which the next record's failure to open tells
            raise MemoryError("no memory for what came over TLS")
        return 0

    cdef int feed_part(self, const char **data, Py_ssize_t *size) except -1:
        cdef Py_ssize_t whole = size[0]
        size[0] = 0
        return self.feed(data[0], whole)

    cdef Py_ssize_t open_record(self, char *into, Py_ssize_t room) except -4:
        cdef Py_ssize_t count
        cdef Py_ssize_t size = self.wire.input_size
        if self.failure is not None:
            return RECORD_BAD
        count = read_plain(self.ssl, into, <int>min(room, <Py_ssize_t>INT_MAX))
        self.collected = self.wire.output_size
        if self.resumption is not None:
            self.look_for_session()
        if count > 0:
            if count < room:            # else there may be more of it
                self.unread = self.wire.input_size > 0
                if size - self.wire.input_size > count + OPENED_MORE:
                    free_buffers(self.ssl)      # a ticket came before it, most likely
            return count
        if count == -DIRECT_WANT_READ:
            self.unread = 0
            if partial_record(&self.records) == 0:
                free_buffers(self.ssl)  # as what was read had no data in it
            return RECORD_NONE
        if count == -DIRECT_END:
            self.ended = True
            self.wire.input_size = 0
            return RECORD_END
        self.failure = openssl_error()
        self.broken = True
        return RECORD_BAD

    cdef bytes open_object(self):
        # Plaintext is shorter than the records that carry it, and to cut it moves nothing.
        cdef Py_ssize_t room = min(self.wire.input_size + partial_record(&self.records),
                                   <Py_ssize_t>OBJECT_BYTES)
        cdef Py_ssize_t filled = 0
        cdef Py_ssize_t count
        cdef PyObject *plain = new_bytes(NULL, room)
        try:
            while self.unread and filled < room:
                count = self.open_record(bytes_start(plain) + filled, room - filled)
                if count < 0:
                    break               # an end or a failure is found again
                filled += count
            if filled:
                resize_bytes(&plain, filled)
                return <bytes>plain
        finally:
            Py_XDECREF(plain)           # what is returned has a reference of its own
        return None

    cdef Py_ssize_t seal(self, object data, const char *start, Py_ssize_t size) except -1:
        cdef int count
        lend_output(&self.wire)
        if make_output_room(&self.wire, size + SEALED_MORE) < 0:
            raise MemoryError("no memory for what goes out over TLS")
        count = write_plain(self.ssl, start, <int>size)
        self.collected = self.wire.output_size
        if count >= 0:
            return count
        if count == -DIRECT_WANT_READ:
            return 0                    # a renegotiation
        raise openssl_error()

    cdef int notify(self) except -1:
        TLSEngine.notify(self)
        self.sealed = 0
        self.collected = self.wire.output_size
        return 0


cdef TLSEngine new_engine(object sslcontext, bint server_side, object server_hostname,
                          object session):
    cdef DirectEngine direct
    cdef TLSEngine engine
    cdef Resumption resumption = None
    cdef void *captured
    if isinstance(session, Resumption):
        resumption = session
        session = None
    # What a call-back of these raises is kept for _ssl's own functions to find.
    if (available() and getattr(sslcontext, "_msg_callback", None) is None
            and not getattr(sslcontext, "post_handshake_auth", False)):
        begin_capture()
        try:
            direct = DirectEngine.__new__(DirectEngine, sslcontext, server_side,
                                          server_hostname, session)
        finally:
            captured = end_capture()
        if captured != NULL:
            direct.ssl = captured
            direct.is_client = not server_side
            direct.bio = plug_in(captured, &direct.wire)
            if direct.bio != NULL:
                direct.incoming = direct.outgoing = None
                if resumption is not None:
                    direct.resumes = True
                    direct.resumption = resumption
                    resumption.begin(captured)
                return direct
    engine = TLSEngine.__new__(TLSEngine, sslcontext, server_side, server_hostname, session)
    engine.resumption = resumption
    return engine

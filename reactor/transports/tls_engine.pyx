"""One end of TLS without a transport, over the standard library's ``ssl``.

Bytes from the peer go into a memory BIO, and OpenSSL is asked for plaintext once the headers
say that a record is whole (``reactor.transports.records``): a read that finds none costs an
exception.  Plaintext is sealed record by record into a second BIO.  Both BIOs keep their
largest size for as long as they live, so neither is let grow much beyond one record.

Owns: the SSL object and its two BIOs.  May not touch: transports, protocols, clocks; the
layout of ``_ssl``'s objects.
Invariant: while ``unread`` is 0, no whole record is in the incoming BIO.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.string cimport memset

from reactor.transports.records cimport count_records, partial_record

import ssl

cdef object WantRead = ssl.SSLWantReadError
cdef object ZeroReturn = ssl.SSLZeroReturnError
cdef object ALL = 1 << 30               # more than any window has: read what fits


cdef class Window:
    """The buffer protocol over memory that is somebody else's; for one call at a time."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.start == NULL:
            raise BufferError("nothing is lent")
        PyBuffer_FillInfo(view, self, self.start, self.size, False, flags)


cdef class TLSEngine:
    """One end of TLS; its arguments are those of ``ssl.SSLContext.wrap_bio``."""

    def __cinit__(self, sslcontext, bint server_side, server_hostname, session):
        memset(&self.records, 0, sizeof(self.records))
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.ssl_object = sslcontext.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side,
            server_hostname=server_hostname, session=session)
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
        return True

    cdef int feed(self, const char *data, Py_ssize_t size) except -1:
        self.unread += count_records(&self.records, data, size)
        self.window.start = <char *>data
        self.window.size = size
        try:
            self.incoming.write(self.window)
        finally:
            self.window.start = NULL
        return 0

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

    cdef bint seal(self, object data, const char *start, Py_ssize_t size) except -1:
        cdef object plain = data
        if self.sealed and self.sealed + size > PIECE_BYTES:
            self.collect()
        if data is None or PyBytes_GET_SIZE(data) != size:
            plain = self.window
            self.window.start = <char *>start
            self.window.size = size
        try:
            self.sealed += <Py_ssize_t>self.session.write(plain)
            return True
        except WantRead:
            self.sealed += 1            # a renegotiation
            return False
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

"""Where TLS records end in a stream of bytes (RFC 8446 section 5.1, RFC 5246 section 6.2.1).

Only the five bytes of each header are looked at, so that OpenSSL is asked for plaintext when
a whole record is there and not before: a read that finds none costs an exception.

Owns: nothing.  Invariant: it is a hint.  What is not TLS counts as a record in every chunk,
so that OpenSSL sees it and says what is wrong.
"""

from libc.string cimport memcpy

cdef enum:
    RECORD_HEADER = 5                   # type, legacy version (2), length (2)
    RECORD_PLAIN_MAX = 16_384           # 2^14: what one record carries at most
    RECORD_BODY_MAX = 16_384 + 2_048    # on the wire in TLS 1.2; in TLS 1.3 it is less
    FIRST_TYPE = 20                     # change_cipher_spec
    LAST_TYPE = 24                      # heartbeat


cdef struct RecordCounter:
    unsigned char header[RECORD_HEADER]
    bint broken                         # what came is not TLS
    int header_size                     # bytes of the present header that are here
    int body_left                       # bytes of the present body that are not


# Count the records that these bytes complete.
cdef inline Py_ssize_t count_records(RecordCounter *counter, const char *data,
                                     Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t whole = 0
    cdef Py_ssize_t part
    if counter.broken:
        return 1
    while size > 0:
        if counter.header_size < RECORD_HEADER:
            part = min(<Py_ssize_t>(RECORD_HEADER - counter.header_size), size)
            memcpy(&counter.header[counter.header_size], data, <size_t>part)
            counter.header_size += <int>part
            data += part
            size -= part
            if counter.header_size < RECORD_HEADER:
                break
            counter.body_left = counter.header[3] << 8 | counter.header[4]
            if (not FIRST_TYPE <= counter.header[0] <= LAST_TYPE or counter.header[1] != 3
                    or counter.body_left > RECORD_BODY_MAX):
                counter.broken = True
                return whole + 1
        part = min(<Py_ssize_t>counter.body_left, size)
        counter.body_left -= <int>part
        data += part
        size -= part
        if counter.body_left == 0:
            counter.header_size = 0
            whole += 1
    return whole


# Bytes of the last record, which is not whole yet.
cdef inline Py_ssize_t partial_record(RecordCounter *counter) noexcept nogil:
    if counter.header_size < RECORD_HEADER:
        return counter.header_size
    return (RECORD_HEADER + (counter.header[3] << 8 | counter.header[4])) - counter.body_left

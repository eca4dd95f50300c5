"""One object for a certificate that many connections were sent.

A server sends its certificate and those of the authorities in between, and OpenSSL makes objects
of them for each connection: 5 KiB for each certificate, as long as the connection lives.  The
authorities are few.  After the handshake, in which all that was sent was verified as it came, the
objects of the authorities are replaced by those of the same certificates, byte for byte, that an
earlier connection was sent.  The peer's own stays as it is.

Owns: those objects, the last few.  May not touch: handshakes, what is trusted.
Invariant: what is put in the place of a certificate has the same DER encoding.
"""

from reactor.transports.openssl cimport (
    count_sent, encoded, free_certificate, keep_certificate, replace_certificate, sent_certificate,
    sessions_available, was_resumed,
)

import ssl

from reactor.limits import MAX_SHARED_CERTIFICATES

cdef Py_ssize_t LIMIT = MAX_SHARED_CERTIFICATES
# Stacks that may be changed in place: of later ones nobody knows.
cdef bint KNOWN = ssl.OPENSSL_VERSION_INFO[0] <= 3
cdef dict shared = {}                   # DER to SharedCertificate; the one last used is the last


cdef class SharedCertificate:
    """Made by ``share_chain``."""

    def __init__(self):
        raise TypeError("a SharedCertificate is made by a connection")

    def __dealloc__(self):
        if self.certificate != NULL:
            free_certificate(self.certificate)


cdef int share_chain(void *connection) except -1:
    cdef SharedCertificate kept
    cdef void *certificate
    cdef int at
    if not KNOWN or not sessions_available() or was_resumed(connection):
        return 0                        # a session's chain is that of an earlier connection
    for at in range(1, count_sent(connection)):
        certificate = sent_certificate(connection, at)
        der = encoded(certificate)
        if not der:
            continue
        kept = <SharedCertificate>shared.pop(der, None)
        if kept is None:
            kept = SharedCertificate.__new__(SharedCertificate)
            keep_certificate(certificate)
            kept.certificate = certificate
        elif kept.certificate != certificate:
            replace_certificate(connection, certificate, kept.certificate)
        shared[der] = kept
    while len(shared) > LIMIT:
        del shared[next(iter(shared))]
    return 0


def count_shared():
    """Return how many certificates are kept."""
    return len(shared)

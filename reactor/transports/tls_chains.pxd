"""Certificates above a peer's own, one object for all connections; its C face."""


cdef class SharedCertificate:
    """A certificate that some connection was sent."""

    cdef void *certificate          # X509


# After a client's full handshake: share what this connection was sent above the peer's own
# certificate.
cdef int share_chain(void *connection) except -1

"""The block in which a response is streamed; its C face."""

from reactor.manager.leases cimport Leases

from protocols.http.connection cimport ClientConnection
from protocols.http.response cimport Response


cdef class Hold:
    """The connection of a streamed response, until it is given back."""

    cdef Leases manager
    cdef ClientConnection connection    # None once it was given back


cdef class StreamBlock:
    """``async with client.stream(...) as response``."""

    cdef Leases manager
    cdef object start                   # None once the block has begun
    cdef Response response              # while the block lasts, and after it


cdef class BlockingStreamBlock:
    """``with client.stream(...) as response``."""

    cdef object client
    cdef StreamBlock block

"""Socket addresses: Python's tuples to C's structs and back."""

cdef enum:
    ADDRESS_MAX = 128               # sizeof(struct sockaddr_storage)


cdef struct Address:
    int size                        # bytes of the sockaddr; 0 when there is none
    unsigned char data[ADDRESS_MAX]

# Fill in *address*. ValueError for what is not an address of the family, TypeError for what
# has the wrong shape.
cdef int pack_address(int family, object value, Address *address) except -1
# The address as socket.getsockname() returns it: (host, port), (host, port, flow, scope), a
# path, or None for no address or a family unknown here.
cdef object unpack_address(const void *data, int size)

"""Socket addresses between Python's form and the system's.

Owns: the layout of sockaddr_in, sockaddr_in6 and sockaddr_un.  May not touch: names (the
resolver's) or sockets; a leaf.  Invariant: what ``pack_address`` takes ``unpack_address``
gives back.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from os import fsdecode, fsencode

cdef extern from *:
    """
    #ifdef _WIN32
    #  include <winsock2.h>
    #  include <ws2tcpip.h>
    #  define CYR_AF_UNIX (-1)
    typedef ADDRESS_FAMILY sa_family_t;
    struct sockaddr_un { unsigned short sun_family; char sun_path[108]; };
    #else
    #  include <arpa/inet.h>
    #  include <netinet/in.h>
    #  include <sys/socket.h>
    #  include <sys/un.h>
    #  define CYR_AF_UNIX AF_UNIX
    #endif
    """
    const int AF_INET
    const int AF_INET6
    const int AF_UNIX "CYR_AF_UNIX"
    enum:
        INET6_ADDRSTRLEN
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        sa_family_t sa_family
    struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        uint32_t sin_addr
    struct sockaddr_in6:
        sa_family_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        uint8_t sin6_addr[16]
        uint32_t sin6_scope_id
    struct sockaddr_un:
        sa_family_t sun_family
        char sun_path[108]
    uint16_t htons(uint16_t value) nogil
    uint16_t ntohs(uint16_t value) nogil
    uint32_t htonl(uint32_t value) nogil
    uint32_t ntohl(uint32_t value) nogil
    int inet_pton(int family, const char *text, void *address) nogil
    const char *inet_ntop(int family, const void *address, char *text, unsigned size) nogil

cdef enum:
    PATH_OFFSET = 2                 # offsetof(struct sockaddr_un, sun_path)
    PATH_MAX_BYTES = 108


cdef int pack_port(object value) except -1:
    if not isinstance(value, int):
        raise TypeError(f"a port is an int, not {type(value).__name__}")
    if not 0 <= value <= 65535:
        raise ValueError(f"a port is 0 to 65535, not {value}")
    return value


cdef int pack_unix(object value, Address *address) except -1:
    cdef bytes path = fsencode(value)
    cdef Py_ssize_t size = len(path)
    cdef sockaddr_un *unix = <sockaddr_un *>address.data
    # An abstract name starts with NUL and is not terminated (unix(7)).
    if size == 0 or size >= PATH_MAX_BYTES or (path[0] and b"\0" in path):
        raise ValueError(f"not a UNIX socket path of 1 to {PATH_MAX_BYTES - 1} bytes: {value!r}")
    unix.sun_family = AF_UNIX
    memcpy(unix.sun_path, <const char *>path, size)
    address.size = <int>(PATH_OFFSET + size + (1 if path[0] else 0))
    return 0


cdef int pack_address(int family, object value, Address *address) except -1:
    cdef sockaddr_in *four = <sockaddr_in *>address.data
    cdef sockaddr_in6 *six = <sockaddr_in6 *>address.data
    cdef bytes text
    cdef int known
    memset(address, 0, sizeof(Address))
    if family == AF_UNIX and AF_UNIX != -1:
        return pack_unix(value, address)
    if family != AF_INET and family != AF_INET6:
        raise ValueError(f"address family {family} is not supported")
    if not isinstance(value, tuple) or not 2 <= len(value) <= (2 if family == AF_INET else 4):
        raise TypeError(f"not an address of family {family}: {value!r}")
    if not isinstance(value[0], str):
        raise TypeError(f"a host is a str, not {type(value[0]).__name__}")
    text = value[0].partition("%")[0].encode("ascii", "replace")
    if family == AF_INET:
        four.sin_family = AF_INET
        four.sin_port = htons(<uint16_t>pack_port(value[1]))
        known = inet_pton(AF_INET, text, &four.sin_addr)
        address.size = sizeof(sockaddr_in)
    else:
        six.sin6_family = AF_INET6
        six.sin6_port = htons(<uint16_t>pack_port(value[1]))
        if len(value) > 2:
            six.sin6_flowinfo = htonl(<uint32_t>value[2])
        if len(value) > 3:
            six.sin6_scope_id = <uint32_t>value[3]
        known = inet_pton(AF_INET6, text, &six.sin6_addr)
        address.size = sizeof(sockaddr_in6)
    if known != 1 or b"\0" in text:
        address.size = 0
        raise ValueError(f"not a numeric address of family {family}: {value[0]!r}")
    return 0


cdef object unpack_address(const void *data, int size):
    cdef const sockaddr_in *four = <const sockaddr_in *>data
    cdef const sockaddr_in6 *six = <const sockaddr_in6 *>data
    cdef const sockaddr_un *unix = <const sockaddr_un *>data
    cdef char text[INET6_ADDRSTRLEN]
    cdef int family
    cdef Py_ssize_t length
    if size < <int>sizeof(sa_family_t):
        return None
    family = (<const sockaddr *>data).sa_family
    if family == AF_INET and size >= <int>sizeof(sockaddr_in):
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(four.sin_port))
    if family == AF_INET6 and size >= <int>sizeof(sockaddr_in6):
        inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text))
        return (text.decode("ascii"), ntohs(six.sin6_port), ntohl(six.sin6_flowinfo),
                six.sin6_scope_id)
    if family == AF_UNIX and AF_UNIX != -1:
        length = size - PATH_OFFSET
        if length and unix.sun_path[0] == 0:
            return (<const char *>unix.sun_path)[:length]
        while length and unix.sun_path[length - 1] == 0:
            length -= 1
        return fsdecode((<const char *>unix.sun_path)[:length])
    return None


def round_trip(int family, value):
    """Return *value* after it was packed and unpacked: how the tests see both."""
    cdef Address address
    pack_address(family, value, &address)
    return unpack_address(address.data, address.size)

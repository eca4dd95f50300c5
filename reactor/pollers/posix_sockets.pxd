"""The calls that a poller of readiness makes on POSIX sockets, each with its answer as a result.

Owns: EINTR, and what a platform lacks of Linux's flags.  May not touch: ops' states, tables.
Invariant: a result is what the contract says of its op: bytes, a descriptor, 0, or ``-errno``.
"""

from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport intptr_t
from libc.string cimport memset

from reactor.addresses cimport ADDRESS_MAX, Address
from reactor.buffers cimport Vector
from reactor.pollers.contract cimport Op

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <sys/socket.h>
    #include <unistd.h>
    #ifndef MSG_NOSIGNAL
    #  define MSG_NOSIGNAL 0
    #endif
    /* A descriptor that was just made: close-on-exec, non-blocking, no SIGPIPE. */
    static inline int cyr_prepare(int fd) {
    #ifdef SO_NOSIGPIPE
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
    #endif
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -1;
        return fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    static inline int cyr_prepared(int fd) {
        if (fd >= 0 && cyr_prepare(fd) < 0) {
            int error = errno;
            close(fd);
            errno = error;
            return -1;
        }
        return fd;
    }
    /* socket(2) and accept(2) of such a one: a call each on Linux, and free of races there. */
    #ifdef __linux__
    #  define cyr_socket(family, kind, protocol) \\
         socket(family, (kind) | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
    #  define cyr_accept(fd, address, size) \\
         accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC)
    #else
    #  define cyr_socket(family, kind, protocol) cyr_prepared(socket(family, kind, protocol))
    #  define cyr_accept(fd, address, size) cyr_prepared(accept(fd, address, size))
    #endif
    """
    const int MSG_NOSIGNAL
    int prepare "cyr_prepare"(int fd) nogil

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_PEEK
        SHUT_WR
        SOL_SOCKET
        SO_ERROR
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct msghdr:
        Vector *msg_iov
        int msg_iovlen
    int accept_prepared "cyr_accept"(int fd, sockaddr *address, socklen_t *size)
    int bind(int fd, const sockaddr *address, socklen_t size)
    int connect(int fd, const sockaddr *address, socklen_t size)
    int getpeername(int fd, sockaddr *address, socklen_t *size)
    int getsockname(int fd, sockaddr *address, socklen_t *size)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
    Py_ssize_t recv(int fd, void *buffer, size_t length, int flags)
    Py_ssize_t recvfrom(int fd, void *buffer, size_t length, int flags, sockaddr *address,
                        socklen_t *size)
    Py_ssize_t send(int fd, const void *buffer, size_t length, int flags)
    Py_ssize_t sendto(int fd, const void *buffer, size_t length, int flags,
                      const sockaddr *address, socklen_t size)
    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)
    int shutdown(int fd, int how)
    int open_prepared "cyr_socket"(int family, int kind, int protocol)

cdef extern from "unistd.h" nogil:
    int close_descriptor "close"(int fd)


cdef inline Py_ssize_t receive_now(Op *op) noexcept nogil:
    cdef Py_ssize_t count
    while True:
        count = recv(<int>op.fd, op.buffer, op.length, 0)
        if count >= 0:
            return count
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t send_now(const Op *op) noexcept nogil:
    cdef Py_ssize_t count
    cdef msghdr message
    while True:
        if op.vector_count:
            memset(&message, 0, sizeof(message))
            message.msg_iov = op.vectors
            message.msg_iovlen = op.vector_count
            count = sendmsg(<int>op.fd, &message, MSG_NOSIGNAL)
        else:
            count = send(<int>op.fd, op.buffer, op.length, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t accept_now(Op *op) noexcept nogil:
    cdef socklen_t size = ADDRESS_MAX
    cdef int fd
    while True:
        fd = accept_prepared(<int>op.fd, <sockaddr *>op.buffer,
                             NULL if op.buffer == NULL else &size)
        if fd >= 0:
            op.length = 0 if op.buffer == NULL else <Py_ssize_t>size
            return fd
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t connect_now(const Op *op) noexcept nogil:
    if connect(<int>op.fd, <const sockaddr *>op.buffer, <socklen_t>op.length) == 0:
        return 0
    # An interrupted connect goes on by itself, like one in progress (connect(2)).
    return -EINPROGRESS if errno == EINTR else -errno


cdef inline Py_ssize_t connected(const Op *op) noexcept nogil:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)
    if getsockopt(<int>op.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0:
        return -errno
    return -error


cdef inline intptr_t open_now(int family, int kind, int protocol) noexcept nogil:
    cdef int fd = open_prepared(family, kind, protocol)
    return fd if fd >= 0 else -errno


cdef inline int peek_now(intptr_t fd) noexcept nogil:
    cdef char byte
    while recv(<int>fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0:
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            return -errno
    return 1


cdef inline int close_now(intptr_t fd) noexcept nogil:
    return -errno if close_descriptor(<int>fd) < 0 and errno != EINTR else 0


cdef inline int shut_down_now(intptr_t fd) noexcept nogil:
    return -errno if shutdown(<int>fd, SHUT_WR) < 0 else 0


cdef inline int set_option_now(intptr_t fd, int level, int name, int value) noexcept nogil:
    return -errno if setsockopt(<int>fd, level, name, &value, sizeof(value)) < 0 else 0


cdef inline int bind_now(intptr_t fd, const void *address, int size) noexcept nogil:
    return -errno if bind(<int>fd, <const sockaddr *>address, size) < 0 else 0


cdef inline int address_now(intptr_t fd, bint peer, void *address, int size) noexcept nogil:
    cdef socklen_t length = size
    cdef int failed
    if peer:
        failed = getpeername(<int>fd, <sockaddr *>address, &length)
    else:
        failed = getsockname(<int>fd, <sockaddr *>address, &length)
    return -errno if failed else <int>length


cdef inline Py_ssize_t receive_from_now(intptr_t fd, char *buffer, Py_ssize_t size,
                                        Address *sender) noexcept nogil:
    cdef socklen_t length
    cdef Py_ssize_t count
    while True:
        length = ADDRESS_MAX
        count = recvfrom(<int>fd, buffer, size, 0, <sockaddr *>sender.data, &length)
        if count >= 0:
            sender.size = <int>length
            return count
        if errno != EINTR:
            return -errno


cdef inline Py_ssize_t send_to_now(intptr_t fd, const char *data, Py_ssize_t size,
                                   const Address *receiver) noexcept nogil:
    cdef Py_ssize_t count
    while True:
        if receiver == NULL:
            count = send(<int>fd, data, size, MSG_NOSIGNAL)
        else:
            count = sendto(<int>fd, data, size, MSG_NOSIGNAL, <const sockaddr *>receiver.data,
                           <socklen_t>receiver.size)
        if count >= 0:
            return count
        if errno != EINTR:
            return -errno

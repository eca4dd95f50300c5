"""Winsock, completion ports and readiness by AFD, as the IOCP poller calls them.

Owns: function pointers that Winsock and ntdll are asked for once, and the numbers of errors.
May not touch: ops' states, tables.
Invariant: what returns a result returns what the contract says: bytes, 0, or ``-errno``, which
is errno.h's number where a caller compares with one, else Winsock's.
"""

from libc.stdint cimport int64_t, intptr_t, uint32_t

from reactor.buffers cimport Vector

cdef extern from *:
    """
    #include <winsock2.h>
    #include <ws2tcpip.h>
    #include <mswsock.h>
    #include <windows.h>
    #include <errno.h>
    #include <stddef.h>
    #include <stdint.h>

    #ifndef SIO_BASE_HANDLE
    #  define SIO_BASE_HANDLE 0x48000022
    #endif
    #define CYR_OUR_KEY 1                    /* not asyncio's, which is 0 */
    #define CYR_ADDRESS_ROOM (sizeof(SOCKADDR_STORAGE) + 16)

    /* Of the driver behind Winsock: not in a header, but what every event loop for Windows
       uses for readiness, unchanged since Windows Vista. */
    enum {
        CYR_AFD_POLL = 0x00012024,
        CYR_AFD_RECEIVE = 0x001, CYR_AFD_SEND = 0x004, CYR_AFD_DISCONNECT = 0x008,
        CYR_AFD_ABORT = 0x010, CYR_AFD_LOCAL_CLOSE = 0x020, CYR_AFD_ACCEPT = 0x080,
        CYR_AFD_CONNECT_FAIL = 0x100,
        CYR_STATUS_PENDING = 0x103,
        CYR_REPLACE_COMPLETION = 61          /* FileReplaceCompletionInformation */
    };
    typedef struct {
        LARGE_INTEGER timeout;
        ULONG count;
        ULONG exclusive;
        HANDLE handle;
        ULONG events;
        LONG status;
    } cyr_afd_poll;
    typedef struct { USHORT length, room; WCHAR *text; } cyr_name;
    typedef struct {
        ULONG size; HANDLE root; cyr_name *name; ULONG attributes; void *security, *quality;
    } cyr_attributes;
    typedef struct { HANDLE port; void *key; } cyr_completion;
    typedef LONG (WINAPI *cyr_control_t)(HANDLE, HANDLE, void *, void *, void *, ULONG, void *,
                                         ULONG, void *, ULONG);
    typedef LONG (WINAPI *cyr_create_t)(HANDLE *, ULONG, cyr_attributes *, void *, void *, ULONG,
                                        ULONG, ULONG, ULONG, void *, ULONG);
    typedef LONG (WINAPI *cyr_set_t)(HANDLE, void *, void *, ULONG, int);

    static LPFN_CONNECTEX cyr_ConnectEx;
    static LPFN_ACCEPTEX cyr_AcceptEx;
    static cyr_control_t cyr_NtControl;
    static cyr_create_t cyr_NtCreate;
    static cyr_set_t cyr_NtSet;

    static int cyr_extension(SOCKET socket, GUID id, void *place, DWORD size) {
        DWORD count = 0;
        return WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof(id), place, size,
                        &count, NULL, NULL);
    }

    /* 0, or the error of Windows. */
    static int cyr_load(void) {
        GUID connect_id = WSAID_CONNECTEX, accept_id = WSAID_ACCEPTEX;
        HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
        SOCKET socket = WSASocketW(AF_INET, SOCK_STREAM, 0, NULL, 0, WSA_FLAG_OVERLAPPED);
        int failed;
        if (socket == INVALID_SOCKET) return WSAGetLastError();
        failed = cyr_extension(socket, connect_id, &cyr_ConnectEx, sizeof(cyr_ConnectEx))
              || cyr_extension(socket, accept_id, &cyr_AcceptEx, sizeof(cyr_AcceptEx));
        failed = failed ? WSAGetLastError() : 0;
        closesocket(socket);
        cyr_NtControl = (cyr_control_t)(void *)GetProcAddress(ntdll, "NtDeviceIoControlFile");
        cyr_NtCreate = (cyr_create_t)(void *)GetProcAddress(ntdll, "NtCreateFile");
        cyr_NtSet = (cyr_set_t)(void *)GetProcAddress(ntdll, "NtSetInformationFile");
        if (!failed && (cyr_NtControl == NULL || cyr_NtCreate == NULL || cyr_NtSet == NULL))
            failed = ERROR_PROC_NOT_FOUND;
        return failed;
    }

    /* A handle to the driver, through which sockets are polled; NULL if it is refused. */
    static HANDLE cyr_open_afd(HANDLE port) {
        static WCHAR path[] = L"\\\\Device\\\\Afd\\\\cyreactor";
        cyr_name name = {sizeof(path) - sizeof(WCHAR), sizeof(path), path};
        cyr_attributes attributes = {sizeof(attributes), NULL, &name, 0, NULL, NULL};
        void *status[2];
        HANDLE afd = NULL;
        if (cyr_NtCreate(&afd, SYNCHRONIZE, &attributes, status, NULL, 0,
                         FILE_SHARE_READ | FILE_SHARE_WRITE, 1, 0, NULL, 0) != 0)
            return NULL;
        if (CreateIoCompletionPort(afd, port, CYR_OUR_KEY, 0) == NULL) {
            CloseHandle(afd);
            return NULL;
        }
        return afd;
    }

    /* 0 when it is under way, else the error of Windows. */
    static int cyr_poll(HANDLE afd, SOCKET socket, ULONG events, cyr_afd_poll *info,
                        OVERLAPPED *overlapped) {
        SOCKET base = INVALID_SOCKET;
        DWORD count = 0;
        LONG status;
        if (WSAIoctl(socket, SIO_BASE_HANDLE, NULL, 0, &base, sizeof(base), &count, NULL, NULL))
            return WSAGetLastError();
        info->timeout.QuadPart = INT64_MAX;
        info->count = 1;
        info->exclusive = 0;
        info->handle = (HANDLE)base;
        info->events = events;
        info->status = 0;
        overlapped->Internal = CYR_STATUS_PENDING;
        status = cyr_NtControl(afd, NULL, NULL, overlapped, &overlapped->Internal, CYR_AFD_POLL,
                               info, sizeof(*info), info, sizeof(*info));
        return status == 0 || status == CYR_STATUS_PENDING ? 0 : WSAENOTSOCK;
    }

    /* Let go of the port that a handle was associated with and take ours; false if refused. */
    static int cyr_replace_port(HANDLE handle, HANDLE port) {
        cyr_completion completion = {port, (void *)CYR_OUR_KEY};
        void *status[2];
        return cyr_NtSet(handle, status, &completion, sizeof(completion),
                         CYR_REPLACE_COMPLETION) == 0;
    }

    static SOCKET cyr_open(int family, int kind, int protocol) {
        u_long on = 1;
        SOCKET socket = WSASocketW(family, kind, protocol, NULL, 0,
                                   WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
        if (socket != INVALID_SOCKET) ioctlsocket(socket, FIONBIO, &on);
        return socket;
    }

    /* What accept or AcceptEx made; the latter's is to be told what it belongs to. */
    static void cyr_prepare(SOCKET accepted, SOCKET listener, int update) {
        u_long on = 1;
        if (update)
            setsockopt(accepted, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (char *)&listener,
                       sizeof(listener));
        else
            SetHandleInformation((HANDLE)accepted, HANDLE_FLAG_INHERIT, 0);
        ioctlsocket(accepted, FIONBIO, &on);
    }

    static int cyr_is_stream(SOCKET socket) {
        int kind = SOCK_STREAM, size = sizeof(kind);
        getsockopt(socket, SOL_SOCKET, SO_TYPE, (char *)&kind, &size);
        return kind == SOCK_STREAM;
    }

    /* ConnectEx wants a bound socket; one that is bound stays as it is. */
    static void cyr_bind_wildcard(SOCKET socket, int family) {
        SOCKADDR_STORAGE any;
        memset(&any, 0, sizeof(any));
        any.ss_family = (ADDRESS_FAMILY)family;
        bind(socket, (struct sockaddr *)&any, family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                  : sizeof(struct sockaddr_in));
    }

    /* How many of the vectors have no more than *most* bytes; if none, the first's beginning. */
    static int cyr_within(const cyr_vector *vectors, int count, ULONG most, cyr_vector *first) {
        ULONG total = 0;
        int at = 0;
        while (at < count && vectors[at].len <= most - total) total += vectors[at++].len;
        if (at == 0) {
            *first = vectors[0];
            first->len = most;
        }
        return at;
    }

    static int64_t cyr_now_ns(void) {
        static LARGE_INTEGER frequency;
        LARGE_INTEGER now;
        if (frequency.QuadPart == 0) QueryPerformanceFrequency(&frequency);
        QueryPerformanceCounter(&now);
        return now.QuadPart / frequency.QuadPart * 1000000000
             + now.QuadPart % frequency.QuadPart * 1000000000 / frequency.QuadPart;
    }

    static int cyr_errno(int error) {
        switch (error) {
        case WSAEWOULDBLOCK: return EAGAIN;
        case WSA_OPERATION_ABORTED: return ECANCELED;
        case WSAENOTSOCK: case WSAEBADF: case ERROR_INVALID_HANDLE: return EBADF;
        case WSAEINVAL: case ERROR_INVALID_PARAMETER: return EINVAL;
        case WSAEMFILE: case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
        case WSAENOBUFS: return ENOBUFS;
        case ERROR_NOT_ENOUGH_MEMORY: case ERROR_NO_SYSTEM_RESOURCES: return ENOMEM;
        case WSAESHUTDOWN: return EPIPE;
        case ERROR_NETNAME_DELETED: return WSAECONNRESET;
        case ERROR_CONNECTION_REFUSED: return WSAECONNREFUSED;
        case ERROR_CONNECTION_ABORTED: return WSAECONNABORTED;
        case ERROR_SEM_TIMEOUT: return WSAETIMEDOUT;
        case ERROR_NETWORK_UNREACHABLE: return WSAENETUNREACH;
        case ERROR_HOST_UNREACHABLE: return WSAEHOSTUNREACH;
        case ERROR_PORT_UNREACHABLE: return WSAECONNRESET;
        case 0: return EIO;
        default: return error;
        }
    }

    /* Why an op failed that came back with a failure in its OVERLAPPED. */
    static int cyr_failure(SOCKET socket, OVERLAPPED *overlapped) {
        DWORD count = 0, flags = 0;
        if ((ULONG)overlapped->Internal == 0xC0000120) return ECANCELED;  /* STATUS_CANCELLED */
        if (WSAGetOverlappedResult(socket, overlapped, &count, FALSE, &flags)) return EIO;
        return cyr_errno(WSAGetLastError());
    }
    """
    ctypedef unsigned long DWORD
    ctypedef unsigned long ULONG
    ctypedef void *HANDLE
    ctypedef int BOOL
    ctypedef size_t SOCKET
    ctypedef size_t ULONG_PTR
    ctypedef struct OVERLAPPED:
        ULONG_PTR Internal
        ULONG_PTR InternalHigh
    ctypedef struct OVERLAPPED_ENTRY:
        ULONG_PTR lpCompletionKey
        OVERLAPPED *lpOverlapped
        DWORD dwNumberOfBytesTransferred
    ctypedef struct AfdPoll "cyr_afd_poll":
        ULONG count
        ULONG events
    struct sockaddr:
        unsigned short sa_family
    enum:
        AFD_RECEIVE "CYR_AFD_RECEIVE"
        AFD_SEND "CYR_AFD_SEND"
        AFD_DISCONNECT "CYR_AFD_DISCONNECT"
        AFD_ABORT "CYR_AFD_ABORT"
        AFD_LOCAL_CLOSE "CYR_AFD_LOCAL_CLOSE"
        AFD_ACCEPT "CYR_AFD_ACCEPT"
        AFD_CONNECT_FAIL "CYR_AFD_CONNECT_FAIL"
        ADDRESS_ROOM "CYR_ADDRESS_ROOM"
        OUR_KEY "CYR_OUR_KEY"
        STATUS_PENDING "CYR_STATUS_PENDING"
    const int ERROR_INVALID_PARAMETER
    const int ERROR_IO_PENDING
    const int FILE_SKIP_COMPLETION_PORT_ON_SUCCESS
    const int FILE_SKIP_SET_EVENT_ON_HANDLE
    const DWORD INFINITE
    const HANDLE INVALID_HANDLE_VALUE
    const SOCKET INVALID_SOCKET
    const int MSG_PEEK
    const int SD_SEND
    const int SOCK_STREAM
    const int SOL_SOCKET
    const int SO_UPDATE_CONNECT_CONTEXT
    const int WAIT_TIMEOUT
    const int WSAECONNRESET
    const int WSA_IO_PENDING

    int load_calls "cyr_load"() nogil
    HANDLE open_afd "cyr_open_afd"(HANDLE port) nogil
    int start_poll "cyr_poll"(HANDLE afd, SOCKET socket, ULONG events, AfdPoll *info,
                              OVERLAPPED *overlapped) nogil
    bint replace_port "cyr_replace_port"(HANDLE handle, HANDLE port) nogil
    SOCKET open_socket_handle "cyr_open"(int family, int kind, int protocol) nogil
    void prepare_accepted "cyr_prepare"(SOCKET accepted, SOCKET listener, bint update) nogil
    bint is_stream "cyr_is_stream"(SOCKET socket) nogil
    void bind_wildcard "cyr_bind_wildcard"(SOCKET socket, int family) nogil
    int vectors_within "cyr_within"(const Vector *vectors, int count, ULONG most,
                                    Vector *first) nogil
    int64_t counter_ns "cyr_now_ns"() nogil
    int errno_of "cyr_errno"(int error) nogil
    int failure_of "cyr_failure"(SOCKET socket, OVERLAPPED *overlapped) nogil
    BOOL AcceptEx "cyr_AcceptEx"(SOCKET listener, SOCKET accepted, void *output, DWORD received,
                                 DWORD local, DWORD remote, DWORD *count,
                                 OVERLAPPED *overlapped) nogil
    BOOL ConnectEx "cyr_ConnectEx"(SOCKET socket, const sockaddr *address, int size, void *data,
                                   DWORD length, DWORD *count, OVERLAPPED *overlapped) nogil
    SOCKET accept(SOCKET socket, sockaddr *address, int *size) nogil
    int bind(SOCKET socket, const sockaddr *address, int size) nogil
    int closesocket(SOCKET socket) nogil
    int connect(SOCKET socket, const sockaddr *address, int size) nogil
    int getpeername(SOCKET socket, sockaddr *address, int *size) nogil
    int getsockname(SOCKET socket, sockaddr *address, int *size) nogil
    int recv(SOCKET socket, char *buffer, int length, int flags) nogil
    int recvfrom(SOCKET socket, char *buffer, int length, int flags, sockaddr *address,
                 int *size) nogil
    int send(SOCKET socket, const char *data, int length, int flags) nogil
    int sendto(SOCKET socket, const char *data, int length, int flags, const sockaddr *address,
               int size) nogil
    int setsockopt(SOCKET socket, int level, int name, const char *value, int size) nogil
    int shutdown(SOCKET socket, int how) nogil
    int WSAGetLastError() nogil
    int WSARecv(SOCKET socket, Vector *buffers, DWORD buffer_count, DWORD *count, DWORD *flags,
                OVERLAPPED *overlapped, void *routine) nogil
    int WSASend(SOCKET socket, Vector *buffers, DWORD buffer_count, DWORD *count, DWORD flags,
                OVERLAPPED *overlapped, void *routine) nogil
    BOOL CancelIoEx(HANDLE handle, OVERLAPPED *overlapped) nogil
    BOOL CloseHandle(HANDLE handle) nogil
    HANDLE CreateIoCompletionPort(HANDLE handle, HANDLE port, ULONG_PTR key, DWORD threads) nogil
    DWORD GetLastError() nogil
    BOOL GetQueuedCompletionStatusEx(HANDLE port, OVERLAPPED_ENTRY *entries, ULONG room,
                                     ULONG *count, DWORD timeout_ms, BOOL alertable) nogil
    BOOL PostQueuedCompletionStatus(HANDLE port, DWORD count, ULONG_PTR key,
                                    OVERLAPPED *overlapped) nogil
    BOOL SetFileCompletionNotificationModes(HANDLE handle, unsigned char flags) nogil
    long InterlockedExchange(long *place, long value) nogil

"""OpenSSL's own functions, beneath the standard library's ``ssl``.

An ``ssl.SSLObject`` is made by the user's ``ssl.SSLContext`` as always, and does the
handshake and the shutdown.  Only the records in between are read and written without a call
into Python for each, and without copies into and out of memory BIOs.  Three documented
interfaces are enough for that, and no layout of anybody's structures is assumed:

* dlsym(3) on the handle of the ``_ssl`` extension module finds the functions of exactly the
  library with which that is linked; on Windows its table of imports does.
* CRYPTO_get_ex_new_index(3): OpenSSL tells a call-back of each SSL object as it is made.
  So the one that a call of ``wrap_bio`` makes is known.
* BIO_meth_new(3): a source and sink of our own, put in the place of the two memory BIOs.

Where one of them is missing (a library that is linked statically, LibreSSL) ``available()`` is
false, and so it is when a probe finds anything unexpected.

Owns: the table of functions; a spare piece of memory for output.  May not touch: transports,
protocols, Python's ``_ssl`` objects.
Invariant: a BIO's wire is there for as long as the BIO knows it; ``unplug`` cuts it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from libc.string cimport memcpy

import os
import ssl
import sys

cdef extern from *:
    """
    #if defined(_WIN32)
    #  define WIN32_LEAN_AND_MEAN
    #  include <windows.h>
    static void *cyr_open_library(const char *path)
    {
        WCHAR wide[1024];
        if (!MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 1024)) return NULL;
        return (void *)GetModuleHandleW(wide);
    }
    /* Goes through the libraries that *library* imports from.  The loader has written into it
       where each import is, which tells of a library that it is this one, whatever its name. */
    static void *cyr_find(void *library, const char *name)
    {
        char *base = (char *)library;
        IMAGE_NT_HEADERS *head = (void *)(base + ((IMAGE_DOS_HEADER *)library)->e_lfanew);
        DWORD imports =
            head->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT].VirtualAddress;
        IMAGE_IMPORT_DESCRIPTOR *import = (void *)(base + imports);
        FARPROC found = NULL;
        for (; imports && import->Name && !found; import++) {
            ULONG_PTR first = *(ULONG_PTR *)(base + import->FirstThunk);
            HMODULE imported;
            if (GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS
                                   | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                                   (LPCSTR)first, &imported))
                found = GetProcAddress(imported, name);
        }
        return (void *)(ULONG_PTR)found;
    }
    static DWORD cyr_slot = TLS_OUT_OF_INDEXES;     /* GCC's __thread would want a DLL of its */
    static int cyr_prepare(void)
    { cyr_slot = TlsAlloc(); return cyr_slot != TLS_OUT_OF_INDEXES; }
    static void *cyr_captured(void) { return TlsGetValue(cyr_slot); }
    static void cyr_capture(void *value) { TlsSetValue(cyr_slot, value); }
    #else
    #  include <dlfcn.h>
    #  ifndef RTLD_NOLOAD
    #    define RTLD_NOLOAD 0
    #  endif
    static void *cyr_open_library(const char *path)
    { return dlopen(path, RTLD_NOW | RTLD_NOLOAD); }
    static void *cyr_find(void *library, const char *name) { return dlsym(library, name); }
    static __thread void *cyr_value;
    static int cyr_prepare(void) { return 1; }
    static void *cyr_captured(void) { return cyr_value; }
    static void cyr_capture(void *value) { cyr_value = value; }
    #endif
    /* A thread's value: NULL while nobody looks, else the SSL object that was made, or */
    static char cyr_none, cyr_many;
    static int cyr_on_new_ssl(void *parent, void *ptr, void *ad, int index, long argl,
                              void *argp)
    {
        (void)ptr; (void)ad; (void)index; (void)argl; (void)argp;
        if (cyr_captured()) cyr_capture(cyr_captured() == &cyr_none ? parent : &cyr_many);
        return 1;
    }
    static void cyr_begin_capture(void) { cyr_capture(&cyr_none); }
    static void *cyr_end_capture(void)
    {
        void *captured = cyr_captured();
        cyr_capture(NULL);
        return captured == &cyr_none || captured == &cyr_many ? NULL : captured;
    }
    typedef int (*cyr_new_func)(void *, void *, void *, int, long, void *);
    """
    void *cyr_open_library(const char *path) noexcept
    void *cyr_find(void *library, const char *name) noexcept
    bint cyr_prepare() noexcept
    void cyr_begin_capture() noexcept
    void *cyr_end_capture() noexcept
    ctypedef int (*cyr_new_func)(void *, void *, void *, int, long, void *) noexcept nogil
    int cyr_on_new_ssl(void *parent, void *ptr, void *ad, int index, long argl,
                       void *argp) noexcept nogil

# openssl/bio.h, openssl/crypto.h, openssl/err.h: numbers that are part of the ABI
cdef enum:
    BIO_TYPE_SOURCE_SINK = 0x400
    BIO_FLAGS_READ_AGAIN = 0x01 | 0x08      # BIO_FLAGS_READ, BIO_FLAGS_SHOULD_RETRY
    BIO_FLAGS_ALL_RETRY = 0x01 | 0x02 | 0x04 | 0x08
    BIO_CTRL_PENDING = 10
    BIO_CTRL_FLUSH = 11
    BIO_CTRL_WPENDING = 13
    CRYPTO_EX_INDEX_SSL = 0
    TLS_1_3 = 0x0304
    BOTH_ENDED = 0x01 | 0x02                # SSL_SENT_SHUTDOWN, SSL_RECEIVED_SHUTDOWN
    SPARE_BYTES = 262_144 + 32_768          # TLS_FLUSH_BYTES and two records

ctypedef int (*bio_write_function)(void *bio, const char *data, int size) noexcept nogil
ctypedef int (*bio_read_function)(void *bio, char *into, int room) noexcept nogil
ctypedef long (*bio_ctrl_function)(void *bio, int what, long number, void *argument) noexcept nogil

cdef struct Functions:
    int (*SSL_read)(void *, void *, int) noexcept nogil
    int (*SSL_write)(void *, const void *, int) noexcept nogil
    int (*SSL_get_error)(const void *, int) noexcept nogil
    void *(*SSL_get_rbio)(const void *) noexcept nogil
    void (*SSL_set_bio)(void *, void *, void *) noexcept nogil
    int (*SSL_free_buffers)(void *) noexcept nogil
    int (*CRYPTO_get_ex_new_index)(int, long, void *, cyr_new_func, void *, void *) noexcept nogil
    int (*BIO_get_new_index)() noexcept nogil
    void *(*BIO_meth_new)(int, const char *) noexcept nogil
    int (*BIO_meth_set_write)(void *, bio_write_function) noexcept nogil
    int (*BIO_meth_set_read)(void *, bio_read_function) noexcept nogil
    int (*BIO_meth_set_ctrl)(void *, bio_ctrl_function) noexcept nogil
    void *(*BIO_new)(const void *) noexcept nogil
    int (*BIO_free)(void *) noexcept nogil
    int (*BIO_up_ref)(void *) noexcept nogil
    void (*BIO_set_data)(void *, void *) noexcept nogil
    void *(*BIO_get_data)(void *) noexcept nogil
    void (*BIO_set_init)(void *, int) noexcept nogil
    void (*BIO_set_flags)(void *, int) noexcept nogil
    void (*BIO_clear_flags)(void *, int) noexcept nogil
    size_t (*BIO_ctrl_pending)(void *) noexcept nogil
    void (*ERR_clear_error)() noexcept nogil
    unsigned long (*ERR_peek_last_error)() noexcept nogil
    const char *(*ERR_reason_error_string)(unsigned long) noexcept nogil

cdef tuple NAMES = (
    b"SSL_read", b"SSL_write", b"SSL_get_error", b"SSL_get_rbio", b"SSL_set_bio",
    b"SSL_free_buffers", b"CRYPTO_get_ex_new_index", b"BIO_get_new_index", b"BIO_meth_new",
    b"BIO_meth_set_write", b"BIO_meth_set_read", b"BIO_meth_set_ctrl", b"BIO_new", b"BIO_free",
    b"BIO_up_ref", b"BIO_set_data", b"BIO_get_data", b"BIO_set_init", b"BIO_set_flags",
    b"BIO_clear_flags", b"BIO_ctrl_pending", b"ERR_clear_error", b"ERR_peek_last_error",
    b"ERR_reason_error_string",
)

cdef struct SessionFunctions:
    void *(*SSL_get1_session)(void *) noexcept nogil
    int (*SSL_set_session)(void *, void *) noexcept nogil
    int (*SSL_session_reused)(const void *) noexcept nogil
    void (*SSL_set_shutdown)(void *, int) noexcept nogil
    void (*SSL_SESSION_free)(void *) noexcept nogil
    int (*SSL_SESSION_is_resumable)(const void *) noexcept nogil
    int (*SSL_SESSION_get_protocol_version)(const void *) noexcept nogil
    unsigned long (*SSL_SESSION_get_ticket_lifetime_hint)(const void *) noexcept nogil
    int (*SSL_get_verify_mode)(const void *) noexcept nogil
    void *(*SSL_get0_param)(void *) noexcept nogil
    void *(*SSL_get_certificate)(const void *) noexcept nogil
    void *(*SSL_get_SSL_CTX)(const void *) noexcept nogil
    void *(*SSL_CTX_get_cert_store)(const void *) noexcept nogil
    unsigned long (*X509_VERIFY_PARAM_get_flags)(void *) noexcept nogil
    void *(*X509_STORE_get0_objects)(const void *) noexcept nogil
    int (*OPENSSL_sk_num)(const void *) noexcept nogil
    void *(*OPENSSL_sk_value)(const void *, int) noexcept nogil
    void *(*SSL_get_ciphers)(const void *) noexcept nogil
    const void *(*SSL_SESSION_get0_cipher)(const void *) noexcept nogil
    int (*X509_up_ref)(void *) noexcept nogil
    void (*X509_free)(void *) noexcept nogil
    void *(*SSL_get_peer_cert_chain)(const void *) noexcept nogil
    void *(*SSL_get0_verified_chain)(const void *) noexcept nogil
    void *(*OPENSSL_sk_set)(void *, int, const void *) noexcept nogil
    int (*i2d_X509)(const void *, unsigned char **) noexcept nogil

cdef tuple SESSION_NAMES = (
    b"SSL_get1_session", b"SSL_set_session", b"SSL_session_reused", b"SSL_set_shutdown",
    b"SSL_SESSION_free", b"SSL_SESSION_is_resumable",
    b"SSL_SESSION_get_protocol_version", b"SSL_SESSION_get_ticket_lifetime_hint",
    b"SSL_get_verify_mode", b"SSL_get0_param", b"SSL_get_certificate", b"SSL_get_SSL_CTX",
    b"SSL_CTX_get_cert_store", b"X509_VERIFY_PARAM_get_flags", b"X509_STORE_get0_objects",
    b"OPENSSL_sk_num", b"OPENSSL_sk_value", b"SSL_get_ciphers", b"SSL_SESSION_get0_cipher",
    b"X509_up_ref", b"X509_free", b"SSL_get_peer_cert_chain", b"SSL_get0_verified_chain",
    b"OPENSSL_sk_set", b"i2d_X509",
)

cdef Functions openssl                  # in the order of NAMES
cdef SessionFunctions resuming          # in the order of SESSION_NAMES
cdef bint resumes = False               # all of them were found
cdef void *method                       # our BIO_METHOD
cdef char *spare                        # SPARE_BYTES for whoever has output next, or NULL
cdef bint ready = False
cdef bint looked = False


cdef bint available():
    global ready, looked
    if not looked:
        looked = True
        ready = set_up() and probe()
    return ready


cdef bint set_up():
    """Find the functions and make the BIO method; false where one is missing."""
    global method, resumes
    cdef void *library
    path = getattr(sys.modules.get("_ssl"), "__file__", None)
    if path is None or not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        return False
    encoded = os.fsencode(path)
    library = cyr_open_library(encoded)
    if library == NULL:
        return False
    if not find_all(library, NAMES, <void **>&openssl):
        return False
    resumes = find_all(library, SESSION_NAMES, <void **>&resuming)
    if not cyr_prepare():
        return False
    if openssl.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, cyr_on_new_ssl, NULL,
                                       NULL) < 0:
        return False
    method = openssl.BIO_meth_new(openssl.BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire")
    if method == NULL:
        return False
    openssl.BIO_meth_set_write(method, write_wire)
    openssl.BIO_meth_set_read(method, read_wire)
    openssl.BIO_meth_set_ctrl(method, control_wire)
    return True


cdef bint find_all(void *library, tuple names, void **place):
    """Look so many functions up; false where one is missing."""
    for name in names:
        place[0] = cyr_find(library, <bytes>name)
        if place[0] == NULL:
            return False
        place += 1
    return True


cdef bint probe():
    """Make an SSL object and see that the one that was captured is this one."""
    cdef void *captured
    incoming = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    cyr_begin_capture()
    try:
        kept_alive = context.wrap_bio(incoming, ssl.MemoryBIO())
    finally:
        captured = cyr_end_capture()
    if captured == NULL:
        return False
    incoming.write(b"probe")
    return (openssl.BIO_ctrl_pending(openssl.SSL_get_rbio(captured)) == 5
            and kept_alive is not None)


cdef void begin_capture() noexcept:
    cyr_begin_capture()


cdef void *end_capture() noexcept:
    return cyr_end_capture()


# -- the BIO; OpenSSL calls these, in a handshake without the GIL -------------------------------

cdef int read_wire(void *bio, char *into, int room) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    openssl.BIO_clear_flags(bio, BIO_FLAGS_ALL_RETRY)
    if wire == NULL:
        return -1
    if wire.input_size == 0:
        openssl.BIO_set_flags(bio, BIO_FLAGS_READ_AGAIN)
        return -1
    if room > wire.input_size:
        room = <int>wire.input_size
    if room <= 0:
        return 0
    memcpy(into, wire.input, <size_t>room)
    wire.input += room
    wire.input_size -= room
    return room


cdef int write_wire(void *bio, const char *data, int size) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    openssl.BIO_clear_flags(bio, BIO_FLAGS_ALL_RETRY)
    if wire == NULL or size < 0 or make_output_room(wire, size) < 0:
        return -1
    if size:
        memcpy(wire.output + wire.output_size, data, <size_t>size)
        wire.output_size += size
    return size


cdef long control_wire(void *bio, int what, long number, void *argument) noexcept nogil:
    cdef Wire *wire = <Wire *>openssl.BIO_get_data(bio)
    if what == BIO_CTRL_FLUSH:
        return 1
    if wire != NULL and what == BIO_CTRL_PENDING:
        return <long>wire.input_size
    if wire != NULL and what == BIO_CTRL_WPENDING:
        return <long>wire.output_size
    return 0


cdef void *plug_in(void *connection, Wire *wire) noexcept:
    cdef void *bio = openssl.BIO_new(method)
    if bio == NULL:
        return NULL
    openssl.BIO_up_ref(bio)             # ours; the other one is the SSL object's
    openssl.BIO_set_data(bio, wire)
    openssl.BIO_set_init(bio, 1)
    openssl.SSL_set_bio(connection, bio, bio)
    return bio


cdef void unplug(void *bio) noexcept:
    openssl.BIO_set_data(bio, NULL)
    openssl.BIO_free(bio)


# -- the wire ----------------------------------------------------------------------------------

cdef int feed_wire(Wire *wire, const char *data, Py_ssize_t size) noexcept nogil:
    cdef char *joined
    if wire.input_size == 0:
        PyMem_RawFree(wire.kept)
        wire.kept = NULL
        wire.input = data
        wire.input_size = size
        return 0
    joined = <char *>PyMem_RawMalloc(wire.input_size + size)
    if joined == NULL:
        return -1
    memcpy(joined, wire.input, wire.input_size)
    memcpy(joined + wire.input_size, data, size)
    PyMem_RawFree(wire.kept)
    wire.input = wire.kept = joined
    wire.input_size += size
    return 0


cdef int settle_wire(Wire *wire) noexcept nogil:
    cdef char *copy
    if wire.input_size == 0:
        PyMem_RawFree(wire.kept)
        wire.kept = NULL
        wire.input = NULL
        return 0
    if wire.kept != NULL:
        return 0
    copy = <char *>PyMem_RawMalloc(wire.input_size)
    if copy == NULL:
        return -1
    memcpy(copy, wire.input, wire.input_size)
    wire.input = wire.kept = copy
    return 0


cdef int make_output_room(Wire *wire, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t room = wire.output_room
    cdef char *wider
    if wire.output_size + size <= room:
        return 0
    room = max(2 * room, wire.output_size + size)
    wider = <char *>PyMem_RawRealloc(wire.output, room)
    if wider == NULL:
        return -1
    wire.output = wider
    wire.output_room = room
    return 0


cdef void lend_output(Wire *wire) noexcept:
    """Give a wire without output memory some that is large enough for most."""
    global spare
    if wire.output == NULL:
        wire.output = spare if spare != NULL else <char *>PyMem_RawMalloc(SPARE_BYTES)
        spare = NULL
        wire.output_room = SPARE_BYTES if wire.output != NULL else 0


cdef char *take_output(Wire *wire, Py_ssize_t *size, Py_ssize_t *room) noexcept:
    cdef char *output = wire.output
    size[0] = wire.output_size
    room[0] = wire.output_room
    wire.output = NULL
    wire.output_size = wire.output_room = 0
    return output


cdef void hand_back(char *output, Py_ssize_t room) noexcept:
    global spare
    if spare == NULL and room == SPARE_BYTES:
        spare = output
    else:
        PyMem_RawFree(output)


cdef void free_wire(Wire *wire) noexcept:
    PyMem_RawFree(wire.kept)
    PyMem_RawFree(wire.output)
    wire.kept = wire.output = NULL
    wire.input = NULL
    wire.input_size = wire.output_size = wire.output_room = 0


# -- records -----------------------------------------------------------------------------------

cdef inline void forget_errors() noexcept:
    """Clear OpenSSL's queue of errors: SSL_get_error(3) takes old ones for its own.

    There is hardly ever one, and to clear sixteen empty places costs more than to ask.
    """
    if openssl.ERR_peek_last_error():
        openssl.ERR_clear_error()


cdef int read_plain(void *connection, char *into, int room) noexcept:
    cdef int count
    forget_errors()
    count = openssl.SSL_read(connection, into, room)
    return count if count > 0 else -openssl.SSL_get_error(connection, count)


cdef int write_plain(void *connection, const char *data, int size) noexcept:
    cdef int count
    forget_errors()
    count = openssl.SSL_write(connection, data, size)
    return count if count > 0 else -openssl.SSL_get_error(connection, count)


cdef void free_buffers(void *connection) noexcept:
    openssl.SSL_free_buffers(connection)


cdef object openssl_error():
    cdef unsigned long code = openssl.ERR_peek_last_error()
    cdef const char *text = openssl.ERR_reason_error_string(code) if code else NULL
    reason = text.decode("ascii", "replace") if text != NULL else "unknown error"
    openssl.ERR_clear_error()
    error = ssl.SSLError(ssl.SSL_ERROR_SSL,
                         f"[SSL: {reason.upper().replace(' ', '_')}] {reason}")
    error.library = "SSL"
    error.reason = reason.upper().replace(" ", "_")
    return error


# -- sessions ----------------------------------------------------------------------------------

cdef bint sessions_available():
    return available() and resumes


cdef void read_trust(void *connection, Trust *trust) noexcept:
    cdef void *store = resuming.SSL_CTX_get_cert_store(resuming.SSL_get_SSL_CTX(connection))
    trust.mode = resuming.SSL_get_verify_mode(connection)
    trust.flags = resuming.X509_VERIFY_PARAM_get_flags(resuming.SSL_get0_param(connection))
    # nothing is ever taken out of a store
    trust.roots = resuming.OPENSSL_sk_num(resuming.X509_STORE_get0_objects(store))
    trust.certificate = resuming.SSL_get_certificate(connection)
    if trust.certificate != NULL:
        resuming.X509_up_ref(trust.certificate)     # so its address is no other one's


cdef void free_trust(Trust *trust) noexcept:
    if trust.certificate != NULL:
        resuming.X509_free(trust.certificate)
        trust.certificate = NULL


cdef void *get_session(void *connection) noexcept:
    cdef void *session = resuming.SSL_get1_session(connection)
    if session != NULL and not resuming.SSL_SESSION_is_resumable(session):
        resuming.SSL_SESSION_free(session)
        return NULL
    return session


cdef void free_session(void *session) noexcept:
    resuming.SSL_SESSION_free(session)


cdef bint is_resumable(const void *session) noexcept:
    return resuming.SSL_SESSION_is_resumable(session) != 0


cdef bint is_ticket(const void *session) noexcept:
    return resuming.SSL_SESSION_get_protocol_version(session) >= TLS_1_3


cdef unsigned long lifetime_hint(const void *session) noexcept:
    return resuming.SSL_SESSION_get_ticket_lifetime_hint(session)


cdef bint offer_session(void *connection, void *session) noexcept:
    openssl.ERR_clear_error()
    return resuming.SSL_set_session(connection, session) == 1


cdef bint takes_cipher_of(const void *connection, const void *session) noexcept:
    cdef const void *wanted = resuming.SSL_SESSION_get0_cipher(session)
    cdef const void *ciphers = resuming.SSL_get_ciphers(connection)
    cdef int at
    for at in range(resuming.OPENSSL_sk_num(ciphers)):
        if resuming.OPENSSL_sk_value(ciphers, at) == wanted:    # they are constants
            return True
    return False


cdef bint was_resumed(const void *connection) noexcept:
    return resuming.SSL_session_reused(connection) == 1


cdef void end_quietly(void *connection) noexcept:
    resuming.SSL_set_shutdown(connection, BOTH_ENDED)


# -- a peer's certificates -----------------------------------------------------------------------

cdef int count_sent(const void *connection) noexcept:
    return max(0, resuming.OPENSSL_sk_num(resuming.SSL_get_peer_cert_chain(connection)))


cdef void *sent_certificate(const void *connection, int at) noexcept:
    return resuming.OPENSSL_sk_value(resuming.SSL_get_peer_cert_chain(connection), at)


cdef bytes encoded(const void *certificate):
    cdef int size = resuming.i2d_X509(certificate, NULL)
    cdef bytes der
    cdef unsigned char *start
    if size <= 0:
        return b""
    der = PyBytes_FromStringAndSize(NULL, size)
    start = <unsigned char *>PyBytes_AS_STRING(der)
    return der if resuming.i2d_X509(certificate, &start) == size else b""


cdef void replace_certificate(const void *connection, void *old, void *new) noexcept:
    replace_in(resuming.SSL_get_peer_cert_chain(connection), old, new)
    replace_in(resuming.SSL_get0_verified_chain(connection), old, new)


cdef void replace_in(void *chain, void *old, void *new) noexcept:
    """A stack of certificates has a reference to each."""
    cdef int at
    for at in range(resuming.OPENSSL_sk_num(chain)):
        if resuming.OPENSSL_sk_value(chain, at) == old and resuming.X509_up_ref(new):
            resuming.OPENSSL_sk_set(chain, at, new)
            resuming.X509_free(old)


cdef void keep_certificate(void *certificate) noexcept:
    resuming.X509_up_ref(certificate)


cdef void free_certificate(void *certificate) noexcept:
    resuming.X509_free(certificate)

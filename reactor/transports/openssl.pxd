"""OpenSSL itself, as the interpreter's ``ssl`` module has it loaded; its C face."""

cdef struct Wire:                   # what lies between OpenSSL and a transport
    const char *input               # from the peer, not yet read by OpenSSL
    Py_ssize_t input_size
    char *kept                      # the memory in which input is, if that is ours, or NULL
    char *output                    # for the peer
    Py_ssize_t output_size
    Py_ssize_t output_room          # bytes at output, used or not


# Whether all of this may be called.
cdef bint available()

# Make the next SSL object of this thread known; then tell which it was. NULL unless there was
# exactly one.
cdef void begin_capture() noexcept
cdef void *end_capture() noexcept

# Let an SSL object read from and write to a wire, and return the BIO between them, for
# unplug(), or NULL. After that its end of the wire is cut.
cdef void *plug_in(void *connection, Wire *wire) noexcept
cdef void unplug(void *bio) noexcept

# Take bytes from the peer. Without a copy if nothing is unread: they must last until
# settle(), which keeps what is unread by then. -1 when memory is out.
cdef int feed_wire(Wire *wire, const char *data, Py_ssize_t size) noexcept nogil
cdef int settle_wire(Wire *wire) noexcept nogil
# See that there is room for so many bytes more. -1 when memory is out.
cdef int make_output_room(Wire *wire, Py_ssize_t size) noexcept nogil
# Give a wire without memory for output a large piece of it.
cdef void lend_output(Wire *wire) noexcept
# Free what is left.
cdef void free_wire(Wire *wire) noexcept
# The output's memory, which is the caller's until hand_back(); a new one comes in its place.
cdef char *take_output(Wire *wire, Py_ssize_t *size, Py_ssize_t *room) noexcept
cdef void hand_back(char *output, Py_ssize_t room) noexcept

cdef enum:
    DIRECT_ERROR = 1                # SSL_ERROR_SSL: openssl_error() says what
    DIRECT_WANT_READ = 2
    DIRECT_END = 6                  # SSL_ERROR_ZERO_RETURN: close_notify

# SSL_read and SSL_write; a number of bytes, or minus what SSL_get_error says.
cdef int read_plain(void *connection, char *into, int room) noexcept
cdef int write_plain(void *connection, const char *data, int size) noexcept
# Between records: free what a handshake's message, such as a ticket, has left allocated for a
# record that is never written. SSL_MODE_RELEASE_BUFFERS, which ssl sets, frees it after the next.
cdef void free_buffers(void *connection) noexcept
# The ssl.SSLError of a DIRECT_ERROR.
cdef object openssl_error()


# -- sessions, where sessions_available() ----------------------------------------------------

cdef struct Trust:                  # what an SSL object verifies by, and what it shows of itself
    int mode                        # SSL_VERIFY_NONE, SSL_VERIFY_PEER
    unsigned long flags             # X509_V_FLAG_*
    int roots                       # how many certificates and revocation lists are loaded
    void *certificate               # its own one, or NULL; kept by this

cdef bint sessions_available()
cdef void read_trust(void *connection, Trust *trust) noexcept
cdef void free_trust(Trust *trust) noexcept

# The session of a connection, to be freed with free_session(); NULL when it cannot be resumed.
cdef void *get_session(void *connection) noexcept
cdef void free_session(void *session) noexcept
# Whether it can still be resumed; whether that is of TLS 1.3, where a ticket serves once; how
# many seconds the server says that it lasts, 0 for nothing said.
cdef bint is_resumable(const void *session) noexcept
cdef bint is_ticket(const void *session) noexcept
cdef unsigned long lifetime_hint(const void *session) noexcept
# Before the handshake: offer a session to the server. Afterwards: whether it was resumed.
cdef bint offer_session(void *connection, void *session) noexcept
# Whether the cipher suite of a session is among those that a connection offers.
cdef bint takes_cipher_of(const void *connection, const void *session) noexcept
cdef bint was_resumed(const void *connection) noexcept
# No more will come of a connection. Without this, one that ends without a close_notify of ours
# spoils its session (SSL_set_shutdown(3)).
cdef void end_quietly(void *connection) noexcept


# -- the certificates that a peer has sent, where sessions_available() -------------------------

# How many there are; the peer's own is the first. One of them, which the connection keeps; its DER,
# or b"".
cdef int count_sent(const void *connection) noexcept
cdef void *sent_certificate(const void *connection, int at) noexcept
cdef bytes encoded(const void *certificate)
# Put another object for the same certificate in its place, in the chain as it was sent and in that
# which was verified.
cdef void replace_certificate(const void *connection, void *old, void *new) noexcept
cdef void keep_certificate(void *certificate) noexcept
cdef void free_certificate(void *certificate) noexcept

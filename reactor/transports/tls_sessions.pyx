"""TLS sessions: what spares a client the certificate of a peer that it has verified before.

A resumed handshake takes no certificate and no signature (RFC 8446 section 2.2, RFC 5077): it
proves that the peer is the one of the handshake that the session is from.  So nothing may be
different then from what it was:

* **the peer and the way there**: the key has the manager's whole ``Endpoint`` (a proxy and its
  credentials are in it), the host and port that this TLS leads to, whether it is inside of a
  tunnel, and the name that is verified;
* **the trust**: the key has the ``ssl.SSLContext`` by identity (without keeping it), whether and
  how it checks names, its security level and its options; and as a context can be changed in
  other ways, a session is compared with what the new SSL object itself says: verification mode
  and flags, how many roots and revocation lists are loaded, and its own certificate.  Where one
  is different, the peer's sessions are forgotten.

So a name that was verified is still the one that is asked for, and the certificate of the session
(``getpeercert()``) is that peer's; its chain is not told again (``get_verified_chain()`` is
empty).  Contexts of a class of their own, or with an ``SSLObject`` of their own, may verify in
their own way after the handshake, and resume nothing.

A ticket of TLS 1.3 serves once (RFC 8446 appendix C.4: nobody on the line can tell that two
connections are one client's), a session of TLS 1.2 until it ends.  No data is sent early.  A server
that refuses a session makes a full handshake in its place, in the same round trips.

Owns: the sessions of a manager's connections.  May not touch: transports, handshakes.
Invariant: what is offered was made under the same key and the same trust, and has not ended.
"""

from collections import OrderedDict
from contextvars import ContextVar
from weakref import ref

from libc.stdint cimport int64_t
from libc.string cimport memset

from reactor.core cimport Reactor
from reactor.transports.openssl cimport (
    Trust, free_session, free_trust, get_session, is_resumable, is_ticket, lifetime_hint,
    offer_session, read_trust, sessions_available, takes_cipher_of, was_resumed,
)

import ssl

from reactor.limits import MAX_TLS_SESSIONS, MAX_TLS_SESSIONS_PER_PEER, TLS_SESSION_SECONDS

# Those of ssl itself: truststore, for one, can put its own in their places.
cdef object CONTEXT = ssl.SSLContext if ssl.SSLContext.__module__ == "ssl" else None
# A context's options as the number that OpenSSL has.  ``SSLContext.options`` would make an
# enumeration's member of it, which takes longer than all else that a key is made of.
cdef object OPTIONS = None if CONTEXT is None else CONTEXT.__base__.options.__get__
cdef object SSL_OBJECT = ssl.SSLObject if ssl.SSLObject.__module__ == "ssl" else None
cdef Py_ssize_t PER_PEER = MAX_TLS_SESSIONS_PER_PEER
cdef int64_t LONGEST_SECONDS = TLS_SESSION_SECONDS

cdef enum:
    LOOKS = 4                           # at what came; tickets come before the first data

# Whose sessions, and for which endpoint: while an opener of a manager is at work.
cdef object SCOPE = ContextVar("SCOPE", default=None)


cdef class TLSSession:
    """A session, made by a ``Resumption``."""

    def __init__(self):
        raise TypeError("a TLSSession is made by a connection")

    def __dealloc__(self):
        if self.session != NULL:
            free_session(self.session)
        free_trust(&self.trust)


cdef class TLSSessions:
    """The sessions of one connection manager; the peer that was not asked for longest goes first.

    Args:
        limit: how many are kept; 0 for none.

    Attributes:
        limit: the same.
        handshakes: how many were completed by clients.
        resumed: how many of these resumed a session.
    """

    def __init__(self, Py_ssize_t limit=MAX_TLS_SESSIONS):
        self.limit = limit
        self.kept = OrderedDict()

    def __len__(self):
        return self.count

    def __repr__(self):
        return (f"<TLSSessions, {self.count} of {self.limit} for {len(self.kept)} peers, "
                f"{self.resumed} of {self.handshakes} handshakes resumed one>")

    def clear(self):
        """Forget all sessions."""
        self.kept.clear()
        self.count = 0

    def used_for(self, endpoint):
        """Return a context manager in whose block connections are made to *endpoint*."""
        return _Scope(self, endpoint)

    cdef TLSSession find(self, object key, Trust *trust, int64_t now_ns):
        """Return a session to offer, or ``None``; a ticket is taken out."""
        cdef list sessions = self.kept.get(key)
        cdef TLSSession session
        if sessions is None:
            return None
        self.kept.move_to_end(key)
        while sessions:
            session = <TLSSession>sessions[len(sessions) - 1]
            if (session.ends_ns > now_ns and is_resumable(session.session)
                    and is_same(&session.trust, trust)):
                if session.is_ticket:
                    self.drop(key, session)
                return session
            self.drop(key, session)
        return None

    cdef int add(self, object key, TLSSession session) except -1:
        cdef list sessions
        if self.limit <= 0:
            return 0
        sessions = self.kept.get(key)
        if sessions is None:
            sessions = self.kept[key] = []
        elif not session.is_ticket or len(sessions) >= PER_PEER:
            # one session of TLS 1.2 serves for all
            self.count -= len(sessions)
            if session.is_ticket:
                del sessions[0]
            else:
                sessions.clear()
            self.count += len(sessions)
        sessions.append(session)
        self.kept.move_to_end(key)
        self.count += 1
        while self.count > self.limit:
            oldest = next(iter(self.kept))
            self.drop(oldest, self.kept[oldest][0])
        return 0

    cdef int drop(self, object key, TLSSession session) except -1:
        cdef list sessions = self.kept.get(key)
        if sessions is None or session not in sessions:
            return 0
        sessions.remove(session)
        self.count -= 1
        if not sessions:
            del self.kept[key]
        return 0


cdef class Resumption:
    """Made by ``resumption``."""

    def __init__(self):
        raise TypeError("a Resumption is made by resumption()")

    def __dealloc__(self):
        free_trust(&self.trust)

    cdef int begin(self, void *connection) except -1:
        if self.sessions.limit <= 0 or not sessions_available():
            return 0
        read_trust(connection, &self.trust)
        self.looks = LOOKS
        self.offered = self.sessions.find(self.key, &self.trust, self.loop.now_ns())
        if self.offered is not None:
            if takes_cipher_of(connection, self.offered.session):
                offer_session(connection, self.offered.session)
            else:                       # of TLS 1.2: a server may refuse the whole handshake
                self.failed()
                self.offered = None
        return 0

    cdef int done(self, void *connection) except -1:
        self.is_done = True
        self.sessions.handshakes += 1
        if connection != NULL and self.offered is not None and was_resumed(connection):
            self.sessions.resumed += 1
        return 0

    cdef int failed(self) except -1:
        if self.offered is not None:
            self.sessions.drop(self.key, self.offered)
        return 0

    cdef int lost(self) except -1:
        return 0 if self.is_done else self.failed()

    cdef bint look(self, void *connection) except -1:
        cdef TLSSession kept
        cdef void *session
        cdef int64_t seconds
        if self.looks <= 0:
            return True
        self.looks -= 1
        session = get_session(connection)
        if session == NULL:
            return False
        if self.offered is not None and session == self.offered.session:
            free_session(session)       # no new one has come
            return not self.offered.is_ticket
        kept = TLSSession.__new__(TLSSession)
        kept.session = session
        kept.is_ticket = is_ticket(session)
        kept.trust = self.trust         # with its reference
        memset(&self.trust, 0, sizeof(Trust))
        self.looks = 0
        seconds = min(<int64_t>lifetime_hint(session), LONGEST_SECONDS)
        if seconds == 0 and not kept.is_ticket:
            seconds = LONGEST_SECONDS   # RFC 5077 section 3.3: nothing is said
        kept.ends_ns = self.loop.now_ns() + seconds * 1_000_000_000
        self.sessions.add(self.key, kept)
        return True


cdef class _Scope:
    """The block of ``TLSSessions.used_for``."""

    cdef TLSSessions sessions           # None once the block is over: connections have copies
    cdef object endpoint                # of the context
    cdef object token

    def __init__(self, sessions, endpoint):
        self.sessions = sessions
        self.endpoint = endpoint

    def __enter__(self):
        self.token = SCOPE.set(self)

    def __exit__(self, *error):
        self.sessions = None
        try:
            SCOPE.reset(self.token)
        except ValueError:
            pass                        # a coroutine that was dropped is closed by who is there


cdef bint is_same(const Trust *one, const Trust *other) noexcept:
    return (one.mode == other.mode and one.flags == other.flags and one.roots == other.roots
            and one.certificate == other.certificate)


cdef bint is_plain(object sslcontext) noexcept:
    return type(sslcontext) is CONTEXT                      # __class__ can be feigned


def resumption(Reactor loop not None, host, port, sslcontext, server_hostname, *,
               bint within=False):
    """Return what a new connection of the manager at work needs to resume a session.

    ``None`` where no manager is at work, and for a context that may verify in a way of its own.

    Args:
        loop: whose clock tells when a session ends.
        host, port: whom this TLS leads to.
        sslcontext, server_hostname: of the connection.
        within: whether it is inside of another connection, such as a tunnel.
    """
    cdef Resumption made
    cdef _Scope scope = SCOPE.get()
    if scope is None or scope.sessions is None:
        return None
    if not is_plain(sslcontext):
        return None
    if sslcontext.sslobject_class is not SSL_OBJECT:
        return None
    made = Resumption.__new__(Resumption)
    made.sessions = scope.sessions
    made.loop = loop
    made.key = (scope.endpoint, host, port, within, server_hostname, ref(sslcontext),
                sslcontext.check_hostname, sslcontext.hostname_checks_common_name,
                sslcontext.security_level, OPTIONS(sslcontext))
    return made

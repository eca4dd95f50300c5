"""Every limit of the reactor, with its reason.

Owns: numbers.  May not touch: anything; a leaf.  Invariant: whatever grows with what a peer
or a caller does is bounded by a number in this file (HTTP's are in
``protocols.http.limits``).
"""

# One receive.  A message of 100 KiB that comes in two costs its reader two waits, two receives
# and, when it is answered piece by piece, two sends: a quarter more in all.  Only the pages of a
# block that are written to are memory, and a reactor has one block in use.
RECEIVE_BLOCK_BYTES = 262_144

# Free blocks that a reactor keeps.  Receives are dispatched one at a time, so one block is
# in use however many connections there are; a few more serve pollers that receive ahead.
MAX_FREE_BLOCKS = 16

# Bytes written and not yet sent at which pause_writing is called; asyncio's own figure.
HIGH_WATER_BYTES = 65_536

# Connections accepted in one pass, so that a storm of them cannot starve those that are.
ACCEPTS_PER_PASS = 64

# Datagrams that one socket hands up in one pass, so that a flood to it cannot starve the others.
DATAGRAMS_PER_PASS = 16

# How long a listener rests when the process is out of descriptors; asyncio's own figure.
ACCEPT_RETRY_SECONDS = 1.0

# How often a UNIX socket tries to connect to a server whose queue is full.  The system tells
# nobody when there is room; a server that accepts at all does so within a few milliseconds.
UNIX_RETRY_SECONDS = 0.005

# Threads that a loop's resolver may use.  getaddrinfo(3) can hang for half a minute in each;
# they are the resolver's own, so that work in the default executor cannot starve it.
RESOLVER_THREADS = 8

# What a ReconnectingFactory waits before a retry, at first and at most.  A server that restarts
# is back in about a second; one that stays away is asked once a minute by each client.
FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 60.0

# One attempt of a ReconnectingFactory, from the name to TLS: connect(2) alone would take two
# minutes to give up on a host that does not answer.
ATTEMPT_SECONDS = 30.0

# What a resolver keeps.  getaddrinfo(3) tells no time to live; half a minute is short beside
# those of most zones, and spares a busy client nearly all questions.  That a name does not
# exist is kept for a moment only: somebody may be just about to create it.
MAX_CACHED_NAMES = 1_024
NAME_SECONDS = 30.0
NO_NAME_SECONDS = 2.0

# How c-ares asks: its own defaults are 2 seconds and 3 tries at each name server.
NAME_SERVER_SECONDS = 2.0
NAME_SERVER_TRIES = 3

# How long an address that failed, or was overtaken, is tried after the others of its name.
FAILED_ADDRESS_SECONDS = 60.0
MAX_FAILED_ADDRESSES = 1_024

# Happy Eyeballs: how long an attempt runs alone before the next address is tried too
# (RFC 8305 section 5, "Connection Attempt Delay").
ATTEMPT_DELAY_SECONDS = 0.25

# Addresses of one name that are tried; a hostile or broken zone may hold thousands.
MAX_ADDRESSES = 32

# How long a loop that closes waits for the end of a child that it has killed; only one that
# sleeps in the kernel, on a dead disk say, takes longer than a moment.
KILLED_SECONDS = 1.0

# The connection manager's defaults.  Idle connections go before a typical server's or
# balancer's own timer (60 s) ends them under a request; a total of 1,000 keeps well clear
# of the usual soft limit of 1,024 descriptors' doublings and is a parameter.
MAX_CONNECTIONS = 1_000
MAX_CONNECTIONS_PER_ENDPOINT = 100
MAX_WAITING = 10_000
IDLE_SECONDS = 30.0

# How long a connection that was given back needs no question before it is lent again, where
# speed is preferred.  What comes in this time is not worse than what comes after the question
# and before the peer has read the request: that takes a round trip, mostly of more than this.
TRUSTED_NS = 1_000_000

# How long a manager that closes waits for connections that it has aborted: that takes a pass
# or two, and no time at all is worth hanging for.
ABORT_SECONDS = 1.0

# A peer that does not finish its handshake, or does not answer our close_notify, must not
# hold a connection for ever; asyncio's own figures.
TLS_HANDSHAKE_TIMEOUT_SECONDS = 60.0
TLS_SHUTDOWN_TIMEOUT_SECONDS = 30.0

# TLS sessions that a connection manager keeps to resume them, some 5 KiB each with the peer's
# certificate; in all, and for one peer, whose tickets serve one connection each.
MAX_TLS_SESSIONS = 256
MAX_TLS_SESSIONS_PER_PEER = 16

# How long a session may be resumed, whatever the server says: so long is a certificate that was
# revoked, or that has ended since, still good for.
TLS_SESSION_SECONDS = 3600

# Certificates of authorities that servers have sent, some 5 KiB each: one object serves all
# connections.  Most servers of the world share a few dozen.
MAX_SHARED_CERTIFICATES = 64

# Sealed bytes that are gathered for one send.  In two sends a 100 KiB message wakes its reader
# twice, which costs a third more system time; a socket rarely takes more than this at once.
TLS_FLUSH_BYTES = 262_144

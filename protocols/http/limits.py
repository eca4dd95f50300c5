"""Every limit that HTTP puts on a peer or a caller, each with its why.

Owns: the numbers.  Touches: nothing; a leaf.
Invariant: limits are cumulative per message, so the way TCP cuts the stream into
segments never changes what is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = [
    "BODY_PIECE_BYTES",
    "CONTINUE_SECONDS",
    "COOKIES_KEPT",
    "COOKIES_KEPT_PER_DOMAIN",
    "COOKIES_STEADY_SECONDS",
    "COOKIE_HOSTS_INDEXED",
    "DECODED_PIECE_BYTES",
    "DECODE_INPUT_BYTES",
    "DEFAULT_LIMITS",
    "DEFAULT_TIMEOUT_SECONDS",
    "KEPT_URL_LENGTH",
    "LONGEST_TIMEOUT_SECONDS",
    "MAX_AUTH_ANSWERS",
    "MAX_AUTH_PARAM_BYTES",
    "MAX_BODY_BYTES",
    "MAX_CHALLENGES",
    "MAX_CHALLENGE_PARAMS",
    "MAX_COOKIES",
    "MAX_COOKIES_PER_DOMAIN",
    "MAX_COOKIE_AGE_SECONDS",
    "MAX_COOKIE_ATTRIBUTE_BYTES",
    "MAX_COOKIE_BYTES",
    "MAX_COOKIE_FILE_BYTES",
    "MAX_COOKIE_HEADER_BYTES",
    "MAX_DRAINED_BYTES",
    "MAX_KEPT_HOSTS",
    "MAX_LEARNT_NONCES",
    "MAX_PASSWORDS_KEPT",
    "MAX_PASSWORD_QUESTIONS",
    "MAX_REDIRECTS",
    "MAX_STALE_RETRIES",
    "MAX_URL_LENGTH",
    "MAX_ZSTD_WINDOW_LOG",
    "PARSED_URLS",
    "PREPARED_REQUESTS",
    "SMALL_MEMBER_BYTES",
    "STREAM_HIGH_WATER_BYTES",
    "ResponseLimits",
]

# RFC 9110 section 4.1 asks for at least 8,000 octets; servers refuse long before 64 KiB.
# The bound keeps the quadratic cases of IDNA mapping and percent-encoding out of reach.
MAX_URL_LENGTH = 65_536

# Hosts of URLs whose checked form is known, as they were written: an address costs as much to read
# as the rest of its URL.
MAX_KEPT_HOSTS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLimits:
    """What a response may cost before its body is handed on; all sizes in bytes.

    A client passes its own to loosen or tighten; each must be at least 1 and at most
    2**31 - 1.  The body itself has no limit here: it is handed on as it comes, nothing is
    allocated for it, and a cap on it belongs to whoever collects it.
    """

    # nginx sends at most 4-8 KiB by default, Node refuses above 16 KiB, curl above 300 KiB.
    # Real heads with many cookies and a long Content-Security-Policy reach 30 KiB.
    max_head_bytes: int = 65_536

    # One line may not take the whole head: a Set-Cookie is at most 4 KiB in browsers, a
    # Content-Security-Policy or a Location rarely above 16 KiB.
    max_line_bytes: int = 32_768

    # Each field costs a tuple and two strings once the caller lists them (header memory);
    # Apache and h2o stop at 100, Python's http.client at 100, haproxy at 101.  CDN answers
    # with many Set-Cookie and Link lines have been seen above 100.
    max_headers: int = 200

    # 1xx responses are free for the server and loop the client (RFC 9110 section 15.2);
    # an honest exchange has one 100, one or two 103, some 102.
    max_informational: int = 16

    # Extensions are read and thrown away (RFC 9112 section 7.1.1): per message, as Node
    # and hyper do after the attacks of 2023 (CVE-2024-22019).
    max_chunk_extension_bytes: int = 16_384

    # Tiny chunks make the peer's framing cost more than its data (CVE-2023-39326).  Framing
    # (size lines, extensions and line ends) may be the allowance and then this many bytes
    # for each byte of data: a server that flushes every byte ("1 CRLF x CRLF" is five) is
    # still read, padding on top of that is not.
    chunk_overhead_allowance_bytes: int = 16_384
    max_chunk_overhead_ratio: int = 8

    # Trailers carry a checksum, a signature, a status, a Server-Timing; they come after
    # the body, when nobody expects another head's worth of memory.
    max_trailer_bytes: int = 16_384
    max_trailers: int = 64

    # One coding is usual, two are a proxy that compressed once more; each costs a window
    # (16 MiB for br) and a pass over the data.  curl and urllib3 stop at 5
    # (CVE-2022-32206, CVE-2025-66418).
    max_codings: int = 5

    # What decodes to much more than was received is a bomb: deflate reaches 1,032 to 1, br
    # and zstd a million to 1; text, logs and JSON 3 to 50.  Apache's mod_deflate allows 200.
    # The output of each coding may be the allowance and then so many bytes for each byte
    # received; the allowance, the window that zstd may ask for anyway, is for small bodies
    # that repeat themselves.  Received bytes count in steps of DECODE_INPUT_BYTES.
    decoding_allowance_bytes: int = 8_388_608
    max_decoding_ratio: int = 200

    # A gzip member costs a microsecond to set up, a zstd frame ten, and either may hold
    # nothing; honest ones hold kilobytes, or at least a message each.  So many may be small;
    # above that there may be one for each SMALL_MEMBER_BYTES that were put out.
    max_small_members: int = 1_024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value <= 2**31 - 1:
                raise ValueError(f"{field.name} must be from 1 to 2**31 - 1, not {value!r}")


DEFAULT_LIMITS = ResponseLimits()

# What a collected body (``response.content``) may not exceed: it lies in memory twice while
# it is joined.  Larger ones are for streaming, which has no limit.
MAX_BODY_BYTES = 1_073_741_824

# What a request's body is read from a file in, and what a large one goes to the transport in:
# enough that the call costs nothing beside the copy, little beside the kernel's own buffer.
BODY_PIECE_BYTES = 65_536

# Encoded content is decoded in steps of so many bytes, into pieces of about so many: the
# first bounds the copies that the codecs make of input that they leave, the second what lies
# in memory of a bomb.  64 KiB decode in some 100 microseconds, which hides the cost of a step.
DECODE_INPUT_BYTES = 16_384
DECODED_PIECE_BYTES = 65_536

# Below this a gzip member or a zstd frame counts as small; see ResponseLimits.
SMALL_MEMBER_BYTES = 64

# RFC 9659 section 3: a zstd encoder for HTTP does not exceed a window of 8 MiB (2**23).
MAX_ZSTD_WINDOW_LOG = 23

# A timeout above this, infinity included, is no limit: a century, and it must fit into
# nanoseconds beside the clock.
LONGEST_TIMEOUT_SECONDS = 3.2e9

# A streamed body's pieces that nobody has read yet: at this many bytes the connection is
# no longer read, at a quarter of it is read again.
STREAM_HIGH_WATER_BYTES = 262_144

# From the call to the last byte, where the caller names no time: long for an API, short for a
# download, and better than a thread that hangs for ever behind a silent peer.
DEFAULT_TIMEOUT_SECONDS = 60.0

# Requests without headers of their own are rendered once; a crawler that never asks twice
# for the same URL must not keep them all.  About 1 KiB each.
PREPARED_REQUESTS = 4_096

# URLs of requests with options of their own, each parsed once.
PARSED_URLS = 512

# Characters of a URL that is kept in either way: one of MAX_URL_LENGTH takes 200 KiB.
KEPT_URL_LENGTH = 2_048

# How often a request is sent again because the used connection it went out on had been closed.
# The second goes to a new connection, or to one that was handed over at this moment, which
# may end in the same way; a server that closes every one of them is out of order.
MAX_STALE_RETRIES = 3

# How many redirects are followed for one request, as in httpx; browsers stop at 20 too.  A
# loop ends with it, since one that comes back with another cookie is none.
MAX_REDIRECTS = 20

# What is read of the body of a redirect or of a 401, so that the connection can be used again.
# Beyond it a new connection is cheaper.
MAX_DRAINED_BYTES = 65_536

# How long content waits for the 100 (Continue) that it asked for: RFC 9110 section 10.1.1 wants
# no indefinite wait, since servers of HTTP/1.0 never send one; curl waits as long.
CONTINUE_SECONDS = 1.0

# RFC 6265bis section 5.6: a cookie whose name and value are longer together is ignored, and
# so is an attribute whose value is longer.
MAX_COOKIE_BYTES = 4_096
MAX_COOKIE_ATTRIBUTE_BYTES = 1_024

# RFC 6265bis section 5.5: 400 days, after which a cookie nobody renewed is forgotten.
MAX_COOKIE_AGE_SECONDS = 400 * 86_400

# RFC 6265bis section 6.1 asks for at least 50 cookies of a domain and 3,000 in all.  Browsers
# have 180 and 3,300; above that they evict down to 150 and 3,000 at once, so that a server
# which sets one more each time does not have all of them sorted each time.
MAX_COOKIES_PER_DOMAIN = 180
COOKIES_KEPT_PER_DOMAIN = 150
MAX_COOKIES = 3_300
COOKIES_KEPT = 3_000

# The whole line, "Cookie: " too.  Apache refuses a request with a longer one, nginx takes
# 8,192: a server that sets too many cookies must not make its neighbours under the same
# domain unreachable (CVE-2022-32205).
MAX_COOKIE_HEADER_BYTES = 8_190

# For how many hosts a jar remembers which of its cookies may concern them, so that asking
# for a host without cookies is one look-up.  Some 100 bytes each.
COOKIE_HOSTS_INDEXED = 4_096

# For how long a request may go out with the cookies that it had last, while its jar is not
# changed: how exactly a jar knows which cookies were used last, which stay when it is full.
COOKIES_STEADY_SECONDS = 1.0

# Room for MAX_COOKIES of the largest size in JSON, whose escapes double a character; a file
# that is larger was not written by a jar.
MAX_COOKIE_FILE_BYTES = 67_108_864

# WWW-Authenticate: servers offer two or three schemes, Digest has ten parameters, and a nonce
# rarely more than 200 characters; all of it is echoed and hashed.
MAX_CHALLENGES = 16
MAX_CHALLENGE_PARAMS = 32
MAX_AUTH_PARAM_BYTES = 4_096

# How many challenges of one server are answered for one request. One is usual; a Digest whose
# nonce ran out takes two, a negotiation of several steps three.
MAX_AUTH_ANSWERS = 3

# How many Digest nonces are known to be of earlier responses: of uploads that were refused.
MAX_LEARNT_NONCES = 16

# How often somebody is asked for a password for one request: who has typed it wrong three times
# will not know it the fourth time, and login(1) gives up too.
MAX_PASSWORD_QUESTIONS = 3

# The origins for which a client remembers what on_password answered.
MAX_PASSWORDS_KEPT = 1_024

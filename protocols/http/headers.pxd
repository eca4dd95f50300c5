"""The alphabet of an HTTP/1.1 head, and a read-only mapping over its raw lines.

The scanners are C in a verbatim block, so that every module that cimports them gets them
inlined: a call through the module boundary would cost as much as scanning a short value.
None of them reads at or past *end*.
"""

cdef extern from *:
    """
    #ifndef CYREACTOR_HTTP_ALPHABET
    #define CYREACTOR_HTTP_ALPHABET
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__) && defined(__GNUC__)
    #include <emmintrin.h>
    #define CYREACTOR_HTTP_SSE2 1
    #endif

    /* Bit 0: tchar (RFC 9110 section 5.6.2).  Bit 1: HTAB, SP, VCHAR or obs-text, what a
       field value and a reason phrase may hold (RFC 9110 section 5.5, RFC 9112 section 4).
       Bit 2: VCHAR, what a request target may hold. */
    static const unsigned char http_class[256] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        2, 7, 6, 7, 7, 7, 7, 7, 6, 6, 7, 7, 6, 7, 7, 6,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6,
        6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 7, 6, 7, 0,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    };

    /* The first byte of [p, end) that is not of the class, or end. */
    static inline const char *http_scan_class(const char *p, const char *end, int bit) {
        while (p < end && (http_class[(unsigned char)*p] & bit)) p++;
        return p;
    }

    /* The same for tchar: sixteen at a time while they are letters, digits or "-", which
       is what nearly every field name is made of; the table decides the rest. */
    static inline const char *http_scan_token(const char *p, const char *end) {
    #ifdef CYREACTOR_HTTP_SSE2
        while (end - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            __m128i low = _mm_or_si128(x, _mm_set1_epi8(0x20));
            __m128i letter = _mm_and_si128(_mm_cmpgt_epi8(low, _mm_set1_epi8('a' - 1)),
                                           _mm_cmplt_epi8(low, _mm_set1_epi8('z' + 1)));
            __m128i digit = _mm_and_si128(_mm_cmpgt_epi8(x, _mm_set1_epi8('0' - 1)),
                                          _mm_cmplt_epi8(x, _mm_set1_epi8('9' + 1)));
            __m128i dash = _mm_cmpeq_epi8(x, _mm_set1_epi8('-'));
            __m128i good = _mm_or_si128(_mm_or_si128(letter, digit), dash);
            unsigned int other = 0xffffu ^ (unsigned int)_mm_movemask_epi8(good);
            if (other) {
                p += __builtin_ctz(other);
                if (*p == ':') return p;
                break;
            }
            p += 16;
        }
    #endif
        return http_scan_class(p, end, 1);
    }

    /* The same for a field value: stops at a control character other than HTAB. */
    static inline const char *http_scan_field(const char *p, const char *end) {
    #ifdef CYREACTOR_HTTP_SSE2
        while (end - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
            __m128i tab = _mm_cmpeq_epi8(x, _mm_set1_epi8('\\t'));
            __m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));
            __m128i bad = _mm_or_si128(_mm_andnot_si128(tab, control), del);
            unsigned int stop = (unsigned int)_mm_movemask_epi8(bad);
            if (stop) return p + __builtin_ctz(stop);
            p += 16;
        }
    #endif
        return http_scan_class(p, end, 2);
    }

    static inline unsigned char http_lower(char c) {
        unsigned char byte = (unsigned char)c;
        return (unsigned char)(byte + (((unsigned char)(byte - 'A') < 26) << 5));
    }

    /* Whether *size* bytes are equal but for the case of ASCII letters. */
    static inline int http_same(const char *a, const char *b, Py_ssize_t size) {
        Py_ssize_t i;
        for (i = 0; i < size; i++)
            if (http_lower(a[i]) != http_lower(b[i])) return 0;
        return 1;
    }

    /* The same against a lower-case literal of letters and "-", at least four long, by
       words.  Setting bit 5 folds case; it also folds CR into "-", so [p, p + size) must
       have been scanned: tchars, or field bytes, have no CR among them. */
    static inline int http_is(const char *p, const char *literal, size_t size) {
        uint64_t a, b;
        uint32_t c, d;
        size_t i;
        if (size < 8) {
            memcpy(&c, p, 4);
            memcpy(&d, literal, 4);
            if ((c | 0x20202020u) != d) return 0;
            memcpy(&c, p + size - 4, 4);
            memcpy(&d, literal + size - 4, 4);
            return (c | 0x20202020u) == d;
        }
        for (i = 0; i + 8 <= size; i += 8) {
            memcpy(&a, p + i, 8);
            memcpy(&b, literal + i, 8);
            if ((a | 0x2020202020202020u) != b) return 0;
        }
        memcpy(&a, p + size - 8, 8);
        memcpy(&b, literal + size - 8, 8);
        return (a | 0x2020202020202020u) == b;
    }
    #endif
    """
    const char* http_scan_class(const char* p, const char* end, int bit) noexcept nogil
    const char* http_scan_token(const char* p, const char* end) noexcept nogil
    const char* http_scan_field(const char* p, const char* end) noexcept nogil
    bint http_same(const char* a, const char* b, Py_ssize_t size) noexcept nogil
    bint http_is(const char* p, const char* literal, size_t size) noexcept nogil


cdef inline bint is_digit(char c) noexcept nogil:
    return c'0' <= c <= c'9'


cdef inline bint is_space(char c) noexcept nogil:
    """Whether *c* is OWS (RFC 9110 section 5.6.3)."""
    return c == c' ' or c == c'\t'


cdef inline int hex_value(char c) noexcept nogil:
    """Return 0 to 15, or -1."""
    if c'0' <= c <= c'9':
        return c - c'0'
    if c'a' <= (c | 0x20) <= c'f':
        return (c | 0x20) - c'a' + 10
    return -1


cdef inline const char* skip_space(const char* p, const char* end) noexcept nogil:
    while p < end and is_space(p[0]):
        p += 1
    return p


cdef inline const char* trim_space(const char* p, const char* end) noexcept nogil:
    """Return where [p, end) ends without the white space behind it."""
    while p < end and is_space((end - 1)[0]):
        end -= 1
    return end


cdef class Headers:
    # Lines "name ':' OWS value OWS CRLF", already valid; lines begin at `start`.
    cdef bytes block
    cdef Py_ssize_t start
    cdef bint is_plain              # one space behind each colon, and no other; else it may be so

    # The value of the first field called name (any case; a token), without the white space
    # around it: a slice of the block, valid while these Headers live.  False when there is
    # none.
    cdef bint find(
        self, const char* name, Py_ssize_t size,
        const char** value, Py_ssize_t* value_size,
    ) noexcept

    # The next field at or after *cursor (NULL to begin); False at the end.
    cdef bint next_field(
        self, const char** cursor, const char** name, Py_ssize_t* name_size,
        const char** value, Py_ssize_t* value_size,
    ) noexcept

    # Cold: the values (bytes) of every field called key, and the block from `start`.
    cdef list values_of(self, object key)
    cdef bytes lines(self)


# Headers over lines that the parser or the writer has validated.
cdef Headers headers_over(bytes block, Py_ssize_t start)

# "name: value CRLF", checked as Headers() does it.
cdef bytes render_field(object name, object value)

# "METHOD target HTTP/1.1 CRLF Host: host CRLF fields CRLF", every string checked.
cpdef bytes render_request_head(str method, str target, str host, Headers headers)

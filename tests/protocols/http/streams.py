"""Streams for the differential tests, by the class of disagreement that they provoke.

Owns: what bytes are worth showing to several parsers.  Touches: no parser; what is right
is for the oracles and for the table of differences to say.
Invariant: a stream is a response, or nearly one, to the request that it names; each family
varies one thing, so that what the parsers make of it can be laid to that.

The named cases of ``corpus.py`` say what is right, each by itself; these are many, made by
rule, and come with no expectation.
"""

import re
from collections.abc import Iterator

from tests.protocols.http.corpus import CHUNKED, OK, Case

# What a byte of a name, a value or a chunk extension may be replaced with.
ODD_BYTES = [bytes([code]) for code in (*range(0x21), *b'"(),/:;<=>?@[\\]{}', *range(0x7F, 0x83), 0xA0, 0xFF)]  # fmt: skip

LENGTHS = [
    b"5", b" 5", b"5 ", b"\t5\t", b"", b" ", b"05", b"0000000000000000000000005", b"+5", b"-5",
    b"-0", b"+0", b"0x5", b"0X5", b"5h", b"5.0", b"5e0", b"5,5", b"5, 5", b"5 ,\t5", b"5,5,5",
    b"5,05", b"5,6", b"6,5", b"5,", b",5", b"5,,5", b"5;5", b"5 5", b"5\x0b", b"\x0c5", b"5\x00",
    b"\xa05", b"5_0", b"0_5", b"'5'", b'"5"', b"\xd9\xa5", b"\xef\xbc\x95", b"five", b"NaN",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"18446744073709551621", b"4294967301", b"9" * 40, b"0" * 300 + b"5",
]  # fmt: skip

CODINGS = [
    b"chunked", b" chunked", b"chunked ", b"\tchunked", b"CHUNKED", b"Chunked", b"", b" ",
    b"chunked,", b",chunked", b"chunked, chunked", b"chunked,gzip", b"gzip,chunked",
    b"gzip, chunked", b"gzip;q=1, chunked", b"identity", b"identity, chunked", b"chunked, identity",
    b"chunked;q=1", b"chunked; ext", b'"chunked"', b"'chunked'", b"chunke", b"chunkedd", b"xchunked",
    b"x-chunked", b"chunked x", b"chun ked", b"chunked\x0b", b"\x0bchunked", b"chunked\x00",
    b"\x00chunked", b"\xa0chunked", b"chun\xe7ked", b"deflate", b"gzip", b"compress", b"trailers",
    b"chunked\x1f", b"\x7fchunked", b"chunK\xe2\x84\xaad",
]  # fmt: skip

STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 200  ", b"HTTP/1.1 200 \tOK",
    b"HTTP/1.1 200\tOK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b" HTTP/1.1 200 OK",
    b"HTTP/1.1 200 O K", b"HTTP/1.1 200 OK ", b"HTTP/1.1 200OK", b"HTTP/1.1200 OK", b"HTTP/1.1 2xx OK",
    b"HTTP/1.1 20", b"HTTP/1.1 2000 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK",
    b"HTTP/1.1 600 Odd", b"HTTP/1.1 999 Odd", b"HTTP/1.1 -20 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1",
    b"HTTP/1.1 ", b"HTTP/1.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.9 200 OK", b"HTTP/0.9 200 OK",
    b"HTTP/2.0 200 OK", b"HTTP/3.0 200 OK", b"HTTP/2 200 OK", b"HTTP/1 200 OK", b"HTTP/1. 200 OK",
    b"HTTP/.1 200 OK", b"HTTP/01.1 200 OK", b"HTTP/1.01 200 OK", b"HTTP/1.10 200 OK", b"HTTP/11 200 OK",
    b"HTTP/1,1 200 OK", b"http/1.1 200 OK", b"Http/1.1 200 OK", b"HTTPS/1.1 200 OK", b"HTTP 1.1 200 OK",
    b"HTTP/ 1.1 200 OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\x7fK", b"HTTP/1.1 200 O\x1bK",
    b"HTTP/1.1 200 O\xffK", b"HTTP/1.1 200 O\rK", b"ICY 200 OK", b"RTSP/1.0 200 OK", b"GET / HTTP/1.1",
    b"SSH-2.0-OpenSSH_9.2", b"220 smtp.example ESMTP", b"", b"\x15\x03\x01\x00\x02\x02\x16", b"\xff",
    b"<html>", b"HTTP/1.1 \xb2\xb0\xb0 OK", b"HTTP/1.1 2\xb200 OK",
]  # fmt: skip

CHUNK_SIZES = [
    b"5", b"05", b"0000000000000005", b"00000000000000005", b"0" * 21 + b"5", b"0" * 300 + b"5", b" 5", b"\t5",
    b"5 ", b"5\t", b"5  ", b"0x5", b"0X5", b"x5", b"5x", b"5h", b"+5", b"-5", b"-0", b"5,", b"5.", b"5_",
    b"_5", b"0_5", b"", b" ", b"G", b"5 5", b"5\x00", b"\x005", b"5\x0b", b"\x0c5", b"5\xa0", b"\xb5", b"'5'",
    b"7fffffffffffffff", b"8000000000000000", b"ffffffffffffffff", b"FFFFFFFFFFFFFFFB", b"10000000000000005",
    b"100000005", b"4", b"6", b"5\r", b"5\r\r", b"5;", b";5", b"\r\n5",
]  # fmt: skip

CHUNK_EXTENSIONS = [
    b";", b";a", b";a=b", b'; a="b c"', b';a="b;c"', b';a="b\\"c"', b';a="b', b";a=b;c=d", b" ;a", b"\t;a",
    b" ; a = b", b";;", b";a=", b";=b", b"; ", b";a ", b";\t", b" ", b" a", b"a=b", b"=b", b",a", b";a\x00b",
    b";a\x1fb", b";a\x7fb", b";a\xffb", b";a\rb", b";a\nb", b";a\r", b";\r", b";\n5", b";a\n\nb", b';a="\r\n"',
    b";a\x0bb", b";5\r\nhello\r\n0", b"; " + b"x" * 200,
]  # fmt: skip

TRAILERS = [
    b"", b"A: b\r\n", b"A: b\r\nC: d\r\n", b"A:\r\n", b"A : b\r\n", b" A: b\r\n", b": b\r\n", b"A\r\n", b"A: b\n",
    b"A: b\r", b"A: b\r\n c\r\n", b"A: b\x00c\r\n", b"Content-Length: 5\r\n", b"Content-Length: x\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n", b"Trailer: A\r\n", b"HTTP/1.1 200 OK\r\n", b"0\r\n", b"\x80: b\r\n",
]  # fmt: skip

CONNECTIONS = [
    b"close", b"CLOSE", b"Close", b" close ", b"keep-alive", b"Keep-Alive", b"close, keep-alive",
    b"keep-alive, close", b"keep-alive,close", b"x, close", b"close;x", b"close x", b"x close", b"closed",
    b"clos", b"upgrade", b"", b",", b",close", b"close,", b"\tclose", b"keep-alive , x", b"\xa0close",
    b'"close"', b"c\xcc\xa7lose", b"keep\xe2\x80\x91alive", b"keep-alive;timeout=5", b"closekeep-alive",
    b"x keep-alive", b"keep-alive x", b"x, keep-alive", b", ,keep-alive", b"keep-alive\t,", b"keep-alive,x close",
]  # fmt: skip

# One message of each framing; every line end and many bytes of them are varied.
PLAIN = OK + b"A: b\r\nContent-Length: 5\r\n\r\nhello"
PIECES = CHUNKED + b"3\r\nhel\r\n2;x\r\nlo\r\n0\r\nB: c\r\n\r\n"
CLOSED = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello"
EARLY = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + PLAIN
LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r", b"", b" \r\n", b"\r\n ", b"\r\n\t", b"\x00\r\n", b"\x85", b"\x0b", b"\r\n\r\n"]  # fmt: skip
TEMPLATES = [PLAIN, PIECES, CLOSED, EARLY]
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def _data() -> Iterator[tuple[str, bytes]]:
    """Yield (family, stream): responses to a GET."""
    for value in LENGTHS:
        yield "content-length", OK + b"Content-Length:" + value + b"\r\n\r\nhello"
        yield "content-length of none", b"HTTP/1.1 204 N\r\nContent-Length:" + value + b"\r\n\r\n"
    for first in LENGTHS[:12]:
        for second in (b"5", b"6", b"", b"5,5"):
            lines = b"Content-Length: %b\r\ncontent-length: %b\r\n" % (first, second)
            yield "two content-lengths", OK + lines + b"\r\nhello"
    for value in CODINGS:
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            head = version + b" 200 OK\r\nTransfer-Encoding:" + value + b"\r\n\r\n"
            yield "transfer-encoding", head + CHUNKS
    for first in CODINGS[:18]:
        lines = b"Transfer-Encoding: %b\r\nTransfer-Encoding: chunked\r\n" % first
        yield "two transfer-encodings", OK + lines + b"\r\n" + CHUNKS
    both = [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]
    for status in (b"200", b"103", b"204", b"304", b"205", b"404"):
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            for lines in (both[0] + both[1], both[1] + both[0], both[2] + both[1] + both[0]):
                yield "both framings", b"%b %b X\r\n%b\r\n%b" % (version, status, lines, CHUNKS)
    for line in STATUS_LINES:
        yield "status line", line + b"\r\nContent-Length: 5\r\n\r\nhello"
        yield "status line and no more", line + b"\r\n\r\n"
    for size in CHUNK_SIZES:
        yield "chunk size", CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n"
        yield (
            "last chunk size",
            CHUNKED + b"5\r\nhello\r\n" + size.replace(b"5", b"0") + b"\r\n\r\n",
        )
    for extension in CHUNK_EXTENSIONS:
        yield "chunk extension", CHUNKED + b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"
        yield "last chunk extension", CHUNKED + b"5\r\nhello\r\n0" + extension + b"\r\n\r\n"
    for trailer in TRAILERS:
        yield "trailer", CHUNKED + b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n"
    for value in CONNECTIONS:
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            head = version + b" 200 OK\r\nConnection:" + value + b"\r\n"
            yield "connection", head + b"Content-Length: 5\r\n\r\nhello"
    for template in TEMPLATES:
        for match in re.finditer(rb"\r\n", template):
            for end in LINE_ENDS:
                yield "line end", template[: match.start()] + end + template[match.end() :]
    for odd in ODD_BYTES:
        yield "byte of a name", OK + b"X" + odd + b"Y: z\r\nContent-Length: 5\r\n\r\nhello"
        yield "byte before a name", OK + odd + b"X: z\r\nContent-Length: 5\r\n\r\nhello"
        yield "byte before a colon", OK + b"Content-Length" + odd + b": 5\r\n\r\nhello"
        yield "byte of a value", OK + b"X: y" + odd + b"z\r\nContent-Length: 5\r\n\r\nhello"
        yield (
            "byte at the end of a value",
            OK + b"X: y" + odd + b"\r\nContent-Length: 5\r\n\r\nhello",
        )
        yield "byte of a reason", b"HTTP/1.1 200 O" + odd + b"K\r\nContent-Length: 5\r\n\r\nhello"
        yield "byte of an extension", CHUNKED + b"5;a" + odd + b"b\r\nhello\r\n0\r\n\r\n"
    for code in (100, 101, 102, 103, 150, 199, 200, 204, 205, 206, 301, 304, 400, 599):
        for lines in (b"", both[0], both[1], b"Content-Length: 0\r\n"):
            head = b"HTTP/1.1 %d X\r\n%b\r\n" % (code, lines)
            yield "status and framing", head
            yield "status and framing", head + CHUNKS
            yield "status and framing", head + PLAIN
            yield "status and framing", PLAIN + head
    for lines in (
        b"",
        b"Upgrade: x\r\n",
        b"Connection: upgrade\r\n",
        b"Upgrade: x\r\nConnection: upgrade\r\n",
    ):
        for framing in (b"", *both):
            yield "switching", b"HTTP/1.1 101 S\r\n" + lines + framing + b"\r\nraw bytes"
            yield "upgrade that is not taken", OK + lines + framing + b"\r\n" + CHUNKS
    for count in (0, 1, 2, 3, 7):
        yield "surplus", PLAIN + b"\r\n" * count
        yield "surplus", PIECES + PLAIN[: 3 * count]
        yield "informational", b"HTTP/1.1 100 C\r\n\r\n" * count + PLAIN


def _cases() -> Iterator[Case]:
    seen = set()
    for family, data in _data():
        # Each family once as it came over a connection that stays open, and once closed.
        for eof in (False, True):
            for request in requests_of(family):
                if (data, request, eof) not in seen:
                    seen.add((data, request, eof))
                    yield Case(family, data, request=request, eof=eof)
    for template in TEMPLATES:
        for size in range(len(template)):
            yield Case("cut short", template[:size], eof=True)


def requests_of(family: str) -> list[str]:
    """Return the requests to which the streams of *family* are responses worth reading."""
    if family in ("both framings", "status and framing", "informational", "surplus"):
        return ["GET", "HEAD", "CONNECT"]
    if family in ("switching", "upgrade that is not taken"):
        return ["GET", "UPGRADE"]
    if family in ("content-length", "transfer-encoding", "connection"):
        return ["GET", "HEAD"]
    return ["GET"]


STREAMS = list(_cases())

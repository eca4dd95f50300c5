"""Where the fuzzer begins: an input for each thing that the tests know to be of interest.

Owns: the seeds of each target, and the findings, which are seeds for good.  Touches: no
check.
Invariant: what the fuzzer once found is a file under ``findings/``, so the suite runs it.
"""

from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.checks import encode_case
from tests.protocols.http.corpus import EVERY_CASE
from tests.protocols.http.streams import STREAMS

FINDINGS = Path(__file__).parent / "findings"

_URLS = """
http://h
https://user:pw@Example.COM:8443/a/b?c=d#e
http://[2001:DB8:0:0::1]:81/
http://[::ffff:127.0.0.1]/
http://127.0.0.1:1/
http://127.1/
http://0x7f.1/
http://2130706433/
http://0177.0.0.1/
http://256.1.1.1/
http://1.2.3.4.5/
http://127.0.0.1./
http://a.b.0x/
http://a.09/
http://my_host.local./
http://B\u00fccher.example/
http://\u4f8b\u3048\u3002\u30c6\u30b9\u30c8/
http://fa\u00df.example/
http://\u0130stanbul.example/
http://a\u200db.example/
http://xn--zca.example/
http://xn--a/
http://xn--/
http://\uff21\uff0e\uff22/
http://\uff11\uff12\uff17\uff0e\uff11/
http://\u2100/
http://a\u3002b/
http://a\u00adb/
http://a%41/
http://a%00b/
http://a@b@c/
http://a\\\\@b/
http://a\\\\b/
http:/h/
http:h
http:///h/
//h/../x
///h
/a/../b/./c
../..//h
/\\\\h
\\\\\\\\h
?q
#f
./g:h
 http://h/
http://h /
http://h\t/
http://h\r\nHost: x/
http://h:80:80/
http://h:/
http://h:0/
http://h:00080/
http://h:65536/
http://h:-1/
http://:80/
http://h/%zz%4%\u00e4?%#%
http://h?@x/
http://h#@x/
http://h;p@x/
http://!$&'()*+,;=:@h/
HTTPS://H/
ws://h/
file:///etc/passwd
javascript:alert(1)
http://[fe80::1%25eth0]/
http://[v1.x]/
http://[::1]x/
http://[::1/
http://-a-.b_-/
http://a..b/
http://./
""".strip("\n").split("\n")

_FIELDS = [
    b"Accept: a\r\nX-Two:1\r\nx-two: \t2 \r\nSet-Cookie: k=v",
    b"A:\r\nB: \r\n!#$%&'*+-.^_`|~09azAZ: x\r\nX: caf\xc3\xa9 \xff",
    b"Content-Length: 5\r\ncontent-length: 5\r\nTransfer-Encoding: chunked",
    b"x" * 17 + b": " + b"y" * 40 + b"\r\nHost: x",
]
_MADE = [
    *(b"A:b\nB:c\na:d", b"A: b", b"A:b \nC:d", b"X:\x00", b":x", b"A b:c", b"\xe9:x"),
    b"X:\xe9\tz\n",
]
_HEADS = [
    b"GET\n/\nexample.org\nAccept:*/*",
    b"POST\n/a?b\nh:81\nContent-Length:5\nTransfer-Encoding:chunked",
    b"CONNECT\nh:443\nh:443\nHost:other",
    b"OPTIONS\n*\nh\nUpgrade:x\nConnection:upgrade",
    b"GET\n/ HTTP/1.1\r\nX: y\nh",
    b"G T\n/\x7f\nh h",
    b"GET\nhttp://h/\nh\nTransfer-Encoding:Chunked",
]


def seeds(target: str) -> Iterator[bytes]:
    """Yield the inputs from which *target* starts."""
    if target == "response":
        for case in EVERY_CASE:
            yield encode_case(case)
        for case in STREAMS:
            if case.eof:
                yield encode_case(case)
    elif target == "headers":
        yield from (b"\x00" + lines for lines in _FIELDS)
        yield from (flag + lines for lines in _MADE for flag in (b"\x60", b"\x90"))
        yield from (b"\xff" + lines for lines in _HEADS)
    else:
        yield from (flag + text.encode() for text in _URLS for flag in (b"A", b"\xff"))


def findings(target: str) -> Iterator[Path]:
    """Yield the files of what was once found."""
    yield from sorted((FINDINGS / target).glob("*"))

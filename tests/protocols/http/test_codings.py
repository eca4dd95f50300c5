"""Content codings: the same result however a body is cut, and no more memory than a piece."""

import gzip
import importlib
import random
import struct
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http import codings
from protocols.http.codings import Decoder, accept_encoding, decoder_for
from protocols.http.errors import LimitExceeded, MalformedContent, TruncatedContent
from protocols.http.limits import (
    DECODE_INPUT_BYTES,
    DECODED_PIECE_BYTES,
    ResponseLimits,
)

# Both are in the extra "test".
BROTLI = importlib.import_module("brotli")
ZSTD = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)

Encoder = Callable[[bytes], bytes]


def raw_deflate(data: bytes, level: int = 9) -> bytes:
    encoder = zlib.compressobj(level, wbits=-15)
    return encoder.compress(data) + encoder.flush()


def brotli(data: bytes) -> bytes:
    encoded: bytes = BROTLI.compress(data, quality=5)
    return encoded


def zstd(data: bytes) -> bytes:
    encoded: bytes = ZSTD.compress(data)
    return encoded


def two_members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0)


def two_frames(data: bytes) -> bytes:
    half = len(data) // 2
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    return zstd(data[:half]) + skippable + zstd(data[half:])


ENCODERS: dict[str, tuple[str, Encoder]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "gzip, two members": ("gzip", two_members),
    "deflate": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", brotli),
    "zstd": ("zstd", zstd),
    "zstd, two frames": ("zstd", two_frames),
}

every_encoder = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=list(ENCODERS))

TEXT = b"".join(b"line %d of a text in which much repeats itself\n" % i for i in range(9))


def decoder(*names: str, **options: object) -> Decoder:
    found = decoder_for(names, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def decoded(names: Iterable[str], *pieces: bytes, **options: object) -> bytes:
    of = decoder(*names, **options)
    out = [piece for data in pieces for piece in of.decode(data)]
    of.flush()
    return b"".join(out)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


# -- what comes out ------------------------------------------------------------------------


@every_encoder
@pytest.mark.parametrize("data", [b"", b"x", TEXT, bytes(300_000)], ids=len)
def test_a_body_is_decoded(coding: str, encode: Encoder, data: bytes) -> None:
    assert decoded([coding], encode(data)) == data


@every_encoder
def test_a_body_may_be_cut_at_every_byte(coding: str, encode: Encoder) -> None:
    body = encode(TEXT)
    for at in range(len(body) + 1):
        assert decoded([coding], body[:at], body[at:]) == TEXT
    assert decoded([coding], *cut(body, 1)) == TEXT


@every_encoder
def test_a_long_body_may_be_cut_anywhere(coding: str, encode: Encoder) -> None:
    noise = random.Random(5)
    data = b"".join(noise.randbytes(50) + TEXT[:70] for _ in range(6_000))
    body = encode(data)
    for size in (1_000, DECODE_INPUT_BYTES - 1, DECODE_INPUT_BYTES + 1, len(body)):
        of = decoder(coding)
        pieces = [piece for part in cut(body, size) for piece in of.decode(part)]
        of.flush()
        assert b"".join(pieces) == data
        assert (of.received, of.decoded) == (len(body), len(data))
        assert 0 < min(map(len, pieces)) <= max(map(len, pieces)) < 2 * DECODED_PIECE_BYTES


@given(
    data=st.binary(max_size=2_000),
    names=st.lists(st.sampled_from(list(ENCODERS)), min_size=1, max_size=3),
    size=st.integers(1, 500),
)
def test_rfc9110_8_4_codings_are_taken_off_in_the_reverse_order(
    data: bytes, names: list[str], size: int
) -> None:
    body = data
    for name in names:
        body = ENCODERS[name][1](body)
    assert decoded([ENCODERS[name][0] for name in names], *cut(body, size)) == data


@pytest.mark.parametrize("size", [DECODED_PIECE_BYTES + extra for extra in (-1, 0, 1)])
@every_encoder
def test_a_body_may_be_just_as_long_as_a_piece(coding: str, encode: Encoder, size: int) -> None:
    assert decoded([coding], encode(b"x" * size)) == b"x" * size


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_not_there_is_empty(name: str) -> None:
    assert decoded([name]) == b""
    assert decoded([name], b"", b"") == b""
    assert decoded(["br", name], ENCODERS[name][1](b"")) == b""


@pytest.mark.parametrize("level", range(10))
def test_raw_deflate_is_never_taken_for_the_zlib_format(level: int) -> None:
    for data in (b"", b"\0" * 40, b"x", TEXT, bytes(range(256)) * 300):
        assert decoded(["deflate"], raw_deflate(data, level)) == data
        assert decoded(["deflate"], zlib.compress(data, level)) == data


# -- which codings there are ---------------------------------------------------------------


def test_what_is_installed_is_asked_for() -> None:
    assert accept_encoding() == "gzip, deflate, br, zstd"


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Which modules there are is found out anew in this test and after it."""
    for cache in (codings._makers, accept_encoding):
        cache.cache_clear()
    yield
    for cache in (codings._makers, accept_encoding):
        cache.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_what_is_not_installed_is_neither_asked_for_nor_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("brotli", "brotlicffi", ZSTD.__name__):
        monkeypatch.setitem(sys.modules, name, None)
    assert accept_encoding() == "gzip, deflate"
    assert decoder_for(["br"]) is None
    assert decoder_for(["zstd"]) is None


@pytest.mark.usefixtures("forgotten")
def test_brotlicffi_takes_the_place_of_brotli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    data = bytes(300_000) + TEXT
    body = brotli(data)
    assert decoded(["br"], body) == decoded(["br"], *cut(body, 1)) == data
    with pytest.raises(MalformedContent):
        decoded(["br"], body + b"x")


@pytest.mark.usefixtures("forgotten")
def test_a_brotli_without_a_limit_on_its_output_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = types.ModuleType("brotli")
    old.Decompressor = type("Decompressor", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "brotli", old)
    monkeypatch.setitem(sys.modules, "brotlicffi", None)
    assert "br" not in accept_encoding()


@pytest.mark.parametrize(
    "names",
    [[], ["identity"], ["Identity", "identity"], ["utf-8"], ["none"], ["gzip", "aws-chunked"],
     ["compress", "gzip"], ["gzip\0"], [" gzip"]],
)  # fmt: skip
def test_what_is_not_known_is_left_as_it_is(names: list[str]) -> None:
    assert decoder_for(names) is None


def test_rfc9110_8_4_1_names_are_in_any_case_and_identity_is_nothing() -> None:
    of = decoder("identity", "GZIP", "Br")
    assert of.codings == ("gzip", "br")
    assert b"".join(of.decode(brotli(gzip.compress(TEXT)))) == TEXT


# -- what is wrong with a body -------------------------------------------------------------


@every_encoder
def test_a_truncated_body_is_an_error(coding: str, encode: Encoder) -> None:
    body = encode(TEXT)
    whole = set()
    for at in range(1, len(body)):
        of = decoder(coding)
        out = b"".join(of.decode(body[:at]))
        assert TEXT.startswith(out)
        try:
            of.flush()
        except TruncatedContent:
            continue
        whole.add(out)
    # Between members, and before and after a skippable frame, a stream may end.
    assert whole == ({TEXT[: len(TEXT) // 2]} if encode in (two_members, two_frames) else set())


def test_a_body_that_is_truncated_inside_of_another_coding_is_an_error() -> None:
    body = brotli(gzip.compress(TEXT)[:-1])
    with pytest.raises(TruncatedContent) as raised:
        decoded(["gzip", "br"], body)
    assert raised.value.coding == "gzip"


@every_encoder
@pytest.mark.parametrize("garbage", [b"\0", b"x", b"garbage" * 9, b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_follows_the_end_is_an_error(coding: str, encode: Encoder, garbage: bytes) -> None:
    body = encode(TEXT)
    with pytest.raises(MalformedContent):
        decoded([coding], body + garbage)
    with pytest.raises(MalformedContent):
        decoded([coding], body, garbage)
    with pytest.raises(MalformedContent):
        decoded([coding], *cut(body + garbage, 1))


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_encoded_is_an_error(name: str) -> None:
    with pytest.raises(MalformedContent):
        decoded([name], b"<!doctype html><title>plain</title>")


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_wrong_checksum_is_an_error(name: str, encode: Encoder) -> None:
    body = bytearray(encode(TEXT))
    # gzip has its length behind the checksum, zlib ends with the checksum.
    body[-5 if name == "gzip" else -1] ^= 1
    with pytest.raises(MalformedContent, match="incorrect data check") as raised:
        decoded([name], bytes(body))
    assert (raised.value.coding, raised.value.section) == (name, "RFC 9110 section 8.4")


@every_encoder
@given(st.data())
def test_a_body_with_a_bit_flipped_is_an_error_or_decodes(
    coding: str, encode: Encoder, data: st.DataObject
) -> None:
    body = bytearray(encode(TEXT))
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    try:
        decoded([coding], bytes(body))
    except MalformedContent:
        return


def test_rfc9659_3_a_zstd_window_is_at_most_8_mib() -> None:
    def encoded(window_log: int) -> bytes:
        options = {ZSTD.CompressionParameter.window_log: window_log}
        body = ZSTD.ZstdCompressor(options=options)
        return bytes(body.compress(TEXT)) + bytes(body.flush())

    assert decoded(["zstd"], encoded(23)) == TEXT
    with pytest.raises(MalformedContent, match="memory"):
        decoded(["zstd"], encoded(24))


def test_a_decoder_that_failed_is_spent() -> None:
    of = decoder("gzip")
    with pytest.raises(MalformedContent):
        list(of.decode(b"no gzip"))
    with pytest.raises(RuntimeError, match="failed"):
        of.decode(gzip.compress(TEXT))
    with pytest.raises(RuntimeError, match="failed"):
        of.flush()


def test_pieces_that_nobody_read_are_not_lost_in_silence() -> None:
    body = gzip.compress(bytes(200_000))
    of = decoder("gzip")
    next(of.decode(body[:100]))
    with pytest.raises(RuntimeError, match="not all read"):
        of.decode(body[100:])


# -- bombs ---------------------------------------------------------------------------------

ZEROS = 64_000_000


@pytest.mark.parametrize(
    ("names", "encoders"),
    [
        (["gzip"], [gzip.compress]),
        (["deflate"], [zlib.compress]),
        (["br"], [brotli]),
        (["zstd"], [zstd]),
        (["gzip", "gzip"], [gzip.compress, gzip.compress]),
        (["deflate", "br", "zstd"], [zlib.compress, brotli, zstd]),
    ],
    ids=lambda names: "+".join(names) if isinstance(names[0], str) else "",
)
def test_a_bomb_is_stopped_with_no_more_than_pieces_in_memory(
    names: list[str], encoders: list[Encoder]
) -> None:
    body = bytes(ZEROS)
    for encode in encoders:
        body = encode(body)
    limits = ResponseLimits()
    allowed = limits.decoding_allowance_bytes + limits.max_decoding_ratio * (
        len(body) + DECODE_INPUT_BYTES
    )
    tracemalloc.start()
    try:
        of = decoder(*names)
        pieces = of.decode(body)
        with pytest.raises(LimitExceeded) as raised:
            sum(map(len, pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (raised.value.limit, raised.value.value) == ("max_decoding_ratio", 200)
    assert of.decoded <= allowed < ZEROS
    assert peak < len(names) * 5 * DECODED_PIECE_BYTES


def test_a_bomb_costs_no_more_than_what_is_read_of_it() -> None:
    of = decoder("gzip", "br")
    pieces = of.decode(brotli(gzip.compress(bytes(ZEROS))))
    assert len(next(pieces)) == of.decoded == DECODED_PIECE_BYTES


def test_a_bomb_that_decodes_to_nothing_is_a_bomb() -> None:
    # A million empty members are 20 MB of gzip, and 2 KB once encoded by br.
    body = brotli(gzip.compress(b"", mtime=0) * 1_000_000)
    limits = ResponseLimits(max_small_members=2**31 - 1)
    of = decoder("gzip", "br", limits=limits)
    with pytest.raises(LimitExceeded) as raised:
        list(of.decode(body))
    assert (raised.value.limit, of.decoded) == ("max_decoding_ratio", 0)


@pytest.mark.parametrize(
    ("name", "member", "held"),
    [
        ("gzip", gzip.compress(b""), 0),
        ("gzip", gzip.compress(b"x" * 63), 63),
        ("zstd", zstd(b""), 0),
        ("zstd", struct.pack("<II", 0x184D2A5F, 0), 0),
    ],
    ids=["empty gzip", "small gzip", "empty zstd", "skippable zstd"],
)
@pytest.mark.parametrize("size", [7, 1_000, 10**9])
def test_members_that_hold_next_to_nothing_are_limited(
    name: str, member: bytes, held: int, size: int
) -> None:
    limits = ResponseLimits(max_small_members=10)
    # The last that is allowed begins with just the 64 bytes that it may cost.
    allowed = (10 * 64 - 64) // (64 - held) + 1
    assert len(decoded([name], *cut(member * allowed, size), limits=limits)) == held * allowed
    with pytest.raises(LimitExceeded) as raised:
        decoded([name], *cut(member * (allowed + 1), size), limits=limits)
    assert (raised.value.limit, raised.value.value) == ("max_small_members", 10)


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_members_that_hold_something_are_not_limited(name: str, encode: Encoder) -> None:
    limits = ResponseLimits(max_small_members=1)
    assert decoded([name], encode(b"x" * 64) * 500, limits=limits) == b"x" * 32_000


@pytest.mark.parametrize("size", [1, 1_000, DECODE_INPUT_BYTES, 20_000, 10**9])
def test_the_ratio_is_the_same_however_a_body_is_cut(size: int) -> None:
    # Noise up to the end of the second step, then zeros, which exceed the ratio in the third;
    # with what comes after that the ratio of the whole would be within the limit.
    noise = random.Random(5).randbytes(32_000)
    body = gzip.compress(noise) + gzip.compress(bytes(16_000_000)) + gzip.compress(noise)
    limits = ResponseLimits(decoding_allowance_bytes=1, max_decoding_ratio=300)
    of = decoder("gzip", limits=limits)
    with pytest.raises(LimitExceeded):
        sum(len(piece) for part in cut(body, size) for piece in of.decode(part))
    assert -(-of.received // DECODE_INPUT_BYTES) == 3


@every_encoder
def test_the_size_of_a_body_is_limited(coding: str, encode: Encoder) -> None:
    body = encode(TEXT)
    assert decoded([coding], body, max_body_bytes=len(TEXT)) == TEXT
    for size in (1, len(body)):
        with pytest.raises(LimitExceeded) as raised:
            decoded([coding], *cut(body, size), max_body_bytes=len(TEXT) - 1)
        assert (raised.value.limit, raised.value.value) == ("max_body_bytes", len(TEXT) - 1)


def test_the_number_of_codings_is_limited() -> None:
    body = TEXT
    for _ in range(5):
        body = gzip.compress(body)
    assert decoded(["gzip"] * 5, body) == TEXT
    for names in (["gzip"] * 6, ["identity"] * 6, ["unknown"] * 6):
        with pytest.raises(LimitExceeded) as raised:
            decoder_for(names)
        assert (raised.value.limit, raised.value.value) == ("max_codings", 5)

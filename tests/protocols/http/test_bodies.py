"""Bodies of requests: what may be one, its size, whether it can be sent again."""

import asyncio
import gzip
import io
import json
import math
import os
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.bodies import Body, encode_body
from protocols.http.errors import BodyConsumedError, BodySizeError
from protocols.http.limits import BODY_PIECE_BYTES


def body_for(**arguments: Any) -> Body:
    body = encode_body(**arguments)
    assert body is not None
    return body


def sent(body: Body) -> bytes:
    """Return what both ways of iterating yield; the first only when that is the last."""
    if body.is_async:
        return sent_async(body)
    data = checked(list(body))
    if body.replayable:
        assert checked(list(body)) == data
        assert sent_async(body) == data
    return data


def sent_async(body: Body) -> bytes:
    async def collect() -> list[bytes]:
        return [piece async for piece in body]

    return checked(asyncio.run(collect()))


def checked(pieces: list[bytes]) -> bytes:
    assert all(type(piece) is bytes and piece for piece in pieces)
    return b"".join(pieces)


def letters() -> Iterator[Any]:
    yield from (b"a", b"", bytearray(b"b"), memoryview(b"cc"))


async def async_letters() -> AsyncIterator[bytes]:
    for letter in letters():
        await asyncio.sleep(0)
        yield letter


class Pipe:
    """A binary file that cannot seek, and reads less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, 1_000))


# -- content -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"abc", b"abc"),
        ("ä€", "ä€".encode()),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        ([b"a", b"", bytearray(b"b")], b"ab"),
        ((b"a", memoryview(b"b")), b"ab"),
        ([], b""),
        (b"x" * (BODY_PIECE_BYTES + 1), b"x" * (BODY_PIECE_BYTES + 1)),
    ],
    ids=lambda value: repr(value)[:40],  # a name goes into the environment, which has its limits
)
def test_what_lies_in_memory_is_sent_as_it_is(content: Any, expected: bytes) -> None:
    body = body_for(content=content)
    assert (body.size, body.content_type, body.whole) == (len(expected), None, expected)
    assert body.replayable
    assert sent(body) == expected
    assert all(len(piece) <= BODY_PIECE_BYTES for piece in body)


def test_what_can_change_is_copied() -> None:
    content = bytearray(b"abc")
    pieces = [content]
    bodies = [body_for(content=content), body_for(content=pieces)]
    bodies.append(body_for(content=memoryview(content)))
    content[:] = b"xyz"
    assert [sent(body) for body in bodies] == [b"abc"] * 3


def test_an_iterator_is_sent_once() -> None:
    body = body_for(content=letters())
    assert (body.size, body.content_type, body.whole) == (None, None, None)
    assert body.replayable
    pieces = iter(body)
    assert body.replayable
    assert next(pieces) == b"a"
    assert not body.replayable
    assert list(pieces) == [b"b", b"cc"]
    with pytest.raises(BodyConsumedError):
        iter(body)
    with pytest.raises(BodyConsumedError):
        sent_async(body)


def test_an_async_iterator_is_sent_once() -> None:
    body = body_for(content=async_letters())
    assert (body.size, body.is_async, body.replayable) == (None, True, True)
    with pytest.raises(TypeError, match="AsyncClient"):
        iter(body)
    assert sent_async(body) == b"abcc"
    assert not body.replayable
    with pytest.raises(BodyConsumedError):
        sent_async(body)


def test_two_iterations_that_began_at_once_do_not_share_an_iterator() -> None:
    body = body_for(content=letters())
    first, second = iter(body), iter(body)
    next(first)
    with pytest.raises(BodyConsumedError):
        next(second)


def test_a_generator_that_has_ended_is_no_empty_body() -> None:
    spent = letters()
    list(spent)
    with pytest.raises(BodyConsumedError, match="its end"):
        encode_body(content=spent)

    async def spend() -> None:
        spent = async_letters()
        async for _ in spent:
            pass
        with pytest.raises(BodyConsumedError, match="its end"):
            encode_body(content=spent)

    asyncio.run(spend())


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"a"]], ids=repr)
def test_a_piece_that_is_not_bytes_is_refused_when_it_is_met(wrong: Any) -> None:
    pieces = iter(body_for(content=iter([b"a", wrong])))
    assert next(pieces) == b"a"
    with pytest.raises(TypeError, match="a piece of a body is bytes"):
        next(pieces)


def test_what_an_iterator_raises_comes_out() -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        raise LookupError("mine")

    pieces = iter(body_for(content=broken()))
    assert next(pieces) == b"a"
    with pytest.raises(LookupError, match="mine"):
        next(pieces)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (5, "not int"),
        ({"a": 1}, "for a form there is data"),
        (Path("name"), "open the file"),
        (["text"], "a piece of a body is bytes, not str"),
        (object(), "not object"),
    ],
    ids=repr,
)
def test_what_cannot_be_a_body_is_refused_at_once(content: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        encode_body(content=content)


# -- files ---------------------------------------------------------------------------------

FILE = bytes(range(256)) * 600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(FILE)
    return path


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_file_is_sent_from_where_it_is_and_again_from_there(path: Path, buffering: int) -> None:
    with path.open("rb", buffering) as file:
        file.seek(1_000)
        body = body_for(content=file)
        assert (body.size, body.content_type, body.whole) == (len(FILE) - 1_000, None, None)
        assert file.tell() == 1_000
        file.seek(5)
        assert sent(body) == FILE[1_000:]
        assert body.replayable
        assert not file.closed


def test_a_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 100_000_000)
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            assert sum(map(len, body_for(content=file))) == 100_000_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * BODY_PIECE_BYTES


def test_a_file_behind_its_end_is_empty(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(len(FILE) + 5)
        body = body_for(content=file)
        assert (body.size, sent(body)) == (0, b"")


def test_a_file_that_grows_is_sent_as_long_as_it_was(path: Path) -> None:
    with path.open("rb") as file:
        body = body_for(content=file)
        with path.open("ab") as other:
            other.write(b"more")
        assert sent(body) == FILE


def test_a_file_that_shrinks_is_an_error(path: Path) -> None:
    with path.open("rb") as file:
        body = body_for(content=file)
        os.truncate(path, 100)
        with pytest.raises(BodySizeError) as raised:
            list(body)
    assert (raised.value.announced, raised.value.actual) == (len(FILE), 100)


def test_the_size_of_a_file_is_that_of_what_is_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(FILE))
    with gzip.open(path, "rb") as file:
        body = body_for(content=file)
        assert (body.size, sent(body)) == (len(FILE), FILE)


def test_what_spools_to_disk_is_a_file() -> None:
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(FILE)
        file.seek(0)
        assert sent(body_for(content=file)) == FILE


def test_a_file_that_cannot_seek_is_sent_once() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        with os.fdopen(writer, "wb") as other:
            other.write(b"abc")
        body = body_for(content=file)
        assert (body.size, body.replayable) == (None, True)
        assert sent(body) == b"abc"
        assert not body.replayable
        with pytest.raises(BodyConsumedError):
            iter(body)


def test_whatever_can_be_read_is_a_file() -> None:
    assert sent(body_for(content=Pipe(FILE))) == FILE


def test_a_file_that_is_open_as_text_is_refused(path: Path) -> None:
    with (
        path.open(encoding="latin-1") as text,
        tempfile.NamedTemporaryFile("w+", encoding="utf-8") as wrapped,
    ):
        for file in (io.StringIO("text"), text, wrapped):
            with pytest.raises(TypeError, match="binary mode"):
                encode_body(content=file)  # type: ignore[arg-type]


def test_a_file_that_is_closed_is_refused(path: Path) -> None:
    with path.open("rb") as file:
        pass
    with pytest.raises(ValueError, match="closed file"):
        encode_body(content=file)


@pytest.mark.skipif(
    not hasattr(os, "set_blocking"), reason="Windows has os.set_blocking from Python 3.12 on"
)
def test_a_file_that_has_nothing_yet_is_refused_when_that_is_met() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb", buffering=0) as file, os.fdopen(writer, "wb"):
        body = body_for(content=file)
        with pytest.raises(TypeError, match="not NoneType"):
            list(body)


# -- a size that was announced -------------------------------------------------------------


@pytest.mark.parametrize("content", [letters, async_letters])
def test_an_iterator_may_have_a_size(content: Any) -> None:
    body = body_for(content=content(), size=4)
    assert (body.size, sent(body)) == (4, b"abcc")


@pytest.mark.parametrize("content", [letters, async_letters, lambda: Pipe(b"abcc")])
def test_a_body_that_is_too_short_is_an_error_at_its_end(content: Any) -> None:
    with pytest.raises(BodySizeError) as raised:
        sent(body_for(content=content(), size=5))
    assert (raised.value.announced, raised.value.actual) == (5, 4)


@pytest.mark.parametrize("content", [letters, async_letters, lambda: Pipe(b"abcc")])
def test_a_body_that_is_too_long_is_an_error_before_the_byte_too_many(content: Any) -> None:
    body = body_for(content=content(), size=3)
    seen = []

    async def collect() -> None:
        pieces = aiter(body)
        while True:
            seen.append(await anext(pieces))

    with pytest.raises(BodySizeError) as raised:
        asyncio.run(collect())
    assert raised.value.announced == 3 < raised.value.actual
    assert len(b"".join(seen)) <= 3


@pytest.mark.parametrize("size", [0, 2, 4])
def test_a_size_that_cannot_be_true_is_refused_at_once(size: int, path: Path) -> None:
    with path.open("rb") as file:
        arguments: list[dict[str, Any]] = [
            {"content": b"abc"},
            {"json": {}, "data": None},
            {"data": {"a": "b"}},
            {"content": file},
        ]
        for given in arguments:
            if encode_body(**given).size != size:  # type: ignore[union-attr]
                with pytest.raises(BodySizeError):
                    encode_body(**given, size=size)


def test_no_body_has_no_size_but_zero() -> None:
    assert encode_body(size=0) is None
    with pytest.raises(BodySizeError):
        encode_body(size=1)


def test_a_size_of_zero_is_a_size() -> None:
    body = body_for(content=iter([b""]), size=0)
    assert (body.size, sent(body)) == (0, b"")
    with pytest.raises(BodySizeError):
        list(body_for(content=iter([b"a"]), size=0))


@given(st.lists(st.binary(max_size=5)), st.integers(0, 20))
def test_never_more_than_the_size_is_handed_out(pieces: list[bytes], size: int) -> None:
    seen: list[bytes] = []
    kept = True
    try:
        seen.extend(body_for(content=iter(pieces), size=size))
    except BodySizeError:
        kept = False
    assert kept == (len(b"".join(pieces)) == size)
    assert b"".join(pieces).startswith(b"".join(seen))
    assert len(b"".join(seen)) <= size
    assert b"" not in seen


# -- forms and JSON ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": "b c", "d": ["ä", 1]}, b"a=b+c&d=%C3%A4&d=1"),
        ([("a", "1"), ("b", None), ("a", True)], b"a=1&b=&a=true"),
    ],
    ids=repr,
)
def test_data_is_a_form(data: Any, expected: bytes) -> None:
    body = body_for(data=data)
    assert body.content_type == "application/x-www-form-urlencoded"
    assert (body.whole, body.size, sent(body)) == (expected, len(expected), expected)


@pytest.mark.parametrize("data", ["a=b", b"a=b", io.BytesIO(b"a"), 5], ids=repr)
def test_data_of_another_kind_is_told_to_be_content(data: Any) -> None:
    with pytest.raises(TypeError, match="is content"):
        encode_body(data=data)


def test_json_is_compact_utf_8() -> None:
    body = body_for(json={"a": [1, None, "ä€😀"], "b": {}})
    assert body.content_type == "application/json"
    assert body.whole == '{"a":[1,null,"ä€😀"],"b":{}}'.encode()
    assert json.loads(sent(body)) == {"a": [1, None, "ä€😀"], "b": {}}


@pytest.mark.parametrize("value", [0, False, "", [], {}], ids=repr)
def test_json_that_is_false_is_json(value: Any) -> None:
    assert body_for(json=value).whole == json.dumps(value).encode()


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}, "\ud800"], ids=ascii)
def test_what_json_cannot_say_is_refused_at_once(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        encode_body(json=value)


def test_what_json_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode_body(json={b"a"})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"content": None, "json": None, "data": None, "files": None},
        {"data": {}},
        {"data": [], "files": {}},
        {"files": []},
        {"data": {"a": []}},
    ],
    ids=repr,
)
def test_nothing_is_no_body(arguments: Any) -> None:
    assert encode_body(**arguments) is None


def test_no_files_make_data_a_plain_form() -> None:
    assert body_for(data={"a": 1}, files={}).whole == b"a=1"


@pytest.mark.parametrize(
    "names",
    [
        ("content", "json"),
        ("content", "data"),
        ("content", "files"),
        ("json", "data"),
        ("json", "files"),
        ("content", "json", "data", "files"),
    ],
    ids="+".join,
)
def test_a_request_has_one_body(names: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"content": b"", "json": 0, "data": {}, "files": {}}
    with pytest.raises(TypeError, match=" and ".join(names)):
        encode_body(**{name: values[name] for name in names})


def test_the_callers_content_type_takes_the_place_of_ours() -> None:
    assert body_for(json=1, content_type="application/x").content_type == "application/x"
    assert body_for(content=b"a", content_type="text/x").content_type == "text/x"
    assert body_for(data={"a": 1}, content_type="a/b").content_type == "a/b"


def test_a_body_does_not_show_what_it_holds() -> None:
    assert repr(body_for(json="secret")) == "<BytesBody of 8 bytes, application/json>"
    unknown = body_for(content=letters())
    assert repr(unknown) == "<IterableBody of unknown size, no content type>"

"""Forms with files: what is written, that others read it, and what is refused."""

import email
import email.policy
import io
import os
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.bodies import Body, encode_body
from protocols.http.errors import BodyConsumedError, BodySizeError, InvalidHeader
from protocols.http.limits import BODY_PIECE_BYTES

FIXED = "multipart/form-data; boundary=limit"


def form(*, content_type: str | None = FIXED, **arguments: Any) -> Body:
    body = encode_body(content_type=content_type, **arguments)
    assert body is not None
    return body


def written(**arguments: Any) -> str:
    """Return the body with line ends of LF, since everything in it has CRLF."""
    body = form(**arguments)
    data = b"".join(body)
    assert body.size == len(data)
    assert re.search(rb"(?<!\r)\n", data) is None
    return data.decode().replace("\r\n", "\n")


def read_by_others(body: Body) -> list[tuple[str, str | None, str, bytes]]:
    """Return (name, file name, content type, content) of each part, as email reads it."""
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + b"".join(body), policy=email.policy.HTTP)
    assert not message.defects
    parts = []
    for part in message.iter_parts():
        assert isinstance(part, EmailMessage)
        assert not part.defects
        assert part.get_content_disposition() == "form-data"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        parts.append((str(name), part.get_filename(), part.get_content_type(), content))
    return parts


# -- what is written -----------------------------------------------------------------------


def test_rfc7578_4_a_form_is_written_part_by_part() -> None:
    file = io.BytesIO(b"\x89PNG")
    file.name = "/tmp/a picture.PNG"
    assert written(
        data={"text": "ä b", "list": [1, True, None]},
        files={"file": ("päth.txt", b"content", None, {"X-Extra": "1"}), "blob": ("x", "ü")},
    ) == (
        "--limit\n"
        'Content-Disposition: form-data; name="text"\n\nä b\n'
        "--limit\n"
        'Content-Disposition: form-data; name="list"\n\n1\n'
        "--limit\n"
        'Content-Disposition: form-data; name="list"\n\ntrue\n'
        "--limit\n"
        'Content-Disposition: form-data; name="list"\n\n\n'
        "--limit\n"
        'Content-Disposition: form-data; name="file"; filename="päth.txt"\n'
        "X-Extra: 1\n"
        "Content-Type: text/plain\n\ncontent\n"
        "--limit\n"
        'Content-Disposition: form-data; name="blob"; filename="x"\n'
        "Content-Type: application/octet-stream\n\nü\n"
        "--limit--\n"
    )


def test_a_form_is_written_as_httpx_does() -> None:
    # By httpx 0.28.1, byte for byte.
    files = [("f", ("a.txt", b"hello")), ("g", ("b.bin", b"\0", "x/y")), ("h", (None, b"plain"))]
    assert written(data={"l": ["2", "3"]}, files=files) == (
        '--limit\nContent-Disposition: form-data; name="l"\n\n2\n'
        '--limit\nContent-Disposition: form-data; name="l"\n\n3\n'
        '--limit\nContent-Disposition: form-data; name="f"; filename="a.txt"\n'
        "Content-Type: text/plain\n\nhello\n"
        '--limit\nContent-Disposition: form-data; name="g"; filename="b.bin"\n'
        "Content-Type: x/y\n\n\0\n"
        '--limit\nContent-Disposition: form-data; name="h"\n\nplain\n'
        "--limit--\n"
    )


@pytest.mark.parametrize(
    ("spec", "head"),
    [
        (b"x", 'name="f"; filename="upload"\nContent-Type: application/octet-stream'),
        ("x", 'name="f"; filename="upload"\nContent-Type: application/octet-stream'),
        (("n", b"x"), 'name="f"; filename="n"\nContent-Type: application/octet-stream'),
        (("n.html", b"x"), 'name="f"; filename="n.html"\nContent-Type: text/html'),
        (("n.JPG", b"x"), 'name="f"; filename="n.JPG"\nContent-Type: image/jpeg'),
        (("n.html", b"x", "a/b"), 'name="f"; filename="n.html"\nContent-Type: a/b'),
        (("n.html", b"x", None, None), 'name="f"; filename="n.html"\nContent-Type: text/html'),
        (("n", b"x", None, {"Content-Type": "a/b"}), 'name="f"; filename="n"\nContent-Type: a/b'),
        (("n", b"x", "c/d", {"content-type": "a"}), 'name="f"; filename="n"\nContent-Type: c/d'),
        (("", b"x"), 'name="f"; filename=""\nContent-Type: application/octet-stream'),
        ((None, b"x"), 'name="f"'),
        ((None, b"x", "a/b"), 'name="f"\nContent-Type: a/b'),
        (("n.a.gz", b"x"), 'name="f"; filename="n.a.gz"\nContent-Type: application/octet-stream'),
        (("n.tgz", b"x"), 'name="f"; filename="n.tgz"\nContent-Type: application/octet-stream'),
        (("n.://[", b"x"), 'name="f"; filename="n.://["\nContent-Type: application/octet-stream'),
        (("a/b.txt", b"x"), 'name="f"; filename="a/b.txt"\nContent-Type: text/plain'),
    ],
    ids=repr,
)  # fmt: skip
def test_a_file_is_given_in_the_forms_of_httpx_and_requests(spec: Any, head: str) -> None:
    expected = f"--limit\nContent-Disposition: form-data; {head}\n\nx\n--limit--\n"
    assert written(files={"f": spec}) == expected
    assert written(files=[("f", spec)]) == expected


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("/home/me/a.txt", "a.txt"),
        ("a b.txt", "a b.txt"),
        ("<stdin>", "upload"),
        (3, "upload"),
        ("", "upload"),
        (b"a.txt", "upload"),
    ],
)
def test_a_file_without_a_name_is_called_what_it_was_opened_as(name: Any, filename: str) -> None:
    file = io.BytesIO(b"x")
    file.name = name
    assert f'; filename="{filename}"\n' in written(files={"f": file})


def test_fields_may_repeat_and_keep_their_order() -> None:
    body = form(data=[("a", 1), ("b", 2), ("a", 3)], files=[("f", b"4"), ("a", b"5"), ("f", b"6")])
    assert [part[0] for part in read_by_others(body)] == ["a", "b", "a", "f", "a", "f"]
    assert [part[3] for part in read_by_others(body)] == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_a_quote_is_percent_encoded_as_html_says_and_a_backslash_stays() -> None:
    text = written(data={'a"b': 1}, files={"c\\d": ('e"f\\g.txt', b"")})
    assert 'name="a%22b"\n' in text
    assert 'name="c\\d"; filename="e%22f\\g.txt"\n' in text


def test_a_file_may_be_whatever_content_may_be(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2")
    with path.open("rb") as file:
        body = form(
            files={"file": file, "list": ("l", [b"a", b"b"]), "iterator": ("i", iter([b"c"]))}
        )
        assert body.size is None
        assert read_by_others(body) == [
            ("file", "a.csv", "text/csv", b"1,2"),
            ("list", "l", "application/octet-stream", b"ab"),
            ("iterator", "i", "application/octet-stream", b"c"),
        ]


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).filter(
    lambda name: not name.endswith("\\")
)
values = st.binary(max_size=100).filter(lambda value: b"--limit" not in value)


@given(
    fields=st.lists(st.tuples(names, values), max_size=4),
    files=st.lists(st.tuples(names, st.tuples(names, values)), min_size=1, max_size=4),
)
def test_what_was_written_can_be_taken_apart(
    fields: list[tuple[str, bytes]], files: list[tuple[str, tuple[str, bytes]]]
) -> None:
    body = form(data=fields, files=files)
    data = b"".join(body)
    assert body.size == len(data)
    first, *parts, last = data.split(b"--limit")
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == ""
        disposition = re.fullmatch(
            r'Content-Disposition: form-data; name="([^"]*)"(?:; filename="([^"]*)")?', lines[1]
        )
        assert disposition is not None
        found.append((*disposition.groups(), content.removesuffix(b"\r\n")))
    expected: list[tuple[str, str | None, bytes]] = [(name, None, value) for name, value in fields]
    expected += [(name, filename, value) for name, (filename, value) in files]
    assert found == [
        (name.replace('"', "%22"), filename and filename.replace('"', "%22"), value)
        for name, filename, value in expected
    ]


# -- the boundary --------------------------------------------------------------------------


def test_a_boundary_is_drawn_at_random() -> None:
    types = {form(content_type=None, files={"f": b""}).content_type for _ in range(10)}
    assert len(types) == 10
    for content_type in types:
        assert re.fullmatch(r"multipart/form-data; boundary=[0-9a-f]{32}", str(content_type))


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=limit",
        'multipart/form-data;boundary="limit"',
        "Multipart/Form-Data ; charset=utf-8 ; Boundary=limit ",
        'multipart/form-data; x="; boundary=other"; boundary=limit',
    ],
)
def test_the_boundary_of_the_callers_content_type_is_used(content_type: str) -> None:
    body = form(content_type=content_type, files={"f": ("n", b"x")})
    assert body.content_type == content_type
    assert b"".join(body).startswith(b"--limit\r\n")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=" + "a" * 71,
        'multipart/form-data; boundary="a b"',
        "multipart/form-data; boundary=a\r\nX: b",
        'multipart/form-data; boundary="a\r\nX: b"',
        "application/x-www-form-urlencoded; boundary=a",
    ],
)
def test_a_content_type_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidHeader, match="boundary") as raised:
        encode_body(files={"f": b""}, content_type=content_type)
    assert raised.value.name == "Content-Type"


# -- what is refused -----------------------------------------------------------------------

BAD_NAMES = ["a\r\nX: y", "a\n", "\r", "a\0", "\t", "\x1b", "\x7f", "\x85", "a\\", '"\\', "\ud800"]


@pytest.mark.parametrize("bad", BAD_NAMES, ids=ascii)
def test_a_name_that_could_end_or_break_a_header_is_refused(bad: str) -> None:
    for arguments in (
        {"data": {bad: "x"}, "files": {"f": b""}},
        {"files": {bad: b""}},
        {"files": {bad: (None, b"")}},
    ):
        with pytest.raises(InvalidHeader) as raised:
            encode_body(**arguments)
        assert raised.value.name == "name"
    with pytest.raises(InvalidHeader) as raised:
        encode_body(files={"f": (bad, b"")})
    assert raised.value.name == "filename"


@pytest.mark.parametrize(
    "bad",
    # on Windows what ends with a backslash has no name at all
    [bad for bad in BAD_NAMES[:-1] if sys.platform != "win32" or not bad.endswith("\\")],
    ids=ascii,
)
def test_the_name_of_an_open_file_is_looked_at_too(bad: str) -> None:
    file = io.BytesIO()
    file.name = bad
    with pytest.raises(InvalidHeader):
        encode_body(files={"f": file})


@pytest.mark.parametrize(
    ("content_type", "headers", "name"),
    [
        ("a/b\r\nX: y", None, "Content-Type"),
        ("a/b\0", None, "Content-Type"),
        (" a/b", None, "Content-Type"),
        (None, {"X-A": "b\nc"}, "X-A"),
        (None, {"X A": "b"}, "X A"),
        (None, {"X\r\nA": "b"}, "X\r\nA"),
        (None, {"Content-disposition": "form-data"}, "Content-Disposition"),
    ],
)
def test_a_header_of_a_part_is_looked_at(
    content_type: str | None, headers: dict[str, str] | None, name: str
) -> None:
    with pytest.raises(InvalidHeader) as raised:
        encode_body(files={"f": ("n", b"", content_type, headers)})
    assert raised.value.name == name


async def async_pieces() -> AsyncIterator[bytes]:
    yield b"a"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"files": "text"}, "files are a mapping, or pairs"),
        ({"files": [b"x"]}, "files are a mapping, or pairs"),
        ({"files": [("f",)]}, "files are a mapping, or pairs"),
        ({"files": [("f", "n", b"x")]}, "files are a mapping, or pairs"),
        ({"files": {5: b"x"}}, "a field name is str, not int"),
        ({"files": {b"f": b"x"}}, "a field name is str, not bytes"),
        ({"files": {"f": None}}, "content of a body .* not NoneType"),
        ({"files": {"f": 5}}, "content of a body .* not int"),
        ({"files": {"f": ("n",)}}, "a file is .file name, content"),
        ({"files": {"f": ("n", b"x", None, None, None)}}, "a file is .file name, content"),
        ({"files": {"f": (b"n", b"x")}}, "a file name is str or None, not bytes"),
        ({"files": {"f": ("n", io.StringIO("x"))}}, "open it in binary mode"),
        ({"files": {"f": Path("n")}}, "open the file"),
        ({"files": {"f": {"n": b"x"}}}, "content of a body .* not dict"),
        ({"files": {"f": b""}, "data": {b"n": "x"}}, "a field name is str, not bytes"),
        ({"files": {"f": b""}, "data": {"n": {"a": "b"}}}, "a value is .* not dict"),
        ({"files": {"f": b""}, "data": b"raw"}, "names and values are .* not bytes"),
    ],
    ids=repr,
)
def test_what_is_no_form_is_refused_at_once(arguments: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        encode_body(**arguments)


def test_a_part_cannot_be_asynchronous() -> None:
    with pytest.raises(TypeError, match="async"):
        encode_body(files={"f": async_pieces()})  # type: ignore[arg-type]


def test_a_value_without_utf_8_is_refused_at_once() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_body(data={"a": "\ud800"}, files={"f": b""})


# -- streaming -----------------------------------------------------------------------------


def test_files_are_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 50_000_000)
    with path.open("rb") as file, path.open("rb") as other:
        body = form(files={"a": file, "b": other})
        assert body.size is not None
        tracemalloc.start()
        try:
            assert sum(map(len, body)) == body.size > 100_000_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * BODY_PIECE_BYTES


def test_what_is_small_goes_out_together() -> None:
    small = form(data={"a": "b"}, files={"c": b"d", "e": b"f"})
    assert list(small) == [small.whole]
    assert small.size == len(small.whole or b"")
    many = form(data={str(number): "x" * 1_000 for number in range(1_000)}, files={"f": b"x"})
    sizes = list(map(len, many))
    assert many.whole is None
    assert form(files={"f": io.BytesIO(b"a file")}).whole is None
    assert len(sizes) < 30
    assert max(sizes) < 2 * BODY_PIECE_BYTES


def test_a_form_can_be_sent_again_if_its_files_can(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        body = form(data={"a": 1}, files=[("f", file), ("g", file)])
        first = b"".join(body)
        assert first.count(b"content") == 2
        assert body.replayable
        assert b"".join(body) == first


def test_a_form_with_an_iterator_is_sent_once() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"

    body = form(files={"f": ("n", pieces())})
    assert (body.size, body.replayable) == (None, True)
    b"".join(body)
    assert not body.replayable
    with pytest.raises(BodyConsumedError):
        iter(body)


def test_a_form_whose_file_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        body = form(files={"f": file})
        os.truncate(path, 3)
        with pytest.raises(BodySizeError):
            b"".join(body)

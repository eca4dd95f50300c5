"""Response: what it says of the bytes that came."""

from __future__ import annotations

import codecs
import encodings
import pkgutil
from typing import Any

import pytest

from protocols.http import AsyncClient, BodyNotReadError, Response, StatusError, StreamConsumed
from tests.peers.scripted import Conversation, answer, on_reactor, run, serving
from tests.peers.scripts import says


def response_to(data: bytes, *, stream: bool = False) -> Response:
    """Return the client's response when the server says *data*."""

    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(data)
        await peer.until_closed()

    async def main() -> Response:
        async with serving(script) as server, AsyncClient() as client:
            if not stream:
                return await client.get(server.url("/x?y"))
            async with client.stream("GET", server.url()) as response:
                return response

    return run(main())


def test_facts_of_the_head() -> None:
    response = response_to(answer(b"hello", "X-A: 1", "x-a: 2"))
    assert (response.status_code, response.reason_phrase) == (200, "OK")
    assert response.http_version == "HTTP/1.1"
    assert (response.method, response.url.target) == ("GET", "/x?y")
    assert response.headers.get_list("X-A") == ["1", "2"]
    assert response.headers is response.headers
    assert response.trailers is None
    assert response.is_success
    assert repr(response) == "<Response [200 OK]>"


@pytest.mark.parametrize(
    ("line", "status", "phrase"),
    [(b"HTTP/1.1 299 ", 299, ""), (b"HTTP/1.1 200", 200, ""), (b"HTTP/1.0 404 a  b ", 404, "a  b "),
     (b"HTTP/1.1 999 caf\xe9", 999, "caf\xe9")],
)  # fmt: skip
def test_reason_phrase_is_whatever_the_server_says(line: bytes, status: int, phrase: str) -> None:
    response = response_to(line + b"\r\nContent-Length: 0\r\n\r\n")
    assert (response.status_code, response.reason_phrase) == (status, phrase)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ('text/plain; charset="ISO-8859-1"', b"\xe9", "é"),
        ("text/plain; x=y; CHARSET = utf-16le ", "é".encode("utf-16le"), "é"),
        ("text/plain; charset=nonsense", "é".encode(), "é"),
        ("text/plain; charset=", "é".encode(), "é"),
        ("text/plain; charset", "é".encode(), "é"),
        ("", b"\xff", "\ufffd"),
        ("text/plain; charset=hex", b"6162", "6162"),
        ("text/plain; charset=rot13", b"abc", "abc"),
        ("text/plain; charset=idna", b"xn--", "xn--"),
        ("text/plain; charset=punycode", b"\xff", "\ufffd"),
        ("text/plain; charset=unicode_escape", b"\\x", "\\x"),
        ("text/plain; charset=undefined", b"x", "x"),
        ("text/plain; charset=../x", b"x", "x"),
    ],
)
def test_text_is_decoded_as_the_content_type_says_where_that_makes_sense(
    content_type: str, body: bytes, text: str
) -> None:
    assert response_to(answer(body, f"Content-Type: {content_type}")).text == text


def test_no_charset_that_python_knows_makes_text_raise() -> None:
    response = response_to(answer(b"\xff\x80\\N{x+\xfe"))
    for module in pkgutil.iter_modules(encodings.__path__):
        try:
            codecs.lookup(module.name)
        except LookupError:
            continue
        charset = f"Content-Type: text/plain; charset={module.name}"
        assert isinstance(response_to(answer(response.content, charset)).text, str)


def test_json_is_parsed() -> None:
    response = response_to(answer('{"a": [1, "é"]}'.encode()))
    assert response.json() == {"a": [1, "é"]}
    assert response.json(parse_int=str) == {"a": ["1", "é"]}
    with pytest.raises(ValueError, match="Expecting"):
        response_to(answer(b"")).json()


@pytest.mark.parametrize("status", [200, 204, 301, 399, 400, 404, 500, 999])
def test_status_is_an_error_from_400_on_and_only_when_asked(status: int) -> None:
    response = response_to(f"HTTP/1.1 {status} Why\r\nContent-Length: 0\r\n\r\n".encode())
    assert response.is_success is (status < 300)
    if status < 400:
        assert response.raise_for_status() is response
        return
    with pytest.raises(StatusError, match=rf"GET http://.*/x\?y: {status} Why") as caught:
        response.raise_for_status()
    assert caught.value.response is response


def test_trailers_come_with_a_chunked_body() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSum: 1\r\n\r\n"
    trailers = response_to(data).trailers
    assert trailers is not None
    assert trailers["sum"] == "1"


def test_cookies_of_a_response_are_those_that_it_sets() -> None:
    fields = ("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Domain=else.example", "Set-Cookie: a=3")
    response = response_to(answer(b"", *fields))
    assert response.cookies == {"a": "3", "b": "2"}
    assert response.ok
    assert not response_to(answer(b"", status="404 No")).ok


def test_collected_response_is_read_from_its_content_and_has_no_raw_pieces() -> None:
    response = response_to(answer(b"a\nbc"))
    for _ in range(2):
        assert list(response.iter_bytes()) == [b"a\nbc"]
        assert list(response.iter_bytes(3)) == [b"a\nb", b"c"]
        assert list(response.iter_text(2)) == ["a\n", "bc"]
        assert list(response.iter_lines()) == ["a", "bc"]
    with pytest.raises(StreamConsumed, match="in content"):
        response.iter_raw()
    assert list(response_to(answer(b"")).iter_bytes()) == []
    response.close()


@pytest.mark.parametrize("size", [0, -1])
def test_chunk_without_a_size_raises(size: int) -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        response_to(answer(b"x")).iter_bytes(size)


@pytest.mark.parametrize("ask", ["content", "text"])
def test_body_that_was_not_read_raises(ask: str) -> None:
    response: Any = response_to(answer(b"x" * 1000), stream=True)
    with pytest.raises(BodyNotReadError):
        getattr(response, ask)


def test_response_of_a_client_that_is_gone_is_still_whole() -> None:
    response = response_to(answer(b"still here", "A: b"))
    assert (response.content, response.headers["a"]) == (b"still here", "b")


@pytest.mark.parametrize(
    ("status", "true"),
    [
        ("200 OK", {"is_success"}), ("302 Found", {"is_redirect"}), ("304 Same", set()),
        ("404 No", {"is_error", "is_client_error"}), ("503 No", {"is_error", "is_server_error"}),
    ],
)  # fmt: skip
@on_reactor
async def test_sorts_of_status(status: str, true: set[str]) -> None:
    said = answer(b"", "Location: /b", status=status)
    async with serving(says(said)) as server, AsyncClient() as client:
        response = await client.get(server.url("/a"))
    sorts = ("is_success", "is_redirect", "is_error", "is_client_error", "is_server_error")
    assert {name for name in sorts if getattr(response, name)} == true


@on_reactor
async def test_next_request_is_the_one_that_would_follow() -> None:
    said = answer(b"", "Location: http://b.example/x", status="307 There")
    async with serving(says(said, answer(b""))) as server, AsyncClient() as client:
        secret = {"Authorization": "Bearer t", "X": "y"}
        response = await client.post(server.url(), content=b"data", headers=secret)
        following = response.next_request
        assert following is not None
        assert (following.method, str(following.url)) == ("POST", "http://b.example/x")
        assert (following.headers.get("x"), "Authorization" in following.headers) == ("y", False)
        assert (await client.get(server.url())).next_request is None


@on_reactor
async def test_links_and_an_encoding_of_the_callers() -> None:
    said = answer(b"\xe4", 'Link: </2>; rel="next"', "Content-Type: text/plain")
    async with serving(says(said)) as server, AsyncClient() as client:
        response = await client.get(server.url())
    assert response.links == {"next": {"url": "/2", "rel": "next"}}
    assert response.text == "\N{REPLACEMENT CHARACTER}"
    response.encoding = "latin-1"
    assert (response.encoding, response.text) == (
        "iso8859-1",
        "\N{LATIN SMALL LETTER A WITH DIAERESIS}",
    )
    with pytest.raises(LookupError):
        response.encoding = "no such"


@on_reactor
async def test_error_of_a_status_has_the_request() -> None:
    async with serving(says(answer(b"", status="404 No"))) as server, AsyncClient() as client:
        response = await client.get(server.url("/a"))
        with pytest.raises(StatusError) as caught:
            response.raise_for_status()
        assert (caught.value.response, caught.value.request) == (response, response.request)
        assert caught.value.request.url.path == "/a"

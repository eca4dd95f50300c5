"""Requests as the caller describes them: methods, params, base URLs, hooks, codings."""

from __future__ import annotations

import copy
import gzip
import http
import pickle
import zlib
from datetime import timedelta
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    BasicAuth,
    Client,
    DigestAuth,
    InvalidHeader,
    InvalidURL,
    Request,
    Retry,
    Timeout,
)
from protocols.http.errors import ResponseError
from protocols.http.limits import KEPT_URL_LENGTH, PARSED_URLS
from protocols.http.testing import MockTransport, ReceivedRequest, Reply
from tests.peers.scripted import (
    OK,
    Conversation,
    answer,
    on_reactor,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import says
from tests.protocols.http.client_checks import NOTHING, counts

VERBS = ["options", "delete", "post", "put", "patch"]


def echo(heads: list[bytes]) -> Any:
    """Answer with the request's content; note the heads."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            heads.append(head)
            size = 0
            if b"Content-Length: " in head:
                size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            await peer.send(answer(await peer.reader.readexactly(size)))

    return script


@pytest.mark.parametrize("verb", VERBS)
@on_reactor
async def test_each_verb_sends_its_method(verb: str) -> None:
    heads: list[bytes] = []
    async with serving(echo(heads)) as server, AsyncClient() as client:
        response = await getattr(client, verb)(server.url("/x"), content=b"some")
        assert response.content == b"some"
        assert heads[0].startswith(f"{verb.upper()} /x HTTP/1.1\r\n".encode())
        assert response.method == verb.upper()
        assert timedelta() < response.elapsed < timedelta(seconds=20)


@pytest.mark.parametrize("method", ["TRACE", "PURGE", "M-SEARCH", "get", "!#$%&'*+-.^_`|~09Az"])
@on_reactor
async def test_any_token_is_a_method_as_it_is_written(method: str) -> None:
    heads: list[bytes] = []
    async with serving(echo(heads)) as server, AsyncClient() as client:
        response = await client.request(method, server.url("/x"))
        assert heads[0].startswith(f"{method} /x HTTP/1.1\r\n".encode())
        assert response.method == method


@on_reactor
async def test_method_of_the_standard_library_is_one_everywhere() -> None:
    heads: list[bytes] = []
    async with serving(echo(heads)) as server, AsyncClient() as client:
        for _ in range(2):  # the second time it is known
            response = await client.request(http.HTTPMethod.GET, server.url("/x"))
            assert (type(response.method), response.method) == (str, "GET")
        await client.send(Request(http.HTTPMethod.DELETE, server.url("/y")))
    assert [head.partition(b" HTTP")[0] for head in heads] == [b"GET /x", b"GET /x", b"DELETE /y"]
    with pytest.raises(TypeError, match="a method is str, not bytes"):
        Request(b"GET", "http://a.example/")  # type: ignore[arg-type]


@on_reactor
async def test_what_a_client_was_given_can_be_asked() -> None:
    options: dict[str, Any] = {"base_url": "http://a.example/v1", "headers": {"X": "y"}}
    with Client(timeout=5, **options) as blocking:
        async with AsyncClient(timeout=5, **options) as client:
            for each in (client, blocking):
                assert (str(each.base_url), each.headers["x"]) == ("http://a.example/v1", "y")
                assert (each.timeout, each.is_closed) == (Timeout(5), False)
    assert (client.is_closed, blocking.is_closed) == (True, True)


@on_reactor
async def test_params_of_a_client_are_those_that_it_was_given() -> None:
    heads: list[bytes] = []
    params = {"a": "1"}
    async with serving(echo(heads)) as server, AsyncClient(params=params) as client:
        await client.get(server.url("/known"))
        params["a"] = "2"
        await client.get(server.url("/known"))
        await client.get(server.url("/new"))
    targets = [head.split(b" ")[1] for head in heads]
    assert targets == [b"/known?a=1", b"/known?a=1", b"/new?a=1"]
    pairs = iter([("a", "1")])
    async with serving(echo(heads)) as server, AsyncClient(params=pairs) as client:
        for path in ("/first", "/second"):
            await client.get(server.url(path))
    assert [head.split(b" ")[1] for head in heads[3:]] == [b"/first?a=1", b"/second?a=1"]
    with pytest.raises(TypeError):
        AsyncClient(params=5)  # type: ignore[arg-type]


@on_reactor
async def test_what_a_client_has_is_the_default_of_each_request() -> None:
    told: list[str] = []

    def answer_once_asked(request: ReceivedRequest) -> Reply:
        if request.url.path == "/from":
            return Reply(302, headers={"Location": "/to"})
        return Reply(503 if told.count("sent") < 2 else 200, b"body")

    def tell(what: str) -> Any:
        return lambda *_: told.append(what)

    mock = MockTransport(answer_once_asked)
    options: dict[str, Any] = {
        "headers": {"X-Own": "client"},
        "params": {"p": "client"},
        "cookies": {"c": "client"},
        "auth": ("client", "pw"),
        "follow_redirects": True,
        "retry": Retry(backoff=0, methods=["POST"]),
        "on_redirect": tell("redirected"),
        "on_send": tell("sent"),
        "on_receive": tell("received"),
    }
    async with AsyncClient(base_url="http://a.example", transport=mock, **options) as client:
        response = await client.post("/", content=b"it")
        assert response.status_code == 200
        assert told == ["sent", "received"] * 2
        first = mock.requests[0]
        assert (first.headers["X-Own"], first.url.query) == ("client", "p=client")
        assert first.headers["Cookie"] == "c=client"
        assert first.headers["Authorization"] == BasicAuth("client", "pw").headers_for(
            "", first.url
        )
        await client.get("/from")
        assert told[4:] == ["redirected", "received"]
        told.clear()
        del mock.requests[:]
        own: dict[str, Any] = {"retry": None, "on_send": None, "on_receive": None, "auth": None}
        response = await client.post(
            "/", content=b"it", headers={"X-Own": "own"}, params={"p": "own"}, cookies={"c": "own"},
            **own,
        )  # fmt: skip
        assert (response.status_code, told) == (503, [])
        (only,) = mock.requests
        assert (only.headers["X-Own"], only.url.query) == ("own", "p=own")
        assert (only.headers["Cookie"], only.headers.get("Authorization")) == ("c=own", None)
        response = await client.get("/from", follow_redirects=False)
        assert (response.status_code, told) == (302, [])


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_of_the_blocking_client(verb: str) -> None:
    with serving_in_thread(echo([])) as server, Client() as client:
        assert getattr(client, verb)(server.url(), content=b"some").content == b"some"


@pytest.mark.parametrize(
    ("method", "told"), [("POST", True), ("PUT", True), ("PATCH", True), ("DELETE", False)]
)
@on_reactor
async def test_rfc9110_8_6_absent_content_is_told_where_it_is_expected(
    method: str, told: bool
) -> None:
    heads: list[bytes] = []
    async with serving(echo(heads)) as server, AsyncClient() as client:
        await client.request(method, server.url())
        assert (b"Content-Length: 0\r\n" in heads[0]) is told


@pytest.mark.parametrize(
    ("base", "url", "target"),
    [
        ("http://a.example/v1/", "users", "/v1/users?key=1"),
        ("http://a.example/v1", "users", "/v1/users?key=1"),
        ("http://a.example/v1/", "/users?x=2", "/v1/users?x=2&key=1"),
        ("http://a.example/v1/", "?x=2", "/v1/?x=2&key=1"),
        ("http://a.example/v1/?old=1", "a/../users", "/v1/users?key=1"),
        ("http://a.example", "", "/?key=1"),
        ("http://b.example/v1", "http://a.example/users", "/users?key=1"),
    ],
)
def test_url_is_below_the_base_and_has_the_clients_params(base: str, url: str, target: str) -> None:
    request = AsyncClient(base_url=base, params={"key": 1}).build_request("GET", url)
    assert (request.url.host, request.url.target) == ("a.example", target)


@pytest.mark.parametrize("url", ["//evil.example/users", "ftp://a.example/", "http:users"])
def test_url_that_would_leave_the_base_in_disguise_raises(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"scheme|host"):
        AsyncClient(base_url="http://a.example/v1").build_request("GET", url)


def test_params_come_behind_the_urls_own_query() -> None:
    client = AsyncClient(params={"a": 1})
    request = client.build_request("GET", "http://a.example/?q", params=[("b", "x y"), ("b", "&")])
    assert request.url.query == "q&a=1&b=x+y&b=%26"


@pytest.mark.parametrize("base", [None, "http://a.example/v1"])
def test_text_that_was_a_url_before_is_not_read_anew(base: str | None) -> None:
    client = AsyncClient(base_url=base)
    first = client.build_request("GET", "http://b.example/c", headers={"X": "1"})
    second = client.build_request("POST", "http://b.example/c", content=b"x")
    octets = client.build_request("GET", b"http://b.example/c")  # type: ignore[arg-type]
    assert first.url is second.url
    assert first.url == octets.url
    for index in range(2 * PARSED_URLS):
        client.build_request("GET", f"http://b.example/{index}")
    assert client.build_request("GET", "http://b.example/c").url is not first.url  # forgotten
    long = f"http://b.example/{'c' * KEPT_URL_LENGTH}"
    assert client.build_request("GET", long).url is not client.build_request("GET", long).url


def test_params_of_a_request_take_the_place_of_the_clients_of_the_same_name() -> None:
    request = AsyncClient(params={"a": 1, "b": 2}).build_request(
        "GET", "http://a.example/", params={"a": 3}
    )
    assert request.url.query == "b=2&a=3"


@on_reactor
async def test_requests_with_params_are_not_taken_for_those_without() -> None:
    heads: list[bytes] = []
    async with serving(echo(heads)) as server, AsyncClient() as client:
        for params in (None, {"a": 1}, {"a": 2}, None):
            await client.get(server.url(), params=params)
    assert [head.split()[1] for head in heads] == [b"/", b"/?a=1", b"/?a=2", b"/"]


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\0b", "a\x7fb"])
@on_reactor
async def test_control_characters_never_leave(text: str) -> None:
    async with serving(says(OK)) as server, AsyncClient() as client:
        with pytest.raises(InvalidHeader):
            await client.get(server.url(), headers={"X": text})
        with pytest.raises(InvalidHeader):
            await client.get(server.url(), headers={text: "x"})
        with pytest.raises(InvalidHeader):
            await client.request(text, server.url())
        with pytest.raises(InvalidURL):
            await client.get(server.url(f"/{text}"))
        request = client.build_request("GET", server.url(), params={text: text})
        assert request.url.target.isprintable()
        assert server.connections == 0


def test_content_that_is_none_raises() -> None:
    with pytest.raises(TypeError, match="not int"):
        Request("POST", "http://a.example/", content=1)  # type: ignore[arg-type]


@on_reactor
async def test_send_sends_what_was_built() -> None:
    async with serving(echo([])) as server, AsyncClient() as client:
        request = Request("PUT", server.url(), headers={"X": "1"}, content=b"built")
        assert (await client.send(request)).content == b"built"
        assert (await client.send(request)).request is request


# -- hooks ----------------------------------------------------------------------------------------


@on_reactor
async def test_hooks_see_each_request_and_each_response() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n"
    seen: list[str] = []

    async def ask(request: Request) -> None:
        seen.append(f"{request.method} {request.url.path}")

    def told(response: Any) -> None:
        seen.append(str(response.status_code))

    hooks: dict[str, list[Any]] = {"request": [ask], "response": [told]}
    async with (
        serving(says(moved, OK)) as server,
        AsyncClient(event_hooks=hooks, follow_redirects=True) as client,
    ):
        await client.get(server.url("/first"))
    assert seen == ["GET /first", "302", "GET /next", "200"]


@on_reactor
async def test_hooks_are_called_once_for_each_sending_and_each_response() -> None:
    seen: list[str] = []

    def reply(request: ReceivedRequest) -> Reply:
        seen.append(f"> {request.url.path}")
        if request.url.path == "/from":
            return Reply(302, headers={"Location": "/to"})
        if "Authorization" not in request.headers:
            challenge = 'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-256'
            return Reply(401, headers={"WWW-Authenticate": challenge})
        return Reply(503 if seen.count("> /to") == 2 else 200)

    told: list[str] = []
    hooks = {
        "request": [lambda request: told.append(f"> {request.url.path}")],
        "response": [lambda response: told.append(f"< {response.status_code}")],
    }
    options: dict[str, Any] = {"auth": DigestAuth("me", "pw"), "retry": Retry(backoff=0)}
    transport = MockTransport(reply)
    async with AsyncClient(
        transport=transport, event_hooks=hooks, follow_redirects=True, **options
    ) as client:
        await client.get("http://a.example/from")
    assert [each for each in told if each[0] == ">"] == seen == ["> /from", *["> /to"] * 3]
    assert [each for each in told if each[0] == "<"] == ["< 302", "< 401", "< 503", "< 200"]
    assert [each[0] for each in told] == [">", "<"] * 4


@pytest.mark.parametrize("general", [False, True])
@on_reactor
async def test_hooks_are_called_once_where_a_stale_connection_is_replaced(general: bool) -> None:
    async def answers_once(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()  # and closes instead of a second answer

    told: list[str] = []
    hooks = {name: [lambda _, name=name: told.append(name)] for name in ("request", "response")}
    options: dict[str, Any] = {"retry": Retry(attempts=0)} if general else {}
    async with (
        serving(answers_once) as server,
        AsyncClient(event_hooks=hooks, **options) as client,
    ):
        for _ in range(2):
            assert (await client.get(server.url())).text == "ok"
        assert server.connections == 2
    assert told == ["request", "response"] * 2


@pytest.mark.parametrize("kind", ["request", "response"])
@on_reactor
async def test_what_a_hook_raises_reaches_the_caller_and_leaves_nothing(kind: str) -> None:
    def refuse(_: object) -> None:
        raise ZeroDivisionError

    answers = says(OK, OK)
    async with serving(answers) as server, AsyncClient(event_hooks={kind: [refuse]}) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get(server.url())
        with pytest.raises(ZeroDivisionError):
            async with client.stream("GET", server.url()):
                pass
        assert {**counts(client), "idle": 0} == NOTHING


def test_unknown_hook_raises() -> None:
    with pytest.raises(ValueError, match="not respond"):
        AsyncClient(event_hooks={"respond": [print]})
    with pytest.raises(TypeError, match="callable"):
        AsyncClient(event_hooks={"request": ["print"]})  # type: ignore[list-item]


# -- codings --------------------------------------------------------------------------------------

TEXT = "l\u00e4nge\r\nzwei\n\ndrei".encode() * 1000
LINES = TEXT.decode().splitlines()


def encoded(coding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


GZIPPED = encoded("gzip", gzip.compress(TEXT))


@on_reactor
async def test_encoded_body_is_decoded() -> None:
    both = encoded("deflate, gzip", gzip.compress(zlib.compress(TEXT)))
    odd = encoded("x-odd", b"as it is")
    async with serving(says(GZIPPED, both, odd)) as server, AsyncClient() as client:
        assert (await client.get(server.url())).content == TEXT
        assert (await client.get(server.url())).content == TEXT
        assert (await client.get(server.url())).content == b"as it is"


@on_reactor
async def test_streamed_body_is_decoded_as_it_is_read() -> None:
    async with serving(says(*[GZIPPED] * 4)) as server, AsyncClient() as client:
        async with client.stream("GET", server.url()) as response:
            assert b"".join([each async for each in response.aiter_raw()]) in GZIPPED
        async with client.stream("GET", server.url()) as response:
            assert "".join([each async for each in response.aiter_text()]) == TEXT.decode()
        async with client.stream("GET", server.url()) as response:
            assert [each async for each in response.aiter_lines()] == LINES
        async with client.stream("GET", server.url()) as response:
            assert await response.aread() == TEXT
        assert client.manager.stats()["opened"] == 1


def test_blocking_client_streams() -> None:
    with serving_in_thread(says(GZIPPED, GZIPPED, GZIPPED, OK)) as server, Client() as client:
        with client.stream("GET", server.url()) as response:
            assert b"".join(response.iter_bytes()) == TEXT
        with client.stream("GET", server.url()) as response:
            assert list(response.iter_lines()) == LINES
        with client.stream("GET", server.url()) as response:
            assert response.read() == TEXT == response.content
        whole = client.get(server.url())
        assert list(whole.iter_bytes()) == [b"ok"]
        assert server.connections == 1


def test_blocking_stream_that_is_left_early_costs_the_connection() -> None:
    with serving_in_thread(says(answer(bytes(1 << 22)))) as server, Client() as client:
        with client.stream("GET", server.url()) as response:
            assert next(response.iter_bytes())
        assert client._async.manager.stats()["leased"] == 0


async def read(client: AsyncClient, url: str, streamed: bool) -> None:
    if not streamed:
        await client.get(url)
        return
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_bytes():
            pass


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded("gzip", gzip.compress(TEXT)[:-9]), "ends in the middle"),
        (encoded("gzip", b"no gzip at all"), "gzip"),
        (encoded("gzip", gzip.compress(bytes(1 << 26))), "limit"),
    ],
)
@on_reactor
async def test_body_that_cannot_be_decoded_is_an_error(
    data: bytes, words: str, streamed: bool
) -> None:
    async with serving(says(data)) as server, AsyncClient() as client:
        with pytest.raises(ResponseError, match=words) as caught:
            await read(client, server.url(), streamed)
        assert caught.value.port == server.port
        assert counts(client)["leased"] == 0


@on_reactor
async def test_informational_responses_are_kept() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with serving(says(hints + OK)) as server, AsyncClient() as client:
        response = await client.get(server.url())
        [(status_code, headers)] = response.informational_responses
        assert (status_code, headers["link"]) == (103, "</a>")


class Traced(Request):
    """A user's own, with more to it."""

    def __init__(self, method: str, url: str, **more: Any) -> None:
        super().__init__(method, url, **more)
        self.trace = "here"


@pytest.mark.parametrize("kind", [Request, Traced])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_request_is_copied_and_pickled_whole(kind: type[Request], copied: Any) -> None:
    request = kind("POST", "http://u:p@a.example/x?y", headers={"X-A": "b"}, content=b"body")
    other = copied(request)
    assert type(other) is kind
    assert (other.method, other.url, other.headers) == ("POST", request.url, request.headers)
    assert other.body is not None
    assert other.body.whole == b"body"
    assert other.head() == request.head()
    assert getattr(other, "trace", None) == getattr(request, "trace", None)


@pytest.mark.parametrize("name", ["method", "url", "headers", "body"])
def test_request_is_not_changed_where_its_head_is_rendered_already(name: str) -> None:
    request = Request("GET", "http://a.example/")
    with pytest.raises(AttributeError):
        setattr(request, name, getattr(request, name))
    with pytest.raises(AttributeError):
        delattr(request, name)


@pytest.mark.parametrize("content", [b"body", iter([b"body"])], ids=["length", "chunked"])
def test_rfc9112_6_3_what_frames_the_content_is_told_once(content: Any) -> None:
    request = Request("POST", "http://a.example/", content=content)
    name = "Content-Length" if isinstance(content, bytes) else "Transfer-Encoding"
    own = {"Content-Length": "9", "Transfer-Encoding": "gzip"}[name]
    head = request.head([(name, own)])
    assert head == request.head()

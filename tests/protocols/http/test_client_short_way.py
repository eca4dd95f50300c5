"""Requests with options over a connection that is there: as they are the long way, and once."""

import asyncio
import contextlib
import copy
import http
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Client,
    ClientClosedError,
    InvalidHeader,
    InvalidURL,
    Request,
    Timeout,
)
from protocols.http.headers import render_request_head
from reactor import EndpointTimeoutError
from tests.peers.scripted import (
    OK,
    Authority,
    Conversation,
    answer,
    on_reactor,
    serving,
    serving_in_thread,
)
from tests.protocols.http.client_checks import NOTHING, counts


class Recorder:
    """A script that answers all requests and keeps them, heads and contents."""

    def __init__(self, *responses: bytes) -> None:
        self.responses = list(responses)
        self.requests: list[tuple[bytes, bytes]] = []

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if b"100-continue" in head:
                await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            content = await peer.reader.readexactly(int(length or 0))
            self.requests.append((head, content))
            await peer.send(self.responses.pop(0) if self.responses else OK)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("GET", {"params": {"a": "b c"}}),
    ("GET", {"headers": {"X-One": "1", "Accept": "text/plain"}}),
    ("GET", {"cookies": {"c": "2"}}),
    ("GET", {"timeout": 5}),
    ("GET", {"timeout": None, "follow_redirects": True}),
    ("GET", {"timeout": Timeout(5, read=5)}),
    ("GET", {"headers": {"Connection": "close"}}),
    ("GET", {"content": b"with content"}),
    ("HEAD", {"params": [("a", "1"), ("a", "2")]}),
    ("OPTIONS", {"timeout": 5}),
    ("DELETE", {"headers": {"If-Match": "x"}}),
    ("POST", {"content": b"bytes"}),
    ("POST", {"content": "text"}),
    ("POST", {"content": b""}),
    ("POST", {"content": bytearray(b"array")}),
    ("POST", {"content": memoryview(b"view")}),
    ("POST", {"data": {"a": "b"}}),
    ("POST", {"json": {"a": [1, None]}, "headers": {"Content-Length": "14"}}),
    ("PUT", {"json": None, "content": b"x", "headers": {"Expect": "100-continue"}}),
    ("PATCH", {"json": 0}),
]


@on_reactor
@pytest.mark.parametrize(("method", "options"), OPTIONS)
async def test_request_is_the_same_whichever_way_it_goes(
    method: str, options: dict[str, Any]
) -> None:
    """The first one opens a connection, the second one finds it, a hook sends the third round."""
    script = Recorder()

    async def hook(_: object) -> None:
        pass

    async with (
        serving(script) as server,
        AsyncClient(headers={"X-Client": "c"}, cookies={"jar": "1"}) as client,
        AsyncClient(
            headers={"X-Client": "c"}, cookies={"jar": "1"}, event_hooks={"request": [hook]}
        ) as hooked,
    ):
        for each in (client, client, hooked):
            await each.request(method, server.url(), **options)
            assert counts(each)["leased"] == 0
        first, second, third = script.requests
        assert first == second == third
        assert first[0].startswith(method.encode())


@on_reactor
@pytest.mark.parametrize(
    ("method", "path", "options", "kind"),
    [
        ("GET", "/", {"timeout": 0}, ValueError),
        ("GET", "/", {"timeout": -1}, ValueError),
        ("GET", "/", {"timeout": float("nan")}, ValueError),
        ("GET", "/", {"timeout": "5"}, TypeError),
        ("GET", "/", {"headers": {"X": "a\nb"}}, InvalidHeader),
        ("GET", "/\n", {"params": {"a": "b"}}, InvalidURL),
        ("GET", "/", {"bogus": 1}, TypeError),
        ("GET", "/", {"on_send": 1}, TypeError),
        ("POST", "/", {"content": b"x", "json": 1}, (TypeError, ValueError)),
        ("POST", "/", {"json": object()}, TypeError),
        ("POST", "/", {"content": b"x", "headers": {"Content-Length": "x"}}, InvalidHeader),
        ("BAD METHOD", "/", {}, ValueError),
    ],
)
async def test_what_is_wrong_raises_before_anything_is_sent(
    method: str, path: str, options: dict[str, Any], kind: Any
) -> None:
    script = Recorder()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(kind):
            await client.request(method, server.url() + path[1:], **options)
        assert counts(client) == {**NOTHING, "idle": 1}
        assert (await client.get(server.url())).text == "ok"
        assert len(script.requests) == 2
        assert server.connections == 1


@on_reactor
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_request_that_changes_something_is_not_repeated(method: str) -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        seen.append(await peer.request())
        peer.reset()

    seen: list[Any] = []
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        with pytest.raises(ConnectionError):
            await client.request(method, server.url("/x"), content=b"abc")
        assert len(seen) == server.connections == 1
        assert counts(client) == NOTHING


@on_reactor
async def test_stale_connection_under_a_get_with_options_is_replaced() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        seen.append(await peer.request())
        if peer.number == 0:
            peer.reset()
        else:
            await peer.send(OK)
            await peer.until_closed()

    seen: list[Any] = []
    async with serving(script) as server, AsyncClient(timeout=Timeout(9, connect=9)) as client:
        await client.get(server.url())
        assert (await client.get(server.url("/x"), params={"a": "b"})).text == "ok"
        assert b"GET /x?a=b HTTP" in seen[0]
        assert server.connections == 2


@on_reactor
async def test_iterable_content_is_consumed_once() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        assert await peer.reader.readuntil(b"0\r\n\r\n") == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        await peer.send(OK)
        await peer.until_closed()

    taken: list[int] = []

    def pieces() -> Any:
        for number, piece in enumerate((b"a", b"b")):
            taken.append(number)
            yield piece

    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        assert (await client.post(server.url(), content=pieces())).text == "ok"
        assert taken == [0, 1]
        assert server.connections == 1


@on_reactor
async def test_one_request_follows_where_its_client_does_not_and_the_other_way_round() -> None:
    found = answer(b"", "Location: /to", status="302 Found")
    for follows in (True, False):
        script = Recorder(OK, found, OK, found)
        async with serving(script) as server, AsyncClient(follow_redirects=follows) as client:
            await client.get(server.url())
            response = await client.post(server.url("/a"), content=b"x", follow_redirects=True)
            assert (response.status_code, len(response.history)) == (200, 1)
            response = await client.post(server.url("/b"), content=b"x", follow_redirects=False)
            assert (response.status_code, len(response.history)) == (302, 0)
            assert counts(client) == {**NOTHING, "idle": 1}
            assert [content for _, content in script.requests] == [b"", b"x", b"", b"x"]


@on_reactor
@pytest.mark.parametrize("timeout", [5, Timeout(5, pool=5), Timeout(5, connect=5, tls=5)])
async def test_timeout_of_one_request_goes_before_the_clients(timeout: Any) -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        while await peer.request() is not None:
            pass

    async with serving(script) as server, AsyncClient(timeout=timeout) as client:
        await client.get(server.url())
        with pytest.raises(EndpointTimeoutError) as caught:
            await client.post(server.url(), content=b"x", timeout=0.02)
        assert caught.value.phase == "read"
        assert counts(client) == NOTHING


@on_reactor
async def test_limits_of_connecting_leave_the_limit_of_all_as_it_is() -> None:
    async def script(peer: Conversation) -> None:
        await peer.request()
        await peer.send(OK)
        while await peer.request() is not None:
            pass

    async with (
        serving(script) as server,
        AsyncClient(timeout=Timeout(0.05, pool=9, connect=9)) as client,
    ):
        await client.get(server.url())
        with pytest.raises(EndpointTimeoutError) as caught:
            await client.get(server.url())
        assert caught.value.phase == "read"
        assert counts(client) == NOTHING


@on_reactor
async def test_large_content_that_is_answered_early_costs_the_connection() -> None:
    """Whoever answered reads no more of it; and no byte of it is taken for the next request's."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if head.startswith(b"POST"):
                await peer.send(answer(b"", status="413 Content Too Large"))
                await over.wait()
                return
            await peer.send(OK)

    over = asyncio.Event()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        response = await client.post(server.url(), content=b"x" * 20_000_000)
        assert response.status_code == 413
        assert counts(client) == NOTHING
        for _ in range(2):
            assert (await client.get(server.url(), timeout=20)).text == "ok"
        assert server.connections == 2
        over.set()


@on_reactor
@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
async def test_large_content_that_is_answered_when_it_was_read_keeps_the_connection(
    is_tls: bool, authority: Authority, trusting: ssl.SSLContext
) -> None:
    """However large, and however slowly it was read; whole, or from an iterator."""

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            while left:
                left -= len(await peer.reader.read(min(left, 65_536)))
                if b"/slow" in head:
                    await asyncio.sleep(0)
            await peer.send(OK)

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(size // 10)

    tls = authority.server() if is_tls else None
    async with serving(script, tls=tls) as server, AsyncClient(tls=trusting) as client:
        for size in (1_000, 100_000, 1_000_000, 10_000_000):
            for path in ("/", "/slow"):
                url = server.url(path)
                assert (await client.post(url, content=bytes(size))).text == "ok"
                fields = {"Content-Length": str(size)}
                response = await client.put(url, content=pieces(size), headers=fields)
                assert response.text == "ok"
        assert counts(client) == {**NOTHING, "idle": 1}
        assert server.connections == 1


@on_reactor
async def test_cancelled_upload_costs_the_connection() -> None:
    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if head.startswith(b"POST"):
                asked.set()
                await over.wait()
                return
            await peer.send(OK)

    asked, over = asyncio.Event(), asyncio.Event()
    async with serving(script) as server, AsyncClient() as client:
        await client.get(server.url())
        task = asyncio.create_task(client.post(server.url(), content=bytes(10_000_000)))
        await asked.wait()
        assert counts(client) == {**NOTHING, "leased": 1}
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert counts(client) == NOTHING
        over.set()


@on_reactor
async def test_method_of_the_standard_librarys_enum() -> None:
    script = Recorder()
    async with serving(script) as server, AsyncClient() as client:
        for _ in range(2):
            await client.request(http.HTTPMethod.PUT, server.url(), content=b"x")
            await client.request(http.HTTPMethod.GET, server.url())
        assert [head.split(b" ")[0] for head, _ in script.requests] == [b"PUT", b"GET"] * 2
        assert server.connections == 1


@on_reactor
async def test_base_url_and_params_of_the_client_and_of_the_request() -> None:
    script = Recorder()
    async with (
        serving(script) as server,
        AsyncClient(base_url=server.url("/v1"), params={"k": "1"}) as client,
    ):
        for _ in range(2):
            await client.get("items", params={"p": "2"})
            await client.post("items", json=1)
            await client.get("items")
        lines = [head.split(b" ")[1] for head, _ in script.requests]
        assert lines == [b"/v1/items?k=1&p=2", b"/v1/items?k=1", b"/v1/items?k=1"] * 2


@on_reactor
async def test_options_are_not_kept_for_the_next_request() -> None:
    script = Recorder()
    async with serving(script) as server, AsyncClient() as client:
        url = server.url()
        for options in (
            {},
            {"headers": {"X": "1"}},
            {"content": b"x"},
            {"cookies": {"c": "1"}},
            {},
        ):
            await client.request("GET", url, **options)
        heads = [head for head, _ in script.requests]
        assert heads[0] == heads[4]
        assert len(set(heads)) == 4
        assert [content for _, content in script.requests] == [b"", b"", b"x", b"", b""]


@on_reactor
@pytest.mark.parametrize(
    "options", [{"event_hooks": True}, {"auth": ("u", "p")}, {"timeout": Timeout(5, read=5)}]
)
async def test_clients_with_more_to_them_send_content_and_options_as_ever(
    options: dict[str, Any],
) -> None:
    script = Recorder()
    told: list[str] = []
    if "event_hooks" in options:
        options = {
            "event_hooks": {
                "request": [lambda request: told.append(request.method)],
                "response": [lambda response: told.append(str(response.status_code))],
            }
        }
    async with serving(script) as server, AsyncClient(**options) as client:
        for _ in range(2):
            await client.post(server.url(), json=[1], headers={"X": "y"}, timeout=5)
        assert [content for _, content in script.requests] == [b"[1]"] * 2
        assert all(b"X: y" in head for head, _ in script.requests)
        assert all((b"Authorization" in head) == ("auth" in options) for head, _ in script.requests)
        assert told == (["POST", "200"] * 2 if "event_hooks" in options else [])
        assert counts(client) == {**NOTHING, "idle": 1}


VERBS = ["get", "options", "delete", "post", "put", "patch"]


@on_reactor
async def test_request_of_a_class_below_is_what_all_methods_call() -> None:
    class Noting(AsyncClient):
        def request(self, method: str, url: Any, **options: Any) -> Any:
            noted.append((method, options))
            return super().request(method, url, **options)

    noted: list[tuple[str, dict[str, Any]]] = []
    script = Recorder()
    async with serving(script) as server, Noting() as client:
        for verb in VERBS:
            await getattr(client, verb)(server.url(), headers={"X-A": "b"})
        await asyncio.gather(client.head(server.url()), return_exceptions=True)
    assert noted == [
        *((verb.upper(), {"headers": {"X-A": "b"}}) for verb in VERBS),
        ("HEAD", {}),
    ]


def test_blocking_request_is_the_same_whichever_way_it_goes() -> None:
    class Noting(Client):
        def request(self, method: str, url: Any, **options: Any) -> Any:
            noted.append(method)
            return super().request(method, url, **options)

    noted: list[str] = []
    script = Recorder()
    with serving_in_thread(script) as server, Client() as client, Noting() as other:
        for own in (client, other):
            for _ in range(2):  # the first time over a new connection
                for verb in VERBS:
                    response = getattr(own, verb)(server.url("/?a=1"), headers={"X-A": "b"})
                    assert response.status_code == 200
                own.post(server.url(), json={"a": 1}, params={"b": 2}, timeout=20)
                own.request("PUT", server.url(), content=b"x" * 200_000)
    assert len(script.requests) == 4 * 8
    assert script.requests[:8] * 4 == script.requests
    assert noted == [*map(str.upper, VERBS), "POST", "PUT"] * 2


@pytest.mark.parametrize("verb", ["get", "head"])
def test_content_of_a_method_that_has_none_is_refused_at_once(verb: str) -> None:
    with Client() as client, pytest.raises(TypeError, match="no option 'json'"):
        getattr(client, verb)("http://h/", json=1)
    with pytest.raises(TypeError, match="no option 'data'"):
        getattr(AsyncClient(), verb)("http://h/", json=1, data={})


@on_reactor
async def test_replacement_of_request_is_what_methods_with_content_call() -> None:
    async with AsyncClient() as client:
        replaced: Any = client
        replaced.request = lambda *args, **options: (args, options)
        assert replaced.post("http://h/", json=1) == (("POST", "http://h/"), {"json": 1})


class Closing:
    """A parameter that closes the client when it is read."""

    def __init__(self, client: AsyncClient) -> None:
        self.closing = client.aclose()

    def __str__(self) -> str:
        with contextlib.suppress(StopIteration):
            self.closing.send(None)
        return "x"


@on_reactor
async def test_client_closed_by_what_is_given_to_it_says_so() -> None:
    async with serving(Recorder()) as server, AsyncClient() as client:
        await asyncio.wait_for(client.get(server.url(), headers={"Connection": "close"}), 20)
        with pytest.raises(ClientClosedError):
            await client.get(server.url(), params={"a": (closing := Closing(client))})
        closing.closing.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Client.__new__(Client).get("http://h/"),
        lambda: Client.__new__(Client).post("http://h/", json=1),
        lambda: AsyncClient.__new__(AsyncClient)._plan("GET", "http://h/"),
        lambda: Request.__new__(Request).head(target="/"),
        lambda: copy.copy(Request.__new__(Request)).head(target="/"),
        lambda: render_request_head("GET", "/", "h", None),  # type: ignore[arg-type]
    ],
)
def test_what_was_not_made_raises(ask: Callable[[], object]) -> None:
    with pytest.raises((AttributeError, TypeError)):
        ask()

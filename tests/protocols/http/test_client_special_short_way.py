"""Clients with a retry policy or credentials: their requests, too, go the short way.

The first request of a client opens a connection, and goes the long way; it is the next ones that
are of interest here.  A client with hooks goes the long way always: what it sends is the measure.
"""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    BasicAuth,
    BearerAuth,
    Client,
    ClientClosedError,
    IncompleteResponseError,
    Request,
    Retry,
    Timeout,
)
from protocols.http.auth import basic_credentials
from reactor import EndpointTimeoutError
from tests.peers.scripted import (
    OK,
    Conversation,
    Server,
    answer,
    on_reactor,
    serving,
    serving_in_thread,
)
from tests.protocols.http.client_checks import NOTHING, counts, until

pytestmark = pytest.mark.usefixtures("nothing_is_told")

FAST = Retry(backoff=0.0)
BUSY = answer(b"busy", status="503 Service Unavailable")
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
SILENCE = b""


class Script:
    """Answers each request with the next of its answers, and then with OK.

    After what is cut the connection is closed; after silence nothing is said on it any more.
    """

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if b"Content-Length: 1\r\n" in head:
                await peer.reader.readexactly(1)
            self.heads.append(re.sub(rb"Host: [^\r]*\r\n", b"", head))  # whose port is another
            said = self.answers.pop(0) if self.answers else OK
            await peer.send(said)
            if said == CUT:
                return
            if said == SILENCE:
                await peer.reader.read()
                return


async def a_hook(_: object) -> None:
    """Send requests the long way."""


@asynccontextmanager
async def warm(server: Server, **options: Any) -> AsyncIterator[AsyncClient]:
    """Give a client that has a connection."""
    async with AsyncClient(**options) as client:
        await client.get(server.url("/warm"))
        yield client
        assert counts(client)["leased"] == 0


def left(client: AsyncClient) -> float:
    budget = client._settings.budget
    assert budget is not None
    return budget.left


# -- a policy of retries ---------------------------------------------------------------------------


@on_reactor
@pytest.mark.parametrize("fault", [BUSY, CUT, SILENCE], ids=["busy", "cut", "silent"])
@pytest.mark.parametrize("times", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_what_fails_is_sent_again_as_the_long_way_does(
    fault: bytes, times: int, method: str
) -> None:
    seen: list[Any] = []
    for hooks in ({}, {"request": [a_hook]}):
        script = Script(OK, OK, *[fault] * times)
        policy = Retry(backoff=0.0, reserve=5.0)
        options: dict[str, Any] = {"timeout": Timeout(10, read=0.02)} if fault == SILENCE else {}
        async with (
            serving(script) as server,
            warm(server, retry=policy, event_hooks=hooks, **options) as client,
        ):
            await client.get(server.url("/fine"))
            try:
                more: dict[str, Any] = {} if method == "GET" else {"content": b"x"}
                response = await client.request(method, server.url("/"), **more)
                outcome: Any = response.status_code, response.content
            except (IncompleteResponseError, EndpointTimeoutError) as error:
                outcome = type(error), error.phase
            assert counts(client)["leased"] == 0
            seen.append((outcome, script.heads, left(client)))
    assert seen[0] == seen[1]
    again = 0 if method == "POST" else min(times, 3)
    assert len(seen[0][1]) == 3 + again
    assert (seen[0][0] == (200, b"ok")) == (again == times)


@on_reactor
async def test_empty_budget_ends_it() -> None:
    script = Script(OK, BUSY, BUSY, BUSY)
    async with (
        serving(script) as server,
        warm(server, retry=Retry(backoff=0.0, budget=0.0, reserve=1.0)) as client,
    ):
        assert (await client.get(server.url("/"))).status_code == 503
        assert (await client.get(server.url("/"))).status_code == 503
        assert len(script.heads) == 4
        assert left(client) == 0


@on_reactor
async def test_redirect_and_retry_of_what_it_leads_to() -> None:
    moved = answer(b"", "Location: /there", status="302 Found")
    script = Script(OK, moved, BUSY, CUT)
    async with (
        serving(script) as server,
        warm(server, retry=FAST, follow_redirects=True) as client,
    ):
        response = await client.get(server.url("/here"))
        assert response.status_code == 200
        assert [each.status_code for each in response.history] == [302]
        targets = [head.split(b" ")[1] for head in script.heads]
        assert targets == [b"/warm", b"/here", b"/there", b"/there", b"/there"]


@on_reactor
async def test_who_waits_for_a_connection_is_retried_too() -> None:
    script = Script(OK, *[BUSY, CUT, OK] * 3)
    async with (
        serving(script) as server,
        warm(server, retry=Retry(backoff=0.0, attempts=10), max_per_host=1) as client,
    ):
        urls = [server.url(f"/{number}") for number in range(8)]
        responses = await asyncio.gather(*map(client.get, urls))
        assert [response.status_code for response in responses] == [200] * 8
        assert counts(client)["waiting"] == 0


@on_reactor
async def test_who_waits_too_long_for_a_connection_is_told() -> None:
    script = Script(OK, SILENCE)
    async with (
        serving(script) as server,
        warm(server, retry=FAST, max_per_host=1) as client,
    ):
        first = asyncio.ensure_future(client.get(server.url("/"), timeout=0.2))
        await asyncio.sleep(0)
        with pytest.raises(EndpointTimeoutError) as raised:
            await client.get(server.url("/"), timeout=0.05)
        assert raised.value.phase == "pool"
        with pytest.raises(EndpointTimeoutError):
            await first
        assert len(script.heads) == 2


@on_reactor
@pytest.mark.parametrize("passes", range(12))
async def test_retried_call_may_be_cancelled_at_every_await(passes: int) -> None:
    script = Script(OK, BUSY, CUT, BUSY)
    async with serving(script) as server, warm(server, retry=FAST) as client:
        task = asyncio.ensure_future(client.get(server.url("/")))
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert counts(client)["leased"] == counts(client)["waiting"] == 0
        assert (await client.get(server.url("/"))).status_code in (200, 503)


def test_blocking_client_retries_what_it_does_alone() -> None:
    script = Script(OK, OK, BUSY, CUT, OK, BUSY)
    with serving_in_thread(script) as server, Client(retry=FAST) as client:
        for _ in range(4):
            assert client.get(server.url("/")).content == b"ok"
        assert len(script.heads) == 7
        assert client.post(server.url("/"), content=b"x").content == b"ok"
        assert client._async.manager.stats()["leased"] == 0


class Picky(Retry):
    """A policy of somebody's own."""

    def allows_status(self, request: Request, status_code: int) -> bool:
        return status_code == 500


@on_reactor
async def test_policy_of_somebodys_own_is_asked() -> None:
    script = Script(OK, answer(b"", status="500 Oops"), BUSY)
    async with serving(script) as server, warm(server, retry=Picky(backoff=0.0)) as client:
        assert (await client.get(server.url("/"))).status_code == 503
        assert len(script.heads) == 3


@on_reactor
async def test_requests_at_once_earn_no_more_than_the_long_way() -> None:
    sent: list[tuple[int, float]] = []
    for hooks in ({}, {"request": [a_hook]}):
        script = Script(*[OK] * 20, *[BUSY] * 200)
        policy = Retry(backoff=0.0, attempts=1, reserve=5.0)
        async with (
            serving(script) as server,
            AsyncClient(retry=policy, event_hooks=hooks) as client,
        ):
            await asyncio.gather(*[client.get(server.url("/")) for _ in range(20)])
            await asyncio.gather(*[client.get(server.url("/")) for _ in range(20)])
            sent.append((len(script.heads), left(client)))
    assert sent == [(45, 0.0)] * 2


@on_reactor
@pytest.mark.parametrize("options", [{}, {"retry": FAST}, {"auth": ("u", "p")}])
async def test_stale_connection_costs_one_more_request(options: dict[str, Any]) -> None:
    script = Script()

    class Ends(Script):
        """Ends a connection when it reads the second request."""

        async def __call__(self, peer: Conversation) -> None:
            await peer.request()
            await gate.wait()
            await peer.send(OK)
            if await peer.request() is not None:
                script.heads.append(b"")

    gate = asyncio.Event()
    async with serving(Ends()) as server, AsyncClient(**options) as client:
        warming = [asyncio.ensure_future(client.get(server.url("/"))) for _ in range(4)]
        await until(lambda: counts(client)["leased"] == 4)
        gate.set()
        await asyncio.gather(*warming)
        assert (await client.get(server.url("/"))).content == b"ok"
        assert len(script.heads) == 1
        assert counts(client) == {**NOTHING, "idle": 4}


@on_reactor
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_failure_that_is_not_retried_holds_nobodys_frame(method: str) -> None:
    class Held:
        pass

    async def fail(client: AsyncClient, url: str) -> weakref.ref[Held]:
        held = Held()
        with pytest.raises(IncompleteResponseError):
            await client.request(method, url, content=b"x")
        return weakref.ref(held)

    script = Script(OK, CUT)
    async with (
        serving(script) as server,
        warm(server, retry=Retry(attempts=0)) as client,
    ):
        gc.collect()
        gc.disable()
        try:
            assert (await fail(client, server.url("/")))() is None
        finally:
            gc.enable()


# -- credentials -----------------------------------------------------------------------------------

CREDENTIALS: list[Callable[[], Any]] = [
    lambda: ("user", "secret"),
    lambda: BasicAuth("user", "secret"),
    lambda: BearerAuth("token"),
]


def fields(head: bytes) -> list[bytes]:
    return sorted(line for line in head.split(b"\r\n")[1:] if line)


@on_reactor
@pytest.mark.parametrize("auth", CREDENTIALS, ids=["pair", "basic", "bearer"])
async def test_credentials_go_with_each_request_as_the_long_way_has_it(
    auth: Callable[[], Any],
) -> None:
    heads: list[list[bytes]] = []
    for hooks in ({}, {"request": [a_hook]}):
        script = Script(answer(b"ok", "Set-Cookie: c=1"))
        async with (
            serving(script) as server,
            warm(server, auth=auth(), event_hooks=hooks) as client,
        ):
            for _ in range(2):
                await client.get(server.url("/a"))
                await client.get(server.url("/a"), params={"b": "c"})
                await client.post(server.url("/a"), content=b"x")
                await client.get(server.url("/a"), headers={"Authorization": "mine"})
                await client.get(server.url("/a"), auth=None)
                await client.get(server.url("/a"), auth=("another", "one"))
                await client.get(server.url("/a").replace("://", "://in:url@"))
                await client.get(server.url("/a"), follow_redirects=True)
            assert client.manager.stats()["opened"] == 1
        heads.append(script.heads)
    assert list(map(fields, heads[0])) == list(map(fields, heads[1]))
    assert sum(b"Authorization" in head for head in heads[0]) == len(heads[0]) - 2
    assert all(b"Cookie: c=1" in head for head in heads[0][1:])


@on_reactor
@pytest.mark.parametrize("auth", CREDENTIALS, ids=["pair", "basic", "bearer"])
async def test_credentials_are_for_the_first_origin_alone(auth: Callable[[], Any]) -> None:
    first, second = Script(), Script()
    async with (
        serving(first) as server,
        serving(second) as other,
        AsyncClient(auth=auth(), follow_redirects=True) as client,
    ):
        await client.get(other.url("/"), auth=("of", "another"))  # which binds nothing
        for _ in range(3):
            await client.get(server.url("/"))
            await client.get(other.url("/"))
        moved = answer(b"", f"Location: {other.url('/there')}", status="307 Temporary Redirect")
        first.answers = [moved]
        await client.get(server.url("/"))
        first.answers = [answer(b"", "Location: /here", status="302 Found")]
        await client.get(server.url("/"))
        assert all(b"Authorization: " in head for head in first.heads)
        assert not any(b"Authorization: " in head for head in second.heads[1:])
        assert (len(first.heads), len(second.heads)) == (6, 5)


@on_reactor
async def test_refused_credentials_are_the_callers_to_see() -> None:
    refused = answer(b"no", 'WWW-Authenticate: Basic realm="r"', status="401 Unauthorized")
    script = Script(OK, *[refused] * 3)
    async with serving(script) as server, warm(server, auth=("user", "secret")) as client:
        for _ in range(3):
            response = await client.get(server.url("/"))
            assert (response.status_code, response.content) == (401, b"no")
        assert len(script.heads) == 4
        assert client.manager.stats()["opened"] == 1


@on_reactor
async def test_who_opens_a_connection_or_waits_for_one_has_credentials() -> None:
    script = Script()
    async with serving(script) as server, AsyncClient(auth=("u", "p"), max_per_host=2) as client:
        urls = [server.url(f"/{number}") for number in range(9)]
        for _ in range(2):
            await asyncio.gather(*map(client.get, urls))
        assert len(script.heads) == 18
        assert all(b"Authorization: Basic" in head for head in script.heads)
        assert client.manager.stats()["opened"] == 2
        assert counts(client)["leased"] == counts(client)["waiting"] == 0


@on_reactor
async def test_kept_request_of_a_connection_that_ended_has_credentials_again() -> None:
    script = Script(OK, answer(b"ok", "Connection: close"), OK, CUT)
    async with serving(script) as server, warm(server, auth=("u", "p"), retry=FAST) as client:
        for _ in range(4):
            assert (await client.get(server.url("/"))).content == b"ok"
        assert len(script.heads) == 6
        assert all(b"Authorization: Basic" in head for head in script.heads)


@on_reactor
@pytest.mark.parametrize(
    "options", [{"timeout": -1}, {"timeout": "5"}, {"cookies": 5}, {"nonsense": 1}], ids=repr
)
async def test_request_that_was_never_sent_binds_no_credentials(options: dict[str, Any]) -> None:
    first, second = Script(), Script()
    auth = BasicAuth("u", "p")
    async with serving(first) as server, serving(second) as other:
        async with AsyncClient() as plain:
            await plain.get(server.url("/"))
        with pytest.raises(ClientClosedError):
            await plain.get(other.url("/"))
        async with AsyncClient(auth=auth) as client:
            with pytest.raises((TypeError, ValueError)):
                await client.get(other.url("/"), **options)
            for _ in range(3):
                await client.get(server.url("/"))
            with pytest.raises((TypeError, ValueError)):
                await client.get(other.url("/"), **options)
            await client.get(other.url("/"))
    assert [b"Authorization" in head for head in first.heads] == [False, True, True, True]
    assert [b"Authorization" in head for head in second.heads] == [False]


@on_reactor
@pytest.mark.parametrize("options", [{}, {"retry": FAST}, {"auth": ("u", "wrong")}], ids=repr)
async def test_password_that_was_asked_for_is_used_from_then_on(options: dict[str, Any]) -> None:
    good = basic_credentials("u", "good").encode()

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            refused = answer(b"", 'WWW-Authenticate: Basic realm="r"', status="401 No")
            await peer.send(OK if good in head else refused)

    async with serving(script) as server, AsyncClient(**options) as client:
        url = server.url("/")
        codes = [(await client.get(url)).status_code for _ in range(2)]
        codes.append((await client.get(url, on_password=lambda _: ("u", "good"))).status_code)
        codes += [(await client.get(url)).status_code for _ in range(2)]
        codes.append((await client.send(client.build_request("GET", url))).status_code)
        assert codes == [401, 401, 200, 200, 200, 200]


def test_blocking_client_sends_credentials_alone() -> None:
    script = Script()
    with serving_in_thread(script) as server, Client(auth=("u", "p")) as client:
        for _ in range(3):
            client.get(server.url("/"))
            client.get(server.url("/"), params={"a": "b"})
        assert len(script.heads) == 6
        assert all(b"Authorization: Basic" in head for head in script.heads)

"""Retries: what is sent again, when, and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest

from protocols.http import (
    AsyncClient,
    Client,
    Headers,
    IncompleteResponseError,
    RemoteProtocolError,
    Request,
    Retry,
    Timeout,
)
from protocols.http.retries import retry_after
from protocols.http.retry_budget import RetryBudget
from reactor import ConnectRefusedError, EndpointTimeoutError, TLSCertificateError
from tests.peers.scripted import (
    OK,
    Conversation,
    answer,
    on_reactor,
    refusing_port,
    serving,
    serving_in_thread,
)
from tests.peers.scripts import says_and_closes
from tests.protocols.http.client_checks import NOTHING, counts

pytestmark = pytest.mark.usefixtures("nothing_is_told")

FAST = Retry(backoff=0.0)


def busy(*fields: str) -> bytes:
    return answer(b"busy", *fields, status="503 Service Unavailable")


class Failing:
    """Fails so many times in one way, then answers; a script for ``serving``."""

    def __init__(self, times: int, how: bytes | None) -> None:
        self.times = times
        self.how = how
        self.seen: list[bytes] = []

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            if b"chunked" in head:
                await peer.reader.readuntil(b"0\r\n\r\n")
            elif b"Content-Length: 1\r\n" in head:
                await peer.reader.readexactly(1)
            self.seen.append(head)
            if len(self.seen) > self.times:
                await peer.send(OK)
                continue
            if self.how:
                await peer.send(self.how)
            if self.how is None or b"Content-Length: 4" not in self.how:
                return


@pytest.mark.parametrize("how", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", busy()])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@on_reactor
async def test_what_may_be_done_twice_is_sent_again(method: str, how: bytes | None) -> None:
    peer = Failing(2, how)
    async with serving(peer) as server, AsyncClient(retry=FAST) as client:
        response = await client.request(method, server.url())
        assert (response.content, response.history, len(peer.seen)) == (b"ok", [], 3)
        assert counts(client) == {**NOTHING, "idle": 1}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@on_reactor
async def test_status_is_tried_again_whose_body_cannot_be_decoded(stream: bool) -> None:
    peer = Failing(2, busy("Content-Encoding: gzip"))
    async with serving(peer) as server, AsyncClient(retry=FAST) as client:
        request = client.build_request("GET", server.url())
        response = await client.send(request, stream=stream)
        assert (await response.aread(), len(peer.seen)) == (b"ok", 3)
        peer.times = 9
        with pytest.raises(RemoteProtocolError, match="gzip"):
            await (await client.send(request, stream=stream)).aread()
        assert len(peer.seen) == 3 + 1 + FAST.attempts
        assert client.manager.stats()["leased"] == 0


@pytest.mark.parametrize("how", [None, busy()])
@on_reactor
async def test_what_may_have_been_done_is_sent_again_only_if_the_policy_says_so(
    how: bytes | None,
) -> None:
    peer = Failing(1, how)
    async with serving(peer) as server, AsyncClient(retry=FAST) as client:
        if how is None:
            with pytest.raises(IncompleteResponseError):
                await client.post(server.url(), content=b"x")
        else:
            assert (await client.post(server.url(), content=b"x")).status_code == 503
        assert len(peer.seen) == 1
        peer.times = 2
        policy = Retry(backoff=0.0, methods={"POST"})
        response = await client.post(server.url(), content=b"x", retry=policy)
        assert (response.content, len(peer.seen)) == (b"ok", 3)


@on_reactor
async def test_content_that_was_read_is_not_sent_again() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    peer = Failing(1, busy())
    async with serving(peer) as server, AsyncClient(retry=FAST) as client:
        assert (await client.put(server.url(), content=pieces())).status_code == 503
        assert len(peer.seen) == 1


@on_reactor
async def test_connection_that_cannot_be_made_is_tried_again_whatever_the_method() -> None:
    with refusing_port() as port:
        attempts: list[int] = []
        async with AsyncClient(retry=Retry(attempts=2, backoff=0.0)) as client:
            client.manager.on_event = lambda event: attempts.append(event.kind == "failed")
            with pytest.raises(ConnectRefusedError):
                await client.post(f"http://127.0.0.1:{port}/", content=b"x")
        assert attempts.count(True) == 3


@pytest.mark.parametrize("said", [b"SMTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
@on_reactor
async def test_what_would_be_so_again_is_not_tried_again(said: bytes) -> None:
    async with serving(says_and_closes(said)) as server, AsyncClient(retry=FAST) as client:
        with pytest.raises(RemoteProtocolError):
            await client.get(server.url())
        assert server.connections == 1


def test_errors_by_phase() -> None:
    get, post = Request("GET", "http://a.example/"), Request("POST", "http://a.example/")

    def error(kind: Any, phase: str) -> BaseException:
        failure: BaseException = kind("x", host="a.example", port=80, phase=phase)
        return failure

    policy = Retry(phases={"connect", "read"})
    for kind, phase, request, allowed in [
        (EndpointTimeoutError, "connect", post, True),
        (EndpointTimeoutError, "pool", post, False),
        (EndpointTimeoutError, "read", get, True),
        (EndpointTimeoutError, "read", post, False),
        (IncompleteResponseError, "read", get, True),
        (RemoteProtocolError, "read", get, False),
        (TLSCertificateError, "connect", get, False),
    ]:
        assert policy.allows_error(request, error(kind, phase)) is allowed, (kind, phase)
    assert not policy.allows_error(get, ValueError())


@on_reactor
async def test_retry_after_is_kept_and_has_a_cap() -> None:
    peer = Failing(1, busy("Retry-After: 1"))
    async with serving(peer) as server, AsyncClient(retry=FAST) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await client.get(server.url())).content == b"ok"
        assert loop.time() - began >= 1
    for asked in ("61", "99999999999999", formatdate(4e9, usegmt=True)):
        peer = Failing(1, busy(f"Retry-After: {asked}"))
        # without a deadline, which would keep it from waiting as well
        async with serving(peer) as server, AsyncClient(retry=FAST, timeout=None) as client:
            async with asyncio.timeout(10):
                assert (await client.get(server.url())).status_code == 503
            assert len(peer.seen) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("9" * 13, float("inf")),
        ("Thu, 01 Jan 1970 00:01:10 GMT", 10.0), ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("-1", None), ("1.5", None), ("soon", None), ("", None), ("²", None),
        ("Thu, 99 Jan 1970 00:01:10 GMT", None),
    ],
)  # fmt: skip
def test_rfc9110_10_2_3_retry_after(value: str, seconds: float | None) -> None:
    headers = Headers([("Retry-After", value.strip())] if value else [])
    assert retry_after(headers, lambda: 60.0) == seconds


def test_wait_doubles_up_to_its_limit_and_is_left_to_chance() -> None:
    policy = Retry(backoff=1.0, max_backoff=5.0, jitter=0.0)
    assert [policy.seconds_before(each) for each in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]
    chance = {Retry(backoff=1.0, jitter=0.5).seconds_before(1) for _ in range(50)}
    assert len(chance) > 1
    assert all(each is not None and 0.5 <= each <= 1 for each in chance)


@on_reactor
async def test_no_wait_goes_past_the_deadline() -> None:
    peer = Failing(1, busy("Retry-After: 30"))
    async with serving(peer) as server, AsyncClient(retry=FAST, timeout=20) as client:
        assert (await client.get(server.url())).status_code == 503
        assert len(peer.seen) == 1


@on_reactor
async def test_timeout_of_a_phase_is_tried_again_within_the_total() -> None:
    async def silent_at_first(peer: Conversation) -> None:
        while await peer.request() is not None:
            if peer.number:
                await peer.send(OK)

    async with serving(silent_at_first) as server, AsyncClient(retry=FAST) as client:
        response = await client.get(server.url(), timeout=Timeout(20, read=0.5))
        assert (response.content, server.connections) == (b"ok", 2)


@on_reactor
async def test_budget_of_a_client_ends_a_storm() -> None:
    peer = Failing(10_000, busy())
    policy = Retry(attempts=3, backoff=0.0, budget=0.1, reserve=5)
    async with serving(peer) as server, AsyncClient(retry=policy) as client:
        for _ in range(40):
            assert (await client.get(server.url())).status_code == 503
    assert 40 + 5 <= len(peer.seen) <= 40 + 5 + 40 * 0.1


def test_budget_earns_a_part_of_each_request() -> None:
    budget = RetryBudget(Retry(budget=0.5, reserve=1))
    assert (budget.spend(), budget.spend()) == (True, False)
    budget.earn()
    assert budget.spend() is False
    budget.earn()
    assert budget.spend() is True
    for _ in range(100):
        budget.earn()
    assert (budget.spend(), budget.spend()) == (True, False)
    assert all(RetryBudget(Retry(budget=None, reserve=0)).spend() for _ in range(9))


def test_blocking_client_retries_too() -> None:
    peer = Failing(2, busy())
    with serving_in_thread(peer) as server, Client(retry=FAST) as client:
        assert client.get(server.url()).content == b"ok"
        assert client.get(server.url(), retry=None).content == b"ok"


@pytest.mark.parametrize(
    "options",
    [{"attempts": -1}, {"backoff": -1}, {"jitter": 2}, {"phases": ["x"]}, {"budget": -0.1}],
)
def test_what_is_no_policy_raises(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Retry(**options)


def test_one_str_is_no_collection_of_methods() -> None:
    with pytest.raises(TypeError, match="methods"):
        Retry(methods="GET")
    with pytest.raises(TypeError, match="retry is a Retry"):
        AsyncClient(retry=3)  # type: ignore[arg-type]

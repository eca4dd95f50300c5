"""The way of a request through everything that may happen to it on its way.

Owns: the order: what is asked, what answers a challenge, what is sent again, where a redirect
leads.  May not touch: how a connection is made (``protocols.http.routes``) and what flows over
it (``protocols.http.sending``).
Invariant: a connection that was acquired is released, or discarded, on every way out: success,
error, cancellation.  What belongs to one origin goes to no other.

::

    request --> [hooks] --> connection --> response --> [hooks] --> what now? --> caller
       ^           ^                          |                        |
       |           +------ error, retried ----+                        |
       +---- 401, 407 answered; status retried; redirect followed -----+

A request that needs none of this does not come here (``AsyncClient._send``).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from protocols.http.auth import Auth, Challenge, PasswordAuth, coerce_auth, parse_challenges
from protocols.http.calls import let_go
from protocols.http.connection import ClientConnection
from protocols.http.cookies import CookieJar
from protocols.http.errors import (
    ClientClosedError,
    ProxyAuthenticationError,
    RedirectError,
    RedirectLoop,
    ResponseError,
    TooManyRedirects,
)
from protocols.http.headers import Headers
from protocols.http.limits import (
    LONGEST_TIMEOUT_SECONDS,
    MAX_AUTH_ANSWERS,
    MAX_PASSWORD_QUESTIONS,
    MAX_PASSWORDS_KEPT,
    MAX_STALE_RETRIES,
)
from protocols.http.options import PasswordQuestion, Sending, Settings, call_hooks
from protocols.http.proxies import Proxy
from protocols.http.redirects import is_redirect, redirected
from protocols.http.request import Request
from protocols.http.response import Response
from protocols.http.retries import Retry
from protocols.http.routes import Forward, TunnelOpener
from protocols.http.sending import drain, is_stale, upload
from protocols.http.timeouts import Timeout, acquire_in_phases
from protocols.http.url import URL
from protocols.http.watching import WatchedBody, Watcher
from reactor import Endpoint, EndpointError, PoolClosedError

__all__ = ["Begun", "Journey"]


@dataclass(slots=True)
class Begun:
    """What came of a request that the short way has begun.

    Attributes:
        answers: hold a connection and the response that came over it, if one did; they are the
            caller's to give back until this is emptied.
        failures: hold what it failed with, if it may be sent again; emptied, too, so that no
            traceback that leads here holds itself.
        waiter: holds what it was served where it waited for a connection, or is None.
        stale: how often a connection was met that its peer had closed.
    """

    answers: list[tuple[ClientConnection, Response]] = field(default_factory=list)
    failures: list[EndpointError] = field(default_factory=list)
    waiter: Any = None
    stale: int = 0


class Journey:
    """One call of a client's, from its request to the last response.

    Args:
        settings: the client's.
        options: this call's own.
        cookies: this call's own, or None.
        follow: whether redirects are followed.
        timeout: of this call.
        stream: whether the last response is streamed.
        deadline: when the total is over, where it runs already.
    """

    def __init__(
        self,
        settings: Settings,
        options: Sending,
        cookies: CookieJar | None,
        follow: bool,
        timeout: Timeout,
        stream: bool,
        deadline: float | None = None,
    ) -> None:
        self._settings = settings
        self._cookies = cookies
        self._follow = follow
        self._timeout = timeout
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        total = timeout.total
        if deadline is None and total is not None and total <= LONGEST_TIMEOUT_SECONDS:
            deadline = self._loop.time() + total
        self._deadline = deadline
        self._deadline_ns = 0 if deadline is None else int(deadline * 1e9)

        chosen: Sending = {**settings.sending, **options} if options else settings.sending
        self._has_own_auth = "auth" in options
        self._auth: Auth | None = coerce_auth(options.get("auth"))
        self._on_password = chosen.get("on_password")
        self._on_redirect = chosen.get("on_redirect")
        self._on_send = chosen.get("on_send")
        self._on_receive = chosen.get("on_receive")
        self._on_informational = chosen.get("on_informational")
        self._retry: Retry | None = chosen.get("retry")
        self._watches = (
            self._on_send is not None
            or self._on_receive is not None
            or self._on_informational is not None
            or timeout.write is not None
            or timeout.read is not None
        )
        self._waits = (timeout.pool, timeout.connect, timeout.tls) != (None, None, None)

        self._waiter: Any = None  # who has waited for the first connection, or None
        self._stale = 0  # connections that the first request has met
        self._strayed = False  # to another origin than the first
        self._redirects = 0
        self._redirected: set[tuple[object, ...]] = set()  # what was answered with a redirect
        self._retries = 0
        self._answers = 0  # to challenges, for the current request
        self._questions = 0  # to on_password
        self._credentials: str | None = None  # what was computed for the current request
        self._sent: str | None = None  # Authorization of the current request
        self._proxy_credentials: str | None = None  # the same for the proxy
        self._sent_to_proxy: str | None = None

    async def run(
        self, request: Request, begun: Begun | None = None
    ) -> tuple[ClientConnection, Response]:
        """Send a request, and those to which it leads, from where it was *begun*.

        Returns the last response, streamed or whole, and its connection, which is the caller's
        to release.
        """
        settings = self._settings
        self._set_out(request, earns=begun is None)
        answered = None
        if begun is not None:
            self._waiter, begun.waiter = begun.waiter, None
            self._stale = begun.stale
            if begun.answers:
                answered = begun.answers[0]
            elif begun.failures:
                await self._begin_again(request, begun.failures.pop())
        history: list[Response] = []
        while True:
            if answered is None:
                if settings.request_hooks:
                    await call_hooks(settings.request_hooks, request)
                try:
                    answered = await self._exchange(request)
                except EndpointError as error:
                    if await self._recovers(request, error):
                        continue
                    raise
            connection, response = answered
            answered = flaw = None
            try:
                if begun is not None:
                    begun.answers.clear()
                response.request = request
                follows = self._follow and is_redirect(response.status_code, response.headers)
                if follows:  # with the cookies that it was sent with
                    self._redirected.add(self._identity(request))
                if response.sets_cookies:
                    settings.cookies.store(request.url, response.headers)
                if history:
                    response.history = history
                if not follows:  # nobody reads what is followed
                    flaw = self._decode(response)
                if settings.response_hooks:
                    await call_hooks(settings.response_hooks, response)
                pause = None
                following = await self._answer(request, response)
                if following is None:
                    pause = self._pause(request, response)
                if following is None and pause is None and follows:
                    following = await self._redirect(request, response)
                    if following is None:
                        flaw = self._decode(response)
                if following is None and pause is None:
                    if flaw is not None:
                        raise flaw
                    return connection, response
                if self._stream:
                    await drain(response)
            except BaseException:
                let_go(settings.manager, connection)
                flaw = None  # which has a traceback, which has this frame
                raise
            flaw = None  # the same, where what comes next fails
            let_go(settings.manager, connection)
            if following is None:
                await asyncio.sleep(pause or 0)
            else:
                request = following
                history = [*history, response]

    def _decode(self, response: Response) -> ResponseError | None:
        """Take the codings off a body; return why that cannot be done, or ``None``.

        Only who is given the response needs its body: a challenge is answered all the same.
        """
        if response.is_encoded:
            try:
                response.decode(self._settings.limits, self._settings.max_body_bytes)
            except ResponseError as error:
                return error
        return None

    def _set_out(self, request: Request, *, earns: bool) -> None:
        """Choose the credentials: those of the call, of the request, or of the client."""
        if not self._has_own_auth and "Authorization" not in request.headers:
            # somebody was asked for a password where the client's own was none
            self._auth = self._settings.passwords.get(request.url.origin, self._settings.auth)
        if earns and self._retry is not None and self._settings.budget is not None:
            self._settings.budget.earn()

    # -- one request ---------------------------------------------------------------------

    async def _exchange(self, request: Request) -> tuple[ClientConnection, Response]:
        """Send one request and wait for its response, or (streamed) for the head of it.

        A connection from the pool that was closed before a byte of the response came did not
        see the request processed, or its server may as well do it again: where the method is
        safe (RFC 9110 section 9.2.2).
        """
        manager = self._settings.manager
        endpoint = self._settings.routes.endpoint(request.url, bare=self._strayed)
        head = self._head(request, endpoint)
        stale, self._stale = self._stale, 0
        while True:
            connection = await self._acquire(endpoint, fresh=stale > 0)
            was_used = connection.exchanges > 0
            try:
                return connection, await self._carry(connection, request, head)
            except BaseException as error:
                connection.abandon()
                manager.discard(connection)
                if not (
                    was_used
                    and connection.unanswered
                    and stale < MAX_STALE_RETRIES
                    and request.is_safe
                    and (request.body is None or request.body.replayable)
                    and is_stale(error)
                ):
                    raise
                stale += 1

    async def _acquire(self, endpoint: Endpoint, *, fresh: bool) -> Any:
        settings = self._settings

        def factory() -> ClientConnection:
            return ClientConnection(
                endpoint.host, endpoint.port, settings.limits, settings.max_body_bytes
            )

        try:
            if self._waiter is not None:
                waiter, self._waiter = self._waiter, None
                return await settings.manager._acquire(
                    factory, endpoint, self._deadline, False, waiter
                )
            if self._waits:
                return await acquire_in_phases(
                    settings.manager, factory, endpoint,
                    timeout=self._timeout, deadline=self._deadline, fresh=fresh,
                )  # fmt: skip
            return await settings.manager.acquire(
                factory, endpoint, deadline=self._deadline, fresh=fresh
            )
        except PoolClosedError:
            raise ClientClosedError("the client was closed") from None

    async def _carry(self, connection: ClientConnection, request: Request, head: bytes) -> Response:
        """Send a request over a connection, watched if it is to be."""
        watcher = None
        if self._watches:
            watcher = Watcher(connection, self._timeout, self._on_receive, self._on_informational)
            connection.observer = watcher
        body = request.body
        content = None
        if body is not None:
            content = None if self._on_send or "Expect" in request.headers else body.whole
            if content is None:
                pieces = None if watcher is None else WatchedBody(body, watcher, self._on_send)
                return await upload(
                    connection, request, head, self._deadline_ns, self._stream, pieces
                )
        return await connection.exchange(
            head, request.method, request.url, self._deadline_ns, self._stream, content
        )

    def _head(self, request: Request, endpoint: Endpoint) -> bytes:
        """Return the head of a request with cookies and credentials for where it goes."""
        more: list[tuple[str, str]] = []
        cookie = self._settings.cookies.header_for(request.url, self._cookies)
        if cookie is not None and "Cookie" not in request.headers:
            more.append(("Cookie", cookie))
        self._sent = self._credentials
        if self._sent is None and self._auth is not None:
            self._sent = self._auth.headers_for(
                request.method, request.url, body=_known_body(request)
            )
        self._credentials = None
        if self._sent is not None:
            more.append(("Authorization", self._sent))
        proxy = _forwards(endpoint)
        if proxy is None:
            if not _by_http_proxy(endpoint) or "Proxy-Authorization" not in request.headers:
                return request.head(more or None)
            return request.head(more, without="proxy-authorization")
        target = f"{request.url.scheme}://{request.url.host_header}{request.url.target}"
        self._sent_to_proxy = self._proxy_credentials
        self._proxy_credentials = None
        if self._sent_to_proxy is None and proxy.auth is not None:
            self._sent_to_proxy = proxy.auth.headers_for(
                request.method, proxy.url, target=target, body=_known_body(request)
            )
        for name, value in proxy.headers.raw:
            more.append((name.decode("latin-1"), value.decode("latin-1")))
        if self._sent_to_proxy is not None:
            more.append(("Proxy-Authorization", self._sent_to_proxy))
        return request.head(more, target=target)

    # -- what now? -----------------------------------------------------------------------

    async def _answer(self, request: Request, response: Response) -> Request | None:
        """Return the request with credentials for the challenges of a response, or None."""
        status = response.status_code
        if status not in (401, 407):
            return None
        if status == 407:
            endpoint = self._settings.routes.endpoint(request.url, bare=self._strayed)
            proxy = _forwards(endpoint)
            if proxy is None:
                return None  # an origin that says so wants what only a proxy may have
            return await self._answer_proxy(request, response, proxy)
        challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
        if not _replays(request):
            if self._auth is not None:
                self._auth.learn(request.url, challenges, _known_body(request), sent=self._sent)
            return None
        value = self._answer_of(self._auth, request, challenges, self._sent)
        while value is None:
            auth = await self._ask(request.url, challenges, is_proxy=False)
            if auth is None:
                return None
            self._auth = auth
            value = self._answer_of(auth, request, challenges, None)
            if value is None:
                return None  # no scheme that a password is good for
            self._remember(request.url, auth)
        self._credentials = value
        return request

    def _answer_of(
        self,
        auth: Auth | None,
        request: Request,
        challenges: Sequence[Challenge],
        sent: str | None,
    ) -> str | None:
        if auth is None:
            return None
        body = _known_body(request)
        if self._answers >= MAX_AUTH_ANSWERS:
            auth.learn(request.url, challenges, body, sent=sent)
            return None
        value = auth.answer(request.method, request.url, challenges, body, sent=sent)
        self._answers += value is not None
        return value

    async def _answer_proxy(
        self, request: Request, response: Response, proxy: Proxy
    ) -> Request | None:
        challenges = parse_challenges(response.headers.get_list("Proxy-Authenticate"))
        auth, body, sent = proxy.auth, _known_body(request), self._sent_to_proxy
        replays = _replays(request)
        value = None
        if auth is not None and replays and self._answers < MAX_AUTH_ANSWERS:
            url = request.url
            value = auth.answer(
                request.method, proxy.url, challenges, body,
                target=f"{url.scheme}://{url.host_header}{url.target}", sent=sent,
            )  # fmt: skip
        elif auth is not None:
            auth.learn(proxy.url, challenges, body, sent=sent)
        if not replays:
            return None
        if value is None:
            return request if await self._asked_for_proxy(proxy, challenges) else None
        self._answers += 1
        self._proxy_credentials = value
        return request

    async def _asked_for_proxy(self, proxy: Proxy, challenges: Sequence[Challenge]) -> bool:
        """Ask for a password and give it to the proxy; return whether there is one."""
        auth = await self._ask(proxy.url, challenges, is_proxy=True)
        if auth is None:
            return False
        self._settings.routes.proxies.replace(proxy, proxy.with_auth(auth))
        return True

    async def _ask(
        self, url: URL, challenges: Sequence[Challenge], *, is_proxy: bool
    ) -> PasswordAuth | None:
        """Ask ``on_password``, unless it was asked too often or nobody wants a password."""
        schemes = tuple(dict.fromkeys(each.scheme for each in challenges))
        if (
            self._on_password is None
            or self._questions >= MAX_PASSWORD_QUESTIONS
            or not {"basic", "digest"} & set(schemes)
        ):
            return None
        self._questions += 1
        self._answers = 0
        realm = next((each.params["realm"] for each in challenges if "realm" in each.params), "")
        question = PasswordQuestion(url, realm, schemes, is_proxy, self._questions)
        answer: Any = self._on_password(question)
        if inspect.isawaitable(answer):
            answer = await answer
        return None if answer is None else PasswordAuth(*answer)

    def _remember(self, url: URL, auth: PasswordAuth) -> None:
        passwords = self._settings.passwords
        passwords.pop(url.origin, None)
        if len(passwords) >= MAX_PASSWORDS_KEPT:
            del passwords[next(iter(passwords))]
        passwords[url.origin] = auth

    async def _redirect(self, request: Request, response: Response) -> Request | None:
        """Return the request that follows a redirect, None where the caller refuses it."""
        try:
            if self._redirects == self._settings.max_redirects:
                raise TooManyRedirects(
                    f"{request.method} {request.url}: "
                    f"{self._redirects} redirects were followed already"
                )
            following = redirected(request, response.status_code, response.headers)
            if self._identity(following) in self._redirected:
                raise RedirectLoop(
                    f"{following.method} {following.url} was redirected already, and again"
                )
        except RedirectError as error:
            error.response = response
            raise
        if self._on_redirect is not None:
            verdict = self._on_redirect(response, following)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            if verdict is False:
                return None
        self._redirects += 1
        if following.url.origin != request.url.origin:
            self._strayed = True
            self._auth = self._settings.passwords.get(following.url.origin)
        self._answers = self._questions = 0
        return following

    def _identity(self, request: Request) -> tuple[object, ...]:
        """Return what makes a request the same one as before, as far as servers can tell."""
        url = request.url
        cookie = self._settings.cookies.header_for(url, self._cookies)
        return request.method, url.origin, url.target, request.body is None, cookie

    # -- again ---------------------------------------------------------------------------

    async def _begin_again(self, request: Request, failure: EndpointError) -> None:
        """Wait until a request that failed may be sent again, or raise what it failed with."""
        try:
            if not await self._recovers(request, failure):
                raise failure
        finally:
            del failure  # which has a traceback, which has this frame

    async def _recovers(self, request: Request, error: EndpointError) -> bool:
        """Return, after a while, whether to send a request that failed again."""
        if isinstance(error, ProxyAuthenticationError):
            opener: Any = self._settings.routes.endpoint(request.url, bare=self._strayed).opener
            if not isinstance(opener, TunnelOpener):
                return False
            return await self._asked_for_proxy(opener.proxy, error.challenges)
        policy = self._retry
        if policy is None or not policy.allows_error(request, error):
            return False
        pause = self._next_pause(policy, None)
        if pause is None:
            return False
        await asyncio.sleep(pause)
        return True

    def _pause(self, request: Request, response: Response) -> float | None:
        """Return how long to wait before a request is sent again for its status, or None."""
        policy = self._retry
        if policy is None or not policy.allows_status(request, response.status_code):
            return None
        return self._next_pause(policy, response.headers)

    def _next_pause(self, policy: Retry, headers: Headers | None) -> float | None:
        """Return how long to wait before the next attempt; None where there may be none."""
        if self._retries >= policy.attempts:
            return None
        pause = policy.seconds_before(self._retries + 1, headers)
        if pause is None:
            return None
        if self._deadline is not None and self._loop.time() + pause >= self._deadline:
            return None
        if self._settings.budget is not None and not self._settings.budget.spend():
            return None
        self._retries += 1
        return pause


def _known_body(request: Request) -> bytes | None:
    """Return the whole body where it is in memory, empty for none."""
    return b"" if request.body is None else request.body.whole


def _replays(request: Request) -> bool:
    return request.body is None or request.body.replayable


def _forwards(endpoint: Endpoint) -> Proxy | None:
    """Return the proxy that is told with each request where it goes, or None."""
    opener: Any = endpoint.opener
    return opener.proxy if isinstance(opener, Forward) else None


def _by_http_proxy(endpoint: Endpoint) -> bool:
    return isinstance(endpoint.opener, TunnelOpener)

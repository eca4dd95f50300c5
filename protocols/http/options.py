"""What may be said of a request, for one or for all of a client's, and what a client has.

Owns: the checks of these.  Touches: nothing.
Invariant: what is wrong raises when it is given, before any I/O.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from protocols.http.auth import Auth, AuthSource, PasswordAuth
from protocols.http.bodies import Content, FileSource, FormSource
from protocols.http.cookies import CookieJar, CookieSource
from protocols.http.limits import ResponseLimits
from protocols.http.query import Params
from protocols.http.request import HeaderSource, Request
from protocols.http.response import Response
from protocols.http.retries import Retry
from protocols.http.retry_budget import RetryBudget
from protocols.http.routes import Routes
from protocols.http.timeouts import Timeout, check_seconds
from protocols.http.url import URL
from protocols.http.watching import OnInformational, OnProgress
from reactor import ConnectionManager

__all__ = [
    "Asking",
    "Default",
    "Hook",
    "Hooks",
    "OnPassword",
    "OnRedirect",
    "PasswordQuestion",
    "Sending",
    "Settings",
    "Telling",
    "as_timeout",
    "call_hooks",
    "check_sending",
    "read_hooks",
]

Hook = Callable[[Any], Awaitable[None] | None]
Hooks = Mapping[str, Iterable[Hook]]


class Default(enum.Enum):
    """Stands for "as the client has it", where ``None`` and ``False`` mean something."""

    CLIENT = "as the client has it"


@dataclass(frozen=True, slots=True)
class PasswordQuestion:
    """What somebody is asked who may know a password.

    Attributes:
        url: the request's, or the proxy's.
        realm: what the server calls that for which it wants the password; maybe empty.
        schemes: what it accepts, such as ``("digest", "basic")``.
        is_proxy: a proxy asks (407), not the origin (401).
        attempt: 1, and more when the answer before was refused.
    """

    url: URL
    realm: str
    schemes: tuple[str, ...]
    is_proxy: bool
    attempt: int


Password = tuple[str | bytes, str | bytes] | None
OnPassword = Callable[[PasswordQuestion], Password | Awaitable[Password]]
OnRedirect = Callable[[Response, Request], object]


class Sending(TypedDict, total=False):
    """What a request may have beside what it says; the client's own is the default.

    Attributes:
        auth: a (user, password) tuple for Basic, or an ``Auth``: its credentials go to the
            request's origin and to no other.  They go before an Authorization of the request's
            headers or URL, which goes before the client's *auth*.  ``None`` for none.
        on_password: called with a ``PasswordQuestion`` after a 401, or a 407 of a proxy, that
            nothing else answers; returns (user, password), or None to leave it at that.
        retry: the ``Retry`` policy; ``None`` for none.
        on_redirect: called with the response and the ``Request`` that would follow it; when it
            returns False, the response is returned instead.
        on_send: called with the ``Progress`` of each piece of the content.
        on_receive: called with the ``Progress`` of each piece of a response's body.
        on_informational: called with status and ``Headers`` of each 1xx response.

    The first four may be or return coroutines.  What a call-back raises goes to the caller.
    """

    auth: AuthSource | None
    on_password: OnPassword | None
    retry: Retry | None
    on_redirect: OnRedirect | None
    on_send: OnProgress | None
    on_receive: OnProgress | None
    on_informational: OnInformational | None


class Asking(Sending, total=False):
    """What a request without content may have; see ``AsyncClient.request``."""

    params: Params | None
    headers: HeaderSource | None
    cookies: CookieSource | None
    follow_redirects: bool | Default
    timeout: float | Timeout | Default | None


class Telling(Asking, total=False):
    """What a request with content may have; see ``AsyncClient.request``."""

    content: Content | None
    data: FormSource | None
    files: FileSource | None
    json: Any


_CALLED = ("on_password", "on_redirect", "on_send", "on_receive", "on_informational")


def check_sending(options: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for what is not among those of `Sending`, or not of its type."""
    for name, value in options.items():
        if name not in Sending.__annotations__:
            raise TypeError(f"there is no option {name!r}")
        if value is None:
            continue
        if name in _CALLED and not callable(value):
            raise TypeError(f"{name} is callable, not {value!r}")
        if name == "retry" and not isinstance(value, Retry):
            raise TypeError(f"retry is a Retry, not {type(value).__name__}")


def as_timeout(timeout: float | Timeout | None) -> Timeout:
    """Return *timeout* as a ``Timeout``.  Raises ``ValueError`` unless it is more than 0."""
    if isinstance(timeout, Timeout):
        return timeout
    check_seconds(timeout)
    return Timeout(timeout)


@dataclass(slots=True, kw_only=True)
class Settings:
    """What a client has for every request.

    Attributes:
        passwords: by origin, what ``on_password`` answered and was accepted.
        sending: the client's own options.
    """

    manager: ConnectionManager
    routes: Routes
    cookies: CookieJar
    limits: ResponseLimits
    max_body_bytes: int
    max_redirects: int
    request_hooks: tuple[Hook, ...]
    response_hooks: tuple[Hook, ...]
    auth: Auth | None
    sending: Sending
    passwords: dict[tuple[str, str, int], PasswordAuth] = field(default_factory=dict)
    budget: RetryBudget | None = None


def read_hooks(hooks: Hooks | None) -> tuple[tuple[Hook, ...], tuple[Hook, ...]]:
    """Return the hooks of requests and those of responses, checked."""
    given = dict(hooks or {})
    sorts = tuple(given.pop("request", ())), tuple(given.pop("response", ()))
    if given:
        raise ValueError(f'event_hooks has "request" and "response", not {", ".join(given)}')
    for hook in (*sorts[0], *sorts[1]):
        if not callable(hook):
            raise TypeError(f"an event hook is callable, not {hook!r}")
    return sorts


async def call_hooks(hooks: tuple[Hook, ...], argument: Request | Response) -> None:
    """Call each hook; await what it returns if that can be."""
    for hook in hooks:
        result = hook(argument)
        if inspect.isawaitable(result):
            await result

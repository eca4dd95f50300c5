from collections.abc import Coroutine
from typing import Any, NoReturn, final

from protocols.http.connection import ClientConnection
from protocols.http.cookies import CookieJar
from protocols.http.request import Request
from protocols.http.response import Response
from protocols.http.retries import Retry
from protocols.http.retry_budget import RetryBudget
from protocols.http.timeouts import Timeout
from protocols.http.url import URL
from protocols.http.verbs import Verbs
from reactor import ConnectionManager, Endpoint

@final
class Prepared:
    request: Request
    endpoint: Endpoint
    url: URL
    method: str
    is_kept: bool
    def __init__(
        self, request: Request, endpoint: Endpoint, credentials: str | None = None
    ) -> None: ...

@final
class Call(Coroutine[Any, Any, Response]):
    __name__: str
    __qualname__: str
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __await__(self) -> Any: ...
    def __iter__(self) -> Call: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any) -> Any: ...
    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> NoReturn: ...
    def close(self) -> None: ...

def let_go(manager: ConnectionManager, connection: ClientConnection) -> int: ...

class Calls(Verbs[Coroutine[Any, Any, Response]]):
    _manager: ConnectionManager
    _cookies: CookieJar
    _loop: Any
    _is_direct: bool
    _phases: Timeout
    _has_phases: bool
    _follow: bool
    _timeout: float | None
    def __init__(
        self,
        manager: ConnectionManager,
        cookies: CookieJar,
        *,
        phases: Timeout,
        follow: bool,
        retry: Retry | None,
        budget: RetryBudget | None,
    ) -> None: ...
    def _recall(self, method: str, url: str | URL) -> Prepared | None: ...
    def _forget(self) -> None: ...
    def _keep(self, prepared: Prepared, method: str, url: str | URL) -> None: ...

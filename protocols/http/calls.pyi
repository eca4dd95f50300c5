from collections.abc import Coroutine
from typing import Any, NoReturn, Unpack, final

from protocols.http.connection import ClientConnection
from protocols.http.cookies import CookieJar
from protocols.http.options import Asking
from protocols.http.request import Request
from protocols.http.response import Response
from protocols.http.url import URL
from reactor import ConnectionManager, Endpoint

@final
class Prepared:
    request: Request
    endpoint: Endpoint
    url: URL
    method: str
    def __init__(self, request: Request, endpoint: Endpoint) -> None: ...

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

class Calls:
    _manager: ConnectionManager
    _cookies: CookieJar
    _loop: Any
    _is_direct: bool
    _follow: bool
    def __init__(
        self,
        manager: ConnectionManager,
        cookies: CookieJar,
        *,
        deadline_seconds: float | None,
        follow: bool,
    ) -> None: ...
    def get(self, url: str | URL, **options: Unpack[Asking]) -> Coroutine[Any, Any, Response]: ...
    def head(self, url: str | URL, **options: Unpack[Asking]) -> Coroutine[Any, Any, Response]: ...
    def _recall(self, method: str, url: str | URL) -> Prepared | None: ...
    def _forget(self) -> None: ...
    def _keep(self, prepared: Prepared, method: str, url: str | URL) -> None: ...

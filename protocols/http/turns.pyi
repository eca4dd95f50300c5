import threading
from typing import Any, Unpack

from protocols.http.calls import Calls
from protocols.http.cookies import CookieSource
from protocols.http.options import Default, Sending
from protocols.http.query import Params
from protocols.http.request import HeaderSource
from protocols.http.response import Response
from protocols.http.timeouts import Timeout
from protocols.http.url import URL
from reactor import EventLoop

class Turns:
    _async: Calls
    _loop: EventLoop
    _mutex: threading.Lock
    _calls: Any
    _leader: int | None
    _alone: bool
    _closed: bool
    def __init__(self, client: Calls, loop: EventLoop) -> None: ...
    def get(
        self,
        url: str | URL,
        *,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = ...,
        timeout: float | Timeout | Default | None = ...,
        **more: Unpack[Sending],
    ) -> Response: ...
    def head(
        self,
        url: str | URL,
        *,
        params: Params | None = None,
        headers: HeaderSource | None = None,
        cookies: CookieSource | None = None,
        follow_redirects: bool | Default = ...,
        timeout: float | Timeout | Default | None = ...,
        **more: Unpack[Sending],
    ) -> Response: ...

import threading
from typing import Any, Unpack

from protocols.http.body_stream import BodyStream
from protocols.http.calls import Calls
from protocols.http.options import Asking
from protocols.http.response import Response
from protocols.http.streams import Hold
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
    def _next_piece(self, stream: BodyStream, hold: Hold | None) -> bytes: ...
    def _lead(self, call: Any) -> None: ...
    def get(self, url: str | URL, **options: Unpack[Asking]) -> Response: ...
    def head(self, url: str | URL, **options: Unpack[Asking]) -> Response: ...

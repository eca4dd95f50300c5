from collections.abc import Mapping
from typing import Any

from protocols.http.body_stream import BodyStream
from protocols.http.calls import Calls
from protocols.http.response import Response
from protocols.http.streams import Hold
from protocols.http.verbs import Verbs
from reactor import EventLoop
from reactor.locks import Mutex

class Turns(Verbs[Response]):
    _async: Calls
    _loop: EventLoop
    _mutex: Mutex
    _calls: Any
    _leader: int | None
    _alone: bool
    _closed: bool
    _waking: list[Any]
    def __init__(self, client: Calls, loop: EventLoop) -> None: ...
    def _next_piece(self, stream: BodyStream, hold: Hold | None) -> bytes: ...
    def _lead(self, call: Any) -> None: ...
    def _begin(self, call: Any) -> None: ...
    def _ended(self, call: Any, task: Any) -> None: ...
    def _conclude(self, call: Any) -> None: ...

def is_plain(options: Mapping[str, Any]) -> bool: ...
def may_repeat(options: Mapping[str, Any]) -> bool: ...
def give_task(client: Turns, call: Any) -> None: ...

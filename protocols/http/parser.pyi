from typing import NamedTuple, Self, TypeAlias, final

from protocols.http.headers import Headers
from protocols.http.limits import ResponseLimits

__all__ = ["Body", "Head", "Informational", "MessageComplete", "ResponseParser"]

class Informational(NamedTuple):
    status_code: int
    minor_version: int
    reason_phrase: str
    headers: Headers

class Head(NamedTuple):
    status_code: int
    minor_version: int
    reason_phrase: str
    headers: Headers

class Body(NamedTuple):
    data: bytes

class MessageComplete(NamedTuple):
    trailers: Headers | None

_Event: TypeAlias = Informational | Head | Body | MessageComplete

@final
class ResponseParser:
    def __new__(cls, limits: ResponseLimits = ...) -> Self: ...
    def expect_response(
        self, *, head_request: bool = False, connect: bool = False, upgrade: bool = False
    ) -> None: ...
    def receive_data(self, data: bytes) -> Self: ...
    def receive_eof(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Event: ...
    @property
    def status_code(self) -> int: ...
    @property
    def minor_version(self) -> int: ...
    @property
    def head(self) -> bytes: ...
    @property
    def content_length(self) -> int: ...
    @property
    def chunked(self) -> bool: ...
    @property
    def keep_alive(self) -> bool: ...
    @property
    def switched(self) -> bool: ...
    @property
    def trailers(self) -> Headers | None: ...
    @property
    def body_received(self) -> int: ...
    @property
    def reason_phrase(self) -> str: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def surplus(self) -> bytes: ...

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from protocols.http.bodies import Body, Content
from protocols.http.headers import Headers
from protocols.http.url import URL

__all__ = ["SAFE_METHODS", "HeaderSource", "Request", "token_of"]

HeaderSource: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
SAFE_METHODS: frozenset[str]

def token_of(method: str) -> str: ...

class Request:
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> URL: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> Body | None: ...
    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeaderSource | Headers | None = None,
        content: Body | Content | None = None,
    ) -> None: ...
    @property
    def is_safe(self) -> bool: ...
    def head(
        self,
        more: HeaderSource | None = None,
        *,
        target: str | None = None,
        without: str | None = None,
    ) -> bytes: ...

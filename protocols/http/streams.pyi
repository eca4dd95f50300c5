from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Literal, TypeAlias, final

from protocols.http.connection import ClientConnection
from protocols.http.response import Response
from reactor import ConnectionManager

_Start: TypeAlias = Callable[[], Coroutine[Any, Any, tuple[ClientConnection, Response]]]

@final
class Nothing:
    def __await__(self) -> Any: ...

@final
class Hold:
    def __init__(self, manager: ConnectionManager, connection: ClientConnection) -> None: ...
    def end(self) -> None: ...
    def end_soon(self) -> bool: ...

def give_back(manager: ConnectionManager, connection: ClientConnection) -> None: ...
def held(manager: ConnectionManager, answer: tuple[ClientConnection, Response]) -> Response: ...

class StreamBlock(AbstractAsyncContextManager[Response, None]):
    def __init__(self, manager: ConnectionManager, start: _Start) -> None: ...
    def __aenter__(self) -> Coroutine[Any, Any, Response]: ...
    async def enter(self, start: _Start) -> Response: ...
    def __aexit__(  # type: ignore[override]
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Nothing: ...

class BlockingStreamBlock(AbstractContextManager[Response, Literal[False]]):
    def __init__(self, client: Any, block: StreamBlock) -> None: ...
    def __enter__(self) -> Response: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]: ...

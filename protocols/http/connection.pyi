import asyncio
from collections.abc import AsyncIterable
from typing import Any

from protocols.http.limits import ResponseLimits
from protocols.http.protocol import HTTPProtocol
from protocols.http.response import Response

class ClientConnection(HTTPProtocol):
    observer: Any
    def __init__(
        self,
        host: str = "",
        port: int = 0,
        limits: ResponseLimits | None = None,
        max_body_bytes: int = ...,
    ) -> None: ...
    def exchange(
        self,
        head: bytes,
        method: str,
        url: Any,
        deadline_ns: int,
        stream: bool,
        content: bytes | None = None,
        upload_size: int = 0,
    ) -> asyncio.Future[Response]: ...
    def over(self) -> asyncio.Future[None]: ...
    async def upload(
        self, pieces: AsyncIterable[bytes], expects: bool, continue_seconds: float
    ) -> None: ...
    async def continued(self, seconds: float) -> None: ...
    def wake_uploader(self) -> None: ...
    def give_up(self, error: BaseException) -> None: ...
    def abandon(self) -> None: ...

from asyncio import Future
from collections.abc import Iterable
from typing import Any

async def wait(
    futures: Iterable[Future[Any]], *, timeout: float | None = None, first: bool = False
) -> bool: ...

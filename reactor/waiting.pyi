from asyncio import Future
from collections.abc import Collection
from typing import Any

async def wait(
    futures: Collection[Future[Any]], *, timeout: float | None = None, first: bool = False
) -> bool: ...

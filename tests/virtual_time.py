"""Time of the simulated poller's, which passes when a test says so, or when nothing else can."""

import asyncio
from typing import Any


async def pass_time(seconds: float) -> None:
    """Let so much time pass, and happen what is due by then and what that sets off."""
    loop: Any = asyncio.get_running_loop()
    loop.poller.advance(seconds)
    for _ in range(8):
        loop.poller.advance(0.001)  # to what it reports late
        await asyncio.sleep(0)

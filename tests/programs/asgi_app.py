"""An ASGI application: tells what runs it, echoes bodies, streams, waits for the end.

May not touch: anything of ours; it is imported by uvicorn, in a test or in a child process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PIECE = bytes(range(256)) * 256
PIECES = 100

# Disconnects that the application was told of.
gone: list[str] = []


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["path"] == "/loop":
        kind = type(asyncio.get_running_loop())
        await _answer(send, json.dumps({"loop": f"{kind.__module__}.{kind.__name__}"}).encode())
    elif scope["path"] == "/echo":
        await _start(send)
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})
    elif scope["path"] == "/pour":
        await _start(send)
        for left in reversed(range(PIECES)):
            await send({"type": "http.response.body", "body": PIECE, "more_body": left > 0})
    else:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.append(scope["path"])


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        stage = (await receive())["type"]
        sys.stdout.write(f"{stage}\n")
        sys.stdout.flush()
        await send({"type": f"{stage}.complete"})
        if stage == "lifespan.shutdown":
            return


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _answer(send: Send, body: bytes) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": body})

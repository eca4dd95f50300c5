"""A request's content on its way, where two things happen in one pass of the loop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from protocols.http import Request
from protocols.http.sending import upload
from tests.peers.scripted import on_reactor


class Lost:
    """A connection that is lost in the pass in which the content fails."""

    def exchange(self, *arguments: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_exception(ConnectionResetError("the peer's"))
        return answer

    async def upload(self, *arguments: Any) -> None:
        raise ValueError("the content's")


@on_reactor
async def test_content_that_fails_as_the_connection_is_lost_is_all_that_is_told() -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    connection: Any = Lost()
    request = Request("POST", "http://127.0.0.1/", content=iter([b"never asked for"]))
    with pytest.raises(ValueError, match="the content's"):
        await upload(connection, request, b"", 0, False)
    gc.collect()
    assert told == []

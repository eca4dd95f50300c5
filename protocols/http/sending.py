"""One request out and its response in, on a connection that is there.

Owns: the order in which content is sent and its answer awaited.  May not touch: the pool.
Invariant: when one of these has returned or raised, nothing of it is still running but, maybe, what
content does about being ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from protocols.http.connection import ClientConnection
from protocols.http.limits import BODY_PIECE_BYTES, CONTINUE_SECONDS, MAX_DRAINED_BYTES
from protocols.http.request import Request
from protocols.http.response import Response
from reactor import EndpointError, TLSTruncatedError
from reactor.waiting import wait

__all__ = ["drain", "is_stale", "upload"]


def is_stale(error: BaseException) -> bool:
    """Return whether the error is what a connection closed while idle gives."""
    return isinstance(error, EndpointError) and isinstance(
        error, ConnectionError | TLSTruncatedError
    )


async def upload(
    connection: ClientConnection,
    request: Request,
    head: bytes,
    deadline_ns: int,
    stream: bool,
    pieces: AsyncIterable[bytes] | None = None,
) -> Response:
    """Send a request and its content, piece by piece unless it is small; return its response.

    *pieces* is the request's body where somebody counts; the others are those of
    ``ClientConnection.exchange``.

    A whole response ends the sending, and so do the head of a streamed one that says that the
    request failed, and the end of any other, its deadline among them; whatever else may come while
    the content is still on its way. So a streamed response is there when all is sent.
    """
    body = request.body
    assert body is not None
    size = -1 if body.size is None else body.size
    expects = "100-continue" in request.headers.get("Expect", "").lower()
    is_small = body.size is not None and body.size <= BODY_PIECE_BYTES
    if is_small and not (expects or body.is_live or pieces):
        # With its head, so that a server that answers when it has that costs no connection.
        content = b"".join(body)
        return await connection.exchange(
            head, request.method, request.url, deadline_ns, stream, content
        )
    answer = connection.exchange(head, request.method, request.url, deadline_ns, stream, None, size)
    over = connection.over() if stream else answer
    sending = asyncio.ensure_future(
        connection.upload(body if pieces is None else pieces, expects, CONTINUE_SECONDS)
    )
    try:
        await wait((answer, sending), first=True)
        if stream and not sending.done() and (await answer).status_code < 400:
            await wait((over, sending), first=True)
        if sending.done():  # and may have failed, whatever came in the same pass
            await sending
        return await answer
    finally:
        # The connection is of no more use when it has not sent all, so nobody waits for this.
        if not sending.cancel() and not sending.cancelled():
            sending.exception()  # which is told already, or of no interest beside an answer
        if answer.done() and not answer.cancelled():
            answer.exception()  # of no interest beside what the content raised
        del answer, over, sending  # an error's traceback has this frame


async def drain(response: Response) -> None:
    """Read what is left of a streamed body that nobody wants, unless it is long."""
    left = MAX_DRAINED_BYTES
    async for data in response.aiter_raw():
        left -= len(data)
        if left < 0:
            return

"""What a scripted server usually says: scripts for ``tests.peers.scripted.serving``.

Owns: nothing; a script holds no state that outlives its connection.
Invariant: each ends when the client closes, or earlier if its name says so.
"""

from __future__ import annotations

from tests.peers.scripted import OK, Conversation, Script


def says(*answers: bytes) -> Script:
    """Return a script that gives one answer per request, then waits for the client to close."""

    async def script(peer: Conversation) -> None:
        for each in answers:
            if await peer.request() is None:
                return
            await peer.send(each)
        await peer.until_closed()

    return script


def says_and_closes(*answers: bytes) -> Script:
    """Return a script that gives one answer per request, then closes."""

    async def script(peer: Conversation) -> None:
        for each in answers:
            if await peer.request() is None:
                return
            await peer.send(each)

    return script


async def always_ok(peer: Conversation) -> None:
    while await peer.request() is not None:
        await peer.send(OK)


async def says_nothing(peer: Conversation) -> None:
    await peer.until_closed()


def ends(peer: Conversation, how: str) -> None:
    """End the connection: ``close``, ``cut`` or ``reset`` (see Conversation)."""
    {"close": peer.close, "cut": peer.cut, "reset": peer.reset}[how]()

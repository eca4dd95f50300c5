"""asyncio's transport of datagrams, for addresses that ``reactor.addresses`` does not know.

Netlink, packet, vsock and the like; what only looks like a socket.

Owns: what must happen to it when its loop closes.  May not touch: how it reads and writes, which
is asyncio's.
Invariant: after ``orphan`` its socket is closed.
"""

from __future__ import annotations

import warnings
from asyncio import selector_events
from typing import Any

__all__ = ["StockDatagramTransport"]


class StockDatagramTransport(selector_events._SelectorDatagramTransport):  # type: ignore[misc,name-defined]
    """A datagram socket of a family that is not ours."""

    _sock: Any

    def orphan(self) -> None:
        """The loop is closed: close the socket, call nobody, warn."""
        if self._sock is not None:
            message = f"unclosed transport {self!r}"
            sock, self._sock = self._sock, None
            self._closing = True
            self._conn_lost += 1
            self._protocol = None
            sock.close()
            warnings.warn(message, ResourceWarning, 2, source=self)  # which may raise

"""Print what a server says, and come back to it whenever it goes: python examples/follow.py PORT.

The factory tries again with growing waits; the connections that it makes share its ``count``.
"""

import argparse
import sys
from typing import Any

import reactor


class Follower(reactor.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        """Count it, where all of them are counted."""
        self.factory.count += 1
        print(f"connection {self.factory.count}", flush=True)

    def data_received(self, data: bytes) -> None:
        """Print what came."""
        print(data.decode(errors="replace"), flush=True)


class Following(reactor.ReconnectingFactory[Follower]):
    """Makes connections to one server, one after the other."""

    protocol = Follower
    count = 0

    def attempt_failed(self, error: reactor.EndpointError) -> None:
        """Say why, and go on."""
        print(f"follow: {error}", file=sys.stderr, flush=True)


async def main(host: str, port: int, first_delay: float) -> None:
    """Follow the server until the process is interrupted."""
    factory = Following(first_delay=first_delay, max_delay=30)
    factory.connect(host, port)
    await factory.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print what a server says, again and again.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--first-delay", type=float, default=0.5, help="seconds; then it doubles")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    try:
        reactor.run(main(given.host, given.port, given.first_delay))
    except KeyboardInterrupt:
        print("stopped")

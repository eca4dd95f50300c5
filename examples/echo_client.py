"""Say something to an echo server: python examples/echo_client.py --port N [--ca-file FILE] TEXT.

The same Protocol talks TCP and, with the root to trust, TLS.
"""

import argparse
import asyncio
import sys
from typing import Any

import reactor


class EchoClient(reactor.Protocol):
    """Sends a message and collects it until it is back, or the connection is lost."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.received = b""
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Send the message."""
        transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        """Collect what comes back."""
        self.received += data
        if len(self.received) >= len(self.message):
            self.answer.set_result(self.received)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits when the answer will not come."""
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the server hung up"))


async def main(host: str, port: int, ca_file: str | None, text: str) -> None:
    """Send *text* and print the answer."""
    tls = reactor.client_context(ca_file=ca_file) if ca_file else None
    deadline = asyncio.get_running_loop().time() + 10
    _, client = await reactor.connect(
        lambda: EchoClient(text.encode()), host, port, tls=tls, deadline=deadline
    )
    async with asyncio.timeout_at(deadline):
        print((await client.answer).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say something to an echo server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca-file", help="PEM file of the root to trust; makes it TLS")
    parser.add_argument("text", metavar="TEXT")
    given = parser.parse_args()
    try:
        reactor.run(main(given.host, given.port, given.ca_file, given.text))
    except OSError as error:
        sys.exit(f"echo_client: {error}")

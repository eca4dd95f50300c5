"""Send everything back: python examples/echo_server.py [--port N] [--certificate FILE].

The same Protocol serves TCP and, with a PEM file that has certificate and private key, TLS.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import reactor


class Echo(reactor.Protocol):
    """One connection."""

    def data_received(self, data: bytes) -> None:
        """Send *data* back."""
        self.transport.write(data)

    def pause_writing(self) -> None:
        """The peer reads more slowly than it writes: take no more from it for now."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.transport.resume_reading()


async def main(host: str, port: int, pem: bytes | None) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    tls: Any = reactor.server_context(certificate_pem=pem) if pem else None
    server = await loop.create_server(Echo, host, port, ssl=tls)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send everything back that clients send.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, for a free one")
    parser.add_argument("--certificate", type=Path, help="PEM file with the private key in it")
    given = parser.parse_args()
    certificate = given.certificate.read_bytes() if given.certificate else None
    try:
        reactor.run(main(given.host, given.port, certificate))
    except KeyboardInterrupt:
        print("stopped")

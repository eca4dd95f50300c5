"""The loops compared: memory of an idle connection with a Protocol subclass in Python.

Both ends are processes on the loop under test.  Each opens so many connections that what is
there once does not count; the figure is what the process's own memory grew by, divided by
their number.  The kernel's share is not in it.

usage: python benchmarks/loop_memory.py [--connections 19000] [--tls-connections 19000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import trustme
from loop_echo import Process
from loop_peers import PEERS, WITHOUT_TLS


def measure(peer: str, certificate: str, tls: bool, count: int) -> dict[str, float]:
    """Return bytes for each connection, of the server and of the client."""
    server = Process(peer, 0, certificate, tuned=False)
    client = Process(peer, 1, certificate, tuned=False)
    try:
        port = server.ask("serve", kind="idle", tls=tls)["port"]
        client.ask("connect", kind="idle", tls=tls, port=port, count=200)  # what is there once
        before = [end.ask("memory")["bytes"] for end in (server, client)]
        client.ask("connect", kind="idle", tls=tls, port=port, count=count)
        after = [end.ask("memory")["bytes"] for end in (server, client)]
    finally:
        server.end()
        client.end()
    used = [(late - early) / count for early, late in zip(before, after, strict=True)]
    return {"server": used[0], "client": used[1]}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=19_000)
    parser.add_argument("--tls-connections", type=int, default=19_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ca = trustme.CA()
    issued = ca.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    results: dict[str, Any] = {}
    with tempfile.NamedTemporaryFile(suffix=".pem") as certificate:
        certificate.write(issued + ca.cert_pem.bytes())
        certificate.flush()
        for tls, count in [(False, options.connections), (True, options.tls_connections)]:
            carrier = "TLS" if tls else "TCP"
            for peer in options.peers.split(","):
                if count == 0 or (tls and peer in WITHOUT_TLS):
                    continue
                used = measure(peer, certificate.name, tls, count)
                results[f"{carrier} {peer}"] = used
                print(
                    f"{carrier} {peer:12} x {count}: {used['server']:8.0f} bytes on the server, "
                    f"{used['client']:8.0f} on the client",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

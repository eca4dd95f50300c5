"""A Twisted program on our loop: an echo server, its clients, threads and a child process.

usage: python twisted_echo.py tcp|udp|unix|threads|process|signal DIRECTORY

Ends with status 0 and ``done`` as its last line when all came as it should.  Twisted's reactor
is one for a process and runs once, so each test has a process of its own.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import asyncioreactor

import reactor as ours

loop = ours.new_event_loop()
asyncioreactor.install(loop)

from twisted.internet import (  # noqa: E402 - the reactor first
    defer,
    endpoints,
    error,
    protocol,
    task,
    threads,
    utils,
)
from twisted.internet import reactor as twisted_reactor  # noqa: E402

CLIENTS = 50
MESSAGE = random.Random(0).randbytes(300_000)

reactor: Any = twisted_reactor


class Echo(protocol.Protocol):  # type: ignore[misc]
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Send it back."""
        self.transport.write(data)


class Client(protocol.Protocol):  # type: ignore[misc]
    """Sends a message, and hangs up when it is back."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Any = defer.Deferred()

    def connectionMade(self) -> None:  # noqa: N802
        """Send the message, in two pieces."""
        self.transport.write(MESSAGE[:1000])
        self.transport.write(MESSAGE[1000:])

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Collect it."""
        self.received += data
        if len(self.received) >= len(MESSAGE):
            self.transport.loseConnection()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """Tell the program."""
        self.lost.callback(reason.value)


async def echo(server_text: str, client_text: str) -> None:
    """Serve, and be many clients at once."""
    factory = protocol.Factory.forProtocol(Echo)
    port = await endpoints.serverFromString(reactor, server_text).listen(factory)
    address = port.getHost()
    where = client_text.format(getattr(address, "port", ""))

    async def client() -> None:
        endpoint = endpoints.clientFromString(reactor, where)
        made = await endpoints.connectProtocol(endpoint, Client())
        reason = await made.lost
        assert isinstance(reason, error.ConnectionDone), reason
        assert bytes(made.received) == MESSAGE

    await defer.gatherResults([defer.ensureDeferred(client()) for _ in range(CLIENTS)])
    await defer.maybeDeferred(port.stopListening)
    try:
        await endpoints.connectProtocol(endpoints.clientFromString(reactor, where), Client())
    except error.ConnectError:
        return
    raise AssertionError("the port still listens")


class UDPEcho(protocol.DatagramProtocol):  # type: ignore[misc]
    """Sends datagrams back."""

    def datagramReceived(self, datagram: bytes, address: Any) -> None:  # noqa: N802
        """Send it back."""
        self.transport.write(datagram, address)


class UDPClient(protocol.DatagramProtocol):  # type: ignore[misc]
    """Sends one datagram after the other, each once the last is back."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.left = count
        self.done: Any = defer.Deferred()

    def startProtocol(self) -> None:  # noqa: N802
        """Send the first."""
        self.transport.connect("127.0.0.1", self.port)
        self.transport.write(b"%d" % self.left)

    def datagramReceived(self, datagram: bytes, address: Any) -> None:  # noqa: N802
        """Send the next."""
        assert datagram == b"%d" % self.left
        self.left -= 1
        if self.left:
            self.transport.write(b"%d" % self.left)
        else:
            self.done.callback(None)


async def echo_datagrams() -> None:
    """Serve datagrams, and be a client."""
    server = reactor.listenUDP(0, UDPEcho(), interface="127.0.0.1")
    made = UDPClient(server.getHost().port, 500)
    client = reactor.listenUDP(0, made)
    await made.done
    await defer.maybeDeferred(client.stopListening)
    await defer.maybeDeferred(server.stopListening)


async def call_threads() -> None:
    """Let threads work, and call back."""
    results = await defer.gatherResults(
        [threads.deferToThread(pow, number, 2) for number in range(100)]
    )
    assert list(results) == [number * number for number in range(100)]

    def from_thread() -> int:
        result: int = threads.blockingCallFromThread(reactor, lambda: 7)
        return result

    assert await threads.deferToThread(from_thread) == 7
    begun = loop.time()
    await task.deferLater(reactor, 0.05, lambda: None)
    assert loop.time() - begun >= 0.05


async def run_child() -> None:
    """Start a child process and hear of its end."""
    out, err, status = await utils.getProcessOutputAndValue(
        sys.executable,
        ["-c", "import sys; print(len(sys.stdin.read())); sys.exit(3)"],
        env=os.environ,
        stdinBytes=b"x" * 200_000,
    )
    assert (out, err, status) == (b"200000\n", b"", 3), (out, err, status)


async def wait_for_signal() -> None:
    """End in order on SIGTERM, which Twisted turns into a shutdown."""
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
    await defer.Deferred()


def main(what: str, directory: Path) -> None:
    """Run one of them."""
    failures: list[Any] = []
    events: list[str] = []
    reactor.addSystemEventTrigger("during", "shutdown", events.append, "shutdown")
    path = directory / "echo.sock"
    work = {
        "tcp": lambda: echo("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{}"),
        "unix": lambda: echo(f"unix:{path}", f"unix:{path}"),
        "udp": echo_datagrams,
        "threads": call_threads,
        "process": run_child,
        "signal": wait_for_signal,
    }[what]

    def start() -> None:
        working = defer.ensureDeferred(work())
        working.addErrback(failures.append)
        working.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    for failure in failures:
        sys.stderr.write(failure.getTraceback())
    assert events == ["shutdown"], events
    loop.close()
    if failures:
        sys.exit(1)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

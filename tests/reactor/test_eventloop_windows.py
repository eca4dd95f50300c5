"""What the event loop has on Windows beside sockets: child processes, named pipes, Ctrl-C."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from reactor.eventloop import EventLoop

if sys.platform != "win32":
    pytest.skip("pipes and children of Windows", allow_module_level=True)

Pipes = Any  # the loop's methods that typeshed knows of on Windows only

ECHO = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('done')"
WAITS = "import threading; threading.Event().wait()"

_names = itertools.count(1)


def pipe_name() -> str:
    return rf"\\.\pipe\cyreactor-{os.getpid()}-{next(_names)}"


# -- children ----------------------------------------------------------------------------


def test_child_is_written_to_read_from_and_waited_for(real: EventLoop) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ECHO, stdin=-1, stdout=-1, stderr=-1
        )
        out, err = await child.communicate(b"some text\n" * 10_000)
        assert out.split() == [b"SOME", b"TEXT"] * 10_000
        assert err == b"done"
        assert child.returncode == 0

    real.run_until_complete(main())


def test_exit_code_of_a_child_without_pipes_is_told(real: EventLoop) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        assert await child.wait() == 7

    real.run_until_complete(main())


def test_several_children_are_waited_for_at_once(real: EventLoop) -> None:
    async def exit_code(number: int) -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"raise SystemExit({number})"
        )
        return await child.wait()

    async def main() -> None:
        assert await asyncio.gather(*map(exit_code, range(4))) == [0, 1, 2, 3]

    real.run_until_complete(main())


def test_child_that_is_killed_ends_a_wait(real: EventLoop) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", WAITS, stdout=-1)
        child.kill()
        assert await child.wait() == 1
        assert child.stdout is not None
        assert await child.stdout.read() == b""

    real.run_until_complete(main())


def test_program_that_is_not_there_is_an_error_and_leaves_nothing(real: EventLoop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("no such program", stdin=-1, stdout=-1)

    real.run_until_complete(main())


def test_loop_that_closes_ends_its_child_and_warns(real: EventLoop) -> None:
    async def main() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, "-c", WAITS, stdout=-1)

    child = real.run_until_complete(main())
    process: Any = child._transport.get_extra_info("subprocess")
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        real.close()
    assert process.poll() is not None


# -- named pipes -------------------------------------------------------------------------


class Answers(asyncio.Protocol):
    """Sends back what comes, in capitals."""

    transport: Any = None

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def connect_pipe(loop: Pipes, name: str) -> tuple[asyncio.StreamReader, Any]:
    reader = asyncio.StreamReader()
    transport, _ = await loop.create_pipe_connection(
        lambda: asyncio.StreamReaderProtocol(reader), name
    )
    return reader, transport


def test_named_pipe_carries_bytes_both_ways(real: Pipes) -> None:
    async def main() -> None:
        name = pipe_name()
        served: list[Answers] = []

        def serve() -> Answers:
            served.append(Answers())
            return served[-1]

        [server] = await real.start_serving_pipe(serve, name)
        ends = [await connect_pipe(real, name) for _ in range(3)]
        for number, (_, transport) in enumerate(ends):
            transport.write(f"hello {number}".encode())
        for number, (reader, _) in enumerate(ends):
            assert await reader.readexactly(7) == f"HELLO {number}".encode()
        for _, transport in ends:
            transport.close()
        server.close()
        await asyncio.gather(*[each.lost.wait() for each in served if each.transport])
        with pytest.raises(FileNotFoundError):
            await real.create_pipe_connection(Answers, name)

    real.run_until_complete(main())


def test_pipe_that_nobody_serves_is_an_error(real: Pipes) -> None:
    with pytest.raises(FileNotFoundError):
        real.run_until_complete(real.create_pipe_connection(Answers, pipe_name()))


# -- datagrams ---------------------------------------------------------------------------


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_go_both_ways(real: EventLoop, host: str) -> None:
    async def main() -> None:
        server, served = await real.create_datagram_endpoint(Datagrams, (host, 0))
        address = server.get_extra_info("sockname")
        client, asked = await real.create_datagram_endpoint(Datagrams, remote_addr=address[:2])
        for number in range(100):
            client.sendto(b"%d" % number)
            data, peer = await served.received.get()
            assert data == b"%d" % number
            server.sendto(data * 2, peer)
            assert (await asked.received.get())[0] == data * 2
        for end in (client, server):
            end.close()
        await asyncio.sleep(0)

    real.run_until_complete(main())


# -- Ctrl-C ------------------------------------------------------------------------------

SERVES = """
import asyncio, reactor, signal, sys, threading
async def main():
    try:
        print("ready", flush=True)
        if sys.argv[1:]:
            threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
try:
    reactor.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(5)
"""


def test_ctrl_c_ends_a_loop_that_sleeps() -> None:
    """As the console's own thread does it: C's signal handler runs on another thread."""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", SERVES, "raise"],
        stdout=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert ended.stdout.split() == [b"ready", b"cancelled", b"interrupted"]
    assert ended.returncode == 5


def test_ctrl_break_of_the_console_reaches_the_handler() -> None:
    program = "import signal; signal.signal(signal.SIGBREAK, signal.default_int_handler)\n" + SERVES
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdout=subprocess.PIPE,
        creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,  # type: ignore[attr-defined,unused-ignore]
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline().strip() == b"ready"
            try:
                child.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]
            except (OSError, SystemError) as error:  # the latter is 3.11's way
                pytest.skip(f"no console: {error}")
            out, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert b"interrupted" in out
    assert child.returncode == 5


# -- descriptors of others ---------------------------------------------------------------


def test_socket_is_watched_as_on_no_other_loop_for_windows(real: EventLoop) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with one, two:
            readable, writable = asyncio.Event(), asyncio.Event()
            real.add_writer(one, writable.set)
            await asyncio.wait_for(writable.wait(), 5)
            real.remove_writer(one)
            real.add_reader(two, readable.set)
            one.send(b"x")
            await asyncio.wait_for(readable.wait(), 5)
            real.remove_reader(two)
            assert two.recv(10) == b"x"

    real.run_until_complete(main())

"""Watchers: when the call-back of somebody else's descriptor runs."""

import asyncio
import contextlib
import os
import re
import socket
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.eventloop import EventLoop, new_event_loop
from tests.reactor.recorder import turn


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = new_event_loop()
    yield loop
    turn(loop)
    assert not any(loop.stats().values()), loop.stats()
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        yield one, two


def test_reader_runs_after_what_was_queued_before_it_was_ready(loop: EventLoop, pair: Any) -> None:
    one, two = pair
    order: list[str] = []

    def read() -> None:
        order.append("reader")
        loop.remove_reader(two)
        loop.stop()

    loop.add_reader(two, read)
    one.send(b"x")
    loop.call_soon(order.append, "queued")
    loop.run_forever()
    assert order == ["queued", "reader"]


def test_datagram_that_waits_comes_once_a_new_task_awaits_it(loop: EventLoop) -> None:
    class Receiver(asyncio.DatagramProtocol):
        future: asyncio.Future[bytes] | None = None

        def datagram_received(self, data: bytes, address: Any) -> None:
            assert self.future is not None
            self.future.set_result(data)

    receiver = Receiver()

    async def receive() -> bytes:
        receiver.future = loop.create_future()
        return await asyncio.wait_for(receiver.future, 5)

    link, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: receiver, ("127.0.0.1", 0))
    )
    turn(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", link.get_extra_info("sockname"))
    assert loop.run_until_complete(receive()) == b"hello"
    link.close()


def test_reader_that_is_removed_while_it_is_queued_is_not_called(
    loop: EventLoop, pair: Any
) -> None:
    one, two = pair
    three, four = socket.socketpair()
    seen: list[str] = []

    def read(name: str, other: socket.socket) -> None:
        seen.append(name)
        loop.remove_reader(other)
        loop.stop()

    with three, four:
        loop.add_reader(two, read, "two", four)
        loop.add_reader(four, read, "four", two)
        one.send(b"x")
        three.send(b"x")
        loop.run_forever()
        turn(loop)
        assert len(seen) >= 1
        assert set(seen) in ({"two"}, {"four"})
        loop.remove_reader(two)
        loop.remove_reader(four)


def test_reader_whose_handle_somebody_cancels_is_watched_no_longer(
    loop: EventLoop, pair: Any
) -> None:
    one, two = pair
    loop._add_reader(two, pytest.fail).cancel()
    one.send(b"x")
    turn(loop)
    assert loop.stats()["live_ops"] == 0
    assert not loop.remove_reader(two)


def test_reader_that_is_slow_is_warned_about_in_debug_mode(
    loop: EventLoop, pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = pair
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0

    def read() -> None:
        loop.remove_reader(two)
        loop.stop()

    loop.add_reader(two, read)
    one.send(b"x")
    loop.run_forever()
    assert any("read()" in message and "took" in message for message in caplog.messages)


def test_descriptor_that_cannot_be_watched_on_is_reported_once(loop: EventLoop) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    reading, writing = os.pipe()

    def leave() -> None:
        raise KeyboardInterrupt

    loop.add_reader(reading, os.close, reading)
    os.write(writing, b"x")
    # The call-back stays queued over a pass in which epoll tells of the descriptor, and
    # nobody waits for it: so it leaves the set and has to enter it again.
    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    turn(loop)
    os.close(writing)
    assert [report["message"] for report in reports] == ["A descriptor can no longer be watched"]
    assert isinstance(reports[0]["exception"], OSError)
    assert not loop.remove_reader(reading)


def numbers_in_epoll_sets() -> set[int]:
    """Return what the epoll sets of this process have (proc_pid_fdinfo(5))."""
    found: set[int] = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.readlink().name == "anon_inode:[eventpoll]":
                text = Path("/proc/self/fdinfo", path.name).read_text()
                found.update(int(number) for number in re.findall(r"tfd:\s*(\d+)", text))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("when", ["waiting", "called", "behind a writer"])
def test_descriptor_is_in_no_set_once_its_reader_is_removed(
    loop: EventLoop, pair: Any, when: str
) -> None:
    """Closed while a child has it still, it would be told of for ever: the loop never slept."""
    one, two = pair
    number = two.fileno()
    is_epoll = type(loop.poller).__name__ == "EpollPoller"
    heard: list[str] = []

    def read() -> None:
        heard.append("reader")
        two.recv(1)
        loop.remove_reader(two)
        loop.stop()

    with two.dup():
        if when == "behind a writer":
            two.send(bytes(1))
            loop.add_writer(two, heard.append, "writer")
        loop.add_reader(two, read)
        if when == "called":
            one.send(b"x")
            loop.run_forever()
        else:
            turn(loop)
            assert not is_epoll or number in numbers_in_epoll_sets()
            loop.remove_reader(two)
        loop.remove_writer(two)
        assert number not in numbers_in_epoll_sets()
        two.close()
        one.send(b"for the duplicate")
        turn(loop)
        assert number not in numbers_in_epoll_sets()
    assert heard.count("reader") == (when == "called")


@pytest.mark.parametrize("what", ["reader", "writer"])
def test_socket_that_was_closed_while_it_was_watched_is_known_still(what: str) -> None:
    """As selectors look for the object where its number is gone."""

    class Callback:
        def __call__(self) -> None:
            pytest.fail("what was removed was called")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch, unwatch = getattr(loop, f"add_{what}"), getattr(loop, f"remove_{what}")
        one, two = socket.socketpair()
        number = one.fileno()
        callback = Callback()
        gone = weakref.ref(callback)
        if what == "writer":
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.send(bytes(65_536))
        watch(one, callback)
        one.close()
        with pytest.raises(ValueError, match="invalid file descriptor"):
            unwatch(socket.socket.__new__(socket.socket))
        assert unwatch(one) is True
        with pytest.raises(ValueError, match="invalid file descriptor"):
            unwatch(one)
        del callback
        await asyncio.sleep(0)
        assert gone() is None
        two.close()
        pair = socket.socketpair()
        one, two = sorted(pair, key=lambda each: each.fileno() != number)
        assert one.fileno() == number
        called = asyncio.Event()
        watch(one, called.set)
        two.send(b"x")
        await called.wait()
        assert unwatch(one) is True
        one.close()
        two.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())

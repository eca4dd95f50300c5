"""Thousands of random operations on dozens of simulated connections, with faults.

Every byte that arrives was sent, in order and once; every call-back comes as often as it
should; at the end nothing is left.  A failure is repeated by its seed.
"""

import errno
import random
from typing import Any

import pytest

from reactor.eventloop import EventLoop
from reactor.testing import connect, listen, simulated_loop
from tests.effort import effort
from tests.reactor.recorder import KINDS, settle, turn

STEPS = effort(1000, 4000)
FAULTS: dict[str, dict[str, Any]] = {
    "inline": {"spurious": 0.05},
    "small": {
        "send_buffer_bytes": 700, "receive_buffer_bytes": 500, "short_bytes": 300,
        "segment_bytes": 200, "spurious": 0.05,
    },
    "slow": {"latency_seconds": 0.01, "jitter_seconds": 0.02, "segment_bytes": 3000},
    "deferred": {"deferred": True, "delay_seconds": 0.002, "jitter_seconds": 0.001},
    "posted": {
        "deferred": True, "posted": True, "delay_seconds": 0.002, "send_buffer_bytes": 900,
        "receive_buffer_bytes": 900, "segment_bytes": 400, "short_bytes": 400,
    },
}  # fmt: skip


class End:
    """One end of a connection, what it has written, and whether that must arrive."""

    def __init__(self, chance: random.Random) -> None:
        kind = chance.choice(KINDS)
        self.recorder = kind(keeps_open=chance.random() < 0.5)
        self.sent = bytearray()
        self.peer: End | None = None
        self.rough = False  # somebody aborted, reset or closed before all was read
        self.ended = False

    @property
    def link(self) -> Any:
        return self.recorder.link

    def spoil(self) -> None:
        self.rough = True
        if self.peer is not None:
            self.peer.rough = True

    def check(self) -> None:
        if self.peer is not None:
            assert self.peer.sent.startswith(self.recorder.data)

    def write(self, chance: random.Random) -> None:
        if self.ended or self.link.is_closing():
            return
        data = chance.randbytes(chance.choice([0, 1, 50, 1000, 20_000]))
        self.sent += data
        match chance.randrange(4):
            case 0:
                self.link.write(data)
            case 1:
                mutable = bytearray(data)
                self.link.write(mutable)
                mutable[:] = bytes(len(mutable))
            case 2:
                self.link.write(memoryview(data))
            case _:
                third = len(data) // 3
                self.link.writelines([data[:third], b"", bytearray(data[third:])])

    def act(self, chance: random.Random, loop: EventLoop) -> None:
        roll = chance.random()
        if roll < 0.6:
            self.write(chance)
        elif roll < 0.72:
            self.link.pause_reading()
        elif roll < 0.87:
            self.link.resume_reading()
        elif roll < 0.99:
            self.link.set_write_buffer_limits(high=chance.choice([0, 100, 65536]))
        elif roll < 0.993:
            self.ended = True
            self.link.write_eof()
        elif roll < 0.996:
            self.spoil()
            self.link.close()
        elif roll < 0.998:
            self.spoil()
            self.link.abort()
        else:
            fd = self.link._sock_fd
            if fd >= 0:
                self.spoil()
                loop.poller.network.reset(fd)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", list(FAULTS))
def test_random_operations_with_faults_keep_every_promise(faults: str, seed: int) -> None:
    chance = random.Random(f"{faults} {seed}")
    loop = simulated_loop(seed=seed, **FAULTS[faults])
    network = loop.poller.network  # type: ignore[attr-defined]
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    ends: list[End] = []
    accepted: dict[Any, End] = {}
    waiting: dict[Any, End] = {}
    failed: list[End] = []
    acting = True

    def hook(end: End) -> None:
        """Sometimes act from inside a call-back, on this or on another connection."""

        def run(_: Any) -> None:
            if acting and chance.random() < 0.02:
                other = chance.choice(ends)
                if other.link is not None:
                    other.act(chance, loop)

        for event in ("data_received", "resume_writing", "eof_received"):
            end.recorder.hooks[event] = run

    def join(one: End, two: End) -> None:
        one.peer, two.peer = two, one
        if one.rough or two.rough:
            one.spoil()

    def serve() -> Any:
        end = End(chance)

        def made(recorder: Any) -> None:
            ends.append(end)
            name = recorder.link.get_extra_info("peername")
            if name in waiting:
                join(end, waiting.pop(name))
            else:
                accepted[name] = end

        end.recorder.hooks["connection_made"] = made
        hook(end)
        return end.recorder

    server = loop.run_until_complete(listen(loop, serve))
    address = server.sockets[0].getsockname()

    async def open_one() -> None:
        end = End(chance)

        def made(recorder: Any) -> None:
            ends.append(end)
            name = recorder.link.get_extra_info("sockname")
            if name in accepted:
                join(end, accepted.pop(name))
            else:
                waiting[name] = end

        end.recorder.hooks["connection_made"] = made
        hook(end)
        try:
            await connect(loop, lambda: end.recorder, address)
        except ConnectionResetError:
            failed.append(end)  # the other end was quicker

    tasks = [loop.create_task(open_one()) for _ in range(24)]
    for step in range(STEPS):
        live = [end for end in ends if end.link is not None and not end.recorder.lost]
        if live:
            chance.choice(live).act(chance, loop)
        if step % 100 == 0:
            tasks.append(loop.create_task(open_one()))
        if step % 500 == 150:
            network.fail("accept", errno.EMFILE)
        if step % 3 == 0:
            turn(loop, 1)
        if step % 50 == 0:
            loop.poller.advance(chance.random() / 5)  # type: ignore[attr-defined]
            for end in ends:
                end.check()
    acting = False
    assert {report["message"] for report in reports} <= {"socket.accept() out of system resource"}
    for _ in range(20):  # a listener at rest comes back and accepts what waits
        loop.poller.advance(1)  # type: ignore[attr-defined]
        settle(loop)
    for task in tasks:
        loop.run_until_complete(task)
    assert len(ends) == 2 * len(tasks) - len(failed)

    # What nobody spoilt arrives whole once everybody reads.
    for end in ends:
        end.link.resume_reading()
    while any(
        end.peer is not None and not end.rough and end.recorder.data != end.peer.sent
        for end in ends
    ):
        before = sum(len(end.recorder.data) for end in ends)
        settle(loop)
        assert sum(len(end.recorder.data) for end in ends) > before, "bytes were lost"
    whole = sum(1 for end in ends if end.peer is not None and not end.rough)
    for end in ends:
        end.check()
        end.link.abort()
    server.close()
    settle(loop)
    settle(loop)
    assert whole > 0
    assert all(len(end.recorder.lost) == 1 for end in ends)
    assert not any(loop.stats().values()), loop.stats()
    assert loop.poller.violations == []  # type: ignore[attr-defined]
    assert network.sockets == {}
    loop.close()

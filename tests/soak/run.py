"""The soak: so many requests over HTTP and HTTPS, most of them fine, the others not.

Owns: the server's process, the figures.  May not touch: the client's insides.
Invariant: every request ends in the way that its path and its caller make it end; after each
round nothing is left but idle connections, after the last one nothing at all.

    python tests/soak/run.py [REQUESTS] [--seed N] [--rounds N]

Of a thousand requests some 30 are cancelled at a random moment, 5 time out, 10 are reset, 10 are
truncated, 15 streams are left early, 80 are slow, 10 lose their connection by order.
The exit status is 0 only if each outcome was a right one and nothing leaked:

    descriptors, ops, blocks, timers, tasks, slots of the pool      counted after each round
    objects that the collector knows, memory (VmRSS)                flat from the second one on
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from protocols.http import AsyncClient, IncompleteResponseError
from reactor import EndpointTimeoutError, TLSTruncatedError, client_context, new_event_loop

WORKERS = 96
MAX_CONNECTIONS = 64  # so that some wait for one, and are cancelled there
SIZES = (0, 1, 64, 1_000, 20_000, 300_000)
WEIGHTS = (5, 5, 50, 30, 9, 1)
SILENCE_SECONDS = 0.02
# Of what is not a failure: far above what any request takes on a busy machine.
PATIENCE_SECONDS = 60.0
CLOSE_SECONDS = 10.0  # for what is closing at the end of a round

# Above what a round's end may differ by from another's: free lists, the size of a set.
MAX_OBJECTS_GROWN = 2_000
MAX_KIB_GROWN = 6_144


class WrongOutcomeError(AssertionError):
    """A request ended in another way than it had to."""


class Round(NamedTuple):
    """What was counted after a round."""

    requests: int
    seconds: float
    descriptors: int
    idle: int
    tasks: int
    live: dict[str, int]
    slots: dict[str, int]
    objects: int
    resident_kib: int


@contextlib.contextmanager
def serving() -> Iterator[tuple[list[str], bytes]]:
    """Run the server; yield its two roots and the authority's certificate."""
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "server.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with server:
            assert server.stdout is not None
            http, https = server.stdout.readline().split()
            roots = [f"http://127.0.0.1:{int(http)}", f"https://127.0.0.1:{int(https)}"]
            yield roots, authority.cert_pem.bytes()
            assert server.stdin is not None
            server.stdin.close()
        if server.returncode:
            raise WrongOutcomeError(f"the server ended with status {server.returncode}")


class Soak:
    """The client's side of a run."""

    def __init__(self, client: AsyncClient, roots: list[str], seed: int) -> None:
        self._client = client
        self._roots = roots
        self._random = random.Random(seed)
        self._left = 0
        self.outcomes: Counter[str] = Counter()

    async def round(self, requests: int) -> None:
        """Make so many requests, many at a time."""
        self._left = requests
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while self._left > 0:
            self._left -= 1
            root = self._random.choice(self._roots)
            chance = self._random.random()
            size = self._random.choices(SIZES, WEIGHTS)[0]
            if chance < 0.03:
                await self._cancelled(root, size)
            elif chance < 0.035:
                await self._silent(root)
            elif chance < 0.045:
                await self._broken(f"{root}/{self._random.choice(['reset', f'half/{size or 2}'])}")
            elif chance < 0.055:
                await self._cut(f"{root}/cut/{size or 1}")
            elif chance < 0.07:
                await self._left_early(root, size)
            elif chance < 0.15:
                await self._whole(root, self._random.choice(["slow/", "late/"]), size)
            elif chance < 0.16:
                await self._whole(root, "close/", size)
            elif chance < 0.26:
                await self._whole(root, "chunked/", size)
            else:
                await self._whole(root, "", size)

    async def _whole(self, root: str, kind: str, size: int) -> None:
        response = await self._client.get(f"{root}/{kind}{size}")
        if response.content != _BODY[:size]:
            raise WrongOutcomeError(f"{kind}{size}: {len(response.content)} bytes, or others")
        self.outcomes["whole"] += 1

    async def _cancelled(self, root: str, size: int) -> None:
        task = asyncio.ensure_future(self._client.get(f"{root}/late/{size}"))
        if self._random.random() < 0.5:
            for _ in range(self._random.randrange(6)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self._random.random() * 0.005)
        task.cancel()
        try:
            await task
            self.outcomes["whole before it was cancelled"] += 1
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1

    async def _silent(self, root: str) -> None:
        try:
            await self._client.get(f"{root}/silence", timeout=SILENCE_SECONDS)
        except EndpointTimeoutError as error:
            self.outcomes[f"timed out: {error.phase}"] += 1
        else:
            raise WrongOutcomeError("silence was an answer")

    async def _broken(self, url: str) -> None:
        try:
            await self._client.get(url)
        except ConnectionError:
            self.outcomes["reset"] += 1
        else:
            raise WrongOutcomeError(f"{url} was an answer")

    async def _cut(self, url: str) -> None:
        try:
            await self._client.get(url)
        except (IncompleteResponseError, TLSTruncatedError):
            self.outcomes["truncated"] += 1
        else:
            raise WrongOutcomeError(f"{url} was an answer")

    async def _left_early(self, root: str, size: int) -> None:
        async with self._client.stream("GET", f"{root}/slow/{size}") as response:
            if self._random.random() < 0.5:
                async for _ in response.aiter_bytes():
                    break
        self.outcomes["left early"] += 1


_BODY = bytes(range(256)) * 4_096


def descriptors() -> int:
    """Return how many are open; without the one that looks."""
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - the count alone


def resident_kib() -> int:
    """Return the memory of this process that is in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


async def counted(client: AsyncClient, loop: Any, requests: int, seconds: float) -> Round:
    """Return what is left after a round, when what is closing has closed, or does not."""
    closed = asyncio.Event()
    client.manager.on_event = lambda _: closed.set()
    with contextlib.suppress(TimeoutError):  # the round tells of what is closing still
        async with asyncio.timeout(CLOSE_SECONDS):
            while client.manager.stats()["closing"]:
                closed.clear()
                await closed.wait()
    client.manager.on_event = None
    stats: dict[str, Any] = {**client.manager.stats()}
    gc.collect()
    return Round(
        requests=requests,
        seconds=seconds,
        descriptors=descriptors(),
        idle=stats["idle"],
        tasks=len(asyncio.all_tasks()),
        live={name: loop.stats()[name] for name in ("live_ops", "timers", "blocks_in_use")},
        slots={name: stats[name] for name in ("leased", "opening", "closing", "waiting")},
        objects=len(gc.get_objects()),
        resident_kib=resident_kib(),
    )


def leaks(rounds: list[Round], before: int) -> list[str]:
    """Return what is wrong with the rounds' figures, in words."""
    wrong = []
    for number, each in enumerate(rounds, 1):
        if each.descriptors != before + each.idle:
            wrong.append(
                f"round {number}: {each.descriptors} descriptors, {before} before, "
                f"{each.idle} connections"
            )
        if any(each.slots.values()):
            wrong.append(f"round {number}: slots {each.slots}")
        if each.tasks != 1:
            wrong.append(f"round {number}: {each.tasks} tasks")
        # a receive for each idle connection, and the loop's own wake-up; the expiry's timer
        if each.live["live_ops"] > each.idle + 2:
            wrong.append(f"round {number}: {each.live} with {each.idle} connections")
        if each.live["blocks_in_use"] or each.live["timers"] > 2:
            wrong.append(f"round {number}: {each.live}")
    if len(rounds) > 2:
        base, last = rounds[1], rounds[-1]
        if last.objects - base.objects > MAX_OBJECTS_GROWN:
            wrong.append(f"{last.objects - base.objects} objects more than after round 2")
        is_plain = "asan" not in os.environ.get("LD_PRELOAD", "")  # which keeps what was freed
        if is_plain and last.resident_kib - base.resident_kib > MAX_KIB_GROWN:
            wrong.append(f"{last.resident_kib - base.resident_kib} KiB more than after round 2")
    return wrong


def soak(requests: int, *, rounds: int, seed: int) -> list[str]:
    """Make the requests; print the figures and return what is wrong, in words."""
    loop: Any = new_event_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    figures: list[Round] = []
    outcomes: Counter[str] = Counter()
    with serving() as (roots, pem):

        async def main() -> None:
            async with AsyncClient(
                tls=client_context(ca_pem=pem, alpn=("http/1.1",)),
                max_connections=MAX_CONNECTIONS,
                max_per_host=MAX_CONNECTIONS // 2,  # else one root evicts the other's all the time
                timeout=PATIENCE_SECONDS,
            ) as client:
                run = Soak(client, roots, seed)
                for number in range(rounds):
                    began = time.monotonic()
                    await run.round(requests // rounds)
                    seconds = time.monotonic() - began
                    figures.append(await counted(client, loop, requests // rounds, seconds))
                    print(f"round {number + 1}: {figures[-1]}", flush=True)
                outcomes.update(run.outcomes)

        loop.run_until_complete(asyncio.sleep(0))
        before = descriptors()
        loop.run_until_complete(main())
        for _ in range(10):
            loop.run_until_complete(asyncio.sleep(0))
        wrong = leaks(figures, before)
        if descriptors() != before:
            wrong.append(f"at the end {descriptors()} descriptors, {before} before")
        left = {name: count for name, count in loop.stats().items() if count}
        if left:
            wrong.append(f"at the end {left}")
    loop.close()
    wrong += [f"told to the loop: {context}" for context in told]
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>9}  {outcome}")
    return wrong


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("requests", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"{given.requests} requests in {given.rounds} rounds, seed {given.seed}", flush=True)
    wrong = soak(given.requests, rounds=given.rounds, seed=given.seed)
    print(*wrong or ["nothing leaked"], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

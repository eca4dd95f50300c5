"""A manager on the simulated poller, driven at random; hypothesis makes failures small.

What may happen between any two passes of the loop: callers come, give up, give back, throw
away; the server closes or speaks out of turn; time passes.  After each, the books are checked.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from reactor import ConnectionManager, EndpointTimeoutError
from reactor.testing import listen, simulated_loop
from tests.effort import effort
from tests.reactor.manager.peer import Asker, Echo, Peer, Strict, check, numbers

IDLE_SECONDS, AGE_SECONDS, USES = 1.0, 5.0, 20


class Shared(Asker):
    """Two callers at a time."""

    max_leases = 2


class ManagerMachine(RuleBasedStateMachine):
    """The model: who holds a lease, who is still waiting for one."""

    @initialize(
        total=st.integers(1, 5),
        per_endpoint=st.integers(1, 3),
        deferred=st.booleans(),
        behavior=st.sampled_from(["pool_and_reuse", "pool_and_reuse", "create_and_destroy"]),
        optimization=st.sampled_from(["scale", "speed"]),
    )
    def begin(
        self, total: int, per_endpoint: int, deferred: bool, behavior: str, optimization: str
    ) -> None:
        self.loop = simulated_loop(deferred=deferred)
        self.transports: list[Any] = []
        self.server = self.loop.run_until_complete(listen(self.loop, lambda: Echo(self.transports)))
        self.peer = Peer(self.server.sockets[0].getsockname()[1], self.transports)
        self.manager = ConnectionManager(
            max_connections=total,
            max_per_endpoint=per_endpoint,
            idle_seconds=IDLE_SECONDS,
            max_age_seconds=AGE_SECONDS,
            max_uses=USES,
            behavior=behavior,
            optimization=optimization,
        )
        self.limits = total, per_endpoint
        self.callers: list[asyncio.Task[Any]] = []
        self.held: list[Any] = []

    def turn(self) -> None:
        """Make one pass."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        for task in [each for each in self.callers if each.done()]:
            self.callers.remove(task)
            if task.cancelled():
                continue
            if task.exception() is None:
                self.held.append(task.result())
            else:
                assert isinstance(task.exception(), EndpointTimeoutError)

    @rule(
        at=st.integers(0, 3),
        factory=st.sampled_from([Asker, Strict, Shared]),
        fresh=st.booleans(),
        timeout=st.sampled_from([None, None, 0.5]),
    )
    def come(self, at: int, factory: type[Asker], fresh: bool, timeout: float | None) -> None:
        deadline = None if timeout is None else self.loop.time() + timeout
        coroutine = self.manager.acquire(
            factory, self.peer.endpoints[at], deadline=deadline, fresh=fresh
        )
        self.callers.append(self.loop.create_task(coroutine))

    @rule(count=st.integers(1, 6))
    def pass_by(self, count: int) -> None:
        for _ in range(count):
            self.turn()

    @precondition(lambda self: self.callers)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.callers[data.draw(st.integers(0, len(self.callers) - 1))].cancel()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), discards=st.booleans())
    def give_back(self, data: st.DataObject, discards: bool) -> None:
        protocol = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        (self.manager.discard if discards else self.manager.release)(protocol)

    @precondition(lambda self: self.transports)
    @rule(data=st.data(), how=st.sampled_from(["close", "abort", "speak"]))
    def server_acts(self, data: st.DataObject, how: str) -> None:
        transport = data.draw(st.sampled_from(self.transports))
        if how == "speak":
            transport.write(b"unasked")
        else:
            getattr(transport, how)()

    @rule(seconds=st.sampled_from([0.3, 1.1, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.poller.advance(seconds)  # type: ignore[attr-defined]
        self.turn()

    @invariant()
    def books_are_in_order(self) -> None:
        if not hasattr(self, "manager"):
            return
        check(self.manager)
        stats = numbers(self.manager)
        total, per_endpoint = self.limits
        assert self.manager._policy.total <= total
        leases = sum(each.leases for each in self.manager._all())
        # a caller may have been served and not yet have run
        assert len(self.held) <= leases <= len(self.held) + len(self.callers)
        assert stats["waiting"] <= len(self.callers)
        for pool in self.manager._policy.pools.values():
            assert pool.connections <= per_endpoint
        for connection in self.manager._all():
            assert connection.uses <= USES

    def teardown(self) -> None:
        if not hasattr(self, "manager"):
            return
        while self.callers:  # nobody waits for ever once all is given back
            for protocol in self.held:
                self.manager.release(protocol)
            self.held.clear()
            self.turn()
            self.loop.poller.advance(0.001)  # type: ignore[attr-defined]
        for protocol in self.held:
            self.manager.release(protocol)
        self.loop.run_until_complete(self.manager.close())
        assert self.manager._policy.total == 0
        assert not self.manager._all()
        assert not self.manager._policy.pools
        self.server.close()
        for transport in self.transports:
            transport.abort()
        for _ in range(10):
            self.turn()
            self.loop.poller.advance(0.1)  # type: ignore[attr-defined]
        assert not any(self.loop.stats().values()), self.loop.stats()
        assert self.loop.poller.violations == []  # type: ignore[attr-defined]
        self.loop.close()


ManagerMachine.TestCase.settings = settings(
    max_examples=effort(60, 2_000),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestManagerMachine = pytest.mark.timeout(900)(ManagerMachine.TestCase)

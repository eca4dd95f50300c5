"""The pool's decisions, without any connection: a table of cases and a random walk."""

from __future__ import annotations

import itertools
from collections.abc import Sized
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from reactor.manager.policy import Action, EndpointPool, PoolPolicy


def opened(policy: PoolPolicy, key: str) -> EndpointPool:
    """Lease a new connection of *key*."""
    pool = policy.pool(key)
    assert policy.want(pool) == (Action.OPEN, None)
    policy.opened(pool)
    policy.check()
    return pool


def test_first_caller_opens_and_later_ones_reuse_the_newest() -> None:
    policy = PoolPolicy(10, 10)
    pool = opened(policy, "a")
    opened(policy, "a")
    assert policy.give_back(pool, "one", 1.0) is None
    assert policy.give_back(pool, "two", 2.0) is None
    policy.check()
    assert policy.take(pool) == "two"
    assert policy.take(pool) == "one"
    policy.check()


def test_endpoint_at_its_limit_waits_and_is_served_in_order() -> None:
    policy = PoolPolicy(10, 1)
    pool = opened(policy, "a")
    for waiter in ("x", "y", "z"):
        assert policy.want(pool) == (Action.WAIT, None)
        policy.join(pool, waiter)
    policy.leave(pool, "y")
    policy.leave(pool, "y")
    policy.check()
    assert policy.give_back(pool, "one", 1.0) == "x"
    assert policy.give_back(pool, "one", 1.0) == "z"
    assert policy.give_back(pool, "one", 1.0) is None
    policy.check()


def test_full_pool_evicts_the_connection_that_is_idle_the_longest() -> None:
    policy = PoolPolicy(2, 2)
    policy.give_back(opened(policy, "a"), "old", 1.0)
    policy.give_back(opened(policy, "b"), "new", 2.0)
    assert policy.want(policy.pool("c")) == (Action.OPEN, "old")
    policy.check()
    assert (policy.total, list(policy.idle)) == (2, ["new"])


def test_idle_connection_makes_room_for_who_waits_at_another_endpoint() -> None:
    policy = PoolPolicy(1, 1)
    busy = opened(policy, "a")
    hungry = policy.pool("b")
    assert policy.want(hungry) == (Action.WAIT, None)
    policy.join(hungry, "x")
    assert policy.give_back(busy, "one", 1.0) is None
    assert policy.starved
    assert policy.next_to_open() == (hungry, "x", "one")
    policy.check()


@pytest.mark.parametrize("per_endpoint", [1, 10])
def test_endpoint_that_always_has_callers_cannot_starve_another(per_endpoint: int) -> None:
    policy = PoolPolicy(1, per_endpoint)
    busy = opened(policy, "busy")
    quiet = policy.pool("quiet")
    policy.join(busy, "b0")
    policy.join(quiet, "q")
    served = []
    for number in range(1, 10):
        policy.join(busy, f"b{number}")
        waiter = policy.give_back(busy, "one", 1.0)
        if waiter is None:
            assert policy.next_to_open() == (quiet, "q", "one")
            break
        served.append(waiter)
    assert served == ["b0"]
    policy.check()


def test_free_slots_go_to_one_endpoint_after_the_other() -> None:
    policy = PoolPolicy(2, 10)
    holder = opened(policy, "holder")
    opened(policy, "holder")
    for number in range(3):
        for key in ("a", "b", "c"):
            policy.join(policy.pool(key), f"{key}{number}")
    order = []
    policy.remove_leased(holder)
    while (served := policy.next_to_open()) is not None:
        pool, waiter, evicted = served
        assert evicted is None
        order.append(waiter)
        policy.check()
        policy.open_failed(pool)
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_endpoint_at_its_own_limit_is_passed_over() -> None:
    policy = PoolPolicy(2, 1)
    full = opened(policy, "full")
    other = opened(policy, "other")
    policy.join(full, "f")
    policy.join(policy.pool("free"), "x")
    policy.remove_leased(other)
    served = policy.next_to_open()
    assert served is not None
    assert (served[0].key, served[1]) == ("free", "x")
    assert policy.next_to_open() is None
    policy.check()


def test_fresh_connection_takes_the_place_of_an_idle_one() -> None:
    policy = PoolPolicy(10, 2)
    pool = opened(policy, "a")
    opened(policy, "a")
    policy.give_back(pool, "one", 1.0)
    policy.give_back(pool, "two", 2.0)
    assert policy.want(pool) == (Action.OPEN, "one")
    policy.check()
    assert policy.want(pool) == (Action.OPEN, "two")
    assert policy.want(pool) == (Action.WAIT, None)
    policy.check()


def test_fresh_connection_leaves_idle_ones_alone_where_there_is_room() -> None:
    policy = PoolPolicy(10, 2)
    pool = opened(policy, "a")
    policy.give_back(pool, "one", 1.0)
    assert policy.want(pool) == (Action.OPEN, None)
    policy.check()


def test_closing_connection_holds_its_slot_until_somebody_needs_it() -> None:
    policy = PoolPolicy(3, 2)
    pool = opened(policy, "a")
    opened(policy, "a")
    opened(policy, "b")
    policy.give_back(policy.pool("b"), "idle", 1.0)
    policy.close_leased(pool, "older")
    policy.close_leased(pool, "newer")
    policy.check()
    assert (policy.total, pool.size) == (3, 2)
    assert policy.want(pool) == (Action.OPEN, "older")  # its endpoint's limit
    assert policy.want(policy.pool("c")) == (Action.OPEN, "newer")  # the total's; idle ones stay
    policy.check()
    assert policy.want(pool) == (Action.OPEN, "idle")
    assert policy.want(pool) == (Action.WAIT, None)


def test_caller_that_waits_is_served_when_a_connection_begins_to_close() -> None:
    policy = PoolPolicy(10, 1)
    pool = opened(policy, "a")
    policy.join(pool, "x")
    policy.close_leased(pool, "one")
    assert policy.next_to_open() == (pool, "x", "one")
    policy.check()
    assert (policy.total, pool.opening) == (1, 1)


def test_oldest_idle_connection_expires_first() -> None:
    policy = PoolPolicy(10, 10)
    pool = opened(policy, "a")
    opened(policy, "a")
    policy.give_back(pool, "one", 1.0)
    policy.give_back(pool, "two", 2.0)
    assert policy.expired(0.5) is None
    assert policy.expired(1.0) == "one"
    assert policy.remove_idle("one") is pool
    assert policy.expired(1.5) is None
    assert policy.expired(2.5) == "two"


def test_pool_that_nobody_uses_is_forgotten() -> None:
    policy = PoolPolicy(1, 1)
    holder = opened(policy, "holder")
    policy.join(policy.pool("a"), "x")
    policy.leave(policy.pool("a"), "x")
    assert list(policy.pools) == ["holder"]
    policy.forget_if_empty(holder)
    assert list(policy.pools) == ["holder"]
    policy.remove_leased(holder)
    policy.forget_if_empty(holder)
    assert policy.pools == {}


@pytest.mark.parametrize(("total", "per_endpoint"), [(0, 1), (1, 0), (-1, 1)])
def test_limit_below_one_is_refused(total: int, per_endpoint: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PoolPolicy(total, per_endpoint)


KEYS = st.sampled_from(["a", "b", "c", "d"])


class PolicyMachine(RuleBasedStateMachine):
    """Callers that want, wait, give up, fail and give back, and a model of who has what."""

    @initialize(total=st.integers(1, 6), per_endpoint=st.integers(1, 4))
    def begin(self, total: int, per_endpoint: int) -> None:
        self.policy = PoolPolicy(total, per_endpoint)
        self.numbers = itertools.count()
        self.leased: list[tuple[EndpointPool, str]] = []
        self.opening: list[EndpointPool] = []
        self.waiting: list[tuple[EndpointPool, str]] = []
        self.idle: dict[str, EndpointPool] = {}
        self.closing: dict[str, EndpointPool] = {}
        self.now = 0.0

    def evict(self, connection: Any) -> None:
        if connection is not None:
            found = self.closing.pop(connection, None) or self.idle.pop(connection)
            self.policy.forget_if_empty(found)  # as when it is lost

    def serve(self) -> None:
        while (served := self.policy.next_to_open()) is not None:
            pool, waiter, evicted = served
            self.evict(evicted)
            first = next(each for each in self.waiting if each[0] is pool)
            assert first == (pool, waiter)  # first come first served
            self.waiting.remove(first)
            self.opening.append(pool)

    @rule(key=KEYS, fresh=st.booleans())
    def want(self, key: str, fresh: bool) -> None:
        pool = self.policy.pool(key)
        if pool.idle and not fresh:
            connection = self.policy.take(pool)
            assert self.idle.pop(connection) is pool
            self.leased.append((pool, connection))
            return
        action, what = self.policy.want(pool)
        if action is Action.OPEN:
            self.evict(what)
            self.opening.append(pool)
        else:
            waiter = f"w{next(self.numbers)}"
            self.policy.join(pool, waiter)
            self.waiting.append((pool, waiter))

    @precondition(lambda self: self.opening)
    @rule(data=st.data(), succeeds=st.booleans())
    def end_opening(self, data: st.DataObject, succeeds: bool) -> None:
        pool = self.opening.pop(data.draw(st.integers(0, len(self.opening) - 1)))
        if succeeds:
            self.policy.opened(pool)
            self.leased.append((pool, f"c{next(self.numbers)}"))
        else:
            self.policy.open_failed(pool)
            self.serve()
            self.policy.forget_if_empty(pool)

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), step=st.sampled_from([0.0, 1.0]))
    def give_back(self, data: st.DataObject, step: float) -> None:
        pool, connection = self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))
        self.now += step
        waiter = self.policy.give_back(pool, connection, self.now)
        if waiter is not None:
            first = next(each for each in self.waiting if each[0] is pool)
            assert first == (pool, waiter)
            self.waiting.remove(first)
            self.leased.append((pool, connection))
            return
        self.idle[connection] = pool
        if self.policy.starved:
            self.serve()

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def lose_leased(self, data: st.DataObject) -> None:
        pool, _ = self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))
        self.policy.remove_leased(pool)
        self.serve()
        self.policy.forget_if_empty(pool)

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def close_leased(self, data: st.DataObject) -> None:
        pool, connection = self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))
        self.policy.close_leased(pool, connection)
        self.closing[connection] = pool
        self.serve()

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def lose_closing(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.closing)))
        pool = self.closing.pop(connection)
        self.policy.remove_closing(connection)
        self.serve()
        self.policy.forget_if_empty(pool)

    @precondition(lambda self: self.idle)
    @rule(data=st.data())
    def lose_idle(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.idle)))
        pool = self.policy.remove_idle(connection)
        assert self.idle.pop(connection) is pool
        self.serve()
        self.policy.forget_if_empty(pool)

    @rule(age=st.sampled_from([0.0, 0.5, 2.0]))
    def expire(self, age: float) -> None:
        while (connection := self.policy.expired(self.now - age)) is not None:
            pool = self.policy.close_idle(connection)
            assert self.idle.pop(connection) is pool
            self.closing[connection] = pool
            self.serve()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.waiting) - 1))
        self.policy.leave(*self.waiting.pop(at))

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "policy"):
            return
        policy = self.policy
        policy.check()
        groups: tuple[Sized, ...] = (self.leased, self.opening, self.idle, self.closing)
        assert policy.total == sum(map(len, groups))
        assert dict(policy.closing) == self.closing
        assert dict(policy.idle) == self.idle
        assert policy.waiting == len(self.waiting)
        for pool in policy.pools.values():
            assert list(pool.waiters) == [who for at, who in self.waiting if at is pool]
            assert pool.leased == sum(at is pool for at, _ in self.leased)
            assert pool.opening == sum(at is pool for at in self.opening)
            assert pool.size or pool.waiters, "it was not forgotten"


PolicyMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPolicyMachine = PolicyMachine.TestCase

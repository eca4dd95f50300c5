"""The pool's decisions, without any connection: a table of cases and a random walk."""

from __future__ import annotations

import itertools
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

from reactor.manager.policy import EndpointPool, Member, PoolPolicy, Step


def opened(policy: PoolPolicy, key: str, max_leases: int = 1) -> Member:
    """Lease a new connection of *key*."""
    pool = policy.pool(key)
    assert policy.may_open(pool)
    policy.reserve(pool)
    member = Member()
    policy.set_max_leases(member, max_leases)
    policy.opened(pool, member)
    policy.check()
    return member


def idle(policy: PoolPolicy, key: str, now_ns: int = 0) -> Member:
    """Open a connection of *key* and give it back."""
    member = opened(policy, key)
    assert policy.give_back(member, now_ns) is None
    policy.check()
    return member


def test_first_caller_opens_and_later_ones_reuse_the_newest() -> None:
    policy = PoolPolicy(10, 10)
    pool = policy.pool("a")
    one, two = opened(policy, "a"), opened(policy, "a")
    assert policy.lendable(pool) is None
    for now, member in enumerate((one, two)):
        assert policy.give_back(member, now) is None
    for expected in (two, one):
        assert policy.lendable(pool) is expected
        policy.lend(expected)
        policy.check()
    assert (one.place, one.leases, one.since_ns, two.since_ns) == ("leased", 1, 0, 1)


def test_endpoint_at_its_limit_waits_and_is_served_in_order() -> None:
    policy = PoolPolicy(10, 1)
    one = opened(policy, "a")
    pool = one.pool
    for waiter in ("x", "y", "z"):
        assert not policy.may_open(pool)
        policy.join(pool, waiter)
        assert policy.next_step() is None
    policy.leave(pool, "y")
    policy.leave(pool, "y")
    policy.check()
    assert policy.give_back(one, 1) == "x"
    assert policy.lendable(pool) is None
    assert policy.give_back(one, 1) == "z"
    assert policy.give_back(one, 1) is None
    policy.check()


def test_full_pool_aborts_the_connection_that_is_idle_the_longest_and_opens_when_it_is_lost() -> (
    None
):
    policy = PoolPolicy(2, 2)
    old, new = idle(policy, "a", 1), idle(policy, "b", 2)
    pool = policy.pool("c")
    assert not policy.may_open(pool)
    assert policy.can_make_room(pool)
    policy.join(pool, "x")
    assert policy.next_step() == (Step.ABORT, old.pool, None, old)
    assert policy.next_step() is None
    assert (policy.total, old.place, policy.idle_members()) == (2, "aborting", [new])
    policy.check()
    policy.lost(old)
    assert policy.next_step() == (Step.OPEN, pool, "x", None)
    assert policy.total == 2
    policy.check()


def test_idle_connection_makes_room_for_who_waits_at_another_endpoint() -> None:
    policy = PoolPolicy(1, 1)
    one = opened(policy, "a")
    hungry = policy.pool("b")
    policy.join(hungry, "x")
    assert policy.next_step() is None
    assert policy.give_back(one, 1) is None
    assert policy.next_step() == (Step.ABORT, one.pool, None, one)
    policy.lost(one)
    assert policy.next_step() == (Step.OPEN, hungry, "x", None)
    policy.check()


@pytest.mark.parametrize("per_endpoint", [1, 10])
def test_endpoint_that_always_has_callers_cannot_starve_another(per_endpoint: int) -> None:
    policy = PoolPolicy(1, per_endpoint)
    one = opened(policy, "busy")
    quiet = policy.pool("quiet")
    policy.join(one.pool, "b0")
    policy.join(quiet, "q")
    served = []
    for number in range(1, 10):
        policy.join(one.pool, f"b{number}")
        waiter = policy.give_back(one, 1)
        if waiter is None:
            steps = []
            while (step := policy.next_step()) is not None:
                steps.append(step)
                if step[0] is Step.ABORT:
                    policy.lost(one)
            assert [step[0] for step in steps] in ([Step.REUSE], [Step.ABORT, Step.OPEN])
            served.append(steps[-1][2])
            if steps[-1][0] is Step.OPEN:
                break
            continue
        served.append(waiter)
    assert served == ["b0", "q"]
    policy.check()


def test_free_slots_go_to_one_endpoint_after_the_other() -> None:
    policy = PoolPolicy(2, 10)
    holder = opened(policy, "holder")
    opened(policy, "holder")
    for number in range(3):
        for key in ("a", "b", "c"):
            policy.join(policy.pool(key), f"{key}{number}")
    order = []
    policy.lost(holder)
    while (step := policy.next_step()) is not None:
        what, pool, waiter, _ = step
        assert what is Step.OPEN
        order.append(waiter)
        policy.check()
        policy.open_failed(pool)
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_endpoint_at_its_own_limit_is_passed_over() -> None:
    policy = PoolPolicy(2, 1)
    full, other = opened(policy, "full"), opened(policy, "other")
    policy.join(full.pool, "f")
    policy.join(policy.pool("free"), "x")
    policy.lost(other)
    assert policy.next_step() == (Step.OPEN, policy.pool("free"), "x", None)
    assert policy.next_step() is None
    policy.check()


def test_caller_that_wants_a_fresh_one_takes_the_place_of_an_idle_one() -> None:
    policy = PoolPolicy(10, 2)
    one, two = idle(policy, "a", 1), opened(policy, "a")
    pool = one.pool
    policy.give_back(two, 2)
    for waiter, member in (("x", one), ("y", two)):
        assert not policy.may_open(pool)
        policy.join(pool, waiter, True)
        assert policy.next_step() == (Step.ABORT, pool, None, member)
        policy.check()
    policy.join(pool, "z", True)
    assert policy.next_step() is None
    for member, waiter in ((one, "x"), (two, "y")):
        policy.lost(member)
        assert policy.next_step() == (Step.OPEN, pool, waiter, None)
    assert policy.next_step() is None
    policy.check()


def test_caller_that_waits_for_a_fresh_one_is_never_given_a_used_one() -> None:
    policy = PoolPolicy(10, 1)
    one = opened(policy, "a")
    pool = one.pool
    policy.join(pool, "picky", True)
    policy.join(pool, "modest")
    assert policy.give_back(one, 1) is None
    assert policy.next_step() == (Step.ABORT, pool, None, one)
    assert policy.next_step() is None
    policy.lost(one)
    assert policy.next_step() == (Step.OPEN, pool, "picky", None)
    two = Member()
    policy.opened(pool, two)
    assert policy.give_back(two, 2) == "modest"
    policy.check()


def test_idle_connection_goes_to_the_next_in_line_once_the_picky_one_has_left() -> None:
    policy = PoolPolicy(1, 1)
    one = opened(policy, "a")
    pool = one.pool
    policy.join(pool, "picky", True)
    policy.join(pool, "modest")
    policy.give_back(one, 1)
    policy.leave(pool, "picky")
    assert policy.next_step() == (Step.REUSE, pool, "modest", one)
    assert (one.place, one.leases) == ("leased", 1)
    policy.check()


def test_closing_connection_holds_its_slot_until_somebody_needs_it() -> None:
    policy = PoolPolicy(3, 2)
    older, newer = opened(policy, "a"), opened(policy, "a")
    rest = idle(policy, "b", 1)
    pool = older.pool
    policy.close(older, False)
    policy.close(newer, False)
    policy.check()
    assert (policy.total, pool.connections, older.place) == (3, 2, "closing")
    policy.join(pool, "x")
    assert policy.next_step() == (Step.ABORT, pool, None, older)  # its endpoint's limit
    other = policy.pool("c")
    policy.join(other, "y")
    assert policy.next_step() is None  # a slot is on its way; who gets it remains to be seen
    policy.lost(older)
    assert policy.next_step() == (Step.OPEN, other, "y", None)
    assert policy.next_step() == (Step.ABORT, pool, None, newer)  # the total's; idle ones stay
    assert policy.next_step() is None
    assert policy.idle_members() == [rest]
    policy.check()


def test_two_callers_that_starve_cost_two_connections_and_no_more() -> None:
    policy = PoolPolicy(4, 4)
    members = [opened(policy, "a") for _ in range(4)]
    for waiter in ("x", "y"):
        policy.join(policy.pool("b"), waiter)
    for member in members:
        policy.give_back(member, 1)
    steps = []
    while (step := policy.next_step()) is not None:
        steps.append(step)
    assert [step[0] for step in steps] == [Step.ABORT, Step.ABORT]
    assert policy.idle == 2
    policy.check()


def test_closing_connection_that_is_aborted_moves_on() -> None:
    policy = PoolPolicy(1, 1)
    one = opened(policy, "a")
    policy.close(one, False)
    policy.close(one, False)
    policy.close(one, True)
    policy.close(one, True)
    policy.close(one, False)
    assert (one.place, policy.aborting, policy.total) == ("aborting", 1, 1)
    policy.check()
    policy.lost(one)
    policy.lost(one)
    assert (one.place, policy.total) == ("lost", 0)
    policy.check()


def test_idle_ones_stand_in_the_order_of_their_return() -> None:
    policy = PoolPolicy(10, 10)
    one, two, three = (idle(policy, key, now) for now, key in enumerate("aba"))
    assert policy.idle_members() == [one, two, three]
    assert policy.idle_members(one.pool) == [one, three]
    assert policy.oldest_idle() is one
    policy.close(two, False)
    policy.check()
    assert policy.idle_members() == [one, three]
    policy.lost(one)
    assert policy.oldest_idle() is three
    policy.lost(three)
    assert policy.oldest_idle() is None
    policy.check()


def test_pool_that_nobody_uses_is_forgotten() -> None:
    policy = PoolPolicy(1, 1)
    holder = opened(policy, "holder")
    policy.join(policy.pool("a"), "x")
    policy.leave(policy.pool("a"), "x")
    assert list(policy.pools) == ["holder"]
    policy.forget_if_empty(holder.pool)
    assert list(policy.pools) == ["holder"]
    policy.lost(holder)
    policy.forget_if_empty(holder.pool)
    assert policy.pools == {}


@pytest.mark.parametrize(("total", "per_endpoint"), [(0, 1), (1, 0), (-1, 1)])
def test_limit_below_one_is_refused(total: int, per_endpoint: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PoolPolicy(total, per_endpoint)


# -- one connection, many leases ---------------------------------------------------------------


def test_connection_is_lent_up_to_its_own_limit_before_another_is_opened() -> None:
    policy = PoolPolicy(2, 2)
    one = opened(policy, "a", 3)
    pool = one.pool
    for _ in range(2):
        assert policy.lendable(pool) is one
        policy.lend(one)
        policy.check()
    assert one.leases == 3
    assert policy.lendable(pool) is None
    assert policy.may_open(pool)
    assert policy.give_back(one, 1) is None
    assert policy.lendable(pool) is one
    assert (policy.idle, pool.leased, policy.total) == (0, 1, 1)
    for _ in range(2):
        assert policy.give_back(one, 1) is None
    assert (one.place, policy.idle, pool.leased) == ("idle", 1, 0)
    policy.check()


def test_lease_that_comes_back_goes_to_who_waits_and_so_does_a_higher_limit() -> None:
    policy = PoolPolicy(1, 1)
    one = opened(policy, "a", 2)
    pool = one.pool
    policy.lend(one)
    for waiter in ("x", "y"):
        policy.join(pool, waiter)
    assert policy.give_back(one, 1) == "x"
    policy.set_max_leases(one, 3)
    assert policy.next_step() == (Step.REUSE, pool, "y", one)
    assert (one.leases, policy.waiting) == (3, 0)
    policy.check()


def test_connection_in_use_by_others_is_not_closed_for_who_waits_elsewhere() -> None:
    policy = PoolPolicy(1, 1)
    one = opened(policy, "a", 2)
    policy.lend(one)
    policy.join(policy.pool("b"), "elsewhere")
    policy.join(one.pool, "here")
    assert policy.give_back(one, 1) == "here"
    policy.check()
    assert policy.give_back(one, 1) is None
    assert policy.next_step() is None
    policy.check()


def test_connection_whose_limit_was_lowered_is_lent_no_more() -> None:
    policy = PoolPolicy(2, 2)
    one = opened(policy, "a", 3)
    policy.lend(one)
    policy.set_max_leases(one, 0)
    assert policy.lendable(one.pool) is None
    assert not policy.end_lease(one)
    assert policy.end_lease(one)
    policy.close(one, False)
    policy.check()


# -- at random ---------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "d"])


class PolicyMachine(RuleBasedStateMachine):
    """Callers that want, wait, give up, fail and give back, and a model of who has what."""

    @initialize(total=st.integers(1, 6), per_endpoint=st.integers(1, 4))
    def begin(self, total: int, per_endpoint: int) -> None:
        self.policy = PoolPolicy(total, per_endpoint)
        self.numbers = itertools.count()
        self.leases: list[Member] = []  # once for each lease
        self.opening: list[EndpointPool] = []
        self.waiting: list[tuple[EndpointPool, str, bool]] = []
        self.idle: list[Member] = []
        self.closing: list[Member] = []
        self.aborting: list[Member] = []
        self.now = 0

    def serve(self) -> None:
        while (step := self.policy.next_step()) is not None:
            what, pool, waiter, member = step
            if what is Step.ABORT:
                (self.closing if member in self.closing else self.idle).remove(member)
                self.aborting.append(member)
                assert pool is member.pool
                assert self.waiting
                continue
            self.serves(pool, waiter, is_new=what is Step.OPEN)
            if what is Step.OPEN:
                self.opening.append(pool)
            else:
                if member in self.idle:
                    self.idle.remove(member)
                self.leases.append(member)

    def serves(self, pool: EndpointPool, waiter: str, *, is_new: bool) -> None:
        """Check that it is the turn of *waiter*, who leaves the queue."""
        first = next(each for each in self.waiting if each[0] is pool)
        assert first[:2] == (pool, waiter)  # first come first served
        assert is_new or not first[2]
        self.waiting.remove(first)

    def draw(self, data: st.DataObject, among: list[Any]) -> Any:
        return among[data.draw(st.integers(0, len(among) - 1))]

    @rule(key=KEYS, fresh=st.booleans())
    def want(self, key: str, fresh: bool) -> None:
        policy = self.policy
        pool = policy.pool(key)
        member = None if fresh else policy.lendable(pool)
        if member is not None:
            if member in self.idle:
                self.idle.remove(member)
            policy.lend(member)
            self.leases.append(member)
        elif policy.may_open(pool):
            policy.reserve(pool)
            self.opening.append(pool)
        else:
            waiter = f"w{next(self.numbers)}"
            policy.join(pool, waiter, fresh)
            self.waiting.append((pool, waiter, fresh))
            self.serve()

    @precondition(lambda self: self.opening)
    @rule(data=st.data(), succeeds=st.booleans(), max_leases=st.sampled_from([1, 1, 2, 3]))
    def end_opening(self, data: st.DataObject, succeeds: bool, max_leases: int) -> None:
        pool = self.draw(data, self.opening)
        self.opening.remove(pool)
        if succeeds:
            member = Member()
            self.policy.set_max_leases(member, max_leases)
            self.policy.opened(pool, member)
            self.leases.append(member)
        else:
            self.policy.open_failed(pool)
        self.serve()
        self.policy.forget_if_empty(pool)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), step=st.sampled_from([0, 1]))
    def give_back(self, data: st.DataObject, step: int) -> None:
        member = self.draw(data, self.leases)
        self.now += step
        waiter = self.policy.give_back(member, self.now)
        if waiter is not None:
            self.serves(member.pool, waiter, is_new=False)
            return
        self.leases.remove(member)
        if member not in self.leases:
            self.idle.append(member)
        self.serve()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), abort=st.booleans())
    def end_all_leases(self, data: st.DataObject, abort: bool) -> None:
        member = self.draw(data, self.leases)
        while member in self.leases:
            self.leases.remove(member)
            assert self.policy.end_lease(member) == (member not in self.leases)
        self.policy.close(member, abort)
        (self.aborting if abort else self.closing).append(member)
        self.serve()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), max_leases=st.integers(1, 4))
    def set_max_leases(self, data: st.DataObject, max_leases: int) -> None:
        member = self.draw(data, self.leases)
        self.policy.set_max_leases(member, max_leases)
        self.serve()

    @precondition(lambda self: self.leases or self.idle or self.closing or self.aborting)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        member = self.draw(data, [*self.leases, *self.idle, *self.closing, *self.aborting])
        for group in (self.leases, self.idle, self.closing, self.aborting):
            while member in group:
                group.remove(member)
        self.policy.lost(member)
        self.serve()
        self.policy.forget_if_empty(member.pool)

    @rule(age=st.integers(0, 2))
    def expire(self, age: int) -> None:
        while (member := self.policy.oldest_idle()) and member.since_ns <= self.now - age:
            self.policy.close(member, False)
            self.idle.remove(member)
            self.closing.append(member)
            self.serve()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        pool, waiter, fresh = self.draw(data, self.waiting)
        self.waiting.remove((pool, waiter, fresh))
        self.policy.leave(pool, waiter)
        self.serve()

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "policy"):
            return
        policy = self.policy
        policy.check()
        leased = {id(member): member for member in self.leases}
        groups = (leased, self.opening, self.idle, self.closing, self.aborting)
        assert policy.total == sum(map(len, groups))
        assert policy.idle_members() == self.idle
        assert list(policy.closing) == self.closing
        assert policy.aborting == len(self.aborting)
        assert policy.waiting == len(self.waiting)
        for pool in policy.pools.values():
            assert list(pool.waiters) == [who for at, who, _ in self.waiting if at is pool]
            assert pool.leased == sum(member.pool is pool for member in leased.values())
            assert pool.opening == sum(at is pool for at in self.opening)
            assert pool.connections or pool.waiters, "it was not forgotten"
        for member in leased.values():
            assert member.leases == self.leases.count(member)
        if self.waiting:
            # nobody waits for ever: something is used, being opened or on its way out
            assert self.leases or self.opening or self.aborting


PolicyMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestPolicyMachine = PolicyMachine.TestCase

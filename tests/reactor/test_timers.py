"""The timer heap: order, disarming, many of them."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from reactor.timers import TimerHeap, TimerProbe


def fired(heap: TimerHeap, now_ns: int) -> list[TimerProbe]:
    found = []
    while (probe := TimerProbe.pop_due(heap, now_ns)) is not None:
        found.append(probe)
    return found


def test_earliest_timer_fires_first() -> None:
    heap = TimerHeap()
    late, early = TimerProbe(heap), TimerProbe(heap)
    late.arm(20)
    early.arm(10)
    assert fired(heap, 30) == [early, late]


def test_timer_is_not_due_before_its_time() -> None:
    heap = TimerHeap()
    probe = TimerProbe(heap)
    probe.arm(10)
    assert fired(heap, 9) == []
    assert fired(heap, 10) == [probe]
    assert not probe.armed


def test_equal_times_fire_in_the_order_of_arming() -> None:
    heap = TimerHeap()
    probes = [TimerProbe(heap) for _ in range(50)]
    for probe in probes:
        probe.arm(7)
    assert fired(heap, 7) == probes


def test_disarmed_timer_does_not_fire() -> None:
    heap = TimerHeap()
    probe = TimerProbe(heap)
    probe.arm(1)
    probe.disarm()
    probe.disarm()
    assert fired(heap, 100) == []
    assert len(heap) == 0


def test_arming_again_moves_the_timer() -> None:
    heap = TimerHeap()
    probe, other = TimerProbe(heap), TimerProbe(heap)
    probe.arm(10)
    other.arm(20)
    probe.arm(30)
    assert len(heap) == 2
    assert fired(heap, 100) == [other, probe]
    assert probe.fired == 1


def test_timer_may_be_armed_again_after_it_fired() -> None:
    heap = TimerHeap()
    probe = TimerProbe(heap)
    for when in (1, 2, 3):
        probe.arm(when)
        assert fired(heap, when) == [probe]
    assert probe.fired == 3


def test_negative_and_far_times_are_ordered() -> None:
    heap = TimerHeap()
    times = [2**63 - 1, -(2**63), 0, -5, 2**62]
    probes = {when: TimerProbe(heap) for when in times}
    for when, probe in probes.items():
        probe.arm(when)
    assert fired(heap, 2**63 - 1) == [probes[when] for when in sorted(times)]


def test_heap_that_goes_first_leaves_no_timer_armed() -> None:
    heap = TimerHeap()
    probe = TimerProbe(heap)
    probe.arm(5)
    del heap
    gc.collect()
    probe.disarm()
    assert not probe.armed


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.one_of(st.none(), st.integers(-50, 50))), max_size=200
    )
)
def test_heap_agrees_with_a_sorted_list(steps: list[tuple[int, int | None]]) -> None:
    heap = TimerHeap()
    probes = [TimerProbe(heap) for _ in range(16)]
    armed: dict[int, tuple[int, int]] = {}
    for at, (index, when) in enumerate(steps):
        if when is None:
            probes[index].disarm()
            armed.pop(index, None)
        else:
            probes[index].arm(when)
            armed[index] = (when, at)
        assert len(heap) == len(armed)
    expected = [probes[index] for index, _ in sorted(armed.items(), key=lambda item: item[1])]
    assert fired(heap, 50) == expected


def test_hundred_thousand_timers_mostly_disarmed() -> None:
    heap = TimerHeap()
    probes = [TimerProbe(heap) for _ in range(100_000)]
    for at, probe in enumerate(probes):
        probe.arm((at * 7919) % 100_003)
    for at, probe in enumerate(probes):
        if at % 100:
            probe.disarm()
    left = fired(heap, 200_000)
    assert len(left) == 1000
    assert set(left) == set(probes[::100])

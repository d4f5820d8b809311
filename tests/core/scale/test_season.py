"""Bursts that came again and again have their replicas before they begin; what is no such burst has none."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.scale import season
from stoker.core.scale.memory import Memory
from stoker.core.scale.memory import Season as Slots
from stoker.core.scale.policy import Policy
from stoker.core.scale.season import PERIODS_MIN, SLOT_S, SLOTS, TIMES
from tests.core.scale.days import MONDAY_S, Day

QUIET, BUSY = 2.0, 30.0


def after(day: Day, bursts: int, every_s: float, busy_s: float = 60.0) -> Day:
    """Live through so many bursts, each at the end of a period."""
    for _ in range(bursts):
        day.go(QUIET, every_s - busy_s)
        day.go(BUSY, busy_s)
    return day


def first_up(day: Day, within_s: float) -> float:
    """Return how long a quiet load took to have more than one replica."""
    began_s = day.now_s
    while day.now_s - began_s < within_s and day.look(QUIET).desired == 1:
        pass
    return day.now_s - began_s


def test_a_burst_that_came_three_times_has_its_replicas_a_start_before_it_comes_again() -> None:
    day = after(Day(Policy(max=20, down_window_s=60.0), tick_s=4.0), TIMES, 900.0)
    day.go(QUIET, 600.0)
    assert day.replicas == 1
    waited_s = 600.0 + first_up(day, 400.0)
    assert 840.0 - 40.0 - 2 * SLOT_S <= waited_s <= 840.0 - 40.0, "a start of 40 s, and its slot"
    assert day.last.because.startswith("season: 30 requests/s in "), day.last.because
    assert "as 3 times before, every 15 min, x 0.4 s ÷ 4 places" in day.last.because
    assert day.replicas == 4
    day.go(QUIET, 840.0 - waited_s)
    assert day.replicas == 4, "they stay until it is due"


def test_twice_is_chance_and_a_burst_that_does_not_come_is_not_waited_for() -> None:
    day = after(Day(Policy(max=20, down_window_s=60.0), tick_s=4.0), TIMES - 1, 900.0)
    day.go(QUIET, 600.0)
    assert first_up(day, 300.0) >= 300.0
    due = after(Day(Policy(max=20, down_window_s=60.0), tick_s=4.0), TIMES, 600.0)
    due.go(QUIET, 540.0)
    assert due.replicas > 1
    due.go(QUIET, 180.0)
    assert due.replicas == 1, due.last.because


def test_who_does_not_list_the_signal_has_none_of_it() -> None:
    day = after(Day(Policy(max=20, signals=("requests",), down_window_s=60.0), tick_s=4.0), TIMES, 600.0)
    day.go(QUIET, 200.0)
    assert first_up(day, 300.0) >= 300.0


@given(
    rates=st.lists(st.floats(0.0, 50.0), min_size=SLOTS, max_size=SLOTS),
    slot=st.integers(0, 10**8),
    unseen=st.sets(st.integers(0, SLOTS - 1), max_size=9),
)
def test_nothing_is_due_that_did_not_come_suddenly_at_every_one_of_its_times(
    rates: list[float], slot: int, unseen: set[int]
) -> None:
    slots = tuple(-1.0 if at in unseen else rate for at, rate in enumerate(rates))
    rate, minutes = season._due(slots, slot)
    if not minutes:
        assert rate == 0.0
        return
    every = minutes * 60 // SLOT_S
    assert minutes in PERIODS_MIN
    for time in range(1, TIMES + 1):
        at = [slots[(slot + step - time * every) % SLOTS] for step in (-season.BEFORE, 0, 1)]
        assert at[1] >= season.SUDDEN * at[0] >= 0.0
        assert rate <= max(at[1:])


@given(looks=st.lists(st.tuples(st.floats(0.5, 4000.0), st.integers(0, 500)), min_size=1, max_size=30))
def test_slots_hold_what_came_and_those_that_nobody_saw_say_so(looks: list[tuple[float, int]]) -> None:
    day, memory = Day(Policy(max=2)), Memory()
    times_s = [MONDAY_S]
    for since_s, arrived in looks:
        times_s.append(times_s[-1] + since_s)
        day.now_s = times_s[-1]
        memory = season.learn(memory, day.sight(1.0, arrived=arrived, since_s=since_s))
    assert memory.season.slot == times_s[-1] // SLOT_S
    assert len(memory.season.slots) in (0, SLOTS)
    skipped = {
        slot % SLOTS
        for one, other in pairwise(times_s[1:])
        for slot in range(int(one // SLOT_S) + 1, int(other // SLOT_S))
        if slot > memory.season.slot - SLOTS
    }
    assert all(memory.season.slots[at] == -1.0 for at in skipped)
    assert Slots() == Memory().season

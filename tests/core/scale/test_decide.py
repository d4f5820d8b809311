"""What an operator asks of scaling, one by one."""

import math

import msgspec
import pytest

from stoker.core.scale import window
from stoker.core.scale.decide import FALLBACK_AFTER, STALE_S, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy, Window
from stoker.core.scale.sight import Language, Sight
from stoker.types.scaling import Signal
from tests.core.scale.days import MONDAY_S, TICK_S, Day

HOUR_S = 3600.0


def test_says_in_arithmetic_how_many_places_are_busy_and_what_chance_needs_besides() -> None:
    day = Day(Policy(max=20), replicas=5)
    found = day.go(40.0, 300.0)
    # 40 requests/s x 0.4 s are 16 at once, and 4 places more for chance: 5 replicas of 4 places.
    assert found.desired == 5
    assert found.because.startswith("requests: 40 requests/s x 0.4 s = 16 at once, + 4 spare, ÷ 4 places = 5.00")


def test_says_over_which_time_it_counted_the_arrivals_that_it_goes_by() -> None:
    calm = Day(Policy(max=20), replicas=5).go(40.0, 300.0)
    assert "requests/s x" in calm.because
    short = Day(Policy(max=20), replicas=5).look(40.0, rate_long=10.0, arrived=80)
    assert "requests/s (of the last 6 s) x" in short.because
    herd = Day(Policy(max=20), replicas=5).look(26.5, arrived=200, since_s=0.3)
    assert "requests/s (of the last 0.3 s) x" in herd.because


def test_says_no_more_of_an_idle_endpoint_than_that_nobody_asks() -> None:
    day = Day(Policy(max=20))
    assert day.go(40.0, 60.0, places=256.0).because.startswith(
        "requests: 40 requests/s x 0.4 s = 16 at once, + 4 spare, ÷ 256 places = 0.08"
    )
    assert "÷ 256 places = less than 0.01 of a replica" in day.go(0.002, 200.0, places=256.0).signals[0].because
    assert day.go(0.0, 200.0, places=256.0).signals[0].because == "no requests"


def test_a_fixed_utilization_is_kept_where_the_manifest_says_one() -> None:
    found = Day(Policy(max=20, utilization=0.5), replicas=8).go(40.0, 300.0)
    assert found.desired == 8
    assert "÷ (4 places x 0.5) = 8.00" in found.because


def test_goes_up_in_one_step_and_orders_for_the_queue_that_will_be_there_when_they_are_ready() -> None:
    day = Day(Policy(max=50))
    day.go(4.0)
    found = day.look(40.0, waiting=60)
    assert "waiting when they are ready" in found.because
    # 10 requests/s are done meanwhile: in 40 s more than a thousand wait.
    assert found.desired > 15


def test_what_is_starting_is_not_ordered_again() -> None:
    day = Day(Policy(max=50))
    day.go(4.0)
    first = day.look(40.0, waiting=60).desired
    for tick in range(1, 15):
        day.look(40.0, waiting=60 + 60 * tick, ready=1, pending=first - 1)
    assert day.last.desired == pytest.approx(first, abs=1)


def test_goes_down_only_when_nothing_more_was_needed_for_the_whole_window_and_then_by_half_at_most() -> None:
    day = Day(Policy(max=20, down_window_s=window.LEAST_COLD_STARTS * 40.0), replicas=5)
    day.go(40.0, 600.0)
    assert day.replicas == 5
    day.go(4.0, window.LEAST_COLD_STARTS * 40.0 - 2 * TICK_S)
    assert day.replicas == 5, day.last.because
    assert "were needed" in day.last.because or "goes down when" in day.last.because
    day.go(4.0, 20.0)
    assert day.replicas >= 3
    day.go(4.0, 60.0)
    assert day.replicas == 1


def test_a_load_that_surely_falls_is_followed_before_the_window_is_over_and_a_step_only_by_a_third() -> None:
    day = Day(Policy(max=20), replicas=5)
    day.go(40.0, 600.0)
    for tick in range(66):
        day.look(40.0 - 0.3 * tick)
    assert day.replicas == 4, day.last.because
    step = Day(Policy(max=20), replicas=5)
    step.go(40.0, 600.0)
    step.go(4.0, window.LEAST_COLD_STARTS * 40.0 - 2 * TICK_S)
    assert step.replicas == 4, step.last.because
    step.go(4.0, 80.0)
    assert step.replicas == 1


def test_what_is_sent_back_while_it_starts_teaches_no_longer_window_when_it_is_ordered_again() -> None:
    day = Day(Policy(max=20))
    day.go(4.0, 600.0)
    day.look(20.0, waiting=40)
    ordered = day.replicas
    day.look(4.0, ready=1, pending=ordered - 1)
    day.look(4.0, ready=1, pending=ordered - 1)
    assert day.replicas < ordered, day.last.because
    before_s = day.memory.window_s
    day.look(20.0, waiting=40, ready=1, pending=0)
    assert day.memory.window_s <= max(before_s, window.LEAST_COLD_STARTS * 40.0)


@pytest.mark.parametrize("window_s", [30.0, 300.0, 3600.0])
def test_what_was_needed_is_forgotten_after_the_window_however_long_that_is(window_s: float) -> None:
    day = Day(Policy(max=20, down_window_s=window_s), replicas=5)
    day.go(40.0, 300.0)
    day.go(4.0, window_s - 10.0)
    assert day.replicas == 5
    day.go(4.0, window_s / 16 + 60.0)
    assert day.replicas == 1


def test_a_replica_that_is_missed_soon_after_it_went_is_kept_longer_the_next_time() -> None:
    day = Day(Policy(max=20))
    enough = day.go(40.0, 300.0).desired
    kept_s = []
    for _ in range(3):
        day.go(4.0, 400.0)
        kept_s.append(TICK_S * len([each for each in day.desired[-200:] if each >= enough]))
        day.go(40.0, 300.0, waiting=100)
    assert kept_s[1] > kept_s[0] + 60.0, kept_s


def test_a_load_at_the_boundary_of_one_replica_changes_at_most_six_times_an_hour() -> None:
    """10.6 requests/s of 0.4 s are 4.24 places of 4; luck moves the minute's mean by a tenth."""
    for offset in range(8):
        day = Day(Policy(max=20))
        for tick in range(int(2 * HOUR_S / TICK_S)):
            luck = 1.0 + 0.1 * ((tick * 7919 + offset * 104729) % 201 - 100) / 100
            day.look(5.0 * (1 + offset % 4) * luck + offset / 3)
        changes = sum(a != b for a, b in zip(day.desired[300:], day.desired[301:], strict=False))
        assert changes <= 12, (offset, changes)


def test_old_numbers_hold_and_a_restarted_control_waits_for_a_minute_of_them() -> None:
    day = Day(Policy(max=20), replicas=5)
    day.go(40.0, 600.0)
    stale = decide(Sight(at_s=day.now_s - STALE_S - 1.0, ready=5), day.policy, day.memory, day.now_s)
    assert stale.desired == 5
    assert "16 s old" in stale.because
    day.now_s += 2 * HOUR_S  # nobody decided meanwhile
    for _ in range(29):
        assert day.look(0.5).desired == 5
    day.go(0.5, 200.0)
    assert day.replicas == 1


def test_a_control_without_any_memory_begins_with_what_runs() -> None:
    day = Day(Policy(max=20), replicas=7)
    assert day.go(0.0, 50.0).desired == 7
    assert "do not reach back a minute" in day.last.because


def test_falls_back_to_a_number_when_nothing_can_be_measured() -> None:
    day = Day(Policy(max=20, fallback_replicas=6))
    day.go(4.0)
    gone = day.look(0.0, failures=FALLBACK_AFTER - 1, at_s=day.now_s - 60.0)
    assert gone.desired == 1
    gone = day.look(0.0, failures=FALLBACK_AFTER, at_s=day.now_s - 60.0)
    assert gone.desired == 6
    assert "fallback_replicas is 6" in gone.because


def test_at_the_maximum_it_says_what_was_wanted_and_what_becomes_of_the_rest() -> None:
    found = Day(Policy(max=4, overflow="the rest waits, 512 at most"), replicas=4).look(40.0)
    assert found.desired == 4
    assert found.limit == "at the maximum: wanted 5, may 4 (replicas.max); the rest waits, 512 at most"


OFFICE = Window("office", frozenset(range(5)), 8 * HOUR_S, 10 * HOUR_S, min=3, max=4)
NIGHT = Window("night", frozenset({4}), 22 * HOUR_S, 10 * HOUR_S, min=2)


@pytest.mark.parametrize(
    ("hours", "offset_h", "desired"),
    [
        (7.9, 0.0, 1),
        (8.1, 0.0, 3),
        (17.9, 0.0, 3),
        (18.1, 0.0, 1),
        (6.1, 2.0, 3),  # it is eight where the schedule's clock hangs
        (5 * 24 + 9.0, 0.0, 1),  # Saturday
        (4 * 24 + 23.0, 0.0, 2),
        (5 * 24 + 7.0, 0.0, 2),  # of Friday night
        (5 * 24 + 8.5, 0.0, 1),
    ],
)
def test_schedules_have_bounds_of_their_own_in_local_time(hours: float, offset_h: float, desired: int) -> None:
    day = Day(Policy(max=20, schedules=(OFFICE, NIGHT)), MONDAY_S + hours * HOUR_S)
    found = day.look(1.0, offsets_s=(offset_h * HOUR_S, offset_h * HOUR_S))
    assert found.desired == desired
    if desired == 3:
        assert "the minimum of the schedule office is 3" in found.because


def test_an_endpoint_that_may_sleep_says_that_a_schedule_keeps_it_up_or_closed() -> None:
    asleep = Day(Policy(min=0, max=4, idle_timeout_s=60.0, schedules=(OFFICE,)), MONDAY_S + 9 * HOUR_S)
    assert asleep.go(0.0, 300.0, offsets_s=(0.0,)).desired == 3
    awake = msgspec.structs.replace(OFFICE, min=1)
    found = Day(Policy(min=0, max=4, schedules=(awake,)), MONDAY_S + 9 * HOUR_S).go(1.0, offsets_s=(0.0,))
    assert (found.desired, found.because[:39]) == (1, "the minimum of the schedule office is 1")
    shut = msgspec.structs.replace(OFFICE, min=None, max=0)
    found = Day(Policy(min=0, max=4, schedules=(shut,)), MONDAY_S + 9 * HOUR_S).go(0.0, 900.0, offsets_s=(0.0,))
    assert (found.desired, found.because) == (0, "the maximum of the schedule office is 0")


def test_a_schedule_that_begins_raises_before_the_load_comes_and_its_maximum_holds() -> None:
    day = Day(Policy(max=20, schedules=(OFFICE,)), MONDAY_S + 9 * HOUR_S)
    found = day.go(80.0, offsets_s=(0.0,))
    assert found.desired == 4
    assert "the maximum of the schedule office" in found.limit


@pytest.mark.parametrize(
    ("said", "signal"),
    [
        (Language(kv_free_ratio=0.05), "kv"),
        (Language(waiting=4.0), "engine-queue"),
        (Language(ttft_s=0.95, ttft_target_s=1.0), "ttft"),
        (Language(inter_token_s=0.049, inter_token_target_s=0.05), "inter-token"),
        (Language(tokens_per_s=4000.0, replica_tokens_per_s=2000.0), "tokens"),
    ],
)
def test_what_an_engine_says_of_itself_adds_a_replica_and_says_so(said: Language, signal: Signal) -> None:
    day = Day(Policy(max=20), replicas=2)
    found = day.look(1.0, language=said)
    assert found.desired == 3
    assert found.because.startswith(f"{signal}: ")
    for _ in range(30):  # while it starts, nothing changes
        found = day.look(1.0, language=said, ready=2, pending=1)
    assert found.desired == 3


def test_a_replica_goes_only_if_the_caches_of_the_others_hold_what_it_held() -> None:
    day = Day(Policy(max=20), replicas=2)
    # 0.6 of two caches is 1.2 of one.
    assert day.go(1.0, 600.0, language=Language(kv_free_ratio=0.4)).desired == 2
    assert day.go(1.0, 600.0, language=Language(kv_free_ratio=0.8)).desired == 1


def test_a_signal_that_is_not_on_the_list_says_nothing() -> None:
    day = Day(Policy(max=20, signals=("requests",)), replicas=2)
    found = day.look(1.0, language=Language(kv_free_ratio=0.01))
    assert [each.signal for each in found.signals] == ["requests"]
    assert found.desired == 2


def test_an_idle_endpoint_goes_to_zero_after_its_time_out_and_wakes_for_the_first_request() -> None:
    day = Day(Policy(min=0, max=20, idle_timeout_s=600.0))
    day.go(4.0, 300.0)
    assert day.go(0.0, 590.0).desired == 1
    found = day.go(0.0, 20.0)
    assert found.desired == 0
    assert "no request for" in found.because
    assert day.look(0.0, waiting=1, ready=0).desired == 1
    assert day.go(4.0, 300.0).desired >= 1


def test_what_was_woken_by_who_did_not_wait_is_there_for_an_idle_time_out_when_it_is_ready() -> None:
    """A load longer than the time-out: who was told to come back when it is ready must find it."""
    day = Day(Policy(min=0, max=2, idle_timeout_s=10.0), replicas=0)
    day.look(0.0, ready=0)
    assert day.go(0.0, 60.0, ready=0).desired == 0
    assert day.look(0.0, ready=0, arrived=1, rate_short=0.2).desired == 1
    assert day.go(0.0, 40.0, ready=0, pending=1).desired == 1
    assert "is loaded for who asked" in day.last.because
    assert day.go(0.0, 8.0, ready=1).desired == 1
    assert day.go(0.0, 8.0, ready=1).desired == 0


def test_what_never_becomes_ready_is_not_loaded_for_ever() -> None:
    day = Day(Policy(min=0, max=2, idle_timeout_s=10.0), replicas=0)
    day.look(0.0, ready=0, arrived=1, rate_short=0.2)
    assert day.go(0.0, 3 * 40.0 - 10.0, ready=0, pending=1).desired == 1
    assert day.go(0.0, 30.0, ready=0, pending=1).desired == 0


def pauses(day: Day, *lengths_s: float) -> list[int]:
    """Return how many replicas each request finds after a pause."""
    found = []
    for length_s in lengths_s:
        day.go(0.0, length_s)
        found.append(day.replicas)
        day.look(0.5)
    return found


def test_a_job_that_comes_regularly_finds_a_replica_and_costs_a_sixth_of_keeping_it() -> None:
    day = Day(Policy(min=0, max=2, idle_timeout_s=20.0), replicas=0)
    assert pauses(day, *[600.0] * 8) == [0, 0, 0, 0, 1, 1, 1, 1]  # four pauses are enough to tell
    assert sum(day.desired[-300:]) < 300 / 6
    day.go(0.0, 540.0)
    assert day.replicas == 0
    assert day.go(0.0, 20.0).because.startswith(
        "no request for 560 s; the next is expected 602 to 602 s after the last"
    )
    day.go(0.0, 100.0)  # it does not come
    assert day.replicas == 0


def test_a_worth_of_waiting_keeps_a_replica_over_pauses_that_cost_less_than_a_start() -> None:
    irregular = (70.0, 110.0, 140.0, 80.0, 160.0, 90.0, 150.0, 75.0)
    assert pauses(Day(Policy(min=0, max=2, idle_timeout_s=20.0), replicas=0), *irregular) == [0] * 8
    day = Day(Policy(min=0, max=2, idle_timeout_s=20.0, waiting_worth=20.0), replicas=0)
    assert pauses(day, *irregular) == [0] * 4 + [0, 1, 1, 1]  # 160 s were longer than any pause before
    assert day.go(0.0, 160.0).desired == 1
    assert day.go(0.0, 40.0).desired == 0
    assert (
        "after 167 s it is cheaper to wait 40 s for a start now and then: the last 8 pauses cost 888 s"
        in day.last.because
    )


def test_zero_is_never_for_an_endpoint_that_says_so_or_has_a_minimum() -> None:
    assert Day(Policy(min=0, max=4, idle_timeout_s=0.0)).go(0.0, 3600.0).desired == 1
    assert Day(Policy(min=1, max=4)).go(0.0, 3600.0).desired == 1


def test_yesterday_is_a_floor_before_the_load_is_there() -> None:
    day = Day(Policy(max=20), tick_s=12.0)
    day.go(4.0, 8 * HOUR_S)
    day.go(40.0, HOUR_S)
    assert day.go(4.0, 23 * HOUR_S - 120.0).desired == 1
    day.go(4.0, 96.0)  # half a minute before eight
    assert day.replicas == 5
    assert day.last.because.startswith("yesterday: ")


def test_the_trend_orders_before_a_slope_arrives() -> None:
    day = Day(Policy(max=50))
    day.go(4.0, 600.0)
    for tick in range(150):
        day.look(4.0 + tick * 0.4)
    ahead = next(each for each in day.last.signals if each.signal == "forecast")
    now = next(each for each in day.last.signals if each.signal == "requests")
    assert ahead.up > 1.05 * now.up


def test_what_only_the_trend_called_for_goes_with_it() -> None:
    day = Day(Policy(max=50, down_window_s=600.0))
    day.go(4.0, 600.0)
    needed = 0.0
    for tick in range(180):
        found = day.look(4.0 + min(tick, 60))  # from then on it grows no longer
        needed = max(needed, *(each.stay for each in found.signals if each.signal == "requests"))
    assert day.replicas == math.ceil(needed) < max(day.desired)


def test_a_memory_survives_its_wire_form() -> None:
    day = Day(Policy(max=20))
    day.go(4.0, HOUR_S)
    day.go(40.0, 600.0)
    wire = msgspec.msgpack.encode(day.memory)
    assert msgspec.msgpack.decode(wire, type=Memory) == day.memory
    assert len(wire) < 8_000

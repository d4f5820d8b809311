"""Rates from counts that only grow, over gateways that come and go."""

import pytest

from stoker.core.scale.counts import LOOKS_MAX, Counts
from stoker.types.scaling import LaneLoad


def load(arrived: int, served: int = 0, served_s: float = 0.0, tokens: int = 0, waiting: int = 0) -> LaneLoad:
    return LaneLoad("default", "a", arrived, served, served_s, tokens, waiting, in_flight=0, ready=1, places=4.0)


def test_two_windows_are_of_what_came_within_them() -> None:
    counts = Counts()
    for tick in range(60):  # 10 requests/s for a minute and a half, then 40
        counts.add(2.0 * tick, {"g": load(20 * tick)})
    for tick in range(1, 4):
        seen = counts.add(118.0 + 2.0 * tick, {"g": load(20 * 59 + 80 * tick)})
    assert seen.rate_short == pytest.approx(40.0)
    assert seen.rate_long == pytest.approx((54 * 10 + 6 * 40) / 60, rel=0.05)
    assert (seen.arrived, seen.since_s, seen.span_s) == (80, 2.0, 60.0)


def test_what_a_gateway_counted_before_it_was_known_or_while_it_was_silent_is_no_burst() -> None:
    counts = Counts()
    assert counts.add(0.0, {"g": load(1_000_000)}).arrived == 0
    assert counts.add(2.0, {"g": load(1_000_010), "h": load(50_000)}).arrived == 10
    assert counts.add(4.0, {"h": load(50_010)}).arrived == 10  # g is gone
    assert counts.add(6.0, {"h": load(50_020), "g2": load(7)}).arrived == 10  # and starts anew
    assert counts.add(8.0, {}).arrived == 0


def test_service_time_is_of_those_that_ended_since_the_last_look() -> None:
    counts = Counts()
    counts.add(0.0, {"g": load(10, served=10, served_s=100.0)})
    seen = counts.add(2.0, {"g": load(14, served=14, served_s=102.0)})
    assert (seen.ended, seen.service_s) == (4, 0.5)


def test_a_restarted_control_knows_how_far_its_numbers_reach() -> None:
    counts = Counts()
    assert [counts.add(2.0 * tick, {"g": load(tick)}).span_s for tick in (0, 1, 10, 20, 28, 29, 30, 40)] == [
        0.0, 2.0, 20.0, 40.0, 56.0, 60.0, 60.0, 60.0,
    ]  # fmt: skip


def test_the_most_tokens_that_a_replica_did_are_learned_while_requests_wait() -> None:
    counts = Counts()
    for tick in range(40):
        seen = counts.add(2.0 * tick, {"g": load(tick, served=tick, tokens=200 * tick)})
    assert seen.tokens_per_s == pytest.approx(100.0)
    assert seen.replica_tokens_per_s is None
    for tick in range(40, 60):
        seen = counts.add(2.0 * tick, {"g": load(2 * tick - 40, served=tick, tokens=200 * tick, waiting=5)})
    assert seen.replica_tokens_per_s is None, "it was full for less than a minute"
    for tick in range(60, 80):
        seen = counts.add(2.0 * tick, {"g": load(2 * tick - 40, served=tick, tokens=200 * tick, waiting=5)})
    assert seen.replica_tokens_per_s == pytest.approx(100.0, rel=0.1)
    assert seen.tokens_per_s == pytest.approx(200.0)


def test_looks_are_bounded() -> None:
    counts = Counts()
    for tick in range(2 * LOOKS_MAX):
        counts.add(0.1 * tick, {"g": load(tick)})
    assert len(counts._looks) == LOOKS_MAX

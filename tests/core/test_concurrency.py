"""How many requests a replica holds: known, shared between gateways, learned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import concurrency
from stoker.core.concurrency import HOLD_S, Learned, holdable, places


@given(st.floats(0, 0.2), st.floats(0, 0.05), st.integers(1, 512))
def test_what_a_replica_holds_is_cleared_in_time_or_is_the_least_it_needs(
    base_s: float, row_s: float, rows: int
) -> None:
    held = holdable(base_s, row_s, rows)
    assert held >= 2
    if held > 2 * rows:  # whole batches
        assert held / rows * (base_s + row_s * rows) <= HOLD_S + 1e-9
    elif held > 2 and row_s > 0:
        assert base_s + row_s * (held // 2) <= HOLD_S + 1e-9


def test_a_fast_model_is_kept_busy_and_a_slow_one_holds_two() -> None:
    assert holdable(0.00003, 0.000001, 64) > 1000
    assert holdable(0.005, 0.0005, 32) == 64  # 21 ms a batch: two fit
    assert holdable(0.0, 0.01, 64) == 10
    assert holdable(0.0, 0.2, 64) == 2
    assert holdable(0.3, 0.0, 8) == 16  # rows are free: a batch that runs and one that waits


@given(st.integers(1, 64), st.integers(0, 200), st.integers(0, 200), st.integers(1, 8), st.integers(1, 256))
def test_every_gateway_has_its_even_share_of_places(
    slots: int, others: int, own: int, gateways: int, most: int
) -> None:
    found = places(slots=slots, others=others, in_flight=own, kv_used_ratio=0.0, gateways=gateways, most=most)
    assert -(-min(slots, most) // gateways) <= found <= min(slots, most)


def test_alone_a_gateway_has_all_places_and_two_settle_at_half() -> None:
    def ask(others: int, slots: int, most: int) -> int:
        return places(slots=slots, others=others, in_flight=0, kv_used_ratio=0.0, gateways=2, most=most)

    for slots, most in ((8, 256), (1000, 8)):  # what its engine can do, or what its owner wants it to have at the most
        assert ask(0, slots, most) == 8
        mine, theirs = 8, 0
        for _ in range(4):
            theirs = ask(mine, slots, most)
            mine = ask(theirs, slots, most)
        assert (mine, theirs) == (4, 4)


@given(st.integers(1, 64), st.lists(st.integers(0, 200), min_size=2, max_size=8))
def test_gateways_in_all_of_which_somebody_waits_have_an_even_share_each_whatever_they_see(
    slots: int, seen: list[int]
) -> None:
    count = len(seen)
    for others in seen:
        found = places(
            slots=slots, others=others, in_flight=0, kv_used_ratio=0.0, gateways=count, most=256, waiting=count - 1
        )
        assert found == -(-slots // count)


def test_a_replica_without_room_in_its_cache_takes_nothing_more() -> None:
    assert places(slots=8, others=0, in_flight=3, kv_used_ratio=0.97, gateways=1, most=256) == 3
    assert places(slots=8, others=0, in_flight=0, kv_used_ratio=0.97, gateways=1, most=256) == 1


def _learned(capacity: int, seconds: int, prompt_tokens: int = 256) -> int:
    """Return the limit learned against a server that works on `capacity` at once, 0.1 s each, and queues the rest."""
    learned, now_s = Learned(), 0.0
    for _ in range(seconds * 20):
        in_flight = learned.limit
        queue_s = 0.1 * max(in_flight - capacity, 0) / capacity
        for _ in range(4):
            learned.sample((0.1 + queue_s) * prompt_tokens / 256, prompt_tokens, in_flight, now_s)
        now_s += 0.05
    return learned.limit


@pytest.mark.parametrize("capacity", [1, 4, 16, 64])
def test_a_learned_limit_finds_the_capacity_within_a_small_factor(capacity: int) -> None:
    limit = _learned(capacity, 120)
    assert capacity * 0.7 <= limit <= capacity * 3 + 4


def test_long_prompts_do_not_shrink_a_learned_limit() -> None:
    assert _learned(16, 120, 4000) == pytest.approx(_learned(16, 120), rel=0.05)


@pytest.mark.parametrize("capacity", [1, 2, 8, 100])
def test_a_server_that_refuses_what_is_too_much_is_seldom_asked_for_more(capacity: int) -> None:
    """It works 0.1 s on each and takes no more than its capacity; after a refusal nothing is sent for a second."""
    learned, now_s, refusals, steps = Learned(), 0.0, 0, 3000
    for _ in range(steps):
        in_flight = learned.limit
        for _ in range(min(in_flight, capacity)):
            learned.sample(0.1, 256, in_flight, now_s + 0.1)
        for _ in range(in_flight - capacity):  # all but one were sent before the limit shrank
            learned.failed(in_flight, now_s, now_s + 0.01)
        refusals += in_flight > capacity
        now_s += 1.0 if in_flight > capacity else 0.1
    assert refusals <= 4 + now_s / concurrency.REFUSED_HOLD_S
    assert learned.limit >= 0.8 * capacity


def test_a_refusal_far_below_the_limit_shrinks_nothing_and_one_at_it_at_least_by_one() -> None:
    learned = Learned()
    learned.failed(1, 0.0, 0.0)
    assert learned.limit == concurrency.LEARNED_FIRST
    for at_s, expected in enumerate((3, 2, 1, 1)):
        learned.failed(learned.limit, float(at_s), float(at_s))
        assert learned.limit == expected


@given(st.lists(st.tuples(st.floats(0.0, 100), st.integers(0, 10**6), st.integers(0, 1000)), max_size=200))
def test_a_learned_limit_stays_within_its_bounds(samples: list[tuple[float, int, int]]) -> None:
    learned = Learned()
    for at, (first_s, tokens, in_flight) in enumerate(samples):
        learned.sample(first_s, tokens, in_flight, at * 0.3)
        if at % 7 == 0:
            learned.failed(in_flight, at * 0.3, at * 0.3)
        assert 1 <= learned.limit <= concurrency.LEARNED_MAX

"""When a second replica is asked, and how often at the most."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.hedge import CREDIT_MAX, DELAY_MIN_S, RATIO, SAMPLES, SAMPLES_MIN, Hedges


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=40))
def test_hedges_never_exceed_their_share_of_all_requests_so_far(steps: list[tuple[int, int]]) -> None:
    hedges, requests, spent = Hedges(), 0, 0
    for asked, tried in steps:
        for _ in range(asked):
            hedges.earn()
        requests += asked
        granted = sum(hedges.spend() for _ in range(tried))
        assert granted <= CREDIT_MAX
        spent += granted
        assert spent <= RATIO * requests + 1e-6


def rich() -> Hedges:
    hedges = Hedges()
    for _ in range(int(CREDIT_MAX / RATIO)):
        hedges.earn()
    return hedges


def test_the_less_credit_is_left_the_longer_is_waited() -> None:
    hedges = rich()
    for _ in range(SAMPLES):
        hedges.observe(0.01)
    delays = [hedges.delay_s]
    while hedges.spend():
        delays.append(hedges.delay_s)
    assert delays == sorted(delays)
    assert round(delays[0], 6) == 0.01
    assert round(delays[-1], 6) == 0.1


def test_nothing_is_hedged_before_enough_is_known() -> None:
    hedges = rich()
    for number in range(SAMPLES_MIN - 1):
        hedges.observe(0.01)
        assert hedges.delay_s == 0, number
    hedges.observe(0.01)
    assert round(hedges.delay_s, 6) == 0.01


@settings(max_examples=40)
@given(st.lists(st.floats(0.003, 10), min_size=SAMPLES, max_size=SAMPLES))
def test_about_one_in_twenty_takes_longer_than_the_delay(took_s: list[float]) -> None:
    hedges = rich()
    for one in took_s:
        hedges.observe(one)
    assert sum(one > hedges.delay_s * 1.000_001 for one in took_s) <= RATIO * SAMPLES
    assert sum(one >= hedges.delay_s * 0.999_999 for one in took_s) >= RATIO * SAMPLES - 1


def test_the_delay_follows_and_has_a_floor() -> None:
    hedges = rich()
    for _ in range(SAMPLES):
        hedges.observe(1.0)
    for _ in range(SAMPLES):
        hedges.observe(0.000_1)
    assert round(hedges.delay_s, 6) == DELAY_MIN_S

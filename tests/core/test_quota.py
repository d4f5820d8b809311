"""Rates that cannot be passed, and what requests are expected to cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.quota import Expectation, Rate

steps = st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 8)), max_size=80)


@given(st.floats(0.5, 100), st.floats(1, 50), steps)
def test_no_span_lets_through_more_than_its_burst_and_rate(
    per_s: float, burst: float, given_: list[tuple[float, float]]
) -> None:
    rate, now_s = Rate(per_s, burst), 100.0
    taken: list[tuple[float, float]] = []
    for passed_s, cost in given_:
        now_s += passed_s
        if rate.wait_s(cost, now_s) == 0.0:
            rate.take(cost, now_s)
            taken.append((now_s, cost))
    for at, (began_s, _) in enumerate(taken):
        total = 0.0
        for ended_s, cost in taken[at:]:
            total += cost
            over = max((cost for _, cost in taken[at:]), default=0.0) if cost > burst else 0.0
            assert total <= burst + per_s * (ended_s - began_s) + max(over, 0.0) + 1e-6


@given(st.floats(0.5, 100), st.floats(1, 50), steps, st.floats(0.1, 8))
def test_who_comes_back_when_told_is_let_in(
    per_s: float, burst: float, given_: list[tuple[float, float]], cost: float
) -> None:
    rate, now_s = Rate(per_s, burst), 0.0
    for passed_s, each in given_:
        now_s += passed_s
        rate.take(each, now_s)
    wait_s = rate.wait_s(cost, now_s)
    assert rate.wait_s(cost, now_s + wait_s) == pytest.approx(0.0, abs=1e-6)
    if wait_s > 1e-3:
        assert rate.wait_s(cost, now_s + wait_s * 0.99) > 0.0


@given(st.floats(0.5, 100), st.floats(2, 50), st.floats(0.1, 2))
def test_what_is_given_back_can_be_taken_again(per_s: float, burst: float, cost: float) -> None:
    rate = Rate(per_s, burst)
    before = rate.left(10.0)
    rate.take(cost, 10.0)
    rate.take(-cost, 10.0)
    assert rate.left(10.0) == before


def test_a_rate_that_is_not_used_saves_up_its_burst_and_no_more() -> None:
    rate = Rate(10.0, 5.0)
    assert rate.left(0.0) == 5
    assert rate.left(1e6) == 5
    for _ in range(5):
        rate.take(1.0, 1e6)
    assert rate.left(1e6) == 0
    assert rate.wait_s(1.0, 1e6) == pytest.approx(0.1, rel=1e-3)
    assert rate.full_in_s(1e6) == pytest.approx(0.5, rel=1e-3)


def test_a_request_larger_than_the_burst_goes_when_nothing_is_owed_and_leaves_a_debt() -> None:
    rate = Rate(10.0, 5.0)
    assert rate.wait_s(20.0, 0.0) == 0.0
    rate.take(20.0, 0.0)
    assert rate.wait_s(1.0, 0.0) == pytest.approx(1.6)


@given(st.floats(1, 20), st.floats(0.1, 10), st.floats(0.1, 10))
def test_another_share_of_the_limit_keeps_what_was_used(used: float, first: float, second: float) -> None:
    rate = Rate(first, 20.0)
    rate.take(used, 0.0)
    left = rate.left(0.0)
    rate.resize(second, 20.0, 0.0)
    assert abs(rate.left(0.0) - left) <= 1


def test_expected_tokens_follow_what_requests_did_cost() -> None:
    expected = Expectation()
    assert expected.tokens(1000, 0) == 1000 / 5 + 256
    for _ in range(3000):
        expected.learn(800, 100, 20)
    assert expected.tokens(800, 0) == pytest.approx(100 + 20, rel=0.15)
    assert expected.tokens(800, 5) == pytest.approx(105, rel=0.05)


def test_the_answer_expected_is_one_that_nine_of_ten_stay_below() -> None:
    expected = Expectation()
    for number in range(6000):
        expected.learn(500, 100, (number * 37) % 100)
    output = expected.tokens(0, 0)
    assert 80 <= output <= 99


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**5), st.integers(0, 10**5)), max_size=50))
def test_an_expectation_is_always_a_number(seen: list[tuple[int, int, int]]) -> None:
    expected = Expectation()
    for size, input_tokens, output_tokens in seen:
        expected.learn(size, input_tokens, output_tokens)
    assert 0.0 < expected.tokens(1000, 0) < math.inf

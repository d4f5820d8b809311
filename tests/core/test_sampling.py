"""Which requests are kept: by id, by what became of them, and how many in an hour."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.sampling import LEARN_MIN, Allowance, Sampled, Slowest, following, is_drawn, route, slow_s
from stoker.types.resources import Samples
from stoker.types.routes import SamplesRoute


def test_the_share_that_is_drawn_is_the_rate() -> None:
    for rate in (0.0, 0.01, 0.5, 1.0):
        drawn = sum(is_drawn(f"req-{number:x}", rate) for number in range(20_000)) / 20_000
        assert abs(drawn - rate) < 0.012
    assert not any(is_drawn(f"req-{number}", 0.0) for number in range(1000))
    assert all(is_drawn(f"req-{number}", 1.0) for number in range(1000))


@given(st.text(max_size=128), st.floats(0, 1), st.floats(0, 1))
def test_what_is_drawn_at_a_rate_is_drawn_at_every_higher_one(request_id: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_drawn(request_id, high) or not is_drawn(request_id, low)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_about_one_in_a_hundred_is_slow_whatever_requests_take(seed: int) -> None:
    drawn = random.Random(seed)
    slowest = Slowest()
    for _ in range(10_000):  # from the longest of the first hundred down by 5 % in a hundred requests
        slowest.is_slow(drawn.lognormvariate(-3, 1))
    slow = sum(slowest.is_slow(drawn.lognormvariate(-3, 1)) for _ in range(5_000))
    assert 20 <= slow <= 110


def test_none_of_the_first_requests_is_slow() -> None:
    slowest = Slowest()
    assert not any(slowest.is_slow(0.01 * number) for number in range(LEARN_MIN))


@given(st.floats(2, 5000), st.lists(st.floats(0, 100), max_size=400))
def test_no_hour_holds_more_than_it_may(per_hour: float, gaps: list[float]) -> None:
    allowance, now_s, taken = Allowance(per_hour, 0.0), 0.0, []
    for gap in gaps:
        now_s += gap
        taken += [now_s] * allowance.take(now_s)
    for at in taken:
        assert sum(at <= other < at + 3600 for other in taken) <= per_hour + 1


def test_an_hour_of_storm_is_spread_over_the_hour() -> None:
    allowance = Allowance(100, 0.0)
    quarters = [sum(allowance.take(quarter * 900 + second) for second in range(900)) for quarter in range(4)]
    assert sum(quarters) <= 100
    assert all(count >= 20 for count in quarters)


RULES = SamplesRoute(rate=0.0, slow_s=1.0)


@pytest.mark.parametrize(
    ("rules", "drawn", "status", "took_s", "reasons"),
    [
        (RULES, True, 200, 0.1, ["drawn"]),
        (RULES, False, 200, 0.1, []),
        (RULES, False, 500, 0.1, ["error"]),
        (RULES, False, 429, 9.0, ["error"]),
        (RULES, True, 503, 0.1, ["drawn", "error"]),
        (RULES, False, 499, 0.1, []),
        (RULES, False, 499, 2.0, ["slow"]),
        (RULES, True, 200, 2.0, ["drawn", "slow"]),
        (SamplesRoute(errors=False, slow_s=-1.0), False, 500, 9.0, []),
        (SamplesRoute(errors=False, slow_s=-1.0), False, 200, 9.0, []),
    ],
)
def test_why_a_request_is_kept(
    rules: SamplesRoute, drawn: bool, status: int, took_s: float, reasons: list[str]
) -> None:
    assert Sampled(rules, 1, 0.0).reasons(drawn=drawn, status=status, took_s=took_s) == reasons
    flagged = Sampled(rules, 1, 0.0).reasons(drawn=drawn, flagged=True, status=status, took_s=took_s)
    assert sorted(flagged) == sorted([*reasons, "flagged"])


def test_a_storm_of_errors_leaves_room_for_the_drawn() -> None:
    sampled = Sampled(SamplesRoute(per_hour=100), 1, 0.0)
    assert sum(sampled.takes(["error"], 0.0) for _ in range(1000)) == 5
    assert sampled.takes(["drawn"], 0.0)


def test_many_that_were_drawn_leave_room_for_an_error_that_was_drawn_too() -> None:
    sampled = Sampled(SamplesRoute(per_hour=100), 1, 0.0)
    assert sum(sampled.takes(["drawn"], 0.0) for _ in range(1000)) == 5
    assert sum(sampled.takes(["drawn", "error"], 0.0) for _ in range(1000)) == 5
    assert not sampled.takes(["error"], 0.0)


def test_gateways_share_an_hour_and_new_rules_keep_what_was_learned() -> None:
    rules = SamplesRoute(per_hour=400)
    known = following(None, rules, 4, 0.0)
    assert known is not None
    assert sum(known.takes(["drawn"], 0.0) for _ in range(100)) == 5
    assert following(known, SamplesRoute(per_hour=800), 4, 0.0) is known
    assert not known.takes(["drawn"], 0.0)
    assert following(known, None, 4, 0.0) is None


def test_a_manifests_words_become_numbers() -> None:
    made = route(Samples(max_bytes="1Ki", ttl="1h", keep="response", slow="2s"))
    assert (made.max_bytes, made.ttl_s, made.request, made.response, made.slow_s) == (1024, 3600.0, False, True, 2.0)
    assert route(Samples()).slow_s == 0.0
    assert slow_s("never") < 0
    with pytest.raises(ValueError):
        slow_s("soon")

"""A month's forecast, a day out of the ordinary, and what a thousand requests and a million tokens cost."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.cost.attribute import DECODE_UNITS, units
from stoker.core.cost.outlook import DAYS_MIN, Where, anomaly, forecast
from stoker.core.cost.unit_costs import Amounts, unit_costs
from stoker.types.days import parse_day, weekday

USD = 10**9
MONDAY = parse_day("2026-06-01")
COSTS = st.integers(0, 10**12)
CHAT: Where = ("requests", "a", "chat", "k1")
RETRIES: Where = ("retries", "a", "chat", "k2")


def test_a_month_of_weekdays_and_weekends_is_foretold_by_days_alike() -> None:
    days = {MONDAY - back: (10 if weekday(MONDAY - back) < 5 else 2) * USD for back in range(1, 29)}
    found = forecast(days | {MONDAY: 4 * USD}, MONDAY)
    assert found is not None
    assert found.spent == 4 * USD
    assert found.expected == found.low == found.high == (22 * 10 + 8 * 2) * USD  # June 2026 has 22 weekdays


@given(st.dictionaries(st.integers(1, 40), COSTS, max_size=40), COSTS, st.integers(0, 29))
def test_a_forecast_is_never_below_what_is_spent_and_lies_between_its_bounds(
    before: dict[int, int], so_far: int, day: int
) -> None:
    today = MONDAY + day
    days = {today - back: cost for back, cost in before.items()}
    found = forecast(days | {today: so_far}, today)
    if found is None:
        assert sum(back <= 28 for back in before) < DAYS_MIN
    else:
        assert so_far <= found.spent <= found.low <= found.expected <= found.high


def test_a_day_of_retries_is_told_with_its_key() -> None:
    before = [{CHAT: 10 * USD, RETRIES: USD // 10}] * 7
    found = anomaly(MONDAY, {CHAT: 11 * USD, RETRIES: 21 * USD}, before)
    assert found is not None
    assert (found.culprit, round(found.ratio, 1)) == (RETRIES, 3.2)
    assert found.more == 21 * USD - USD // 10
    assert found.sentence == "3.2 × the usual day: retries of key k2 at a/chat"


def test_what_is_usual_a_little_more_and_what_nobody_knows_are_no_news() -> None:
    before = [{CHAT: 10 * USD}] * 7
    assert anomaly(MONDAY, {CHAT: 14 * USD}, before) is None
    assert anomaly(MONDAY, {CHAT: 100 * USD}, before[:2]) is None
    assert anomaly(MONDAY, {CHAT: 2 * USD // 3}, [{CHAT: USD // 10}] * 7) is None
    noisy = [{CHAT: cost * USD} for cost in (2, 20, 5, 18, 11, 3, 16)]
    assert anomaly(MONDAY, {CHAT: 25 * USD}, noisy) is None


@given(st.lists(st.dictionaries(st.sampled_from([CHAT, RETRIES]), COSTS), max_size=30))
def test_a_day_like_one_before_the_dearest_of_many_is_no_news(days: list[dict[Where, int]]) -> None:
    """A day that is cheaper than most is never out of the ordinary."""
    if len(days) < DAYS_MIN:
        return
    ordered = sorted(days, key=lambda each: sum(each.values()))
    assert anomaly(MONDAY, ordered[0], days) is None


@given(COSTS, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_tokens_at_their_unit_costs_make_what_was_spent(spent: int, read: int, written: int, cached: int) -> None:
    cached = min(cached, read)
    found = unit_costs(Amounts(spent, 1, 1, 0, 10, read, written, cached))
    total = (found.per_1m_input_tokens or 0) * read + (found.per_1m_output_tokens or 0) * written
    if units(read, written, cached):
        assert -read - written <= total - spent * 1_000_000 <= 0
    assert (found.per_1m_output_tokens is None) == (written == 0)


def test_idle_time_is_in_the_price_of_a_request_and_is_told() -> None:
    found = unit_costs(Amounts(spent=4 * USD, held_ms=4, busy_ms=1, idle_ms=3, requests=2_000))
    assert found.per_1k_requests == 2 * USD
    assert (found.utilisation_ratio, found.idle_ratio) == (0.25, 0.75)
    assert found.per_1m_input_tokens is None
    assert 2 * units(1, 0, 0) == DECODE_UNITS

"""When an idle endpoint is kept warm, and when it is warm again."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.warm import GAP_MIN_S, GAPS_MIN, TIMEOUT_MAX_RATIO, cheapest_s, expected, rest

GAPS = st.lists(st.floats(GAP_MIN_S, 100_000.0), min_size=GAPS_MIN, max_size=32).map(tuple)


def is_warm(gaps: tuple[float, ...], idle_s: float, worth: float = 0.0, timeout_s: float = 600.0) -> bool:
    return rest(gaps, idle_s, timeout_s=timeout_s, waiting_worth=worth, cold_start_s=40.0).is_warm


def test_without_a_worth_the_time_out_of_the_manifest_is_kept() -> None:
    gaps = (100.0, 5000.0, 90.0, 20_000.0, 700.0)
    assert is_warm(gaps, 599.0)
    assert not is_warm(gaps, 601.0)
    assert is_warm(gaps, 1e9, timeout_s=0.0)


def test_pauses_a_little_longer_than_the_time_out_are_worth_staying_warm_for() -> None:
    gaps = (800.0, 900.0, 1500.0, 700.0, 1200.0, 850.0)
    # A start of 40 s, each second worth 100 of an idle replica, costs more than another ten minutes of idling.
    assert is_warm(gaps, 1000.0, worth=100.0)
    assert not is_warm(gaps, 1000.0, worth=0.1)


def test_pauses_of_hours_are_not_waited_for() -> None:
    gaps = (20_000.0, 40_000.0, 25_000.0, 90_000.0)
    assert not is_warm(gaps, 100.0, worth=10.0)
    found = rest(gaps, 100.0, timeout_s=600.0, waiting_worth=10.0, cold_start_s=40.0)
    assert "cheaper to wait 40 s" in found.because


def test_pauses_that_are_alike_foretell_the_next_request() -> None:
    gaps = (3600.0, 3590.0, 3605.0, 3600.0, 3598.0)  # an hourly job
    assert not is_warm(gaps, 3000.0)
    assert is_warm(gaps, 3560.0)
    assert not is_warm(gaps, 3700.0)
    assert expected((100.0, 5000.0, 90.0, 20_000.0)) is None


@settings(deadline=None)
@given(GAPS, st.floats(0.1, 1e6))
def test_no_other_time_out_would_have_cost_less(gaps: tuple[float, ...], wait_cost_s: float) -> None:
    most_s = TIMEOUT_MAX_RATIO * 600.0

    def cost(limit_s: float) -> float:
        return sum(gap if gap <= limit_s else limit_s + wait_cost_s for gap in gaps)

    found = cheapest_s(gaps, wait_cost_s, most_s)
    assert found <= most_s
    for other in (GAP_MIN_S, 120.0, 600.0, 1800.0, most_s):
        assert cost(found) <= 1.1 * cost(other) + 1e-6  # it is a tenth longer than the pause that it is for


@given(GAPS, st.floats(0.0, 1e5), st.floats(0.0, 1e3))
def test_every_rest_says_why(gaps: tuple[float, ...], idle_s: float, worth: float) -> None:
    assert rest(gaps, idle_s, timeout_s=600.0, waiting_worth=worth, cold_start_s=40.0).because

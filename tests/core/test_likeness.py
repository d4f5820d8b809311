"""How alike two versions are: the numbers, and intervals that are as wide as texts differ."""

import random
from math import exp, isclose, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stoker.core import likeness
from stoker.core.likeness import DifferentTokens, Pair, compared, of_ratio, of_share, pair
from stoker.types.likeness import Scored

SEED = 20261128


def scored(losses: list[float], best: list[int], read_s: float = 0.1) -> Scored:
    return Scored(list(range(len(losses) + 1)), losses, best, read_s, 4, read_s)


def text(tokens: int, base: float, other: float, same: int | None = None, times: tuple[float, float] = (1, 1)) -> Pair:
    return Pair(tokens, base * tokens, other * tokens, tokens if same is None else same, times[0], times[1], 8, *times)


def test_perplexity_is_of_all_tokens_and_agreement_of_all_places() -> None:
    one = pair(scored([1.0, 2.0], [5, 6]), scored([1.5, 2.5], [5, 7]))
    two = pair(scored([3.0], [5], 0.2), scored([3.0], [5], 0.1))
    found = compared([one, two, one, two, one])
    assert isclose(found.base_perplexity.value, exp((3 * 3.0 + 2 * 3.0) / 8))
    assert isclose(found.perplexity_ratio.value, exp(3 * 1.0 / 8))
    assert isclose(found.agreement_ratio.value, 5 / 8)
    assert (found.texts, found.tokens) == (5, 8)
    assert isclose(found.read_speed_ratio.value, 0.7 / 0.5)


def test_texts_cut_into_other_tokens_are_not_compared() -> None:
    with pytest.raises(DifferentTokens):
        pair(scored([1.0], [1]), Scored([0, 9], [1.0], [1], 0.1, 4, 0.1))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_handful_of_texts_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 5"):
        compared([text(10, 1.0, 1.1)] * count + [text(0, 0.0, 0.0)] * 3)


def test_a_version_compared_with_itself_is_equal_for_sure_but_never_said_to_agree_always() -> None:
    found = compared([text(80, 3.0 + at / 10, 3.0 + at / 10) for at in range(10)])
    assert (found.perplexity_ratio.low, found.perplexity_ratio.value, found.perplexity_ratio.high) == (1.0, 1.0, 1.0)
    assert found.agreement_ratio.value == 1.0
    assert 0.6 < found.agreement_ratio.low < 0.8  # ten texts
    many = compared([text(80, 3.0, 3.0)] * 300)
    assert many.agreement_ratio.low > 0.98


def test_tokens_of_one_text_do_not_count_as_so_many_observations() -> None:
    """Half of the texts agree wholly and half not at all: that is ten observations, not a thousand."""
    found = of_share([100, 0] * 5, [100] * 10)
    assert found.low < 0.25
    assert found.high > 0.75


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 10, 15, 30, 100, 1000])
def test_students_t_is_right_to_three_digits(freedom: int) -> None:
    assert isclose(likeness._student(freedom), stats.t.ppf(0.975, freedom), rel_tol=5e-4)


def covers(draws: int, texts: int) -> float:
    """How often the interval of a true ratio of 1.05 holds it, where texts differ in length and in loss."""
    rng = random.Random(SEED)
    hits = 0
    for _ in range(draws):
        pairs = []
        for _ in range(texts):
            tokens = rng.randint(20, 200)
            shift = rng.gauss(0.05, 0.06)
            noise = sum(rng.gauss(0, 0.3) for _ in range(12)) / 12
            pairs.append(text(tokens, 3.0, 3.0 + shift + noise / sqrt(tokens / 12)))
        found = compared(pairs).perplexity_ratio
        hits += found.low <= exp(0.05) <= found.high
    return hits / draws


@pytest.mark.parametrize("texts", [8, 48])
def test_the_interval_of_the_perplexity_holds_the_truth_nineteen_times_in_twenty(texts: int) -> None:
    share = covers(400, texts)
    # 400 draws of 0.95 fall short of 0.915 once in a thousand; of so few texts as eight it is a little less.
    assert 0.90 <= share <= 0.99, f"seed {SEED}: {share}"


def test_the_interval_of_the_agreement_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = random.Random(SEED)
    hits = 0
    for _ in range(400):
        ratios = [rng.betavariate(18, 2) for _ in range(30)]
        tokens = [rng.randint(20, 120) for _ in ratios]
        same = [sum(rng.random() < ratio for _ in range(count)) for ratio, count in zip(ratios, tokens, strict=True)]
        found = of_share(same, tokens)
        hits += found.low <= 0.9 <= found.high
    assert 0.90 <= hits / 400 <= 0.995, f"seed {SEED}: {hits / 400}"


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.floats(0, 15), st.floats(0, 15), st.floats(0, 1)), min_size=5, max_size=30
    )
)
def test_every_number_lies_within_its_interval_and_shares_within_one(
    texts: list[tuple[int, float, float, float]],
) -> None:
    found = compared([text(count, one, two, int(ratio * count)) for count, one, two, ratio in texts])
    for estimate in (found.base_perplexity, found.other_perplexity, found.perplexity_ratio, found.agreement_ratio):
        assert estimate.low <= estimate.value <= estimate.high
    assert found.agreement_ratio.low >= 0.0
    assert found.agreement_ratio.high <= 1.0


def test_a_timing_that_a_neighbour_disturbs_makes_the_interval_wide() -> None:
    calm = compared([text(50, 3.0, 3.0, times=(1.0, 0.5))] * 20).read_speed_ratio
    rough = compared([text(50, 3.0, 3.0, times=(1.0 + at % 3, 0.5)) for at in range(20)]).read_speed_ratio
    assert isclose(calm.value, 2.0)
    assert calm.high - calm.low < 1e-9
    assert rough.high - rough.low > 0.5


def test_the_interval_of_a_ratio_is_the_textbook_jackknife() -> None:
    above, below = [1.0, 2.0, 4.0, 3.0, 5.0], [2.0, 2.0, 3.0, 3.0, 4.0]
    without = [(15 - one) / (14 - two) for one, two in zip(above, below, strict=True)]
    mean = sum(without) / 5
    half = 2.776445 * sqrt(4 / 5 * sum((one - mean) ** 2 for one in without))
    assert isclose(of_ratio(above, below).high, 15 / 14 + half)

"""How large each statistic becomes without any drift, beside an unlucky reference: drawn once, when it is made.

The shares behind a reference of n rows are not known: they are drawn from a Dirichlet around its counts, which for
quantile bins is their exact distribution (the coverage between order statistics, Wilks 1941). Every window is compared
with the same reference, so one that happened to be far from the truth would alarm again and again: an average over
truths keeps its word over references and not for the one that somebody has. So windows are drawn of the truths that
are farthest, brought to the distance that UNLUCKY of all references exceed in any feature. A small reference alarms
less readily by just that, a large one hardly.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.distances import EPS, FITTING, expected_shares, weights
from stoker.core.nulls import quantile
from stoker.types.drift import Feature, Null, Statistic

WINDOW_ROWS: Final = (100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 1_000_000)
OTHER_ROWS: Final = (100, 200, 500, 2_000, 20_000, 1_000_000)  # of all but the PSI: some of them, to keep it small
DRAWS: Final = 1_000  # windows of a size
DRAWS_EACH: Final = 400  # of a size and a feature, of what no two features share
TRUTHS: Final = 2_000
FARTHEST: Final = 40  # truths of which windows are drawn
UNLUCKY: Final = 1 / 100  # the share of references that may be farther from the truth than they are taken to be
_ENDLESS: Final = 10**9  # rows of a window that shows the truth
_TINY: Final = 1e-9  # the weight of a slot that cannot be filled; a Dirichlet wants more than none

Shares = NDArray[np.float64]  # [windows, slots]
Scores = NDArray[np.float64]  # [windows]
Score = Callable[[Shares, int], Scores]  # of shares, and how many rows they are of


def nulls_of(
    feature: Feature, rng: np.random.Generator, features: int, known: dict[tuple[float, ...], dict[Statistic, Null]]
) -> dict[Statistic, Null]:
    """Return the nulls of all that is judged of a feature, one of `features`.

    known: those of features with the same weights, which is what many quantile bins have; may be added to.
    """
    heavy = weights(feature)
    luck = UNLUCKY / features
    alike = (*sorted(heavy[1:-2]), heavy[0], heavy[-2], heavy[-1], feature.kind == "number")
    if alike not in known:
        slotwise: dict[Statistic, Score] = {
            each: score for each, score in _scores(feature).items() if each in FITTING[feature.kind]
        }
        known[alike] = _drawn(heavy, slotwise, rng, luck)
    found = dict(known[alike])
    if feature.kind == "number":
        found |= _drawn(heavy, {"wasserstein": lambda seen, _: wasserstein_rows(feature, seen)}, rng, luck)
    return found


def psi_rows(expected: NDArray[np.float64], seen: Shares) -> Scores:
    """Return the PSI of each row of `seen` as core.distances.psi does."""
    p, q = np.maximum(expected, EPS), np.maximum(seen, EPS)
    scores: Scores = ((q - p) * np.log(q / p)).sum(axis=1)
    return scores


def js_rows(expected: NDArray[np.float64], seen: Shares) -> Scores:
    """Return the distance of each row of `seen` as core.distances.js_distance does."""
    middle = np.maximum((expected + seen) / 2, 1e-300)

    def of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.where(shares > 0, shares * np.log2(np.maximum(shares, 1e-300) / middle), 0.0)
        return found

    scores: Scores = np.sqrt(np.clip((of(expected) + of(seen)).sum(axis=1) / 2, 0.0, 1.0))
    return scores


def chi_square_rows(counts: Sequence[int], seen: Shares, rows: int) -> Scores:
    """Return the statistic of each row of `seen`, shares of `rows` rows, as core.distances.chi_square does."""
    before, now = np.asarray(counts, np.float64), seen * rows
    ratio = rows / before.sum()
    both = before + now
    parts = (np.sqrt(ratio) * before - now / np.sqrt(ratio)) ** 2 / np.maximum(both, 1e-300)
    scores: Scores = np.where(both > 0, parts, 0.0).sum(axis=1)
    return scores


def wasserstein_rows(feature: Feature, seen: Shares) -> Scores:
    """Return the distance of each row of `seen` as core.distances.wasserstein does."""
    if not feature.sd:
        return np.zeros(len(seen))
    before = np.asarray(feature.counts[:-1], np.float64)
    present = seen[:, :-1]
    now = present / np.maximum(present.sum(axis=1, keepdims=True), 1e-300)
    gaps = np.cumsum(before / max(before.sum(), 1e-300) - now, axis=1)[:, : feature.bins + 1]
    start, end = gaps[:, :-1], gaps[:, 1:]
    crossing = (start**2 + end**2) / np.maximum(2 * np.abs(start - end), 1e-300)
    areas = np.where(start * end >= 0, np.abs(start + end) / 2, crossing)
    scores: Scores = areas @ np.diff(feature.edges) / feature.sd
    return scores


def null_from(scores: Mapping[int, Scores]) -> Null:
    """Return the null of what was drawn, by the rows of a window, smallest first."""
    mean, sd, skew = [], [], []
    for one in scores.values():
        middle, spread = float(one.mean()), max(float(one.std()), 1e-12)
        mean.append(max(middle, 1e-12))
        sd.append(spread)
        skew.append(float((((one - middle) / spread) ** 3).mean()))
    return Null(tuple(scores), _short(mean), _short(sd), _short(skew))


def _scores(feature: Feature) -> dict[Statistic, Score]:
    """Return the statistics that know nothing of the order of slots."""
    expected = np.asarray(expected_shares(feature))
    return {
        "psi": lambda seen, _: psi_rows(expected, seen),
        "js": lambda seen, _: js_rows(expected, seen),
        "chi2": lambda seen, rows: chi_square_rows(feature.counts, seen, rows),
    }


def _drawn(
    heavy: Sequence[float], scores: dict[Statistic, Score], rng: np.random.Generator, luck: float
) -> dict[Statistic, Null]:
    """Return the nulls of statistics; how far a truth is, the first of them says."""
    truths = _unlucky(heavy, next(iter(scores.values())), rng, luck)
    each = (DRAWS if "psi" in scores else DRAWS_EACH) // FARTHEST
    drawn: dict[Statistic, dict[int, Scores]] = {name: {} for name in scores}
    for rows in WINDOW_ROWS if "psi" in scores else OTHER_ROWS:
        windows = rng.multinomial(rows, np.repeat(truths, each, axis=0)) / rows
        for name, score in scores.items():
            if name == "psi" or rows in OTHER_ROWS:
                drawn[name][rows] = score(windows, rows)
    return {name: null_from(found) for name, found in drawn.items()}


def _unlucky(heavy: Sequence[float], score: Score, rng: np.random.Generator, luck: float) -> Shares:
    """Return FARTHEST truths as far from the reference as a share `luck` of all are, or farther.

    They are the farthest of those drawn, each moved along its own line until it is.
    """
    alpha = np.maximum(np.asarray(heavy, np.float64), _TINY)
    middle = alpha / alpha.sum()
    truths = rng.dirichlet(alpha, TRUTHS)
    far = score(truths, _ENDLESS)
    limit = quantile(null_from({1: far}), 1, luck)
    farthest = truths[np.argsort(far)[-FARTHEST:]]
    low, high = np.zeros((FARTHEST, 1)), np.full((FARTHEST, 1), 16.0)
    for _ in range(12):
        times = (low + high) / 2
        moved = _along(middle, farthest, times)
        is_near = (score(moved, _ENDLESS) < limit)[:, None]
        low, high = np.where(is_near, times, low), np.where(is_near, high, times)
    return _along(middle, farthest, high)


def _along(middle: NDArray[np.float64], towards: Shares, times: NDArray[np.float64]) -> Shares:
    moved = np.maximum(middle + (towards - middle) * times, 0.0)
    found: Shares = moved / moved.sum(axis=1, keepdims=True)
    return found


def _short(values: list[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)

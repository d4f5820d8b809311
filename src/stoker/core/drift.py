"""Whether what a model sees has moved away from its reference, which inputs did, and how sure that is.

The score is the PSI over the slots of types/drift.py. How large it becomes by chance depends on the feature, on the
reference's rows and on the window's; so each reference carries the PSI's own null (observe/drift/null.py) and a score
is judged by it. A window of a million rows finds differences nobody cares about: what counts as drift must also be
larger than a threshold (0.1, the usual "watch"). Many features are many chances: Benjamini & Hochberg (1995).

Of a space of vectors (observe/drift/space.py) it is the PSI that two normal distributions as far apart would have. For
equal spreads that is the squared distance of the means in deviations, and the AUC of whoever tells them apart is
Φ(distance / √2): so one threshold holds for all.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Final, Literal

import msgspec

from stoker.types.drift import Feature, Null, Reference, Space

EPS: Final = 1e-4  # the least share of a slot in a PSI
NULL_QUANTILE: Final = 0.01
# The drawn skew is itself uncertain, and over many features the tail decides: of 60,000 windows of each of 24 features
# those over the PSI of p = 0.0005 were 1.0 times as many as that without it (at worst 2.4 times), with it 0.6 times.
SKEW_MARGIN: Final = 0.25
RELEASE_RATIO: Final = 0.8  # of the threshold: below it a raised feature may come down
RAISE_AFTER: Final = 2  # verdicts in a row
RELEASE_AFTER: Final = 3
SPACE_ROWS_MIN: Final = 20  # vectors of a window; of fewer nothing is said
AUC_MAX: Final = 0.9999  # above it the distance is not told any more
_NAMED_MAX: Final = 3  # features named in a sentence
_NORMAL: Final = NormalDist()

Level = Literal["steady", "moved", "drifted"]


class Policy(msgspec.Struct, frozen=True):
    """What counts. `thresholds` overrides `threshold` by feature."""

    threshold: float = 0.1
    thresholds: Mapping[str, float] = {}
    false_alarms: float = 0.01  # the share of windows without drift that may be called moved
    rows_min: int = 200


class Shift(msgspec.Struct, frozen=True):
    """How far one feature is from its reference.

    p: the chance of such a PSI without drift. expected: the PSI that 1 % of windows without drift exceed.
    wasserstein: in standard deviations of the reference. chi2_p: of a category. auc, auc_expected: of a space, how well
    a classifier tells window from reference, and what 1 % of windows without drift exceed; 0 of a feature.
    """

    feature: str
    side: str
    level: Level
    psi: float
    expected: float
    p: float
    js: float
    wasserstein: float
    chi2_p: float
    missing_ratio: float
    outside_ratio: float
    missing_ratio_before: float
    mean_shift: float  # in standard deviations of the reference; 0 for a category
    auc: float = 0.0
    auc_expected: float = 0.0


class Apart(msgspec.Struct, frozen=True):
    """How far a window's vectors are from their reference. `distance2`: of the means, squared, in deviations."""

    rows: int
    distance2: float
    auc: float


class DriftMemory(msgspec.Struct, frozen=True):
    """By feature: verdicts in a row that say drift, and that say none. `raised` are those the endpoint answers for."""

    above: dict[str, int] = {}
    below: dict[str, int] = {}
    raised: tuple[str, ...] = ()


class Judgement(msgspec.Struct, frozen=True):
    """What is: the shifts, largest first; `is_drifted` with hysteresis, None while there are too few rows."""

    is_drifted: bool | None
    because: str
    rows: int
    shifts: tuple[Shift, ...]
    memory: DriftMemory


def judge(
    reference: Reference,
    counts: Sequence[Sequence[int]],
    rows: int,
    policy: Policy,
    memory: DriftMemory,
    apart: Sequence[Apart] = (),
) -> Judgement:
    """Return how a window compares with its reference. `counts`: the slots of each feature; `apart`: of each space."""
    if rows < policy.rows_min:
        because = f"{rows} rows in the window; {policy.rows_min} are needed to tell"
        return Judgement(None, because, rows, (), memory)
    shifts = [_shift(feature, seen) for feature, seen in zip(reference.features, counts, strict=True)]
    shifts += [_space_shift(space, seen) for space, seen in zip(reference.spaces, apart, strict=True)]
    moved = discoveries([one.p for one in shifts], policy.false_alarms)
    for at in moved:
        is_large = shifts[at].psi >= policy.thresholds.get(shifts[at].feature, policy.threshold)
        shifts[at] = msgspec.structs.replace(shifts[at], level="drifted" if is_large else "moved")
    shifts.sort(key=lambda one: (-one.psi, one.feature))
    after = remember(memory, shifts, policy)
    return Judgement(bool(after.raised), _because(shifts, after, rows), rows, tuple(shifts), after)


def remember(memory: DriftMemory, shifts: Sequence[Shift], policy: Policy) -> DriftMemory:
    """Return the memory after these shifts: raised after RAISE_AFTER in a row, released after RELEASE_AFTER."""
    above, below, raised = {}, {}, []
    for one in shifts:
        name = f"{one.side}:{one.feature}"
        threshold = policy.thresholds.get(one.feature, policy.threshold)
        over = memory.above.get(name, 0) + 1 if one.level == "drifted" else 0
        calm = one.level == "steady" or one.psi < RELEASE_RATIO * threshold
        under = memory.below.get(name, 0) + 1 if calm else 0
        if over >= RAISE_AFTER or (name in memory.raised and under < RELEASE_AFTER):
            raised.append(name)
        if over:
            above[name] = min(over, RAISE_AFTER)
        if under:
            below[name] = min(under, RELEASE_AFTER)
    return DriftMemory(above, below, tuple(raised))


def psi(expected: Sequence[float], seen: Sequence[float]) -> float:
    """Return the population stability index of two lists of shares, each held above EPS."""
    total = 0.0
    for p, q in zip(expected, seen, strict=True):
        p, q = max(p, EPS), max(q, EPS)  # noqa: PLW2901 - the same values, held
        total += (q - p) * math.log(q / p)
    return total


def js_distance(expected: Sequence[float], seen: Sequence[float]) -> float:
    """Return the Jensen–Shannon distance (base 2): 0 for equal shares, 1 for disjoint ones."""
    total = 0.0
    for p, q in zip(expected, seen, strict=True):
        middle = (p + q) / 2
        total += (p * math.log2(p / middle) if p else 0.0) + (q * math.log2(q / middle) if q else 0.0)
    return math.sqrt(min(max(total / 2, 0.0), 1.0))


def wasserstein(feature: Feature, seen: Sequence[int]) -> float:
    """Return how far the mass of a number moved, in standard deviations of the reference; 0 for a category.

    Values spread evenly within a bin; what is outside counts as at the outermost edge, so the answer is a lower bound.
    """
    if feature.kind == "category" or not feature.sd:
        return 0.0
    before, now = shares(feature.counts[:-1]), shares(seen[:-1])
    gap, moved = before[0] - now[0], 0.0
    for at in range(feature.bins):
        next_gap = gap + before[at + 1] - now[at + 1]
        moved += (feature.edges[at + 1] - feature.edges[at]) * _mean_abs(gap, next_gap)
        gap = next_gap
    return moved / feature.sd


def chi_square_p(before: Sequence[int], now: Sequence[int]) -> float:
    """Return the chance that both counts come from the same shares (two samples, Pearson)."""
    total_before, total_now = sum(before), sum(now)
    used = [(a, b) for a, b in zip(before, now, strict=True) if a + b]
    if len(used) < 2 or not total_before or not total_now:
        return 1.0
    up, down = math.sqrt(total_now / total_before), math.sqrt(total_before / total_now)
    statistic = sum((up * a - down * b) ** 2 / (a + b) for a, b in used)
    return upper_gamma((len(used) - 1) / 2, statistic / 2)


def shares(counts: Sequence[float]) -> list[float]:
    """Return each count's share of all; zeros when there is nothing."""
    total = sum(counts)
    return [count / total for count in counts] if total else [0.0] * len(counts)


def weights(feature: Feature) -> list[float]:
    """Return the reference's counts with what a sample cannot have shown.

    The edges of a number are the least and the greatest value of n rows: the next row is beyond either with the chance
    1/(n+1) (Wilks 1941), so each has the weight of a row. An unknown category has that of the values seen once (Good
    1953), a missing value half a row.
    """
    found: list[float] = list(feature.counts)
    if feature.kind == "number":
        found[0] += 1.0
        found[-2] += 1.0
    else:
        found[-2] += max(sum(1 for count in feature.counts[1:-2] if count == 1), 0.5)
    found[-1] += 0.5
    return found


def expected_shares(feature: Feature) -> list[float]:
    """Return what is expected of a window, a share a slot."""
    return shares(weights(feature))


def null_at(null: Null, rows: int) -> tuple[float, float, float]:
    """Return mean, sd and skew of the PSI without drift of `rows` rows, between the sizes that were drawn."""
    at = min(max(rows, null.rows[0]), null.rows[-1])
    above = next(i for i, size in enumerate(null.rows) if size >= at)
    if null.rows[above] == at or not above:
        return null.mean[above], null.sd[above], null.skew[above]
    low, high = null.rows[above - 1], null.rows[above]
    part = math.log(at / low) / math.log(high / low)

    def between(values: Sequence[float]) -> float:
        return math.exp(math.log(values[above - 1]) * (1 - part) + math.log(values[above]) * part)

    return between(null.mean), between(null.sd), null.skew[above - 1] * (1 - part) + null.skew[above] * part


def p_value(null: Null, rows: int, score: float) -> float:
    """Return the chance of a PSI of `score` or more without drift: a gamma with the null's three moments."""
    mean, sd, skew = null_at(null, rows)
    shape = 4.0 / (max(skew, 0.0) + SKEW_MARGIN) ** 2
    return upper_gamma(shape, shape + (score - mean) / sd * math.sqrt(shape))


def quantile(null: Null, rows: int, p: float = NULL_QUANTILE) -> float:
    """Return the PSI that a share `p` of windows without drift exceeds (bisection)."""
    mean, sd, _ = null_at(null, rows)
    low, high = 0.0, mean + 40 * sd
    for _step in range(40):
        middle = (low + high) / 2
        if p_value(null, rows, middle) > p:
            low = middle
        else:
            high = middle
    return high


def discoveries(chances: Sequence[float], rate: float) -> set[int]:
    """Return which of `chances` count as found, at most a share `rate` of them falsely (Benjamini & Hochberg 1995)."""
    order = sorted(range(len(chances)), key=lambda at: chances[at])
    last = 0
    for rank, at in enumerate(order, 1):
        if chances[at] <= rate * rank / len(order):
            last = rank
    return set(order[:last])


def upper_gamma(a: float, x: float) -> float:
    """Return Q(a, x), the regularised upper incomplete gamma function (series below a+1, else Lentz's fraction)."""
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    steps = 200 + int(20 * math.sqrt(a))
    if x < a + 1:
        term = total = 1.0 / a
        for k in range(1, steps):
            term *= x / (a + k)
            total += term
            if term < total * 1e-15:
                break
        return min(max(1.0 - front * total, 0.0), 1.0)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for k in range(1, steps):
        numerator = -k * (k - a)
        b += 2
        d = 1 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(max(front * value, 0.0), 1.0)


def _mean_abs(start: float, end: float) -> float:
    """Return the mean of |y| along a line from `start` to `end`."""
    if start * end >= 0:
        return abs(start + end) / 2
    return (start * start + end * end) / (2 * abs(start - end))


def _shift(feature: Feature, seen: Sequence[int]) -> Shift:
    now, before = shares(seen), shares(feature.counts)
    expected = expected_shares(feature)
    score = psi(expected, now)
    is_category = feature.kind == "category"
    return Shift(
        feature=feature.name,
        side=feature.side,
        level="steady",
        psi=score,
        expected=quantile(feature.null, sum(seen)),
        p=p_value(feature.null, sum(seen), score),
        js=js_distance(expected, now),
        wasserstein=wasserstein(feature, seen),
        chi2_p=chi_square_p(feature.counts, seen) if is_category else 1.0,
        missing_ratio=now[-1],
        outside_ratio=now[0] + now[-2],
        missing_ratio_before=before[-1],
        mean_shift=0.0 if is_category else _mean_shift(feature, now),
    )


def _space_shift(space: Space, seen: Apart) -> Shift:
    """Return how far a space is: two tests, so twice the chance of the one that says more."""
    score, expected, p, auc_expected, shift = 0.0, 0.0, 1.0, 0.5, 0.0
    if seen.rows >= SPACE_ROWS_MIN:
        by_chance = null_at(space.mean_null, seen.rows)[0]
        beyond = max(seen.distance2 - by_chance, 0.0)
        score, shift = max(beyond, distance2_of(seen.auc)), math.sqrt(beyond)
        expected = max(quantile(space.mean_null, seen.rows) - by_chance, 0.0)
        auc_expected = quantile(space.auc_null, seen.rows)
        chances = p_value(space.mean_null, seen.rows, seen.distance2), p_value(space.auc_null, seen.rows, seen.auc)
        p = min(2 * min(chances), 1.0)
    return Shift(
        feature=space.name,
        side=space.side,
        level="steady",
        psi=score,
        expected=expected,
        p=p,
        js=0.0,
        wasserstein=0.0,
        chi2_p=1.0,
        missing_ratio=0.0,
        outside_ratio=0.0,
        missing_ratio_before=0.0,
        mean_shift=shift,
        auc=seen.auc if seen.rows >= SPACE_ROWS_MIN else 0.5,
        auc_expected=auc_expected,
    )


def distance2_of(auc: float) -> float:
    """Return the squared distance, in deviations, of two normals that are told apart with this AUC; 0 up to 0.5."""
    return 2.0 * _NORMAL.inv_cdf(min(max(auc, 0.5), AUC_MAX)) ** 2


def _mean_shift(feature: Feature, now: Sequence[float]) -> float:
    """Return by how much the binned mean moved, in standard deviations, with its sign."""
    if not feature.sd:
        return 0.0
    before = shares(feature.counts)
    edges = feature.edges
    middles = [edges[0], *((a + b) / 2 for a, b in pairwise(edges)), edges[-1]]

    def mean(of: Sequence[float]) -> float:
        present = 1.0 - of[-1]
        return sum(m * p for m, p in zip(middles, of, strict=False)) / present if present else 0.0

    return (mean(now) - mean(before)) / feature.sd


def _because(shifts: Sequence[Shift], memory: DriftMemory, rows: int) -> str:
    raised = set(memory.raised)
    shown = [one for one in shifts if f"{one.side}:{one.feature}" in raised]
    if not shown:
        moved, over = (sum(one.level == level for one in shifts) for level in ("moved", "drifted"))
        said = [f"none of {len(shifts)} features drifted over {rows} rows"]
        said += [f"{moved} moved, by less than the threshold"] if moved else []
        said += [f"{over} would, if the next verdict says so too"] if over else []
        return "; ".join(said)
    named = ", ".join(f"{one.feature} (PSI {one.psi:.2f})" for one in shown[:_NAMED_MAX])
    more = f" and {len(shown) - _NAMED_MAX} more" if len(shown) > _NAMED_MAX else ""
    return f"{named}{more} of {len(shifts)} features drifted over {rows} rows"

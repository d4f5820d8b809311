"""Whether what a model sees has moved away from its reference, which inputs did, and how sure that is.

Each feature is judged by the statistics that fit its type (core/distances.py): PSI and Jensen–Shannon, of a number
Wasserstein, of a category chi-square. How large one becomes by chance depends on the feature, on the reference's rows
and on the window's; so each reference carries their nulls (observe/drift/null.py). Of k statistics the least chance
counts, k times (Bonferroni: whatever they have to do with each other, the rate holds); many features are many chances
too: Benjamini & Hochberg (1995). A window of a million rows finds differences nobody cares about: what counts as drift
must also be larger than a threshold (0.1, the usual "watch" of a PSI), whichever statistic shows it.

Of a space of vectors (observe/drift/space.py) it is the PSI that two normal distributions as far apart would have. For
equal spreads that is the squared distance of the means in deviations, and the AUC of whoever tells them apart is
Φ(distance / √2): so one threshold holds for all.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final, Literal

import msgspec

from stoker.core.distances import FITTING, as_psi, distance, mean_shift, shares
from stoker.core.nulls import discoveries, null_at, p_value, quantile
from stoker.types.drift import Feature, Null, Reference, Space, Statistic

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

    p: the chance, without drift, of what the statistic `by` says, times how many were asked. size: the largest of them,
    as the PSI of two normals as far apart. expected, js_expected, wasserstein_expected, auc_expected: what 1 % of
    windows without drift exceed; 0 where it is not judged. wasserstein: in standard deviations of the reference.
    chi2_p: of a category. auc: of a space, how well a classifier tells window from reference; 0 of a feature.
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
    js_expected: float = 0.0
    wasserstein_expected: float = 0.0
    size: float = 0.0
    by: str = "psi"


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
        is_large = shifts[at].size >= policy.thresholds.get(shifts[at].feature, policy.threshold)
        shifts[at] = msgspec.structs.replace(shifts[at], level="drifted" if is_large else "moved")
    shifts.sort(key=lambda one: (-one.size, one.feature))
    after = remember(memory, shifts, policy)
    return Judgement(bool(after.raised), _because(shifts, after, rows), rows, tuple(shifts), after)


def remember(memory: DriftMemory, shifts: Sequence[Shift], policy: Policy) -> DriftMemory:
    """Return the memory after these shifts: raised after RAISE_AFTER in a row, released after RELEASE_AFTER."""
    above, below, raised = {}, {}, []
    for one in shifts:
        name = f"{one.side}:{one.feature}"
        threshold = policy.thresholds.get(one.feature, policy.threshold)
        over = memory.above.get(name, 0) + 1 if one.level == "drifted" else 0
        calm = one.level == "steady" or one.size < RELEASE_RATIO * threshold
        under = memory.below.get(name, 0) + 1 if calm else 0
        if over >= RAISE_AFTER or (name in memory.raised and under < RELEASE_AFTER):
            raised.append(name)
        if over:
            above[name] = min(over, RAISE_AFTER)
        if under:
            below[name] = min(under, RELEASE_AFTER)
    return DriftMemory(above, below, tuple(raised))


def _shift(feature: Feature, seen: Sequence[int]) -> Shift:
    """Return how far a feature is: k tests, so k times the chance of the one that says most."""
    now, before, rows = shares(seen), shares(feature.counts), sum(seen)
    fitting = FITTING[feature.kind]
    found: dict[Statistic, float] = {each: distance(each, feature, seen) for each in fitting}
    nulls: dict[Statistic, Null] = {each: null for each in fitting if (null := feature.null_of(each)) is not None}
    chances = {each: p_value(null, rows, found[each]) for each, null in nulls.items()}
    by = min(chances, key=lambda each: chances[each])
    limits = {each: quantile(null, rows) for each, null in nulls.items()}
    return Shift(
        feature=feature.name,
        side=feature.side,
        level="steady",
        psi=found["psi"],
        expected=limits["psi"],
        p=min(len(chances) * chances[by], 1.0),
        js=found["js"],
        wasserstein=found.get("wasserstein", 0.0),
        chi2_p=chances.get("chi2", 1.0),
        missing_ratio=now[-1],
        outside_ratio=now[0] + now[-2],
        missing_ratio_before=before[-1],
        mean_shift=mean_shift(feature, now),
        js_expected=limits.get("js", 0.0),
        wasserstein_expected=limits.get("wasserstein", 0.0),
        size=max(as_psi(each, found[each], feature, rows) for each in nulls) if rows else 0.0,
        by=by,
    )


def _space_shift(space: Space, seen: Apart) -> Shift:
    """Return how far a space is: two tests, so twice the chance of the one that says more."""
    score, expected, p, auc_expected, shift, by = 0.0, 0.0, 1.0, 0.5, 0.0, "mean"
    if seen.rows >= SPACE_ROWS_MIN:
        by_chance = null_at(space.mean_null, seen.rows)[0]
        beyond = max(seen.distance2 - by_chance, 0.0)
        score, shift = max(beyond, distance2_of(seen.auc)), math.sqrt(beyond)
        expected = max(quantile(space.mean_null, seen.rows) - by_chance, 0.0)
        auc_expected = quantile(space.auc_null, seen.rows)
        of_mean, of_auc = (
            p_value(space.mean_null, seen.rows, seen.distance2),
            p_value(space.auc_null, seen.rows, seen.auc),
        )
        p = min(2 * min(of_mean, of_auc), 1.0)
        by = "mean" if of_mean <= of_auc else "auc"
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
        size=score,
        by=by,
    )


def distance2_of(auc: float) -> float:
    """Return the squared distance, in deviations, of two normals that are told apart with this AUC; 0 up to 0.5."""
    return 2.0 * _NORMAL.inv_cdf(min(max(auc, 0.5), AUC_MAX)) ** 2


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

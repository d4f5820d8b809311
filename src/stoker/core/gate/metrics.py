"""How good a model is on examples, and whether another one is surely worse on the same. Pure.

Absolute bounds are claims about these very examples and are decided by what was measured. "Worse than what serves" is
a claim about models, and twenty examples can differ by chance: it convicts where the difference is over the bound *and*
an interval around it, paired example by example, leaves no room for none. For right-or-wrong that is McNemar's exact
test (McNemar 1947) on the examples that only one of the two got right; for other metrics the delete-one jackknife
(Tukey 1958) with Student's t. Both at 2.5 % to one side.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from stoker.types.releases import GoldenGate, Metric

SURE: Final = 0.025  # to one side
_Z: Final = 1.959964
ROWS_SURE_MIN: Final = 8  # fewer say nothing by the jackknife
ROWS_CHANCE_MIN: Final = 30  # fewer are not held against guessing
CHANCE_Z: Final = 1.645  # guessing is ruled out at 5 %
WORSE_MAX: Final[dict[str, float]] = {"rmse": 0.05, "perplexity": 0.05, "logprob": 0.05}
_WORSE_MAX_USUAL: Final = 0.02
ALIKE_MIN: Final = 0.98  # cosine of vectors of which only the serving revision's are known
_LOWER_IS_BETTER: Final = ("rmse", "perplexity")


class Scored(msgspec.Struct, frozen=True):
    """One example: its score by the new model and by the one that serves (None: not asked, or it failed).

    labels: expected, of the new one and of the one that serves, for metrics over classes.
    """

    weight: float
    new: float
    old: float | None = None
    labels: tuple[str, str, str] = ("", "", "")


class Judgement(msgspec.Struct, frozen=True):
    """Whether a version passes, a sentence, and the numbers behind it."""

    is_passed: bool
    because: str
    numbers: dict[str, float]


def judge(metric: Metric, gate: GoldenGate, rows: Sequence[Scored], *, is_against_serving: bool = False) -> Judgement:
    """Return whether scores are good enough.

    Args:
        rows: at least one.
        is_against_serving: the scores say how alike the answers of both models are; nobody knows the right ones.
    """
    new = value(metric, rows, 0)
    numbers = {"rows": float(len(rows)), metric: new}
    words = f"{metric} {_shown(new)} on {_examples(len(rows))}"
    least = gate.at_least if gate.at_least is not None else ALIKE_MIN if is_against_serving else None
    if least is not None and new < least:
        return Judgement(False, f"{words}; at least {least:g} is asked", numbers)
    if gate.at_most is not None and metric in _LOWER_IS_BETTER and new > gate.at_most:
        return Judgement(False, f"{words}; at most {gate.at_most:g} is asked", numbers)
    paired = [each for each in rows if each.old is not None]
    if paired and not is_against_serving:
        return _beside(metric, gate, paired, words, numbers)
    is_bounded = least is not None or (gate.at_most is not None and metric in _LOWER_IS_BETTER)
    if not is_bounded and (guess := _like_guessing(metric, rows)):
        return Judgement(False, f"{words}: {guess}", numbers)
    if is_against_serving:
        words = f"{words}, compared with what serves"
    return Judgement(True, words if is_bounded else f"{words}; nothing to compare it with", numbers)


def value(metric: Metric, rows: Sequence[Scored], which: int) -> float:
    """Return the metric over examples: of the new model (0) or of the one that serves (1)."""
    if metric == "f1":
        return _f1(_counts(rows, which))
    mean = math.fsum(each.weight * _of(each, which) for each in rows) / math.fsum(each.weight for each in rows)
    return math.sqrt(mean) if metric == "rmse" else mean


def _beside(
    metric: Metric, gate: GoldenGate, rows: Sequence[Scored], words: str, numbers: dict[str, float]
) -> Judgement:
    """Return whether the new model is no worse than the one that serves, on examples that both answered."""
    bound = gate.worse_max if gate.worse_max is not None else WORSE_MAX.get(metric, _WORSE_MAX_USUAL)
    new, old = value(metric, rows, 0), value(metric, rows, 1)
    sign = 1.0 if metric in _LOWER_IS_BETTER else -1.0
    difference = sign * (new - old) + 0.0  # worse is positive; and no -0
    worse = difference / max(old, 1e-12) if metric in _LOWER_IS_BETTER else difference
    spread = _error(metric, rows)
    low, high = difference - spread, difference + spread
    p = _mcnemar(rows) if _is_counted(metric, rows) else None
    is_sure = p < SURE if p is not None else low > 0 and len(rows) >= ROWS_SURE_MIN
    numbers = numbers | {f"{metric}_serving": old, "worse": worse, "worse_max": bound}
    if math.isfinite(spread):
        numbers |= {"difference_low": low, "difference_high": high}
    if p is not None:
        numbers["p"] = p
    words = f"{words}, {_shown(old)} by the serving revision"
    if worse <= bound:
        return Judgement(True, words, numbers)
    chance = f"p = {p:.2g}" if p is not None else f"between {_shown(low)} and {_shown(high)} at 95 %"
    size = f"{worse:.1%}" if metric in _LOWER_IS_BETTER else f"{worse:.3f}"
    said = f"worse by {size}, at most {bound:g} is allowed"
    if is_sure:
        return Judgement(False, f"{words}: {said}, and chance does not explain it ({chance})", numbers)
    return Judgement(True, f"{words}: {said}, but chance may explain it ({chance}); more examples would tell", numbers)


def _is_counted(metric: Metric, rows: Sequence[Scored]) -> bool:
    return metric in ("accuracy", "exact") and len({each.weight for each in rows}) == 1


def _mcnemar(rows: Sequence[Scored]) -> float:
    """Return the chance that as many or more examples are lost as were, if losing and winning were alike likely."""
    lost = sum(each.new < _of(each, 1) for each in rows)
    won = sum(each.new > _of(each, 1) for each in rows)
    count = lost + won
    if not count:
        return 1.0
    half = count * math.log(2.0)
    logs = (
        math.lgamma(count + 1) - math.lgamma(at + 1) - math.lgamma(count - at + 1) - half
        for at in range(lost, count + 1)
    )
    return min(1.0, math.fsum(math.exp(each) for each in logs))


def _error(metric: Metric, rows: Sequence[Scored]) -> float:
    """Return half the width of the interval around the difference of both models: jackknife and Student's t."""
    count = len(rows)
    if count < 2:
        return math.inf
    left_out = _left_out_f1(rows) if metric == "f1" else _left_out_mean(rows, math.sqrt if metric == "rmse" else float)
    mean = math.fsum(left_out) / count
    variance = (count - 1) / count * math.fsum((each - mean) ** 2 for each in left_out)
    return _student(count - 1) * math.sqrt(variance)


def _left_out_mean(rows: Sequence[Scored], form: Callable[[float], float]) -> list[float]:
    """Return the difference of both models without each example in turn."""
    weight = math.fsum(each.weight for each in rows)
    sums = [math.fsum(each.weight * _of(each, which) for each in rows) for which in (0, 1)]
    found = []
    for each in rows:
        rest = max(weight - each.weight, 1e-12)
        new, old = (max(sums[which] - each.weight * _of(each, which), 0.0) / rest for which in (0, 1))
        found.append(form(new) - form(old))
    return found


def _left_out_f1(rows: Sequence[Scored]) -> list[float]:
    whole = [_counts(rows, which) for which in (0, 1)]
    found = []
    for each in rows:
        pair = []
        for which in (0, 1):
            right, truths, guesses = whole[which]
            truth, guess = each.labels[0], each.labels[which + 1]
            right[truth] -= each.weight * (truth == guess)
            truths[truth] -= each.weight
            guesses[guess] -= each.weight
            pair.append(_f1(whole[which]))
            right[truth] += each.weight * (truth == guess)
            truths[truth] += each.weight
            guesses[guess] += each.weight
        found.append(pair[0] - pair[1])
    return found


_Counts = tuple[dict[str, float], dict[str, float], dict[str, float]]


def _counts(rows: Sequence[Scored], which: int) -> _Counts:
    """Return by class: what was right, what was expected, what was said."""
    right: Counter[str] = Counter()
    truths: Counter[str] = Counter()
    guesses: Counter[str] = Counter()
    for each in rows:
        truth, guess = each.labels[0], each.labels[which + 1]
        truths[truth] += each.weight  # type: ignore[assignment]  # a Counter of floats
        guesses[guess] += each.weight  # type: ignore[assignment]
        right[truth] += each.weight * (truth == guess)  # type: ignore[assignment]
    return dict(right), dict(truths), dict(guesses)


def _f1(counts: _Counts) -> float:
    """Return the mean of F1 over the classes that were expected."""
    right, truths, guesses = counts
    each = [
        2.0 * right[name] / max(total + guesses.get(name, 0.0), 1e-12) for name, total in truths.items() if total > 0
    ]
    return math.fsum(each) / len(each) if each else 0.0


def _like_guessing(metric: Metric, rows: Sequence[Scored]) -> str:
    """Return in what way a model is no better than one that does not look at its inputs; "" when it is better."""
    if len(rows) < ROWS_CHANCE_MIN or metric not in ("accuracy", "f1"):
        return ""
    truths, guesses = Counter(each.labels[0] for each in rows), Counter(each.labels[1] for each in rows)
    count = len(rows)
    by_chance = sum(truths[name] * guesses[name] for name in truths) / count**2
    right = sum(each.labels[0] == each.labels[1] for each in rows) / count
    if len(truths) < 2 or by_chance >= 1.0:
        return ""
    spread = math.sqrt(by_chance * (1.0 - by_chance) / count)
    if right > by_chance + CHANCE_Z * spread:
        return ""
    return f"its labels fit no better than drawn by lot ({by_chance:.3f}); set at_least to allow it"


def _student(freedom: int) -> float:
    """Return the quantile of Student's t for SURE (Cornish-Fisher; off by under 1 % from 5 degrees on)."""
    z, v = _Z, float(freedom)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v * v)


def _of(row: Scored, which: int) -> float:
    return row.new if which == 0 or row.old is None else row.old


def _shown(number: float) -> str:
    return f"{number:.4g}"


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"

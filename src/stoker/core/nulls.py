"""How likely a distance is without drift, and which of many chances count.

A null (types/drift.py) is three moments of a statistic at several window sizes, drawn when the reference was made.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from stoker.types.drift import Null

NULL_QUANTILE: Final = 0.01
# The drawn skew is itself uncertain, and over many features the tail decides: of 60,000 windows of each of 24 features
# those over the PSI of p = 0.0005 were 1.0 times as many as that without it (at worst 2.4 times), with it 0.6 times.
SKEW_MARGIN: Final = 0.25

_NORMAL: Final = NormalDist()


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
    """Return the score that a share `p` of windows without drift exceeds (Newton, from Wilson & Hilferty's guess)."""
    mean, sd, skew = null_at(null, rows)
    shape = 4.0 / (max(skew, 0.0) + SKEW_MARGIN) ** 2
    step = 1 / (9 * shape)
    x = shape * max(1 - step + _NORMAL.inv_cdf(1 - p) * math.sqrt(step), 0.01) ** 3
    for _ in range(50):
        above = upper_gamma(shape, x)
        if not above:
            x /= 2
            continue
        density = math.exp((shape - 1) * math.log(x) - x - math.lgamma(shape))
        off = math.log(above / p) * above / density if density else 0.0
        x = max(x + off, x / 2)
        if abs(off) <= 1e-7 * x:
            break
    return mean + (x - shape) * sd / math.sqrt(shape)


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

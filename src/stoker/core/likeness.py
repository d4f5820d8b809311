"""How alike two versions of a language model are, from what both say of the same texts. Pure.

Both read the same text, token after token, so every place has two answers to one question and the difference between
them is not that of the texts. Source: perplexity, its ratio and "same top p" are what llama.cpp's own tool for this
prints (tools/perplexity, `--kl-divergence`); it has no interval that knows of texts.

Tokens of one text are alike, so a text is one observation, however long it is: intervals are by the jackknife over
texts (Tukey 1958; of a ratio of sums, Cochran, Sampling Techniques, 6.17), with Student's t. A share near one, for
which that is too narrow, has Wilson's interval for as many independent places as the jackknife's variance amounts to
(Korn and Graubard 1998); with no variance at all, for as many as there are texts.
"""

from collections.abc import Sequence
from math import exp, inf, log, sqrt
from typing import Final

import msgspec

from stoker.types.likeness import Estimate, Scored

TEXTS_MIN: Final = 5  # that an interval is worth printing for
_Z: Final = 1.959964
_T: Final = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)


class DifferentTokens(ValueError):
    """The two versions cut the text into different tokens: what they say of them cannot be compared."""


class Pair(msgspec.Struct, frozen=True):
    """One text, read by both. Losses are sums over its tokens, in nats."""

    tokens: int
    base_loss: float
    other_loss: float
    same: int
    base_read_s: float
    other_read_s: float
    written: int
    base_write_s: float
    other_write_s: float


class Compared(msgspec.Struct, frozen=True):
    """What the pairs amount to; see types.likeness.Likeness."""

    texts: int
    tokens: int
    base_perplexity: Estimate
    other_perplexity: Estimate
    perplexity_ratio: Estimate
    agreement_ratio: Estimate
    read_speed_ratio: Estimate
    write_speed_ratio: Estimate


def pair(base: Scored, other: Scored) -> Pair:
    """Return what both said of one text. Raises DifferentTokens."""
    if base.tokens != other.tokens:
        raise DifferentTokens("the versions cut texts into different tokens")
    return Pair(
        tokens=len(base.losses),
        base_loss=sum(base.losses),
        other_loss=sum(other.losses),
        same=sum(one == two for one, two in zip(base.best, other.best, strict=True)),
        base_read_s=base.read_s,
        other_read_s=other.read_s,
        written=min(base.written, other.written),
        base_write_s=base.write_s,
        other_write_s=other.write_s,
    )


def compared(pairs: Sequence[Pair]) -> Compared:
    """Return the comparison. Raises ValueError with fewer than TEXTS_MIN texts of two tokens or more."""
    pairs = [one for one in pairs if one.tokens]
    if len(pairs) < TEXTS_MIN:
        raise ValueError(f"{len(pairs)} texts of two tokens or more are too few; give at least {TEXTS_MIN}")
    tokens = [float(one.tokens) for one in pairs]
    return Compared(
        texts=len(pairs),
        tokens=sum(one.tokens for one in pairs),
        base_perplexity=_exp(of_ratio([one.base_loss for one in pairs], tokens)),
        other_perplexity=_exp(of_ratio([one.other_loss for one in pairs], tokens)),
        perplexity_ratio=_exp(of_ratio([one.other_loss - one.base_loss for one in pairs], tokens)),
        agreement_ratio=of_share([one.same for one in pairs], [one.tokens for one in pairs]),
        read_speed_ratio=_of_times([one.base_read_s for one in pairs], [one.other_read_s for one in pairs]),
        write_speed_ratio=_of_times([one.base_write_s for one in pairs], [one.other_write_s for one in pairs]),
    )


def of_ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Return the ratio of two sums over texts; what is `below` is positive."""
    value, variance = _jackknife(above, below)
    half = _student(len(above) - 1) * sqrt(variance)
    return Estimate(value, value - half, value + half)


def of_share(hits: Sequence[int], tries: Sequence[int]) -> Estimate:
    """Return the share of hits in tries over texts, within 0–1."""
    value, variance = _jackknife([float(one) for one in hits], [float(one) for one in tries])
    effective = value * (1 - value) / variance if variance > 0 else inf
    # Never more than there are; and without any variance, texts are what was seen to agree.
    effective = min(effective, float(sum(tries))) if variance > 0 else float(len(tries))
    z = _student(len(tries) - 1)
    z2 = z * z / effective
    middle = (value + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * sqrt(value * (1 - value) / effective + z2 / (4 * effective))
    return Estimate(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def _of_times(base: Sequence[float], other: Sequence[float]) -> Estimate:
    """Return how many times as fast `other` was: the ratio of the times, its interval on the logarithm."""
    if min(sum(base), sum(other)) <= 0 or min(other) <= 0:
        return Estimate(1.0, 0.0, inf)
    value, variance = _jackknife(base, other)
    half = _student(len(base) - 1) * sqrt(variance) / value
    return Estimate(value, value * exp(-half), value * exp(half))


def _jackknife(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """Return the ratio of the sums and its variance, leaving each text out once."""
    count, top, bottom = len(above), sum(above), sum(below)
    without = [(top - one) / (bottom - other) for one, other in zip(above, below, strict=True)]
    mean = sum(without) / count
    return top / bottom, (count - 1) / count * sum((one - mean) ** 2 for one in without)


def _exp(estimate: Estimate) -> Estimate:
    """Return perplexities from mean losses; one too large for a number is the largest."""
    return Estimate(*(exp(min(one, log(1e300))) for one in (estimate.value, estimate.low, estimate.high)))


def _student(freedom: int) -> float:
    """Return Student's t that 95 % lie within.

    Source: the expansion in 1/freedom of Abramowitz and Stegun, 26.7.5, right to three digits from ten on.
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3

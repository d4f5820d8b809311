"""How strongly counts of bad events say that these are likelier in the canary than in the baseline.

An e-process: a bet against "a bad event is as likely in either", whose mean is at most 1 at any moment while that is
true. So it ever exceeds 1/α with a chance of at most α, however often somebody looks (Ville's inequality; Ramdas,
Grünwald, Vovk, Shafer 2023). A z-test at p < 0.01, looked at every 50 requests, aborts one in five good rollouts.

What is bet on is where bad events fall. Given how many requests each arm had in a look, and how many of all were bad,
those in the canary are hypergeometric if the arms are alike, whatever the rate and the share of traffic are; if the
odds of a bad event are FACTORS times as high there, they are Fisher's noncentral hypergeometric. The bet is a mixture
of these. A Beta prior on the canary's share of the bad events says much the same in one formula, but only while the
share of traffic stands still, and it throws half of it away where bad events are common. Here each look has its own
share, so that evidence is carried from one step of a rollout to the next, and through moments in which the canary was
not ready.

Of looks with many bad events the hypergeometric takes long. There they are taken as drawn one by one with the canary's
share, a binomial. That is more spread (Hoeffding 1963), and the bet is convex in it, so its mean is still at most 1.
"""

from collections.abc import Iterable
from math import exp, log, log1p
from typing import Final

import msgspec

# Times the odds of the baseline. The small ones find what is hardly worse in many requests, the large ones a canary
# that fails where the baseline never did in few. Weighted by 1/√factor: what is hardly worse takes more evidence.
FACTORS: Final = (1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 17.0, 30.0, 64.0)
_WEIGHTS: Final = tuple(factor**-0.5 for factor in FACTORS)
_LOG_WEIGHTS: Final = tuple(log(weight / sum(_WEIGHTS)) for weight in _WEIGHTS)
_LOG_FACTORS: Final = tuple(map(log, FACTORS))
_NOTHING: Final = (0.0,) * len(FACTORS)
_TERMS_MAX: Final = 128  # of a look's sum; 90 µs


class Tally(msgspec.Struct, frozen=True):
    """Requests of one arm between two looks, and those of them that were bad."""

    bad: int = 0
    total: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.bad + other.bad, self.total + other.total)


class Odds(msgspec.Struct, frozen=True):
    """What the looks so far say. `logs`: for each of FACTORS the logarithm of its bet alone."""

    logs: tuple[float, ...] = _NOTHING

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value; 0 before the first look, negative when the arms look alike."""
        return _log_sum(weight + each for weight, each in zip(_LOG_WEIGHTS, self.logs, strict=True))

    def seen(self, canary: Tally, baseline: Tally, tolerated: float = 1.0) -> "Odds":
        """Return what these and one more look say.

        A look in which an arm had no requests says nothing: there is nothing to compare.

        Args:
            canary: what came to it since the look before.
            baseline: the same of the other arm.
            tolerated: odds of bad events in the canary, in times the baseline's, that nobody minds; at least 1.
        """
        if not canary.total or not baseline.total or not canary.bad + baseline.bad:
            return self
        told = _exactly(canary, baseline, tolerated) or _nearly(canary, baseline, tolerated)
        return Odds(tuple(before + more for before, more in zip(self.logs, told, strict=True)))


def _exactly(canary: Tally, baseline: Tally, tolerated: float) -> tuple[float, ...] | None:
    """Return the logarithm of each bet on a look; None where that takes long."""
    bad = canary.bad + baseline.bad
    least, most = max(bad - baseline.total, 0), min(bad, canary.total)
    if most - least >= _TERMS_MAX:
        return None
    # How many ways there are for `least`, `least + 1`, … bad ones in the canary, as shares of the most frequent.
    ways = [0.0]
    for at in range(least, most):
        more = (canary.total - at) * (bad - at) / ((at + 1) * (baseline.total - bad + at + 1))
        ways.append(ways[-1] + log(more))
    allowed = log(tolerated)
    usual = _log_sum(way + at * allowed for at, way in enumerate(ways))
    found = canary.bad - least
    told = []
    for log_factor in _LOG_FACTORS:
        worse = log_factor + allowed
        told.append(found * log_factor + usual - _log_sum(way + at * worse for at, way in enumerate(ways)))
    return tuple(told)


def _nearly(canary: Tally, baseline: Tally, tolerated: float) -> tuple[float, ...]:
    """Return the same as if bad events were drawn one by one: p = f·odds / (1 + f·odds) against p0 of f = 1."""
    odds = canary.total / baseline.total * tolerated  # that a bad event is one of the canary's
    told = []
    for factor, log_factor in zip(FACTORS, _LOG_FACTORS, strict=True):
        less = log1p(odds) - log1p(factor * odds)
        told.append(canary.bad * (log_factor + less) + baseline.bad * less)
    return tuple(told)


def _log_sum(logs: Iterable[float]) -> float:
    known = list(logs)
    top = max(known)
    return top + log(sum(exp(each - top) for each in known))

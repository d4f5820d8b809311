"""How strongly counts say that bad events are more frequent than a share that is allowed, where no arm can be compared.

An e-process as in odds.py: a mixture of bets that each event is bad with odds FACTORS times those of the share.
"""

from math import exp, log
from typing import Final

import msgspec

from stoker.core.verdict.odds import FACTORS, Tally

_WEIGHTS: Final = tuple(factor**-0.5 for factor in FACTORS)
_NOTHING: Final = (0.0,) * len(FACTORS)


class Excess(msgspec.Struct, frozen=True):
    """What the looks so far say. `logs`: for each of FACTORS the logarithm of its bet alone."""

    logs: tuple[float, ...] = _NOTHING

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value; 0 before the first look."""
        top = max(self.logs)
        mixed = sum(weight * exp(each - top) for weight, each in zip(_WEIGHTS, self.logs, strict=True))
        return top + log(mixed / sum(_WEIGHTS))

    def seen(self, tally: Tally, allowed: float) -> "Excess":
        """Return what these and one more look say. allowed: share of bad events that nobody minds, in (0, 1)."""
        if not tally.total:
            return self
        odds = allowed / (1.0 - allowed)
        more = []
        for factor in FACTORS:
            share = factor * odds / (1.0 + factor * odds)
            good = log((1.0 - share) / (1.0 - allowed))
            more.append(tally.bad * log(share / allowed) + (tally.total - tally.bad) * good)
        return Excess(tuple(before + each for before, each in zip(self.logs, more, strict=True)))

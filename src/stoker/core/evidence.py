"""How strongly counts speak against "failures are no more frequent than allowed".

An e-value: the odds that a mixture of worse worlds gives to what was seen, against the allowed world. In the allowed
world its mean is at most 1 at any moment, so it exceeds E at some moment with a chance of at most 1/E, however often
somebody looks (Ville's inequality; Ramdas, Grünwald, Vovk, Shafer 2023). A p-value has no such promise.

The worse worlds are odds of failure of FACTORS times the allowed odds. A Beta prior over all of them says much the
same, but needs the incomplete beta function, which no pure and quick form gives for a month of a busy endpoint.
"""

from math import exp, log, log1p
from typing import Final

# Near 1, what a busy endpoint can show with millions of requests; far from it, an outage seen in five.
FACTORS: Final = (1.01, 1.03, 1.1, 1.3, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 16_384.0)


def log_evidence(bad: float, total: float, allowed: float) -> float:
    """Return the natural logarithm of the e-value of `bad` of `total` events, `allowed` being a share in (0, 1).

    0 without events. Negative when they speak for the allowed world.
    """
    good = max(total - bad, 0.0)
    odds = allowed / (1.0 - allowed)
    logs = []
    for factor in FACTORS:
        # p = f·odds / (1 + f·odds): the likelihood ratio is (p/p0)^bad · ((1-p)/(1-p0))^good.
        less = log1p(odds) - log1p(odds * factor)  # ln((1-p)/(1-p0))
        logs.append(bad * (log(factor) + less) + good * less)
    top = max(logs)
    return top + log(sum(exp(each - top) for each in logs) / len(FACTORS))

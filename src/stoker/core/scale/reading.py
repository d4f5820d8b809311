"""What one signal calls for, and how a number of busy places becomes a number of replicas."""

import math
from typing import Final

import msgspec

from stoker.core.scale.policy import Policy
from stoker.types.scaling import Signal

# Spare places, in standard deviations of how many chance fills. Under the first more are ordered, over the second some
# may go: what lies between keeps a load at a boundary from going up and down with each minute's luck.
SPARE_UP: Final = 1.0
SPARE_DOWN: Final = 1.5
# With a fixed utilization the same band: it goes down when so much of the target would still be kept.
DOWN_RATIO: Final = 0.9
FIGURE_MIN: Final = 0.01  # what is less is shown as that


class Reading(msgspec.Struct, frozen=True):
    """How many replicas one signal calls for, not rounded, with the arithmetic.

    up: fewer than these are too few. stay: of more than these some may go; at least `up` where a signal has one number.
    """

    signal: Signal
    up: float
    stay: float
    because: str


def spread(busy: float, places: float, burstiness: float, policy: Policy) -> tuple[float, float]:
    """Return how many replicas (up, stay) hold `busy` requests at once, and what chance brings besides.

    Source: square-root staffing (Halfin and Whitt 1981), with the peakedness of arrivals in the root: 16 busy places
    need 4 spare ones, 160 need 13, where a fixed utilization of 0.7 takes 7 and 69.
    """
    if policy.utilization > 0.0:
        up = busy / (places * policy.utilization)
        return up, up / DOWN_RATIO
    sigma = math.sqrt(busy * burstiness)
    return (busy + SPARE_UP * sigma) / places, (busy + SPARE_DOWN * sigma) / places


def figure(replicas: float) -> str:
    """Return what a signal calls for, for reading; of next to nothing that one replica is more than enough."""
    return f"{replicas:.2f}" if replicas >= FIGURE_MIN else f"less than {FIGURE_MIN} of a replica"


def spare_words(busy: float, places: float, burstiness: float, policy: Policy) -> str:
    """Return the divisor and the spare of `spread` in words."""
    if policy.utilization > 0.0:
        return f"÷ ({places:.3g} places x {policy.utilization:g})"
    return f"= {busy:.3g} at once, + {SPARE_UP * math.sqrt(busy * burstiness):.2g} spare, ÷ {places:.3g} places"

"""How much slower a machine was in each spell of a load, from how much longer some of its requests took than simulated.

Whom it shares its processor, its caches and its memory with changes by the minute. A request says something of the
spells around it, the less the further they are away; where nobody says anything, it was as fast as usual.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stoker.sim.platform.plan import SPELL_S

Column = NDArray[np.float64]

REACH_S: Final = 8.0  # so far away a request says 1 / e of what it says where it was
USUAL: Final = 0.5  # requests' worth of belief that it was as fast as usual
SLACK_S: Final = 0.05  # times below it are not told apart


def spells(when_s: Column, simulated_s: Column, measured_s: Column, lasts_s: float) -> tuple[float, ...]:
    """Return how many times as long as simulated things took in each spell of SPELL_S.

    when_s: of what took `measured_s`, its middle; what is infinite in one of both says nothing.
    """
    is_known = np.isfinite(simulated_s) & np.isfinite(measured_s)
    longer = np.log((measured_s[is_known] + SLACK_S) / (simulated_s[is_known] + SLACK_S))
    middles_s = (np.arange(math.floor(lasts_s / SPELL_S) + 1) + 0.5) * SPELL_S
    nearness = np.exp(-np.abs(middles_s[:, None] - when_s[is_known]) / REACH_S)
    found: Column = np.exp(nearness @ longer / (np.sum(nearness, axis=1) + USUAL))
    return tuple(found.tolist())

"""What a scaling decision remembers of those before it: bounded, and stored so that a restart forgets nothing."""

from typing import Final

import msgspec

PEAKS_MAX: Final = 64


class Trend(msgspec.Struct, frozen=True):
    """Arrivals a second and how they grow, with how sure that is: a local level-trend Kalman filter.

    `pll`, `plt`, `ptt` are the covariance of level and trend; at_s is when the last arrivals were looked at, 0: never.
    """

    level: float = 0.0
    trend: float = 0.0  # a second
    pll: float = 0.0
    plt: float = 0.0
    ptt: float = 0.0
    at_s: float = 0.0


class Day(msgspec.Struct, frozen=True):
    """Arrivals a second of each slot of the last day (their 90th percentile), and of the slot that runs."""

    slots: tuple[float, ...] = ()  # by time of day; () before the first is full, -1: not seen
    slot: int = -1  # that runs, counted from the epoch
    rates: tuple[float, ...] = ()  # seen in it


class Memory(msgspec.Struct, frozen=True):
    """Of one endpoint. Times are on the clock of `decide`'s now_s.

    desired: the last decision, None before the first. service_s, served: see load.py. burstiness: variance of arrivals
    over their mean; 1 is chance. peaks: when how many replicas were needed, falling; what is within the down window
    stays. up_s, up_from: since when how many are raised, for the cap.
    """

    desired: int | None = None
    at_s: float = 0.0
    measured_s: float = 0.0  # when the last sight that was looked at was taken
    since_s: float = 0.0  # from when numbers are known without a gap
    service_s: float = 0.0
    served: float = 0.0
    burstiness: float = 1.0
    rate_before: float = 0.0
    peaks: tuple[tuple[float, float], ...] = ()
    up_s: float = 0.0
    up_from: int = 0
    down_s: float = 0.0
    trend: Trend = Trend()
    day: Day = Day()
    arrived_s: float = 0.0  # the last request

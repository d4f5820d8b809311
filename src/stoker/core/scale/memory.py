"""What a scaling decision remembers of those before it: bounded, and stored so that a restart forgets nothing."""

from typing import Final

import msgspec

from stoker.core.pooling import Standing

PEAKS_MAX: Final = 64
GAPS_MAX: Final = 32


class Trend(msgspec.Struct, frozen=True):
    """Arrivals a second and how they grow, with how sure that is: a local level-trend Kalman filter.

    `pll`, `plt`, `ptt` are the covariance of level and trend; at_s is when arrivals were last looked at, 0: never.
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


class Season(msgspec.Struct, frozen=True):
    """Arrivals a second by slots of the last three hours (season.py), and of the slot that runs."""

    slots: tuple[float, ...] = ()  # by slot, modulo their number; () before the first is full, -1: not seen
    slot: int = -1  # that runs, counted from the epoch
    arrived: int = 0  # in it, in `seen_s` seconds of it
    seen_s: float = 0.0


class Memory(msgspec.Struct, frozen=True):
    """Of one endpoint. Times are on the clock of `decide`'s now_s, 0: never.

    desired: the last decision, None before the first. measured_s: of the newest sight that was looked at; since_s: from
    when on there is no gap. service_s: mean over `served` requests, old ones counting less. places: of a replica, when
    one was last seen. burstiness: variance of arrivals over their mean; 1 is chance. rate_before: arrivals a second of
    the 6 s before. peaks: when how many replicas were needed, falling. window_s, missed_s: see window.py. up_s: the
    last raise; went_s: the last that went; down_s: when the first that went with it was last needed, 0 if
    one was missed since.
    arrived_s: the last request; gaps: without one, newest last. ready_s: since when any replica is ready. pooled: what
    sharing room with others needs.
    """

    desired: int | None = None
    measured_s: float = 0.0
    since_s: float = 0.0
    service_s: float = 0.0
    served: float = 0.0
    places: float = 0.0
    burstiness: float = 1.0
    rate_before: float = 0.0
    peaks: tuple[tuple[float, float], ...] = ()
    window_s: float = 0.0
    missed_s: float = 0.0
    up_s: float = 0.0
    went_s: float = 0.0
    down_s: float = 0.0
    trend: Trend = Trend()
    day: Day = Day()
    season: Season = Season()
    arrived_s: float = 0.0
    gaps: tuple[float, ...] = ()
    ready_s: float = 0.0
    pooled: Standing = Standing()

"""When a budget's period began and when it ends, by a calendar and in a time zone.

A day begins at the first moment that its date can be read off a clock on the wall, or, where clocks skip its midnight
(or all of it), at the jump. Each moment is in the last period that has begun: also where clocks are set back over
midnight, and a date is read, left, and read again.
"""

import math
from datetime import UTC, date, datetime, timedelta, tzinfo

import msgspec

from stoker.types.budgets import ENDLESS_S, Period


class Bounds(msgspec.Struct, frozen=True):
    """A period: from `start_s` on, until `end_s`; seconds since 1970."""

    start_s: int
    end_s: float


def bounds(period: Period, zone: tzinfo, at_s: float) -> Bounds:
    """Return the period that has the moment `at_s`. Every moment has one, and they follow each other without a gap."""
    if period == "total":
        return Bounds(0, ENDLESS_S)
    # Whole seconds, for periods begin with one: a fraction near the next would be rounded up to it.
    begun = _first_day(period, datetime.fromtimestamp(math.floor(at_s), zone).date())
    following = _after(period, begun)
    while start_s(following, zone) <= at_s:  # it had begun already, and clocks were set back over midnight
        begun, following = following, _after(period, following)
    return Bounds(start_s(begun, zone), float(start_s(following, zone)))


def start_s(day: date, zone: tzinfo) -> int:
    """Return the moment at which `day` begins in `zone`."""
    # fold=0 is the first of two midnights; of one that was skipped it is the jump itself (PEP 495).
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(local.astimezone(UTC).timestamp())


def _first_day(period: Period, day: date) -> date:
    match period:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case _:
            return day


def _after(period: Period, first: date) -> date:
    match period:
        case "week":
            return first + timedelta(days=7)
        case "month":
            return (first + timedelta(days=31)).replace(day=1)
        case _:
            return first + timedelta(days=1)


def _before(period: Period, first: date) -> date:
    return _first_day(period, first - timedelta(days=1))

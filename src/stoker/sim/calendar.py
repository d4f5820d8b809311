"""The clock on the wall beside virtual time: which schedules are on when, and how many replicas they allow."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from stoker.core.scale.bounds import Closed, bounds, closed, is_on
from stoker.core.scale.policy import Policy, window
from stoker.types.scaling import WEEKDAYS, Schedule

MINUTE_S: Final = 60.0
MONDAY: Final = datetime(2024, 1, 1, tzinfo=UTC)  # of the week that a weekday without a date is meant of

Jumps = tuple[tuple[float, float], ...]


class Calendar:
    """Schedules, and when virtual time begins.

    Args:
        schedules: as a manifest has them. Raises ValueError for a zone that there is not.
        began_s: unix time at the beginning of the recording.
        jumps: where virtual time leaves out parts of the recording: a virtual second, and the second of the recording
            that it is, ascending; empty: it goes through.
    """

    def __init__(self, schedules: Sequence[Schedule], began_s: float, jumps: Jumps = ()) -> None:
        self.schedules, self.began_s = tuple(schedules), began_s
        self.windows = tuple(window(each) for each in schedules)
        self._zones = [_zone(each.zone) for each in schedules]
        self._jumps, self._jumps_at_s = jumps, [at_s for at_s, _ in jumps]

    def wall_s(self, now_s: float) -> float:
        """Return unix time at a virtual second."""
        if not self._jumps:
            return self.began_s + now_s
        at_s, recorded_s = self._jumps[max(bisect_right(self._jumps_at_s, now_s) - 1, 0)]
        return self.began_s + recorded_s + now_s - at_s

    def offsets_s(self, now_s: float) -> tuple[float, ...]:
        """Return local time less `began_s + now_s`, for each schedule: what `core/scale` calls Sight.offsets_s."""
        wall_s = self.wall_s(now_s)
        jumped_s = wall_s - self.began_s - now_s
        return tuple(_offset_s(zone, wall_s) + jumped_s for zone in self._zones)

    def bounds(self, least: int, most: int, now_s: float) -> tuple[int, int]:
        """Return the fewest and the most replicas at a virtual second, where no schedule is on `least` and `most`."""
        policy = Policy(min=least, max=most, schedules=self.windows)
        found = bounds(policy, self.offsets_s(now_s), self.began_s + now_s)
        return found.least, found.most

    def closed(self, least: int, most: int, now_s: float) -> Closed | None:
        """Return that schedules let no replica be at a virtual second; None where some may be."""
        policy = Policy(min=least, max=most, schedules=self.windows)
        return closed(policy, self.offsets_s(now_s), self.began_s + now_s)

    def states(self, lasts_s: float) -> list[tuple[bool, ...]]:
        """Return for each minute which of the schedules are on, as its beginning has it."""
        return [self._on(number * MINUTE_S) for number in range(int(-(-lasts_s // MINUTE_S)))]

    def _on(self, now_s: float) -> tuple[bool, ...]:
        pairs = zip(self.windows, self.offsets_s(now_s), strict=True)
        return tuple(is_on(each, self.began_s + now_s + offset_s) for each, offset_s in pairs)


def moment(text: str) -> float:
    """Return unix time of `mon 08:00`, `mon 08:00 Europe/Berlin` or `2026-11-30T08:00+01:00`. Raises ValueError.

    Without a zone it is UTC; a weekday is one of a week of its own, so that it means the same on every day.
    """
    day, _, rest = text.strip().partition(" ")
    if day.lower() not in WEEKDAYS:
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is no moment; write one as 'mon 08:00' or 2026-11-30T08:00") from None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    time, _, zone = rest.strip().partition(" ")
    try:
        at = datetime.strptime(time, "%H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r}: {time!r} is no time of a day; write it as 08:00") from None
    date = MONDAY + timedelta(days=WEEKDAYS.index(day.lower()))
    return date.replace(hour=at.hour, minute=at.minute, tzinfo=_zone(zone.strip() or "UTC")).timestamp()


def said(at_s: float) -> str:
    """Return a moment for people: `Mon 2026-11-30 08:00 UTC`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%a %Y-%m-%d %H:%M UTC")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(f"{name!r} is no time zone; write one as Europe/Berlin or UTC") from None


def _offset_s(zone: ZoneInfo, at_s: float) -> float:
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0

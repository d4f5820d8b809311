"""How many replicas may be: the manifest's bounds, its schedules, and how fast they may come and go."""

from collections.abc import Iterator
from typing import Final

import msgspec

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy, Window
from stoker.types.scaling import WEEKDAYS

DAY_S: Final = 86_400.0
WEEK: Final = 7  # days
EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
DOWN_RATIO: Final = 0.5  # at most so much goes …
DOWN_EVERY_S: Final = 15.0  # … at once, and again after so long


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most replicas now, and what each comes from."""

    least: int
    most: int
    least_because: str
    most_because: str


class Closed(msgspec.Struct, frozen=True):
    """No replica may be now. because: what says so. opens_at_s: when one may again; unix seconds, 0: nobody knows."""

    because: str
    opens_at_s: float

    @property
    def words(self) -> str:
        """What people are told; it stays the same until it opens."""
        until = f"until {_at(self.opens_at_s)}" if self.opens_at_s else "for good"
        return f"{until}: {self.because} is 0"


def bounds(policy: Policy, offsets_s: tuple[float, ...], now_s: float) -> Bounds:
    """Return the bounds at `now_s`. A schedule that is on replaces the manifest's; of several the largest count.

    The most is never under the least: a minimum is a promise, a maximum a wish to save.
    """
    least, most = policy.min, policy.max
    least_because, most_because = "replicas.min", "replicas.max"
    pairs = zip(policy.schedules, offsets_s, strict=False)
    on = [each for each, offset_s in pairs if is_on(each, now_s + offset_s)]
    lows = [(each.min, each.name) for each in on if each.min is not None]
    highs = [(each.max, each.name) for each in on if each.max is not None]
    if lows:
        least, name = max(lows)
        least_because = f"the minimum of the schedule {name}"
    if highs:
        most, name = max(highs)
        most_because = f"the maximum of the schedule {name}"
    return Bounds(least, max(most, least), least_because, most_because)


def closed(policy: Policy, offsets_s: tuple[float, ...], now_s: float) -> Closed | None:
    """Return that schedules let no replica be at `now_s`, and until when; None where some may be.

    Clocks that change within the week before it opens are not seen: then it is an hour off until they have changed.
    """
    found = bounds(policy, offsets_s, now_s)
    if found.most or not any(each.max == 0 for each in policy.schedules):
        return None
    turns = sorted({at_s for at_s in _turns(policy, offsets_s, now_s) if at_s > now_s})
    opens_at_s = next((at_s for at_s in turns if bounds(policy, offsets_s, at_s).most), 0.0)
    return Closed(found.most_because, opens_at_s)


def _turns(policy: Policy, offsets_s: tuple[float, ...], now_s: float) -> Iterator[float]:
    """Return when schedules begin and end, from a week ago to a week ahead."""
    for each, offset_s in zip(policy.schedules, offsets_s, strict=False):
        today_s = (now_s + offset_s) // DAY_S * DAY_S
        for ahead in range(-WEEK, WEEK + 1):
            begins_s = today_s + ahead * DAY_S + each.begins_s - offset_s
            yield begins_s
            yield begins_s + each.lasts_s


def _at(at_s: float) -> str:
    """Return `mon 05:00 UTC`: within a week that is one moment."""
    day, second = divmod(at_s, DAY_S)
    minutes = int(second) // 60
    return f"{WEEKDAYS[(int(day) + EPOCH_WEEKDAY) % 7]} {minutes // 60:02}:{minutes % 60:02} UTC"


def is_on(window: Window, local_s: float) -> bool:
    """Return whether `window` is on at `local_s`: seconds since the epoch, had its clock been local."""
    day, second = divmod(local_s, DAY_S)
    today = (int(day) + EPOCH_WEEKDAY) % 7
    for back in range(int(window.lasts_s // DAY_S) + 2):
        since_s = second + back * DAY_S - window.begins_s
        if (today - back) % 7 in window.days and 0.0 <= since_s < window.lasts_s:
            return True
    return False


def least_now(have: int, memory: Memory, now_s: float) -> int:
    """Return how many must stay for now: whatever was read, half of them are there for the next look.

    There is no such limit upwards, unlike the HPA's: it costs those who wait more than it saves.
    """
    if 0.0 <= now_s - memory.went_s < DOWN_EVERY_S:
        return have
    return int(have * DOWN_RATIO + 0.5)

"""How many replicas may be: the manifest's bounds, its schedules, and how fast they may come and go."""

from typing import Final

import msgspec

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy, Window

DAY_S: Final = 86_400.0
EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
DOWN_RATIO: Final = 0.5  # at most so much goes …
DOWN_EVERY_S: Final = 15.0  # … at once, and again after so long


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most replicas now, and what each comes from."""

    least: int
    most: int
    least_because: str
    most_because: str


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

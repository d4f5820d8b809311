"""How many replicas may be: the manifest's bounds, what its schedules and the platform ask for, and how fast it may go."""

from typing import Final

import msgspec

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy, Window

DAY_S: Final = 86_400.0
EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
UP_RATIO: Final = 1000.0
UP_STEP: Final = 4
UP_WITHIN_S: Final = 15.0
DOWN_RATIO: Final = 0.5
DOWN_WITHIN_S: Final = 15.0


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most replicas now, and what each comes from."""

    least: int
    most: int
    least_because: str
    most_because: str


def bounds(policy: Policy, offsets_s: tuple[float, ...], now_s: float) -> Bounds:
    """Return the bounds at `now_s`. A schedule that is on replaces the manifest's; of several the widest count.

    The most is never under the least: a minimum is a promise, a maximum a wish to save.
    """
    least, most = policy.min, policy.max
    least_because, most_because = "replicas.min", "replicas.max"
    on = [
        each
        for each, offset_s in zip(policy.schedules, offsets_s, strict=False)
        if is_on(each, now_s + offset_s)
    ]
    lows = [(each.min, each.name) for each in on if each.min is not None]
    highs = [(each.max, each.name) for each in on if each.max is not None]
    if lows:
        least, name = max(lows)
        least_because = f"the schedule {name}"
    if highs:
        most, name = max(highs)
        most_because = f"the schedule {name}"
    return Bounds(least, max(most, least), least_because, most_because)


def is_on(window: Window, local_s: float) -> bool:
    """Return whether `window` is on at `local_s`: seconds since the epoch, had its clock been local."""
    day, second = divmod(local_s, DAY_S)
    today = (int(day) + EPOCH_WEEKDAY) % 7
    for back in range(int(window.lasts_s // DAY_S) + 2):
        begun_s = second + back * DAY_S - window.begins_s
        if (today - back) % 7 in window.days and 0.0 <= begun_s < window.lasts_s:
            return True
    return False


def most_now(have: int, memory: Memory, now_s: float) -> int:
    """Return how many there may be at once: numbers that are wrong must not buy a whole pool in one step.

    From nothing any number: whoever waits has waited long enough.
    """
    base = memory.up_from if 0.0 <= now_s - memory.up_s < UP_WITHIN_S else have
    return max(int(base * UP_RATIO), base + UP_STEP) if base else 1 << 30


def least_now(have: int, memory: Memory, now_s: float) -> int:
    """Return how many must stay: at most half goes at once."""
    if 0.0 <= now_s - memory.down_s < DOWN_WITHIN_S:
        return have
    return int(have * DOWN_RATIO + 0.5)

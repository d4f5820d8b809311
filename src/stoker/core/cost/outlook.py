"""What a month will have cost by its end, and whether a day costs more than days like it, and through whom.

Both go by days, because a bill does: an hour of a batch job is no news, a day of it is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from stoker.types.costs import LineKind
from stoker.types.days import format_day, month, weekday
from stoker.types.prices import NANO_PER_USD

DAYS_MIN: Final = 3  # fewer say nothing of what is usual
DAYS_MAX: Final = 28
DEVIATIONS: Final = 4.0  # robust ones (1.4826 × the median absolute deviation) over the median
RATIO_MIN: Final = 1.5  # and so much of the median: where all days are alike, a little more is no news
MORE_MIN: Final = NANO_PER_USD  # a dollar: whoever looks at less of a difference has cost more
MAD_TO_SIGMA: Final = 1.4826

Where = tuple[LineKind, str, str, str]  # kind, project, endpoint, key


class Forecast(msgspec.Struct, frozen=True):
    """A month in nano-dollars: what is known of it, and its whole, from `low` to `high`."""

    spent: int
    expected: int
    low: int
    high: int
    because: str


class Anomaly(msgspec.Struct, frozen=True):
    """A day that cost more than usual, in nano-dollars.

    culprit: where most of the difference was spent; more: how much of it.
    """

    day: int
    amount: int
    usual: int
    culprit: Where
    more: int

    @property
    def ratio(self) -> float:
        """Return how many times the usual it is; infinity for what never cost anything."""
        return self.amount / self.usual if self.usual else float("inf")

    @property
    def sentence(self) -> str:
        """Say it to a person: `3.1 × the usual day: retries of key k1 at team-a/chat`."""
        kind, project, endpoint, key = self.culprit
        many = f"{self.ratio:.1f} × the usual day" if self.usual else "and cost nothing before"
        whose = f" of key {key}" if key else ""
        where = f" at {project}/{endpoint}" if endpoint else ""
        return f"{many}: {kind.replace('_', ' ')}{whose}{where}"


def forecast(days: Mapping[int, int], today: int) -> Forecast | None:
    """Return what the month of `today` will cost; None while there are fewer than DAYS_MIN whole days to go by.

    days: what whole days cost, and `today` so far. A day to come costs what days of its weekday did (their median),
    where two of them are known, else the median of all; low and high are the least and the most of those.
    """
    whole = {day: cost for day, cost in days.items() if today - DAYS_MAX <= day < today}
    if len(whole) < DAYS_MIN:
        return None
    first, following = month(today)
    spent = sum(cost for day, cost in days.items() if first <= day <= today)
    expected = low = high = spent
    for day in range(today, following):
        alike = [cost for each, cost in whole.items() if weekday(each) == weekday(day)]
        seen = alike if len(alike) > 1 else list(whole.values())
        so_far = days.get(day, 0) if day == today else 0  # what is spent of today is in `spent` already
        expected += max(int(median(seen)) - so_far, 0)
        low += max(min(seen) - so_far, 0)
        high += max(max(seen) - so_far, 0)
    return Forecast(spent, expected, low, high, f"by {len(whole)} days before {format_day(today)}")


def anomaly(day: int, now: Mapping[Where, int], before: Sequence[Mapping[Where, int]]) -> Anomaly | None:
    """Return why `day` is out of the ordinary, or None.

    Args:
        now: what the day cost, by where.
        before: the days before it, at most DAYS_MAX of them are looked at, the last ones.
    """
    before = before[-DAYS_MAX:]
    if len(before) < DAYS_MIN:
        return None
    totals = [sum(each.values()) for each in before]
    usual, amount = int(median(totals)), sum(now.values())
    spread = MAD_TO_SIGMA * median(abs(total - usual) for total in totals)
    if amount <= max(usual * RATIO_MIN, usual + DEVIATIONS * spread, usual + MORE_MIN):
        return None
    more: Counter[Where] = Counter()
    for where, cost in now.items():
        more[where] = cost - int(median(each.get(where, 0) for each in before))
    culprit, most = min(more.items(), key=lambda each: (-each[1], each[0]))
    return Anomaly(day, amount, usual, culprit, most)

"""Days as whole numbers since 1970-01-01, in UTC: without a clock, and without a time zone to get wrong."""

import calendar
import re
from typing import Final

DAY_S: Final = 86_400
_DAY: Final = re.compile(r"([12]\d{3})-(\d\d)-(\d\d)")


def parse_day(text: str) -> int:
    """Return the day that `2026-11-29` is. Raises ValueError with what was expected."""
    found = _DAY.fullmatch(text)
    if found is not None:
        year, month, day = map(int, found.groups())
        if 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]:
            return number(year, month, day)
    raise ValueError(f"{text!r} is no day; write it as 2026-11-29")


def number(year: int, month: int, day: int = 1) -> int:
    """Return the day of a date."""
    return calendar.timegm((year, month, day, 0, 0, 0)) // DAY_S


def civil(day: int) -> tuple[int, int, int]:
    """Return a day's year, month and day of the month.

    Source: Howard Hinnant's `civil_from_days`; its years begin in March, so that a leap day is their last.
    """
    era, of_era = divmod(day + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def format_day(day: int) -> str:
    """Return the day as `2026-11-29`."""
    return "{:04d}-{:02d}-{:02d}".format(*civil(day))


def format_moment(at_s: int) -> str:
    """Return unix seconds as `2026-11-29T12:00:00Z`."""
    day, second = divmod(at_s, DAY_S)
    return f"{format_day(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def month(day: int) -> tuple[int, int]:
    """Return the first day of a day's month, and that of the month after it."""
    year, at, _ = civil(day)
    return number(year, at), number(year + at // 12, at % 12 + 1)


def weekday(day: int) -> int:
    """Return a day's place in its week; Monday is 0."""
    return (day + 3) % 7  # 1970 began with a Thursday

"""Periods of budgets: every moment in one, without a gap, in every time zone, over the days that clocks are set."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.control.periods import bounds
from stoker.types.budgets import ENDLESS_S, Period

ZONES: Final = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
PERIODS: Final[tuple[Period, ...]] = ("day", "week", "month")
SPAN: Final = (datetime(1975, 1, 2, tzinfo=UTC).timestamp(), datetime(2037, 12, 1, tzinfo=UTC).timestamp())


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(PERIODS), st.floats(*SPAN))
@example("UTC", "day", 1071619199.9999998)  # less than a microsecond before midnight
def test_every_moment_is_in_one_period_and_periods_follow_each_other(zone: str, period: Period, at_s: float) -> None:
    tz = ZoneInfo(zone)
    found = bounds(period, tz, at_s)
    assert found.start_s <= at_s < found.end_s
    assert bounds(period, tz, found.start_s) == found
    assert bounds(period, tz, found.end_s - 1e-3) == found
    assert bounds(period, tz, found.end_s).start_s == found.end_s
    assert bounds(period, tz, found.start_s - 1e-3).end_s == found.start_s


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(PERIODS), st.integers(*map(int, SPAN)))
def test_a_period_begins_when_its_first_date_is_first_read_off_the_wall(zone: str, period: Period, at_s: int) -> None:
    tz = ZoneInfo(zone)
    begun = bounds(period, tz, at_s).start_s
    wall, before = datetime.fromtimestamp(begun, tz), datetime.fromtimestamp(begun - 1, tz)
    assert wall.date() > before.date()
    if (wall.hour, wall.minute, wall.second) == (0, 0, 0):
        assert period != "month" or wall.day == 1 or wall.date() - before.date() > timedelta(days=1)
        assert period != "week" or wall.weekday() == 0 or wall.date() - before.date() > timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),  # there was no midnight: 23:59:59, 01:00:00
        ("America/St_Johns", "2006-10-28", 24.0 + 1 / 60 - 1 / 60),  # at 00:01 back to 23:01: midnight came twice
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Pacific/Apia", "2011-12-29", 24),  # the 30th was skipped
    ],
)
def test_days_are_as_long_as_the_clocks_make_them(zone: str, day: str, hours: float) -> None:
    found = bounds("day", ZoneInfo(zone), at(f"{day}T12:00", zone))
    assert (found.end_s - found.start_s) / 3600 == pytest.approx(hours)


def test_a_date_that_comes_twice_begins_once() -> None:
    zone = ZoneInfo("America/St_Johns")  # 2006-10-29: 00:00, 00:01 = 23:01 of the 28th again
    midnight = bounds("day", zone, at("2006-10-29T12:00", "America/St_Johns"))
    again = midnight.start_s + 30 * 60
    assert datetime.fromtimestamp(again, zone).day == 28
    assert bounds("day", zone, again) == midnight
    assert (midnight.end_s - midnight.start_s) / 3600 == 25


def test_months_and_weeks_are_those_of_the_calendar() -> None:
    moment = at("2026-11-29T11:00", "Europe/Berlin")
    month = bounds("month", ZoneInfo("Europe/Berlin"), moment)
    assert (month.start_s, month.end_s) == (
        at("2026-11-01T00:00", "Europe/Berlin"),
        at("2026-12-01T00:00", "Europe/Berlin"),
    )
    week = bounds("week", ZoneInfo("Europe/Berlin"), moment)
    assert week.start_s == at("2026-11-23T00:00", "Europe/Berlin")
    assert bounds("total", UTC, moment).end_s == ENDLESS_S

"""Days by number and by name, against the calendar of Python."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.types import days

EPOCH = date(1970, 1, 1)


@given(st.dates(date(1000, 1, 1), date(2999, 12, 31)), st.integers(0, days.DAY_S - 1))
def test_a_day_has_its_name_its_weekday_and_its_month(day: date, second: int) -> None:
    number = (day - EPOCH).days
    assert days.parse_day(day.isoformat()) == number
    assert days.format_day(number) == day.isoformat()
    assert days.weekday(number) == day.weekday()
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second)
    assert days.format_moment(number * days.DAY_S + second) == moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    first, following = days.month(number)
    assert first <= number < following
    assert [days.civil(each)[2] for each in (first, following)] == [1, 1]
    assert days.civil(following - 1)[1] == day.month


@pytest.mark.parametrize("text", ["", "2026-02-30", "2026-13-01", "29.11.2026", "2026-1-1"])
def test_what_is_no_day_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no day; write it as"):
        days.parse_day(text)

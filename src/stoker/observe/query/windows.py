"""From cells to what each window of a chart holds. Pure.

A cell is in the window (t − w, t] when it ends there; windows slide over the cells once, in the order of time.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from stoker.observe.history.points import Course, Point, decode, unpack
from stoker.observe.history.ring import Row
from stoker.telemetry.histogram import Distribution


def windows(kind: str, rows: Sequence[Row], times: Sequence[int], window_s: float) -> list[Point | None]:
    """Return the point of each window that ends at one of the rising `times`; None for one without any cell."""
    ends = [row.end_s for row in rows]
    bounds = [(bisect_right(ends, int(at - window_s)), bisect_right(ends, at)) for at in times]
    if kind == "counter":
        return _counters(rows, bounds)
    return _gauges(rows, bounds) if kind == "gauge" else _histograms(rows, bounds)


def _counters(rows: Sequence[Row], bounds: Sequence[tuple[int, int]]) -> list[Point | None]:
    before = [0.0, *accumulate(row.value for row in rows)]
    return [max(before[end] - before[begin], 0.0) if begin < end else None for begin, end in bounds]


def _gauges(rows: Sequence[Row], bounds: Sequence[tuple[int, int]]) -> list[Point | None]:
    courses: list[Course] = []
    for row in rows:
        course = _course(row)
        courses.append(course if course is not None else courses[-1] if courses else Course(0.0, 0.0, 0.0, 0.0, 1))
    found: list[Point | None] = []
    for begin, end in bounds:
        inside = courses[begin:end]
        found.append(
            Course(
                inside[-1].last,
                min(each.low for each in inside),
                max(each.high for each in inside),
                sum(each.total for each in inside),
                sum(each.readings for each in inside),
            )
            if inside
            else None
        )
    return found


def _course(row: Row) -> Course | None:
    try:
        point = decode("gauge", row.value, row.body)
    except ValueError:
        return None  # the roll-up tells of it
    return point if isinstance(point, Course) else None


def _histograms(rows: Sequence[Row], bounds: Sequence[tuple[int, int]]) -> list[Point | None]:
    found: list[Point | None] = []
    buckets: dict[int, int] = {}
    entered = left = 0
    sums = [0.0, *accumulate(row.value for row in rows)]
    for begin, end in bounds:
        for row in rows[entered:end]:
            _shift(buckets, row, 1)
        for row in rows[left:begin]:
            _shift(buckets, row, -1)
        entered, left = max(entered, end), max(left, begin)
        held = {index: count for index, count in buckets.items() if count > 0}
        found.append(Distribution(held, max(sums[end] - sums[begin], 0.0)) if held else None)
    return found


def _shift(buckets: dict[int, int], row: Row, sign: int) -> None:
    try:
        for index, count in unpack(row.body or b""):
            buckets[index] = buckets.get(index, 0) + sign * count
    except ValueError:
        return

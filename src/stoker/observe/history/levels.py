"""Which rows answer a question about a span of time: the coarsest that are exact, finer ones at its edges. Pure.

A level covers the time from `since_s` to `until_s` without holes; every instant is read from one level alone, so
nothing is counted twice however levels overlap. A cell belongs to a window if it ends inside it: adjacent windows share
no cell and leave none out.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

DAY_S: Final = 86_400


class Level(NamedTuple):
    """One table, or the ring. Times are whole unix seconds and multiples of `step_s`."""

    name: str
    step_s: int
    kept_s: int
    since_s: int = 0
    until_s: int = 0


# 60 series at full length: 0.6 M rows of minutes, 0.6 M of five minutes, 0.6 M of hours.
MINUTE: Final = Level("minute", 60, 7 * DAY_S)
FIVE: Final = Level("five", 300, 35 * DAY_S)
HOUR: Final = Level("hour", 3600, 400 * DAY_S)
LEVELS: Final = (MINUTE, FIVE, HOUR)


class Span(NamedTuple):
    """Read the cells of `level` that begin at or after `start_s` and before `end_s`."""

    level: Level
    start_s: int
    end_s: int


def plan(start_s: int, end_s: int, levels: Sequence[Level], grain_s: int) -> list[Span]:
    """Return the spans that together cover (start_s, end_s], oldest first, each read from one level.

    Args:
        levels: from the finest to the coarsest; empty ones have `since_s == until_s`.
        grain_s: no cell longer than this where finer ones are kept: what divides step and window of a chart.
    """
    finest = levels[0]
    if finest.since_s <= start_s < finest.until_s:
        return _span(finest, start_s, end_s)  # the ring alone: no question to the database
    return _cover(start_s, end_s, levels, grain_s)


def _cover(start_s: int, end_s: int, levels: Sequence[Level], grain_s: int) -> list[Span]:
    if start_s >= end_s or not levels:
        return []
    level, finer = levels[-1], levels[:-1]
    oldest_finer_s = min((each.since_s for each in finer if each.since_s < each.until_s), default=end_s)
    if level.step_s > grain_s:
        # Too coarse for the question; still all there is of the time before finer levels begin.
        reach_s = min(end_s, -(-oldest_finer_s // level.step_s) * level.step_s)
        old = _span(level, _floor(start_s, level), reach_s)
        return [*old, *_cover(old[-1].end_s if old else start_s, end_s, finer, grain_s)]
    # Where finer cells exist the edge is theirs; where they do not, the cell that holds the edge counts whole.
    begin_s = max(_floor(start_s, level) if start_s < oldest_finer_s else _ceil(start_s, level), level.since_s)
    over_s = min(_floor(end_s, level), level.until_s)
    if begin_s >= over_s:
        return _cover(start_s, end_s, finer, grain_s)
    left = _cover(start_s, begin_s, finer, grain_s)
    return [*left, Span(level, begin_s, over_s), *_cover(over_s, end_s, finer, grain_s)]


def _span(level: Level, start_s: int, end_s: int) -> list[Span]:
    begin_s = max(_ceil(start_s, level), level.since_s)
    over_s = min(_floor(end_s, level), level.until_s)
    return [Span(level, begin_s, over_s)] if begin_s < over_s else []


def _floor(at_s: int, level: Level) -> int:
    return at_s // level.step_s * level.step_s


def _ceil(at_s: int, level: Level) -> int:
    return -(-at_s // level.step_s) * level.step_s

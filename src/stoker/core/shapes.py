"""Which shapes of engine calls a new replica is warmed up with, from what calls of an endpoint's replicas took.

Some engines compile for each shape, grow their buffers or try algorithms when a shape comes first: whoever asks first
pays for all. With most engines the first call of a shape is like the others, and to make it in advance holds up a start
for nothing. So the first call in a process and those after it are timed apart, and only a shape whose first calls were
seen to take longer is worth a call before anybody waits.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from stoker.core.latency import Shapes
from stoker.types.shapes import Shape, ShapeCost, ShapeUse

WATCHED_MAX: Final = 64  # of one replica
KEPT_MAX: Final = 32  # of one endpoint
WARMED_MAX: Final = 8
WARM_S_MAX: Final = 10.0  # of all the calls together: a start is not held up for longer
AWAITED_S_MAX: Final = 2.0  # nor for longer than this where no other replica serves meanwhile
CALLS_MIN: Final = 3.0  # rarer ones are chance
COLD_RATIO: Final = 1.25  # a first call that takes so many times the others is cold; less is noise
COLD_S: Final = 0.01  # and what is not longer by this, nobody notices
HALF_LIFE_S: Final = 86_400.0  # of calls: what nobody sends for some days makes room


class _Calls:
    __slots__ = ("count", "first_s", "later", "later_s")

    def __init__(self, first_s: float) -> None:
        self.count = 0
        self.first_s = first_s
        self.later = 0
        self.later_s = 0.0


class Tally:
    """The engine calls of one process by shape, since they were taken last."""

    __slots__ = ("_calls", "_is_whole")

    def __init__(self) -> None:
        self._calls: dict[tuple[int, Shapes], _Calls] = {}
        self._is_whole = True  # every shape that ever came is known, so that an unknown one comes for the first time

    def warmed(self, rows: int, sizes: Shapes, seconds: float = 0.0) -> None:
        """Count the first call of a shape, that nobody asked for; without `seconds` it tells nothing of first calls."""
        self._known(rows, sizes, seconds)

    def knows(self, rows: int, sizes: Shapes) -> bool:
        """Return whether a shape was called already."""
        return (rows, sizes) in self._calls

    def called(self, rows: int, sizes: Shapes, seconds: float) -> None:
        """Count one call."""
        calls = self._calls.get((rows, sizes))
        if calls is not None:
            calls.count += 1
            calls.later += 1
            calls.later_s += seconds
        elif (begun := self._known(rows, sizes, seconds)) is not None:
            begun.count = 1

    def take(self) -> tuple[ShapeCost, ...]:
        """Return what was called since the last time, and begin anew."""
        called = {key: calls for key, calls in self._calls.items() if calls.count}
        found = tuple(
            ShapeCost(Shape(*key), calls.count, calls.first_s, calls.later_s / calls.later if calls.later else 0.0)
            for key, calls in called.items()
        )
        if len(self._calls) >= WATCHED_MAX:  # those that nobody asked for make room
            self._is_whole = self._is_whole and len(called) == len(self._calls)
            self._calls = called
        for calls in called.values():
            calls.count, calls.first_s, calls.later, calls.later_s = 0, 0.0, 0, 0.0
        return found

    def _known(self, rows: int, sizes: Shapes, first_s: float) -> _Calls | None:
        if len(self._calls) >= WATCHED_MAX:
            self._is_whole = False
            return None
        calls = self._calls[rows, sizes] = _Calls(first_s if self._is_whole else 0.0)
        return calls


def remember(known: Iterable[ShapeCost], told: Iterable[ShapeCost], passed_s: float) -> tuple[ShapeCost, ...]:
    """Return what is known of an endpoint's shapes once its replicas told more, the most called first.

    Args:
        passed_s: since `known` was; the calls in it count for less by then.
    """
    fade = 0.5 ** (max(passed_s, 0.0) / HALF_LIFE_S)
    costs = {each.shape: ShapeCost(each.shape, each.calls * fade, each.first_s, each.later_s) for each in known}
    for each in told:
        before = costs.get(each.shape)
        costs[each.shape] = each if before is None else _both(before, each)
    return tuple(sorted(costs.values(), key=_place)[:KEPT_MAX])


def to_warm(costs: Iterable[ShapeCost], *, is_awaited: bool = False) -> tuple[Shape, ...]:
    """Return the shapes worth a call before a replica is ready, the most called first.

    Args:
        is_awaited: nobody serves until it is ready.
    """
    found: list[Shape] = []
    left_s = AWAITED_S_MAX if is_awaited else WARM_S_MAX
    for each in sorted(costs, key=_place):
        if is_cold(each) and each.first_s <= left_s and len(found) < WARMED_MAX:
            found.append(each.shape)
            left_s -= each.first_s
    return tuple(found)


def uses(costs: Sequence[ShapeCost]) -> tuple[ShapeUse, ...]:
    """Return what is known, and whether the next replica is warmed up with it."""
    warmed = set(to_warm(costs))
    return tuple(ShapeUse(each.shape, each.calls, each.first_s, each.later_s, each.shape in warmed) for each in costs)


def is_cold(cost: ShapeCost) -> bool:
    """Return whether the first call of a shape was seen to take so much longer that somebody notices."""
    if cost.calls < CALLS_MIN or not cost.later_s:
        return False
    return cost.first_s >= max(COLD_RATIO * cost.later_s, cost.later_s + COLD_S)


def sizes_for(shape: Shape, free: Sequence[Sequence[int]]) -> Shapes | None:
    """Return the sizes of a row of each input of a model that may be called with `shape`; None when it may not.

    Args:
        free: those of the model, -1 where any size will do. Another revision may have been called with `shape`.
    """
    if not any(-1 in sizes for sizes in free):
        return tuple(map(tuple, free)) if not shape.sizes else None
    if [len(sizes) for sizes in shape.sizes] != [len(sizes) for sizes in free]:
        return None
    pairs = zip(chain.from_iterable(shape.sizes), chain.from_iterable(free), strict=True)
    return shape.sizes if all(wanted in (-1, given) for given, wanted in pairs) else None


def _both(before: ShapeCost, after: ShapeCost) -> ShapeCost:
    calls = before.calls + after.calls
    firsts = [each.first_s for each in (before, after) if each.first_s]
    laters = [(each.later_s, each.calls) for each in (before, after) if each.later_s]
    weight = sum([count for _, count in laters])
    return ShapeCost(
        after.shape,
        calls,
        sum(firsts) / len(firsts) if firsts else 0.0,
        sum([seconds * count for seconds, count in laters]) / weight if weight else 0.0,
    )


def _place(cost: ShapeCost) -> tuple[float, int, Shapes]:
    return (-cost.calls, cost.shape.rows, cost.shape.sizes)

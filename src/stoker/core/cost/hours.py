"""One hour of the whole platform as cost lines: of its timesheet, its pools' prices, and what was asked of engines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from stoker.core.cost import machines, timesheet
from stoker.core.cost.attribute import Window, Work, attribute, units
from stoker.core.cost.money import HOUR_MS
from stoker.core.cost.payers import assign
from stoker.core.cost.timesheet import Sheet
from stoker.types.costs import CostLine, LineKind, MachinePrice, PoolPrices, PriceList
from stoker.types.usage import Flag, Tags, UsageRecord

# Plain numbers: these are asked of every request, and an enum's `&` takes 0.4 µs.
_WASTED: Final[tuple[tuple[int, LineKind], ...]] = (
    (int(Flag.WASTED_TRY), "retries"),
    (int(Flag.WASTED_HEDGE), "hedges"),
    (int(Flag.WASTED_COPY), "shadow"),
)
_CACHED, _CANARY, _UNDONE = int(Flag.CACHED), int(Flag.CANARY), int(Flag.FAILED | Flag.CANCELLED)
FREE: Final = (MachinePrice(),)  # of a pool that nobody has priced: its hours are shown all the same


class Asked(msgspec.Struct, frozen=True):
    """What a revision's engine did for one key with one set of tags. project: where it was asked."""

    revision: str
    kind: LineKind
    project: str
    key: str
    tags: Tags


class Done(msgspec.Struct, frozen=True):
    """How much that was: service units by tokens, and microseconds of the engine."""

    units: int = 0
    compute_us: int = 0

    def __add__(self, other: "Done") -> "Done":
        return Done(self.units + other.units, self.compute_us + other.compute_us)


def kind_of(flags: int) -> LineKind:
    """Return what the work of a request was for, by its flags."""
    for flag, kind in _WASTED:
        if flags & flag:
            return kind
    if flags & _UNDONE:
        return "failed"
    return "canary" if flags & _CANARY else "requests"


def asked(records: Iterable[UsageRecord]) -> dict[tuple[int, Asked], Done]:
    """Return what engines did for `records`, by the hour's beginning (unix milliseconds) and for whom."""
    sums: dict[tuple[int, str, int, str, str, Tags], list[int]] = {}
    for each in records:
        done, compute_us = units(each.input_tokens, each.output_tokens, each.cached_tokens), each.compute_us
        if not (each.revision and (done or compute_us)) or each.flags & _CACHED:
            continue
        key = (each.at_ms // HOUR_MS, each.revision, each.flags, each.project, each.key, each.tags)
        both = sums.get(key)
        if both is None:
            sums[key] = [done, compute_us]
        else:
            both[0] += done
            both[1] += compute_us
    found: dict[tuple[int, Asked], Done] = defaultdict(Done)
    for (hour, revision, flags, project, key_id, tags), (done, compute_us) in sums.items():
        found[hour * HOUR_MS, Asked(revision, kind_of(flags), project, key_id, tags)] += Done(done, compute_us)
    return dict(found)


def works(done: Mapping[Asked, Done], projects: Mapping[str, str]) -> list[Work]:
    """Return the work of an hour. projects: of keys, by id; a key that is gone is paid for where it asked.

    A revision that reads or writes tokens is measured in them, every other one in its engine's time.
    """
    by_tokens = {asked.revision for asked, each in done.items() if each.units}
    return [
        Work(
            asked.revision,
            asked.kind,
            each.units if asked.revision in by_tokens else each.compute_us,
            projects.get(asked.key, asked.project),
            asked.key,
            asked.tags,
        )
        for asked, each in done.items()
    ]


def lines(sheet: Sheet, prices: PriceList, done: Sequence[Work], to_ms: int) -> list[CostLine]:
    """Return the lines of the sheet's hour, or of its part until `to_ms`, each with who pays it."""
    by_pool = {each.pool: each for each in prices.pools}
    found: list[CostLine] = []
    for pool in sorted(by_pool.keys() | {each.pool for each in sheet.nodes.values()}):
        priced = by_pool.get(pool, PoolPrices(FREE, pool))
        found += assign(attribute(window(sheet, priced, done, to_ms)), priced)
    return found


def window(sheet: Sheet, prices: PoolPrices, done: Sequence[Work], to_ms: int) -> Window:
    """Return what one pool cost in the sheet's hour until `to_ms`, and what it was busy with."""
    present, nodes, replicas = timesheet.of_pool(sheet, prices.pool)
    cost = machines.over(prices, present, sheet.hour_ms, to_ms)
    rate = machines.replica(prices, sheet.hour_ms, sheet.hour_ms + HOUR_MS)  # prices change at midnight, so never in it
    dearer = (msgspec.structs.replace(each, extra=rate * each.held_ms // HOUR_MS) for each in replicas)
    return Window(prices.pool, cost, nodes, tuple(dearer), tuple(done))


def total(window: Window) -> int:
    """Return what the machines and replicas of a window cost in nano-dollars: the sum of its lines."""
    return window.cost.total + sum(each.extra for each in window.replicas)

"""What nodes and replicas did with their time, hour by hour, from looks at the fleet every few seconds.

A sheet is of one hour. Between two looks everything is taken to be as the later one shows it; what an engine worked is
what its own counter grew by. A look that comes too late says nothing of the time between: no machine is counted in it.
Pure: a sheet goes in and a new one comes out, so that it can be stored at any moment.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from stoker.core.capacity import MILLI, Capacity
from stoker.core.cost.attribute import ReplicaTime
from stoker.core.cost.machines import Present
from stoker.core.cost.money import HOUR_MS

GAP_MAX_MS: Final = 600_000  # control was down for longer: perhaps the machines were off
HOURS_MAX: Final = 31 * 24  # of a gap, that are told of: what is reserved is paid in them too
PAUSE_MS: Final = 60_000  # an endpoint that might sleep and had no work for so long is kept warm


class SeenReplica(msgspec.Struct, frozen=True):
    """A replica as one look shows it.

    holds: what it takes of its node, with no time yet. may_sleep: its endpoint goes to zero where nobody calls.
    since_s: when its process started; busy_s: of that process, how long its engine worked.
    """

    holds: ReplicaTime
    is_ready: bool
    may_sleep: bool = False
    since_s: float = 0.0
    busy_s: float = 0.0


class Look(msgspec.Struct, frozen=True):
    """The fleet at one moment. A replica is on one of the nodes."""

    at_ms: int
    nodes: tuple[Capacity, ...]
    replicas: tuple[SeenReplica, ...]


class Engine(msgspec.Struct, frozen=True):
    """What is remembered of a replica's engine. due_ms: work that the counter told of and no time is given to yet."""

    since_s: float
    busy_s: float
    due_ms: float = 0.0


class Sheet(msgspec.Struct, frozen=True):
    """One hour so far, by node and by replica. worked_ms: when each endpoint (project, name) was at work last."""

    hour_ms: int
    at_ms: int
    nodes: dict[str, Capacity] = {}
    present: dict[str, Present] = {}
    replicas: dict[str, ReplicaTime] = {}
    engines: dict[str, Engine] = {}
    worked_ms: dict[str, int] = {}


def begin(at_ms: int) -> Sheet:
    """Return the sheet of somebody who has seen nothing yet."""
    return Sheet(at_ms - at_ms % HOUR_MS, at_ms)


def look(sheet: Sheet, seen: Look) -> tuple[Sheet, tuple[Sheet, ...]]:
    """Return the sheet with the time until `seen`, and the hours that ended meanwhile, those without a machine too.

    A clock that was set back adds nothing until it is where it was; where it went back by an hour or more, the sheet
    begins anew there and the old one is ended.
    """
    if seen.at_ms < sheet.hour_ms:
        return _follow(begin(seen.at_ms), seen), (sheet,)
    if seen.at_ms < sheet.at_ms:
        return sheet, ()
    ended: list[Sheet] = []
    is_gap = seen.at_ms - sheet.at_ms > GAP_MAX_MS
    while seen.at_ms >= sheet.hour_ms + HOUR_MS:
        end_ms = sheet.hour_ms + HOUR_MS
        ended.append(sheet if is_gap else _spend(sheet, seen, end_ms))
        end_ms = max(end_ms, seen.at_ms - seen.at_ms % HOUR_MS - HOURS_MAX * HOUR_MS)
        sheet = Sheet(end_ms, end_ms, engines=ended[-1].engines, worked_ms=ended[-1].worked_ms)
    if is_gap:
        sheet = msgspec.structs.replace(sheet, at_ms=seen.at_ms)
    elif seen.at_ms > sheet.at_ms:
        sheet = _spend(sheet, seen, seen.at_ms)
    return _follow(sheet, seen), tuple(ended)


def _spend(sheet: Sheet, seen: Look, to_ms: int) -> Sheet:
    """Give the time until `to_ms` to what is seen."""
    from_ms = sheet.at_ms
    present = dict(sheet.present)
    for node in seen.nodes:
        known = present.get(node.node, Present(node.node, ()))
        present[node.node] = Present(node.node, _extended(known.spans, from_ms, to_ms), max(known.gpus, node.gpus))
    replicas, engines, worked_ms = dict(sheet.replicas), dict(sheet.engines), dict(sheet.worked_ms)
    for each in seen.replicas:
        name, endpoint = each.holds.replica, f"{each.holds.project}/{each.holds.endpoint}"
        busy_ms, engines[name] = _worked(engines.get(name), each, from_ms, to_ms)
        if busy_ms or not each.is_ready:
            worked_ms[endpoint] = to_ms
        is_warm = each.may_sleep and not busy_ms and to_ms - worked_ms.get(endpoint, from_ms) > PAUSE_MS
        replicas[name] = _with(replicas.get(name, each.holds), each, to_ms - from_ms, busy_ms, is_warm=is_warm)
    nodes = sheet.nodes | {node.node: node for node in seen.nodes}
    return Sheet(sheet.hour_ms, to_ms, nodes, present, replicas, engines, worked_ms)


def _follow(sheet: Sheet, seen: Look) -> Sheet:
    """Forget the engines and pauses of what is not there any more, and know the new ones."""
    engines = {
        each.holds.replica: sheet.engines.get(each.holds.replica) or Engine(each.since_s, each.busy_s)
        for each in seen.replicas
    }
    there = {f"{each.holds.project}/{each.holds.endpoint}" for each in seen.replicas}
    worked_ms = {name: sheet.worked_ms.get(name, seen.at_ms) for name in there}
    return msgspec.structs.replace(sheet, engines=engines, worked_ms=worked_ms)


def _extended(spans: tuple[tuple[int, int], ...], from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
    if spans and spans[-1][1] == from_ms:
        return (*spans[:-1], (spans[-1][0], to_ms))
    return (*spans, (from_ms, to_ms))


def _worked(known: Engine | None, seen: SeenReplica, from_ms: int, to_ms: int) -> tuple[int, Engine]:
    """Return for how much of the time the engine worked, and what to remember of it.

    What a process did that started before and is seen for the first time was not in this time.
    """
    if known is not None and known.since_s == seen.since_s:
        before_s = known.busy_s
    else:
        before_s = 0.0 if seen.since_s * 1000.0 >= from_ms else seen.busy_s
    after_s = max(before_s, seen.busy_s)  # an agent that was just restarted has heard nothing from it yet
    due_ms = (known.due_ms if known is not None else 0.0) + (after_s - before_s) * 1000.0
    busy_ms = min(int(due_ms), to_ms - from_ms) if seen.is_ready else 0
    return busy_ms, Engine(seen.since_s, after_s, min(due_ms - busy_ms, float(GAP_MAX_MS)))


def _with(known: ReplicaTime, seen: SeenReplica, length_ms: int, busy_ms: int, *, is_warm: bool) -> ReplicaTime:
    """Return the replica's time with `length_ms` more."""
    rest_ms = length_ms - busy_ms
    if not seen.is_ready:
        return msgspec.structs.replace(known, starting_ms=known.starting_ms + length_ms)
    if is_warm:
        return msgspec.structs.replace(known, warm_ms=known.warm_ms + rest_ms)
    return msgspec.structs.replace(known, busy_ms=known.busy_ms + busy_ms, idle_ms=known.idle_ms + rest_ms)


def of_pool(sheet: Sheet, pool: str) -> tuple[tuple[Present, ...], tuple[Capacity, ...], tuple[ReplicaTime, ...]]:
    """Return the part of the sheet that is of one pool."""
    nodes: Mapping[str, Capacity] = {name: each for name, each in sheet.nodes.items() if each.pool == pool}
    replicas: Iterable[ReplicaTime] = (each for each in sheet.replicas.values() if each.node in nodes)
    return tuple(sheet.present[name] for name in nodes), tuple(nodes.values()), tuple(replicas)


def held_gpus(sheet: Sheet) -> dict[str, int]:
    """Return how long replicas held GPUs, by project: a whole GPU for a millisecond is 1."""
    found: dict[str, int] = {}
    for each in sheet.replicas.values():
        if each.gpus:
            thousandths = len(each.gpus) * each.gpu_milli
            found[each.project] = found.get(each.project, 0) + each.held_ms * thousandths // MILLI
    return found

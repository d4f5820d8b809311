"""A platform to simulate, as people write it: the schema of `stoker simulate --plan`, and what it means."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stoker.core.capacity import Capacity
from stoker.sim import arrivals, traces
from stoker.sim.calendar import Calendar, moment
from stoker.sim.endpoint import Terms
from stoker.sim.platform import plan
from stoker.sim.policies import named
from stoker.sim.service import Drawn
from stoker.types.errors import InvalidInput
from stoker.types.fields import Bytes, Seconds
from stoker.types.ids import NodeName
from stoker.types.keys import PRIORITIES, Priority
from stoker.types.rollouts import Rollout
from stoker.types.scaling import Schedule
from stoker.types.units import parse_bytes, parse_seconds


class Places(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many requests at once, each for itself. variation: standard deviation by mean, 1 is exponential."""

    places: int = 4
    service: Seconds = "400ms"
    variation: float = 1.0


class Batches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One batch after the other, each for base + row × rows."""

    base: Seconds = "4ms"
    row: Seconds = "0.5ms"
    rows: int = 32


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language model: sequences at once, time of a step (and of each in it), tokens/s read, prompt blocks kept."""

    slots: int = 16
    step: Seconds = "20ms"
    sequence: Seconds = "0.6ms"
    read_tokens_per_s: float = 5000.0
    chunk_tokens: int = 512
    cache_blocks: int = 200


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How work takes time in a replica: one of the three; places where none is said."""

    places: Places | None = None
    batches: Batches | None = None
    language: Language | None = None


class Tenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who calls. share: of the requests, against the others'."""

    name: str
    share: float = 1.0
    weight: float = 1.0
    priority: Priority = "standard"


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint: a load or a trace, an engine, how it scales, what a replica takes."""

    name: str
    load: str = ""
    trace: str = ""
    times: float = 1.0
    engine: Engine = Engine()
    policy: str = "stoker"
    cold_start: Seconds = "40s"
    min: int = 1
    max: int = 20
    schedules: tuple[Schedule, ...] = ()
    cores: float = 1.0
    memory: Bytes = "1Gi"
    deadline: Seconds | None = None
    queue_max: int = 100_000
    tenants: tuple[Tenant, ...] = (Tenant("all"),)


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many nodes of one kind, called node-0, node-1 …"""

    count: int
    cores: float
    memory: Bytes


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What breaks when: a replica of an endpoint crashes, or a node goes dark for so long."""

    at: Seconds
    replica: str = ""
    node: str = ""
    lasts: Seconds | None = None


class NewRevision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new revision of an endpoint, rolled out from `at` on. error_ratio: of its answers, beside the platform's."""

    endpoint: str
    at: Seconds
    rollout: Rollout = Rollout(strategy="canary")
    slower: float = 1.0
    error_ratio: float = 0.0
    slow: Seconds | None = None


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. begins: when that is, for schedules: `mon 08:00`, with a zone where it is not UTC, or a date."""

    endpoints: tuple[Endpoint, ...]
    seed: int = 1
    begins: str = "mon 00:00"
    gateways: int = 1
    duration: Seconds = "1h"
    nodes: Nodes | None = None
    faults: tuple[Fault, ...] = ()
    rollouts: tuple[NewRevision, ...] = ()
    error_ratio: float = 0.0


def read(tree: Any, folder: Path) -> plan.PlatformPlan:
    """Return what `tree` (of YAML) describes; traces are looked for from `folder`. Raises InvalidInput."""
    try:
        said = msgspec.convert(tree, Platform)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"the plan is wrong: {wrong}") from wrong
    try:
        return _plan(said, folder)
    except ValueError as wrong:
        raise InvalidInput(f"the plan is wrong: {wrong}") from wrong


def _plan(said: Platform, folder: Path) -> plan.PlatformPlan:
    endpoints = {each.name: each for each in said.endpoints}
    if not endpoints or len(endpoints) != len(said.endpoints):
        raise ValueError("endpoints needs at least one, each with a name of its own")
    moment(said.begins)  # also where no schedule asks for it
    kinds = said.nodes or Nodes(0, 0.0, "1Gi")
    nodes = tuple(
        Capacity(NodeName(f"node-{number}"), kinds.cores, parse_bytes(kinds.memory)) for number in range(kinds.count)
    )
    known = {str(each.node) for each in nodes}
    return plan.PlatformPlan(
        endpoints=tuple(_endpoint(each, said, folder) for each in said.endpoints),
        gateways=max(said.gateways, 1),
        nodes=nodes,
        faults=tuple(_fault(each, endpoints, known) for each in said.faults),
        rollouts=tuple(_rollout(each, endpoints) for each in said.rollouts),
        error_ratio=said.error_ratio,
        seed=said.seed,
    )


def _endpoint(said: Endpoint, platform: Platform, folder: Path) -> plan.EndpointPlan:
    if bool(said.load) == bool(said.trace):
        raise ValueError(f"endpoint {said.name} needs a load or a trace, one of them")
    if said.min > said.max:
        raise ValueError(f"endpoint {said.name}: min {said.min} is more than max {said.max}")
    if said.trace:
        came = traces.read(folder / said.trace)
    elif said.load in arrivals.LOADS:
        came = arrivals.make(said.load, platform.seed, parse_seconds(platform.duration), said.times)
    else:
        raise ValueError(f"{said.load!r} is no load; there are {', '.join(arrivals.LOADS)}")
    if any(each.min is None and each.max is None for each in said.schedules):
        raise ValueError(f"endpoint {said.name}: a schedule has min, max or both")
    calendar = Calendar(said.schedules, moment(platform.begins)) if said.schedules else None
    engine = engine_of(said.engine, said.name)
    slots = engine.places if isinstance(engine, plan.Places) else 1
    return plan.EndpointPlan(
        name=said.name,
        arrivals=came,
        engine=engine,
        terms=Terms(slots, parse_seconds(said.cold_start), said.min, said.max, calendar=calendar),
        policy=named(said.policy),
        tenants=tuple(
            plan.Tenant(each.name, each.share, each.weight, PRIORITIES.index(each.priority)) for each in said.tenants
        ),
        deadline_s=math.inf if said.deadline is None else parse_seconds(said.deadline),
        queue_max=said.queue_max,
        cores=said.cores,
        memory_bytes=parse_bytes(said.memory),
    )


def engine_of(said: Engine, name: str) -> plan.Engine:
    """Return the engine of the endpoint `name`. Raises ValueError when it is not one of the three."""
    chosen = [each for each in (said.places, said.batches, said.language) if each is not None] or [Places()]
    if len(chosen) > 1:
        raise ValueError(f"endpoint {name} has one engine: places, batches or language")
    match chosen[0]:
        case Places() as one:
            return plan.Places(one.places, Drawn(parse_seconds(one.service), one.variation))
        case Batches() as one:
            return plan.Batching(parse_seconds(one.base), parse_seconds(one.row), one.rows)
        case Language() as one:
            step_s, sequence_s = parse_seconds(one.step), parse_seconds(one.sequence)
            return plan.Generating(
                one.slots, step_s, sequence_s, 1.0 / one.read_tokens_per_s, one.chunk_tokens, one.cache_blocks
            )


def _fault(said: Fault, endpoints: Mapping[str, Endpoint], nodes: set[str]) -> plan.Fault:
    if bool(said.replica) == bool(said.node):
        raise ValueError("a fault names a replica's endpoint or a node, one of them")
    target, known = (said.replica, set(endpoints)) if said.replica else (said.node, nodes)
    if target not in known:
        raise ValueError(f"a fault names {target!r}; there are {', '.join(sorted(known)) or 'no nodes'}")
    lasts_s = math.inf if said.lasts is None else parse_seconds(said.lasts)
    return plan.Fault("replica" if said.replica else "node", parse_seconds(said.at), target, lasts_s)


def _rollout(said: NewRevision, endpoints: Mapping[str, Endpoint]) -> plan.RolloutPlan:
    if said.endpoint not in endpoints:
        raise ValueError(f"a rollout names {said.endpoint!r}; there are {', '.join(endpoints)}")
    slow_s = 0.0 if said.slow is None else parse_seconds(said.slow)
    at_s = parse_seconds(said.at)
    return plan.RolloutPlan(said.endpoint, at_s, said.rollout, said.slower, said.error_ratio, slow_s)

"""What a platform measured of an endpoint that might cost less, and what comes of it: `stoker costs advise`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stoker.cli import plan_change
from stoker.cli.plan_platform import History, Known, Query, ask
from stoker.core.cost import fit
from stoker.core.cost.report import Report
from stoker.core.scale.policy import policy_of
from stoker.sim.sizing import slos
from stoker.sim.sizing.advice import Advice, Effect, Told, Way, advise
from stoker.sim.sizing.prices import HOURS_OF_MONTH
from stoker.sim.sizing.trial import COLD_START_S, Kind
from stoker.types.errors import InvalidInput
from stoker.types.process import NodeStatus
from stoker.types.resources import Endpoint, EndpointSpec, Resources
from stoker.types.units import parse_bytes, parse_seconds

HOURS_MIN: Final = 1.0  # of which less than that is known is left as it is
SURE_DAYS: Final = 3.0
SURE_REQUESTS: Final = 1000
FEW_REQUESTS: Final = 50
REPLICAS_MAX: Final = 64
MEBI: Final = 1 << 20


class Advised(msgspec.Struct, frozen=True):
    """What to change at one endpoint: settings such as `replicas.min=0`, and what that comes to.

    saves_per_month: dollars, where its pool has a price, else replica-hours; below 0 where a promise needs more. now,
    then: as simulated; None where nothing could be. because: what it rests on.
    """

    project: str
    endpoint: str
    settings: tuple[str, ...] = ()
    was: tuple[str, ...] = ()
    saves_per_month: float = 0.0
    is_priced: bool = False
    now: Effect | None = None
    then: Effect | None = None
    promises: tuple[str, ...] = ()
    confidence: str = "low"
    requests: int = 0
    days: float = 0.0
    because: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Used:
    """What a replica used at the most: bytes, and cores over a minute; 0 where nobody knows. hours: that are known."""

    memory_bytes: int
    cores: float
    hours: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What an endpoint's replicas cost: dollars an hour of one, and the share of their time by kind of cost."""

    usd_per_hour: float
    kinds: dict[str, float]


def spent(report: Report, project: str, name: str) -> Spent:
    """Return what `report`, by project, endpoint and kind, says of an endpoint."""
    rows = [row for row in report.items if (row.by["project"], row.by["endpoint"]) == (project, name)]
    machine_s = sum(row.machine_s for row in rows)
    nano_usd = sum(row.nano_usd for row in rows)
    kinds = {row.by["kind"]: row.machine_s / machine_s for row in rows} if machine_s else {}
    return Spent(nano_usd / 1e9 / machine_s * 3600.0 if machine_s else 0.0, kinds)


def advised(
    query: Query,
    resource: Endpoint,
    costs: Spent,
    nodes: Sequence[NodeStatus],
    *,
    days: int,
    seed: int = 0,
    told: Told | None = None,
) -> Advised:
    """Return what to do with an endpoint, after what its platform measured of it in so many days."""
    project, name, spec = str(resource.metadata.project), str(resource.metadata.name), resource.spec
    plain = Advised(project, name, is_priced=costs.usd_per_hour > 0.0)
    if spec.backends or spec.scaling.schedules or not spec.replicas.max:
        words = "it has no replicas"
        if spec.scaling.schedules:
            words = "it has schedules; `stoker plan --set` compares those with others"
        return msgspec.structs.replace(plain, because=(words,))
    history = History(query, project, name, days)
    used = _used(history, spec)
    memory = _memory(spec.resources, used)
    try:
        known = ask(query, spec, project, name, seed, least=1, days=days, is_whole=True)
    except InvalidInput as little:
        return _unused(plain, spec, costs, history, little)
    biggest = _biggest(nodes, spec)

    def fewer(cores: float) -> tuple[float, float]:
        tried = fit.cores(cores, used.cores) if used.hours >= HOURS_MIN else cores
        return tried, fit.share((tried, memory), biggest)

    now = _way(spec, fit.share((spec.resources.cpu, parse_bytes(spec.resources.memory)), biggest))
    found = advise(
        _kind(spec, known), now, known.recorded, replicas_max=REPLICAS_MAX, fewer=fewer, seed=seed, told=told
    )
    return _told(plain, spec, found, known, costs, used, memory, fit.share((spec.resources.cpu, memory), biggest))


def patched(resource: Endpoint, settings: Sequence[str]) -> Endpoint:
    """Return the manifest with `settings`."""
    tree: dict[str, Any] = msgspec.to_builtins(resource.spec)
    for setting in settings:
        path, _, text = setting.partition("=")
        *parents, last = path.split(".")
        place = tree
        for each in parents:
            place = place[each]
        place[last] = None if text == "null" else _number(text)
    return msgspec.structs.replace(resource, spec=msgspec.convert(tree, EndpointSpec))


def _number(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _kind(spec: EndpointSpec, known: Known) -> Kind:
    return Kind(
        known.engine,
        slos.promised(spec.slos),
        known.cold_start_s or COLD_START_S,
        spec.resources.cpu,
        # A share of places that the endpoint has of its own is of its range (`_way`).
        msgspec.structs.replace(policy_of(spec, gateways=1), schedules=(), utilization=0.0),
        parse_seconds(spec.limits.timeout),
        spec.limits.queue_max,
        known.around_s,
    )


def _way(spec: EndpointSpec, share: float) -> Way:
    timeout_s = None if spec.scaling.waiting_worth else parse_seconds(spec.scaling.idle_timeout)
    return Way(plan_change.range_of(spec), timeout_s, spec.resources.cpu, share)


def _used(history: History, spec: EndpointSpec) -> Used:
    memory = history.minutes("max by () (stoker_replica_memory_bytes{}[1m])")
    busy = history.minutes("max by () (rate by (replica) (stoker_replica_cpu_seconds_total{}[1m]))")
    return Used(int(max(memory, default=0.0)), max(busy, default=0.0), sum(each > 0 for each in memory) / 60.0)


def _memory(resources: Resources, used: Used) -> int:
    given = parse_bytes(resources.memory)
    return fit.memory(given, used.memory_bytes) if used.hours >= HOURS_MIN else given


def _biggest(nodes: Sequence[NodeStatus], spec: EndpointSpec) -> tuple[float, int]:
    """Return the cores and memory of the largest node; without one (who asks may not see them), what a replica has."""
    found = max(((each.cores, each.memory_bytes) for each in nodes), default=(0.0, 0))
    return found if found[0] else (spec.resources.cpu, parse_bytes(spec.resources.memory))


def _unused(plain: Advised, spec: EndpointSpec, costs: Spent, history: History, little: InvalidInput) -> Advised:
    """Return the advice for an endpoint that nobody called, or of whose engine nothing is known."""
    counts = history.minutes("increase by () (stoker_requests_total{}[1m])")
    replicas = history.minutes("sum by () (stoker_replicas{})")
    hours = sum(each > 0 for each in replicas) / 60.0
    if any(counts) or hours < HOURS_MIN or not spec.replicas.min:
        said = little.message.partition(": give ")[0]  # options of `stoker plan`
        if not any(counts) and hours < HOURS_MIN:
            said += (
                f"; its replicas were seen for {hours:.1f} h; from {HOURS_MIN:g} h on it is said whether it may sleep"
            )
        return msgspec.structs.replace(plain, because=(said,))
    start_s = history.now("quantile by () (0.5, stoker_cold_start_seconds{phase='total'}[1d])") or COLD_START_S
    waits = f"who calls next waits {start_s:.3g} s for a replica"
    late = [each for each in slos.promised(spec.slos) if each.limit_s < start_s]
    if late:
        why = f"nobody called it in {hours:.0f} h; but asleep it would break {late[0].name}: {waits}"
        return msgspec.structs.replace(plain, because=(why,), days=hours / 24.0)
    saved_hours = spec.replicas.min * HOURS_OF_MONTH
    return msgspec.structs.replace(
        plain,
        settings=("replicas.min=0",),
        was=(str(spec.replicas.min),),
        saves_per_month=saved_hours * (costs.usd_per_hour if plain.is_priced else 1.0),
        days=hours / 24.0,
        confidence="high" if hours >= SURE_DAYS * 24.0 else "low",
        because=(f"nobody called it in {hours:.0f} h; {waits}",),
    )


def _told(
    plain: Advised,
    spec: EndpointSpec,
    found: Advice,
    known: Known,
    costs: Spent,
    used: Used,
    memory: int,
    share_less: float,
) -> Advised:
    then = found.then or found.now
    # What memory alone gives back comes on top of what was simulated, which it does not change.
    share = min(then.share, share_less) if found.then is None else then.share
    settings = _settings(spec, then, memory)
    now_h = found.now_effect.replica_hours_per_month
    then_h = (found.then_effect or found.now_effect).replica_hours_per_month * share / max(found.now.share, 1e-9)
    days = known.recorded.duration_s / 86_400.0
    is_sure = found.requests >= SURE_REQUESTS and days >= SURE_DAYS
    is_thin = found.requests < FEW_REQUESTS or days < 0.5
    return msgspec.structs.replace(
        plain,
        settings=tuple(f"{path}={value}" for path, _, value in settings),
        was=tuple(before for _, before, _ in settings),
        saves_per_month=(now_h - then_h) * (costs.usd_per_hour if plain.is_priced else 1.0) if settings else 0.0,
        now=found.now_effect,
        then=found.then_effect,
        promises=tuple(f"{each.name}={each.limit_s:g}s" for each in found.slos),
        confidence="high" if is_sure else "low" if is_thin else "medium",
        requests=found.requests,
        days=days,
        because=_because(found, known, costs, used),
    )


def _settings(spec: EndpointSpec, then: Way, memory: int) -> list[tuple[str, str, str]]:
    """Return what changes: path, before, after."""
    before = _way(spec, 1.0)
    pairs: list[tuple[str, Any, Any]] = [
        ("replicas.min", before.range.min, then.range.min),
        ("replicas.max", before.range.max, then.range.max),
        ("scaling.utilization", before.range.utilization, then.range.utilization),
        ("resources.cpu", before.cores, then.cores),
    ]
    if then.range.min == 0 and then.idle_timeout_s is not None:
        pairs.insert(3, ("scaling.idle_timeout", f"{before.idle_timeout_s or 0:g}s", f"{then.idle_timeout_s:g}s"))
    if memory != parse_bytes(spec.resources.memory):
        pairs.append(("resources.memory", spec.resources.memory, f"{memory // MEBI}Mi"))
    return [(path, _say(was), _say(to)) for path, was, to in pairs if was != to]


def _say(value: object) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _because(found: Advice, known: Known, costs: Spent, used: Used) -> tuple[str, ...]:
    lines = list(known.said)
    if costs.kinds:
        most = sorted(costs.kinds.items(), key=lambda pair: -pair[1])[:3]
        lines.append("its replicas' time: " + ", ".join(f"{kind} {part * 100:.0f} %" for kind, part in most))
    if used.hours:
        lines.append(f"a replica used up to {used.memory_bytes / MEBI:,.0f} MiB and {used.cores:.2g} cores")
    if not found.is_promised:
        lines.append("it promises no latency: held to what it would do with replicas to spare")
    elif not found.is_kept:
        lines.append("as it is, it does not keep what it promises")
    if found.why:
        lines.append(found.why)
    return tuple(lines)

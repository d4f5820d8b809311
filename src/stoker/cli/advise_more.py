"""What a platform measured of its pools, its engines, and who answers for whom, for `stoker costs advise`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stoker.cli.plan_platform import Query
from stoker.client import costs, usage
from stoker.core.cost import hints
from stoker.core.cost.hints import Hint, Other, Own, Pool, Size
from stoker.core.cost.report import BUSY, EndpointCosts, Report
from stoker.core.pricing import FREE, Work, card_at, cards_of
from stoker.sim.sizing import slos
from stoker.types.costs import MachinePrice, PriceList
from stoker.types.days import DAY_S, parse_day
from stoker.types.errors import Forbidden
from stoker.types.prices import Card, PriceBook, parse_dollars
from stoker.types.process import NodeStatus
from stoker.types.resources import EndpointSpec
from stoker.types.units import parse_bytes

if TYPE_CHECKING:
    from stoker.client.control import ControlClient
    from stoker.types.statuses import EndpointView

REMOTE: Final = "openai"  # the engine whose work somebody else does, and bills
LOADED: Final = "overload|timeout"  # reasons to fall back that room of one's own would have spared


@dataclass(frozen=True, slots=True)
class Seen:
    """What was asked for once: for how long anything is known; the most replicas by endpoint; nodes, each STEP_S."""

    days: int
    seconds: int
    replicas: Mapping[tuple[str, str], int]
    nodes: Mapping[str, list[bool]]


def advised(
    control: "ControlClient",
    views: "Sequence[EndpointView]",
    nodes: Sequence[NodeStatus],
    report: Report,
    *,
    days: int,
    is_everything: bool,
) -> list[Hint]:
    """Return the hints, what saves most first. is_everything: `views` are all endpoints; else pools are left out."""
    seen = look(control.query, days)
    found = pool_hints(views, nodes, _price_list(control), seen, report.to_s) if is_everything and nodes else []
    found += engine_hints(control, views, report, seen)
    found += fallback_hints(control, views, report, seen)
    return sorted(found, key=lambda each: (-each.saves_micro_usd, each.about))


def look(query: Query, days: int) -> Seen:
    """Return replicas and nodes of the last days."""
    there = query("max by (node) (stoker_node_cores)", since_s=days * DAY_S, step_s=hints.STEP_S)
    counts = query("sum by (project, endpoint) (stoker_replicas)", since_s=days * DAY_S, step_s=hints.STEP_S)
    nodes = {line.labels["node"]: [value is not None for value in line.values] for line in there.lines}
    most = {
        (line.labels["project"], line.labels["endpoint"]): int(max((each or 0.0 for each in line.values), default=0.0))
        for line in counts.lines
    }
    seconds = sum(any(each) for each in zip(*nodes.values(), strict=True)) * hints.STEP_S
    return Seen(days, seconds, most, nodes)


def pool_hints(
    views: "Sequence[EndpointView]", nodes: Sequence[NodeStatus], prices: PriceList, seen: Seen, now_s: float
) -> list[Hint]:
    """Return what to change about pools that have a price."""
    known = []
    for each in prices.pools:
        here = [node for node in nodes if node.pool == each.pool]
        mine = [view for view in views if view.resource.spec.placement.pool == each.pool]
        replicas = [
            size
            for view in mine
            for size in [_size(view.resource.spec)]
            * max(seen.replicas.get((view.project, view.name), 0), view.resource.spec.replicas.min)
        ]
        looks = zip(*(seen.nodes[node.node] for node in here if node.node in seen.nodes), strict=True)
        counted = [sum(each) for each in looks]
        known.append(
            Pool(
                each.pool,
                _price_now(each.prices, now_s),
                tuple(Size(node.cores, node.memory_bytes, node.gpus) for node in here),
                tuple(replicas),
                tuple(counted[next((at for at, count in enumerate(counted) if count), len(counted)) :]),
                not any(view.resource.spec.placement.apart or _must_spread(view.resource.spec) for view in mine),
            )
        )
    return hints.pools(known)


def engine_hints(control: "ControlClient", views: "Sequence[EndpointView]", report: Report, seen: Seen) -> list[Hint]:
    """Return cheaper engines of endpoints whose engines were measured against each other."""
    found = []
    for view in views:
        if view.resource.spec.engine != "auto" or not seen.seconds:
            continue
        detail = control.endpoint(str(view.project), str(view.name))
        choice = next((each.choice for each in detail.replicas if each.choice is not None), None)
        busy = sum(
            row.nano_usd
            for row in report.items
            if (row.by["project"], row.by["endpoint"]) == (view.project, view.name) and row.by["kind"] in BUSY
        )
        under_s: dict[str, float] = {each.measure: each.limit_s for each in slos.promised(view.resource.spec.slos)}
        monthly = busy * hints.MONTH_S // (seen.seconds * hints.NANO_PER_MICRO)
        hint = hints.engine(_name(view), choice, under_s, monthly) if choice is not None else None
        found += [hint] if hint is not None else []
    return found


def fallback_hints(control: "ControlClient", views: "Sequence[EndpointView]", report: Report, seen: Seen) -> list[Hint]:
    """Return who could answer instead, of endpoints that fall back to somebody who is paid."""
    by_name = {(str(view.project), str(view.name)): view for view in views}
    spent = {(each.project, each.endpoint): each for each in report.endpoints}
    book: PriceBook | None = None
    found: list[Hint | None] = []
    for (project, name), view in by_name.items():
        others = [by_name.get((project, str(each))) for each in view.resource.spec.fallback]
        costs_of = spent.get((project, name))
        for other in others:
            if other is None or costs_of is None or not _is_remote(other.resource.spec):
                continue
            book = book or usage.prices(control.connection)
            card = _card(other.resource.spec, book, report.to_s)
            if card == FREE or _is_remote(view.resource.spec):
                continue
            moved, loaded = _moved(control, view, str(other.name), seen.days)
            own = _own(view, costs_of, seen.seconds, moved, loaded)
            who = Other(_name(other), card, _p95(control, other, seen.days))
            found += [hints.idle_own(own, who), hints.rented(own, who)]
    return [each for each in found if each is not None]


def _own(view: "EndpointView", spent: EndpointCosts, seen_s: int, moved: int, loaded: int) -> Own:
    promised = [each.limit_s for each in slos.promised(view.resource.spec.slos) if each.measure == "latency"]
    count = max(spent.requests, 1)
    return Own(
        _name(view),
        seen_s,
        max(spent.requests - moved, 0),
        loaded,
        Work(spent.input_tokens // count, 0, spent.output_tokens // count),
        parse_dollars(spent.usd) // hints.NANO_PER_MICRO,
        spent.idle_ratio or 0.0,
        min(promised, default=None),
    )


def _moved(control: "ControlClient", view: "EndpointView", to: str, days: int) -> tuple[int, int]:
    """Return how many requests went on to `to`: for any reason, and for too much load or time."""
    whose = f'project="{view.project}",endpoint="{view.name}",to="{to}"'
    every = _now(control, f"increase by () (stoker_fallbacks_total{{{whose}}}[{days}d])")
    loaded = _now(control, f'increase by () (stoker_fallbacks_total{{{whose},reason=~"{LOADED}"}}[{days}d])')
    return int(every), int(loaded)


def _p95(control: "ControlClient", view: "EndpointView", days: int) -> float | None:
    whose = f'{{project="{view.project}",endpoint="{view.name}"}}[{days}d]'
    if _now(control, f"increase by () (stoker_request_duration_seconds{whose})") < hints.REQUESTS_MIN:
        return None
    return _now(control, f"quantile by () (0.95, stoker_request_duration_seconds{whose})") or None


def _now(control: "ControlClient", text: str) -> float:
    lines = control.query(text).lines
    return (lines[0].values[-1] or 0.0) if lines else 0.0


def _card(spec: EndpointSpec, book: PriceBook, now_s: float) -> Card:
    if spec.price is not None:
        return spec.price.card()
    models = (str(spec.model or "").partition("@")[0], str(spec.options.get("model", "")))
    return card_at(cards_of(book.prices, models=models, engine=REMOTE, task=spec.task or "chat"), now_s)


def _is_remote(spec: EndpointSpec) -> bool:
    return spec.engine == REMOTE or (spec.engine is None and "api_key" in spec.options)


def _size(spec: EndpointSpec) -> Size:
    return Size(spec.resources.cpu, parse_bytes(spec.resources.memory), spec.resources.gpu)


def _must_spread(spec: EndpointSpec) -> bool:
    return spec.placement.spread == "required"


def _price_now(prices: Sequence[MachinePrice], now_s: float) -> MachinePrice:
    held = [each for each in prices if parse_day(each.since) * DAY_S <= now_s]
    return max(held, key=lambda each: parse_day(each.since), default=MachinePrice())


def _price_list(control: "ControlClient") -> PriceList:
    """Return what machines cost; nothing where the key may not see it."""
    try:
        return costs.prices(control.connection)
    except Forbidden:
        return PriceList()


def _name(view: "EndpointView") -> str:
    return f"{view.project}/{view.name}"

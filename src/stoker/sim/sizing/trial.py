"""One range of replicas against one draw of the demand: is what was promised kept, and what does it cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy as Rules
from stoker.sim.arrivals import Arrivals
from stoker.sim.calendar import Calendar, Jumps
from stoker.sim.endpoint import Terms
from stoker.sim.ours import EVERY_S, Stoker
from stoker.sim.platform import plan
from stoker.sim.platform.outcome import CLOSED, Quantiles
from stoker.sim.platform.site import Site
from stoker.sim.platform.world import SAMPLE_S, World
from stoker.sim.policy import Fixed, Policy
from stoker.sim.sizing import throughput
from stoker.sim.sizing.answer import Curve, Figures, Moment, Range
from stoker.sim.sizing.demand import GRID, Demand
from stoker.sim.sizing.prices import Pool
from stoker.sim.sizing.slos import Slo
from stoker.types.scaling import Schedule

Column = NDArray[np.float64]

COLD_START_S: Final = 40.0  # where nobody knows
# What a look of control takes, at the most: so much later is the next one. A load that is about to be enough for one
# replica more is, or is not, by what is in flight when control happens to look.
LOOK_MAX_S: Final = 0.01
USUAL_FILL: Final = 0.7  # of the replicas that are there at the beginning
# Of requests, from which a distribution is drawn: finer where promises are.
SHARES: Final = tuple(round(share, 4) for share in (*np.linspace(0.0, 0.9, 46), *np.linspace(0.905, 0.995, 19), 0.999))


@dataclass(frozen=True, slots=True)
class Kind:
    """What is sized, whatever its range: an engine, how slowly a replica starts, how it scales and what it refuses.

    around_s: of a request, spent beside queue and engine: quantiles at demand.GRID's shares, any other number of
    them at even ones; empty: nothing. around_queued_s: of one that waited in a gateway for a place; empty: as others.
    initial: replicas that are there at the beginning; 0: as many as the first minute asks for. starts: what starts
    took, of which each is drawn; none: always cold_start_s. known_start_s: what scaling takes a start for before it
    sees one; None: cold_start_s. memory: what scaling remembers at the beginning, and began_s: when that is (unix
    time). before_per_s: requests a second of the minute before, where it remembers something. schedules: that have
    other bounds than its range while they are on.
    """

    engine: plan.Engine
    slos: tuple[Slo, ...]
    cold_start_s: float = COLD_START_S
    cores: float = 1.0
    rules: Rules = Rules()  # noqa: RUF009 - frozen
    timeout_s: float = 60.0
    queue_max: int = 512
    around_s: tuple[float, ...] = ()
    around_queued_s: tuple[float, ...] = ()
    initial: int = 0
    starts: tuple[plan.Started, ...] = ()
    known_start_s: float | None = None
    memory: Memory = Memory()  # noqa: RUF009 - frozen
    began_s: float = 0.0
    before_per_s: float = 0.0
    schedules: tuple[Schedule, ...] = ()


@dataclass(frozen=True, slots=True)
class Lived:
    """A value for each request: when it came, how long it took (infinite without an answer), and who was closed out."""

    arrived_s: Column
    ttft_s: Column
    latency_s: Column
    is_closed: NDArray[np.bool_]
    replica_hours: float  # from order to stop, while requests came

    @property
    def writing_s(self) -> Column:
        """From the first token to the last."""
        return after(self.ttft_s, self.latency_s)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of every request, and of the replicas at each sample; weights say how often each counts."""

    figures: Figures
    curve: Curve
    course: tuple[Moment, ...]


def run(kind: Kind, pool: Pool, tried: Range, demand: Demand, seed: int, times: int = 1) -> Trial:
    """Return what `tried` does on `pool` under the draw `seed`, at so many `times` the demand."""
    arrivals = demand.draw(seed, times)
    engine = throughput.faster(kind.engine, pool.speed)
    site, lived = _lived(kind, engine, tried, arrivals, seed, demand.jumps)
    whole = float(np.sum(demand.weights(arrivals.at_s)))
    is_open = ~lived.is_closed
    closed = float(np.sum(demand.weights(lived.arrived_s[lived.is_closed])))
    came, weights = whole - closed, demand.weights(lived.arrived_s[is_open])
    taken = {"ttft": lived.ttft_s[is_open], "latency": lived.latency_s[is_open]}
    kept = {
        each.name: float(np.sum(weights[taken[each.measure] <= each.limit_s])) / max(came, 1e-9) for each in kind.slos
    }
    sorted_s = {name: _sorted(column, weights) for name, column in taken.items()}
    replicas_mean, replicas_most, usd_per_hour = _replicas(site, demand, pool, kind.cores)
    figures = Figures(
        kept=kept,
        answered_ratio=float(np.sum(weights[np.isfinite(taken["latency"])])) / max(came, 1e-9),
        ttft=_quantiles(*sorted_s["ttft"], came),
        latency=_quantiles(*sorted_s["latency"], came),
        replicas_mean=replicas_mean,
        replicas_most=replicas_most,
        usd_per_hour=usd_per_hour,
        closed_ratio=closed / max(whole, 1e-9),
    )
    curve = Curve(times, tuple(_at(*sorted_s[kind.slos[0].measure], came, share) for share in SHARES))
    return Trial(figures, curve, _course(site, demand))


def states(kinds: Sequence[Kind], recorded: Arrivals) -> list[tuple[tuple[bool, ...], ...]]:
    """Return for each minute of a recording which schedules of `kinds` are on; nothing where none has any."""
    calendars = [Calendar(kind.schedules, kind.began_s) for kind in kinds if kind.schedules]
    return list(zip(*(each.states(recorded.duration_s) for each in calendars), strict=True))


def after(first_s: Column, whole_s: Column) -> Column:
    """Return what is left of whole times behind the first; infinite where the whole is."""
    is_ended = np.isfinite(whole_s)
    found: Column = np.where(is_ended, whole_s, math.inf) - np.where(is_ended, first_s, 0.0)
    return found


def lived(kind: Kind, tried: Range, arrivals: Arrivals, seed: int = 0, jumps: Jumps = ()) -> Lived:
    """Return what becomes of these very arrivals, in their order. jumps: see sim/calendar.py."""
    found = _lived(kind, kind.engine, tried, arrivals, seed, jumps)[1]
    order = np.argsort(found.arrived_s, kind="stable")
    columns = found.arrived_s, found.ttft_s, found.latency_s
    arrived_s, ttft_s, latency_s = (each[order] for each in columns)
    return Lived(arrived_s, ttft_s, latency_s, found.is_closed[order], found.replica_hours)


def _lived(
    kind: Kind, engine: plan.Engine, tried: Range, arrivals: Arrivals, seed: int, jumps: Jumps
) -> tuple[Site, Lived]:
    planned = _endpoint(kind, engine, tried, arrivals, jumps, seed)
    world = World(plan.PlatformPlan((planned,), seed=seed))
    (outcome,) = world.run()
    site = world.sites["planned"]
    _, ttft_s, latency_s, ends = site.ledger.columns()
    around_s = _around_s(kind, site.ledger.queued_s() > 0.0, seed)
    ttft_s, latency_s = (np.where(ends == 0, took_s + around_s, math.inf) for took_s in (ttft_s, latency_s))
    return site, Lived(site.ledger.arrived_s(), ttft_s, latency_s, ends == CLOSED, outcome.replica_hours)


def _around_s(kind: Kind, is_queued: NDArray[np.bool_], seed: int) -> Column:
    drawn = np.random.default_rng((seed, 13)).uniform(0.0, 1.0, len(is_queued))
    usual_s = _at_shares(kind.around_s, drawn)
    return np.where(is_queued, _at_shares(kind.around_queued_s, drawn), usual_s) if kind.around_queued_s else usual_s


def _at_shares(quantiles_s: Sequence[float], drawn: Column) -> Column:
    number = len(quantiles_s)
    if not number:
        return np.zeros(len(drawn))
    return np.interp(drawn, GRID if number == len(GRID) else np.linspace(0.0, 1.0, number), quantiles_s)


def _endpoint(
    kind: Kind, engine: plan.Engine, tried: Range, arrivals: Arrivals, jumps: Jumps, seed: int
) -> plan.EndpointPlan:
    slots = engine.places if isinstance(engine, plan.Places) else 1
    first_per_s = np.searchsorted(arrivals.at_s, 60.0) / min(60.0, arrivals.duration_s)
    steady = math.ceil(float(first_per_s) / (throughput.per_s(engine, arrivals) * USUAL_FILL))
    calendar = Calendar(kind.schedules, kind.began_s, jumps) if kind.schedules else None
    least, most = Terms(least=tried.min, most=tried.max, calendar=calendar).bounds(0.0)
    initial = min(max(kind.initial or steady, least), most)

    def policy(_: Terms) -> Policy:
        if tried.min == tried.max and calendar is None:
            return Fixed(tried.max)
        utilization = kind.rules.utilization if tried.utilization is None else tried.utilization
        rules = msgspec.structs.replace(kind.rules, min=tried.min, max=tried.max, utilization=utilization)
        found = Stoker(
            rules, memory=kind.memory, began_s=kind.began_s, calendar=calendar, before_per_s=kind.before_per_s
        )
        if kind.memory.measured_s:
            found.every_s += float(np.random.default_rng((seed, 18)).uniform(0.0, LOOK_MAX_S))
        return found

    return plan.EndpointPlan(
        "planned",
        arrivals,
        engine,
        Terms(slots, kind.cold_start_s, tried.min, tried.max, initial, calendar),
        policy,
        deadline_s=kind.timeout_s,
        queue_max=kind.queue_max,
        starts=kind.starts,
        known_start_s=kind.cold_start_s if kind.known_start_s is None else kind.known_start_s,
        looks_from_s=(kind.memory.measured_s - kind.began_s) % EVERY_S if kind.memory.measured_s else 0.0,
    )


def _replicas(site: Site, demand: Demand, pool: Pool, cores: float) -> tuple[float, int, float]:
    """Return how many replicas were paid for on average and at the most, and what they cost an hour, from samples."""
    samples = site.ledger.timeline
    weights = demand.weights(np.array([each.at_s for each in samples]))
    counts = [each.ready + each.starting for each in samples]
    whole = max(float(np.sum(weights)), 1e-9)
    most = max(count for count, weight in zip(counts, weights, strict=True) if weight)
    prices = [pool.usd_per_hour(count, cores) for count in counts]
    return float(np.dot(weights, counts)) / whole, most, float(np.dot(weights, prices)) / whole


def _course(site: Site, demand: Demand) -> tuple[Moment, ...]:
    """Return the run by the recording's own clock, about a point a minute; leads are left out."""
    found: list[Moment] = []
    samples = site.ledger.timeline
    begins_s = 0.0
    for stretch in demand.stretches:
        ends_s = begins_s + stretch.arrivals.duration_s
        low, high = (round(at_s / SAMPLE_S) for at_s in (begins_s + stretch.lead_s, ends_s))
        part = samples[low : high + 1]
        every = max(len(part) * len(demand.stretches) // 240, 1)
        for number, at in enumerate(range(0, len(part) - 1, every)):
            here = part[at : at + every + 1]
            replicas = float(np.mean([each.ready + each.starting for each in here]))
            found.append(Moment(here[0].at_s - begins_s + stretch.begins_s, replicas, number == 0))
        begins_s = ends_s
    return tuple(found)


def _sorted(taken_s: Column, weights: Column) -> tuple[Column, Column]:
    order = np.argsort(taken_s, kind="stable")
    return taken_s[order], np.cumsum(weights[order])


def _at(sorted_s: Column, counted: Column, came: float, share: float) -> float:
    """Return the time that `share` of all that came are at most at; infinite where so many had no answer."""
    at = int(np.searchsorted(counted, share * came * (1 - 1e-9)))
    return float(sorted_s[at]) if at < len(sorted_s) else math.inf if len(sorted_s) else 0.0


def _quantiles(sorted_s: Column, counted: Column, came: float) -> Quantiles:
    p50_s, p95_s, p99_s = (_at(sorted_s, counted, came, share) for share in (0.5, 0.95, 0.99))
    return Quantiles(p50_s, p95_s, p99_s)

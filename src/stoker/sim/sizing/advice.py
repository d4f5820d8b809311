"""Whether an endpoint could cost less, or must have more, to keep what it promises: simulated on what came to it.

1. The cheapest range of replicas is searched as a plan is (`search.py`), whatever the range of now: so who has followed
   the advice is told that there is nothing to gain, and no advice leads back.
2. Where it may sleep, shorter and longer idle time-outs are tried; where its replicas were never busy, fewer cores, on
   an engine that is slowed down by as much as cores are taken from it.
3. What is left must keep every promise on each of CONFIRMED draws, beside the endpoint as it is on the same ones. Only
   what saves WORTH_RATIO, by more than chance, is proposed; or what keeps a promise that is not kept now.

An endpoint without an objective of latency or time to first token is held to the times that it has with more than
enough replicas (`usual`), which do not depend on its range of now either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from stoker.sim.arrivals import Arrivals
from stoker.sim.compare import figure
from stoker.sim.sizing import demand as demands
from stoker.sim.sizing import throughput, trial
from stoker.sim.sizing.answer import Figures, Range
from stoker.sim.sizing.prices import HOURS_OF_MONTH, UNPRICED
from stoker.sim.sizing.search import Search
from stoker.sim.sizing.slos import Slo
from stoker.sim.sizing.trial import Kind
from stoker.types.errors import InvalidInput

WORTH_RATIO: Final = 0.05  # of what it costs now; less is not worth a change
CONFIRMED: Final = 5  # draws
IDLE_S: Final = (60.0, 120.0, 300.0, 600.0, 1800.0)
IDLE_USUAL_S: Final = 600.0  # with which ranges are searched
REQUESTS_MAX: Final = 8000  # that one trial simulates: a third of a second of a core or two
WHOLE_MAX: Final = 60_000  # of the recording that the chosen range is tried on whole
AMPLE: Final = 2.0  # times the replicas that the busiest minute needs
LATER: Final = 1.5  # than with ample replicas, for 95 % of requests, without an objective
LATER_S: Final = 0.1

Told = Callable[[str, float, float], None]


class Way(msgspec.Struct, frozen=True):
    """A way to run an endpoint. share: of a node, that a replica holds; only its relation to another one matters.

    idle_timeout_s: None: as the pauses teach (`waiting_worth`), which is left as it is.
    """

    range: Range
    idle_timeout_s: float | None
    cores: float
    share: float = 1.0


class Effect(msgspec.Struct, frozen=True):
    """What a way did, the mean of all draws. late_ratio: of the promise that was kept least. Infinite: no answer."""

    late_ratio: float
    kept: dict[str, float]
    answered_ratio: float
    ttft_p95_s: float
    latency_p95_s: float
    replica_hours_per_month: float


class Advice(msgspec.Struct, frozen=True):
    """The endpoint as it is, and as it should be; `then` None: nothing to gain. saved_ratio: of its cost now.

    is_kept: every promise is kept now. is_promised: they are its own objectives.
    """

    slos: tuple[Slo, ...]
    is_promised: bool
    is_kept: bool
    now: Way
    now_effect: Effect
    requests: int
    then: Way | None = None
    then_effect: Effect | None = None
    saved_ratio: float = 0.0
    why: str = ""


def advise(
    kind: Kind,
    now: Way,
    recorded: Arrivals,
    *,
    replicas_max: int,
    fewer: Callable[[float], tuple[float, float]] | None = None,
    seed: int = 0,
    told: Told | None = None,
) -> Advice:
    """Return what to do with an endpoint. Raises InvalidInput where nothing came.

    Args:
        kind: how it works; its objectives, if any; `rules` without a utilization, which is `now.range`'s.
        fewer: from the cores of now to those to try, and the share of a node that they would hold; None: none.
    """
    if not len(recorded):
        raise InvalidInput("nothing came to it, so nothing can be simulated")
    judge = _Judge(kind, recorded, seed, told)
    is_promised = bool(kind.slos)
    if not is_promised:
        judge.promise((usual(kind, recorded, judge.demand, seed),))
    before = judge.runs(now)
    base = Advice(judge.slos, is_promised, judge.is_kept(before), now, judge.effect(before, now), len(recorded))
    try:
        found = judge.cheapest(now, replicas_max)
    except InvalidInput as nothing:
        return msgspec.structs.replace(base, why=str(nothing))
    if found is None:
        return msgspec.structs.replace(base, why="no range kept every promise on every draw")
    if fewer is not None:
        found = judge.with_fewer_cores(found, *fewer(now.cores))
    after = judge.runs(found)
    saved = [_cost(one, now) - _cost(two, found) for one, two in zip(before, after, strict=True)]
    whole = sum(_cost(each, now) for each in before) / len(before)
    ratio = figure(saved).mean / max(whole, 1e-12)
    is_worth = ratio >= WORTH_RATIO and figure(saved).low > 0.0
    if found == now or not (is_worth or (is_promised and not base.is_kept)):
        return base
    return msgspec.structs.replace(base, then=found, then_effect=judge.effect(after, found), saved_ratio=ratio)


def usual(kind: Kind, recorded: Arrivals, demand: demands.Demand, seed: int) -> Slo:
    """Return the promise of an endpoint that has none: about as fast as with replicas to spare."""
    needed = demand.peak_per_s / throughput.per_s(kind.engine, recorded)
    ample = Range(*[max(math.ceil(AMPLE * needed), 2)] * 2)
    figures = trial.run(replace(kind, slos=(_ANY,)), UNPRICED, ample, demand, seed).figures
    return Slo("latency", 0.95, round(min(figures.latency.p95_s, kind.timeout_s) * LATER + LATER_S, 3))


_ANY: Final = Slo("latency", 0.95, 3600.0)


class _Judge:
    """The draws of one question; each way is run once."""

    def __init__(self, kind: Kind, recorded: Arrivals, seed: int, told: Told | None) -> None:
        self._kind, self._recorded, self._seed, self._told = kind, recorded, seed, told
        self.demand = demands.sampled(recorded, REQUESTS_MAX)
        self._known: dict[tuple[Way, int], Figures] = {}

    @property
    def slos(self) -> tuple[Slo, ...]:
        return self._kind.slos

    def promise(self, slos: tuple[Slo, ...]) -> None:
        self._kind = replace(self._kind, slos=slos)

    def runs(self, way: Way) -> list[Figures]:
        """Return what the way did on each draw."""
        return [self._run(way, number) for number in range(CONFIRMED)]

    def _run(self, way: Way, number: int) -> Figures:
        key = way, number
        if key not in self._known:
            if self._told is not None:
                self._told(f"{way.range.name}, draw {number + 1}", number, CONFIRMED)
            kind = self._as(way)
            self._known[key] = trial.run(kind, UNPRICED, way.range, self.demand, self._seed + number).figures
        return self._known[key]

    def is_kept(self, runs: Sequence[Figures]) -> bool:
        return all(each.holds(self.slos) for each in runs)

    def effect(self, runs: Sequence[Figures], way: Way) -> Effect:
        count = len(runs)
        kept = {slo.name: sum(each.kept[slo.name] for each in runs) / count for slo in self.slos}
        return Effect(
            late_ratio=1.0 - min(kept.values()),
            kept=kept,
            answered_ratio=sum(each.answered_ratio for each in runs) / count,
            ttft_p95_s=sum(each.ttft.p95_s for each in runs) / count,
            latency_p95_s=sum(each.latency.p95_s for each in runs) / count,
            replica_hours_per_month=sum(each.replicas_mean for each in runs) / count * HOURS_OF_MONTH,
        )

    def cheapest(self, now: Way, replicas_max: int) -> Way | None:
        """Return the cheapest way that keeps everything on every draw. Raises InvalidInput when no range can."""
        rules = self._kind.rules
        searched = rules if now.idle_timeout_s is None else msgspec.structs.replace(rules, idle_timeout_s=IDLE_USUAL_S)
        search = Search(
            replace(self._kind, rules=searched),
            self._recorded,
            (UNPRICED,),
            replicas_max,
            self._seed,
            requests_max=REQUESTS_MAX,
            whole_max=WHOLE_MAX,
        )
        _, chosen = search.cheapest(least=0, told=self._told)
        found = chosen.range
        for _ in range(3):
            # A larger maximum costs nothing while it is not needed, so none is taken away.
            wide = found if found.min == found.max >= now.range.max else _up_to(found, now.range.max)
            for way in sorted(self._ways(wide, now), key=lambda way: _cost(self._run(way, 0), way)):
                if self._run(way, 0).holds(self.slos) and self.is_kept(self.runs(way)):
                    return way
            found = Range(found.min + 1, max(found.max, found.min + 1), found.utilization)
        return None

    def with_fewer_cores(self, way: Way, cores: float, share: float) -> Way:
        """Return the way with so many cores, if everything is kept by an engine that is slower in proportion."""
        fewer = msgspec.structs.replace(way, cores=cores, share=share)
        return fewer if cores < way.cores and self.is_kept(self.runs(fewer)) else way

    def _ways(self, wide: Range, now: Way) -> list[Way]:
        timeouts = IDLE_S if wide.min == 0 and now.idle_timeout_s is not None else (now.idle_timeout_s,)
        return [msgspec.structs.replace(now, range=wide, idle_timeout_s=each) for each in timeouts]

    def _as(self, way: Way) -> Kind:
        kind, rules = self._kind, self._kind.rules
        if way.idle_timeout_s is not None:
            rules = msgspec.structs.replace(rules, idle_timeout_s=way.idle_timeout_s)
        engine = throughput.faster(kind.engine, min(way.cores / kind.cores, 1.0))
        return replace(kind, rules=rules, engine=engine, cores=way.cores)


def _up_to(found: Range, most: int) -> Range:
    return Range(found.min, max(found.max, most), found.utilization)


def _cost(figures: Figures, way: Way) -> float:
    return figures.replicas_mean * way.share

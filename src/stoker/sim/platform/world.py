"""The simulated platform put together and run: arrivals to gateways, replicas to ends, and what came of it."""

from collections.abc import Callable
from random import Random
from typing import Final

import numpy as np

from stoker.sim.platform import plan
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.control import Control
from stoker.sim.platform.faults import Faults
from stoker.sim.platform.lane import Lane
from stoker.sim.platform.outcome import Outcome, late_ratio, quantiles
from stoker.sim.platform.replica import Replica
from stoker.sim.platform.request import End, Request
from stoker.sim.platform.site import Site
from stoker.sim.run import Sample
from stoker.sim.service import Measured, seconds

SAMPLE_S: Final = 10.0
GRACE_S: Final = 3600.0  # for what is left when arrivals end
CONCURRENCY: Final = 10_000  # of one replica at most: what its engine says holds
# Of requests whose trace says no sizes: medians and spread (of the logarithm) as in chats.
PROMPT_TOKENS, ANSWER_TOKENS, SPREAD = 400.0, 150.0, 0.9

Told = Callable[[float, float], None]  # virtual seconds reached, of how many


class World:
    """One run of a plan."""

    def __init__(self, what: plan.PlatformPlan, late_s: float = 1.0) -> None:
        self.clock = Clock()
        self._plan, self._late_s = what, late_s
        self._draws = Random(what.seed)
        self.sites: dict[str, Site] = {}
        for kind in what.endpoints:
            ended = self._ender(kind.name)
            draws = Random(f"{what.seed}/{kind.name}")
            lanes = [
                Lane(kind, self.clock, Random(f"{what.seed}/{kind.name}/{at}"), what.gateways, CONCURRENCY, ended)
                for at in range(what.gateways)
            ]
            self.sites[kind.name] = Site(kind, lanes, draws)
        self.control = Control(what, self.clock, self.sites, self._ended, Random(f"{what.seed}/control"))
        self.faults = Faults(self.clock, self.control, self.sites)
        self.duration_s = max(kind.arrivals.duration_s for kind in what.endpoints)

    def run(self, told: Told | None = None) -> tuple[Outcome, ...]:
        """Run until every request has ended, and return what became of each endpoint's."""
        self.control.begin(self.duration_s)
        self.faults.begin(self._plan.faults)
        for number, site in enumerate(self.sites.values()):
            self._source(site, number)
        if self._plan.gateways > 1:
            self.clock.at(self._plan.report_s, self._report)
        reached_s = 0.0
        while True:
            self.clock.run(reached_s)
            for site in self.sites.values():
                site.ledger.timeline.append(_sample(site, reached_s))
            if told is not None:
                told(reached_s, self.duration_s)
            is_done = all(site.ledger.finished >= len(site.kind.arrivals) for site in self.sites.values())
            if (reached_s >= self.duration_s and is_done) or reached_s >= self.duration_s + GRACE_S:
                break
            reached_s += SAMPLE_S
        return tuple(self._outcome(site) for site in self.sites.values())

    # ---- arrivals

    def _source(self, site: Site, number: int) -> None:
        """Let the requests of an endpoint come, each asking for the next: the heap holds one of them."""
        kind, seed = site.kind, self._plan.seed * 1000 + number
        at_s = kind.arrivals.at_s.tolist()
        if not at_s:
            return
        draws = np.random.default_rng((seed, 5))
        shares = np.array([each.share for each in kind.tenants])
        owners = draws.choice(len(kind.tenants), len(at_s), p=shares / shares.sum()).tolist()
        gateways = draws.integers(0, self._plan.gateways, len(at_s)).tolist()
        tenants = [(each.name, each.weight, each.band) for each in kind.tenants]
        service_s = _service_s(kind, seed)
        tokens = _tokens(kind, draws)
        clock, ledger, lanes, control = self.clock, site.ledger, site.lanes, self.control

        def come(index: int) -> None:
            now_s = clock.now_s
            request = Request(index, now_s, tenants[owners[index]], now_s + kind.deadline_s, service_s[index])
            if tokens is not None:
                request.input_tokens, request.output_tokens = tokens[0][index], tokens[1][index]
                request.blocks = kind.arrivals.blocks[index] if kind.arrivals.blocks else ()
            ledger.arrive(now_s)
            if index + 1 < len(at_s):
                clock.at(at_s[index + 1], come, index + 1)
            lanes[gateways[index]].come(request)
            if not site.wanted:
                control.wake(site)

        clock.at(at_s[0], come, 0)

    def _report(self) -> None:
        """Let every replica tell every gateway how many requests it has."""
        for site in self.sites.values():
            for lane in site.lanes:
                for view in lane.views.values():
                    if view.replica.state == "ready":
                        lane.report(view)
        if self.clock.now_s < self.duration_s + GRACE_S:
            self.clock.at(self.clock.now_s + self._plan.report_s, self._report)

    # ---- ends

    def _ended(self, replica: Replica, request: Request, is_answered: bool) -> None:
        assert request.lane is not None
        site = self.sites[replica.revision.rpartition("-")[0]]
        ratio = site.errors.get(replica.revision, 0.0) + self._plan.error_ratio
        is_error = is_answered and ratio > 0.0 and site.draws.random() < ratio
        request.lane.ended(replica, request, is_answered=is_answered, is_error=is_error)

    def _ender(self, name: str) -> Callable[[Request, End], None]:
        def ended(request: Request, how: End) -> None:
            self.sites[name].ledger.end(request, how, self.clock.now_s)

        return ended

    def _outcome(self, site: Site) -> Outcome:
        ledger, ended_s = site.ledger, site.paid_until_s
        wait_s, first_s, latency_s, ends = ledger.columns()
        paid_s = site.paid_s + sum(max(ended_s - each.ordered_s, 0.0) for each in site.replicas)
        answered = ends <= 1
        ledger.ends["unfinished"] = ledger.arrived - ledger.finished
        return Outcome(
            endpoint=site.kind.name,
            policy=site.policy.name,
            requests=ledger.arrived,
            ends=ledger.ends,
            retries=ledger.retries,
            wait=quantiles(wait_s[answered]),
            first=quantiles(first_s[answered]),
            latency=quantiles(latency_s[answered]),
            late_ratio=late_ratio(ledger, self._late_s),
            cached_ratio=ledger.cached_tokens / max(ledger.read_tokens, 1),
            replica_hours=paid_s / 3600.0,
            changes_per_hour=site.changes * 3600.0 / site.kind.arrivals.duration_s,
            replicas_most=site.most_replicas,
            blocked_s=site.blocked_s,
            blocked=site.blocked,
            rollout=tuple(site.course.moves) if site.course is not None else (),
        )


def _service_s(kind: plan.EndpointPlan, seed: int) -> list[float]:
    """Return how long each request holds a place; of one that batches how much longer a call that it begins takes."""
    match kind.engine:
        case plan.Places(_, service):
            found: list[float] = seconds(service, kind.arrivals, seed).tolist()
            return found
        case plan.Batching(spread=spread) if spread:
            times: list[float] = seconds(Measured(spread), kind.arrivals, seed).tolist()
            return times
        case _:
            return [1.0] * len(kind.arrivals)


def _tokens(kind: plan.EndpointPlan, draws: np.random.Generator) -> tuple[list[int], list[int]] | None:
    """Return prompt and answer lengths: the trace's, or drawn as chats have them."""
    if not isinstance(kind.engine, plan.Generating):
        return None
    arrivals = kind.arrivals
    if len(arrivals.input_tokens):
        return arrivals.input_tokens.tolist(), arrivals.output_tokens.tolist()
    drawn = [draws.lognormal(np.log(middle), SPREAD, len(arrivals)) for middle in (PROMPT_TOKENS, ANSWER_TOKENS)]
    first, second = (np.maximum(each, 1).astype(int).tolist() for each in drawn)
    return first, second


def _sample(site: Site, now_s: float) -> Sample:
    seen = site.observe(now_s)
    return Sample(now_s, seen.arrived, seen.ready, seen.starting, seen.waiting, seen.wanted)

"""One endpoint of the simulated platform, as control sees it: what is wanted, what there is, and how it scales."""

import math
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from stoker.core import starts, traffic
from stoker.core.capacity import Demand
from stoker.core.scale.bounds import Closed
from stoker.sim.platform import plan
from stoker.sim.platform.arms import Watch
from stoker.sim.platform.lane import Lane
from stoker.sim.platform.outcome import Ledger
from stoker.sim.platform.replica import Replica
from stoker.sim.platform.rollouts import Course
from stoker.sim.policy import Observation

ITSELF_S: Final = 10.0  # a start that was measured so near to a simulated one is the same


class Site:
    """An endpoint: its replicas, its lanes (one a gateway), its policy and what was counted."""

    def __init__(self, kind: plan.EndpointPlan, lanes: Sequence[Lane], draws: Random) -> None:
        self.kind = kind
        self.lanes = tuple(lanes)
        self.draws = draws
        self._shift = 0  # of measured starts; drawn with the first
        self.policy = kind.policy(kind.terms)
        self.ledger = Ledger()
        self.replicas: list[Replica] = []  # that are not dead
        self.serving = f"{kind.name}-1"
        self.course: Course | None = None  # the rollout that runs, or ran last
        self.watches: Sequence[Watch] = ()  # of it, one a gateway
        self.slower: dict[str, float] = {}  # by revision
        self.errors: dict[str, float] = {}
        self.wanted = kind.terms.first
        self.is_woken = False  # control was asked to look, and has yet to
        self.looks = 0  # of control
        self.looked_s = -math.inf
        self.most_replicas = 0
        self.changes = 0
        # What starts took, as control knows it: before the run, and then of this one.
        self.starts_s = deque([kind.known_start_s] if kind.known_start_s else [], maxlen=starts.KNOWN_MAX)
        self.paid_s = 0.0  # of replicas that are gone
        self.paid_until_s = kind.arrivals.duration_s  # what is left to be done after it is not counted
        self.closed: Closed | None = None  # no replica may be
        self.blocked = ""
        self.blocked_s = 0.0
        self.blocked_since_s = -1.0

    def demand(self, revision: str) -> Demand:
        """Return what one replica needs."""
        return Demand(self.kind.cores, self.kind.memory_bytes, revision, self.kind.name)

    def start_s(self, now_s: float) -> float:
        """Return what a start takes that begins now: what another one took that was measured.

        Of those with a moment each has the time of the one so many after it, so that all are drawn about equally often.
        """
        known = self.kind.starts
        if not known:
            return self.kind.terms.cold_start_s
        if len(known) < 2 or any(math.isinf(each.at_s) for each in known):
            others = [each.took_s for each in known if abs(each.at_s - now_s) > ITSELF_S]
            return self.draws.choice(others) if others else self.kind.terms.cold_start_s
        nearest = min(range(len(known)), key=lambda at: abs(known[at].at_s - now_s))
        self._shift = self._shift or self.draws.randrange(1, len(known))
        return known[(nearest + self._shift) % len(known)].took_s

    def follow_clock(self, least_most: tuple[int, int], now_s: float) -> bool:
        """Know whether schedules close it, and return whether that has changed. least_most: the bounds now."""
        before = self.closed
        if least_most[1]:
            self.closed = None
        elif before is None:  # once a closing: what it says looks a week ahead
            self.closed = self.kind.terms.closed(now_s)
        return (self.closed is None) != (before is None)

    def holds(self, has_replicas: bool) -> bool:
        """Return whether requests are waited with although nothing runs: what a route table says of it."""
        state = self.course.state if self.course is not None and not self.course.is_ended else None
        may_sleep = self.kind.terms.can_sleep
        return self.closed is None and traffic.holds(state, may_sleep=may_sleep, has_replicas=has_replicas)

    def counts(self) -> dict[str, int]:
        """Return how many replicas of each revision there should be."""
        if self.course is not None and not self.course.is_ended:
            return self.course.counts(self.wanted)
        return {self.serving: self.wanted}

    def weights(self) -> dict[str, int]:
        """Return who gets the traffic, in percent."""
        if self.course is not None and not self.course.is_ended:
            return self.course.weights(self.serving)
        return {self.serving: 100}

    def observe(self, now_s: float) -> Observation:
        """Return what a scaling policy sees."""
        ledger = self.ledger
        waiting = sum(lane.waiting for lane in self.lanes)
        present = ledger.arrived - ledger.finished
        ready = [each for each in self.replicas if each.state in ("ready", "lost")]
        return Observation(
            now_s=now_s,
            ready=len(ready),
            starting=sum(each.state == "starting" for each in self.replicas),
            wanted=self.wanted,
            places=self.replicas[0].engine.slots if self.replicas else self.kind.terms.places,
            running=present - waiting,
            waiting=waiting,
            arrived=ledger.arrived,
            finished=ledger.finished,
            service_s=ledger.service_s,
            presence_s=ledger.presence_s + present * now_s,
            cold_start_s=starts.expected_s(self.starts_s),
            served=ledger.served,
            tokens=ledger.tokens,
        )

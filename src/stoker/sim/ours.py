"""The platform's own scaling policy in a simulation: the function that runs live, given what it would see there."""

import msgspec

from stoker.core.scale.decide import Decision, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import Sight
from stoker.sim.policy import Mean, Observation

SHORT_S = 6.0
LONG_S = 60.0
EVERY_S = 2.0  # as control looks
DECISIONS_MAX = 100_000  # kept, each with its reason


class Stoker:
    """`core/scale` with its memory; `decisions` keeps what changed, when and why."""

    every_s = EVERY_S

    def __init__(self, rules: Policy, name: str = "stoker") -> None:
        self.name = name
        self.decisions: list[tuple[float, Decision]] = []
        self._rules = rules
        self._memory = Memory()
        self._short, self._long = Mean(SHORT_S), Mean(LONG_S)
        self._finished = self._arrived = 0
        self._seen_s = 0.0
        self._service_s = 0.0

    def tick(self, seen: Observation) -> int:
        """See sim/policy.Policy."""
        decision = decide(self._sight(seen), self._rules, self._memory, seen.now_s)
        if decision.desired != self._memory.desired and len(self.decisions) < DECISIONS_MAX:
            self.decisions.append((seen.now_s, msgspec.structs.replace(decision, memory=Memory())))
        self._memory = decision.memory
        return decision.desired

    def _sight(self, seen: Observation) -> Sight:
        ended = seen.finished - self._finished
        service_s = (seen.service_s - self._service_s) / ended if ended else 0.0
        arrived, since_s = seen.arrived - self._arrived, seen.now_s - self._seen_s
        self._arrived, self._seen_s = seen.arrived, seen.now_s
        self._finished, self._service_s = seen.finished, seen.service_s
        return Sight(
            at_s=seen.now_s,
            rate_short=self._short.read(seen.now_s, seen.arrived),
            rate_long=self._long.read(seen.now_s, seen.arrived),
            arrived=arrived,
            since_s=since_s,
            service_s=service_s,
            ended=ended,
            places=seen.places,
            waiting=seen.waiting,
            in_flight=seen.running,
            ready=seen.ready,
            pending=seen.starting,
            cold_start_s=seen.cold_start_s,
        )

"""The platform's own scaling policy in a simulation: the functions that run live, given what they would see there."""

from typing import Final

import msgspec

from stoker.core.scale.counts import Counts
from stoker.core.scale.decide import Decision, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import LONG_S, Language, Sight
from stoker.sim.calendar import Calendar
from stoker.sim.policy import Observation
from stoker.types.scaling import LaneLoad

EVERY_S: Final = 2.0  # as control looks
DECISIONS_MAX: Final = 100_000  # kept, each with its reason


class Stoker:
    """`core/scale` with its memory; `decisions` keeps what changed, when and why.

    began_s: unix time at the beginning, where `memory` is of a platform that ran before, or a day has its hours.
    before_per_s: requests a second of the minute before the beginning, which such a platform saw too.
    calendar: of the schedules, with a beginning of its own; what `rules` has of them is not looked at.
    """

    def __init__(
        self,
        rules: Policy,
        name: str = "stoker",
        memory: Memory | None = None,
        began_s: float = 0.0,
        calendar: Calendar | None = None,
        before_per_s: float = 0.0,
    ) -> None:
        self.name = name
        self.every_s = EVERY_S
        self.decisions: list[tuple[float, Decision]] = []
        self._rules = msgspec.structs.replace(rules, schedules=calendar.windows if calendar is not None else ())
        self._calendar = calendar
        self._began_s = began_s if calendar is None else calendar.began_s
        self._memory = memory or Memory()
        self._counts = Counts()
        if self._memory.measured_s:
            self._look_back(before_per_s)

    def tick(self, seen: Observation) -> int:
        """See sim/policy.Policy."""
        now_s = self._began_s + seen.now_s
        decision = decide(self._sight(seen, now_s), self._rules, self._memory, now_s)
        if decision.desired != self._memory.desired and len(self.decisions) < DECISIONS_MAX:
            self.decisions.append((seen.now_s, msgspec.structs.replace(decision, memory=Memory())))
        self._memory = decision.memory
        return decision.desired

    def _look_back(self, per_s: float) -> None:
        """Have seen the minute before the beginning; a window of seconds takes one request for many."""
        nobody = LaneLoad(
            "", "", arrived=0, served=0, served_s=0.0, tokens=0, waiting=0, in_flight=0, ready=0, places=0.0
        )
        for look in range(round(LONG_S / EVERY_S)):
            seen_s = look * EVERY_S
            loads = {"": msgspec.structs.replace(nobody, arrived=int(seen_s * per_s))}
            self._counts.add(self._began_s + seen_s - LONG_S, loads)

    def _sight(self, seen: Observation, now_s: float) -> Sight:
        counted = self._counts.add(now_s, {"": _load(seen)})
        return Sight(
            at_s=now_s,
            rate_short=counted.rate_short,
            rate_long=counted.rate_long,
            span_s=LONG_S,  # nothing came before the beginning, which is known
            arrived=counted.arrived,
            since_s=counted.since_s,
            service_s=counted.service_s,
            ended=counted.ended,
            places=seen.places,
            waiting=seen.waiting,
            in_flight=seen.running,
            ready=seen.ready,
            pending=seen.starting,
            cold_start_s=seen.cold_start_s,
            offsets_s=self._calendar.offsets_s(seen.now_s) if self._calendar is not None else (),
            language=Language(tokens_per_s=counted.tokens_per_s, replica_tokens_per_s=counted.replica_tokens_per_s),
        )


def _load(seen: Observation) -> LaneLoad:
    """Return what gateways would say, all together."""
    return LaneLoad(
        project="",
        endpoint="",
        arrived=seen.arrived,
        served=seen.served,
        served_s=seen.service_s,
        tokens=seen.tokens,
        waiting=seen.waiting,
        in_flight=seen.running,
        ready=seen.ready,
        places=float(seen.places),
    )

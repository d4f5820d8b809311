"""A rollout in the simulated platform: every turn is core/rollout's own, fed with what simulated gateways counted."""

from collections.abc import Mapping
from typing import Final

from stoker.core.rollout import course, decide
from stoker.core.rollout.decide import Sight
from stoker.core.rollout.state import RolloutState
from stoker.sim.platform import plan
from stoker.sim.platform.arms import NUMBER, Watch
from stoker.sim.platform.outcome import Moved
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import RolloutCounts

TURN_S: Final = 1.0  # control looks at a running rollout about once a second


class Course:
    """One rollout from `serving` to `canary`."""

    def __init__(
        self, kind: plan.RolloutPlan, serving: str, canary: str, count: int, per_s: float, now_s: float
    ) -> None:
        self.kind, self.baseline, self.canary = kind, serving, canary
        strategy, because = course.resolve(kind.spec, per_s, serves=True)
        self.state = RolloutState(
            project=ProjectName("default"),
            endpoint=EndpointName(kind.endpoint),
            baseline=serving,
            canary=canary,
            spec=kind.spec,
            strategy=strategy,
            phase="gating",
            because=because,
            began_s=now_s,
            since_s=now_s,
            number=NUMBER,
            slow_s=kind.slow_s,
            baseline_count=count,
        )
        self.moves = [Moved(now_s, "began", "gating", 0, because)]

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state.is_ended

    def watch(self) -> Watch:
        """Return what one gateway counts of it."""
        return Watch(self.baseline, self.canary, self.kind.slow_s)

    def counts(self, wanted: int) -> dict[str, int]:
        """Return how many replicas of each revision there should be."""
        canary, baseline = decide.wants(self.state, wanted)
        return {self.canary: canary, self.baseline: baseline}

    def weights(self, serving: str) -> dict[str, int]:
        """Return who gets the traffic, in percent; all of it `serving` when that is the canary already."""
        weight = 100 if serving == self.canary else self.state.weight
        return {self.canary: weight, self.baseline: 100 - weight}

    def turn(
        self,
        wanted: int,
        ready: Mapping[str, int],
        left: int,
        serving: str,
        read: Mapping[str, RolloutCounts],
        now_s: float,
    ) -> str:
        """Take one turn; return the revision that serves from now on."""
        sight = Sight(
            wanted=wanted,
            usual=wanted,
            canary_ready=ready.get(self.canary, 0),
            baseline_ready=ready.get(self.baseline, 0),
            baseline_left=left,
            serves_canary=serving == self.canary,
            gateways=read,
        )
        turned = decide.turn(self.state, sight, now_s)
        self.state = turned.state
        self.moves += [
            Moved(each.at_s, str(each.event), each.phase, each.weight, each.because)
            for each in turned.entries
            if each.event != "look"
        ]
        if self.state.phase in ("keeping", "promoted"):
            return self.canary
        return self.baseline if self.state.phase == "rolled-back" else serving

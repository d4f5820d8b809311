"""AIBrix' pod autoscaler (APA): the requests in flight a pod against a target, with a tolerance on both sides.

Source: vllm-project/aibrix pkg/controller/podautoscaler (algorithm/apa.go, context/context.go): the current value
against the target, tolerances of 0.1 up and down, at most twice as many or half as many in a step, 300 s of the highest
before going down and none before going up. Pods that start are not counted, which is kinder than counting them.
"""

import math
from dataclasses import dataclass

from stoker.sim.policy import Highest, Observation


@dataclass(frozen=True, slots=True)
class Settings:
    """Names and defaults of the APA's context."""

    target_utilization: float = 0.7  # of a replica's places
    up_fluctuation_tolerance: float = 0.1
    down_fluctuation_tolerance: float = 0.1
    max_scale_up_rate: float = 2.0
    max_scale_down_rate: float = 2.0
    scale_down_cooldown_s: float = 300.0
    sync_s: float = 10.0


class Aibrix:
    """The APA with its memory."""

    name = "apa"

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.every_s = self._settings.sync_s
        self._recent = Highest(self._settings.scale_down_cooldown_s)

    def tick(self, seen: Observation) -> int:
        """See Policy."""
        pods = max(seen.ready, 1)
        used = (seen.running + seen.waiting) / pods
        wanted = self.scale(used, seen.places * self._settings.target_utilization, pods=pods)
        return self._recent.record(seen.now_s, wanted)

    def scale(self, used: float, target: float, *, pods: int) -> int:
        """Return the pods when each has `used` and should have `target`."""
        rules = self._settings
        most = math.ceil(rules.max_scale_up_rate * pods)
        least = math.floor(pods / rules.max_scale_down_rate)
        ratio = used / target
        if 1.0 - rules.down_fluctuation_tolerance <= ratio <= 1.0 + rules.up_fluctuation_tolerance:
            return pods
        return min(max(math.ceil(pods * ratio), least), most)

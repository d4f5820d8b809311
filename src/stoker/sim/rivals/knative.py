"""Knative's pod autoscaler (KPA): concurrency over two windows, and panic when the short one doubles.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go and config/core/configmaps/autoscaler.yaml, as of 1.19.
Scale to zero is left out: it is the activator's protocol, not the decision.
"""

import math
from dataclasses import dataclass

from stoker.sim.policy import Highest, Mean, Observation


@dataclass(frozen=True, slots=True)
class Settings:
    """Names and defaults of config-autoscaler."""

    target_utilization: float = 0.7  # container-concurrency-target-percentage, of a replica's places
    stable_window_s: float = 60.0
    panic_window_ratio: float = 0.1
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_s: float = 0.0
    tick_s: float = 2.0


class Knative:
    """The KPA with its memory."""

    def __init__(self, settings: Settings | None = None, name: str = "kpa") -> None:
        self.name = name
        self._settings = settings or Settings()
        self.every_s = self._settings.tick_s
        self._stable = Mean(self._settings.stable_window_s)
        self._panic = Mean(self._settings.stable_window_s * self._settings.panic_window_ratio)
        delay_s = self._settings.scale_down_delay_s
        self._delay = Highest(delay_s + self._settings.tick_s) if delay_s else None
        self._panic_since_s: float | None = None
        self._most_in_panic = 0
        self._is_first = True

    def tick(self, seen: Observation) -> int:
        """See Policy."""
        stable = self._stable.read(seen.now_s, seen.presence_s)
        panic = self._panic.read(seen.now_s, seen.presence_s)
        target = seen.places * self._settings.target_utilization
        return self.scale(stable, panic, target, ready=seen.ready, now_s=seen.now_s)

    def scale(self, stable: float, panic: float, target: float, *, ready: int, now_s: float) -> int:
        """Return the replicas for a mean concurrency of `stable` and `panic` over the two windows."""
        rules = self._settings
        if self._is_first and ready > 1:  # a restart has lost its history, and must not shrink for it
            self._panic_since_s, self._most_in_panic = now_s, ready
        self._is_first = False
        count = max(1, ready)
        least = math.floor(count / rules.max_scale_down_rate)
        most = math.ceil(count * rules.max_scale_up_rate)
        panic_count = math.ceil(panic / target)
        desired = min(max(math.ceil(stable / target), least), most)
        in_panic = min(max(panic_count, least), most)
        is_over = panic_count / count >= rules.panic_threshold
        if is_over:
            self._panic_since_s = now_s
        elif self._panic_since_s is not None and now_s > self._panic_since_s + rules.stable_window_s:
            self._panic_since_s, self._most_in_panic = None, 0
        if self._panic_since_s is not None:
            self._most_in_panic = max(self._most_in_panic, desired, in_panic)
            desired = self._most_in_panic
        return self._delay.record(now_s, desired) if self._delay is not None else desired

"""Ray Serve's autoscaler: ongoing requests by target, and decisions that must hold for a delay before they count.

Source: ray-project/ray python/ray/serve/autoscaling_policy.py and config.py (AutoscalingConfig), as of 2.60.
"""

import math
from dataclasses import dataclass

from stoker.sim.policy import Mean, Observation


@dataclass(frozen=True, slots=True)
class Settings:
    """Names and defaults of AutoscalingConfig; the loop's interval is CONTROL_LOOP_INTERVAL_S."""

    target_ongoing_requests: float = 2.0
    look_back_period_s: float = 30.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    metrics_interval_s: float = 10.0
    control_loop_s: float = 0.1


class RayServe:
    """Ray Serve's policy with its memory."""

    name = "ray"

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.every_s = self._settings.control_loop_s
        self._ongoing = Mean(self._settings.look_back_period_s)
        self._mean = 0.0
        self._reported_s = -math.inf
        self._counter = 0  # ticks in a row that wanted more (positive) or fewer (negative)

    def tick(self, seen: Observation) -> int:
        """See Policy. Handles report what is ongoing once every metrics interval."""
        if seen.now_s >= self._reported_s + self._settings.metrics_interval_s - 1e-9:
            self._reported_s = seen.now_s
            self._mean = self._ongoing.read(seen.now_s, seen.presence_s)
        # From zero replicas anything that is here counts at once, whatever was reported.
        ongoing = self._mean if seen.ready else float(seen.running + seen.waiting)
        return self.scale(ongoing, running=seen.ready, target=seen.wanted)

    def scale(self, ongoing: float, *, running: int, target: int) -> int:
        """Return the replicas for `ongoing` requests in all, when `running` run and `target` were asked for last."""
        rules = self._settings
        if running == 0:
            return max(math.ceil(rules.upscaling_factor), target) if ongoing > 0 else target
        desired = self._factored(ongoing / rules.target_ongoing_requests, running)
        if desired > target:
            self._counter = max(self._counter, 0) + 1
            if self._counter > int(rules.upscale_delay_s / rules.control_loop_s):
                self._counter = 0
                return desired
        elif desired < target:
            self._counter = min(self._counter, 0) - 1
            delay_s = rules.downscale_delay_s
            if target == 1:
                delay_s = delay_s if rules.downscale_to_zero_delay_s is None else rules.downscale_to_zero_delay_s
            else:
                desired = max(1, desired)
            if self._counter < -int(delay_s / rules.control_loop_s):
                self._counter = 0
                return desired
        else:
            self._counter = 0
        return target

    def _factored(self, desired: float, running: int) -> int:
        rules = self._settings
        factor = rules.upscaling_factor if desired > running else rules.downscaling_factor
        scaled = math.ceil(running + factor * (desired - running))
        if math.ceil(desired) < running and scaled == running:
            scaled -= 1  # a factor below 1 would be stuck here for good
        return scaled

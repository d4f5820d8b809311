"""Kubernetes' horizontal pod autoscaler (HPA v2) on requests in flight for each pod, the best metric it can be given.

Source: kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale (algorithm, tolerance, behavior
with its default policies), and pkg/controller/podautoscaler for a metric of type External with an average value: pods
that are not ready count. KEDA leaves scaling between 1 and n to the HPA, so this row is KEDA's too.
"""

import math
from collections import deque
from dataclasses import dataclass

from stoker.sim.policy import Highest, Observation


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy of `behavior`: at most so many pods, or so much of them, in a period."""

    kind: str  # "Pods" or "Percent"
    value: float
    period_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Names and defaults of HorizontalPodAutoscaler and of the controller manager."""

    target_utilization: float = 0.7  # of a replica's places in use
    tolerance: float = 0.1
    sync_period_s: float = 15.0
    up: tuple[Rule, ...] = (Rule("Percent", 100), Rule("Pods", 4))
    down: tuple[Rule, ...] = (Rule("Percent", 100),)
    down_stabilization_s: float = 300.0


class Hpa:
    """The HPA with its memory."""

    name = "hpa"

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.every_s = self._settings.sync_period_s
        self._recommended = Highest(self._settings.down_stabilization_s)
        self._changes: deque[tuple[float, int]] = deque()  # what was added or taken, and when

    def tick(self, seen: Observation) -> int:
        """See Policy."""
        target = seen.places * self._settings.target_utilization
        return self.scale(seen.running + seen.waiting, target, pods=seen.wanted, now_s=seen.now_s)

    def scale(self, total: float, target: float, *, pods: int, now_s: float) -> int:
        """Return the pods for a metric of `total` over all of them, of which each should have `target`."""
        wanted = self.recommended(total, target, pods)
        highest = self._recommended.record(now_s, wanted)
        if wanted > pods:
            limit = max(pods + self._allowed(rule, pods, now_s, 1) for rule in self._settings.up)
            found = min(wanted, limit)
        else:
            limit = min(pods - self._allowed(rule, pods, now_s, -1) for rule in self._settings.down)
            found = max(min(highest, pods), limit)
        if found != pods:
            self._changes.append((now_s, found - pods))
        return found

    def recommended(self, total: float, target: float, pods: int) -> int:
        """Return what the ratio alone asks for: the same number while it is within the tolerance."""
        ratio = total / (target * pods) if pods else math.inf
        if abs(1.0 - ratio) <= self._settings.tolerance:
            return pods
        return math.ceil(total / target)

    def _allowed(self, rule: Rule, pods: int, now_s: float, sign: int) -> int:
        """Return how many pods `rule` lets come (or go, for `sign` -1) now, after what did within its period."""
        while self._changes and self._changes[0][0] <= now_s - max(each.period_s for each in self._rules()):
            self._changes.popleft()
        done = sum(change for at_s, change in self._changes if at_s > now_s - rule.period_s and change * sign > 0)
        began = pods - done  # at the beginning of the period
        if rule.kind == "Pods":
            return max(int(rule.value) - abs(done), 0)
        # Kubernetes rounds up when it grows (calculateScaleUpLimit) and the rest down when it shrinks.
        whole = began * rule.value / 100
        return max((math.ceil(whole) if sign > 0 else began - int(began - whole)) - abs(done), 0)

    def _rules(self) -> tuple[Rule, ...]:
        return (*self._settings.up, *self._settings.down)

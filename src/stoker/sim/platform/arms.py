"""What one gateway counts of a rollout: who is given to which arm, and what was bad of it."""

from typing import Final

from stoker.core import arms
from stoker.sim.platform.request import Request
from stoker.telemetry.histogram import bucket_index
from stoker.types.rollouts import ArmCounts, Arms, RolloutCounts

NUMBER: Final = 1  # of the rollout: one runs at a time


class Watch:
    """A rollout as one gateway is told of it."""

    def __init__(self, baseline: str, canary: str, slow_s: float) -> None:
        self.baseline, self.canary = baseline, canary
        self.share = 0.0
        self._slow_s = slow_s
        self._counts = RolloutCounts(NUMBER)

    def draw(self, request: Request) -> str:
        """Return the arm that `request` belongs to, the same in every gateway."""
        value = request.number.to_bytes(8, "little")
        return self.canary if arms.is_canary(NUMBER, value, self.share) else self.baseline

    def count(self, request: Request, took_s: float, *, is_error: bool) -> None:
        """Count the first try of a request."""
        found = self._counts.arms.canary if request.arm == self.canary else self._counts.arms.baseline
        found.total += 1
        if is_error:
            bad = arms.failed(took_s, self._slow_s, is_late=False)
        else:
            bad = arms.answered(took_s, self._slow_s, is_invalid=False)
            index = bucket_index(took_s)
            found.latencies[index] = found.latencies.get(index, 0) + 1
        for event in bad:
            found.bad[event] = found.bad.get(event, 0) + 1

    def read(self) -> RolloutCounts:
        """Return what was counted until now; it does not grow with what comes."""
        canary, baseline = (
            ArmCounts(each.total, dict(each.bad), dict(each.latencies))
            for each in (self._counts.arms.canary, self._counts.arms.baseline)
        )
        return RolloutCounts(NUMBER, Arms(canary, baseline))

"""What is counted of the tries at one replica; of those that came to 200 many at a time, as in tally.py."""

from stoker.gateway.tally import TALLY_MAX
from stoker.telemetry.metrics import Counter, Histogram, Registry


class ReplicaMeters:
    """What is counted of the tries at one replica."""

    __slots__ = ("_answered_s", "_codes", "_duration", "_labels", "_registry")

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._codes: dict[int, Counter] = {}
        self._duration = registry.histogram("stoker_replica_request_duration_seconds", **labels)
        self._answered_s: list[float] = []  # what tries took that came to 200 and are not counted yet (tally.py)

    def let_go(self) -> None:
        """Count for nobody from now on: it left the table, and what ends there later would make series that stay."""
        self._registry, self._codes = Registry(), {}
        self._duration = Histogram()

    def stalled(self, seconds: float) -> None:
        """Count time in which it held requests and showed no progress."""
        self._registry.counter("stoker_replica_stalled_seconds_total", **self._labels).add(seconds)

    def ended(self, status: int, seconds: float) -> None:
        """Count a try that came to `status` after `seconds`."""
        if status == 200:
            noted = self._answered_s
            noted.append(seconds)
            if len(noted) >= TALLY_MAX:
                self.count()
        else:
            self._code(status).value += 1.0
            self._duration.observe(seconds)

    def count(self) -> None:
        """Count what was noted."""
        noted, self._answered_s = self._answered_s, []
        if noted:
            self._code(200).value += len(noted)
            self._duration.observe_all(noted)

    def _code(self, status: int) -> Counter:
        code = self._codes.get(status)
        if code is None:
            code = self._codes[status] = self._registry.counter(
                "stoker_replica_requests_total", code=str(status), **self._labels
            )
        return code

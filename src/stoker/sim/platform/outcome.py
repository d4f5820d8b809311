"""What became of every request of an endpoint, in arrays while it runs and in numbers at the end."""

from array import array
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stoker.sim.platform.request import ENDS, End, Request
from stoker.sim.run import Sample

_NUMBERS: Final = {how: number for number, how in enumerate(ENDS)}
CLOSED: Final = _NUMBERS["closed"]


class Ledger:
    """Counts of one endpoint that only grow, and a line for each request that ended."""

    def __init__(self) -> None:
        self.arrived = self.finished = self.served = self.tokens = 0
        self.service_s = 0.0  # that ended requests held their places
        self.presence_s = 0.0  # arrivals negative, ends positive
        self.ends: dict[End, int] = dict.fromkeys(ENDS, 0)
        self.retries = 0
        self.read_tokens = self.cached_tokens = 0
        self.timeline: list[Sample] = []
        self._arrived_s = array("d")
        self._wait_s = array("d")
        self._queued_s = array("d")
        self._first_s = array("d")
        self._latency_s = array("d")
        self._ends = array("b")

    def arrive(self, now_s: float) -> None:
        """Count one more."""
        self.arrived += 1
        self.presence_s -= now_s

    def end(self, request: Request, how: End, now_s: float) -> None:
        """Count the end of a request, once."""
        assert request.end == "unfinished", f"request {request.number} ended twice: {request.end}, {how}"
        request.end, request.ended_s = how, now_s
        self.finished += 1
        self.presence_s += now_s
        self.ends[how] += 1
        self.retries += request.tries
        self.read_tokens += request.input_tokens
        self.cached_tokens += request.cached_tokens
        if request.begun_s >= 0.0:
            self.service_s += now_s - request.sent_s
            self.served += 1
            self.tokens += request.input_tokens + request.output_tokens
        began_s = request.begun_s if request.begun_s >= 0.0 else now_s
        self._arrived_s.append(request.arrived_s)
        self._wait_s.append(began_s - request.arrived_s)
        self._queued_s.append(max(request.sent_s - request.arrived_s, 0.0))
        self._first_s.append((request.first_s if request.first_s >= 0.0 else now_s) - request.arrived_s)
        self._latency_s.append(now_s - request.arrived_s)
        self._ends.append(_NUMBERS[how])

    def columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
        """Return waiting, time to first token, latency and end (index in ENDS) of each request that ended."""
        floats = (np.frombuffer(each, dtype=np.float64) for each in (self._wait_s, self._first_s, self._latency_s))
        wait_s, first_s, latency_s = floats
        return wait_s, first_s, latency_s, np.frombuffer(self._ends, dtype=np.int8)

    def arrived_s(self) -> NDArray[np.float64]:
        """Return when each request of `columns` arrived."""
        return np.frombuffer(self._arrived_s, dtype=np.float64)

    def queued_s(self) -> NDArray[np.float64]:
        """Return how long each request of `columns` waited in a gateway before it was sent to a replica."""
        return np.frombuffer(self._queued_s, dtype=np.float64)


class Quantiles(msgspec.Struct, frozen=True):
    """Of requests that were answered."""

    p50_s: float
    p95_s: float
    p99_s: float


class Moved(msgspec.Struct, frozen=True):
    """One moment of a rollout."""

    at_s: float
    event: str
    phase: str
    weight: int
    because: str


class Outcome(msgspec.Struct, frozen=True):
    """What became of one endpoint.

    late_ratio: of all requests but those that came while it was closed, who waited longer than said or had no answer.
    """

    endpoint: str
    policy: str
    requests: int
    ends: dict[End, int]
    retries: int
    wait: Quantiles
    first: Quantiles
    latency: Quantiles
    late_ratio: float
    cached_ratio: float  # of prompt tokens, those that an engine knew already
    replica_hours: float
    changes_per_hour: float
    replicas_most: int
    blocked_s: float  # during which a replica had no room
    blocked: str  # the arithmetic, the last time
    rollout: tuple[Moved, ...] = ()


def quantiles(values: NDArray[np.float64]) -> Quantiles:
    """Return the quantiles of `values`; zeros for none."""
    if not len(values):
        return Quantiles(0.0, 0.0, 0.0)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    return Quantiles(float(p50), float(p95), float(p99))


def late_ratio(ledger: Ledger, late_s: float) -> float:
    """Return the share of requests that waited longer than `late_s`, or were not answered in time.

    Who came while the endpoint was closed is counted by itself: neither late nor in time.
    """
    wait_s, _, _, ends = ledger.columns()
    missed = ledger.arrived - ledger.finished
    is_late = ((wait_s > late_s) | (ends != 0)) & (ends != CLOSED)
    return (float(np.sum(is_late)) + missed) / max(ledger.arrived - ledger.ends["closed"], 1)

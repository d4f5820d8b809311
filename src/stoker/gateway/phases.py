"""Where the time of an answered request went: stamps of the exchange and the replica's own account, as one partition.

The phases are in telemetry/catalogue/gateway.py. Their sum is the request's duration: `network` is what nobody else
accounts for, the frames both ways and the event loops at both ends.

Eight histograms are 3 µs, of the 80 that a small request costs in all. So of a revision that answers more than
DETAILS_PER_S, every Nth request is looked at and counts for N: sums and shares stay what they are.
"""

from typing import Final

from stoker.gateway.exchange import Exchange
from stoker.telemetry.histogram import observe_each
from stoker.telemetry.metrics import Histogram, Registry
from stoker.types.replica import Timings

DETAILS_PER_S: Final = 200
RECEIVE_MIN_S: Final = 0.001  # under it the body came with the head


class Phases:
    """The phases of one revision, a histogram each from its first use on.

    To be asked `is_due` for each answered request; those that are, are observed.
    """

    __slots__ = ("_asked", "_every", "_generates", "_labels", "_left", "_others", "_predicts", "_registry")

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._asked = 0  # in this second
        self._every = self._left = 1
        self._others: dict[str, Histogram] = {}
        self._predicts: tuple[Histogram, ...] = ()  # what every answer of the one or the other kind has
        self._generates: tuple[Histogram, ...] = ()

    def is_due(self) -> bool:
        """Return whether this request is one that is looked at."""
        self._asked += 1
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._every
        return True

    def turn(self) -> None:
        """Choose how many of the next second's requests are looked at. Odd, so that it keeps no step with batches."""
        self._every = self._asked // DETAILS_PER_S | 1
        self._asked = 0

    def observe(self, exchange: Exchange, timings: Timings, now_s: float) -> None:
        """Count an exchange that ended at `now_s`."""
        weight = self._every
        began_s, routed_s = exchange.began_s, exchange.routed_s
        if exchange.arrived_s - began_s > RECEIVE_MIN_S:
            self._other("receive", exchange.arrived_s - began_s)
            began_s = exchange.arrived_s
        if exchange.tries:
            self._other("retry", routed_s - exchange.admitted_s)
        waited_s = exchange.waited_s
        if waited_s:
            self._other("queue", waited_s)
        auth_s, admit_s = exchange.known_s - began_s, exchange.admitted_s - exchange.known_s
        route_s, queue_s, wait_s = exchange.sent_s - routed_s - waited_s, timings.queue_s, timings.batch_wait_s
        outside_s = now_s - exchange.sent_s - queue_s - wait_s
        prefill_s, decode_s, compute_s = timings.prefill_s, timings.decode_s, timings.compute_s
        if prefill_s or decode_s:
            self._generates = self._generates or self._all("prefill", "decode")
            network_s = max(outside_s - prefill_s - decode_s, 0.0)
            shared = (auth_s, admit_s, route_s, queue_s, wait_s, network_s)
            observe_each(self._generates, (*shared, prefill_s, decode_s), weight)
        else:
            self._predicts = self._predicts or self._all("compute")
            network_s = max(outside_s - compute_s, 0.0)
            shared = (auth_s, admit_s, route_s, queue_s, wait_s, network_s)
            observe_each(self._predicts, (*shared, compute_s), weight)

    def _other(self, phase: str, seconds: float) -> None:
        observe_each((self._of(phase),), (seconds,), self._every)

    def _all(self, *own: str) -> tuple[Histogram, ...]:
        return tuple(map(self._of, ("auth", "admit", "route", "replica_queue", "batch_wait", "network", *own)))

    def _of(self, phase: str) -> Histogram:
        found = self._others.get(phase)
        if found is None:
            found = self._others[phase] = self._registry.histogram(
                "stoker_request_phase_seconds", phase=phase, **self._labels
            )
        return found

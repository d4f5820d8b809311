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
EVERY_MAX: Final = 255  # requests of which one is looked at, however many come
RECEIVE_MIN_S: Final = 0.001  # under it the body came with the head


class Phases:
    """The phases of one revision, a histogram each from its first use on.

    left: how many requests until one is looked at. Who counts a request counts it down, and has `observe` look where
    none is left.
    """

    __slots__ = (
        "_asked", "_every", "_generates", "_labels", "_others", "_predicts", "_registry", "_step", "left",
    )  # fmt: skip

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._asked = 0  # in this second, until the last that was looked at
        self._every = 1
        self._step = self.left = 1  # from the last that was looked at to the next, and how many of them are to come
        self._others: dict[str, Histogram] = {}
        self._predicts: tuple[Histogram, ...] = ()  # what every answer of the one or the other kind has
        self._generates: tuple[Histogram, ...] = ()

    def let_go(self, nobody: Registry) -> None:
        """Count new phases for `nobody`."""
        self._registry = nobody

    def turn(self) -> None:
        """Choose how many of the next second's requests are looked at."""
        waiting = self._step - self.left
        self._every = _every(self._asked + waiting)
        self._asked = -waiting  # they were of the second that is over

    def observe(self, exchange: Exchange, timings: Timings, now_s: float) -> None:
        """Count an exchange that ended at `now_s`, for itself and for those before it that were not looked at."""
        weight = self._step
        self._count(exchange, timings, now_s, weight)
        self._asked += weight
        # At once, not only with the next second: the first one of a burst would be looked at whole.
        self._every = max(self._every, _every(self._asked))
        self.left = self._step = self._every

    def _count(self, exchange: Exchange, timings: Timings, now_s: float, weight: int) -> None:
        began_s, routed_s = exchange.began_s, exchange.routed_s
        if exchange.arrived_s - began_s > RECEIVE_MIN_S:
            self._other("receive", exchange.arrived_s - began_s, weight)
            began_s = exchange.arrived_s
        if exchange.tries:
            self._other("retry", routed_s - exchange.admitted_s, weight)
        waited_s = exchange.waited_s
        if waited_s:
            self._other("queue", waited_s, weight)
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

    def _other(self, phase: str, seconds: float, weight: int) -> None:
        observe_each((self._of(phase),), (seconds,), weight)

    def _all(self, *own: str) -> tuple[Histogram, ...]:
        return tuple(map(self._of, ("auth", "admit", "route", "replica_queue", "batch_wait", "network", *own)))

    def _of(self, phase: str) -> Histogram:
        found = self._others.get(phase)
        if found is None:
            found = self._others[phase] = self._registry.histogram(
                "stoker_request_phase_seconds", phase=phase, **self._labels
            )
        return found


def _every(asked: int) -> int:
    """Return of how many requests one is looked at, if so many come in a second. Odd: it keeps no step with batches."""
    return min(asked // DETAILS_PER_S, EVERY_MAX) | 1

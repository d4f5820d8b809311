"""Requests that ended well and are not counted yet: their path only notes them, and many are counted at a time.

A request touches eight instruments. Between two requests the processor has forgotten where they are, so that counting
each at its end took 6.3 µs of 61; a hundred together take a fraction. Numbers are exact whenever somebody reads them
(Meters counts first), and a process that is killed has at most TALLY_MAX requests more to lose than what was read last.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final

from stoker.telemetry.histogram import observe_each

if TYPE_CHECKING:
    from stoker.gateway.meters import ReplicaMeters, RevisionMeters
    from stoker.gateway.tenants import Tenants

TALLY_MAX: Final = 128  # requests, and tries, of an endpoint that are not counted; it takes 0.1 ms to count them


class Tally:
    """What ended at one endpoint."""

    __slots__ = ("_ids", "_kinds", "_replicas", "_seconds", "_tenants", "_tries_s")

    def __init__(self, tenants: "Tenants") -> None:
        self._tenants = tenants
        self._kinds: list[tuple[RevisionMeters, int, str, int, int]] = []  # of requests; with as many of the next two
        self._seconds: list[float] = []
        self._ids: list[str] = []
        self._replicas: list[ReplicaMeters] = []  # of tries; with as many of the next
        self._tries_s: list[float] = []

    def request(
        self, meters: "RevisionMeters", status: int, tenant: str, rows: int, batch_rows: int, seconds: float, id_: str
    ) -> None:
        """Note a request without tokens that was answered after `seconds`; `tenant` is "" for nobody's."""
        self._kinds.append((meters, status, tenant, rows, batch_rows))
        self._seconds.append(seconds)
        self._ids.append(id_)
        if len(self._ids) >= TALLY_MAX:
            self.count()

    def answered(self, replica: "ReplicaMeters", seconds: float) -> None:
        """Note a try that a replica answered after `seconds`."""
        self._replicas.append(replica)
        self._tries_s.append(seconds)
        if len(self._tries_s) >= TALLY_MAX:
            self.count()

    def count(self) -> None:
        """Count what was noted."""
        if self._ids:
            self._count_requests()
        if self._replicas:
            replicas, seconds = self._replicas, self._tries_s
            self._replicas, self._tries_s = [], []
            several = set(replicas)
            for replica in several:
                own = seconds
                if len(several) > 1:
                    own = [each for each, which in zip(seconds, replicas, strict=True) if which is replica]
                replica.answered(own)

    def _count_requests(self) -> None:
        kinds, seconds, ids = self._kinds, self._seconds, self._ids
        self._kinds, self._seconds, self._ids = [], [], []
        revisions = set()
        for (meters, status, tenant, rows, batch_rows), number in Counter(kinds).items():
            revisions.add(meters)
            meters.code(status).value += number
            meters.rows.value += rows * number
            if batch_rows:
                observe_each((meters.batch_rows,), (batch_rows,), number)
            if tenant:
                self._tenants.of(tenant, number).answered(status, number)
        for meters in revisions:
            if len(revisions) == 1:
                meters.duration.show_all(seconds, ids)
                return
            own = [at for at, kind in enumerate(kinds) if kind[0] is meters]
            meters.duration.show_all([seconds[at] for at in own], [ids[at] for at in own])

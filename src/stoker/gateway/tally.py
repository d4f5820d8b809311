"""Requests that ended well and are not counted yet: their path only notes them, and many are counted at a time.

A request touches eight instruments, and to count each at its end takes 2.4 µs; to note it takes 0.8, and to count it
among many 0.8. One with tokens touches ten more. Numbers are exact whenever somebody reads them (Meters counts first),
and a process that is killed has at most TALLY_MAX requests more to lose than what was read last.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from stoker.telemetry.histogram import observe_each
from stoker.types.replica import Usage

if TYPE_CHECKING:
    from stoker.gateway.meters import ReplicaMeters, RevisionMeters
    from stoker.gateway.tenants import Tenants

# What many requests have in common: whose numbers they are, the status, the tenant ("" for nobody), and
# the rows of the request and of the batch it ran in.
Kind: TypeAlias = "tuple[RevisionMeters, int, str, int, int]"

TALLY_MAX: Final = 128  # requests, and tries, of an endpoint that are not counted; it takes 0.1 ms to count them


class Tally:
    """What ended at one endpoint."""

    __slots__ = ("_kinds", "_replicas", "_seconds", "_tenants", "_tries_s", "_usages")

    def __init__(self, tenants: "Tenants") -> None:
        self._tenants = tenants
        self._kinds: list[Kind] = []  # of requests; with as many of the next
        self._seconds: list[float] = []
        self._usages: list[tuple[Kind, Usage]] = []  # of those requests that have tokens
        self._replicas: list[ReplicaMeters] = []  # of tries; with as many of the next
        self._tries_s: list[float] = []

    def request(self, kind: Kind, seconds: float, tokens: Usage | None = None) -> None:
        """Note a request that was answered after `seconds`, and its `tokens` if it has some."""
        self._kinds.append(kind)
        if tokens is not None:
            self._usages.append((kind, tokens))
        noted = self._seconds
        noted.append(seconds)
        if len(noted) >= TALLY_MAX:
            self.count()

    def answered(self, replica: "ReplicaMeters", seconds: float) -> None:
        """Note a try that a replica answered after `seconds`."""
        self._replicas.append(replica)
        self._tries_s.append(seconds)
        if len(self._tries_s) >= TALLY_MAX:
            self.count()

    def count(self) -> None:
        """Count what was noted."""
        if self._kinds:
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
        kinds, seconds = self._kinds, self._seconds
        usages: dict[Kind, list[Usage]] = {}
        for kind, usage in self._usages:
            usages.setdefault(kind, []).append(usage)
        self._kinds, self._seconds, self._usages = [], [], []
        revisions = set()
        for kind, number in Counter(kinds).items():
            meters, status, tenant, rows, batch_rows = kind
            revisions.add(meters)
            meters.code(status).value += number
            meters.rows.value += rows * number
            if batch_rows:
                observe_each((meters.batch_rows,), (batch_rows,), number)
            spent = usages.get(kind)
            if spent:
                meters.tokens(spent)
            if tenant:
                self._tenants.of(tenant, number).ended(status, number, spent or ())
        for meters in revisions:
            if len(revisions) == 1:
                meters.duration.observe_all(seconds)
                return
            meters.duration.observe_all([each for each, kind in zip(seconds, kinds, strict=True) if kind[0] is meters])

"""Answers that ended well and are not counted yet: their path only notes them, and many are counted at a time.

An answer touches ten instruments; one with tokens ten more. To count each at its end takes 2.4 µs; to note it 0.2, and
to count it among many 0.2. Numbers are exact whenever somebody reads them (Meters.count goes first), and of a process
that is killed nothing more is lost: what it had counted since the last reading is gone with it, noted or not.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from stoker.telemetry.histogram import observe_each
from stoker.types.replica import Usage

if TYPE_CHECKING:
    from stoker.gateway.meters import Meters, RevisionMeters

# What many answers have in common: the tenant ("" for nobody), the rows of the request, those of the batch it ran in.
Kind: TypeAlias = tuple[str, int, int]

# Answers of a revision, and of a replica, that are not counted; to count them takes 20 µs. Of a revision that is looked
# at with each request whose phases are (phases.py), so that there may be EVERY_MAX more.
TALLY_MAX: Final = 128


class Tally:
    """What one revision answered to one method with 200, each to a request that objectives judge (core/attempts.py).

    Its path appends to these lists itself, because a call costs as much as all of it:

    kinds, seconds: of each answer what it has in common with others, and what it took.
    usages: of those that have tokens, each with its tenant.
    """

    __slots__ = ("_endpoint", "_meters", "kinds", "seconds", "usages")

    def __init__(self, meters: "RevisionMeters", endpoint: "Meters") -> None:
        self._meters = meters
        self._endpoint = endpoint
        self.kinds: list[Kind] = []
        self.seconds: list[float] = []
        self.usages: list[tuple[str, Usage]] = []

    def count(self) -> None:
        """Count what was noted."""
        kinds, seconds, usages, meters = self.kinds, self.seconds, self.usages, self._meters
        if not seconds:
            return
        self.kinds, self.seconds, self.usages = [], [], []
        meters.code(200).value += len(seconds)
        meters.duration.observe_all(seconds)
        if usages:
            meters.tokens([usage for _, usage in usages])
        tenants: Counter[str] = Counter()
        for (tenant, rows, batch_rows), number in Counter(kinds).items():
            tenants[tenant] += number
            meters.rows.value += rows * number
            if batch_rows:
                observe_each((meters.batch_rows,), (batch_rows,), number)
        self._endpoint.attempt(meters.revision, "good", len(seconds))
        spent: dict[str, list[Usage]] = {}
        for tenant, usage in usages:
            spent.setdefault(tenant, []).append(usage)
        for tenant, number in tenants.items():
            if not tenant:
                continue
            self._endpoint.tenants.of(tenant, number).ended(200, number, spent.get(tenant, ()))
            self._endpoint.promised.attempt(tenant, "good", number)
            times = self._endpoint.promised.times(tenant)
            if times is not None:
                for took_s, kind in zip(seconds, kinds, strict=True):
                    if kind[0] == tenant:
                        times.took(took_s)

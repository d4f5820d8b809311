"""How one replica does, as this gateway sees it: what it answers to pings and requests, and whether it is out.

The rules are in core/breaker.py (alive?) and core/outlier.py (so much worse than its peers?).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from stoker.core import breaker, outlier

if TYPE_CHECKING:
    from stoker.gateway.fleet.replica import Replica

# When a look came this much late, this process was stopped: its clocks begin again. Less than that needs no care,
# because no peer has answered just now either.
STOPPED_S: Final = 2.0
ANSWERED_S: Final = 1.0  # a ping is sent every half second or oftener
EJECTED_MIN_S: Final = 5.0  # an ejected replica without work shows no progress; it is tried again after this


class Evidence(msgspec.Struct, frozen=True):
    """What all replicas of an endpoint show together, at one moment."""

    alive: breaker.Peers = breaker.NO_PEERS
    answers: outlier.All = outlier.All()
    slow_over_s: float = float("inf")


def evidence(replicas: Iterable["Replica"], now_s: float) -> Evidence:
    """Look at all of `replicas` that should be well."""
    up = [each.health for each in replicas if each.is_connected and each.state == "ready" and not each.is_ejected]
    records = [health.record for health in up]
    answers = outlier.together(records)
    alive = breaker.Peers(
        count=len(up),
        answering=sum(now_s - health.pings.heard_s < ANSWERED_S for health in up),
        finished=any(now_s - record.last_s < ANSWERED_S for record in records),
        slowest_s=max((record.slowest_s for record in records), default=0.0),
        gap_max_s=max((health.seen.gap_max_s for health in up), default=0.0),
    )
    return Evidence(alive, answers, outlier.slow_over_s(answers))


class Health:
    """One replica's. `is_ejected` is the replica's own; this says why, since when, and when it may come back."""

    __slots__ = (
        "_count", "_ejected_s", "_judged_s", "_mark", "_probe_s", "_probes", "_reason", "_until_s", "pings", "record",
        "seen",
    )  # fmt: skip

    def __init__(self, now_s: float) -> None:
        self.record = outlier.Record()
        self.pings = breaker.Pings(now_s)
        self.seen = breaker.Progress(0, now_s)
        self._judged_s = now_s
        self._reason = ""
        self._count = 0  # ejections not forgiven yet
        self._ejected_s = self._until_s = self._probe_s = 0.0
        self._mark = 0
        self._probes = 0  # good answers in a row while it is out

    def connected(self, mark: int, now_s: float, *, is_new: bool) -> None:
        """Begin to watch; `is_new`: it is another process than before."""
        self.pings = breaker.Pings(now_s, late_s=self.pings.late_s, late_at_s=now_s)
        self.seen = breaker.Progress(mark, now_s, self.seen.gap_max_s)
        self._judged_s = now_s
        if is_new:
            self.record = outlier.Record()

    def asked(self, now_s: float) -> None:
        """Take note of a ping."""
        self.pings = breaker.asked(self.pings, now_s)

    def heard(self, now_s: float) -> None:
        """Take note of an answer to one."""
        self.pings = breaker.heard(self.pings, now_s)

    def look(self, mark: int, has_work: bool, every_s: float, now_s: float) -> None:
        """Take note of its progress; called every `every_s`."""
        late_s = now_s - self._judged_s - every_s
        self._judged_s = now_s
        if late_s > STOPPED_S:
            self.pings = breaker.Pings(now_s, late_s=self.pings.late_s, late_at_s=self.pings.late_at_s)
            self.seen = breaker.Progress(mark, now_s, self.seen.gap_max_s)
        self.seen = breaker.observe(self.seen, mark, has_work, now_s)
        self.record.fade(now_s)
        if self._count and now_s - self._ejected_s > outlier.FORGIVE_S:
            self._count -= 1
            self._ejected_s = now_s

    def verdict(self, task: str, seen: Evidence, now_s: float) -> str:
        """Return what is wrong with it, "" for nothing."""
        self.record.slow_over_s = seen.slow_over_s
        alive = breaker.judge(self.seen, self.pings, task, now_s, seen.alive)
        return alive if alive != "healthy" else outlier.judge(self.record, seen.answers, now_s)

    def ejected(self, reason: str, mark: int, now_s: float) -> None:
        """Take note that it is out."""
        self._reason, self._mark, self._ejected_s = reason, mark, now_s
        self._count += 1
        self._until_s = now_s + outlier.ejection_s(self._count)
        self._probe_s = now_s + outlier.PROBE_S
        self._probes = 0

    def may_return(self, verdict: str, mark: int, *, is_idle: bool, now_s: float) -> bool:
        """Return whether it may take requests again."""
        if verdict in ("silent", "stuck"):
            return False
        if self._reason in ("silent", "stuck"):
            return mark != self._mark or (is_idle and now_s - self._ejected_s > EJECTED_MIN_S)
        return now_s >= self._until_s or self._probes >= outlier.PROBES

    def returned(self) -> None:
        """Take note that it is back, with a clean record: what put it out must happen again to put it out again."""
        self.record = outlier.Record()

    def wants_probe(self, now_s: float) -> bool:
        """Return whether one request should be tried on it although it is out; says so once."""
        if self._reason not in ("errors", "slow") or now_s < self._probe_s:
            return False
        self._probe_s = now_s + outlier.PROBE_S
        return True

    def probed(self, *, is_good: bool, sent_s: float, now_s: float) -> None:
        """Take how a request ended on it while it is out; those that were in it already say nothing new."""
        if sent_s < self._ejected_s:
            return
        self._probes = self._probes + 1 if is_good else 0
        self._probe_s = now_s if is_good else now_s + outlier.PROBE_S

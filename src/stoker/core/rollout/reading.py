"""Counts that only grow, of gateways that come and go, as what happened since they were looked at before."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from stoker.core.rollout.state import GATEWAYS_MAX, Read
from stoker.core.verdict.judge import Look
from stoker.core.verdict.odds import Tally
from stoker.core.verdict.spread import Buckets
from stoker.types.rollouts import BAD_EVENTS, POSTED_MAX, ArmCounts, Arms, RolloutCounts

FAILED: Final = ("error", "timeout")
_NONE: Final = RolloutCounts(0)
_EMPTY: Final = Arms(ArmCounts(), ArmCounts())
_Key = TypeVar("_Key", str, int)


class Since(msgspec.Struct, frozen=True):
    """What was counted since the last look.

    latencies: of the canary and of the baseline. canary: requests of the canary, with how many were bad in any way at
    the most. asked: all tries of either arm, the bad ones of which said nothing of it. copies: of a shadow, with how
    many disagreed. all_failed: requests of the canary since the rollout began if not one of them was answered, else 0.
    reverted: why a gateway gives the canary nothing any more.
    """

    read: Read
    looks: tuple[Look, ...] = ()
    latencies: tuple[Buckets, Buckets] = ({}, {})
    canary: Tally = Tally()
    asked: tuple[Tally, Tally] = (Tally(), Tally())
    copies: Tally = Tally()
    all_failed: int = 0
    reverted: str = ""

    @property
    def is_new(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.looks or self.copies.total)


def since(read: Read, gateways: Mapping[str, RolloutCounts], posted: Mapping[str, Arms], *, slow: bool) -> Since:
    """Return what came since `read`.

    Args:
        gateways: what each has counted since its start, by boot; a gateway that does not answer is left out, and what
            it counted comes with its next answer.
        posted: by metric, what a user's own judge has told since the rollout began.
        slow: whether slow answers are bad events.
    """
    whole = ArmsSum()
    cohorts: dict[str, ArmsSum] = {}
    copies = disagreements = 0
    for boot, counts in gateways.items():
        before = read.gateways.get(boot, _NONE)
        whole.add(counts.arms, before.arms)
        copies += counts.copies - before.copies
        disagreements += counts.disagreements - before.disagreements
        for name, arms in counts.cohorts.items():
            cohorts.setdefault(name, ArmsSum()).add(arms, before.cohorts.get(name, _EMPTY))
    metrics = [metric for metric in BAD_EVENTS if slow or metric != "slow"]
    looks = list(whole.looks(metrics))
    for name in sorted(cohorts):
        looks.extend(cohorts[name].looks(metrics, name))
    for metric in sorted(posted)[:POSTED_MAX]:
        told = ArmsSum()
        told.add(posted[metric], read.posted.get(metric, _EMPTY))
        looks.extend(told.looks((metric,)))
    kept = dict(list({**read.gateways, **gateways}.items())[-GATEWAYS_MAX:])
    return Since(
        read=Read(kept, dict(posted)),
        looks=tuple(looks),
        latencies=(whole.canary_s, whole.baseline_s),
        canary=Tally(sum(whole.canary_bad.values()), whole.canary),
        asked=whole.asked(),
        copies=Tally(disagreements, copies),
        all_failed=_all_failed(gateways.values()),
        reverted=next((each.reverted for each in gateways.values() if each.reverted), ""),
    )


class ArmsSum:
    """What two arms did between two looks, of several gateways together."""

    def __init__(self) -> None:
        self.canary = 0
        self.baseline = 0
        self.canary_unjudged = 0
        self.baseline_unjudged = 0
        self.canary_bad: dict[str, int] = {}
        self.baseline_bad: dict[str, int] = {}
        self.canary_s: dict[int, int] = {}
        self.baseline_s: dict[int, int] = {}

    def add(self, now: Arms, before: Arms) -> None:
        """Add what one gateway counted between `before` and `now`. What shrank is not believed."""
        self.canary += max(now.canary.total - before.canary.total, 0)
        self.baseline += max(now.baseline.total - before.baseline.total, 0)
        self.canary_unjudged += max(now.canary.unjudged - before.canary.unjudged, 0)
        self.baseline_unjudged += max(now.baseline.unjudged - before.baseline.unjudged, 0)
        _grow(self.canary_bad, now.canary.bad, before.canary.bad)
        _grow(self.baseline_bad, now.baseline.bad, before.baseline.bad)
        _grow(self.canary_s, now.canary.latencies, before.canary.latencies)
        _grow(self.baseline_s, now.baseline.latencies, before.baseline.latencies)

    def asked(self) -> tuple[Tally, Tally]:
        """Return all tries of the canary and of the baseline, with how many said nothing of it."""
        return (
            Tally(self.canary_unjudged, self.canary + self.canary_unjudged),
            Tally(self.baseline_unjudged, self.baseline + self.baseline_unjudged),
        )

    def looks(self, metrics: Iterable[str], cohort: str = "") -> Iterable[Look]:
        """Return a look for each metric, if there was any request."""
        if not self.canary and not self.baseline:
            return
        for metric in metrics:
            canary = Tally(min(self.canary_bad.get(metric, 0), self.canary), self.canary)
            baseline = Tally(min(self.baseline_bad.get(metric, 0), self.baseline), self.baseline)
            yield Look(metric, canary, baseline, cohort)


def _grow(into: dict[_Key, int], now: Mapping[_Key, int], before: Mapping[_Key, int]) -> None:
    for key, count in now.items():
        more = count - before.get(key, 0)
        if more > 0:
            into[key] = into.get(key, 0) + more


def _all_failed(gateways: Iterable[RolloutCounts]) -> int:
    """Return how many requests the canary had, if every one failed; else 0."""
    arms = [each.arms.canary for each in gateways]
    total = sum(each.total for each in arms)
    failed = sum(min(sum(each.bad.get(metric, 0) for metric in FAILED), each.total) for each in arms)
    return total if total and failed == total else 0

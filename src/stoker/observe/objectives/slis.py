"""Where the events of an objective are counted: the one place that ties promises to metrics.

A time is good up to the limit's bucket, which is 9 % wide (telemetry/histogram.py): with `under: 300ms`, 320 ms may be.
So is a shift; its event is a verdict (control/drift/watch.py), one each `spec.drift.every`. That of quality is a
prediction's first label (control/feedback.py). An amount of a business metric is one, told for the first
time. That of freshness is an answer, and bad once its version is too old.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.core import slo
from stoker.observe.port import Matcher, Selector, select
from stoker.types.slos import Objective
from stoker.types.units import parse_seconds

BUCKET: Final = 2 ** (1 / 8)  # from one bound of a histogram's bucket to the next


SLICES: Final = "stoker_slo_slices_total"
STALE_MAX: Final = 200  # revisions that are too old, the newest; answers of the ones before are not seen as old


class Source(msgspec.Struct, frozen=True):
    """What is counted of an objective: all events, and those that are bad, or (`parts_are_good`) good, together."""

    total: Selector
    parts: tuple[Selector, ...]
    parts_are_good: bool = False


class Mean(msgspec.Struct, frozen=True):
    """Values whose mean over a slice is to keep the one limit that is given."""

    values: Selector
    at_least: float | None
    at_most: float | None

    def is_kept(self, mean: float | None) -> bool:
        """Return whether a mean keeps the limit; one of nothing does."""
        if mean is None:
            return True
        return (self.at_least is None or mean >= self.at_least) and (self.at_most is None or mean <= self.at_most)


def mean(project: str, endpoint: str, objective: Objective) -> Mean | None:
    """Return what is judged by its mean; None of an objective that judges events."""
    if objective.slices is None or not objective.slices.mean:
        return None
    return Mean(events_of(project, endpoint, objective), objective.at_least, _at_most(objective))


def sliced(project: str, endpoint: str, objective: Objective) -> Source:
    """Return where the slices of an objective that budgets by them are counted (slicer.py)."""
    events = select(SLICES, project=project, endpoint=endpoint, slo=slo.label(objective))
    return Source(events, (_only(events, "outcome", "bad"),))


def source(project: str, endpoint: str, objective: Objective, made: Mapping[str, float], now_s: float) -> Source:
    """Return where the objective's events are counted. The manifest was checked: what says which are good is there.

    made: when the versions that may have answered were made (unix seconds), by revision.
    """
    events = events_of(project, endpoint, objective)
    if objective.sli == "availability":
        return Source(events, (_only(events, "outcome", "bad"),))
    if objective.at_least is not None:  # quality, business
        # Bad is what lies below the bucket of `at_least`.
        return Source(events, (msgspec.structs.replace(events, at_most=objective.at_least / BUCKET),))
    limit = _at_most(objective)
    assert limit is not None
    if objective.sli == "freshness":
        return _freshness(events, limit, made, now_s)
    return Source(events, (msgspec.structs.replace(events, at_most=limit),), parts_are_good=True)


def events_of(project: str, endpoint: str, objective: Objective) -> Selector:
    """Return what counts the events of an objective, and tells their values where they have some."""
    events = select(slo.counted(objective), project=project, endpoint=endpoint)
    for label, value in (("tenant", objective.tenant), ("segment", objective.segment), ("metric", objective.metric)):
        if value:
            events = _only(events, label, value)
    return events


def _at_most(objective: Objective) -> float | None:
    return objective.at_most if objective.under is None else parse_seconds(objective.under)


def _freshness(attempts: Selector, under_s: float, made: Mapping[str, float], now_s: float) -> Source:
    """Return all answers that a version gave, and those that each gave after it was too old."""
    answers = _only(attempts, "outcome", "good")
    stale = sorted((made_s + under_s, revision) for revision, made_s in made.items() if made_s + under_s < now_s)
    return Source(
        total=msgspec.structs.replace(answers, matchers=(*answers.matchers, Matcher("revision", "!=", ""))),
        parts=tuple(
            msgspec.structs.replace(_only(answers, "revision", revision), after_s=max(after_s, 0.0))
            for after_s, revision in stale[-STALE_MAX:]
        ),
    )


def _only(selector: Selector, label: str, value: str) -> Selector:
    return msgspec.structs.replace(selector, matchers=(*selector.matchers, Matcher(label, "=", value)))

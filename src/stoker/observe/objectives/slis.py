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


def sliced(project: str, endpoint: str, objective: Objective) -> Source:
    """Return where the slices of an objective that budgets by them are counted (slicer.py)."""
    events = select(SLICES, project=project, endpoint=endpoint, slo=objective.name)
    return Source(events, (_only(events, "outcome", "bad"),))


def source(project: str, endpoint: str, objective: Objective, made: Mapping[str, float], now_s: float) -> Source:
    """Return where the objective's events are counted. The manifest was checked: what says which are good is there.

    made: when the versions that may have answered were made (unix seconds), by revision.
    """
    events = select(slo.counted(objective), project=project, endpoint=endpoint)
    if objective.tenant:
        events = _only(events, "tenant", objective.tenant)
    if objective.segment:
        events = _only(events, "segment", objective.segment)
    if objective.sli == "availability":
        return Source(events, (_only(events, "outcome", "bad"),))
    if objective.metric:
        events = _only(events, "metric", objective.metric)
    if objective.at_least is not None:  # quality, business
        # Bad is what lies below the bucket of `at_least`.
        return Source(events, (msgspec.structs.replace(events, at_most=objective.at_least / BUCKET),))
    limit = objective.at_most if objective.under is None else parse_seconds(objective.under)
    assert limit is not None
    if objective.sli == "freshness":
        return _freshness(events, limit, made, now_s)
    return Source(events, (msgspec.structs.replace(events, at_most=limit),), parts_are_good=True)


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
